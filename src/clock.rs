//! An instance's clock: microseconds since it began. Looked at for every client's turn.

use std::time::Instant;

/// Counts from when it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

// === impl Clock ===

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock { began: Instant::now() }
    }

    /// Microseconds since it began. Never backwards.
    #[inline]
    pub fn micros(&self) -> u64 {
        let passed = self.began.elapsed();
        // Not `as_micros`, which counts in 128 bits.
        passed.as_secs() * 1_000_000 + u64::from(passed.subsec_micros())
    }
}
