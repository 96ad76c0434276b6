//! What comes back from the stores, and whose it is.

use crate::compare;
use crate::stage::StoreId;

use super::answer::is_hit;
use super::cursors::cursor_in_reply;
use super::derive::has_error;
use super::knowledge::Sync;
use super::lane::{Arrived, ContextOutcome, Sink};
use super::op::{Failure, Kept, Op, OpKey, Owner, Policy, Reply};
use super::policy::{self, Seen, Step};
use super::{Sequencer, lane::Held};

/// A lane whose replies no longer match its requests. It must be dropped at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("replies no longer match requests")]
pub struct OutOfStep;

// === impl Sequencer ===

impl Sequencer {
    /// Takes one complete reply of `store`.
    #[inline(always)]
    pub fn on_frame(&mut self, store: StoreId, frame: &[u8]) -> Result<(), OutOfStep> {
        let now = self.now;
        let lane = &mut self.lanes[store.index()];
        if lane.is_stray_mark(frame) {
            return Err(OutOfStep);
        }
        let arrived = lane.arrived(now).ok_or(OutOfStep)?;
        match arrived.sink {
            Sink::Op(key) if arrived.last && self.plain_reply(key, store, frame) => {}
            Sink::Op(key) => self.op_reply(key, store, arrived, frame),
            Sink::Nobody => {}
            sink => {
                let outcome = self.lanes[store.index()].context_reply(sink, frame, now);
                self.context_outcome(store, outcome, frame)?;
            }
        }
        Ok(())
    }

    fn context_outcome(
        &mut self,
        store: StoreId,
        outcome: ContextOutcome,
        frame: &[u8],
    ) -> Result<(), OutOfStep> {
        match outcome {
            ContextOutcome::Fine => Ok(()),
            ContextOutcome::OutOfStep => Err(OutOfStep),
            ContextOutcome::Refused(held) => {
                held.into_iter().for_each(|entry| self.refused_context(store, &entry, frame));
                Ok(())
            }
        }
    }

    /// The store refused the database of a request that waited for it: its error is the reply.
    fn refused_context(&mut self, store: StoreId, held: &Held, frame: &[u8]) {
        let Sink::Op(key) = held.sink else { return };
        for index in 0..held.replies.max(1) {
            let last = index + 1 == held.replies.max(1);
            self.op_reply(key, store, Arrived { sink: held.sink, index, last, at: held.at }, frame);
        }
    }

    /// Call once after a batch of [`Sequencer::on_frame`].
    pub fn end_of_batch(&mut self) {
        self.after_progress();
    }

    fn op_reply(&mut self, key: OpKey, store: StoreId, arrived: Arrived, frame: &[u8]) {
        if arrived.last {
            self.pass_doubt_on(key);
            self.warm_keys(key, store, frame);
            self.note_ends(key, store, frame);
        }
        let Some(op) = self.ops.get(key) else { return };
        match op.owner {
            Owner::Bulk(id) => return self.bulk_reply(key, id, store, arrived.last, frame),
            Owner::CopyGroup(group) => return self.group_reply(key, group, arrived.last, frame),
            Owner::End { .. } => return self.end_told(key, store, frame),
            _ => {}
        }
        if op.derived {
            self.derived_reply(key, store, arrived, frame);
            return;
        }
        if let (Owner::Nobody, true) = (op.owner, op.write) {
            self.effect_reply(key, store, arrived.last, frame);
            return;
        }
        if !arrived.last {
            self.part_reply(key, store, arrived.index, frame);
            return;
        }
        if op.relative {
            self.note_delay(key);
        }
        let Some(op) = self.ops.get_mut(key) else { return };
        if let owner @ (Owner::CopyRead(copy) | Owner::CopyWrite(copy)) = op.owner {
            op.answered = true;
            op.replies[store.index()] = Reply::Gone;
            // EXECABORT does not tell why.
            let error = op.extra.as_mut().and_then(|extra| extra.error.take());
            let frame = error.as_deref().filter(|_| compare::is_error(frame)).unwrap_or(frame);
            self.retire(key);
            match owner {
                Owner::CopyRead(_) => self.copy_read(copy, frame),
                _ => self.copy_written(copy, frame),
            }
            return;
        }
        if matches!(op.owner, Owner::Attempt(_)) {
            self.attempt_reply(key, store, frame);
            return;
        }
        let unsettled = op.write && op.blind && store == op.default && has_error(frame);
        if unsettled {
            // What would have settled its keys did not run: they are what they were.
            self.doubt_op(key);
        }
        self.resolve(key, store, frame);
    }

    /// A reply of a transaction that is not EXEC's.
    pub(super) fn part_reply(&mut self, key: OpKey, store: StoreId, index: u32, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let authority = matches!(op.policy,
            Policy::Single(a) | Policy::Authority(a) | Policy::Both(a) if a == store);
        if !authority {
            return;
        }
        let owner = op.owner;
        if matches!(owner, Owner::Attempt(_) | Owner::CopyRead(_) | Owner::CopyWrite(_)) {
            if compare::is_error(frame) {
                op.extra_mut().error.get_or_insert_with(|| frame.into());
            }
            return;
        }
        let extra = op.extra_mut();
        let Some(part) = extra.parts.get_mut(index as usize) else { return };
        if std::mem::replace(&mut part.answered, true) {
            return;
        }
        let seq = part.seq;
        if let Owner::Client { key, .. } = owner {
            self.clients.pay(key, seq, frame);
        }
    }

