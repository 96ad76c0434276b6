//! One copy, from the question how large the key is to its value on its way.
//!
//! ```text
//! size ─ read ─ written meanwhile? ─ read again ─ … ─ under a fence
//!          └─ append the value ─ answered: done, kept its own, refused
//! ```

use crate::command::Access;
use crate::resp::value::Value;
use crate::resp::{Proto, encode};

use super::super::Sequencer;
use super::super::fence::{Footprint, KeyRef};
use super::super::knowledge::Sync;
use super::super::lane::Context;
use super::super::op::{Owner, Policy};
use super::payload::Payloads;
use super::typed::Typed;
use super::{Copy, CopyKey, MAX_BY_PIECES};

/// How a copy is made.
#[derive(Debug)]
pub(super) enum Means {
    /// That depends on the size, which was asked.
    Size,
    /// By pieces, when fewer others are: the size.
    Queued(u64),
    /// By DUMP and RESTORE.
    Payload,
    /// With the commands of its type.
    Typed(Box<Typed>),
}

/// Reads of a key that keeps changing, before a fence is put around it.
const MAX_ROUNDS: u32 = 3;

// === impl Means ===

impl Means {
    pub fn is_paged(&self) -> bool {
        matches!(self, Means::Typed(typed) if typed.is_paged())
    }

