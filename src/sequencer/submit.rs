//! Requests enter the one order here.

use crate::command::{CommandId, Miss, Rule};
use crate::metrics::RequestKind;
use crate::resp::Proto;
use crate::stage::{Stage, StoreId};

use super::clients::ClientKey;
use super::fence::Footprint;
use super::lane::{Context, Sink};
use super::op::{Extra, Failure, Op, OpKey, Owner, Part, Policy, Reply};
use super::{Ack, OnLag, Reads, Sequencer};

/// Which way a request goes while dual. Decided by [`crate::route`] from the command alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// To the default store alone.
    Default,
    /// A read that may be looked up on both stores.
    Read(Miss),
    /// A page of a scan within one key; the cursor asked for.
    Scan(u64, Miss),
    /// A page of the keyspace; the cursor asked for.
    KeyspaceScan(u64),
    /// To both stores.
    Write,
}

/// One request of one client.
pub struct Submission<'a> {
    /// Who asks.
    pub client: ClientKey,
    /// The slot for the reply.
    pub seq: u64,
    /// Which command.
    pub command: CommandId,
    /// Which way it goes.
    pub path: Path,
    /// How replies to it are compared.
    pub rule: Rule,
    /// What it is counted as.
    pub kind: RequestKind,
    /// Database and protocol.
    pub context: Context,
    /// The canonical request.
    pub frame: &'a [u8],
    /// What it touches. [`Footprint::Nothing`] is fine in single-store stages.
    pub footprint: Footprint,
    /// The first key, for samples.
    pub key: &'a [u8],
    /// Nothing else of this client is outstanding.
    pub alone: bool,
    /// How many parked clients it may serve.
    pub fills: usize,
}

/// A whole transaction of one client.
pub struct Transaction<'a> {
    /// Who asks.
    pub client: ClientKey,
    /// MULTI, the commands, EXEC: where their replies go.
    pub parts: Vec<Part>,
    /// EXEC's entry in the command table.
    pub command: CommandId,
    /// Database and protocol.
    pub context: Context,
    /// The canonical requests, one behind the other.
    pub frame: &'a [u8],
    /// What its commands touch together.
    pub footprint: Footprint,
    /// Does any of its commands write?
    pub writes: bool,
}

// === impl Sequencer ===

impl Sequencer {
    /// Puts a request into the order, or holds it behind a fence: then the client is to be read
    /// no further until it is woken ([`Sequencer::is_held`]).
    pub fn submit(&mut self, submission: Submission<'_>) {
        if !self.holds.is_open() && self.holds.blocks(&submission.footprint) {
            self.hold_submission(&submission);
            return;
        }
        self.place(submission);
    }

    pub(super) fn place(&mut self, submission: Submission<'_>) {
        if !self.stage().is_dual() {
            self.place_single(submission);
            return;
        }
        self.hurry_lone_read(submission.client);
        match submission.path {
            Path::Default => self.place_single(submission),
            Path::Read(miss) => self.place_read(submission, miss),
            Path::Scan(cursor, miss) => self.place_scan(submission, cursor, Some(miss)),
            Path::KeyspaceScan(cursor) => self.place_scan(submission, cursor, None),
            Path::Write => self.place_write(submission),
        }
    }

    fn place_single(&mut self, submission: Submission<'_>) {
        let store = match submission.path {
            Path::Scan(cursor, _) | Path::KeyspaceScan(cursor) => self.scan_store(cursor),
            _ => self.default_store(),
        };
        let policy = Policy::Single(store);
        let mut op = self.new_op(&submission, policy);
        if matches!(submission.path, Path::Scan(..) | Path::KeyspaceScan(_)) {
            op.extra_mut().cursor = Some(Box::default());
        }
        self.send(op, submission.frame, &[store]);
    }

    fn scan_store(&self, cursor: u64) -> StoreId {
        self.cursors.issuer(cursor).filter(|_| cursor != 0).unwrap_or(self.default_store())
    }

