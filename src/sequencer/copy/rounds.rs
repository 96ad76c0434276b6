//! One copy, from the question how large the key is to its outcome.
//!
//! ```text
//! size ─ read ─ written meanwhile? ─ read again ─ … ─ under a fence
//!          └─ append the value ─ answered: done, kept its own, refused
//! ```

use crate::command::Access;
use crate::metrics::CopyOutcome;
use crate::resp::value::Value;
use crate::resp::{Proto, encode};

use super::super::Sequencer;
use super::super::fence::{Footprint, KeyRef};
use super::super::knowledge::Sync;
use super::super::lane::Context;
use super::super::op::{Failure, Owner, Policy};
use super::super::touched::Touched;
use super::payload::{Payloads, Refusal};
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
/// Reads of a key that somebody waits for, while its store's connection is cut again and again.
const MAX_LOST: u32 = 10;
/// A key that cannot be copied is looked at again after this pause: it may have changed.
const GIVEN_UP_PAUSE_MICROS: u64 = 60_000_000;
/// A copy that must wait for others is tried again after this pause.
const PUT_OFF_MICROS: u64 = 20_000;

// === impl Means ===

impl Means {
    pub fn is_paged(&self) -> bool {
        matches!(self, Means::Typed(typed) if typed.is_paged())
    }

    /// The value has its own name: nothing is left to be removed.
    fn has_its_name(&mut self) {
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
        let busy = self.copies.by_pieces() >= MAX_BY_PIECES;
        let Some(copy) = self.copies.get_mut(key) else { return };
        if size <= self.settings.heavy_bytes.min(self.settings.copy_max_bytes) {
            self.read_whole(key);
        } else if busy && copy.hydration.is_none() {
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
    fn next_by_pieces(&mut self) {
        while self.copies.by_pieces() < MAX_BY_PIECES
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
            // There is nothing to take over. If the default store turns out to have a value, that counts.
            let (hash, hydration) = (copy.hash, copy.hydration.take());
            self.append_copy(key, &frame, 1);
            self.settle_key(hash);
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

    /// The store that was behind has answered.
    pub(in crate::sequencer) fn copy_written(&mut self, key: CopyKey, frame: &[u8]) {
        let Some(copy) = self.copies.get(key) else { return };
        if !copy.applied {
            self.piece_written(key, frame);
            return;
        }
        // Nothing was to be taken over, and the store does not tell whether it has a value.
        let untold = self.known.of(copy.hash) == Sync::InSync;
        let verdict = copy.verdict(frame);
        if verdict != Verdict::Refused
            && let Some(copy) = self.copies.get_mut(key)
        {
            copy.means.has_its_name();
        }
        let Some(copy) = self.copies.get(key) else { return };
        match verdict {
            Verdict::Written => self.taken_over(key),
            Verdict::KeptItsOwn => self.kept_its_own(key),
            Verdict::Refused if untold && !copy.replace => self.kept_its_own(key),
            Verdict::Refused => self.write_refused(key, frame),
        }
    }

    fn taken_over(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get(key) else { return };
        let now = self.now;
        let tolerance = self.settings.ttl_tolerance.as_micros() as u64;
        let delay = copy.expiring_since.map_or(0, |at| now.saturating_sub(at));
        self.ends.delayed(copy.hash, delay);
        if delay > tolerance {
            // What waited in a queue expires too late by as much.
            self.known.doubt(copy.hash, copy.db, &copy.key, copy.from.other(), now);
            self.known.postpone(copy.hash, copy.history, now);
        } else if copy.from.other() == self.stage().default_store()
            && !copy.dirty
            && self.known.of(copy.hash) != Sync::Suspect(copy.from)
        {
            self.settle_key(copy.hash);
        }
        self.copied(key);
    }

    fn copied(&mut self, key: CopyKey) {
        self.copy_counts.done += 1;
        self.metrics.copies[CopyOutcome::Done].inc();
        self.copies.refusal.clear();
        self.end_copy(key, None);
    }

    /// The primary has a value of its own, which counts: the secondary is the one behind.
    fn kept_its_own(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, db, behind) = (copy.hash, copy.db, copy.from);
        // What was placed since nothing was to be taken over may have carried the value on, on one store only.
        let touched = Touched::key(hash, &copy.key);
        self.settle_key(hash);
        self.doubt(&touched, db, behind);
        // Not cold: the primary had it, and when it is gone there, it is gone.
        self.known.warm(hash);
        self.end_copy(key, None);
    }

    /// The value was refused: another way may do better.
    fn write_refused(&mut self, key: CopyKey, frame: &[u8]) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(key) else { return };
        let refusal = match copy.means {
            Means::Payload => Refusal::of(frame),
            _ => Refusal::Other,
        };
        if refusal == Refusal::Other {
            self.copy_refused(key, frame);
            return;
        }
        copy.applied = false;
        copy.expiring_since = None;
        copy.rounds = 0;
        let from = copy.from;
        if copy.replace {
            self.known.doubt(copy.hash, copy.db, &copy.key, from.other(), now);
        }
        if refusal == Refusal::Every && self.copies.payloads[from.index()] != Payloads::Refused {
            self.copies.payloads[from.index()] = Payloads::Refused;
            tracing::info!(
                "the {} store refuses payloads of the {from} store ({}): keys are copied by their types from here on",
                from.other(),
                String::from_utf8_lossy(frame).trim()
            );
        }
        self.read_by_type(key, None);
    }

    /// A store answered a copy with an error.
    pub(super) fn copy_refused(&mut self, key: CopyKey, frame: &[u8]) {
        let now = self.now;
        let error = first_error(frame);
        if self.copies.refusal != error {
            tracing::warn!("a key could not be copied and stays suspect; it is tried again: {error}");
            self.copies.refusal.clone_from(&error);
        }
        self.copy_counts.failed += 1;
        self.metrics.copies[CopyOutcome::Failed].inc();
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, behind) = (copy.hash, copy.from.other());
        if copy.replace || copy.applied {
            self.known.doubt(hash, copy.db, &copy.key, behind, now);
            self.known.postpone(hash, copy.history, now);
        }
        // The store's own words where they are about the write, too.
        let text = match error.strip_prefix("ERR ") {
            Some(_) => format!(
                "MULTISTORE what only {} has of the key could not be copied to {} ({error}); the command was not sent",
                self.store_name(behind.other()),
                self.store_name(behind)
            ),
            None => error,
        };
        self.end_copy(key, Some(text));
    }

