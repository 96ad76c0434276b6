//! Writes while dual: verbatim, derived or copied.

use crate::metrics::SkipReason;
use crate::mirror::{Derivation, Way};
use crate::stage::StoreId;

use super::copy::Hydration;
use super::fence::Footprint;
use super::op::{Op, Policy, Reply};
use super::plan::{self, Plan};
use super::submission::{Expiry, Scope, Submission};
use super::touched::Touched;
use super::{Ack, Sequencer};

// === impl Sequencer ===

impl Sequencer {
    #[inline(always)]
    pub(super) fn place_write(&mut self, submission: &Submission<'_>) {
        if let Some(error) = self.swap_refusal(submission.scope, &submission.frame) {
            self.clients.pay(submission.client, submission.seq, &error);
            return;
        }
        self.note_functions(submission.scope);
        let in_sync = self.are_in_sync(&submission.footprint, submission.scope);
        let plan = match in_sync {
            true => plan::of_keys_in_sync(submission.way),
            false => self.plan_of(submission.way, &submission.footprint, submission.scope),
        };
        match plan {
            Plan::Verbatim => self.write_verbatim(submission, in_sync),
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

    /// The same bytes to both stores, in one step. `in_sync`: so are its keys, and nothing is to be noted about them.
    #[inline(always)]
    fn write_verbatim(&mut self, submission: &Submission<'_>, in_sync: bool) {
        let Submission { footprint, frame, scope, expiry, .. } = submission;
        let policy = self.write_policy(footprint, *scope, *expiry);
        let (due, end) = self.mind_ends(footprint, *expiry);
        let blind = !in_sync && self.settle_keys(footprint, frame, *scope);
        let (key, op) = self.open(submission, policy);
        op.write = true;
        op.compare = true;
        op.relative = expiry.is_relative();
        (op.due, op.end, op.blind) = (due, end, blind);
        op.touched.set(touched(footprint, frame, *scope));
        note_sources(op, footprint);
        self.send_op(key, frame, StoreId::ALL, 1);
        self.learn_ends(submission);
        self.wrote(submission);
    }

    /// The bytes to the default store, and a place for the effect in the other lane.
    fn write_derived(&mut self, submission: &Submission<'_>, way: Way) {
        let mut op = self.new_op(submission, Policy::Single(self.default_store()));
        op.touched = touched(&submission.footprint, &submission.frame, submission.scope);
        note_sources(&mut op, &submission.footprint);
        op.relative = submission.expiry.is_relative();
        (op.due, op.end) = self.mind_ends(&submission.footprint, submission.expiry);
        let waits = self.must_be_gone(&submission.footprint, submission.scope, submission.expiry);
        let extra = op.extra_mut();
        extra.scope = submission.scope;
        extra.waits = waits;
        self.dirty_flushed(submission.scope);
        self.send_derived(op, &submission.frame, 1, vec![way]);
        self.learn_ends(submission);
        self.wrote(submission);
    }

    #[inline(always)]
    fn learn_ends(&mut self, submission: &Submission<'_>) {
        if submission.expiry != Expiry::Keeps {
            let db = submission.context.db;
            self.ask_ends(&submission.footprint, &submission.frame, db, submission.expiry);
        }
    }

    /// What is being copied is not what it was read as, if this empties the stores.
    pub(super) fn dirty_flushed(&mut self, scope: Scope) {
        if matches!(scope, Scope::FlushAll | Scope::FlushDb) {
            self.dirty_all_copies();
        }
    }

    /// The bytes to the default store; the values of the keys follow.
    fn write_copied(&mut self, submission: &Submission<'_>) {
        self.metrics.comparisons_skipped[SkipReason::Derived].inc();
        let mut op = self.new_op(submission, Policy::Single(self.default_store()));
        op.write = true;
        op.touched = named(&submission.footprint, &submission.frame);
        self.send_alone(op, &submission.frame, 1, &submission.footprint, submission.scope);
        self.wrote(submission);
    }

    /// Sends a write to the default store alone, before anything that it takes is known: what comes behind it may carry
    /// its keys' values on. Where the default store cannot take it nobody gets it, and what is known of its keys stands:
    /// of one in which the default store is behind, only the other one has what counts.
    pub(super) fn send_alone(
        &mut self,
        op: Op,
        frame: &[u8],
        replies: u32,
        footprint: &Footprint,
        scope: Scope,
    ) {
        let (default, db) = (self.default_store(), op.context.db);
        let taken = self.refusal(default, frame.len()).is_none();
        self.send_counted(op, frame, &[default], replies);
        if taken {
            self.ran_alone(footprint, frame, scope, db);
        }
    }

    /// The default store alone gets this, in its lane: the other one is behind in what it writes, named or not.
    fn ran_alone(&mut self, footprint: &Footprint, frame: &[u8], scope: Scope, db: u32) {
        if !scope.is_named() {
            self.went_on_alone(&named(footprint, frame), db);
            self.wrote_unnamed(frame, scope, db);
        } else {
            self.went_on_alone(&touched(footprint, frame, scope), db);
        }
    }

    /// What a verbatim write makes known, unless the default store cannot take it: then nobody gets it.
    pub(super) fn settle_keys(&mut self, footprint: &Footprint, frame: &[u8], scope: Scope) -> bool {
        match self.refusal(self.default_store(), frame.len()) {
            None => self.wrote_verbatim(footprint, frame, scope),
            Some(_) => false,
        }
    }

    #[inline(always)]
    pub(super) fn wrote(&mut self, submission: &Submission<'_>) {
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
        op.request = frame.into();
        let extra = op.extra_mut();
        extra.ways = ways;
        extra.proper = proper;
        let context = op.context;
        let takes_place = self.refusal(default, bytes.len()).is_none();
        if takes_place {
            op.replies[other.index()] = Reply::Pending;
        }
        let key = self.send_counted(op, &bytes, &[default], proper + companions);
        if takes_place && self.ops.contains(key) {
            let now = self.now;
            self.lanes[other.index()].reserve(context, key, now);
        }
    }

    /// Who must have answered before the client is.
    #[inline(always)]
    pub(super) fn write_policy(&self, footprint: &Footprint, scope: Scope, expiry: Expiry) -> Policy {
        let default = self.default_store();
        match self.settings.ack {
            Ack::Default if !self.must_be_gone(footprint, scope, expiry) => Policy::Authority(default),
            Ack::Default | Ack::Both => Policy::Both(default),
        }
    }

    /// Remembers what was written last, for reads that would otherwise overtake it.
    #[inline(always)]
    pub(super) fn note_write(&mut self, footprint: &Footprint) {
        let [primary, secondary] = StoreId::ALL.map(|store| self.lane(store).appended());
        match footprint {
            Footprint::Nothing => {}
            Footprint::Everything => {
                self.dirty_all_copies();
                self.recent[0].wrote_everything(primary);
                self.recent[1].wrote_everything(secondary);
            }
            Footprint::Keys(keys) => {
                for key in keys {
                    self.dirty_copy(key.hash);
                    self.recent[0].wrote(key.hash, primary);
                    self.recent[1].wrote(key.hash, secondary);
                }
            }
        }
    }
}

/// How a write is mirrored that the default store must have taken first.
const ACCEPTED: Way = Way::Derived(Derivation::Accepted);

/// Keys that a write reads and does not write: what it makes of them is as doubtful as they are.
#[inline(always)]
pub(super) fn note_sources(op: &mut Op, footprint: &Footprint) {
    let keys = footprint.keys();
    if keys.len() > 1 && keys.iter().any(|key| !key.access.writes()) {
        op.extra_mut().sources = keys.iter().filter(|key| !key.access.writes()).map(|key| key.hash).collect();
    }
}

/// The keys that become suspect if the stores part over a write.
#[inline(always)]
pub(super) fn touched(footprint: &Footprint, frame: &[u8], scope: Scope) -> Touched {
    match scope {
        Scope::Keys => Touched::of(footprint, frame, true),
        _ => Touched::Everything,
    }
}

/// The keys that a write names.
pub(super) fn named(footprint: &Footprint, frame: &[u8]) -> Touched {
    match footprint {
        Footprint::Everything => Touched::Nothing,
        _ => Touched::of(footprint, frame, true),
    }
}
