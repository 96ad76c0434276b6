//! Copies of keys from the store that is right to the one that is behind.
//!
//! Read on the right store's lane (MULTI, PTTL, DUMP, EXEC), written on the other lane (RESTORE)
//! when that is answered, unless a write to the key was sequenced meanwhile: then read again. No
//! lane waits for a copy, and no newer write is overwritten: from the moment the RESTORE is appended
//! later writes follow it in the same order on both stores.

use std::collections::HashMap;

use slab::Slab;

use crate::command::Access;
use crate::metrics::CopyOutcome;
use crate::resp::value::Value;
use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::Sequencer;
use super::fence::{Footprint, KeyRef};
use super::knowledge::{History, Sync};
use super::lane::Context;
use super::op::{Failure, Owner, Policy};

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
    /// Who waits for it behind a fence.
    hydration: Option<u64>,
    /// The size is known, or does not matter: somebody waits for the key.
    probed: bool,
    /// The RESTORE is on its way.
    applied: bool,
    read_at: u64,
    /// When a RESTORE with a time to live, which counts from when it runs, was put on its way.
    expiring_since: Option<u64>,
    /// What came before: since when the key is suspect, and how many attempts have failed.
    history: History,
}

/// All copies under way.
#[derive(Debug, Default)]
pub(super) struct Copies {
    slab: Slab<Copy>,
    by_hash: HashMap<u64, CopyKey, foldhash::fast::RandomState>,
    next: u64,
    next_hydration: u64,
}

/// What copies have come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyCounts {
    /// Keys copied.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Keys above `copy_max_bytes`, left suspect.
    pub too_large: u64,
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
/// Reads of a key that keeps changing, before a fence is put around it.
const MAX_ROUNDS: u32 = 3;
/// A key that is too large is looked at again after this pause: it may have shrunk.
const TOO_LARGE_PAUSE_MICROS: u64 = 60_000_000;

// === impl Copies ===

