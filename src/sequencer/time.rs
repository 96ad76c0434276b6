//! What time alone brings about: waits that end, a store that has become slow or busy, gauges.

use std::collections::HashSet;

use crate::command::Kind;
use crate::stage::{Stage, StoreId};

use super::op::{Failure, Owner};
use super::{Sequencer, lane};

/// Gauges are refreshed this often: finer than anybody scrapes.
const GAUGES_EVERY_MICROS: u64 = 250_000;

// === impl Sequencer ===

impl Sequencer {
    /// What time alone brings about. To be called every few milliseconds while anything is owed.
    pub fn tick(&mut self) {
        self.hand_counts_on();
        self.expire_replies();
        self.notice_slow_primary();
        self.tick_parks();
        self.repair();
        self.finish_flip();
        self.refresh_gauges();
    }

    fn expire_replies(&mut self) {
        let timeout = self.settings.reply_timeout.as_micros() as u64;
        let Some(before) = self.now.checked_sub(timeout) else { return };
        for store in StoreId::ALL {
            let (ops, copies) = (&self.ops, &self.copies);
            let kept = |op| ops.get(op).is_some_and(|op| copies.must_be_heard_of(op.owner));
            for sink in self.lanes[store.index()].expire(before, kept) {
                if let lane::Sink::Op(op) = sink {
                    self.failed(op, store, Failure::Timeout);
                }
            }
            for held in self.lanes[store.index()].expire_held(before) {
                if let lane::Sink::Op(op) = held.sink {
                    self.failed(op, store, Failure::NotSent);
                }
            }
        }
        self.expire_holds(before);
        self.after_progress();
    }

    /// `store` works on a script and answers others with this error. Who waits behind the script only to look gets it
    /// as well; what changes something runs when the script has ended, and must be awaited. So does what its
    /// client has sent behind that: the script's own, as everybody's.
    pub fn busy(&mut self, store: StoreId, says: &str) {
        self.busy_says = says.to_owned();
        let (ops, table) = (&self.ops, self.table.clone());
        let mut awaiting = HashSet::new();
        let given_up = self.lanes[store.index()].give_up_behind_front(|op, is_front| {
            let Some(op) = ops.get(op) else { return false };
            let Owner::Client { key, .. } = op.owner else { return false };
            // By the command itself: where one store is in use, nobody notes what writes.
            let spec = table.spec(op.command);
            let looks = !op.write && !op.derived && (spec.kind == Kind::Read || spec.name == "ping");
            let told = looks && !is_front && !awaiting.contains(&key);
            if !told {
                awaiting.insert(key);
            }
            told
        });
        for sink in given_up {
            if let lane::Sink::Op(op) = sink {
                self.failed(op, store, Failure::Busy);
            }
        }
        self.after_progress();
    }

    /// Lone reads do not wait for a primary that is silent: they go to the default store.
    fn notice_slow_primary(&mut self) {
        let patience = self.settings.read_patience.as_micros() as u64;
        let before = self.now.saturating_sub(patience);
        let lane = &mut self.lanes[StoreId::Primary.index()];
        let late = lane.oldest().is_some_and(|at| at < before);
        // One look may only show that the proxy itself was held up, and the answer lies in the socket.
        self.primary_behind = std::mem::replace(&mut self.primary_late, late) && late;
        if !self.primary_behind || self.flagged != Stage::DualSecondaryDefault || self.same_server {
            return;
        }
        for op in lane.newly_late(before) {
            self.hurry(op, true);
        }
    }

    /// May time alone bring something about: is anything owed, parked, held or to be repaired?
    pub fn needs_time(&self) -> bool {
        self.lanes.iter().any(|lane| lane.depth() > 0)
            || !self.parks.is_empty()
            || self.is_anyone_held()
            || self.known.suspects() > 0
            || self.wanted != self.flagged
    }

    fn refresh_gauges(&mut self) {
        if self.now - self.gauged_at < GAUGES_EVERY_MICROS {
            return;
        }
        self.gauged_at = self.now;
        for store in StoreId::ALL {
            let lane = &self.lanes[store.index()];
            let gauges = self.metrics.store(store);
            gauges.lane_depth.set(lane.depth() as i64);
            gauges.lane_queue_bytes.set(lane.queued_bytes() as i64);
        }
        self.metrics.parked_clients.set(self.parks.len() as i64);
        self.metrics.suspects.set(self.known.suspects() as i64);
        for store in StoreId::ALL {
            let suspect = self.behind_as_a_whole() == Some(store);
            self.metrics.store(store).suspect.set(i64::from(suspect));
        }
    }
}
