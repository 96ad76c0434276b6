//! What is known to be in sync. Pure, bounded: doubt only grows when a bound is reached.
//!
//! For every key one of three things is known: both stores hold the same (in sync), nothing
//! (unknown), or that a named store is behind (suspect). Keys that are not listed are as `base` says.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use crate::stage::StoreId;

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The other store holds what the default store holds.
    InSync,
    /// Never touched since dual began.
    Unknown,
    /// This store is behind.
    Suspect(StoreId),
}

/// A key that is to be copied to the store that is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The instance's database.
    pub db: u32,
    /// The key.
    pub key: Box<[u8]>,
    /// The store that is behind.
    pub behind: StoreId,
    /// Since when, on the sequencer's clock.
    pub since: u64,
    /// No attempt before this time.
    pub not_before: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// It cannot be copied, as far as anybody knows.
    pub given_up: bool,
    /// The right store may never have held the key: if it has none, the one that is behind keeps its own.
    pub cold: bool,
    /// A write to a cold key may not have run: until that is known, what only the store that is behind has counts as
    /// it did before.
    pub undecided: bool,
}

/// What is remembered of a suspect key while an attempt to copy it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Since when it is suspect.
    pub since: u64,
    /// Attempts that failed.
    pub attempts: u32,
}

/// What is known of all keys of an instance.
#[derive(Debug)]
pub struct Knowledge {
    base: Sync,
    /// A store that may be behind in any key, too, while `base` names the other one: its turn comes next.
    next: Option<StoreId>,
    in_sync: HashSet<u64, foldhash::fast::RandomState>,
    suspects: HashMap<u64, Suspect, foldhash::fast::RandomState>,
    order: VecDeque<u64>,
    /// How often a key was listed as suspect on a store, or came off the list.
    listings: [u64; 2],
    /// Keys in which the secondary is behind, too many to be named, while `base` is unknown; and whether the primary may
    /// never have held them.
    left_behind: HashMap<u64, bool, foldhash::fast::RandomState>,
    /// While `base` is unknown: in whatever the primary has, the secondary may be behind.
    stale: bool,
    limits: Limits,
    spread: u64,
}

/// Bounds of memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Keys remembered as in sync, 16 bytes each.
    pub in_sync: usize,
    /// Suspect keys remembered one by one.
    pub suspects: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { in_sync: 4_000_000, suspects: 200_000 }
    }
}

// === impl Knowledge ===

impl Knowledge {
    /// Nothing is known but `base`.
    pub fn new(base: Sync, limits: Limits) -> Knowledge {
        Knowledge {
            base,
            next: None,
            in_sync: HashSet::default(),
            suspects: HashMap::default(),
            order: VecDeque::new(),
            listings: [0, 0],
            left_behind: HashMap::default(),
            stale: false,
            limits,
            spread: 0,
        }
    }

    /// Nothing is known but that the secondary may be behind in whatever a cold primary has.
    pub fn cold_and_stale(limits: Limits) -> Knowledge {
        Knowledge { stale: true, ..Knowledge::new(Sync::Unknown, limits) }
    }

    /// May the secondary be behind in whatever the primary has, while keys that only it has count?
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// A walk has copied to the secondary whatever the primary has.
    pub fn refreshed(&mut self) {
        self.stale = false;
        self.left_behind = HashMap::default();
    }

    /// How many listed keys could not be copied to `store` in several attempts?
    pub fn stuck_behind(&self, store: StoreId) -> usize {
        let stuck = |suspect: &&Suspect| suspect.behind == store && suspect.attempts >= STUCK_ATTEMPTS;
        self.suspects.values().filter(stuck).count()
    }

    /// How many listed keys have been suspect on `store` since before `before`?
    pub fn suspects_behind(&self, store: StoreId, before: u64) -> usize {
        let old = |suspect: &&Suspect| suspect.behind == store && suspect.since < before;
        self.suspects.values().filter(old).count()
    }

    /// What is known of a key.
    #[inline(always)]
    pub fn of(&self, hash: u64) -> Sync {
        if self.is_all_in_sync() { Sync::InSync } else { self.of_this(hash) }
    }

