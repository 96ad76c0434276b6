//! Keys that came into doubt while commands were under way that carry their values on.
//!
//! A write that one store refuses is known when its reply comes. By then commands may have been placed behind it that
//! take the value elsewhere (RENAME, COPY, SUNIONSTORE …), on both stores alike and with equal replies. Whatever they
//! write is in doubt as well; their own replies, which come later, are the time to say so.

use std::collections::HashMap;

/// Keys that came into doubt, and when, on the sequencer's clock.
#[derive(Debug, Default)]
pub(super) struct Taints {
    keys: HashMap<u64, u64, foldhash::fast::RandomState>,
    /// There are more than can be listed: every key counts until then.
    all_until: u64,
    /// The tails of both lanes when the last key was noted: behind them nothing was placed in ignorance.
    tails: [u64; 2],
}

/// Keys that are listed.
const MAX_KEYS: usize = 4096;

// === impl Taints ===

impl Taints {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.all_until == 0
    }

    /// `key` came into doubt `now`.
    pub fn note(&mut self, key: u64, now: u64, tails: [u64; 2]) {
        self.tails = tails;
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&key) {
            self.all_until = now;
        } else {
            self.keys.insert(key, now);
        }
    }

    /// Was one of these keys already under way in a command that was placed at `placed` when it came into doubt?
    pub fn touch(&self, keys: impl IntoIterator<Item = u64>, placed: u64) -> bool {
        placed <= self.all_until
            || keys.into_iter().any(|key| self.keys.get(&key).is_some_and(|at| placed <= *at))
    }

    /// The lanes have answered so far: nothing that was placed in ignorance is under way any more.
    pub fn answered(&mut self, answered: [u64; 2]) {
        if !self.is_empty() && answered.iter().zip(self.tails).all(|(answered, tail)| *answered >= tail) {
            self.keys.clear();
            self.all_until = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_placed_before_the_doubt_is_tainted_and_what_comes_after_it_is_not() {
        let mut taints = Taints::default();
        taints.note(7, 100, [5, 9]);
        assert!(taints.touch([1, 7], 100));
        assert!(!taints.touch([1, 7], 101));
        assert!(!taints.touch([1], 50));
        taints.answered([5, 8]);
        assert!(!taints.is_empty(), "one lane still owes what was placed in ignorance");
        taints.answered([5, 9]);
        assert!(taints.is_empty());
    }

    #[test]
    fn too_many_keys_taint_everything() {
        let mut taints = Taints::default();
        for key in 0..=MAX_KEYS as u64 {
            taints.note(key, 10, [0, 0]);
        }
        assert!(taints.touch([u64::MAX], 10));
        assert!(!taints.touch([u64::MAX], 11));
        assert_eq!(taints.keys.len(), MAX_KEYS);
    }
}
