//! An operation and its place in the lanes.

use crate::command::CommandId;
use crate::resp::Proto;
use crate::stage::StoreId;

use super::lane::{Context, Sink};
use super::op::{Failure, Op, OpKey, Owner, Policy, Reply};
use super::submission::Submission;
use super::touched::Touched;
use super::{OnLag, Sequencer};

// === impl Sequencer ===

impl Sequencer {
    #[inline]
    pub(super) fn new_op(&mut self, submission: &Submission<'_>, policy: Policy) -> Op {
        let owner = Owner::Client { key: submission.client, seq: submission.seq };
        let mut op =
            Op::new(owner, submission.command, policy, self.default_store(), submission.context, self.now);
        op.rule = submission.rule;
        op.kind = submission.kind;
        op.batch = self.batch_of(submission);
        op
    }

    fn batch_of(&mut self, submission: &Submission<'_>) -> Option<std::rc::Rc<super::op::Batch>> {
        if submission.alone || !self.stage().is_dual() {
            return None;
        }
        let client = self.clients.get_mut(submission.client)?;
        Some(client.batch.get_or_insert_default().clone())
    }

    pub(super) fn send(&mut self, op: Op, frame: &[u8], stores: &[StoreId]) -> OpKey {
        self.send_counted(op, frame, stores, 1)
    }

    /// Appends a request to the lanes of `stores` in one step.
    ///
    /// Where the default store cannot take a write, nobody gets it. Where the other store cannot,
    /// its part has failed from the start.
    pub(super) fn send_counted(
        &mut self,
        mut op: Op,
        frame: &[u8],
        stores: &[StoreId],
        replies: u32,
    ) -> OpKey {
        let mut failures = [None, None];
        let default = self.default_store();
        // Whoever is held until the other store has told what only it knows waits for it to catch up, too.
        let waits = matches!(op.owner, Owner::CopyRead(_));
        for store in stores {
            let refusal = self.refusal(*store, frame.len());
            failures[store.index()] =
                refusal.filter(|failure| !waits || *store == default || *failure == Failure::Down);
        }
        if op.write
            && stores.contains(&default)
            && let Some(failure) = failures[default.index()]
        {
            // Nobody gets it: the stores do not part over it.
            op.touched = Touched::Nothing;
            failures = [Some(failure); 2];
        }
        for store in stores {
            op.replies[store.index()] = failures[store.index()].map_or(Reply::Pending, Reply::Failed);
        }
        let context = op.context;
        let key = OpKey(self.ops.insert(op) as u32);
        for store in stores {
            if failures[store.index()].is_none() {
                self.lanes[store.index()].append(context, frame, Sink::Op(key), replies, self.now);
                self.metrics.store(*store).commands.inc();
            }
        }
        for store in stores {
            if let Some(failure) = failures[store.index()] {
                self.failed(key, *store, failure);
            }
        }
        key
    }

    /// Why `store` can't take a request of `bytes` now, if it can't.
    #[inline]
    pub(super) fn refusal(&self, store: StoreId, bytes: usize) -> Option<Failure> {
        let lane = self.lane(store);
        if !lane.accepts() {
            return Some(Failure::Down);
        }
        let queued = lane.queued_memory();
        if store == self.default_store() || !self.stage().is_dual() {
            let full = queued > 0 && queued + bytes as u64 > self.settings.queue_max;
            return full.then_some(Failure::QueueFull);
        }
        let lagging = queued > self.settings.lag_max && self.settings.on_lag == OnLag::Repair;
        lagging.then_some(Failure::QueueFull)
    }

    /// A request of the proxy's own to one store; the receiver gets the reply frame.
    pub fn ask(
        &mut self,
        store: StoreId,
        context: Context,
        command: CommandId,
        frame: &[u8],
    ) -> tokio::sync::oneshot::Receiver<Result<Vec<u8>, Failure>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, sender);
        let op = self.own_op(Owner::Ticket(self.next_ticket), command, Policy::Single(store), context);
        self.send(op, frame, &[store]);
        receiver
    }

    /// A request of the proxy's own to both stores, at one point of the order. Nobody is answered.
    pub fn broadcast(&mut self, command: CommandId, frame: &[u8]) {
        let context = Context { db: 0, proto: Proto::Resp2 };
        let policy = Policy::Authority(self.default_store());
        let op = self.own_op(Owner::Nobody, command, policy, context);
        self.send(op, frame, &StoreId::ALL);
    }

    pub(super) fn own_op(&self, owner: Owner, command: CommandId, policy: Policy, context: Context) -> Op {
        Op::new(owner, command, policy, self.default_store(), context, self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::knowledge::Sync;
    use super::super::lane::REQUEST_BYTES;
    use super::super::testing::{sequencer, set};
    use crate::stage::{Stage, StoreId};

    #[test]
    fn very_many_small_requests_fill_a_queue_before_their_bytes_do() {
        let mut core = sequencer(Stage::SecondaryOnly, Sync::InSync);
        let client = core.clients.insert(1);
        let room = core.settings.queue_max / REQUEST_BYTES;
        (0..room).for_each(|_| drop(set(&mut core, client, "k")));
        let depth = core.lane(StoreId::Secondary).depth() as u64;
        assert!(depth > room / 2, "{depth} of {room}");
        assert!(depth < room, "the rest is refused");
    }
}