    fn of_this(&self, hash: u64) -> Sync {
        if let Some(suspect) = self.suspects.get(&hash) {
            return Sync::Suspect(suspect.behind);
        }
        if self.base == Sync::InSync || self.in_sync.contains(&hash) {
            return Sync::InSync;
        }
        if self.left_behind.contains_key(&hash) { Sync::Suspect(StoreId::Secondary) } else { self.base }
    }

    /// What is known of keys that are not listed.
    pub fn base(&self) -> Sync {
        self.base
    }

    /// Is every key in sync?
    #[inline]
    pub fn is_all_in_sync(&self) -> bool {
        self.base == Sync::InSync && self.suspects.is_empty()
    }

    /// Both stores hold the same for this key from this point of the order on. Not forgotten to make room for it: the
    /// keys that somebody `awaits`. Of a write of many keys each copy would undo another one, for ever.
    pub fn settle(&mut self, hash: u64, awaits: impl Fn(u64) -> bool) {
        self.forget(hash);
        if self.base == Sync::InSync {
            return;
        }
        if self.in_sync.len() >= self.limits.in_sync {
            // In sync may become unknown: it costs a copy, never a wrong answer.
            self.in_sync.retain(|hash| awaits(*hash));
        }
        self.in_sync.insert(hash);
    }

    /// `behind` may not hold what the other store holds for this key. Where the other store is known to be behind
    /// in it, that stands: what this one was told meanwhile was built upon less.
    pub fn doubt(&mut self, hash: u64, db: u32, key: &[u8], behind: StoreId, now: u64) {
        let cold = behind == StoreId::Secondary && (self.of(hash) == Sync::Unknown || self.is_cold(hash));
        self.in_sync.remove(&hash);
        if self.suspects.contains_key(&hash) {
            return;
        }
        if self.base == Sync::Suspect(behind) || self.next == Some(behind) {
            // Not remembered one by one: the walk that clears the base finds it.
            if self.suspects.len() >= self.limits.suspects {
                self.spread += 1;
                return;
            }
        } else if self.suspects.len() >= self.limits.suspects {
            if self.keeps_cold_keys(behind) {
                self.spread += 1;
                self.stale = true;
                self.left_behind.entry(hash).or_insert(cold);
            } else {
                self.doubt_everything(behind);
            }
            return;
        }
        let suspect = Suspect {
            db,
            key: key.into(),
            behind,
            since: now,
            not_before: now,
            attempts: 0,
            given_up: false,
            cold,
            undecided: false,
        };
        self.suspects.insert(hash, suspect);
        self.listings[behind.index()] += 1;
        self.order.push_back(hash);
        if self.order.len() > 2 * self.suspects.len() + LOOKED_AT {
            self.tidy();
        }
    }

    /// It is not sure yet that `behind` holds what the other store holds for this key.
    pub fn unsettle(&mut self, hash: u64, db: u32, key: &[u8], behind: StoreId, now: u64) {
        self.in_sync.remove(&hash);
        if self.base == Sync::InSync {
            self.doubt(hash, db, key, behind, now);
        }
    }

    /// How many listed keys can be copied to `store` before long? Not those that are known to be too large, but for
    /// those that are due to be looked at again.
    pub fn repairable_behind(&self, store: StoreId, now: u64) -> usize {
        let soon = |suspect: &&Suspect| {
            let hopeless = suspect.given_up && suspect.attempts == 0 && suspect.not_before > now;
            suspect.behind == store && !hopeless
        };
        self.suspects.values().filter(soon).count()
    }

    /// What kept suspect keys from being copied may not have been true: all are tried again.
    pub fn retry_all(&mut self, now: u64) {
        self.suspects.values_mut().for_each(|suspect| suspect.not_before = suspect.not_before.min(now));
    }

    /// What was said of a key counts no more: the default store has gone on without what the other one held.
    pub fn forget(&mut self, hash: u64) {
        self.left_behind.remove(&hash);
        if let Some(suspect) = self.suspects.remove(&hash) {
            self.listings[suspect.behind.index()] += 1;
        }
    }

