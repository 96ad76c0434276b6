//! Copies of keys from the store that is right to the one that is behind: which, when, and how many at once.
//!
//! No lane waits for a copy, and no newer write is overwritten: a key that was written since it was read is read
//! again, and from the moment that its value is appended later writes follow it in the same order on both stores.
//!
//! - `group`: many keys that are read together, for backfill;
//! - `rounds`: one copy, from the question how large the key is to its value on its way;
//! - `outcome`: what became of it;
//! - `payload`: in one go, by DUMP and RESTORE;
//! - `typed`: with the commands of its type, where the payload is refused, or by pieces where the key is large.

mod group;
mod outcome;
mod payload;
mod rounds;
mod typed;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use slab::Slab;

use crate::stage::StoreId;

use super::Sequencer;
use super::fence::{Footprint, KeyRef};
use super::knowledge::{History, Sync};
use super::op::Owner;

use group::Group;
pub use group::GroupKey;
use payload::Payloads;
use rounds::Means;

/// A copy under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopyKey {
    index: u32,
    id: u64,
}

/// A copy under way.
#[derive(Debug)]
pub(super) struct Copy {
    id: u64,
    db: u32,
    key: Box<[u8]>,
    hash: u64,
    from: StoreId,
    /// What the other store has is replaced; else it is kept if it has anything.
    replace: bool,
    /// A write to the key was sequenced since it was read.
    pub dirty: bool,
    /// Reads so far.
    rounds: u32,
    /// How it is read and written.
    means: Means,
    /// Who waits for it behind a fence.
    hydration: Option<u64>,
    /// A fence that only keeps the key from changing must come down by then.
    fenced_until: Option<u64>,
    /// The value is on its way.
    applied: bool,
    /// When the read was sent whose reply tells the time to live.
    read_at: u64,
    /// Between which moments what was read ends, if it does.
    end: Option<(u64, u64)>,
    /// When a time to live that counts from when it is set was put on its way.
    expiring_since: Option<u64>,
    /// What came before: since when the key is suspect, and how many attempts have failed.
    history: History,
}

/// All copies under way.
#[derive(Debug)]
pub(super) struct Copies {
    slab: Slab<Copy>,
    by_hash: HashMap<u64, CopyKey, foldhash::fast::RandomState>,
    groups: Slab<Group>,
    next: u64,
    next_hydration: u64,
    /// Copies that wait until fewer are made by pieces.
    queue: VecDeque<CopyKey>,
    /// By the store that is read: does the other one take its payloads?
    payloads: [Payloads; 2],
    /// What a store refused last, so that the log says it once.
    refusal: String,
    /// Tells this process's keys under construction from those of others.
    token: u64,
}

/// What copies have come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyCounts {
    /// Keys copied.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Keys above `copy_max_bytes` that could not be copied by pieces, left suspect.
    pub too_large: u64,
    /// Keys that the other store cannot hold, left suspect.
    pub unsupported: u64,
    /// Bytes of the payloads that were copied.
    pub bytes: u64,
}

/// What comes of the wish to copy keys to the default store before a write that needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hydration {
    /// They are being copied behind a fence: the write is to be held.
    Begun,
    /// A store is down, or there is nothing to copy: the default store goes on alone.
    Unreachable,
    /// The default store has just refused them, with this error frame.
    Refused(Box<[u8]>),
}

/// Copies under way at once, beside those that a fence waits for.
pub const MAX_COPIES: usize = 64;
/// The same while clients are at work: they wait behind what all of these read and write in one turn.
const COPIES_BESIDE_CLIENTS: usize = 16;
/// Copies by pieces under way at once, beside those that a client waits for: each has a page on one of the lanes.
const MAX_BY_PIECES: usize = 4;
/// Keys under construction are called this and a number. They live for a minute after their last piece.
const SCRATCH_PREFIX: &[u8] = b"multistore:copy:";

/// Is this the name of a key under construction? Such a key is no data: nobody is to copy or to compare it.
pub fn is_scratch(key: &[u8]) -> bool {
    key.starts_with(SCRATCH_PREFIX)
}

// === impl Copies ===

impl Default for Copies {
    fn default() -> Copies {
        Copies {
            slab: Slab::new(),
            by_hash: HashMap::default(),
            groups: Slab::new(),
            next: 0,
            next_hydration: 0,
            queue: VecDeque::new(),
            payloads: [Payloads::Untried; 2],
            refusal: String::new(),
            token: RandomState::new().hash_one(0),
        }
    }
}

