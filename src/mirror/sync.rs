//! For every key: does the other store hold what the default store holds?
//!
//! Pure and bounded. When memory ends, doubt grows: what was in sync becomes unknown, many suspects become a
//! suspect database, never the other way.
//!
//! Each database has a ground, which is what is known of keys that are not listed: unknown at first, in sync after a
//! walk over all keys, suspect after trouble that nobody can pin on single keys. What is listed stands above it.

mod database;
mod fingerprints;
mod stamps;
mod suspects;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use database::{Database, Ground};
use foldhash::quality::FixedState;
pub use stamps::Stamp;
use stamps::Stamps;
use suspects::{Place, Suspects};

use crate::stage::{STORES, StoreId};

/// What is known of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// Both stores hold the same, once their lanes are empty.
    InSync,
    /// It was not touched since dual began: a cold store may lack it.
    Unknown,
    /// This store is behind.
    Suspect(StoreId),
}

/// Where memory ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Keys that are known to be in sync, at up to 22 bytes each.
    pub in_sync: usize,
    /// Keys that are known not to be, in a database that otherwise is in sync.
    pub exceptions: usize,
    /// Suspect keys.
    pub suspects: usize,
    /// Bytes of the names of suspect keys.
    pub suspect_bytes: usize,
    /// Databases.
    pub databases: usize,
}

/// What became of a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The key is listed.
    Listed,
    /// The whole database was suspect already, or is now, since more keys could not be listed.
    WholeDatabase,
    /// The other store is suspected of the same key: that stands, and somebody has to decide.
    Disputed,
}

/// A suspect key that is being repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its database.
    pub db: u32,
    /// The key.
    pub key: Arc<[u8]>,
    /// The store that is behind.
    pub behind: StoreId,
    /// The other store is suspected, too: what would be copied may be the older value.
    pub disputed: bool,
    /// When it became suspect, by the caller's clock.
    pub since: u64,
    /// How often a repair was given up.
    pub attempts: u32,
    /// Which suspicion it is about: a later one is not lifted by this repair.
    mark: u64,
}

/// A walk over all keys of a database, after which everything is in sync but what is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Which database.
    pub db: u32,
    mark: u64,
}

/// A database that is suspect as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspectDatabase {
    /// Which one.
    pub db: u32,
    /// The store that is behind.
    pub behind: StoreId,
    /// The other store is behind in some keys, too, and nobody knows in which: an operator has to name the source.
    pub disputed: bool,
}

/// Numbers for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys listed as in sync.
    pub in_sync: usize,
    /// Keys listed as unknown.
    pub exceptions: usize,
    /// Suspect keys, by store.
    pub suspects: [usize; STORES],
    /// Suspect databases, by store; one more if databases are suspect that nobody has used.
    pub databases: [usize; STORES],
    /// Since when the oldest listed key is suspect, by the caller's clock.
    pub oldest_suspect: Option<u64>,
    /// Keys that were forgotten to be in sync because memory ended.
    pub evicted: u64,
    /// How often a database became suspect because memory ended.
    pub overflows: u64,
    /// Suspicions against both stores at once.
    pub disputed: u64,
}

/// What is known of all keys of an instance.
#[derive(Debug)]
pub struct Knowledge {
    limits: Limits,
    hasher: FixedState,
    /// Which of `databases` a number means; SWAPDB changes it.
    numbers: HashMap<u32, usize>,
    databases: Vec<Database>,
    /// The ground of databases that are not listed.
    ground: Ground,
    suspects: Suspects,
    stamps: Stamps,
    in_sync: usize,
    /// Rises with each suspicion and walk.
    tick: u64,
    /// State of the generator that chooses what is forgotten.
    random: u64,
    evicted: u64,
    overflows: u64,
    disputed: u64,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_sync: 1 << 22,
            exceptions: 1 << 16,
            suspects: 100_000,
            suspect_bytes: 64 << 20,
            databases: 1024,
        }
    }
}

// === impl Knowledge ===