    /// The store that is right about a suspect key has been seen to hold it, or has taken a write to it.
    pub fn warm(&mut self, hash: u64) {
        if let Some(suspect) = self.suspects.get_mut(&hash) {
            suspect.cold = false;
        }
        if let Some(cold) = self.left_behind.get_mut(&hash) {
            *cold = false;
        }
    }

    /// May the store that is right about a suspect key never have held it?
    pub fn is_cold(&self, hash: u64) -> bool {
        let listed = self.suspects.get(&hash).map(|suspect| suspect.cold);
        listed.or_else(|| self.left_behind.get(&hash).copied()).unwrap_or(false)
    }

    /// Whether a write to a suspect key has run is not known.
    pub fn leave_undecided(&mut self, hash: u64) {
        if let Some(suspect) = self.suspects.get_mut(&hash) {
            suspect.undecided = true;
        }
    }

    /// The default store goes on with a suspect key, whatever the other one has.
    pub fn go_on_alone(&mut self, hash: u64) {
        if let Some(suspect) = self.suspects.get_mut(&hash) {
            suspect.undecided = false;
        }
    }

    /// Is a suspect key as good as unknown, since the right store may have nothing of it?
    pub fn is_undecided(&self, hash: u64) -> bool {
        self.suspects.get(&hash).is_some_and(|suspect| suspect.cold && suspect.undecided)
    }

    /// Forgets places in the line of keys that are settled, or stand twice.
    fn tidy(&mut self) {
        let mut seen: HashSet<u64, foldhash::fast::RandomState> = HashSet::default();
        let suspects = &self.suspects;
        self.order.retain(|hash| suspects.contains_key(hash) && seen.insert(*hash));
    }

    /// Something was changed in keys that nobody can name: `behind` may be behind in any.
    ///
    /// While the primary is cold, the keys that only the secondary has are not behind but unknown, and stay so:
    /// else a repair of the secondary would delete them.
    pub fn doubt_any(&mut self, behind: StoreId) {
        if !self.keeps_cold_keys(behind) {
            self.doubt_everything(behind);
            return;
        }
        self.spread += 1;
        self.stale = true;
        let in_sync = std::mem::take(&mut self.in_sync);
        self.left_behind.extend(in_sync.into_iter().map(|hash| (hash, false)));
    }

    /// Does doubt about `behind` leave keys unknown that only it has?
    fn keeps_cold_keys(&self, behind: StoreId) -> bool {
        let full = self.left_behind.len() + self.in_sync.len() > self.limits.in_sync;
        self.base == Sync::Unknown && behind == StoreId::Secondary && !full
    }

    /// `behind` may be behind in any key. While the other store is behind as a whole, what it says of a
    /// key that is not settled counts for nothing: then the turn of `behind` comes afterwards.
    pub fn doubt_everything(&mut self, behind: StoreId) {
        if self.base == Sync::Suspect(behind.other()) {
            self.spread += 1;
            self.next = Some(behind);
            return;
        }
        self.blame(behind);
    }

    /// `behind` is behind as a whole, whatever was known.
    pub fn blame(&mut self, behind: StoreId) {
        self.spread += 1;
        self.base = Sync::Suspect(behind);
        self.next = None;
        self.in_sync = HashSet::default();
        self.refreshed();
        self.suspects.retain(|_, suspect| suspect.behind != behind);
        self.listings[behind.index()] += 1;
        self.tidy();
    }

    /// Every key that is not suspect is in sync: a walk has passed over the whole keyspace.
    pub fn settle_everything(&mut self) {
        self.in_sync = HashSet::default();
        self.refreshed();
        self.base = match self.next.take() {
            Some(behind) => Sync::Suspect(behind),
            None => Sync::InSync,
        };
    }

