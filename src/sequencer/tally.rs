//! What is counted for every command, handed on once for many: a counter that others may read at any time costs as much
//! as several tests.
//!
//! Invariant: what is counted here is handed on when the batch of replies ends, and with every tick.

use crate::metrics::{InstanceMetrics, RequestKind};
use crate::stage::StoreId;

use super::Sequencer;

/// Counts that have not been handed on.
#[derive(Debug, Default)]
pub(super) struct Tally {
    commands: [u64; 2],
    comparisons: u64,
    /// Requests of one kind that took equally long, as those do that came together and were answered together.
    took: Option<(RequestKind, u64)>,
    so_many: u64,
}

// === impl Tally ===

impl Tally {
    /// A request was appended to the lane of `store`.
    #[inline]
    pub fn sent(&mut self, store: StoreId) {
        self.commands[store.index()] += 1;
    }

    /// Two replies were compared.
    #[inline]
    pub fn compared(&mut self) {
        self.comparisons += 1;
    }

    /// A request was answered after so many microseconds.
    #[inline]
    pub fn answered(&mut self, kind: RequestKind, micros: u64, metrics: &InstanceMetrics) {
        if self.took != Some((kind, micros)) {
            self.hand_durations_on(metrics);
            self.took = Some((kind, micros));
        }
        self.so_many += 1;
    }

    #[cold]
    fn hand_durations_on(&mut self, metrics: &InstanceMetrics) {
        if let Some((kind, micros)) = self.took.take() {
            metrics.request_duration[kind].observe_many(micros, std::mem::take(&mut self.so_many));
        }
    }

    fn hand_on(&mut self, metrics: &InstanceMetrics) {
        self.hand_durations_on(metrics);
        for (store, count) in StoreId::ALL.into_iter().zip(std::mem::take(&mut self.commands)) {
            metrics.store(store).commands.inc_by(count);
        }
        metrics.comparisons.inc_by(std::mem::take(&mut self.comparisons));
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// What has been counted is for others to read from here on.
    pub(super) fn hand_counts_on(&mut self) {
        self.tally.hand_on(&self.metrics);
    }
}

#[cfg(test)]
mod tests {
    use super::super::knowledge::Sync;
    use super::super::testing::{answer, sequencer, set};
    use super::*;
    use crate::stage::Stage;

    #[test]
    fn everything_is_counted_when_the_batch_has_ended() {
        let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
        let client = core.clients.insert(1);
        for (at, key) in ["a", "b", "c"].into_iter().enumerate() {
            core.set_now(core.now() + at as u64);
            set(&mut core, client, key);
        }
        for store in StoreId::ALL {
            (0..3).for_each(|_| answer(&mut core, store, "+OK\r\n"));
        }
        core.end_of_batch();
        core.end_of_batch();
        let metrics = core.metrics.clone();
        assert_eq!(StoreId::ALL.map(|store| metrics.store(store).commands.get()), [3, 3]);
        assert_eq!(metrics.comparisons.get(), 3);
        assert_eq!(metrics.request_duration[RequestKind::Write].count(), 3);
    }
}