    /// The value has its own name: nothing is left to be removed.
    pub fn has_its_name(&mut self) {
        if let Means::Typed(typed) = self {
            typed.has_its_name();
        }
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Asks for the size first: DUMP of a large key stops the server for everybody.
    pub(super) fn ask_size(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get(key) else { return };
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"MEMORY".as_slice(), b"USAGE", &copy.key]);
        self.copy_request(Owner::CopyRead(key), &frame, 1);
    }

    /// A server that does not tell the size is taken at its word that it has the key.
    pub(super) fn size_told(&mut self, key: CopyKey, frame: &[u8]) {
        let size = match Value::parse(frame) {
            Ok(Value::Int(size)) => u64::try_from(size).unwrap_or(0),
            _ => 0,
        };
        if size <= self.settings.heavy_bytes.min(self.settings.copy_max_bytes) {
            self.read_whole(key);
            return;
        }
        let busy = self.copies.by_pieces() >= MAX_BY_PIECES;
        let Some(copy) = self.copies.get_mut(key) else { return };
        if busy && copy.hydration.is_none() {
            copy.means = Means::Queued(size);
            self.copies.queue.push_back(key);
        } else {
            self.read_by_type(key, Some(size));
        }
    }

    /// In one go, by the way that is known to be open.
    pub(super) fn read_whole(&mut self, key: CopyKey) {
        let refused = self.copies.payloads.map(|payloads| payloads == Payloads::Refused);
        let Some(copy) = self.copies.get_mut(key) else { return };
        if refused[copy.from.index()] {
            self.read_by_type(key, None);
        } else {
            copy.means = Means::Payload;
            self.read_copy(key);
        }
    }

    /// One copy by pieces has come to its end: the next one begins.
    pub(super) fn next_by_pieces(&mut self) {
        // Most often nobody waits: then nobody is counted.
        while !self.copies.queue.is_empty()
            && self.copies.by_pieces() < MAX_BY_PIECES
            && let Some(key) = self.copies.queue.pop_front()
        {
            if let Some(Means::Queued(size)) = self.copies.get(key).map(|copy| &copy.means) {
                let size = *size;
                self.read_by_type(key, Some(size));
            }
        }
    }

    /// Reads the key, from its beginning.
    pub(super) fn read_copy(&mut self, key: CopyKey) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(key) else { return };
        copy.dirty = false;
        copy.rounds += 1;
        copy.read_at = now;
        match &copy.means {
            Means::Size | Means::Queued(_) => self.ask_size(key),
            Means::Payload => self.read_payload(key),
            Means::Typed(_) => self.ask_type(key),
        }
    }

    /// Sends a request of a copy: a read to the right store, a write to the other one.
    pub(super) fn copy_request(&mut self, owner: Owner, frame: &[u8], replies: u32) {
        let (Owner::CopyRead(key) | Owner::CopyWrite(key)) = owner else { return };
        let Some(copy) = self.copies.get(key) else { return };
        let store = if matches!(owner, Owner::CopyRead(_)) { copy.from } else { copy.from.other() };
        let context = Context { db: copy.db, proto: Proto::Resp2 };
        let Some(command) = self.table.by_name("restore") else { return };
        let op = self.own_op(owner, command, Policy::Single(store), context);
        self.send_counted(op, frame, &[store], replies);
    }

    /// The right store has answered.
    pub(in crate::sequencer) fn copy_read(&mut self, key: CopyKey, frame: &[u8]) {
        let Some(copy) = self.copies.get(key) else { return };
        match &copy.means {
            Means::Size => self.size_told(key, frame),
            Means::Queued(_) => {}
            _ if !self.is_copy_current(key) => self.read_again(key),
            Means::Payload => self.payload_read(key, frame),
            Means::Typed(_) => self.typed_read(key, frame),
        }
    }

    /// Is what was read so far still what the key holds?
    pub(super) fn is_copy_current(&self, key: CopyKey) -> bool {
        self.copies.get(key).is_some_and(|copy| {
            // Under a fence of its own nobody writes. Under somebody else's, who writes on another connection, it
            // is not known what has been read. Who is held writes nothing: not before a flip either, which waits for
            // the copy.
            copy.hydration.is_some() || !copy.dirty && !self.holds.stands_around(copy.hash)
        })
    }

    /// The key has changed since it was read.
    pub(super) fn read_again(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get(key) else { return };
        if self.holds.stands_around(copy.hash) {
            self.put_copy_off(key);
        } else if copy.means.is_paged() && copy.history.attempts < MAX_ROUNDS && copy.replace {
            // To read much in vain again and again costs everybody.
            self.postpone_copy(key);
        } else if copy.means.is_paged() || copy.rounds >= MAX_ROUNDS {
            self.fence_copy(key);
        } else {
            self.read_copy(key);
        }
    }

    /// A key that changes faster than it can be copied is copied under a fence.
    fn fence_copy(&mut self, key: CopyKey) {
        self.copies.next_hydration += 1;
        let id = self.copies.next_hydration;
        let until = self.now + self.settings.reply_timeout.as_micros() as u64 / 2;
        let Some(copy) = self.copies.get_mut(key) else { return };
        copy.hydration = Some(id);
        copy.fenced_until = Some(until);
        let footprint = Copy::footprint(copy.hash);
        self.raise_hydration(id, footprint, 1);
        self.read_copy(key);
    }

    /// Has a fence that only keeps the key from changing stood for too long?
    pub(super) fn is_fence_overdue(&self, key: CopyKey) -> bool {
        let until = self.copies.get(key).and_then(|copy| copy.fenced_until);
        until.is_some_and(|until| self.now > until)
    }

    /// The time to live to give the copy; none: it does not expire.
    pub(super) fn time_left(&mut self, key: CopyKey, pttl: i64) -> Option<u64> {
        let now = self.now;
        let copy = self.copies.get_mut(key)?;
        copy.end = None;
        let passed = now.saturating_sub(copy.read_at) / 1000;
        let pttl = u64::try_from(pttl).ok()?;
        let left = pttl.saturating_mul(1000);
        copy.end = Some((copy.read_at.saturating_add(left), now.saturating_add(left)));
        // When it was read between being asked for and answered nobody knows.
        copy.expiring_since = Some(copy.read_at);
        Some(pttl.saturating_sub(passed).max(1))
    }

    /// The right store has no such key.
    pub(super) fn write_absence(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        copy.end = None;
        let means = std::mem::replace(&mut copy.means, Means::Payload);
        let (to, db) = (copy.from.other(), copy.db);
        self.drop_scratch(to, db, &means);
        let Some(copy) = self.copies.get_mut(key) else { return };
        if self.known.is_cold(copy.hash) && self.known.of(copy.hash) == Sync::Suspect(to) {
            // It never had it, as far as anybody knows: the other store keeps what it has. Not where the key has come
            // into doubt the other way round since the copy began: what the store that is right has is still to be seen.
            self.known.forget(copy.hash);
            self.copied(key);
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
            // There is nothing to take over. If the default store turns out to have a value, or cannot be asked, that
            // counts: it is settled first, so that whatever comes of the question comes after it.
            let (hash, hydration) = (copy.hash, copy.hydration.take());
            self.settle_key(hash);
            self.append_copy(key, &frame, 1);
            hydration.into_iter().for_each(|id| self.hydrated(id, None));
        } else {
            self.append_copy(key, &frame, 1);
        }
    }

    /// From here on later writes follow the copy in the same order on both stores. What is copied to the default
    /// store is in sync only when that has taken it: nobody must be answered from less.
    pub(super) fn append_copy(&mut self, key: CopyKey, frame: &[u8], replies: u32) {
        let default = self.default_store();
        let Some(copy) = self.copies.get_mut(key) else { return };
        copy.applied = true;
        copy.dirty = false;
        let (hash, to) = (copy.hash, copy.from.other());
        self.ends.copied(hash, copy.end, self.now);
        if to != default {
            self.settle_key(hash);
        }
        self.copy_request(Owner::CopyWrite(key), frame, replies);
        let position = self.lane(to).appended();
        self.recent[to.index()].wrote(hash, position);
    }
}

// === impl Copy ===

impl Copy {
    /// The key alone, as something that is written.
    pub(super) fn footprint(hash: u64) -> Footprint {
        Footprint::of_key(KeyRef { hash, access: Access::Modify, start: 0, end: 0 })
    }
}
