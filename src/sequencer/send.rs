//! An operation and its place in the lanes.

use crate::command::CommandId;
use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::lane::{Context, Sink};
use super::op::{Failure, Op, OpKey, Owner, Policy, Reply};
use super::submission::Submission;
use super::touched::Touched;
use super::{OnLag, Sequencer};

// === impl Sequencer ===

impl Sequencer {
    /// An operation for what a client has submitted, in its place. It must be sent at once.
    #[inline(always)]
    pub(super) fn open(&mut self, submission: &Submission<'_>, policy: Policy) -> (OpKey, &mut Op) {
        let (default, now) = (self.default_store(), self.now);
        let (key, op) = self.ops.open();
        begin(op, submission, policy, default, now);
        (key, op)
    }

    /// The same, not in its place yet.
    pub(super) fn new_op(&mut self, submission: &Submission<'_>, policy: Policy) -> Op {
        let mut op = Op::idle();
        begin(&mut op, submission, policy, self.default_store(), self.now);
        op
    }

    pub(super) fn send(&mut self, op: Op, frame: &[u8], stores: &[StoreId]) -> OpKey {
        self.send_counted(op, frame, stores, 1)
    }

    /// Takes an operation in and appends its request to the lanes of `stores`.
    pub(super) fn send_counted(&mut self, op: Op, frame: &[u8], stores: &[StoreId], replies: u32) -> OpKey {
        let key = self.ops.insert(op);
        match stores {
            [] => {}
            [store] => self.send_op(key, frame, [*store], replies),
            _ => self.send_op(key, frame, StoreId::ALL, replies),
        }
        key
    }

