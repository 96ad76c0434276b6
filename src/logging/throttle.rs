//! At most one log line per interval for what may happen with every request.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one event per interval through and counts the rest.
///
/// ```
/// # use std::time::{Duration, Instant};
/// static REFUSED: multistore::logging::Throttle =
///     multistore::logging::Throttle::new(Duration::from_secs(10));
///
/// if let Some(suppressed) = REFUSED.admit(Instant::now()) {
///     tracing::warn!(suppressed, "the store refused a write");
/// }
/// ```
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

// === impl Throttle ===

impl Throttle {
    /// One event per `interval`.
    pub const fn new(interval: Duration) -> Throttle {
        Throttle { interval, state: Mutex::new(State { last: None, suppressed: 0 }) }
    }

    /// May this event be logged? If so: how many were not, since the last that was.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let early = state.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval);
        if early {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}
