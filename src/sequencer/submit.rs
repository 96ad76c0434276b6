//! Requests enter the one order here.

use std::borrow::Cow;

use crate::command::{CommandId, Miss, Rule};
use crate::metrics::{RequestKind, SkipReason};
use crate::mirror::{Derivation, Effect, Way};
use crate::resp::{Proto, encode};
use crate::stage::{Stage, StoreId};

use super::clients::ClientKey;
use super::copy::Hydration;
use super::cursors::Scan;
use super::derive::{Taken, has_error};
use super::fence::Footprint;
use super::knowledge::Sync;
use super::lane::{Context, Sink};
use super::op::{Failure, Op, OpKey, Owner, Part, Policy, Reply};
use super::plan::Plan;
use super::touched::Touched;
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

/// What a write does to the keyspace as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Only to its keys, or to none.
    #[default]
    Keys,
    /// It empties every database.
    FlushAll,
    /// It empties one database.
    FlushDb,
    /// It exchanges databases.
    Swap,
    /// It changes functions.
    Functions,
    /// To its keys, and perhaps to others that a script computes.
    Undeclared,
    /// To keys that only the store knows.
    Unlisted,
}

/// How a write is mirrored that the default store must have taken first.
const ACCEPTED: Way = Way::Derived(Derivation::Accepted);

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
    pub frame: Cow<'a, [u8]>,
    /// What it touches. [`Footprint::Nothing`] is fine in single-store stages.
    pub footprint: Footprint,
    /// How it may be mirrored.
    pub way: Way,
    /// What it does to the keyspace as a whole.
    pub scope: Scope,
    /// It sets a relative time to live.
    pub relative: bool,
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
    pub frame: Cow<'a, [u8]>,
    /// What its commands touch together.
    pub footprint: Footprint,
    /// Does any of its commands write?
    pub writes: bool,
    /// How its commands may be mirrored, MULTI and EXEC left out.
    pub ways: Vec<Way>,
    /// Does any of its commands do something to the keyspace as a whole?
    pub scope: Scope,
}

// === impl Submission ===

impl Submission<'_> {
    /// The same, with a frame of its own.
    pub(super) fn to_owned(&self) -> Submission<'static> {
        Submission { frame: Cow::Owned(self.frame.to_vec()), footprint: self.footprint.clone(), ..*self }
    }
}

// === impl Transaction ===

impl Transaction<'_> {
    /// The same, with a frame of its own.
    pub(super) fn into_owned(self) -> Transaction<'static> {
        Transaction { frame: Cow::Owned(self.frame.into_owned()), ..self }
    }
}

// === impl Submission ===

