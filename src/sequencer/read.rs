//! Reads while dual: which store is asked, and when the second one is.

use smallvec::SmallVec;

use crate::command::Miss;
use crate::stage::{Stage, StoreId};

use super::clients::ClientKey;
use super::copy::Hydration;
use super::fence::Footprint;
use super::knowledge::Sync;
use super::op::{Failure, OpKey, Owner, Policy, Reply};
use super::standing::lacks;
use super::submission::Submission;
use super::touched::Touched;
use super::{Reads, Sequencer};

// === impl Sequencer ===

impl Sequencer {
    pub(super) fn place_read(&mut self, submission: &Submission<'_>, miss: Miss) {
        if miss == Miss::Never && self.waits_for_keys(submission) {
            return;
        }
        if self.settings.reads != Reads::Fallback
            && let Some(store) = self.right_store(&submission.footprint)
        {
            // Whatever the policy: not from the store that is behind in this key.
            self.place_on(submission, store);
            return;
        }
        if self.is_news_to_the_other(&submission.footprint) {
            self.place_single(submission);
            return;
        }
        match self.settings.reads {
            Reads::Default => self.place_single(submission),
            Reads::Compare => {
                self.place_pair(submission, miss, Policy::Authority(self.default_store()), true);
            }
            Reads::Fallback if submission.is_alone() => self.place_lone(submission, miss),
            Reads::Fallback => self.place_pipelined(submission, miss),
        }
    }

    /// No second look mends what was made of several keys together, or by a script: what the default store lacks of
    /// them is copied to it first. True: the read waits for that.
    fn waits_for_keys(&mut self, submission: &Submission<'_>) -> bool {
        let default = self.default_store();
        let lacked = |hash| lacks(default, self.held_of(hash));
        let wanted = self.settings.hydrate
            && self.settings.reads == Reads::Fallback
            && submission.footprint.keys().iter().any(|key| lacked(key.hash));
        // What cannot be copied now is not waited for: then the default store answers from what it has.
        let begun = wanted
            && self.hydrate(&submission.footprint, &submission.frame, submission.context.db)
                == Hydration::Begun;
        if begun {
            self.hold_submission(submission);
        }
        begun
    }

    /// A read that is alone in its batch: the primary's answer if it has one, else the secondary's.
    pub(super) fn place_lone(&mut self, submission: &Submission<'_>, miss: Miss) {
        let default = self.default_store();
        if miss == Miss::AnyNil && !self.all_in_sync(&submission.footprint) {
            self.place_pair(submission, miss, Policy::Merge { default }, false);
            return;
        }
        let [key] = submission.footprint.keys() else {
            match self.right_store(&submission.footprint) {
                Some(store) => self.place_on(submission, store),
                None => self.place_single(submission),
            }
            return;
        };
        match (default, self.held_of(key.hash)) {
            // The right store answers for a key that the other one is behind in.
            (_, Sync::Suspect(behind)) => self.place_on(submission, behind.other()),
            _ if miss == Miss::Never => self.place_single(submission),
            // Where it cannot be asked, the secondary has the same.
            (StoreId::Primary, Sync::InSync) if self.lane(default).accepts() => {
                self.place_insured(submission, miss);
            }
            (StoreId::Secondary, _) if self.diverts(&submission.footprint) => self.place_single(submission),
            _ => self.place_lookup(submission, miss, default),
        }
    }

    /// May the other store not hold what the default store has just been told by a script, which has everything of these
    /// keys itself?
    pub(super) fn is_news_to_the_other(&self, footprint: &Footprint) -> bool {
        self.is_deaf() && (self.default_store() == StoreId::Secondary || self.all_in_sync(footprint))
    }

    fn all_in_sync(&self, footprint: &Footprint) -> bool {
        footprint.keys().iter().all(|key| self.known.of(key.hash) == Sync::InSync)
    }

    /// The store that is right about all these keys, if one of them is suspect.
    fn right_store(&self, footprint: &Footprint) -> Option<StoreId> {
        footprint.keys().iter().find_map(|key| match self.held_of(key.hash) {
            Sync::Suspect(behind) => Some(behind.other()),
            Sync::InSync | Sync::Unknown => None,
        })
    }