    /// Appends a request to the lanes of `stores` in one step.
    #[inline(always)]
    pub(super) fn send_op<const N: usize>(
        &mut self,
        key: OpKey,
        frame: &[u8],
        stores: [StoreId; N],
        replies: u32,
    ) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let context = op.context;
        // Then neither limit is passed, whichever counts for a store.
        let most = self.settings.queue_max.min(self.settings.lag_max);
        let mut taken = true;
        for store in stores {
            taken &= self.lanes[store.index()].takes(context, frame.len(), most);
        }
        if !taken {
            self.send_where_taken(key, frame, &stores, replies);
            return;
        }
        for store in stores {
            op.replies[store.index()].turn_into(Reply::Pending);
        }
        for store in stores {
            self.lanes[store.index()].put(frame, Sink::Op(key), replies, self.now);
            self.tally.sent(store);
        }
    }

    /// Appends a request to the lane of `store`, which accepts it, however much is queued.
    pub(super) fn send_past_limits(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
        op.replies[store.index()] = Reply::Pending;
        let context = op.context;
        self.append(store, context, frame, key, 1);
    }

    fn append(&mut self, store: StoreId, context: Context, frame: &[u8], key: OpKey, replies: u32) {
        self.lanes[store.index()].append(context, frame, Sink::Op(key), replies, self.now);
        self.tally.sent(store);
    }

    /// A store cannot take the request, or not at once.
    ///
    /// Where that is the default store and the request a write, nobody gets it. Where it is the other store, its part
    /// has failed from the start.
    fn send_where_taken(&mut self, key: OpKey, frame: &[u8], stores: &[StoreId], replies: u32) {
        let default = self.default_store();
        let Some(op) = self.ops.get(key) else { return };
        let most = self.lag_borne_by(op);
        let mut failures = StoreId::ALL.map(|store| self.refusal_beyond(store, frame.len(), most));
        let Some(op) = self.ops.get_mut(key) else { return };
        if op.write
            && stores.contains(&default)
            && let Some(failure) = failures[default.index()]
        {
            // Nobody gets it: the stores do not part over it.
            op.touched = Touched::Nothing;
            failures = [Some(failure); 2];
        }
        let context = op.context;
        for store in stores {
            op.replies[store.index()] = failures[store.index()].map_or(Reply::Pending, Reply::Failed);
        }
        for store in stores.iter().filter(|store| failures[store.index()].is_none()) {
            self.append(*store, context, frame, key, replies);
        }
        for store in stores {
            if let Some(failure) = failures[store.index()] {
                self.failed(key, *store, failure);
            }
        }
    }

    /// Why `store` can't take a request of `bytes` now, if it can't.
    #[inline]
    pub(super) fn refusal(&self, store: StoreId, bytes: usize) -> Option<Failure> {
        self.refusal_beyond(store, bytes, self.settings.lag_max)
    }

    /// The same where the other store may have so much queued.
    pub(super) fn refusal_beyond(&self, store: StoreId, bytes: usize, most: u64) -> Option<Failure> {
        let lane = self.lane(store);
        if !lane.accepts() {
            return Some(Failure::Down);
        }
        let queued = lane.queued_memory();
        if store == self.default_store() || !self.stage().is_dual() {
            let full = queued > 0 && queued + bytes as u64 > self.settings.queue_max;
            return full.then_some(Failure::QueueFull);
        }
        let lagging = queued > most && self.settings.on_lag == OnLag::Repair;
        lagging.then_some(Failure::QueueFull)
    }

    /// How much may be queued for the other store when this is? Who needs what only that one may have waits for it to
    /// catch up: copies of keys, of which few are under way, and reads that the primary may have to leave to it, of which
    /// each client has few outstanding.
    fn lag_borne_by(&self, op: &Op) -> u64 {
        let leaves = |default| default == StoreId::Primary;
        match (op.owner, op.policy) {
            (Owner::CopyRead(_), _) => u64::MAX,
            (_, Policy::Lookup { default, .. } | Policy::Merge { default }) if leaves(default) => u64::MAX,
            _ => self.settings.lag_max,
        }
    }

    /// A request of the proxy's own to one store; the receiver gets the reply frame.
    pub fn ask(
        &mut self,
        store: StoreId,
        context: Context,
        command: CommandId,
        frame: &[u8],
    ) -> tokio::sync::oneshot::Receiver<Result<Vec<u8>, Failure>> {
        let (op, receiver) = self.ticket(store, context, command);
        self.send(op, frame, &[store]);
        receiver
    }

    fn ticket(
        &mut self,
        store: StoreId,
        context: Context,
        command: CommandId,
    ) -> (Op, tokio::sync::oneshot::Receiver<Result<Vec<u8>, Failure>>) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, sender);
        let op = self.own_op(Owner::Ticket(self.next_ticket), command, Policy::Single(store), context);
        (op, receiver)
    }

    /// Ends a connection to `store` that was given up amid a request: what it has sent is executed before anything that is
    /// appended behind this, or never. The receiver is told when the store has answered. However much is queued: each such
    /// connection has cost its client a wait, and what comes behind must not be overtaken.
    pub fn end_connection(
        &mut self,
        store: StoreId,
        id: i64,
    ) -> Option<tokio::sync::oneshot::Receiver<Result<Vec<u8>, Failure>>> {
        let command = self.table.by_name("client|kill")?;
        let mut frame = Vec::new();
        let mut number = itoa::Buffer::new();
        encode::command(&mut frame, &[b"CLIENT".as_slice(), b"KILL", b"ID", number.format(id).as_bytes()]);
        let context = Context { db: 0, proto: Proto::Resp2 };
        let (op, receiver) = self.ticket(store, context, command);
        if self.lane(store).accepts() {
            let key = self.ops.insert(op);
            self.send_past_limits(key, store, &frame);
        } else {
            // The next lane ends it before it carries anything.
            self.send(op, &frame, &[store]);
        }
        Some(receiver)
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

/// Makes `op` one for what a client has submitted.
#[inline(always)]
fn begin(op: &mut Op, submission: &Submission<'_>, policy: Policy, default: StoreId, now: u64) {
    let owner = Owner::Client { key: submission.client, seq: submission.seq };
    op.begin(owner, submission.command, policy, default, submission.context, now);
    op.rule = submission.rule;
    op.kind = submission.kind;
    op.batch = submission.batch;
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
