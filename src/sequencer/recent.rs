//! Which keys have a write that a store has not answered yet.
//!
//! One table of last write positions per bucket of keys: a collision only sends a read to the
//! default store, which is always right.

/// Buckets; a power of two.
const BUCKETS: usize = 4096;

/// Positions in the default lane of the last write per bucket.
#[derive(Debug)]
pub(super) struct Recent {
    positions: Box<[u64; BUCKETS]>,
    floor: u64,
    newest: u64,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { positions: Box::new([0; BUCKETS]), floor: 0, newest: 0 }
    }
}

// === impl Recent ===

impl Recent {
    fn bucket(key: u64) -> usize {
        (key as usize) & (BUCKETS - 1)
    }

    /// A write to `key` was appended at `position` of the lane.
    pub fn wrote(&mut self, key: u64, position: u64) {
        self.positions[Self::bucket(key)] = position;
        self.newest = position;
    }

    /// A write that may touch any key was appended at `position`.
    pub fn wrote_everything(&mut self, position: u64) {
        self.floor = position;
        self.newest = position;
    }

    /// Is any write not answered yet, given how far the lane has answered?
    pub fn is_any_pending(&self, answered: u64) -> bool {
        self.newest > answered
    }

    /// May `key` have a write that is not answered yet, given how far the lane has answered?
    pub fn is_pending(&self, key: u64, answered: u64) -> bool {
        self.positions[Self::bucket(key)] > answered || self.floor > answered
    }

    /// The order has turned: all of the lane up to `position` counts as just written.
    pub fn reset(&mut self, position: u64) {
        self.positions.fill(0);
        self.floor = position;
    }
}