    fn place_on(&mut self, submission: &Submission<'_>, store: StoreId) {
        let (key, _) = self.open(submission, Policy::Single(store));
        self.send_op(key, &submission.frame, [store], 1);
    }

    /// Must a lone read go to the default store although the primary would be asked first?
    fn diverts(&mut self, footprint: &Footprint) -> bool {
        // What a store holds is not known before it has answered the last write: it may refuse it.
        let pending = |hash| StoreId::ALL.iter().any(|store| self.is_pending_on(*store, hash));
        if self.is_deaf() || footprint.keys().iter().any(|key| pending(key.hash)) {
            return true;
        }
        let slow = self.primary_behind && self.lane(StoreId::Primary).accepts();
        if slow {
            self.metrics.reads_diverted.inc();
        }
        slow
    }

    fn place_lookup(&mut self, submission: &Submission<'_>, miss: Miss, default: StoreId) {
        self.ask_primary(submission, miss, Policy::Lookup { default, impatient: false });
    }

    /// A read that the primary answers, be it a miss. If its connection is lost meanwhile, the secondary has the same.
    fn place_insured(&mut self, submission: &Submission<'_>, miss: Miss) {
        match submission.scan() {
            Some(_) => self.place_single(submission),
            None => self.ask_primary(submission, miss, Policy::Single(StoreId::Primary)),
        }
    }

    /// The primary is asked; the request is kept, for the secondary may have to be asked as well.
    fn ask_primary(&mut self, submission: &Submission<'_>, miss: Miss, policy: Policy) {
        let (key, op) = self.open(submission, policy);
        op.miss = miss;
        op.request = SmallVec::from_slice(&submission.frame);
        op.touched = Touched::of(&submission.footprint, &submission.frame, false);
        if let Some((scan, _)) = submission.scan() {
            op.extra_mut().cursor = Some(b"0".as_slice().into());
            op.extra_mut().scan = Some(scan);
        }
        self.send_op(key, &submission.frame, [StoreId::Primary], 1);
        if self.ops.contains(key)
            && let Some(client) = self.clients.get_mut(submission.client)
        {
            client.lone_read = Some(key);
        }
    }

