//! Numbers that look random and repeat with their seed: the workload needs variety, not secrecy.

/// A small xorshift generator.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

// === impl Dice ===

impl Dice {
    /// Equal seeds throw equal numbers.
    pub(crate) fn new(seed: u64) -> Dice {
        // Spread: neighbouring seeds shall not begin alike. Zero would stay zero.
        Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit.max(1)
    }

    /// True once in `times` throws.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