    fn place_scan(&mut self, submission: Submission<'_>, cursor: u64, miss: Option<Miss>) {
        let first_page = cursor == 0;
        match miss {
            Some(miss) if first_page && self.settings.reads == Reads::Fallback && submission.alone => {
                self.place_lone(submission, miss);
            }
            _ => self.place_single(submission),
        }
    }

    fn place_read(&mut self, submission: Submission<'_>, miss: Miss) {
        match self.settings.reads {
            Reads::Default => self.place_single(submission),
            Reads::Compare => {
                self.place_pair(submission, miss, Policy::Authority(self.default_store()), true);
            }
            Reads::Fallback if submission.alone => self.place_lone(submission, miss),
            Reads::Fallback => self.place_pipelined(submission, miss),
        }
    }

    /// A read that is alone in its batch: the primary's answer if it has one, else the secondary's.
    fn place_lone(&mut self, submission: Submission<'_>, miss: Miss) {
        let keys = submission.footprint.keys().len();
        let default = self.default_store();
        if miss == Miss::AnyNil {
            self.place_pair(submission, miss, Policy::Merge { default }, false);
            return;
        }
        if miss == Miss::Never || keys != 1 {
            self.place_single(submission);
            return;
        }
        if default == StoreId::Secondary && self.diverts(&submission.footprint) {
            self.place_single(submission);
            return;
        }
        self.place_lookup(submission, miss, default);
    }

    /// Must a lone read go to the default store although the primary would be asked first?
    fn diverts(&mut self, footprint: &Footprint) -> bool {
        let answered = self.lane(self.default_store()).answered();
        if let Footprint::Keys(keys) = footprint
            && keys.iter().any(|key| self.recent.is_pending(key.hash, answered))
        {
            return true;
        }
        let slow = self.primary_behind && self.lane(StoreId::Primary).accepts();
        if slow {
            self.metrics.reads_diverted.inc();
        }
        slow
    }

    fn place_lookup(&mut self, submission: Submission<'_>, miss: Miss, default: StoreId) {
        let policy = Policy::Lookup { default, impatient: false };
        let mut op = self.new_op(&submission, policy);
        op.miss = miss;
        op.request = Some(submission.frame.into());
        if let Path::Scan(..) = submission.path {
            op.extra_mut().cursor = Some(b"0".as_slice().into());
        }
        let key = self.send(op, submission.frame, &[StoreId::Primary]);
        if self.ops.contains(key.0 as usize)
            && let Some(client) = self.clients.get_mut(submission.client)
        {
            client.lone_read = Some(key);
        }
    }

    /// A read inside a pipeline runs on both stores and is compared.
    fn place_pipelined(&mut self, submission: Submission<'_>, miss: Miss) {
        if !matches!(submission.footprint, Footprint::Keys(_)) {
            self.place_single(submission);
            return;
        }
        let policy = match (self.default_store(), miss) {
            (StoreId::Secondary, _) | (_, Miss::Never) => Policy::Authority(self.default_store()),
            (StoreId::Primary, Miss::AnyNil) => Policy::Merge { default: StoreId::Primary },
            (StoreId::Primary, _) => Policy::Lookup { default: StoreId::Primary, impatient: false },
        };
        self.place_pair(submission, miss, policy, true);
    }

    fn place_pair(&mut self, submission: Submission<'_>, miss: Miss, policy: Policy, compare: bool) {
        let mut op = self.new_op(&submission, policy);
        op.miss = miss;
        op.compare = compare;
        self.send(op, submission.frame, &StoreId::ALL);
    }

    fn place_write(&mut self, submission: Submission<'_>) {
        let default = self.default_store();
        let policy = self.write_policy(default);
        let mut op = self.new_op(&submission, policy);
        op.write = true;
        op.compare = true;
        if !submission.key.is_empty() && !submission.alone {
            op.extra_mut().key = submission.key.into();
        }
        self.send(op, submission.frame, &StoreId::ALL);
        self.note_write(&submission.footprint);
        if submission.fills > 0 && !self.parks.is_empty() {
            self.serve_parked(&submission.footprint, submission.fills);
        }
    }