impl Knowledge {
    /// Nothing is known. `seed` makes hashes unpredictable; equal seeds forget the same keys.
    pub fn new(seed: u64, limits: Limits) -> Self {
        Self {
            limits,
            hasher: FixedState::with_seed(seed),
            numbers: HashMap::new(),
            databases: Vec::new(),
            ground: Ground::Unknown,
            suspects: Suspects::default(),
            stamps: Stamps::new(),
            in_sync: 0,
            tick: 0,
            random: seed | 1,
            evicted: 0,
            overflows: 0,
            disputed: 0,
        }
    }

    /// What is known of a key.
    #[inline]
    pub fn get(&self, db: u32, key: &[u8]) -> Sync {
        match self.numbers.get(&db).and_then(|slot| self.databases.get(*slot)) {
            Some(database) => database.get(key, || self.hash(key)),
            None => self.ground.sync(),
        }
    }

    /// What is known of keys of a database that are not listed.
    pub fn ground(&self, db: u32) -> Sync {
        self.numbers
            .get(&db)
            .and_then(|slot| self.databases.get(*slot))
            .map_or(self.ground, |db| db.ground)
            .sync()
    }

    /// Both stores are given the same whole value, or a repair is done.
    pub fn set_in_sync(&mut self, db: u32, key: &[u8]) {
        let hash = self.hash(key);
        let Some(slot) = self.slot(db) else { return };
        let Some(database) = self.databases.get_mut(slot) else { return };
        if let Some(suspect) = database.clear_suspect(key) {
            self.suspects.remove(&suspect);
        }
        database.exceptions.remove(&hash);
        if let Some(walking) = &mut database.walking {
            walking.exceptions.remove(&hash);
        } else if database.ground == Ground::InSync {
            return;
        }
        if !database.in_sync.contains(hash) && self.make_room(slot) {
            self.list_in_sync(slot, hash);
        }
    }

    /// A mirrored write to this key was lost, refused or answered differently by this store, or it has to be
    /// copied to it. `now` is the caller's clock.
    pub fn set_suspect(&mut self, behind: StoreId, db: u32, key: &[u8], now: u64) -> Noted {
        self.tick += 1;
        let hash = self.hash(key);
        let Some(slot) = self.slot(db) else {
            self.overflows += 1;
            self.store_suspect(behind);
            return Noted::WholeDatabase;
        };
        let Some(database) = self.databases.get_mut(slot) else { return Noted::WholeDatabase };
        let was = database.get(key, || hash);
        if database.in_sync.remove(hash) {
            self.in_sync -= 1;
        }
        if let Some(entry) = database.suspects.get_mut(key) {
            entry.mark = self.tick;
            entry.disputed |= entry.behind != behind;
            return if entry.behind == behind { Noted::Listed } else { self.dispute() };
        }
        let first = match was {
            Sync::Suspect(store) if store == behind => return Noted::WholeDatabase,
            Sync::Suspect(store) => store,
            _ => behind,
        };
        if !self.make_room_for_suspect(slot, behind, key.len()) {
            return Noted::WholeDatabase;
        }
        self.list_suspect(slot, first, key, now, first != behind);
        if first == behind { Noted::Listed } else { self.dispute() }
    }

    /// What was known of this key no longer holds. Suspicion stays.
    pub fn forget(&mut self, db: u32, key: &[u8]) {
        let hash = self.hash(key);
        let limit = self.limits.exceptions;
        let Some(slot) = self.slot(db) else {
            if self.ground == Ground::InSync {
                self.ground = Ground::Unknown;
            }
            return;
        };
        let Some(database) = self.databases.get_mut(slot) else { return };
        if database.in_sync.remove(hash) {
            self.in_sync -= 1;
        }
        database.except(hash, limit);
    }

    /// A database was left behind on this store, nobody knows where. False: the other store is suspected of the same
    /// database: that stands, and somebody has to decide.
    pub fn database_suspect(&mut self, behind: StoreId, db: u32) -> bool {
        self.tick += 1;
        match self.slot(db) {
            Some(slot) => self.slot_suspect(behind, slot),
            None => self.store_suspect(behind),
        }
    }

