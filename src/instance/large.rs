//! Keys whose values are known to be large.

use std::collections::{HashSet, VecDeque};

use crate::sequencer::fence::Footprint;

/// How many large keys are remembered: a wrong guess costs one reply's time in the lane, or one in a detour.
const MAX_KEYS: usize = 1024;

/// Keys whose replies are large, by their hashes. The oldest is forgotten for the newest.
#[derive(Debug, Default)]
pub struct LargeKeys {
    known: HashSet<u64, foldhash::fast::RandomState>,
    order: VecDeque<u64>,
}

// === impl LargeKeys ===

impl LargeKeys {
    /// Is none known?
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Is any of these keys known to be large?
    pub fn contains(&self, footprint: &Footprint) -> bool {
        footprint.keys().iter().any(|key| self.known.contains(&key.hash))
    }

    /// These are.
    pub fn note(&mut self, footprint: &Footprint) {
        for key in footprint.keys().iter().take(MAX_KEYS) {
            if self.known.insert(key.hash) {
                self.order.push_back(key.hash);
            }
        }
        while self.order.len() > MAX_KEYS {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// These are not, any more.
    pub fn forget(&mut self, footprint: &Footprint) {
        for key in footprint.keys() {
            if self.known.remove(&key.hash) {
                self.order.retain(|hash| *hash != key.hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Access;
    use crate::sequencer::fence::KeyRef;

    fn key(hash: u64) -> Footprint {
        Footprint::of_key(KeyRef { hash, access: Access::Read, start: 0, end: 0 })
    }

    #[test]
    fn so_many_keys_are_remembered_and_no_more() {
        let mut large = LargeKeys::default();
        for hash in 0..2 * MAX_KEYS as u64 {
            large.note(&key(hash));
            large.note(&key(hash));
        }
        assert_eq!((large.known.len(), large.order.len()), (MAX_KEYS, MAX_KEYS));
        assert!(!large.contains(&key(0)) && large.contains(&key(MAX_KEYS as u64)));
        large.forget(&key(MAX_KEYS as u64));
        assert!(!large.contains(&key(MAX_KEYS as u64)));
        assert_eq!((large.known.len(), large.order.len()), (MAX_KEYS - 1, MAX_KEYS - 1));
    }
}