    fn write_policy(&self, default: StoreId) -> Policy {
        match self.settings.ack {
            Ack::Default => Policy::Authority(default),
            Ack::Both => Policy::Both(default),
        }
    }

    /// Remembers what was written last, for reads that would otherwise overtake it.
    pub(super) fn note_write(&mut self, footprint: &Footprint) {
        let position = self.lane(self.default_store()).appended();
        match footprint {
            Footprint::Nothing => {}
            Footprint::Everything => self.recent.wrote_everything(position),
            Footprint::Keys(keys) => keys.iter().for_each(|key| self.recent.wrote(key.hash, position)),
        }
    }

    /// Puts a whole transaction into the order, or holds it behind a fence.
    pub fn submit_transaction(&mut self, transaction: Transaction<'_>) {
        if !self.holds.is_open() && self.holds.blocks(&transaction.footprint) {
            self.hold_transaction(transaction);
            return;
        }
        self.place_transaction(transaction);
    }

    pub(super) fn place_transaction(&mut self, transaction: Transaction<'_>) {
        let default = self.default_store();
        let dual = self.stage().is_dual();
        self.hurry_lone_read(transaction.client);
        let seq = transaction.parts.last().map_or(0, |part| part.seq);
        let replies = transaction.parts.len() as u32;
        let op = Op {
            owner: Owner::Client { key: transaction.client, seq },
            command: transaction.command,
            policy: if dual { self.write_policy(default) } else { Policy::Single(default) },
            replies: [Reply::Unsent, Reply::Unsent],
            compare: dual,
            answered: false,
            streaming: None,
            miss: Miss::Never,
            rule: Rule::Exact,
            kind: RequestKind::Transaction,
            write: dual && transaction.writes,
            context: transaction.context,
            request: None,
            batch: None,
            started: self.now,
            extra: Some(Box::new(Extra { parts: transaction.parts, ..Extra::default() })),
        };
        let stores: &[StoreId] = if dual { &StoreId::ALL } else { &[default] };
        self.send_counted(op, transaction.frame, stores, replies);
        if dual && transaction.writes {
            self.note_write(&transaction.footprint);
            self.serve_parked(&transaction.footprint, usize::MAX);
        }
    }

    fn new_op(&mut self, submission: &Submission<'_>, policy: Policy) -> Op {
        Op {
            owner: Owner::Client { key: submission.client, seq: submission.seq },
            command: submission.command,
            policy,
            replies: [Reply::Unsent, Reply::Unsent],
            compare: false,
            answered: false,
            streaming: None,
            miss: Miss::Never,
            rule: submission.rule,
            kind: submission.kind,
            write: false,
            context: submission.context,
            request: None,
            batch: self.batch_of(submission),
            started: self.now,
            extra: None,
        }
    }

    fn batch_of(&mut self, submission: &Submission<'_>) -> Option<std::rc::Rc<super::op::Batch>> {
        if submission.alone || !self.stage().is_dual() {
            return None;
        }
        let client = self.clients.get_mut(submission.client)?;
        Some(client.batch.get_or_insert_default().clone())
    }

    fn send(&mut self, op: Op, frame: &[u8], stores: &[StoreId]) -> OpKey {
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
        let default = self.default_store();
        let refusal = |seq: &Sequencer, store: StoreId| seq.refusal(store, frame.len());
        let default_refuses = stores.contains(&default).then(|| refusal(self, default)).flatten();
        let context = op.context;
        let is_write = op.write;
        let mut failures = [None, None];
        for store in stores {
            failures[store.index()] = match default_refuses {
                Some(failure) if is_write => Some(failure),
                _ => refusal(self, *store),
            };
            op.replies[store.index()] = match failures[store.index()] {
                Some(failure) => Reply::Failed(failure),
                None => Reply::Pending,
            };
        }
        let key = OpKey(self.ops.insert(op) as u32);
        let now = self.now;
        for store in stores.iter().filter(|store| failures[store.index()].is_none()) {
            self.lanes[store.index()].append(context, frame, Sink::Op(key), replies, now);
            self.metrics.store(*store).commands.inc();
        }
        for store in stores {
            if let Some(failure) = failures[store.index()] {
                self.failed(key, *store, failure);
            }
        }
        key
    }