impl Copies {
    pub fn of_mut(&mut self, hash: u64) -> Option<&mut Copy> {
        let key = *self.by_hash.get(&hash)?;
        self.slab.get_mut(key.index as usize)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_hydrating(&self, hash: u64) -> bool {
        self.by_hash.get(&hash).and_then(|key| self.get(*key)).is_some_and(|copy| copy.hydration.is_some())
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
        let waiting: Vec<u64> = self.copies.slab.iter().filter_map(|(_, copy)| copy.hydration).collect();
        self.copies.slab.clear();
        self.copies.by_hash.clear();
        waiting.into_iter().for_each(|id| self.hydrated(id, None));
    }

    /// How many copies are under way.
    pub fn copies_under_way(&self) -> usize {
        self.copies.len()
    }

    /// What copies have come to.
    pub fn copy_counts(&self) -> CopyCounts {
        self.copy_counts
    }

    /// Copies this key to `behind`, unless that is under way. Only while dual: what is copied counts as in sync,
    /// which it stays only as long as writes are mirrored.
    pub fn copy_key(&mut self, db: u32, key: &[u8], hash: u64, behind: StoreId) {
        if !self.stage().is_dual() {
            return;
        }
        let now = self.now;
        match self.known.of(hash) {
            Sync::InSync => {}
            // The other way round: this store is right about this key, whatever is said of the rest.
            Sync::Suspect(store) if store != behind => return,
            Sync::Suspect(_) | Sync::Unknown => self.known.doubt(hash, db, key, behind, now),
        }
        if !self.copies.by_hash.contains_key(&hash) {
            self.start_copy(db, key, hash, behind.other(), true, None);
        }
    }

    /// A key that only the secondary has was read: it is copied to the primary, which lacked it.
    pub(super) fn copy_found(&mut self, db: u32, key: &[u8], hash: u64) {
        let wanted = self.settings.hydrate
            && self.stage().is_dual()
            && self.known.of(hash) == Sync::Unknown
            && self.copies.len() < MAX_COPIES
            && !self.copies.by_hash.contains_key(&hash);
        if wanted {
            let replace = self.default_store() == StoreId::Secondary;
            self.start_copy(db, key, hash, StoreId::Secondary, replace, None);
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
        if let Some((_, error)) = self
            .refused_copies
            .iter()
            .find(|(refused, _)| footprint.keys().iter().any(|key| key.hash == *refused))
        {
            return Hydration::Refused(error.clone());
        }
        let default = self.default_store();
        let mut wanted: Vec<(KeyRef, StoreId, bool)> = Vec::new();
        for key in footprint.keys() {
            let seen = wanted.iter().any(|(other, ..)| other.hash == key.hash);
            match self.known.of(key.hash) {
                Sync::Unknown if default == StoreId::Primary && !seen => {
                    wanted.push((*key, StoreId::Secondary, false));
                }
                Sync::Suspect(behind) if behind == default && !seen => {
                    wanted.push((*key, behind.other(), true));
                }
                _ => {}
            }
        }
        if wanted.is_empty() || !self.lanes.iter().all(super::lane::Lane::is_up) {
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
        if let Some(key) = self.copies.by_hash.get(&hash).copied()
            && let Some(copy) = self.copies.remove(key)
            && let Some(id) = copy.hydration
        {
            self.hydrated(id, None);
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
            hydration,
            probed: hydration.is_some(),
            applied: false,
            read_at: self.now,
            expiring_since: None,
            history: self.known.history(hash, self.now),
        };
        let index = self.copies.slab.insert(copy) as u32;
        let key = CopyKey { index, id };
        self.copies.by_hash.insert(hash, key);
        if hydration.is_some() { self.read_copy(key) } else { self.probe_copy(key) }
    }

    /// Asks for the size first: DUMP of a large key stops the server for everybody.
    fn probe_copy(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let (db, from) = (copy.db, copy.from);
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"MEMORY".as_slice(), b"USAGE", &copy.key]);
        self.copy_request(Owner::CopyRead(key), from, db, &frame, 1);
    }

    /// A server that does not tell the size is taken at its word that it has the key.
    fn probed(&mut self, key: CopyKey, frame: &[u8]) {
        let size = match Value::parse(frame) {
            Ok(Value::Int(size)) => u64::try_from(size).unwrap_or(0),
            _ => 0,
        };
        if size <= self.settings.copy_max_bytes {
            if let Some(copy) = self.copies.get_mut(key) {
                copy.probed = true;
            }
            self.read_copy(key);
            return;
        }
        let Some(copy) = self.copies.remove(key) else { return };
        let now = self.now;
        self.copy_counts.too_large += 1;
        self.metrics.copies[CopyOutcome::TooLarge].inc();
        self.known.doubt(copy.hash, copy.db, &copy.key, copy.from.other(), now);
        self.known.postpone_by(copy.hash, now + TOO_LARGE_PAUSE_MICROS);
        tracing::warn!(
            size,
            limit = self.settings.copy_max_bytes,
            "a key is above copy_max_bytes and stays suspect on the {} store: raise the limit, or write it whole",
            copy.from.other()
        );
    }

    fn read_copy(&mut self, key: CopyKey) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(key) else { return };
        copy.dirty = false;
        copy.rounds += 1;
        copy.read_at = now;
        let (db, from) = (copy.db, copy.from);
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"MULTI"]);
        encode::command(&mut frame, &[b"PTTL", &*copy.key]);
        encode::command(&mut frame, &[b"DUMP", &*copy.key]);
        encode::command(&mut frame, &[b"EXEC"]);
        self.copy_request(Owner::CopyRead(key), from, db, &frame, 4);
    }

    fn copy_request(&mut self, owner: Owner, store: StoreId, db: u32, frame: &[u8], replies: u32) {
        let Some(command) = self.table.by_name("restore") else { return };
        let context = Context { db, proto: Proto::Resp2 };
        let op = self.own_op(owner, command, Policy::Single(store), context);
        self.send_counted(op, frame, &[store], replies);
    }

    /// The right store has told what the key holds.
    pub(super) fn copy_read(&mut self, key: CopyKey, frame: &[u8]) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        if !copy.probed {
            self.probed(key, frame);
            return;
        }
        if copy.dirty && copy.hydration.is_none() {
            if copy.rounds >= MAX_ROUNDS {
                self.fence_copy(key);
            } else {
                self.read_copy(key);
            }
            return;
        }
        match Value::parse(frame) {
            Ok(Value::Array(items)) => match items.as_slice() {
                [Value::Int(pttl), Value::Bulk(payload)] => self.write_copy(key, *pttl, payload),
                [Value::Int(_), Value::Nil] => self.write_absence(key),
                _ => self.copy_failed(key),
            },
            _ => self.copy_failed(key),
        }
    }

    /// A key that changes faster than it can be copied is copied under a fence.
    fn fence_copy(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let footprint =
            Footprint::Keys(vec![KeyRef { hash: copy.hash, access: Access::Modify, start: 0, end: 0 }]);
        if self.holds.blocks(&footprint) {
            self.copy_failed(key);
            return;
        }
        self.copies.next_hydration += 1;
        let id = self.copies.next_hydration;
        if let Some(copy) = self.copies.get_mut(key) {
            copy.hydration = Some(id);
        }
        self.raise_hydration(id, footprint, 1);
        self.read_copy(key);
    }

    fn write_copy(&mut self, key: CopyKey, pttl: i64, payload: &[u8]) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(key) else { return };
        let passed = now.saturating_sub(copy.read_at) / 1000;
        let ttl = match u64::try_from(pttl) {
            Err(_) => 0,
            Ok(pttl) => {
                copy.expiring_since = Some(now);
                pttl.saturating_sub(passed).max(1)
            }
        };
        let mut number = itoa::Buffer::new();
        let ttl = number.format(ttl);
        let mut args: Vec<&[u8]> = vec![b"RESTORE", &copy.key, ttl.as_bytes(), payload];
        if copy.replace {
            args.push(b"REPLACE");
        }
        let mut frame = Vec::new();
        encode::command(&mut frame, &args);
        self.append_copy(key, &frame);
    }

    /// The right store has no such key.
    fn write_absence(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        if self.known.is_cold(copy.hash) {
            // It never had it, as far as anybody knows: the other store keeps what it has.
            self.leave_cold(key);
            return;
        }
        if copy.replace && self.doubted_source == Some(copy.from) {
            // The source may have lost writes: nothing is deleted on its word.
            self.copy_failed(key);
            return;
        }
        let replace = copy.replace;
        let verb: &[u8] = if replace { b"DEL" } else { b"EXISTS" };
        let mut frame = Vec::new();
        encode::command(&mut frame, &[verb, &copy.key]);
        if !replace {
            // There is nothing to take over. If the default store turns out to have a value, that counts.
            let (hash, hydration) = (copy.hash, copy.hydration.take());
            self.append_copy(key, &frame);
            self.known.settle(hash);
            hydration.into_iter().for_each(|id| self.hydrated(id, None));
        } else {
            self.append_copy(key, &frame);
        }
    }

    fn leave_cold(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.remove(key) else { return };
        self.known.forget(copy.hash);
        self.copy_counts.done += 1;
        self.metrics.copies[CopyOutcome::Done].inc();
        if let Some(id) = copy.hydration {
            self.hydrated(id, None);
        }
    }

    /// From here on later writes follow the copy in the same order on both stores. What is copied to the default
    /// store is in sync only when that has taken it: nobody must be answered from less.
    fn append_copy(&mut self, key: CopyKey, frame: &[u8]) {
        let default = self.default_store();
        let Some(copy) = self.copies.get_mut(key) else { return };
        copy.applied = true;
        copy.dirty = false;
        let (hash, db, to) = (copy.hash, copy.db, copy.from.other());
        if to != default {
            self.known.settle(hash);
        }
        self.copy_request(Owner::CopyWrite(key), to, db, frame, 1);
        let position = self.lane(to).appended();
        self.recent[to.index()].wrote(hash, position);
    }

    /// The store that was behind has answered.
    pub(super) fn copy_written(&mut self, key: CopyKey, frame: &[u8]) {
        let hydration = self.copies.get_mut(key).and_then(|copy| copy.hydration.take());
        let refused = self.judge_copy(key, frame);
        if let Some(id) = hydration {
            self.hydrated(id, refused);
        }
    }

    /// Notes what has become of a copy. Some: the store refused the key, and why.
    fn judge_copy(&mut self, key: CopyKey, frame: &[u8]) -> Option<(u64, Box<[u8]>)> {
        let copy = self.copies.get(key)?;
        let (hash, db, name, from) = (copy.hash, copy.db, copy.key.clone(), copy.from);
        let (history, overtaken) = (copy.history, copy.dirty);
        let is_error = frame.first() == Some(&b'-');
        // Nothing was to be taken over, and the store does not tell whether it has a value.
        let untold = is_error && self.known.of(hash) == Sync::InSync;
        let kept_its_own = !copy.replace && (frame.starts_with(b"-BUSYKEY") || frame == b":1\r\n" || untold);
        let refused = is_error && !kept_its_own;
        let now = self.now;
        let tolerance = self.settings.ttl_tolerance.as_micros() as u64;
        let late = copy.expiring_since.is_some_and(|at| now.saturating_sub(at) > tolerance);
        let behind = from.other();
        let to_default = behind == self.default_store();
        self.copies.remove(key);
        if kept_its_own {
            // The primary has a value of its own, which counts: the secondary is the one behind.
            self.known.doubt(hash, db, &name, from, now);
            return None;
        }
        if late || refused {
            // What waited in a queue expires too late by as much.
            self.known.doubt(hash, db, &name, behind, now);
            self.known.postpone(hash, history, now);
        } else if to_default && !overtaken && self.known.of(hash) != Sync::Suspect(from) {
            self.known.settle(hash);
        }
        let outcome = if refused { CopyOutcome::Failed } else { CopyOutcome::Done };
        self.metrics.copies[outcome].inc();
        match refused {
            true => self.copy_counts.failed += 1,
            false => self.copy_counts.done += 1,
        }
        (refused && to_default).then(|| (hash, frame.into()))
    }

    /// A copy could not be made now: the key stays, or becomes, suspect.
    pub(super) fn copy_failed(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.remove(key) else { return };
        let now = self.now;
        self.copy_counts.failed += 1;
        self.metrics.copies[CopyOutcome::Failed].inc();
        match (copy.replace, copy.applied, self.known.of(copy.hash)) {
            (true, ..) => {
                self.known.doubt(copy.hash, copy.db, &copy.key, copy.from.other(), now);
                self.known.postpone(copy.hash, copy.history, now);
            }
            // Whether the default store has it now shows when it is needed again.
            (false, true, Sync::Unknown | Sync::Suspect(_)) => {}
            // The default store counts, whatever it has.
            (false, true, Sync::InSync) => self.known.doubt(copy.hash, copy.db, &copy.key, copy.from, now),
            // The default store goes on alone for this key: what it writes is copied back.
            (false, false, _) if copy.hydration.is_some() => {
                self.known.doubt(copy.hash, copy.db, &copy.key, self.default_store().other(), now);
            }
            (false, false, _) => {}
        }
        if let Some(id) = copy.hydration {
            self.hydrated(id, None);
        }
    }

    /// One lane's part in a copy has failed.
    pub(super) fn copy_lost(&mut self, owner: Owner, _failure: Failure) {
        if let Owner::CopyRead(key) | Owner::CopyWrite(key) = owner {
            self.copy_failed(key);
        }
    }
}
