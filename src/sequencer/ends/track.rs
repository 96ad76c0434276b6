//! What the sequencer does about keys that end.
//!
//! A write is trusted if neither store can have met the end of a key on which it depends between the moment at which it
//! was placed and the moment at which its last answer came. Else its keys are suspect, and copied. Where a command does
//! not tell which end it gives to a key, both stores are asked right behind it.

use crate::compare::is_error;
use crate::resp::value::Value;
use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::super::Sequencer;
use super::super::fence::{Footprint, KeyRef};
use super::super::lane::Context;
use super::super::op::{Failure, Kept, OpKey, Owner, Policy, Reply};
use super::super::submission::Expiry;
use super::NEVER;

/// Keys whose ends are asked for behind one write. Of further ones they are learned when the keys are copied.
const MAX_ASKED: usize = 16;

// === impl Sequencer ===

impl Sequencer {
    /// A write is about to be placed: from when on it cannot be trusted ([`Op::due`]), and when it makes its key end
    /// ([`Op::end`]).
    #[inline(always)]
    pub(in crate::sequencer) fn mind_ends(&mut self, footprint: &Footprint, expiry: Expiry) -> (u64, u64) {
        if expiry == Expiry::Keeps && self.ends.is_empty() {
            return (NEVER, 0);
        }
        let due = self.due(footprint);
        let (Expiry::In(life), [key]) = (expiry, footprint.keys()) else { return (due, 0) };
        let end = self.now.saturating_add(life).max(1);
        self.ends.asked(key.hash, end, self.now);
        (due, end)
    }

    /// From when on a write to these keys that is placed now cannot be trusted.
    #[inline]
    pub(in crate::sequencer) fn due(&self, footprint: &Footprint) -> u64 {
        self.due_since(footprint, self.now)
    }

    /// The same for a write that the default store has executed already, not longer ago than anybody waits for a reply.
    pub(in crate::sequencer) fn due_on_own_connection(&self, footprint: &Footprint) -> u64 {
        self.due_since(footprint, self.now.saturating_sub(self.settings.reply_timeout.as_micros() as u64))
    }

    #[inline]
    fn due_since(&self, footprint: &Footprint, placed: u64) -> u64 {
        if self.ends.is_empty() { NEVER } else { self.due_of_some(footprint, placed) }
    }

    fn due_of_some(&self, footprint: &Footprint, placed: u64) -> u64 {
        let keys = footprint.keys().iter().filter(|key| key.access.depends());
        keys.map(|key| self.ends.due(key.hash, placed)).min().unwrap_or(NEVER)
    }

    /// A write was placed: asks both stores for the ends that it leaves its keys, where its words do not tell.
    pub(in crate::sequencer) fn ask_ends(
        &mut self,
        footprint: &Footprint,
        frame: &[u8],
        db: u32,
        expiry: Expiry,
    ) {
        let asks = match expiry {
            Expiry::Keeps | Expiry::Fields | Expiry::In(_) => false,
            Expiry::At | Expiry::Untold => true,
            Expiry::Carried => footprint.keys().iter().any(|key| self.ends.may_end(key.hash)),
        };
        if !asks || !self.lane(self.default_store()).accepts() {
            return;
        }
        let written = footprint.keys().iter().filter(|key| key.access.writes());
        for (count, key) in written.enumerate() {
            let question = self.ends.unsure(key.hash, self.now);
            if count < MAX_ASKED {
                self.ask_end(key, question, frame, db);
            }
        }
    }

    fn ask_end(&mut self, key: &KeyRef, question: u64, frame: &[u8], db: u32) {
        let Some(command) = self.table.by_name("pttl") else { return };
        let mut asked = Vec::new();
        encode::command(&mut asked, &[b"PTTL", key.of(frame)]);
        let owner = Owner::End { key: key.hash, question };
        let context = Context { db, proto: Proto::Resp2 };
        let op = self.own_op(owner, command, Policy::Authority(self.default_store()), context);
        self.send_counted(op, &asked, &StoreId::ALL, 1);
    }

    /// `store` has told when a key ends.
    pub(in crate::sequencer) fn end_told(&mut self, op: OpKey, store: StoreId, frame: &[u8]) {
        self.end_settled(op, store, Reply::Kept(Kept::new(frame, 0)));
    }

    /// `store` will not tell when a key ends: what the other one says must do, for this one will have to be repaired.
    pub(in crate::sequencer) fn end_untold(&mut self, op: OpKey, store: StoreId, failure: Failure) {
        self.end_settled(op, store, Reply::Failed(failure));
    }

    fn end_settled(&mut self, key: OpKey, store: StoreId, reply: Reply) {
        let now = self.now;
        let Some(op) = self.ops.get_mut(key) else { return };
        op.replies[store.index()] = reply;
        let Owner::End { key: hash, question } = op.owner else { return };
        if op.is_open() {
            return;
        }
        op.answered = true;
        let (started, mut lefts) = (op.started, Vec::new());
        for frame in op.replies.iter().filter_map(Reply::frame) {
            lefts.extend(Value::parse(frame).ok().and_then(|value| match value {
                Value::Int(left) => Some(left),
                _ => None,
            }));
        }
        if !lefts.is_empty() {
            self.ends.told(hash, question, between(started, now, &lefts));
        }
        self.retire(key);
    }

    /// `store` has answered a write: was that in time, and when does its key end now?
    #[inline]
    pub(in crate::sequencer) fn note_ends(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get(key) else { return };
        let late = self.now >= op.due;
        if op.end != 0 {
            let (end, delay) = (op.end, self.now.saturating_sub(op.started));
            let done = store == op.default && is_done(frame);
            let open = op.replies[store.other().index()].is_pending();
            let ends = &mut self.ends;
            op.touched.each(|hash, _| ends.answered(hash, end, delay, done, open));
        }
        if late {
            self.doubt_op(key);
        }
    }
}

/// Between which moments a key ends of which the stores have told this (PTTL) between `started` and `now`; none: it does not,
/// or has on all of them.
fn between(started: u64, now: u64, lefts: &[i64]) -> Option<(u64, u64)> {
    let ends = lefts.iter().filter_map(|left| u64::try_from(*left).ok()).map(|millis| {
        let left = millis.saturating_mul(1000);
        (started.saturating_add(left), now.saturating_add(left))
    });
    let (from, to) = ends.reduce(|(from, to), (first, last)| (from.min(first), to.max(last)))?;
    // By the clock of one of them it was over at once.
    Some(if lefts.contains(&GONE) { (from.min(started), to) } else { (from, to) })
}

/// What PTTL says of a key that is not there.
const GONE: i64 = -2;

/// Does this reply to a command that sets a time to live say that it has done so?
fn is_done(frame: &[u8]) -> bool {
    !is_error(frame) && !matches!(frame, b"$-1\r\n" | b"_\r\n" | b"*-1\r\n" | b":0\r\n")
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn a_key_that_has_ended_on_one_store_may_end_at_any_time() {
        assert_eq!(between(1_000, 3_000, &[34, 34]), Some((35_000, 37_000)));
        assert_eq!(between(1_000, 3_000, &[-2, 34]), Some((1_000, 37_000)));
        assert_eq!(between(1_000, 3_000, &[-2, -2]), None);
        assert_eq!(between(1_000, 3_000, &[-1]), None);
    }
}