    /// Why `store` can't take a request of `bytes` now, if it can't.
    fn refusal(&self, store: StoreId, bytes: usize) -> Option<Failure> {
        let lane = self.lane(store);
        if !lane.accepts() {
            return Some(Failure::Down);
        }
        let queued = lane.queued_bytes();
        if store == self.default_store() || !self.stage().is_dual() {
            let full = queued > 0 && queued + bytes as u64 > self.settings.queue_max;
            return full.then_some(Failure::QueueFull);
        }
        let lagging = queued > self.settings.lag_max && self.settings.on_lag == OnLag::Repair;
        lagging.then_some(Failure::QueueFull)
    }

    /// The client goes on: what it reads must not be read behind what comes now.
    pub(super) fn hurry_lone_read(&mut self, client: ClientKey) {
        if let Some(op) = self.clients.get_mut(client).and_then(|c| c.lone_read.take()) {
            self.hurry(op, false);
        }
    }

    /// Asks the secondary for a lone read that only the primary has been asked for, since the
    /// client goes on (or, `impatient`, has waited for too long).
    pub(super) fn hurry(&mut self, key: OpKey, impatient: bool) {
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        let Policy::Lookup { default, .. } = op.policy else { return };
        if op.answered || !op.replies[StoreId::Primary.index()].is_pending() {
            return;
        }
        if impatient && self.stage == Stage::DualSecondaryDefault {
            if !matches!(op.policy, Policy::Lookup { impatient: true, .. }) {
                self.metrics.reads_diverted.inc();
            }
            op.policy = Policy::Lookup { default, impatient: true };
        }
        if matches!(op.replies[StoreId::Secondary.index()], Reply::Unsent) {
            self.ask_secondary(key);
        } else {
            self.settle(key);
        }
    }

    pub(super) fn ask_secondary(&mut self, key: OpKey) {
        let store = StoreId::Secondary;
        let Some(request) = self.ops.get_mut(key.0 as usize).and_then(|op| op.request.take()) else {
            self.failed(key, store, Failure::NotSent);
            return;
        };
        if let Some(failure) = self.refusal(store, request.len()) {
            self.failed(key, store, failure);
            return;
        }
        let Some(op) = self.ops.get_mut(key.0 as usize) else { return };
        op.replies[store.index()] = Reply::Pending;
        let context = op.context;
        let now = self.now;
        self.lanes[store.index()].append(context, &request, Sink::Op(key), 1, now);
        self.metrics.store(store).commands.inc();
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
        Op {
            owner,
            command,
            policy,
            replies: [Reply::Unsent, Reply::Unsent],
            compare: false,
            answered: false,
            streaming: None,
            miss: Miss::Never,
            rule: Rule::Exact,
            kind: RequestKind::Other,
            write: false,
            context,
            request: None,
            batch: None,
            started: self.now,
            extra: None,
        }
    }

    /// Places the effect of a write that ran on a dedicated connection of the default store.
    pub fn place_effect(
        &mut self,
        command: CommandId,
        context: Context,
        frame: &[u8],
        replies: u32,
        footprint: &Footprint,
        selects: bool,
    ) {
        if self.stage().is_dual() {
            let other = self.default_store().other();
            let mut op = self.own_op(Owner::Nobody, command, Policy::Single(other), context);
            op.write = true;
            self.send_counted(op, frame, &[other], replies);
            if selects {
                self.lane_mut(other).forget_db();
            }
        }
        self.serve_parked(footprint, usize::MAX);
    }
}