impl Copies {
    pub fn of_mut(&mut self, hash: u64) -> Option<&mut Copy> {
        let key = *self.by_hash.get(&hash)?;
        self.slab.get_mut(key.index as usize)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    fn get(&self, key: CopyKey) -> Option<&Copy> {
        self.slab.get(key.index as usize).filter(|copy| copy.id == key.id)
    }

    fn get_mut(&mut self, key: CopyKey) -> Option<&mut Copy> {
        self.slab.get_mut(key.index as usize).filter(|copy| copy.id == key.id)
    }

    fn remove(&mut self, key: CopyKey) -> Option<Copy> {
        self.get(key)?;
        let copy = self.slab.remove(key.index as usize);
        self.by_hash.remove(&copy.hash);
        Some(copy)
    }

    /// Is this the write of a copy that keeps what the store has? Only its answer tells what the store holds now, and
    /// from when a time to live has counted there.
    pub fn must_be_heard_of(&self, owner: Owner) -> bool {
        matches!(owner, Owner::CopyWrite(key) if self.get(key).is_some_and(|copy| copy.applied && !copy.replace))
    }

    /// Copies by pieces that no client waits for.
    fn by_pieces(&self) -> usize {
        self.slab.iter().filter(|(_, copy)| copy.hydration.is_none() && copy.means.is_paged()).count()
    }

    fn scratch(&self, key: CopyKey) -> Vec<u8> {
        let mut name = SCRATCH_PREFIX.to_vec();
        name.extend_from_slice(format!("{:016x}:{}", self.token, key.id).as_bytes());
        name
    }
}

// === impl Sequencer ===

impl Sequencer {
    pub(super) fn dirty_copy(&mut self, hash: u64) {
        if self.copies.len() > 0
            && let Some(copy) = self.copies.of_mut(hash)
        {
            copy.dirty = true;
        }
    }

    pub(super) fn dirty_all_copies(&mut self) {
        self.copies.slab.iter_mut().for_each(|(_, copy)| copy.dirty = true);
    }

    /// Dual is over: nothing is copied any more; whoever waited goes on.
    pub(super) fn drop_copies(&mut self) {
        let dropped = std::mem::take(&mut self.copies.slab);
        self.copies.by_hash.clear();
        self.copies.queue.clear();
        self.copies.groups.clear();
        for (_, copy) in dropped {
            self.drop_scratch(copy.from.other(), copy.db, &copy.means);
            copy.hydration.into_iter().for_each(|id| self.hydrated(id, None));
        }
    }

    /// The default store may have changed: a copy that is on its way to it counts when it has answered. Until then its
    /// key is listed, for after a crash nobody else would know that the new default store lacks it. Where the copy
    /// does not replace what the store has, nothing is known of the key.
    pub(super) fn unsettle_copies(&mut self) {
        let (default, now) = (self.default_store(), self.now);
        for (_, copy) in self.copies.slab.iter().filter(|(_, copy)| copy.applied && copy.from != default) {
            if copy.replace {
                self.known.doubt(copy.hash, copy.db, &copy.key, default, now);
            } else {
                self.known.unsettle(copy.hash, copy.db, &copy.key, default, now);
            }
        }
    }

    /// The newest copy that was begun: what [`Sequencer::has_copies_up_to`] takes.
    pub fn newest_copy(&self) -> u64 {
        self.copies.next
    }

    /// Is a copy under way that was begun before, or as, this one?
    pub fn has_copies_up_to(&self, newest: u64) -> bool {
        self.copies.slab.iter().any(|(_, copy)| copy.id <= newest)
    }

    pub(super) fn is_copy_on_its_way_to(&self, store: StoreId) -> bool {
        self.copies.slab.iter().any(|(_, copy)| copy.applied && copy.from != store)
    }

    /// May a walk begin one more copy? It begins as many in one turn as it may.
    pub fn has_room_to_copy(&self) -> bool {
        let alone = self.ops.len() <= self.copies.len();
        self.copies.len() < if alone { MAX_COPIES } else { COPIES_BESIDE_CLIENTS }
    }

    /// How many copies are under way.
    pub fn copies_under_way(&self) -> usize {
        self.copies.len()
    }

    /// What copies have come to.
    pub fn copy_counts(&self) -> CopyCounts {
        self.copy_counts
    }

    /// One of the stores is of another version now: it may take payloads that it refused.
    pub fn forget_refused_payloads(&mut self) {
        self.copies.payloads = [Payloads::Untried; 2];
    }

    /// Copies this key to `behind`, unless that is under way. Only while dual: what is copied counts as in sync,
    /// which it stays only as long as writes are mirrored.
    pub fn copy_key(&mut self, db: u32, key: &[u8], hash: u64, behind: StoreId) {
        if !self.stage().is_dual() || is_scratch(key) {
            return;
        }
        // The other way round: this store is right about this key, whatever is said of the rest.
        if self.known.of(hash) == Sync::Suspect(behind.other()) {
            return;
        }
        // It is listed if the copy fails. Listing it before would fill the list, and spread doubt, on every walk.
        if !self.copies.by_hash.contains_key(&hash) {
            self.start_copy(db, key, hash, behind.other(), true, None);
        }
    }

    /// A key that only the secondary has was read: it is copied to the primary, which lacked it, or has lost it (it may
    /// evict).
    pub(super) fn copy_found(&mut self, db: u32, key: &[u8], hash: u64) {
        let counts = match self.known.of(hash) {
            Sync::Unknown => true,
            Sync::InSync => self.default_store() == StoreId::Secondary,
            Sync::Suspect(_) => false,
        };
        let wanted = counts
            && self.settings.hydrate
            && self.stage().is_dual()
            && self.lane(StoreId::Primary).accepts()
            && self.copies.len() < MAX_COPIES
            && !self.copies.by_hash.contains_key(&hash);
        if wanted {
            let replace = self.default_store() == StoreId::Secondary;
            self.start_copy(db, key, hash, StoreId::Secondary, replace, None);
        }
    }

