//! What is known of the keys of one database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Sync;
use super::fingerprints::Fingerprints;
use super::suspects::Place;
use crate::stage::{STORES, StoreId};

/// What is known of keys that are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    Unknown,
    InSync,
    Suspect(StoreId),
}

/// One suspect key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) behind: StoreId,
    pub(super) since: u64,
    pub(super) attempts: u32,
    /// Its last suspicion.
    pub(super) mark: u64,
    pub(super) sequence: u64,
    /// The other store is suspected of the same key.
    pub(super) disputed: bool,
    bytes: usize,
}

/// A walk over all keys that has not ended.
#[derive(Debug)]
pub(super) struct Walking {
    mark: u64,
    /// Keys that were forgotten since it began; the walk may have passed them.
    pub(super) exceptions: HashSet<u64>,
}

/// One database.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) number: u32,
    pub(super) ground: Ground,
    /// The ground is suspect, and the other store is behind in some keys, too.
    pub(super) disputed: bool,
    /// Keys in sync, by hash, where the ground is not.
    pub(super) in_sync: Fingerprints,
    /// Keys unknown, by hash, where the ground is in sync.
    pub(super) exceptions: HashSet<u64>,
    pub(super) suspects: HashMap<Arc<[u8]>, Entry>,
    /// How many suspects there are, by store.
    pub(super) counts: [usize; STORES],
    pub(super) walking: Option<Walking>,
}

// === impl Ground ===

impl Ground {
    pub(super) fn sync(self) -> Sync {
        match self {
            Self::Unknown => Sync::Unknown,
            Self::InSync => Sync::InSync,
            Self::Suspect(store) => Sync::Suspect(store),
        }
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn place(&self) -> Place {
        Place { sequence: self.sequence, behind: self.behind, bytes: self.bytes }
    }
}

// === impl Database ===

impl Database {
    pub(super) fn new(number: u32, ground: Ground) -> Self {
        Self {
            number,
            ground,
            disputed: false,
            in_sync: Fingerprints::default(),
            exceptions: HashSet::new(),
            suspects: HashMap::new(),
            counts: [0; STORES],
            walking: None,
        }
    }

    #[inline]
    pub(super) fn get(&self, key: &[u8], hash: impl Fn() -> u64) -> Sync {
        if !self.suspects.is_empty()
            && let Some(entry) = self.suspects.get(key)
        {
            return Sync::Suspect(entry.behind);
        }
        match self.ground {
            Ground::InSync if self.exceptions.is_empty() || !self.exceptions.contains(&hash()) => {
                Sync::InSync
            }
            Ground::InSync => Sync::Unknown,
            _ if self.in_sync.len() > 0 && self.in_sync.contains(hash()) => Sync::InSync,
            ground => ground.sync(),
        }
    }

    /// A key becomes unknown again. More than `limit` of them make all keys unknown.
    pub(super) fn except(&mut self, hash: u64, limit: usize) {
        if let Some(walking) = &mut self.walking {
            walking.exceptions.insert(hash);
            if walking.exceptions.len() > limit {
                self.walking = None;
            }
        }
        if self.ground == Ground::InSync {
            self.exceptions.insert(hash);
            if self.exceptions.len() > limit {
                self.exceptions = HashSet::new();
                self.ground = Ground::Unknown;
            }
        }
    }

    pub(super) fn list_suspect(&mut self, key: Arc<[u8]>, place: Place, now: u64, disputed: bool) {
        let Place { sequence, behind, bytes } = place;
        self.counts[behind.index()] += 1;
        self.suspects.insert(
            key,
            Entry { behind, since: now, attempts: 0, mark: sequence, sequence, bytes, disputed },
        );
    }

    pub(super) fn clear_suspect(&mut self, key: &[u8]) -> Option<Place> {
        let entry = self.suspects.remove(key)?;
        self.counts[entry.behind.index()] -= 1;
        Some(entry.place())
    }

    /// All of it, on this store. What was in sync is not any more. False: the other store is suspected already; that
    /// stands.
    pub(super) fn becomes_suspect(&mut self, behind: StoreId) -> bool {
        self.walking = None;
        self.in_sync = Fingerprints::default();
        self.exceptions = HashSet::new();
        if let Ground::Suspect(store) = self.ground
            && store != behind
        {
            self.disputed = true;
            return false;
        }
        self.ground = Ground::Suspect(behind);
        true
    }

    /// Takes the suspects on this store off the list: the ground says it of all keys now.
    pub(super) fn unlist(&mut self, behind: StoreId) -> Vec<Place> {
        self.counts[behind.index()] = 0;
        let unlisted = self.suspects.extract_if(|_, entry| entry.behind == behind);
        let places = unlisted.map(|(_, entry)| {
            self.disputed |= entry.disputed;
            entry.place()
        });
        places.collect()
    }

    /// Whether all keys are suspected on this store.
    pub(super) fn is_suspect(&self, behind: StoreId) -> bool {
        self.ground == Ground::Suspect(behind) || (self.disputed && matches!(self.ground, Ground::Suspect(_)))
    }

    pub(super) fn begin_walk(&mut self, mark: u64) {
        self.walking = Some(Walking { mark, exceptions: HashSet::new() });
    }

    /// False: it was not this walk, or it doesn't count any more.
    pub(super) fn end_walk(&mut self, mark: u64) -> bool {
        let Some(walking) = self.walking.take_if(|walking| walking.mark == mark) else { return false };
        self.ground = Ground::InSync;
        self.disputed = false;
        self.exceptions = walking.exceptions;
        self.in_sync = Fingerprints::default();
        true
    }
}