    /// It cannot be copied, today or tomorrow, unless something changes.
    pub(super) fn give_copy_up(&mut self, key: CopyKey, outcome: CopyOutcome, why: &str) {
        let now = self.now;
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, behind) = (copy.hash, copy.from.other());
        match outcome {
            CopyOutcome::TooLarge => self.copy_counts.too_large += 1,
            _ => self.copy_counts.unsupported += 1,
        }
        self.metrics.copies[outcome].inc();
        tracing::warn!("a key stays suspect on the {behind} store, {why}; it is tried again in a minute");
        if copy.replace {
            self.known.doubt(hash, copy.db, &copy.key, behind, now);
        }
        // A fence that only kept the key from changing tells nobody anything.
        let text = copy.fenced_until.is_none().then(|| {
            let name = self.store_name(behind);
            format!("MULTISTORE the key could not be copied to {name}, {why}; the command was not sent")
        });
        self.end_copy(key, text);
        self.known.give_up(hash, now + GIVEN_UP_PAUSE_MICROS);
    }

    /// Others come first; the key is as suspect as it was.
    fn put_copy_off(&mut self, key: CopyKey) {
        let now = self.now;
        let Some(copy) = self.copies.get(key) else { return };
        let hash = copy.hash;
        if copy.replace {
            self.known.doubt(hash, copy.db, &copy.key, copy.from.other(), now);
        }
        self.end_copy(key, None);
        self.known.postpone_by(hash, now + PUT_OFF_MICROS);
    }

    /// The key is written to while it is copied: the next attempt comes after a pause that doubles.
    fn postpone_copy(&mut self, key: CopyKey) {
        let now = self.now;
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, history) = (copy.hash, copy.history);
        self.known.doubt(hash, copy.db, &copy.key, copy.from.other(), now);
        self.end_copy(key, None);
        self.known.postpone(hash, history, now);
    }

    /// A copy could not be made now: the key stays, or becomes, suspect.
    pub(in crate::sequencer) fn copy_failed(&mut self, key: CopyKey) {
        let now = self.now;
        let default = self.default_store();
        let Some(copy) = self.copies.get(key) else { return };
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
            // The default store goes on alone for this key: what it writes is copied back. Where nobody waits any more,
            // whoever needs the key next has it copied again.
            (false, false, _) if copy.hydration.is_some() && self.is_waited_for(copy.hash) => {
                self.known.doubt(copy.hash, copy.db, &copy.key, default.other(), now);
            }
            (false, false, _) => {}
        }
        self.end_copy(key, None);
    }

    /// Does a client wait until this key is copied?
    fn is_waited_for(&self, hash: u64) -> bool {
        self.holds.is_waited_for(hash)
            || !self.hydration_waiters.is_empty()
            || !self.parks.first_in_line(hash, 1).is_empty()
    }

    /// One lane's part in a copy has failed.
    pub(in crate::sequencer) fn copy_lost(&mut self, owner: Owner, failure: Failure) {
        match owner {
            // A connection that was cut is no reason to go on without what is on the other side of it.
            Owner::CopyRead(key) if failure == Failure::Lost && self.may_read_again(key) => {
                self.read_copy(key)
            }
            Owner::CopyRead(key) | Owner::CopyWrite(key) => self.copy_failed(key),
            _ => {}
        }
    }

    fn may_read_again(&self, key: CopyKey) -> bool {
        let waited_for = |copy: &&Copy| copy.hydration.is_some() && copy.fenced_until.is_none();
        let copy = self.copies.get(key).filter(waited_for);
        copy.is_some_and(|copy| copy.rounds < MAX_LOST && self.lane(copy.from).accepts())
    }

    /// Nothing more comes of it. `refused`: what to tell those who waited for the key on the default store.
    pub(super) fn end_copy(&mut self, key: CopyKey, refused: Option<String>) {
        let Some(copy) = self.copies.remove(key) else { return };
        self.drop_scratch(copy.from.other(), copy.db, &copy.means);
        self.next_by_pieces();
        let Some(id) = copy.hydration else { return };
        let to_default = copy.from.other() == self.default_store();
        let refused = refused.filter(|_| to_default).map(|text| {
            let mut frame = Vec::new();
            encode::error(&mut frame, text);
            (copy.hash, frame.into())
        });
        self.hydrated(id, refused);
    }
}

