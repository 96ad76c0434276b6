//! Changes of stage: one point in the order, held back while they would lose something.

use crate::stage::{Stage, StoreId};

use super::Sequencer;
use super::fence::Footprint;

/// A change of stage that is asked for and not in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFlip {
    /// The stage asked for.
    pub wanted: Stage,
    /// Why it is held back.
    pub reason: String,
}

// === impl Sequencer ===

impl Sequencer {
    /// Changes the stage at this point of the order, or as soon as nothing stands in the way.
    /// True: it has changed.
    pub fn set_stage(&mut self, stage: Stage) -> bool {
        self.drop_pending();
        self.wanted = stage;
        if stage == self.stage {
            self.metrics.flip_held.set(0);
            return false;
        }
        self.try_flip()
    }

    /// The change of stage that is held back, if any.
    pub fn held_flip(&self) -> Option<HeldFlip> {
        let wanted = self.wanted;
        if wanted == self.stage {
            return None;
        }
        let reason =
            self.flip_obstacle(wanted).unwrap_or_else(|| "commands under a fence must finish".to_owned());
        Some(HeldFlip { wanted, reason })
    }

    /// Tries again what was held back. True: the stage has changed.
    pub fn try_flip(&mut self) -> bool {
        let mut changed = false;
        while self.wanted != self.stage && self.pending_stage.is_none() {
            let step = self.next_step();
            if !self.try_step(step) {
                break;
            }
            changed = true;
        }
        changed
    }

    /// Both flags changed at once are two steps: both stores are in use before the other one becomes the
    /// default, so that it can be repaired first if it is behind.
    fn next_step(&self) -> Stage {
        let (now, wanted) = (self.stage, self.wanted);
        let turns = !now.is_dual() && wanted.is_dual() && now.default_store() != wanted.default_store();
        match (turns, now.default_store()) {
            (false, _) => wanted,
            (true, StoreId::Primary) => Stage::DualPrimaryDefault,
            (true, StoreId::Secondary) => Stage::DualSecondaryDefault,
        }
    }

    fn try_step(&mut self, step: Stage) -> bool {
        if self.flip_obstacle(step).is_some() {
            self.metrics.flip_held.set(1);
            return false;
        }
        if self.holds.is_open() {
            self.apply_stage(step);
            return true;
        }
        self.pending_stage = Some(step);
        self.holds.reserve(&Footprint::Everything);
        self.metrics.flip_held.set(1);
        false
    }

    fn drop_pending(&mut self) {
        if self.pending_stage.take().is_some() {
            self.holds.unreserve(&Footprint::Everything);
        }
    }

    pub(super) fn apply_stage(&mut self, stage: Stage) {
        let before = self.stage();
        self.stage = stage;
        self.metrics.set_flags(stage.flags());
        self.metrics.flips.inc();
        self.metrics.flip_held.set(0);
        self.flipped(before);
    }

    pub(super) fn flipped(&mut self, before: Stage) {
        self.flips += 1;
        self.know_stage(before);
        self.primary_behind = false;
        for store in StoreId::ALL {
            self.recent[store.index()].reset(self.lanes[store.index()].appended());
        }
        self.unpark_if_single();
    }

    /// Why a change to `stage` would lose something now.
    fn flip_obstacle(&self, stage: Stage) -> Option<String> {
        let before = self.stage();
        if !before.is_dual() {
            // Entering dual loses nothing; a forced jump was forced.
            return None;
        }
        let next = stage.default_store();
        if !stage.is_dual() && self.known.has_suspects_behind(next) {
            return Some(format!("keys are suspect on the {next} store; they are being repaired"));
        }
        if next == before.default_store() {
            return None;
        }
        self.default_obstacle(next)
    }

    /// Why `next` cannot become the default store now.
    fn default_obstacle(&self, next: StoreId) -> Option<String> {
        let lane = self.lane(next);
        if !lane.is_up() {
            return Some(format!("the {next} store is down"));
        }
        if lane.queued_bytes() > self.settings.flip_max_lag {
            return Some(format!("the {next} store lags by {} bytes (flip_max_lag)", lane.queued_bytes()));
        }
        if let Some(store) = self.doubted_source {
            return Some(format!(
                "the {store} store may have lost writes: say which store is right (multistore repair --from)"
            ));
        }
        if self.behind_as_a_whole() == Some(next) {
            return Some(format!("the {next} store is behind as a whole; it is being repaired"));
        }
        let stuck = self.known.stuck_behind(next);
        (stuck > 0).then(|| {
            format!("{stuck} keys cannot be copied to the {next} store, which lacks their last writes")
        })
    }
}
