//! Time, flags, what is on record, and what becomes of the process.

use multistore::config::Reads;
use multistore::sequencer::hash_key;
use multistore::sequencer::knowledge::{Knowledge, Sync};
use multistore::stage::{Stage, StoreId};
use multistore::state::{Entry, SuspectEntry};

use super::{Wire, World, sequencer};

const LANE_TIMEOUT_MICROS: u64 = 30_000_000;
const PROBE_MICROS: u64 = 1_000_000;

// === impl World ===

impl World {
    /// As `Instance::record`.
    pub(super) fn record(&mut self) {
        let now = self.core.to_record();
        if self.recorded.replace(now) == Some(now) {
            return;
        }
        let behind = match now.base {
            Sync::Suspect(store) => Some(store),
            Sync::InSync | Sync::Unknown => None,
        };
        self.entry = Some(Entry {
            clean: false,
            in_sync: now.base == Sync::InSync,
            doubted: now.doubted.map(|store| store.name().to_owned()),
            servers: self.known_runs.map(|run| run.map_or_else(String::new, |run| run.to_string())),
            suspects: self.core.suspects_on_default().map(SuspectEntry::of).collect(),
            ..Entry::running(now.stage, behind)
        });
    }

    /// As `Instance::tick`.
    pub fn tick(&mut self) {
        self.core.set_now(self.now);
        self.core.tick();
        self.core.try_flip();
        let probe = self.now - self.probed_at >= PROBE_MICROS;
        for store in StoreId::ALL {
            if probe {
                self.core.lane_mut(store).probe(self.now);
            }
            if self.core.lane(store).is_silent_since(self.now.saturating_sub(LANE_TIMEOUT_MICROS)) {
                self.lose(store);
            }
        }
        if probe {
            self.probed_at = self.now;
        }
        self.settle();
        let millis = self.millis();
        self.stores.iter_mut().for_each(|store| store.tick(millis));
        let now = self.now;
        for peer in self.peers.values_mut() {
            peer.woken |= peer.timer.is_some_and(|at| at <= now);
        }
    }

    pub fn flip(&mut self, stage: Stage) {
        self.flags = stage;
        self.core.set_now(self.now);
        self.core.set_stage(stage);
        self.note(|world| {
            format!(
                "flags: {stage}; in effect {}, held {:?}",
                world.core.flags().stage(),
                world.core.held_flip().map(|h| h.reason)
            )
        });
        self.settle();
    }

    /// As `Instance::announce_stage`.
    pub(super) fn announce_stage(&mut self) {
        let now = self.core.flags().stage();
        let before = std::mem::replace(&mut self.announced, now);
        if now == before {
            return;
        }
        self.note(|_| format!("stage {before} → {now}"));
        // Left behind with what only it has, by an operator who did not wait for the verdict.
        self.books.lossy |= now == Stage::PrimaryOnly && self.base == Sync::Unknown && !self.warm;
        if before == Stage::DualPrimaryDefault && self.base == Sync::Unknown {
            self.asked_in_the_cold = self.books.records.len();
        }
        self.peers.values_mut().for_each(|peer| peer.woken |= peer.hears_flips);
    }

    /// While a cold primary counts and the secondary, or a copy from it, cannot be had, the primary goes on alone:
    /// nobody is held up by the other store. What comes of such keys proves nothing.
    pub fn taint(&mut self) {
        let unreachable = !self.core.lane(StoreId::Secondary).is_up()
            || self.refused
            || self.settings.reads != Reads::Fallback;
        if self.warm || !unreachable {
            return;
        }
        // Who asked while it counted still waits for the secondary.
        self.books.taint(self.asked_in_the_cold, |_, _| true);
        let primary_counts =
            self.core.default_store() == StoreId::Primary || self.flags.default_store() == StoreId::Primary;
        if !primary_counts || !self.core.stage().is_dual() {
            return;
        }
        let core = &self.core;
        // What was written since by somebody who asked later is in sync, and does not help who asked before.
        self.books.taint(usize::MAX, |record, key| {
            record.in_the_cold || core.sync_of(hash_key(record.db, key)) == Sync::Unknown
        });
    }

    /// The proxy is killed, and started again with what the state file says.
    pub fn crash(&mut self) {
        self.note(|_| "the proxy is killed".to_owned());
        for store in StoreId::ALL {
            let wire = std::mem::replace(&mut self.wires[store.index()], Wire::new());
            self.ghosts.extend(wire.conn.map(|conn| (store, conn)));
        }
        let ids: Vec<u64> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(peer) = self.peers.remove(&id) {
                self.forget(peer);
            }
        }
        // Of a cold primary's secondary nobody remembers what it has yet to lose, if it was not to be had, or if clients
        // that wait have taken it.
        let takes = self.books.records.iter().any(|record| record.words[0].starts_with(b"BL"));
        let lags = self.core.lane(StoreId::Secondary).depth() > 0 && takes || self.core.suspects().0 > 0;
        self.books.lossy |=
            self.core.stage() == Stage::DualPrimaryDefault && self.core.sync_base() == Sync::Unknown && lags;
        let entry = self.entry.clone();
        let (stage, mut known) = match entry.as_ref().map(|entry| entry.believed(self.flags)) {
            Some(believed) if believed.stale => (believed.stage, Knowledge::cold_and_stale(self.limits)),
            Some(believed) => (believed.stage, Knowledge::new(believed.base, self.limits)),
            None => (self.flags, Knowledge::new(Sync::Unknown, self.limits)),
        };
        self.note(|world| format!("the proxy starts in {stage}, flags {}, {entry:?}", world.flags));
        entry.iter().for_each(|entry| entry.list_suspects(&mut known));
        let base = known.base();
        self.core = sequencer(&self.kit, &self.settings, stage, known);
        self.core.set_now(self.now);
        self.core.doubt_source(entry.as_ref().and_then(Entry::doubted));
        self.core.begin_towards(self.flags);
        self.books.lossy |= self.core.flags().stage() == Stage::PrimaryOnly
            && stage != Stage::PrimaryOnly
            && base == Sync::Unknown
            && !self.warm;
        self.announced = self.core.flags().stage();
        self.recorded = None;
        self.known_runs =
            entry.as_ref().map(Entry::paired).unwrap_or_default().map(|seen| seen.run_id.parse().ok());
        self.process += 1;
        self.settle();
    }

    /// As `Instance::repair_from`.
    pub fn repair_from(&mut self, right: StoreId) {
        if self.core.stage().is_dual() || self.core.doubted_source().is_some() {
            self.note(|_| format!("the operator says that the {right} store is right"));
            // A cold primary is made the measure of everything.
            self.books.lossy |=
                right == StoreId::Primary && self.core.sync_base() == Sync::Unknown && !self.warm;
            self.core.doubt_source(None);
            self.core.doubt_store(right.other());
            self.settle();
        }
    }
}