    /// A store was left behind, nobody knows where. False: the other store is suspected of some database: that
    /// stands.
    pub fn store_suspect(&mut self, behind: StoreId) -> bool {
        self.tick += 1;
        let mut undisputed = true;
        for slot in 0..self.databases.len() {
            undisputed &= self.slot_suspect(behind, slot);
        }
        match self.ground {
            Ground::Suspect(store) if store != behind => {
                self.dispute();
                undisputed = false;
            }
            _ => self.ground = Ground::Suspect(behind),
        }
        undisputed
    }

    /// Dual is off: from now on this store falls behind as a whole, and the other one is right by definition.
    /// Returns how many suspicions against that one are dropped.
    pub fn leave_dual(&mut self, left_behind: StoreId) -> usize {
        self.tick += 1;
        let grounds = self.databases.iter().map(|db| db.ground).chain([self.ground]);
        let against = grounds.filter(|ground| *ground == Ground::Suspect(left_behind.other())).count();
        let dropped = self.suspects.count(left_behind.other()) + against;
        self.reset(Ground::Suspect(left_behind));
        dropped
    }

    /// Both stores are emptied: FLUSHALL.
    pub fn flush_all(&mut self) {
        self.tick += 1;
        self.reset(Ground::InSync);
    }

    /// A database is emptied on both stores: FLUSHDB.
    pub fn flush(&mut self, db: u32) {
        self.tick += 1;
        if let Some(slot) = self.slot(db) {
            self.empty(slot, Ground::InSync);
        }
        self.stamps.touch_all();
    }

    /// Two databases change their names: SWAPDB.
    pub fn swap(&mut self, one: u32, two: u32) {
        self.tick += 1;
        let (Some(first), Some(second)) = (self.slot(one), self.slot(two)) else {
            // There is no room to remember; each may now be what the other was.
            for store in StoreId::ALL {
                if [one, two].iter().any(|db| self.ground(*db) == Sync::Suspect(store)) {
                    self.store_suspect(store);
                }
            }
            self.ground = if self.ground == Ground::InSync { Ground::Unknown } else { self.ground };
            return;
        };
        self.numbers.insert(one, second);
        self.numbers.insert(two, first);
        for (slot, db) in [(second, one), (first, two)] {
            if let Some(database) = self.databases.get_mut(slot) {
                database.number = db;
                database.walking = None;
            }
        }
        self.stamps.touch_all();
    }

    /// Everything in this database is in sync but what is listed.
    pub fn all_in_sync(&mut self, db: u32) {
        let walk = self.begin_walk(db);
        self.end_walk(walk);
    }

    /// A walk over all keys of a database begins. A walk that was under way there no longer counts.
    pub fn begin_walk(&mut self, db: u32) -> Walk {
        self.tick += 1;
        let mark = self.tick;
        if let Some(slot) = self.slot(db)
            && let Some(database) = self.databases.get_mut(slot)
        {
            database.begin_walk(mark);
        }
        Walk { db, mark }
    }

    /// The walk has passed over all keys, and each was found or made equal, or is listed. False: it doesn't count,
    /// because the whole database became suspect or another walk began meanwhile.
    pub fn end_walk(&mut self, walk: Walk) -> bool {
        let Some(database) = self.slot(walk.db).and_then(|slot| self.databases.get_mut(slot)) else {
            return false;
        };
        let before = database.in_sync.len();
        let counts = database.end_walk(walk.mark);
        self.in_sync = self.in_sync - before + database.in_sync.len();
        counts
    }

    /// Which stores may be behind in anything: what a state file has to remember.
    pub fn behind(&self) -> [bool; STORES] {
        StoreId::ALL.map(|store| {
            let whole = self.databases.iter().any(|db| db.ground == Ground::Suspect(store));
            whole || self.ground == Ground::Suspect(store) || self.suspects.count(store) > 0
        })
    }

