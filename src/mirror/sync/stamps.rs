//! When was a key last written? One counter for many keys: unequal is no proof, equal is.

/// Counters: half a megabyte of them.
const BUCKETS: usize = 1 << 16;

/// The last write to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// Counters by hash of the key.
#[derive(Debug)]
pub(super) struct Stamps {
    buckets: Box<[u64]>,
    /// A write to all keys.
    floor: u64,
    last: u64,
}

// === impl Stamps ===

impl Stamps {
    pub(super) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS].into(), floor: 0, last: 0 }
    }

    pub(super) fn touch(&mut self, db: u32, hash: u64) -> Stamp {
        self.last += 1;
        if let Some(bucket) = self.buckets.get_mut(bucket(db, hash)) {
            *bucket = self.last;
        }
        Stamp(self.last)
    }

    pub(super) fn touch_all(&mut self) -> Stamp {
        self.last += 1;
        self.floor = self.last;
        Stamp(self.last)
    }

    pub(super) fn get(&self, db: u32, hash: u64) -> Stamp {
        let own = self.buckets.get(bucket(db, hash)).copied().unwrap_or_default();
        Stamp(own.max(self.floor))
    }
}

fn bucket(db: u32, hash: u64) -> usize {
    (hash as usize).wrapping_add((db as usize).wrapping_mul(0x9e37_79b9)) % BUCKETS
}
