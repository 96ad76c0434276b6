//! Changes of stage: one point in the order, held back while they would lose something.

#[cfg(test)]
mod tests;

use crate::stage::{Stage, StoreId};

use super::Sequencer;
use super::fence::Footprint;
use super::lane::Lane;

/// A change of stage that is asked for and not in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFlip {
    /// The stage asked for.
    pub wanted: Stage,
    /// Why it is held back.
    pub reason: String,
}

/// A change of stage that has its place in the order, and waits for what came before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingFlip {
    stage: Stage,
    since: u64,
    /// The ends of the lanes when the last was placed that comes before it.
    tails: [u64; 2],
}

/// How long everybody is held up for a change of stage. Then they go on, and it is tried again later.
const BARRIER_MICROS: u64 = 50_000;
/// So long at most where a store is far away, so that nothing is answered sooner.
const LONGEST_BARRIER_MICROS: u64 = 250_000;
/// The pause before it is tried again.
const BETWEEN_BARRIERS_MICROS: u64 = 200_000;
/// Who has not moved its subscriptions so long after a change of the default store is not waited for: its client may read
/// nothing.
const LISTENERS_MICROS: u64 = 10_000_000;
/// More suspect keys than this are not waited for while everybody is held up.
const SUSPECTS_WAITED_FOR: usize = 1_000;

// === impl Sequencer ===

impl Sequencer {
    /// Changes the stage at this point of the order, or as soon as nothing stands in the way.
    /// True: it has changed.
    pub fn set_stage(&mut self, stage: Stage) -> bool {
        self.want_stage(stage, self.wanted.may_become(stage))
    }

    /// The same at a start, by all steps in between: what was done to the flags meanwhile nobody has judged.
    pub fn begin_towards(&mut self, stage: Stage) {
        self.want_stage(stage, true);
    }

    fn want_stage(&mut self, stage: Stage, stepwise: bool) -> bool {
        self.drop_pending();
        self.stepwise = stepwise;
        self.wanted = stage;
        self.flip_not_before = 0;
        let changed = stage != self.flagged && self.try_flip();
        if stage == self.flagged {
            self.metrics.flip_held.set(0);
        }
        // What had lined up behind a change that is not wanted any more.
        self.release_held();
        changed
    }

    /// Has the change of stage its place in the order, so that it only waits for what came before it?
    pub fn is_flipping(&self) -> bool {
        self.pending_flip.is_some()
    }

    /// The change of stage that is held back, if any.
    pub fn held_flip(&self) -> Option<HeldFlip> {
        let wanted = self.wanted;
        if wanted == self.flagged {
            return None;
        }
        let reason = self.flip_obstacle(wanted).unwrap_or_else(|| {
            "what is under way, and keys that are being copied, must be finished".to_owned()
        });
        Some(HeldFlip { wanted, reason })
    }

