//! Random-looking numbers that are the same in every run.

/// A small generator (SplitMix64). Equal seeds give equal numbers.
pub struct Numbers(pub u64);

// === impl Numbers ===

impl Numbers {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `from`, which is not empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Up to `most` bytes, many of them with a meaning in the protocol.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let alphabet = b"ab\r\n$*:+-\0\xff1 ";
        (0..self.below(most + 1)).map(|_| self.pick(alphabet)).collect()
    }
}