    /// Two databases were exchanged on both stores: the suspects move with their keys, and of the rest only what is
    /// known of all keys still holds. `hash` tells a key's hash in a database.
    pub fn swap(&mut self, a: u32, b: u32, hash: impl Fn(u32, &[u8]) -> u64) {
        self.in_sync.clear();
        let there = |db: u32| match db {
            db if db == a => b,
            db if db == b => a,
            db => db,
        };
        let suspects = std::mem::take(&mut self.suspects);
        self.order.clear();
        for (_, suspect) in suspects {
            let suspect = Suspect { db: there(suspect.db), ..suspect };
            let place = hash(suspect.db, &suspect.key);
            self.order.push_back(place);
            self.suspects.insert(place, suspect);
        }
    }

    /// Both stores were emptied, at a point of the order behind which only the listed keys have come into doubt.
    pub fn emptied(&mut self) {
        self.next = None;
        self.settle_everything();
    }

    /// The next suspect whose time has come and that `may` be tried; it goes to the end of the line.
    pub fn next_suspect(&mut self, now: u64, may: impl Fn(u64, &Suspect) -> bool) -> Option<(u64, Suspect)> {
        for _ in 0..self.order.len().min(LOOKED_AT) {
            let hash = self.order.pop_front()?;
            let Some(suspect) = self.suspects.get(&hash) else { continue };
            self.order.push_back(hash);
            if suspect.not_before <= now && may(hash, suspect) {
                return Some((hash, suspect.clone()));
            }
        }
        None
    }

    /// What is remembered of a key while an attempt to copy it is under way: it may be settled for that long.
    pub fn history(&self, hash: u64, now: u64) -> History {
        let known = self.suspects.get(&hash).map(|suspect| (suspect.since, suspect.attempts));
        let (since, attempts) = known.unwrap_or((now, 0));
        History { since, attempts }
    }

    /// An attempt to copy the key failed: the next one comes after a pause that doubles.
    pub fn postpone(&mut self, hash: u64, history: History, now: u64) {
        if let Some(suspect) = self.suspects.get_mut(&hash) {
            suspect.since = suspect.since.min(history.since);
            suspect.attempts = history.attempts + 1;
            suspect.not_before = now + (FIRST_PAUSE_MICROS << history.attempts.min(7));
        }
    }

    /// The key cannot be copied. Perhaps it has changed by `until`.
    pub fn give_up(&mut self, hash: u64, until: u64) {
        self.postpone_by(hash, until);
        if let Some(suspect) = self.suspects.get_mut(&hash) {
            suspect.given_up = true;
        }
    }

    /// No attempt before `until`.
    pub fn postpone_by(&mut self, hash: u64, until: u64) {
        if let Some(suspect) = self.suspects.get_mut(&hash) {
            suspect.not_before = until;
        }
    }

    /// Changes whenever other keys are listed as suspect on `store`.
    pub fn listings_of(&self, store: StoreId) -> u64 {
        self.listings[store.index()]
    }

    /// The keys that are listed as suspect on `store`.
    pub fn listed_behind(&self, store: StoreId) -> impl Iterator<Item = &Suspect> {
        self.suspects.values().filter(move |suspect| suspect.behind == store)
    }

    /// Suspect keys that are listed.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// Is any key suspect on this store?
    pub fn has_suspects_behind(&self, store: StoreId) -> bool {
        self.base == Sync::Suspect(store)
            || store == StoreId::Secondary && self.stale
            || self.suspects.values().any(|suspect| suspect.behind == store)
    }

    /// Rises whenever doubt has spread beyond what is listed: a walk that began before proves nothing.
    pub fn spread(&self) -> u64 {
        self.spread
    }

    /// Keys that are listed as in sync.
    pub fn listed_in_sync(&self) -> usize {
        self.in_sync.len()
    }

    /// Since when the oldest listed suspect waits.
    pub fn oldest(&self) -> Option<u64> {
        self.suspects.values().map(|suspect| suspect.since).min()
    }
}

/// Suspects looked at in one search.
const LOOKED_AT: usize = 256;
/// Failed attempts after which a copy is not just late.
const STUCK_ATTEMPTS: u32 = 3;
/// The pause after the first failed attempt.
const FIRST_PAUSE_MICROS: u64 = 50_000;