/// The error in a reply, or the first one in what EXEC answered.
fn first_error(frame: &[u8]) -> String {
    let text = match Value::parse(frame) {
        Ok(Value::Error(text)) => Some(text),
        Ok(Value::Array(replies)) => replies.iter().find_map(|reply| match reply {
            Value::Error(text) => Some(*text),
            _ => None,
        }),
        _ => None,
    };
    String::from_utf8_lossy(text.unwrap_or(b"ERR the store's answer cannot be understood")).into_owned()
}

/// What came of the value that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there.
    Written,
    /// The store had a value of its own, which was not to be replaced.
    KeptItsOwn,
    /// It is not there.
    Refused,
}

// === impl Copy ===

impl Copy {
    /// The key alone, as something that is written.
    fn footprint(hash: u64) -> Footprint {
        Footprint::of_key(KeyRef { hash, access: Access::Modify, start: 0, end: 0 })
    }

    fn verdict(&self, frame: &[u8]) -> Verdict {
        match &self.means {
            Means::Typed(typed) => typed.verdict(frame, self.replace),
            _ if !self.replace && (frame.starts_with(b"-BUSYKEY") || frame == b":1\r\n") => {
                Verdict::KeptItsOwn
            }
            _ if frame.first() == Some(&b'-') => Verdict::Refused,
            _ => Verdict::Written,
        }
    }
}
