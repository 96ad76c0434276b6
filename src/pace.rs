//! How fast backfill and verification may go. Pure: time is an argument.
//!
//! Limits of keys and bytes per second hold them to a rate; the time that the default store takes to answer decides how
//! much of their work is under way at once, so that clients keep their share of it.

use std::time::Duration;

/// What an operator allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Keys per second; 0: no limit.
    pub keys: u64,
    /// Bytes per second; 0: no limit.
    pub bytes: u64,
    /// How long the default store may take to answer before the work under way is halved; 0: never mind.
    pub latency: Duration,
}

/// The pace of one run.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    limits: Limits,
    /// Batches that may be under way.
    window: usize,
    /// What has been allowed is used up until then.
    next_at: u64,
    /// The window was last halved at this time.
    halved_at: u64,
}

/// Batches under way at the most.
pub const MAX_WINDOW: usize = 8;
/// Work that was not done yet may be made up for by no more than this.
const BURST_MICROS: u64 = 100_000;
/// One slow answer halves the window once.
const HALVE_EVERY_MICROS: u64 = 20_000;

// === impl Pace ===

impl Pace {
    /// A pace that begins at `now`.
    pub fn new(limits: Limits, now: u64) -> Pace {
        Pace { limits, window: MAX_WINDOW / 2, next_at: now, halved_at: now }
    }

    /// Takes new limits over.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// So much is done at `now`: how long to rest.
    pub fn spend(&mut self, now: u64, keys: u64, bytes: u64) -> Duration {
        let micros = |amount: u64, rate: u64| amount.saturating_mul(1_000_000).checked_div(rate).unwrap_or(0);
        let cost = micros(keys, self.limits.keys).max(micros(bytes, self.limits.bytes));
        self.next_at = self.next_at.max(now.saturating_sub(BURST_MICROS)).saturating_add(cost);
        Duration::from_micros(self.next_at.saturating_sub(now))
    }

    /// The default store took so long to answer.
    pub fn heard(&mut self, now: u64, latency: Duration) {
        let slow = !self.limits.latency.is_zero() && latency > self.limits.latency;
        if !slow {
            self.window = (self.window + 1).min(MAX_WINDOW);
        } else if now.saturating_sub(self.halved_at) >= HALVE_EVERY_MICROS {
            self.halved_at = now;
            self.window = (self.window / 2).max(1);
        }
    }

    /// Batches that may be under way now.
    pub fn window(&self) -> usize {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time() {
        let limits = Limits { keys: 1000, bytes: 0, latency: Duration::ZERO };
        let mut pace = Pace::new(limits, 0);
        let mut now = 0;
        for _ in 0..100 {
            now += pace.spend(now, 50, 1 << 20).as_micros() as u64;
        }
        assert_eq!(now, 5_000_000, "5000 keys at 1000 a second");
        // A pause is not made up for but for a little.
        now += 60_000_000;
        assert_eq!(pace.spend(now, 50, 0), Duration::ZERO);
        pace.set_limits(Limits { keys: 0, bytes: 1 << 20, ..limits });
        assert_eq!(pace.spend(now, 1, 2 << 20), Duration::from_micros(1_950_000));
    }

    #[test]
    fn what_is_under_way_is_halved_when_answers_are_slow() {
        let limits = Limits { latency: Duration::from_millis(5), ..Limits::default() };
        let mut pace = Pace::new(limits, 0);
        for _ in 0..20 {
            pace.heard(0, Duration::from_millis(1));
        }
        assert_eq!(pace.window(), MAX_WINDOW);
        for step in 1..10 {
            pace.heard(step * HALVE_EVERY_MICROS, Duration::from_millis(9));
        }
        assert_eq!(pace.window(), 1);
        pace.heard(0, Duration::ZERO);
        assert_eq!(pace.window(), 2);
    }
}
