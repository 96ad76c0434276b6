//! Guessing passwords is slow, on however many connections: what an address got wrong is remembered for all of them.
//!
//! A few wrong passwords delay nobody but who gave them. With more, attempts from that address are checked one after
//! the other, at a distance that doubles with each wrong one; those that would wait for too long are refused unchecked.
//! Whoever is right must wait too: who is not made to would know a right guess by its quick answer. The same wrong
//! password again and again is one mistake: an application with an old password does not lock its neighbours out.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses that are remembered. Beyond that the one that has been quiet for longest is forgotten.
const MAX_ADDRESSES: usize = 10_000;
/// Different wrong passwords that delay nobody else of their address.
const FREE: u32 = 5;
/// More are not counted.
const MAX_WRONG: u32 = 16;
/// One wrong password is forgotten in this time.
const FORGET: Duration = Duration::from_secs(10);
/// Wrong passwords that are recognised when they come again.
const RECENT: usize = 8;

/// Nothing is checked for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// How long wrong passwords delay: the first one, and the longest.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// After the first wrong password; it doubles. Zero: nothing is ever delayed.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
}

/// What each address got wrong.
#[derive(Default)]
pub struct Guesses {
    addresses: HashMap<Option<IpAddr>, Wrong>,
    hasher: RandomState,
}

struct Wrong {
    count: u32,
    recent: [u64; RECENT],
    /// When `count` was right last.
    since: Instant,
    /// When the next attempt may be checked.
    free_at: Instant,
}

// === impl Delays ===

impl Delays {
    fn after(self, count: u32) -> Duration {
        self.first.saturating_mul(1 << count.saturating_sub(1).min(MAX_WRONG)).min(self.max)
    }
}

// === impl Guesses ===

impl Guesses {
    /// How long an attempt from `address` (`None`: a Unix socket) waits until it is checked.
    pub fn turn(
        &mut self,
        address: Option<IpAddr>,
        delays: Delays,
        now: Instant,
    ) -> Result<Duration, TooMany> {
        let Some(wrong) = self.addresses.get_mut(&network(address)) else { return Ok(Duration::ZERO) };
        wrong.forget(now);
        if wrong.count <= FREE {
            return Ok(Duration::ZERO);
        }
        let wait = wrong.free_at.saturating_duration_since(now);
        if wait > delays.max {
            return Err(TooMany);
        }
        wrong.free_at = now + wait + delays.after(wrong.count);
        Ok(wait)
    }

    /// An attempt was wrong. How long its answer is to be held back.
    pub fn wrong(
        &mut self,
        address: Option<IpAddr>,
        guess: &[Vec<u8>],
        delays: Delays,
        now: Instant,
    ) -> Duration {
        let guess = self.hasher.hash_one(guess);
        let address = network(address);
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address) {
            self.make_room(now);
        }
        let wrong = self.addresses.entry(address).or_insert(Wrong {
            count: 0,
            recent: [0; RECENT],
            since: now,
            free_at: now,
        });
        wrong.forget(now);
        if !wrong.recent.contains(&guess) {
            wrong.recent.rotate_right(1);
            wrong.recent[0] = guess;
            wrong.count = (wrong.count + 1).min(MAX_WRONG);
        }
        let delay = delays.after(wrong.count);
        wrong.free_at = wrong.free_at.max(now + delay);
        delay
    }

    fn make_room(&mut self, now: Instant) {
        self.addresses.retain(|_, wrong| {
            wrong.forget(now);
            wrong.count > 0
        });
        while self.addresses.len() >= MAX_ADDRESSES {
            let quietest = self.addresses.iter().min_by_key(|(_, wrong)| wrong.free_at).map(|(at, _)| *at);
            let Some(quietest) = quietest else { return };
            self.addresses.remove(&quietest);
        }
    }
}

// === impl Wrong ===

impl Wrong {
    fn forget(&mut self, now: Instant) {
        let steps = now.saturating_duration_since(self.since).as_secs() / FORGET.as_secs();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(steps);
        self.since += FORGET.saturating_mul(steps);
    }
}

/// Whoever has an address of version 6 has a whole network of them.
fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    address.map(|address| match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: Delays = Delays { first: Duration::from_millis(50), max: Duration::from_secs(5) };

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    fn guess(number: u32) -> Vec<Vec<u8>> {
        vec![b"AUTH".to_vec(), number.to_be_bytes().to_vec()]
    }

    /// How many of the guesses of many connections are checked within `time`.
    fn checked(connections: u32, time: Duration) -> u32 {
        let (mut guesses, begin) = (Guesses::default(), Instant::now());
        let mut ready = vec![begin; connections as usize];
        let mut count = 0;
        while let Some(next) = ready.iter_mut().min()
            && *next < begin + time
        {
            let now = *next;
            *next = match guesses.turn(address(1), DELAYS, now) {
                Ok(wait) => {
                    count += 1;
                    now + wait + guesses.wrong(address(1), &guess(count), DELAYS, now + wait)
                }
                Err(TooMany) => now + Duration::from_secs(1),
            };
        }
        count
    }

    #[test]
    fn more_connections_guess_no_faster() {
        let minute = Duration::from_secs(60);
        let (one, many) = (checked(1, minute), checked(400, minute));
        assert!((10..=25).contains(&one), "{one}");
        assert!((10..=25).contains(&many), "{many}");
    }

    #[test]
    fn the_same_mistake_again_is_one() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(guesses.turn(address(1), DELAYS, now), Ok(Duration::ZERO));
            assert_eq!(guesses.wrong(address(1), &guess(7), DELAYS, now), DELAYS.first);
        }
    }

    #[test]
    fn other_addresses_are_not_delayed_and_time_forgives() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        (0..20).for_each(|number| {
            guesses.wrong(address(1), &guess(number), DELAYS, now);
        });
        assert!(guesses.turn(address(1), DELAYS, now).is_ok_and(|wait| !wait.is_zero()));
        assert_eq!(guesses.turn(address(1), DELAYS, now), Err(TooMany), "the queue has an end");
        assert_eq!(guesses.turn(address(2), DELAYS, now), Ok(Duration::ZERO));
        let later = now + FORGET * MAX_WRONG;
        assert_eq!(guesses.turn(address(1), DELAYS, later), Ok(Duration::ZERO));
    }

    #[test]
    fn nothing_is_delayed_where_the_delay_is_zero() {
        let delays = Delays { first: Duration::ZERO, max: Duration::ZERO };
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..100 {
            assert_eq!(guesses.turn(address(1), delays, now), Ok(Duration::ZERO));
            assert_eq!(guesses.wrong(address(1), &guess(number), delays, now), Duration::ZERO);
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..MAX_ADDRESSES as u32 + 500 {
            let address = Some(IpAddr::from(number.to_be_bytes()));
            guesses.wrong(address, &guess(number), DELAYS, now + Duration::from_millis(number.into()));
        }
        assert_eq!(guesses.addresses.len(), MAX_ADDRESSES);
        let v6 = |text: &str| network(Some(text.parse().unwrap()));
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:0:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
    }
}