    /// Databases that are suspect as a whole, of those that were used.
    pub fn suspect_databases(&self) -> impl Iterator<Item = SuspectDatabase> {
        self.databases.iter().filter_map(|db| match db.ground {
            Ground::Suspect(behind) => Some(SuspectDatabase { db: db.number, behind, disputed: db.disputed }),
            _ => None,
        })
    }

    /// The store that is behind in databases that were not used yet, if they are suspect.
    pub fn suspect_rest(&self) -> Option<StoreId> {
        match self.ground {
            Ground::Suspect(behind) => Some(behind),
            _ => None,
        }
    }

    /// Numbers for an operator.
    pub fn counts(&self) -> Counts {
        let databases = StoreId::ALL.map(|store| {
            self.suspect_databases().filter(|one| one.behind == store).count()
                + usize::from(self.ground == Ground::Suspect(store))
        });
        Counts {
            in_sync: self.in_sync,
            exceptions: self.databases.iter().map(|db| db.exceptions.len()).sum(),
            suspects: StoreId::ALL.map(|store| self.suspects.count(store)),
            databases,
            oldest_suspect: self.suspects.oldest(),
            evicted: self.evicted,
            overflows: self.overflows,
            disputed: self.disputed,
        }
    }

    // --- repair ---

    /// The suspect key that has waited longest, among those that may be tried now. It stays suspect until
    /// [`repaired`](Self::repaired) or [`set_in_sync`](Self::set_in_sync).
    pub fn take(&mut self, now: u64) -> Option<Task> {
        let (slot, key) = self.suspects.take(now)?;
        let database = self.databases.get(slot)?;
        let entry = database.suspects.get(&key)?;
        Some(Task {
            db: database.number,
            behind: entry.behind,
            disputed: entry.disputed,
            since: entry.since,
            attempts: entry.attempts,
            mark: entry.mark,
            key,
        })
    }

    /// When [`take`](Self::take) will find something, if nothing else happens.
    pub fn next_ready(&self) -> Option<u64> {
        self.suspects.next_ready()
    }

    /// The repair is done: the value was copied. False: the key became suspect once more meanwhile, and is put back.
    pub fn repaired(&mut self, task: &Task, now: u64) -> bool {
        match self.mark_of(task) {
            Some(mark) if mark == task.mark => {
                self.set_in_sync(task.db, &task.key);
                true
            }
            _ => {
                self.give_back(task, now);
                false
            }
        }
    }

    /// The repair did not succeed and is tried again at `not_before`.
    pub fn give_back(&mut self, task: &Task, not_before: u64) {
        let Some(slot) = self.numbers.get(&task.db).copied() else { return };
        let Some(entry) = self.databases.get_mut(slot).and_then(|db| db.suspects.get_mut(&task.key)) else {
            return;
        };
        entry.attempts += 1;
        self.suspects.put_back(entry.sequence, not_before);
    }

    fn mark_of(&self, task: &Task) -> Option<u64> {
        let slot = self.numbers.get(&task.db)?;
        self.databases.get(*slot)?.suspects.get(&task.key).map(|entry| entry.mark)
    }

    // --- stamps ---

    /// A write to this key is sequenced.
    pub fn touch(&mut self, db: u32, key: &[u8]) -> Stamp {
        let hash = self.hash(key);
        self.stamps.touch(db, hash)
    }

    /// A write to keys that nobody can name is sequenced.
    pub fn touch_all(&mut self) -> Stamp {
        self.stamps.touch_all()
    }

    /// The last write to this key: equal stamps mean that none was sequenced in between. (Unequal ones may be about
    /// another key.)
    pub fn stamp(&self, db: u32, key: &[u8]) -> Stamp {
        self.stamps.get(db, self.hash(key))
    }

    // --- inside ---

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    fn dispute(&mut self) -> Noted {
        self.disputed += 1;
        Noted::Disputed
    }