    /// The one reply (or EXEC's) of `store` is complete.
    #[inline]
    fn resolve(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
        if let Some(scan) = op.extra.as_ref().and_then(|extra| extra.scan)
            && let Some(cursor) = cursor_in_reply(frame)
        {
            self.cursors.issue(scan, cursor, store);
        }
        if let Owner::Client { key: client, .. } = op.owner
            && !op.answered
        {
            // Nothing is kept for a client that is gone.
            op.answered = self.clients.get(client).is_none_or(|client| client.doomed.is_some());
        }
        let answer = policy::listens_to(op.policy);
        if op.answered || answer.is_some() {
            if !op.answered && answer == Some(store) {
                self.answer(key, store, frame);
            }
            self.late_reply(key, store, frame);
            return;
        }
        self.resolve_by_both(key, store, frame);
    }

    /// The same where it depends on both stores which reply is the answer.
    fn resolve_by_both(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get(key) else { return };
        if matches!(op.policy, Policy::Lookup { .. }) && self.is_overtaken(op, store) {
            if self.ask_primary_again(key) {
                return;
            }
            if let Some(op) = self.ops.get_mut(key) {
                op.replies[store.index()] = Reply::Failed(Failure::Down);
            }
            self.settle(key);
            return;
        }
        let mut seen = self.seen(op);
        seen[store.index()] = if is_hit(op, frame) { Seen::Hit } else { Seen::Miss };
        match policy::decide(op.policy, seen) {
            Step::Answer(by) if by == store => {
                self.answer(key, by, frame);
                self.late_reply(key, store, frame);
            }
            _ => {
                self.keep(key, store, frame);
                self.settle(key);
            }
        }
    }

    /// Does a reply of `store` tell what the default store would not say? A write before it was refused by one of
    /// them, which is known by now.
    pub(super) fn is_overtaken(&self, op: &Op, store: StoreId) -> bool {
        let mut behind = false;
        if store != op.default {
            op.touched.each(|hash, _| behind |= self.held_of(hash) == Sync::Suspect(store));
        }
        behind
    }

    pub(super) fn seen(&self, op: &Op) -> [Seen; 2] {
        let mut seen =
            StoreId::ALL.map(|store| policy::seen(&op.replies[store.index()], |frame| is_hit(op, frame)));
        let (default, other) = (op.default.index(), op.default.other());
        // What was kept may have come into doubt since. What is still to come is not waited for where the default store
        // has failed: the doubt may have gone by then, with a copy that is behind this read.
        let counts = match op.replies[other.index()] {
            Reply::Kept(_) => true,
            Reply::Pending => matches!(op.policy, Policy::Lookup { .. }) && seen[default] == Seen::Failed,
            _ => false,
        };
        if counts && self.is_overtaken(op, other) {
            seen[other.index()] = match op.policy {
                // A merge takes of it what is not in doubt.
                Policy::Merge { .. } if seen[default] != Seen::Failed => Seen::Miss,
                _ => Seen::Failed,
            };
        }
        seen
    }

    /// Keeps a reply that may become the answer. Until then it counts as one that the client has not read.
    fn keep(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let kept = Kept::new(frame, usize::MAX);
        let size = kept.size();
        let Some(op) = self.ops.get_mut(key) else { return };
        op.replies[store.index()] = Reply::Kept(kept);
        op.kept += size;
        self.kept += size as u64;
        if let Owner::Client { key: client, .. } = op.owner
            && size > 0
        {
            op.kept_for_client += size;
            self.clients.keep(client, size);
        }
    }

    /// Keeps a reply for comparison alone; its digest does when too much is kept already.
    #[inline]
    fn keep_to_compare(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let room = self.kept < self.settings.lag_max;
        let kept = Kept::new(frame, if room { self.settings.compare_max_bytes } else { 0 });
        let Some(op) = self.ops.get_mut(key) else { return };
        let size = kept.size();
        op.kept += size;
        self.kept += size as u64;
        op.replies[store.index()] = Reply::Kept(kept);
    }

    /// A reply that is not needed as an answer, or not any more: compared, or let go.
    pub(super) fn late_reply(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let other = &op.replies[store.other().index()];
        let pending = other.is_pending();
        if !op.compare || matches!(other, Reply::Unsent | Reply::Failed(_) | Reply::Gone) {
            op.replies[store.index()] = Reply::Gone;
        } else if pending {
            self.keep_to_compare(key, store, frame);
            return;
        } else {
            self.compare(key, store, frame);
            if let Some(op) = self.ops.get_mut(key) {
                op.replies[store.index()] = Reply::Gone;
            }
        }
        self.retire(key);
    }

    // --- replies too large to wait for ---
}