    /// Tries again what was held back. True: the stage has changed.
    pub fn try_flip(&mut self) -> bool {
        let mut changed = false;
        while self.wanted != self.flagged && self.pending_flip.is_none() {
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
        let (now, wanted) = (self.flagged, self.wanted);
        // Steps of which an earlier one was held back are no jump: none of them is left out.
        let steps = wanted.is_dual() || self.stepwise;
        let turns = !now.is_dual() && steps && now.default_store() != wanted.default_store();
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
        if self.now < self.flip_not_before {
            return false;
        }
        let pending = PendingFlip {
            stage: step,
            since: self.now,
            tails: StoreId::ALL.map(|store| self.lane(store).appended()),
        };
        if self.holds.is_open() && self.is_seen_through(&pending) {
            self.apply_stage(step);
            return true;
        }
        // From here on nothing new is placed: what is under way comes to its end within a few round trips.
        self.pending_flip = Some(pending);
        self.holds.reserve(&Footprint::Everything);
        self.metrics.flip_held.set(1);
        self.repair();
        false
    }

    fn drop_pending(&mut self) {
        if self.pending_flip.take().is_some() {
            self.holds.unreserve(&Footprint::Everything);
        }
    }

    /// Applies the change of stage that nothing stands in the way of any more, and lets go on what has waited for it.
    pub(super) fn finish_flip(&mut self) {
        let Some(pending) = &self.pending_flip else { return };
        let through = self.holds.is_clear() && self.is_seen_through(pending);
        // Something may have come in its way since it took its place: a store was lost, or came back as another server.
        if through && self.flip_obstacle(pending.stage).is_none() {
            let stage = pending.stage;
            self.drop_pending();
            self.apply_stage(stage);
            self.release_held();
        } else if self.now.saturating_sub(pending.since) > self.barrier_micros() {
            // It takes too long: the clients go on, and it is tried again.
            self.flip_not_before = self.now + BETWEEN_BARRIERS_MICROS;
            self.drop_pending();
            self.release_held();
        }
    }

    fn barrier_micros(&self) -> u64 {
        let slowest = self.lanes.iter().filter_map(Lane::round_trip).max().unwrap_or(0);
        slowest.saturating_mul(2).clamp(BARRIER_MICROS, LONGEST_BARRIER_MICROS)
    }

    /// A fence that the change of stage waits for has had its effect placed: that comes before the change, too.
    pub(super) fn put_flip_behind(&mut self) {
        let tails = StoreId::ALL.map(|store| self.lane(store).appended());
        if let Some(pending) = &mut self.pending_flip {
            pending.tails = tails;
        }
    }

    /// Has the store to come done everything that was acknowledged by the one to go? Else the new default store would
    /// be asked for more than it has, and after a crash nobody would know. And has the one to go said what became of the
    /// writes that it was the authority for? What it refuses the store to come must not have, or be read from.
    fn is_seen_through(&self, pending: &PendingFlip) -> bool {
        let next = pending.stage.default_store();
        if !self.stage().is_dual() || next == self.default_store() {
            return true;
        }
        let answered = self.lane(next).answered() >= pending.tails[next.index()];
        let (last, lane) = (&self.recent[next.other().index()], self.lane(next.other()));
        let judged = !last.is_any_pending(lane.answered());
        // Where both stay in use, a copy that turns out to be refused is still known of afterwards.
        let copied = pending.stage.is_dual() || !self.is_copy_on_its_way_to(next);
        answered
            && judged
            && copied
            && !self.is_deaf()
            && (!self.settings.hydrate || self.known.repairable_behind(next, self.now) == 0)
    }

    pub(super) fn apply_stage(&mut self, stage: Stage) {
        let before = self.stage();
        self.flagged = stage;
        self.take_effect();
        self.metrics.set_flags(stage.flags());
        self.metrics.flips.inc();
        self.metrics.flip_held.set(0);
        self.flipped(before);
    }

    pub(super) fn flipped(&mut self, before: Stage) {
        self.flips += 1;
        self.flipped_at = self.now;
        self.know_stage(before);
        self.unsettle_copies();
        if !before.is_dual() && self.stage().is_dual() {
            self.fence_asides();
        }
        self.primary_behind = false;
        for store in StoreId::ALL {
            self.recent[store.index()].reset(self.lanes[store.index()].appended());
        }
        self.unpark_if_single();
    }

    /// Why a change to `stage` would lose something now.
    fn flip_obstacle(&self, stage: Stage) -> Option<String> {
        if let Some(lane) = self.lanes.iter().find(|lane| lane.has_lost()) {
            return Some(format!(
                "what was on the lost connection to the {} store is being accounted for",
                lane.store
            ));
        }
        let before = self.stage();
        if !before.is_dual() {
            // Entering dual loses nothing, unless what the store in use has lost were lost on the other one as well; a
            // forced jump was forced.
            return stage.is_dual().then(|| self.source_obstacle()).flatten();
        }
        let next = stage.default_store();
        if !stage.is_dual() && self.known.has_suspects_behind(next) {
            return Some(format!("keys are suspect on the {next} store; they are being repaired"));
        }
        if next == before.default_store() {
            return (!stage.is_dual()).then(|| self.listeners_obstacle(next)).flatten();
        }
        self.default_obstacle(next)
    }

    /// What is published reaches both stores while dual. Afterwards who still listens to the store that is left would hear
    /// nothing; who is amid the move would hear things twice.
    fn listeners_obstacle(&self, next: StoreId) -> Option<String> {
        let left = self.listeners.on(next.other());
        let in_time = self.now.saturating_sub(self.flipped_at) < LISTENERS_MICROS;
        (left > 0 && in_time).then(|| format!("subscribers ({left}) are on their way to the {next} store"))
    }

    fn source_obstacle(&self) -> Option<String> {
        self.doubted_source.map(|store| {
            format!(
                "the {store} store may have lost writes: say which store is right (multistore repair --from)"
            )
        })
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
        if let Some(why) = self.source_obstacle() {
            return Some(why);
        }
        if self.owes_walk {
            return Some(
                "keys were written that no command named; both stores are walked for them".to_owned(),
            );
        }
        if self.behind_as_a_whole() == Some(next) {
            return Some(format!("the {next} store is behind as a whole; it is being repaired"));
        }
        let suspects = self.known.repairable_behind(next, self.now);
        if suspects > SUSPECTS_WAITED_FOR {
            return Some(format!("{suspects} keys are suspect on the {next} store; they are being repaired"));
        }
        let stuck = self.known.stuck_behind(next);
        (stuck > 0).then(|| {
            format!("{stuck} keys cannot be copied to the {next} store, which lacks their last writes")
        })
    }
}
