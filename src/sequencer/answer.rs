//! Which reply is the answer, who is paid with it, and when an operation is over.

use crate::command::Miss;
use crate::compare::{self};
use crate::metrics::{ClientErrorKind, StoreErrorKind};
use crate::stage::StoreId;

use super::Sequencer;
use super::clients::Doom;
use super::knowledge::Sync;
use super::op::{Failure, Op, OpKey, Owner, Policy, Reply};
use super::policy::{self, Step};

// === impl Sequencer ===

impl Sequencer {
    /// Looks again at an operation after something about it has changed.
    pub(super) fn settle(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key) else { return };
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
                let failure = self.as_it_turned_out(key, failure);
                let frame = self.failure_frame(store, failure);
                self.answer_failure(key, failure, &frame);
                self.retire(key);
            }
        }
    }

    /// A write did not leave for the store that was the default when it was placed. Where the other one is by now, and has
    /// it, the client must not take it for undone.
    fn as_it_turned_out(&self, key: OpKey, failure: Failure) -> Failure {
        let now = self.default_store();
        let Some(op) = self.ops.get(key).filter(|op| op.write && op.default != now) else { return failure };
        let has_it = match op.replies[now.index()] {
            Reply::Unsent => false,
            Reply::Failed(failure) => failure.was_sent(),
            _ => true,
        };
        if has_it && !failure.was_sent() { Failure::Lost } else { failure }
    }

    fn answer_kept(&mut self, key: OpKey, store: StoreId) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let kept = std::mem::replace(&mut op.replies[store.index()], Reply::Gone);
        if let Some(frame) = kept.frame() {
            self.answer(key, store, frame);
        }
        if let Some(op) = self.ops.get_mut(key) {
            op.replies[store.index()] = kept;
        }
    }

    fn answer_merged(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key) else { return };
        let [primary, secondary] = &op.replies;
        let default = self.default_store();
        let (Some(primary), Some(secondary)) = (primary.frame(), secondary.frame()) else { return };
        let mut known = Vec::new();
        op.touched.each(|hash, _| known.push(self.held_of(hash)));
        let merged = compare::merge_mget(primary, secondary, |place| match known.get(place) {
            Some(Sync::Suspect(StoreId::Primary)) => compare::Prefer::SecondaryOnly,
            Some(Sync::Suspect(StoreId::Secondary)) => compare::Prefer::PrimaryOnly,
            Some(Sync::InSync) if default == StoreId::Primary => compare::Prefer::PrimaryOnly,
            _ => compare::Prefer::PrimaryElseSecondary,
        });
        let (frame, taken) = match merged {
            Some(merged) => (merged.reply, merged.taken),
            None if default == StoreId::Primary => (primary.to_vec(), Vec::new()),
            None => (secondary.to_vec(), Vec::new()),
        };
        if !taken.is_empty() {
            self.count_fallback(key);
            self.copy_taken(key, &taken);
        }
        self.answer(key, default, &frame);
    }

    /// The primary lacked the keys at these places.
    fn copy_taken(&mut self, key: OpKey, places: &[usize]) {
        let Some(op) = self.ops.get(key) else { return };
        let (touched, db) = (op.touched.clone(), op.context.db);
        let mut place = 0;
        touched.each(|hash, name| {
            if places.binary_search(&place).is_ok() {
                self.copy_found(db, name, hash);
            }
            place += 1;
        });
    }

    fn count_fallback(&self, key: OpKey) {
        if let Some(op) = self.ops.get(key) {
            self.metrics.read_fallback.inc(op.command.index());
        }
    }

    /// Pays the owner with this reply of `store`.
    pub(super) fn answer(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
        op.answered = true;
        if op.kept_for_client > 0 {
            self.let_go_kept(key);
        }
        let Some(op) = self.ops.get_mut(key) else { return };
        let (owner, started, kind) = (op.owner, op.started, op.kind);
        let is_lookup = matches!(op.policy, Policy::Lookup { .. });
        let is_lone_read = is_lookup || !op.request.is_empty();
        if is_lookup && fell_back(op, store) && is_hit(op, frame) {
            self.metrics.read_fallback.inc(op.command.index());
            let (touched, db) = (std::mem::take(&mut op.touched), op.context.db);
            touched.each(|hash, name| self.copy_found(db, name, hash));
        }
        match owner {
            Owner::Client { key: client, seq } => {
                self.tally.answered(kind, self.now - started, &self.metrics);
                if is_lone_read {
                    self.forget_lone_read(client, key);
                }
                self.clients.pay(client, seq, frame);
            }
            Owner::Ticket(ticket) => {
                if let Some(sender) = self.tickets.remove(&ticket) {
                    let _ = sender.send(Ok(frame.to_vec()));
                }
            }
            Owner::Attempt(park) => {
                let extra = self.ops.get_mut(key).and_then(|op| op.extra.as_mut());
                let error = extra.and_then(|extra| extra.error.take());
                self.attempt_settled(park, error.as_deref().unwrap_or(frame));
            }
            Owner::CopyRead(_)
            | Owner::CopyWrite(_)
            | Owner::CopyGroup(_)
            | Owner::Bulk(_)
            | Owner::End { .. }
            | Owner::Nobody => {}
        }
    }

    pub(super) fn forget_lone_read(&mut self, client: super::clients::ClientKey, key: OpKey) {
        if let Some(client) = self.clients.get_mut(client)
            && client.lone_read == Some(key)
        {
            client.lone_read = None;
        }
    }

    /// Tells the owner that no reply will come; all unpaid slots of a transaction are paid.
    fn answer_failure(&mut self, key: OpKey, failure: Failure, frame: &[u8]) {
        self.let_go_kept(key);
        let Some(op) = self.ops.get_mut(key) else { return };
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
            Owner::CopyGroup(_) | Owner::Bulk(_) | Owner::End { .. } | Owner::Nobody => {}
        }
    }

    /// `store` will not reply to this operation.
    pub(super) fn failed(&mut self, key: OpKey, store: StoreId, failure: Failure) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let default = op.default;
        let was_sent = failure.was_sent();
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
            Owner::End { .. } => return self.end_untold(key, store, failure),
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
        self.turn_to_the_secondary(key, store, failure);
        self.answer_waiting(key);
        if cut {
            if let Owner::Client { key: client, .. } = owner {
                self.clients.doom(client, Doom::CutReply);
            }
            if let Some(op) = self.ops.get_mut(key) {
                op.answered = true;
            }
        }
        self.settle(key);
    }

    pub(super) fn note_lost_mirror(&mut self, store: StoreId, failure: Failure) {
        let counters = self.metrics.store(store);
        counters.mirror_write_failures.inc();
        if !failure.was_sent() {
            counters.dropped_writes.inc();
        }
    }

    #[inline]
    pub(super) fn retire(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key) else { return };
        if !op.answered || op.is_open() {
            return;
        }
        let kept = op.kept;
        if op.kept_for_client > 0 {
            self.let_go_kept(key);
        }
        self.kept = self.kept.saturating_sub(kept as u64);
        self.ops.close(key);
    }

    /// What is kept for an operation does not count as unread by its client any more.
    pub(super) fn let_go_kept(&mut self, key: OpKey) {
        if let Some(op) = self.ops.get_mut(key)
            && let Owner::Client { key: client, .. } = op.owner
            && op.kept_for_client > 0
        {
            self.clients.unkeep(client, std::mem::take(&mut op.kept_for_client));
        }
    }
}

/// Is a hit of `store` the answer because the primary had none?
pub(super) fn fell_back(op: &Op, store: StoreId) -> bool {
    store == StoreId::Secondary
        && matches!(op.policy, Policy::Lookup { impatient: false, .. })
        && !op.replies[StoreId::Primary.index()].is_pending()
}

/// May a large reply to this lookup turn out to be a miss? Only one of many elements, each of them none.
pub(super) fn may_be_large_miss(op: &Op) -> bool {
    matches!(op.policy, Policy::Lookup { .. })
        && matches!(op.miss, Miss::AllNil | Miss::AllZero | Miss::MinusTwo)
}

/// Is this reply to `op` a hit, as far as reading from two stores is concerned?
pub(super) fn is_hit(op: &Op, frame: &[u8]) -> bool {
    match op.policy {
        Policy::Lookup { .. } | Policy::Merge { .. } => {
            let cursor = op.extra.as_ref().and_then(|extra| extra.cursor.as_deref());
            !compare::is_error(frame) && !compare::is_miss(op.miss, frame, cursor)
        }
        _ => true,
    }
}