    /// The place of a database, which is made on first use while there is room.
    fn slot(&mut self, db: u32) -> Option<usize> {
        if let Some(slot) = self.numbers.get(&db) {
            return Some(*slot);
        }
        if self.databases.len() >= self.limits.databases {
            return None;
        }
        let slot = self.databases.len();
        self.databases.push(Database::new(db, self.ground));
        self.numbers.insert(db, slot);
        Some(slot)
    }

    fn reset(&mut self, ground: Ground) {
        self.ground = ground;
        self.databases.clear();
        self.numbers.clear();
        self.suspects.clear();
        self.in_sync = 0;
        self.stamps.touch_all();
    }

    fn empty(&mut self, slot: usize, ground: Ground) {
        let Some(database) = self.databases.get_mut(slot) else { return };
        self.in_sync -= database.in_sync.len();
        for entry in database.suspects.values() {
            self.suspects.remove(&entry.place());
        }
        *database = Database::new(database.number, ground);
    }

    fn slot_suspect(&mut self, behind: StoreId, slot: usize) -> bool {
        let Some(database) = self.databases.get_mut(slot) else { return true };
        self.in_sync -= database.in_sync.len();
        let undisputed = database.becomes_suspect(behind);
        for place in database.unlist(behind) {
            self.suspects.remove(&place);
        }
        if !undisputed {
            self.disputed += 1;
        }
        undisputed
    }

    /// Makes room for one more key that is in sync. False: there is none.
    fn make_room(&mut self, slot: usize) -> bool {
        if self.in_sync < self.limits.in_sync {
            return true;
        }
        // No database may take everything: the fullest one gives way to those that have less than their share.
        let share = self.limits.in_sync / self.databases.len().max(1);
        let own = self.databases.get(slot).map_or(0, |db| db.in_sync.len());
        let fullest =
            || (0..self.databases.len()).max_by_key(|at| self.databases.get(*at).map(|db| db.in_sync.len()));
        let victim = if own < share { fullest().unwrap_or(slot) } else { slot };
        let Some(database) = self.databases.get_mut(victim) else { return false };
        if !database.in_sync.evict(&mut self.random) {
            return false;
        }
        self.in_sync -= 1;
        self.evicted += 1;
        true
    }

    fn list_in_sync(&mut self, slot: usize, hash: u64) {
        if let Some(database) = self.databases.get_mut(slot)
            && database.in_sync.insert(hash)
        {
            self.in_sync += 1;
        }
    }

    /// Makes room for one more suspect. False: its whole database is suspect instead.
    fn make_room_for_suspect(&mut self, slot: usize, behind: StoreId, bytes: usize) -> bool {
        while self.suspects.len() >= self.limits.suspects
            || self.suspects.bytes() + bytes > self.limits.suspect_bytes
        {
            self.overflows += 1;
            let listed =
                |at: usize, store: StoreId| self.databases.get(at).map_or(0, |db| db.counts[store.index()]);
            let all = (0..self.databases.len()).flat_map(|at| StoreId::ALL.map(|store| (at, store)));
            let fullest = all.max_by_key(|(at, store)| listed(*at, *store));
            let _ = match fullest.filter(|(at, store)| listed(*at, *store) > 0) {
                Some((at, store)) => self.slot_suspect(store, at),
                // A single name is longer than all names may be.
                None => self.slot_suspect(behind, slot),
            };
            // What this key was added for is said of all keys of its database by now.
            if self.databases.get(slot).is_some_and(|db| db.is_suspect(behind)) {
                return false;
            }
        }
        true
    }

    fn list_suspect(&mut self, slot: usize, behind: StoreId, key: &[u8], now: u64, disputed: bool) {
        let place = Place { sequence: self.tick, behind, bytes: key.len() };
        let key: Arc<[u8]> = key.into();
        self.suspects.insert(place, slot, key.clone(), now);
        if let Some(database) = self.databases.get_mut(slot) {
            database.list_suspect(key, place, now, disputed);
        }
    }
}
