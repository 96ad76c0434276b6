//! What comes back from the stores, and who is paid with it.

use crate::command::Miss;
use crate::compare::{self, Digest};
use crate::metrics::{ClientErrorKind, StoreErrorKind};
use crate::stage::StoreId;

use super::clients::Doom;
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
    pub fn on_frame(&mut self, store: StoreId, frame: &[u8]) -> Result<(), OutOfStep> {
        let now = self.now;
        if self.lanes[store.index()].is_stray_mark(frame) {
            return Err(OutOfStep);
        }
        let arrived = self.lanes[store.index()].arrived(now).ok_or(OutOfStep)?;
        match arrived.sink {
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
        }
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        match op.owner {
            Owner::Bulk(id) => return self.bulk_reply(key, id, store, arrived.last, frame),
            Owner::CopyGroup(group) => return self.group_reply(key, group, arrived.last, frame),
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
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
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
        if let Owner::Attempt(park) = op.owner {
            self.attempt_reply(key, park, store, frame);
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
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
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
    fn resolve(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
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
        if op.answered || answer.is_some_and(|by| by != store) {
            self.late_reply(key, store, frame);
            return;
        }
        if answer == Some(store) {
            self.answer(key, store, frame);
            self.late_reply(key, store, frame);
            return;
        }
        let Some(op) = self.ops.get(key.0 as usize) else { return };
        if self.is_overtaken(op, store) {
            if let Some(op) = self.ops.get_mut(key.0 as usize) {
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

    /// Does this reply to a lookup tell what `store` would not hold if it had taken a write before? The write's
    /// refusal has come first, on the same lane.
    fn is_overtaken(&self, op: &Op, store: StoreId) -> bool {
        let mut behind = false;
        if matches!(op.policy, Policy::Lookup { .. }) && store != op.default {
            op.touched.each(|hash, _| behind |= self.known.of(hash) == Sync::Suspect(store));
        }
        behind
    }

    fn seen(&self, op: &Op) -> [Seen; 2] {
        StoreId::ALL.map(|store| policy::seen(&op.replies[store.index()], |frame| is_hit(op, frame)))
    }

    /// Keeps a reply that may become the answer. Until then it counts as one that the client has not read.
    fn keep(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let kept = Kept::new(frame, usize::MAX);
        let size = kept.size();
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
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
    fn keep_to_compare(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let room = self.kept < self.settings.lag_max;
        let kept = Kept::new(frame, if room { self.settings.compare_max_bytes } else { 0 });
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        op.kept += kept.size();
        self.kept += kept.size() as u64;
        op.replies[store.index()] = Reply::Kept(kept);
    }

    /// A reply that is not needed as an answer, or not any more: compared, or let go.
    fn late_reply(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        let other = &op.replies[store.other().index()];
        let pending = other.is_pending();
        if !op.compare || matches!(other, Reply::Unsent | Reply::Failed(_) | Reply::Gone) {
            op.replies[store.index()] = Reply::Gone;
        } else if pending {
            self.keep_to_compare(key, store, frame);
        } else {
            self.compare(key, store, frame);
            if let Some(op) = self.ops.get_mut(key.0 as usize) {
                op.replies[store.index()] = Reply::Gone;
            }
        }
        self.retire(key);
    }

    /// Looks again at an operation after something about it has changed.
    pub(super) fn settle(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key.0 as usize) else { return };
        if op.answered {
            self.retire(key);
            return;
        }
        match policy::decide(op.policy, self.seen(op)) {
            Step::Wait => {}
            Step::AskSecondary => self.ask_secondary(key),
            Step::Answer(store) => {
                self.answer_kept(key, store);
                self.compare_kept(key);
                self.retire(key);
            }
            Step::Merge => {
                self.answer_merged(key);
                self.compare_kept(key);
                self.retire(key);
            }
            Step::Fail(store) => {
                let failure = match op.replies[store.index()] {
                    Reply::Failed(failure) => failure,
                    _ => Failure::Down,
                };
                let frame = self.failure_frame(store, failure);
                self.answer_failure(key, failure, &frame);
                self.retire(key);
            }
        }
    }

    fn answer_kept(&mut self, key: OpKey, store: StoreId) {
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        let kept = std::mem::replace(&mut op.replies[store.index()], Reply::Gone);
        if let Some(frame) = kept.frame() {
            self.answer(key, store, frame);
        }
        if let Some(op) = self.ops.get_mut(key.0 as usize) {
            op.replies[store.index()] = kept;
        }
    }

    fn answer_merged(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key.0 as usize) else { return };
        let [primary, secondary] = &op.replies;
        let default = self.default_store();
        let (Some(primary), Some(secondary)) = (primary.frame(), secondary.frame()) else { return };
        let mut known = Vec::new();
        op.touched.each(|hash, _| known.push(self.known.of(hash)));
        let merged = compare::merge_mget(primary, secondary, |place| match known.get(place) {
            Some(Sync::Suspect(StoreId::Primary)) => compare::Prefer::SecondaryOnly,
            Some(Sync::Suspect(StoreId::Secondary)) => compare::Prefer::PrimaryOnly,
            Some(Sync::InSync) if default == StoreId::Primary => compare::Prefer::PrimaryOnly,
            _ => compare::Prefer::PrimaryElseSecondary,
        });
        let (frame, taken) = match merged {
            Some(merged) => (merged.reply, !merged.taken.is_empty()),
            None if default == StoreId::Primary => (primary.to_vec(), false),
            None => (secondary.to_vec(), false),
        };
        if taken {
            self.count_fallback(key);
        }
        self.answer(key, default, &frame);
    }

    fn count_fallback(&self, key: OpKey) {
        if let Some(op) = self.ops.get(key.0 as usize) {
            self.metrics.read_fallback.inc(op.command.index());
        }
    }

    /// Pays the owner with this reply of `store`.
    pub(super) fn answer(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        op.answered = true;
        if op.kept > 0 {
            self.let_go_kept(key);
        }
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        let (owner, started, kind) = (op.owner, op.started, op.kind);
        let is_lookup = matches!(op.policy, Policy::Lookup { .. });
        if is_lookup && fell_back(op, store) && is_hit(op, frame) {
            self.metrics.read_fallback.inc(op.command.index());
            let (touched, db) = (std::mem::take(&mut op.touched), op.context.db);
            touched.each(|hash, name| self.copy_found(db, name, hash));
        }
        match owner {
            Owner::Client { key: client, seq } => {
                self.metrics.request_duration[kind].observe(self.now - started);
                if is_lookup {
                    self.forget_lone_read(client, key);
                }
                self.clients.pay(client, seq, frame);
            }
            Owner::Ticket(ticket) => {
                if let Some(sender) = self.tickets.remove(&ticket) {
                    let _ = sender.send(Ok(frame.to_vec()));
                }
            }
            Owner::Attempt(_)
            | Owner::CopyRead(_)
            | Owner::CopyWrite(_)
            | Owner::CopyGroup(_)
            | Owner::Bulk(_)
            | Owner::Nobody => {}
        }
    }

    fn forget_lone_read(&mut self, client: super::clients::ClientKey, key: OpKey) {
        if let Some(client) = self.clients.get_mut(client)
            && client.lone_read == Some(key)
        {
            client.lone_read = None;
        }
    }

    /// Tells the owner that no reply will come; all unpaid slots of a transaction are paid.
    fn answer_failure(&mut self, key: OpKey, failure: Failure, frame: &[u8]) {
        self.let_go_kept(key);
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        op.answered = true;
        let owner = op.owner;
        let unpaid: Vec<u64> = match &mut op.extra {
            Some(extra) => {
                extra.parts.iter_mut().filter(|p| !p.answered).map(|p| (p.answered = true, p.seq).1).collect()
            }
            None => Vec::new(),
        };
        match owner {
            Owner::Client { key: client, seq } => {
                self.metrics.client_errors[ClientErrorKind::Unavailable].inc();
                self.forget_lone_read(client, key);
                let last = unpaid.last().copied();
                unpaid.into_iter().for_each(|seq| self.clients.pay(client, seq, frame));
                if last != Some(seq) {
                    self.clients.pay(client, seq, frame);
                }
            }
            Owner::Ticket(ticket) => {
                if let Some(sender) = self.tickets.remove(&ticket) {
                    let _ = sender.send(Err(failure));
                }
            }
            Owner::Attempt(park) => {
                self.attempt_settled(park, frame);
            }
            owner @ (Owner::CopyRead(_) | Owner::CopyWrite(_)) => self.copy_lost(owner, failure),
            Owner::CopyGroup(_) | Owner::Bulk(_) | Owner::Nobody => {}
        }
    }

    /// `store` will not reply to this operation.
    pub(super) fn failed(&mut self, key: OpKey, store: StoreId, failure: Failure) {
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        let default = op.default;
        let was_sent = !matches!(failure, Failure::Down | Failure::NotSent | Failure::QueueFull);
        op.replies[store.index()] = Reply::Failed(failure);
        let counted = match failure {
            Failure::Timeout | Failure::NotSent => Some(StoreErrorKind::Timeout),
            Failure::QueueFull => Some(StoreErrorKind::QueueFull),
            // Counted once for the connection, not for each command on it.
            Failure::Down | Failure::Lost | Failure::Busy => None,
        };
        if let Some(kind) = counted {
            self.metrics.store(store).errors[kind].inc();
        }
        let cut = op.streaming == Some(store);
        let owner = op.owner;
        match owner {
            Owner::Bulk(id) => return self.bulk_failed(key, id, store, failure),
            Owner::CopyGroup(group) => return self.group_lost(key, group),
            _ => {}
        }
        if op.write {
            let asked_other = !matches!(op.replies[store.other().index()], Reply::Unsent);
            let is_attempt = matches!(owner, Owner::Attempt(_));
            let (touched, db, derived) = (op.touched.clone(), op.context.db, op.derived);
            if store != default && !is_attempt {
                self.note_lost_mirror(store, failure);
            }
            if derived && store == default {
                self.give_place_up(key, default, failure);
            } else if store != default || (asked_other || was_sent) {
                // One store may have what the other has not.
                self.doubt(&touched, db, default.other());
            }
        }
        if cut {
            if let Owner::Client { key: client, .. } = owner {
                self.clients.doom(client, Doom::CutReply);
            }
            if let Some(op) = self.ops.get_mut(key.0 as usize) {
                op.answered = true;
            }
        }
        self.settle(key);
    }

    pub(super) fn note_lost_mirror(&mut self, store: StoreId, failure: Failure) {
        let counters = self.metrics.store(store);
        counters.mirror_write_failures.inc();
        if matches!(failure, Failure::Down | Failure::NotSent | Failure::QueueFull) {
            counters.dropped_writes.inc();
        }
    }

    pub(super) fn retire(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key.0 as usize) else { return };
        if !op.answered || op.is_open() {
            return;
        }
        if op.kept > 0 {
            self.let_go_kept(key);
        }
        let op = self.ops.remove(key.0 as usize);
        self.kept = self.kept.saturating_sub(op.kept as u64);
    }

    /// What is kept for an operation does not count as unread by its client any more.
    fn let_go_kept(&mut self, key: OpKey) {
        if let Some(op) = self.ops.get_mut(key.0 as usize)
            && let Owner::Client { key: client, .. } = op.owner
            && op.kept_for_client > 0
        {
            self.clients.unkeep(client, std::mem::take(&mut op.kept_for_client));
        }
    }

    // --- replies too large to wait for ---

    /// Takes a piece of a large reply of `store` that is still coming in. False: the piece must
    /// be kept by the caller until the reply is complete.
    pub fn on_piece(&mut self, store: StoreId, piece: &[u8]) -> bool {
        let now = self.now;
        self.lanes[store.index()].heard_at = now;
        self.lanes[store.index()].in_reply = true;
        let Some((sink, index)) = self.lanes[store.index()].expected() else { return false };
        let Sink::Op(key) = sink else { return sink == Sink::Nobody };
        let Some(op) = self.ops.get(key.0 as usize) else { return true };
        if op.derived || op.owner == Owner::Nobody {
            // An effect is made from the whole of it, or it is looked through for errors.
            return false;
        }
        let last = op.extra.as_ref().is_none_or(|extra| index as usize + 1 >= extra.parts.len());
        // The cursor in a page is noted before the client has it.
        let scan = op.extra.as_ref().is_some_and(|extra| extra.scan.is_some());
        if !last || scan {
            return false;
        }
        if op.answered && op.streaming != Some(store) {
            self.digest(key, store, piece);
            return true;
        }
        let Owner::Client { key: client, seq } = op.owner else { return false };
        if op.streaming.is_none() {
            let may = policy::may_stream(op.policy, store, self.seen(op));
            let miss = may_be_large_miss(op);
            if !may || miss || !self.clients.is_front(client, seq) {
                return false;
            }
        }
        if let Some(op) = self.ops.get_mut(key.0 as usize) {
            op.streaming = Some(store);
            op.answered = true;
        }
        self.digest(key, store, piece);
        self.clients.stream(client, piece);
        true
    }

    fn digest(&mut self, key: OpKey, store: StoreId, piece: &[u8]) {
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        if op.compare {
            let digest = &mut op.extra_mut().digests[store.index()];
            digest.get_or_insert_with(|| Box::new(Digest::new())).update(piece);
        }
    }

    /// The last piece of a reply whose earlier pieces were taken by [`Sequencer::on_piece`].
    pub fn on_last_piece(&mut self, store: StoreId, piece: &[u8]) -> Result<(), OutOfStep> {
        if !self.on_piece(store, piece) {
            return Err(OutOfStep);
        }
        let now = self.now;
        let arrived = self.lanes[store.index()].arrived(now).ok_or(OutOfStep)?;
        let Sink::Op(key) = arrived.sink else { return Ok(()) };
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return Ok(()) };
        let digest = op.extra.as_mut().and_then(|extra| extra.digests[store.index()].take());
        let streamed = op.streaming == Some(store);
        op.replies[store.index()] = match digest {
            Some(digest) => Reply::Kept(Kept::digest(&digest)),
            None => Reply::Gone,
        };
        let (owner, started, kind) = (op.owner, op.started, op.kind);
        if streamed && fell_back(op, store) {
            self.metrics.read_fallback.inc(op.command.index());
        }
        if streamed {
            op.streaming = None;
            if let Owner::Client { key: client, .. } = owner {
                self.metrics.request_duration[kind].observe(self.now - started);
                self.forget_lone_read(client, key);
                self.clients.end_stream(client);
            }
        }
        self.compare_kept(key);
        self.retire(key);
        Ok(())
    }
}

/// Is a hit of `store` the answer because the primary had none?
fn fell_back(op: &Op, store: StoreId) -> bool {
    store == StoreId::Secondary
        && matches!(op.policy, Policy::Lookup { impatient: false, .. })
        && !op.replies[StoreId::Primary.index()].is_pending()
}

/// May a large reply to this lookup turn out to be a miss? Only one of many elements, each of them none.
fn may_be_large_miss(op: &Op) -> bool {
    matches!(op.policy, Policy::Lookup { .. })
        && matches!(op.miss, Miss::AllNil | Miss::AllZero | Miss::MinusTwo)
}

/// Is this reply to `op` a hit, as far as reading from two stores is concerned?
fn is_hit(op: &Op, frame: &[u8]) -> bool {
    match op.policy {
        Policy::Lookup { .. } | Policy::Merge { .. } => {
            let cursor = op.extra.as_ref().and_then(|extra| extra.cursor.as_deref());
            !compare::is_error(frame) && !compare::is_miss(op.miss, frame, cursor)
        }
        _ => true,
    }
}