    /// The default store will not answer: may the secondary be asked for the same? Then it is looked up there.
    pub(super) fn turn_to_the_secondary(&mut self, key: OpKey, lost: StoreId, failure: Failure) {
        let gone = matches!(failure, Failure::Lost | Failure::Down);
        let Some(op) = self.ops.get(key).filter(|op| gone && !op.write && !op.request.is_empty()) else {
            return;
        };
        let insured = op.policy == Policy::Single(lost) && lost == StoreId::Primary && op.default == lost;
        let mut same = insured && self.stage().is_dual();
        op.touched.each(|hash, _| same &= self.known.of(hash) == Sync::InSync);
        if same && let Some(op) = self.ops.get_mut(key) {
            op.policy = Policy::Lookup { default: lost, impatient: false };
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
        let default = self.default_store();
        // What has ended or was evicted on the primary must not be found on the secondary, where it may still be.
        let is_known = default == StoreId::Primary
            && self.lane(default).accepts()
            && self.all_in_sync(&submission.footprint);
        let policy = match (default, miss) {
            _ if is_known => Policy::Authority(default),
            (StoreId::Secondary, _) | (_, Miss::Never) => Policy::Authority(default),
            (StoreId::Primary, Miss::AnyNil) => Policy::Merge { default: StoreId::Primary },
            (StoreId::Primary, _) => Policy::Lookup { default: StoreId::Primary, impatient: false },
        };
        self.place_pair(submission, miss, policy, true);
    }

    fn place_pair(&mut self, submission: &Submission<'_>, miss: Miss, policy: Policy, compare: bool) {
        let (key, op) = self.open(submission, policy);
        op.miss = miss;
        op.compare = compare;
        op.touched = Touched::of(&submission.footprint, &submission.frame, false);
        self.send_op(key, &submission.frame, StoreId::ALL, 1);
    }

    /// The client goes on: what it reads must not be read behind what comes now.
    #[inline(always)]
    pub(super) fn hurry_lone_read(&mut self, client: ClientKey) {
        let Some(key) = self.clients.get_mut(client).and_then(|c| c.lone_read.take()) else { return };
        match self.ops.get_mut(key) {
            Some(op) if matches!(op.policy, Policy::Single(_)) => op.request = SmallVec::new(),
            _ => self.hurry(key, false),
        }
    }

    /// Asks the secondary for a lone read that only the primary has been asked for, since the
    /// client goes on (or, `impatient`, has waited for too long).
    pub(super) fn hurry(&mut self, key: OpKey, impatient: bool) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let Policy::Lookup { default, .. } = op.policy else { return };
        if op.answered || !op.replies[StoreId::Primary.index()].is_pending() {
            return;
        }
        if impatient && self.flagged == Stage::DualSecondaryDefault {
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
        let Some(op) = self.ops.get(key) else { return };
        // Kept: the primary may have to be asked once more.
        let (request, is_default) = (op.request.clone(), op.default == store);
        if request.is_empty() {
            self.failed(key, store, Failure::NotSent);
            return;
        }
        let refused = match is_default {
            true => self.refusal_beyond(store, request.len(), u64::MAX),
            // What it holds is part of the answer, however much is queued by now: it may have become the default store
            // meanwhile. Each client has one such read outstanding.
            false => (!self.lane(store).accepts()).then_some(Failure::Down),
        };
        if let Some(failure) = refused {
            self.failed(key, store, failure);
            return;
        }
        self.send_past_limits(key, store, &request);
    }

    /// What the secondary says of a lone read counts no more, since its key has come into doubt there meanwhile. What the
    /// primary said before that may be as old: a copy of the key, or whoever changed it, may have come to it since. It is
    /// asked once more, unless the client has gone on: then its next command must not be seen by this one.
    pub(super) fn ask_primary_again(&mut self, key: OpKey) -> bool {
        let primary = StoreId::Primary;
        let Some(op) = self.ops.get_mut(key) else { return false };
        let Owner::Client { key: client, .. } = op.owner else { return false };
        let goes_on = self.clients.get(client).is_none_or(|client| client.owed() != 1);
        let lone = !op.request.is_empty() && op.default == primary && !op.answered;
        if goes_on || !lone || op.replies[primary.index()].is_pending() {
            return false;
        }
        let request = std::mem::take(&mut op.request);
        op.policy = Policy::Single(primary);
        op.replies[primary.other().index()] = Reply::Gone;
        self.let_go_kept(key);
        self.forget_lone_read(client, key);
        self.send_op(key, &request, [primary], 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::fence::hash_key;
    use super::super::testing::{answer, read, sequencer};
    use super::*;

    /// The ear hears the copy of another client's read while a script is at work: whoever missed the key on the primary
    /// just before that is not told that there is none.
    #[test]
    fn who_is_overtaken_by_a_copy_asks_the_primary_again() {
        let mut core = sequencer(Stage::DualPrimaryDefault, Sync::Unknown);
        let client = core.clients.insert(1);
        read(&mut core, client, &["GET", "k"], Miss::Nil);
        answer(&mut core, StoreId::Primary, "$-1\r\n");
        let hash = hash_key(0, b"k");
        core.went_on_alone(&Touched::key(hash, b"k"), 0);
        assert_eq!(core.sync_of(hash), Sync::Suspect(StoreId::Secondary));
        answer(&mut core, StoreId::Secondary, "$1\r\nv\r\n");
        assert_eq!(core.clients.get(client).expect("a client").owed(), 1, "it waits");
        answer(&mut core, StoreId::Primary, "$1\r\nv\r\n");
        assert_eq!(core.clients.get(client).expect("a client").unsent(), b"$1\r\nv\r\n");
        assert_eq!(core.operations(), 0);
    }
}
