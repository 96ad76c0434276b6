//! Suspect keys of all databases in the order of their age, and when each may be repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::stage::{STORES, StoreId};

/// What identifies a suspect in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) behind: StoreId,
    pub(super) bytes: usize,
}

/// One suspect key.
#[derive(Debug)]
struct Item {
    slot: usize,
    key: Arc<[u8]>,
    since: u64,
    /// `None` while it is being repaired.
    ready_at: Option<u64>,
}

/// All suspect keys.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    by_age: BTreeMap<u64, Item>,
    ready: BTreeSet<(u64, u64)>,
    counts: [usize; STORES],
    bytes: usize,
}

// === impl Suspects ===

impl Suspects {
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn count(&self, store: StoreId) -> usize {
        self.counts[store.index()]
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.by_age.values().next().map(|item| item.since)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn insert(&mut self, place: Place, slot: usize, key: Arc<[u8]>, now: u64) {
        // Ready at once; those that are ready at the same time go by age.
        self.by_age.insert(place.sequence, Item { slot, key, since: now, ready_at: Some(0) });
        self.ready.insert((0, place.sequence));
        self.counts[place.behind.index()] += 1;
        self.bytes += place.bytes;
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let Some(item) = self.by_age.remove(&place.sequence) else { return };
        if let Some(ready_at) = item.ready_at {
            self.ready.remove(&(ready_at, place.sequence));
        }
        self.counts[place.behind.index()] -= 1;
        self.bytes -= place.bytes;
    }

    pub(super) fn next_ready(&self) -> Option<u64> {
        self.ready.first().map(|(ready_at, _)| *ready_at)
    }

    pub(super) fn take(&mut self, now: u64) -> Option<(usize, Arc<[u8]>)> {
        let first = *self.ready.first().filter(|(ready_at, _)| *ready_at <= now)?;
        self.ready.remove(&first);
        let item = self.by_age.get_mut(&first.1)?;
        item.ready_at = None;
        Some((item.slot, item.key.clone()))
    }

    pub(super) fn put_back(&mut self, sequence: u64, not_before: u64) {
        let Some(item) = self.by_age.get_mut(&sequence) else { return };
        if let Some(ready_at) = item.ready_at.replace(not_before) {
            self.ready.remove(&(ready_at, sequence));
        }
        self.ready.insert((not_before, sequence));
    }
}