    /// Copies a key that only the secondary has to the primary, which is the default store.
    pub fn fetch_key(&mut self, db: u32, key: &[u8], hash: u64) {
        self.copy_found(db, key, hash);
    }

    /// The stores were seen to differ in this key: the default store is right, unless the key is one that it has
    /// never known and only the secondary has.
    pub fn repair_key(&mut self, db: u32, key: &[u8], hash: u64, only_secondary: bool) {
        if !self.stage().is_dual() || is_scratch(key) {
            return;
        }
        let (now, default) = (self.now, self.default_store());
        let fetched = only_secondary && default == StoreId::Primary && self.known.of(hash) == Sync::Unknown;
        let behind = if fetched { default } else { default.other() };
        match self.known.of(hash) {
            Sync::Suspect(_) => {}
            Sync::InSync | Sync::Unknown => self.known.doubt(hash, db, key, behind, now),
        }
    }

    /// Copies suspect keys, as many at once as may be.
    pub(super) fn repair(&mut self) {
        if !self.stage().is_dual() || !self.lanes.iter().all(super::lane::Lane::is_up) {
            return;
        }
        while self.copies.len() < MAX_COPIES && !self.repairs_held {
            let copies = &self.copies.by_hash;
            let next = self.known.next_suspect(self.now, |hash, _| !copies.contains_key(&hash));
            let Some((hash, suspect)) = next else { return };
            self.start_copy(suspect.db, &suspect.key, hash, suspect.behind.other(), true, None);
        }
    }

    /// Copies what the default store lacks of these keys; until it has answered that it has them a fence holds them.
    pub(super) fn hydrate(&mut self, footprint: &Footprint, frame: &[u8], db: u32) -> Hydration {
        if let Some(error) = footprint.keys().iter().find_map(|key| self.refused_copies.get(&key.hash)) {
            return Hydration::Refused(error.clone());
        }
        let default = self.default_store();
        let mut wanted: Vec<(KeyRef, StoreId, bool)> = Vec::new();
        let mut seen: HashSet<u64, foldhash::fast::RandomState> = HashSet::default();
        for key in footprint.keys() {
            let (from, replace) = match self.held_of(key.hash) {
                Sync::Unknown if default == StoreId::Primary => (StoreId::Secondary, false),
                Sync::Suspect(behind) if behind == default => (behind.other(), true),
                _ => continue,
            };
            if seen.insert(key.hash) {
                wanted.push((*key, from, replace));
            }
        }
        if wanted.is_empty() || !self.lanes.iter().all(super::lane::Lane::accepts) {
            return Hydration::Unreachable;
        }
        self.copies.next_hydration += 1;
        let id = self.copies.next_hydration;
        let fenced = Footprint::Keys(wanted.iter().map(|(key, ..)| *key).collect());
        self.raise_hydration(id, fenced, wanted.len());
        for (key, from, replace) in wanted {
            if let Some(copy) =
                self.copies.of_mut(key.hash).filter(|copy| copy.applied && !copy.dirty && copy.from == from)
            {
                copy.hydration = Some(id);
                continue;
            }
            self.abandon_copy(key.hash);
            self.start_copy(db, key.of(frame), key.hash, from, replace, Some(id));
        }
        Hydration::Begun
    }

    /// A copy that a hydration replaces; what it has appended stays where it is in the order.
    fn abandon_copy(&mut self, hash: u64) {
        if let Some(key) = self.copies.by_hash.get(&hash).copied() {
            self.end_copy(key, None);
        }
    }

    fn start_copy(
        &mut self,
        db: u32,
        key: &[u8],
        hash: u64,
        from: StoreId,
        replace: bool,
        hydration: Option<u64>,
    ) {
        let key = self.insert_copy(db, key, hash, from, replace, hydration);
        self.ask_size(key);
    }

    /// Notes that a copy is under way. Nothing has been asked for it yet.
    fn insert_copy(
        &mut self,
        db: u32,
        key: &[u8],
        hash: u64,
        from: StoreId,
        replace: bool,
        hydration: Option<u64>,
    ) -> CopyKey {
        self.copies.next += 1;
        let id = self.copies.next;
        let copy = Copy {
            id,
            db,
            key: key.into(),
            hash,
            from,
            replace,
            dirty: false,
            rounds: 0,
            means: Means::Size,
            hydration,
            fenced_until: None,
            applied: false,
            read_at: self.now,
            end: None,
            expiring_since: None,
            history: self.known.history(hash, self.now),
        };
        let index = self.copies.slab.insert(copy) as u32;
        let key = CopyKey { index, id };
        self.copies.by_hash.insert(hash, key);
        key
    }
}