impl Submission<'_> {
    /// What is scanned, and the cursor asked for.
    fn scan(&self) -> Option<(Scan, u64)> {
        let (of, cursor) = match self.path {
            Path::Scan(cursor, _) => (self.footprint.keys().first()?.hash, cursor),
            Path::KeyspaceScan(cursor) => (u64::from(self.context.db), cursor),
            _ => return None,
        };
        Some((Scan { of, client: self.client.id() }, cursor))
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Puts a request into the order, or holds it behind a fence: then the client is to be read
    /// no further until it is woken ([`Sequencer::is_held`]).
    pub fn submit(&mut self, submission: &Submission<'_>) {
        if !self.holds.is_open() && self.holds.blocks(&submission.footprint) {
            self.hold_submission(submission);
            return;
        }
        self.place(submission);
    }

    pub(super) fn place(&mut self, submission: &Submission<'_>) {
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

    fn place_single(&mut self, submission: &Submission<'_>) {
        let scan = submission.scan();
        let issuer = scan.and_then(|(scan, cursor)| self.cursors.issuer(scan, cursor));
        let store = issuer.unwrap_or(self.default_store());
        let mut op = self.new_op(submission, Policy::Single(store));
        if let Some((scan, _)) = scan {
            op.extra_mut().scan = Some(scan);
        }
        self.send(op, &submission.frame, &[store]);
    }

    fn place_scan(&mut self, submission: &Submission<'_>, cursor: u64, miss: Option<Miss>) {
        let first_page = cursor == 0;
        match miss {
            Some(miss) if first_page && self.settings.reads == Reads::Fallback && submission.alone => {
                self.place_lone(submission, miss);
            }
            _ => self.place_single(submission),
        }
    }

    fn place_read(&mut self, submission: &Submission<'_>, miss: Miss) {
        if self.settings.reads != Reads::Fallback
            && let Some(store) = self.right_store(&submission.footprint)
        {
            // Whatever the policy: not from the store that is behind in this key.
            self.place_on(submission, store);
            return;
        }
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
    fn place_lone(&mut self, submission: &Submission<'_>, miss: Miss) {
        let default = self.default_store();
        if miss == Miss::AnyNil && !self.all_in_sync(&submission.footprint) {
            self.place_pair(submission, miss, Policy::Merge { default }, false);
            return;
        }
        // The right store answers for a key that the other one is behind in.
        if let Some(store) = self.right_store(&submission.footprint) {
            self.place_on(submission, store);
            return;
        }
        let [key] = submission.footprint.keys() else {
            self.place_single(submission);
            return;
        };
        match (default, self.known.of(key.hash)) {
            _ if miss == Miss::Never => self.place_single(submission),
            (StoreId::Primary, Sync::InSync) => self.place_single(submission),
            (StoreId::Secondary, _) if self.diverts(&submission.footprint) => self.place_single(submission),
            _ => self.place_lookup(submission, miss, default),
        }
    }

    fn all_in_sync(&self, footprint: &Footprint) -> bool {
        footprint.keys().iter().all(|key| self.known.of(key.hash) == Sync::InSync)
    }

    /// The store that is right about all these keys, if one of them is suspect.
    fn right_store(&self, footprint: &Footprint) -> Option<StoreId> {
        footprint.keys().iter().find_map(|key| match self.known.of(key.hash) {
            Sync::Suspect(behind) => Some(behind.other()),
            Sync::InSync | Sync::Unknown => None,
        })
    }

    fn place_on(&mut self, submission: &Submission<'_>, store: StoreId) {
        let op = self.new_op(submission, Policy::Single(store));
        self.send(op, &submission.frame, &[store]);
    }

    /// Must a lone read go to the default store although the primary would be asked first?
    fn diverts(&mut self, footprint: &Footprint) -> bool {
        // What a store holds is not known before it has answered the last write: it may refuse it.
        let pending = |hash| StoreId::ALL.iter().any(|store| self.is_pending_on(*store, hash));
        if footprint.keys().iter().any(|key| pending(key.hash)) {
            return true;
        }
        let slow = self.primary_behind && self.lane(StoreId::Primary).accepts();
        if slow {
            self.metrics.reads_diverted.inc();
        }
        slow
    }

    fn place_lookup(&mut self, submission: &Submission<'_>, miss: Miss, default: StoreId) {
        let policy = Policy::Lookup { default, impatient: false };
        let mut op = self.new_op(submission, policy);
        op.miss = miss;
        op.request = Some((&*submission.frame).into());
        op.touched = Touched::of(&submission.footprint, &submission.frame, false);
        if let Some((scan, _)) = submission.scan() {
            op.extra_mut().cursor = Some(b"0".as_slice().into());
            op.extra_mut().scan = Some(scan);
        }
        let key = self.send(op, &submission.frame, &[StoreId::Primary]);
        if self.ops.contains(key.0 as usize)
            && let Some(client) = self.clients.get_mut(submission.client)
        {
            client.lone_read = Some(key);
        }
    }

    /// A read inside a pipeline runs on both stores and is compared.
    fn place_pipelined(&mut self, submission: &Submission<'_>, miss: Miss) {
        if submission.footprint.keys().is_empty() {
            self.place_single(submission);
            return;
        }
        if let Some(store) = self.right_store(&submission.footprint) {
            self.place_on(submission, store);
            return;
        }
        let policy = match (self.default_store(), miss) {
            (StoreId::Secondary, _) | (_, Miss::Never) => Policy::Authority(self.default_store()),
            (StoreId::Primary, Miss::AnyNil) => Policy::Merge { default: StoreId::Primary },
            (StoreId::Primary, _) => Policy::Lookup { default: StoreId::Primary, impatient: false },
        };
        self.place_pair(submission, miss, policy, true);
    }

    fn place_pair(&mut self, submission: &Submission<'_>, miss: Miss, policy: Policy, compare: bool) {
        let mut op = self.new_op(submission, policy);
        op.miss = miss;
        op.compare = compare;
        op.touched = Touched::of(&submission.footprint, &submission.frame, false);
        self.send(op, &submission.frame, &StoreId::ALL);
    }

    fn place_write(&mut self, submission: &Submission<'_>) {
        match self.plan_of(submission.way, &submission.footprint, submission.scope) {
            Plan::Verbatim => self.write_verbatim(submission),
            Plan::Accepted => self.write_derived(submission, ACCEPTED),
            Plan::Derived => self.write_derived(submission, submission.way),
            Plan::Copied => self.write_copied(submission),
            Plan::Hydrate => {
                match self.hydrate(&submission.footprint, &submission.frame, submission.context.db) {
                    Hydration::Begun => self.hold_submission(submission),
                    Hydration::Unreachable => self.write_copied(submission),
                    Hydration::Refused(error) => {
                        self.clients.pay(submission.client, submission.seq, &error);
                    }
                }
            }
        }
    }

    /// The same bytes to both stores, in one step.
    fn write_verbatim(&mut self, submission: &Submission<'_>) {
        let policy = self.write_policy(self.default_store());
        let mut op = self.new_op(submission, policy);
        op.write = true;
        op.compare = true;
        op.relative = submission.relative;
        op.touched = touched(&submission.footprint, &submission.frame, submission.scope);
        note_sources(&mut op, &submission.footprint);
        op.blind = self.settle_keys(&submission.footprint, submission.scope, submission.frame.len());
        self.send(op, &submission.frame, &StoreId::ALL);
        self.wrote(submission);
    }

    /// The bytes to the default store, and a place for the effect in the other lane.
    fn write_derived(&mut self, submission: &Submission<'_>, way: Way) {
        let mut op = self.new_op(submission, Policy::Single(self.default_store()));
        op.touched = touched(&submission.footprint, &submission.frame, submission.scope);
        note_sources(&mut op, &submission.footprint);
        op.relative = submission.relative;
        op.extra_mut().scope = submission.scope;
        self.dirty_flushed(submission.scope);
        self.send_derived(op, &submission.frame, 1, vec![way]);
        self.wrote(submission);
    }

    /// What is being copied is not what it was read as, if this empties the stores.
    fn dirty_flushed(&mut self, scope: Scope) {
        if matches!(scope, Scope::FlushAll | Scope::FlushDb) {
            self.dirty_all_copies();
        }
    }

    /// The bytes to the default store; the values of the keys follow.
    fn write_copied(&mut self, submission: &Submission<'_>) {
        let mut op = self.new_op(submission, Policy::Single(self.default_store()));
        op.write = true;
        self.send(op, &submission.frame, &[self.default_store()]);
        let touched = touched(&submission.footprint, &submission.frame, submission.scope);
        self.went_on_alone(&touched, submission.context.db);
        if submission.scope == Scope::Undeclared {
            self.owe_walk();
        }
        self.wrote(submission);
    }

    /// What a verbatim write makes known, unless the default store cannot take it: then nobody gets it.
    fn settle_keys(&mut self, footprint: &Footprint, scope: Scope, bytes: usize) -> bool {
        match self.refusal(self.default_store(), bytes) {
            None => self.wrote_verbatim(footprint, scope),
            Some(_) => false,
        }
    }

    fn wrote(&mut self, submission: &Submission<'_>) {
        self.note_write(&submission.footprint);
        if submission.fills > 0 && !self.parks.is_empty() {
            self.serve_parked(&submission.footprint, submission.fills);
        }
    }

    /// Sends a request whose effect the other store gets when the default store has answered.
    pub(super) fn send_derived(&mut self, mut op: Op, frame: &[u8], proper: u32, ways: Vec<Way>) {
        self.metrics.comparisons_skipped[SkipReason::Derived].inc();
        let default = self.default_store();
        let other = default.other();
        let (bytes, companions) = self.with_companions(&ways, frame);
        op.write = true;
        op.derived = true;
        op.request = Some(frame.into());
        let extra = op.extra_mut();
        extra.ways = ways;
        extra.proper = proper;
        let context = op.context;
        let takes_place = self.refusal(default, bytes.len()).is_none();
        if takes_place {
            op.replies[other.index()] = Reply::Pending;
        }
        let key = self.send_counted(op, &bytes, &[default], proper + companions);
        if takes_place && self.ops.contains(key.0 as usize) {
            let now = self.now;
            self.lanes[other.index()].reserve(context, key, now);
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
        match footprint {
            Footprint::Everything => self.dirty_all_copies(),
            _ => footprint.keys().iter().for_each(|key| self.dirty_copy(key.hash)),
        }
        for store in StoreId::ALL {
            let position = self.lane(store).appended();
            let recent = &mut self.recent[store.index()];
            match footprint {
                Footprint::Nothing => {}
                Footprint::Everything => recent.wrote_everything(position),
                Footprint::Keys(keys) => keys.iter().for_each(|key| recent.wrote(key.hash, position)),
            }
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
        let dual = self.stage().is_dual();
        self.hurry_lone_read(transaction.client);
        if !dual || !transaction.writes && self.settings.reads == Reads::Default {
            let policy = Policy::Single(self.default_store());
            let op = self.transaction_op(&transaction, policy);
            let replies = transaction.parts.len() as u32;
            self.send_counted(op, &transaction.frame, &[self.default_store()], replies);
            return;
        }
        let way = combined(&transaction.ways);
        let plan = self.plan_of(way, &transaction.footprint, transaction.scope);
        let hydration = match plan {
            Plan::Hydrate => self.hydrate(&transaction.footprint, &transaction.frame, transaction.context.db),
            _ => Hydration::Unreachable,
        };
        match hydration {
            Hydration::Begun => self.hold_transaction(transaction),
            Hydration::Unreachable => self.place_planned(transaction, plan),
            Hydration::Refused(error) => self.refuse_transaction(&transaction, &error),
        }
    }

    /// Nothing of the transaction is run; its last reply says why.
    fn refuse_transaction(&mut self, transaction: &Transaction<'_>, error: &[u8]) {
        let last = transaction.parts.len().saturating_sub(1);
        for (at, part) in transaction.parts.iter().enumerate().filter(|(_, part)| !part.answered) {
            let reply = match at {
                _ if at == last => error,
                0 => encode::OK,
                _ => encode::QUEUED,
            };
            self.clients.pay(transaction.client, part.seq, reply);
        }
    }

    fn place_planned(&mut self, transaction: Transaction<'_>, plan: Plan) {
        let default = self.default_store();
        let replies = transaction.parts.len() as u32;
        let written = touched(&transaction.footprint, &transaction.frame, transaction.scope);
        match plan {
            Plan::Verbatim => {
                let policy = self.write_policy(default);
                let mut op = self.transaction_op(&transaction, policy);
                op.compare = true;
                op.write = transaction.writes;
                op.relative = true;
                op.touched = written;
                note_sources(&mut op, &transaction.footprint);
                op.blind =
                    self.settle_keys(&transaction.footprint, transaction.scope, transaction.frame.len());
                self.send_counted(op, &transaction.frame, &StoreId::ALL, replies);
            }
            Plan::Accepted | Plan::Derived => {
                let mut op = self.transaction_op(&transaction, Policy::Single(default));
                op.touched = written;
                note_sources(&mut op, &transaction.footprint);
                op.relative = true;
                op.extra_mut().scope = transaction.scope;
                self.dirty_flushed(transaction.scope);
                self.send_derived(op, &transaction.frame, replies, transaction.ways.clone());
            }
            Plan::Copied | Plan::Hydrate => {
                let mut op = self.transaction_op(&transaction, Policy::Single(default));
                op.write = transaction.writes;
                self.send_counted(op, &transaction.frame, &[default], replies);
                self.went_on_alone(&written, transaction.context.db);
                if transaction.scope == Scope::Undeclared {
                    self.owe_walk();
                }
            }
        }
        if transaction.writes {
            self.note_write(&transaction.footprint);
            self.serve_parked(&transaction.footprint, usize::MAX);
        }
    }

    fn transaction_op(&self, transaction: &Transaction<'_>, policy: Policy) -> Op {
        let seq = transaction.parts.last().map_or(0, |part| part.seq);
        let owner = Owner::Client { key: transaction.client, seq };
        let mut op =
            Op::new(owner, transaction.command, policy, self.default_store(), transaction.context, self.now);
        op.kind = RequestKind::Transaction;
        op.extra_mut().parts.clone_from(&transaction.parts);
        op
    }

    #[inline]
    fn new_op(&mut self, submission: &Submission<'_>, policy: Policy) -> Op {
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
        let mut failures = [None, None];
        for store in stores {
            failures[store.index()] = self.refusal(*store, frame.len());
        }
        let default = self.default_store();
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
        Op::new(owner, command, policy, self.default_store(), context, self.now)
    }

    /// Places the effect of what ran on a dedicated connection of the default store, under a fence.
    pub fn place_effect(&mut self, effect: Dedicated<'_>) {
        if self.stage().is_dual() {
            self.mirror_dedicated(&effect);
            self.note_write(&effect.footprint);
        }
        self.serve_parked(&effect.footprint, usize::MAX);
    }

    fn mirror_dedicated(&mut self, effect: &Dedicated<'_>) {
        let other = self.default_store().other();
        let written = touched(&effect.footprint, effect.frame, effect.scope);
        let plan = self.plan_of(combined(&effect.ways), &effect.footprint, effect.scope);
        let made = match plan {
            Plan::Verbatim | Plan::Accepted if effect.replies == 1 => {
                Effect::Frames { bytes: effect.frame.to_vec(), replies: effect.replies }
            }
            // Of a transaction too: what it did to its own connection must not happen to the lane.
            Plan::Verbatim | Plan::Accepted | Plan::Derived => {
                let table = self.table.clone();
                let taken = Taken::apart(&table, effect.frame, &effect.ways);
                let (made, copies) = taken.effect(self.dialect(), effect.reply, effect.companions);
                if copies {
                    self.doubt(&written, effect.context.db, other);
                }
                made
            }
            Plan::Copied | Plan::Hydrate => Effect::Copy,
        };
        match made {
            Effect::Nothing => {}
            Effect::Copy => {
                self.went_on_alone(&written, effect.context.db);
                if effect.scope == Scope::Undeclared {
                    self.owe_walk();
                }
            }
            Effect::Frames { bytes, replies } => {
                self.wrote_verbatim(&effect.footprint, effect.scope);
                let mut op =
                    self.own_op(Owner::Nobody, effect.command, Policy::Single(other), effect.context);
                op.write = true;
                // Nobody waits for it: it is over with its last reply.
                op.answered = true;
                op.relative = effect.relative;
                op.touched = written.clone();
                note_sources(&mut op, &effect.footprint);
                self.send_counted(op, &bytes, &[other], replies);
                if effect.selects {
                    self.lane_mut(other).forget_db();
                }
                if has_error(effect.reply) {
                    // Not everything ran that would have settled its keys.
                    self.doubt(&written, effect.context.db, other);
                }
            }
        }
    }
}

/// What ran on a dedicated connection.
pub struct Dedicated<'a> {
    /// Which command; EXEC for a transaction.
    pub command: CommandId,
    /// Database and protocol.
    pub context: Context,
    /// The request: one command, or MULTI … EXEC.
    pub frame: &'a [u8],
    /// How many replies it has.
    pub replies: u32,
    /// The default store's (last) reply.
    pub reply: &'a [u8],
    /// The replies to its companions.
    pub companions: &'a [Box<[u8]>],
    /// What it touched.
    pub footprint: Footprint,
    /// How its commands may be mirrored.
    pub ways: Vec<Way>,
    /// What it did to the keyspace as a whole.
    pub scope: Scope,
    /// It selected a database.
    pub selects: bool,
    /// It sets a time to live that counts from when it runs.
    pub relative: bool,
}

/// One way for several commands together.
fn combined(ways: &[Way]) -> Way {
    if ways.contains(&Way::Copied) {
        return Way::Copied;
    }
    ways.iter().find(|way| matches!(way, Way::Derived(_))).copied().unwrap_or(Way::Verbatim)
}

/// Keys that a write reads and does not write: what it makes of them is as doubtful as they are.
fn note_sources(op: &mut Op, footprint: &Footprint) {
    let keys = footprint.keys();
    if keys.len() > 1 && keys.iter().any(|key| !key.access.writes()) {
        op.extra_mut().sources = keys.iter().filter(|key| !key.access.writes()).map(|key| key.hash).collect();
    }
}

/// The keys that become suspect if the stores part over a write.
fn touched(footprint: &Footprint, frame: &[u8], scope: Scope) -> Touched {
    match scope {
        Scope::Keys => Touched::of(footprint, frame, true),
        // Its declared keys; what else it may have written is owed a walk.
        Scope::Undeclared if *footprint == Footprint::Everything => Touched::Nothing,
        Scope::Undeclared => Touched::of(footprint, frame, true),
        Scope::FlushAll | Scope::FlushDb | Scope::Swap | Scope::Functions | Scope::Unlisted => {
            Touched::Everything
        }
    }
}
