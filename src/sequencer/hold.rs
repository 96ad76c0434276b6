//! Submissions and fences that wait for their turn.
//!
//! One client holds at most one place here: a client that is held is read no further.

use std::collections::{HashMap, VecDeque};

use crate::stage::StoreId;

use super::clients::ClientKey;
use super::fence::{FenceKey, Fences, Footprint};
use super::op::Failure;
use super::park::ParkKey;
use super::{Scope, Sequencer, Submission, Transaction};

/// What is held for a client.
enum What {
    Command(Submission<'static>),
    Transaction(Transaction<'static>),
    /// What a parked client is tried with.
    Attempt(ParkKey),
    Fence,
}

struct Waiting {
    client: ClientKey,
    /// Since when, on the sequencer's clock.
    at: u64,
    footprint: Footprint,
    what: What,
}

/// A fence that stands, and the point that the default store must have answered before its owner
/// may go on.
struct Standing {
    client: ClientKey,
    fence: FenceKey,
    store: StoreId,
    target: u64,
}

/// Fences, and what waits for them.
#[derive(Default)]
pub(super) struct Holds {
    fences: Fences,
    waiting: VecDeque<Waiting>,
    standing: Vec<Standing>,
    hydrating: Vec<Hydrating>,
    /// What clients do on connections of their own while one store is in use, where nothing needs a fence.
    asides: HashMap<ClientKey, Footprint>,
}

/// A fence around keys that are being copied to the default store. It comes down with the last copy.
struct Hydrating {
    id: u64,
    fence: FenceKey,
    left: usize,
    /// Keys that the default store could not take over, with the error that tells why.
    refused: RefusedCopies,
}

/// Keys, and the error frames that tell why the default store could not take them over.
pub(super) type RefusedCopies = HashMap<u64, Box<[u8]>, foldhash::fast::RandomState>;

// === impl What ===

impl What {
    /// The slots that are owed for it.
    fn unpaid(&self) -> Vec<u64> {
        match self {
            What::Command(submission) => vec![submission.seq],
            What::Transaction(transaction) => {
                transaction.parts.iter().filter(|part| !part.answered).map(|part| part.seq).collect()
            }
            What::Attempt(_) | What::Fence => Vec::new(),
        }
    }
}

// === impl Holds ===

impl Holds {
    pub fn is_open(&self) -> bool {
        self.fences.is_open()
    }

    pub fn blocks(&self, footprint: &Footprint) -> bool {
        self.fences.blocks(footprint)
    }

    /// Does a fence stand around this key, whatever waits?
    pub fn stands_around(&self, hash: u64) -> bool {
        self.fences.stands_around(hash)
    }

    /// Does a fence stand around this key, or waits somebody who needs it?
    pub fn awaits(&self, hash: u64) -> bool {
        self.fences.is_spoken_for(hash)
    }

    /// Waits somebody who needs this key?
    pub fn is_waited_for(&self, hash: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.footprint.includes(hash))
    }

    /// Does no fence stand, whatever waits?
    pub fn is_clear(&self) -> bool {
        self.standing.is_empty() && self.hydrating.is_empty()
    }

    pub fn reserve(&mut self, footprint: &Footprint) {
        self.fences.reserve(footprint);
    }

    pub fn unreserve(&mut self, footprint: &Footprint) {
        self.fences.free(footprint);
    }

    /// A parked client is not tried any more. True: others may have waited behind it.
    pub fn forget_attempt(&mut self, park: ParkKey) -> bool {
        let is_its = |waiting: &Waiting| matches!(waiting.what, What::Attempt(key) if key == park);
        let Some(at) = self.waiting.iter().position(is_its) else { return false };
        if let Some(waiting) = self.waiting.remove(at) {
            self.fences.free(&waiting.footprint);
        }
        true
    }

    fn push(&mut self, waiting: Waiting) {
        self.fences.reserve(&waiting.footprint);
        self.waiting.push_back(waiting);
    }
}

// === impl Sequencer ===

impl Sequencer {
    pub(super) fn hold_submission(&mut self, submission: &Submission<'_>) {
        self.holds.push(Waiting {
            client: submission.client,
            at: self.now,
            footprint: submission.footprint.clone(),
            what: What::Command(submission.to_owned()),
        });
    }

    pub(super) fn hold_transaction(&mut self, transaction: Transaction<'_>) {
        self.holds.push(Waiting {
            client: transaction.client,
            at: self.now,
            footprint: transaction.footprint.clone(),
            what: What::Transaction(transaction.into_owned()),
        });
    }

    /// A parked client is tried when its turn comes. Until then nobody who comes later passes it by at any of its keys.
    pub(super) fn hold_attempt(&mut self, client: ClientKey, park: ParkKey, footprint: Footprint) {
        self.holds.push(Waiting { client, at: self.now, footprint, what: What::Attempt(park) });
    }

    /// Is something of this client held? Its session must not submit more until it is woken.
    pub fn is_held(&self, client: ClientKey) -> bool {
        !self.holds.waiting.is_empty() && self.holds.waiting.iter().any(|w| w.client == client)
    }

    /// Asks for a fence around `footprint`. The client is woken when [`Sequencer::fence_ready`].
    pub fn request_fence(&mut self, client: ClientKey, footprint: Footprint) {
        if self.holds.blocks(&footprint) {
            self.holds.push(Waiting { client, at: self.now, footprint, what: What::Fence });
        } else {
            self.raise(client, footprint);
        }
    }

    fn raise(&mut self, client: ClientKey, footprint: Footprint) {
        let store = self.default_store();
        let fence = self.holds.fences.raise(footprint);
        let target = self.lane(store).appended();
        self.holds.standing.push(Standing { client, fence, store, target });
    }

    /// Is everything that came before this client's fence executed, or ended with its connection? What a connection
    /// that was lost has carried may still be executed until the next one has ended it.
    pub fn fence_ready(&self, client: ClientKey) -> bool {
        self.holds.standing.iter().any(|standing| standing.client == client && self.is_ready(standing))
    }

    /// Is the store of this client's fence down, so that there is nothing to wait for?
    pub fn is_fence_hopeless(&self, client: ClientKey) -> bool {
        self.holds.standing.iter().any(|standing| standing.client == client && self.is_hopeless(standing))
    }

    fn is_ready(&self, standing: &Standing) -> bool {
        let lane = self.lane(standing.store);
        lane.is_up() && lane.answered() >= standing.target
    }

    fn is_hopeless(&self, standing: &Standing) -> bool {
        !self.lane(standing.store).accepts()
    }

    /// Takes this client's fence down and lets go on what waited for it.
    pub fn lower_fence(&mut self, client: ClientKey) {
        let Some(at) = self.holds.standing.iter().position(|s| s.client == client) else { return };
        let standing = self.holds.standing.swap_remove(at);
        self.holds.fences.lower(standing.fence);
        self.release_held();
        self.finish_flip();
    }

    /// While one store is in use, a client does something to these keys on a connection of its own. Should a second
    /// store come into use meanwhile, a fence stands around them from that point of the order on. False: it is in use
    /// already.
    pub fn step_aside(&mut self, client: ClientKey, footprint: Footprint) -> bool {
        let alone = !self.stage().is_dual();
        if alone {
            self.holds.asides.insert(client, footprint);
        }
        alone
    }

    /// It is done. `written`: what may have been changed, for which the second store may have come too late.
    pub fn step_back(&mut self, client: ClientKey, written: Option<(&[u8], Scope, u32)>) {
        let Some(footprint) = self.holds.asides.remove(&client) else { return };
        if let Some((frame, scope, db)) = written {
            self.doubt_effect(&footprint, frame, scope, db);
        }
        self.lower_fence(client);
    }

    pub(super) fn fence_asides(&mut self) {
        let asides: Vec<_> = self.holds.asides.iter().map(|(key, keys)| (*key, keys.clone())).collect();
        asides.into_iter().for_each(|(client, footprint)| self.raise(client, footprint));
    }

    /// Gives up a fence, whether it stands or still waits.
    pub fn cancel_fence(&mut self, client: ClientKey) {
        self.drop_holds_of(client);
    }

    /// Is something waiting for its turn?
    pub fn is_anyone_held(&self) -> bool {
        !self.holds.waiting.is_empty()
    }

    /// How many requests and fences wait behind a fence.
    pub fn held(&self) -> usize {
        self.holds.waiting.len()
    }

    /// How many keys somebody has to himself, or waits for.
    pub fn fenced_keys(&self) -> usize {
        self.holds.fences.spoken_for()
    }

    /// Refuses commands that have waited since before `before`. Who waits for a fence of its own, or is parked,
    /// gives up by itself.
    pub(super) fn expire_holds(&mut self, before: u64) {
        let late =
            |entry: &Waiting| entry.at < before && !matches!(entry.what, What::Attempt(_) | What::Fence);
        if !self.holds.waiting.iter().any(late) {
            return;
        }
        let (late, kept): (VecDeque<Waiting>, VecDeque<Waiting>) =
            std::mem::take(&mut self.holds.waiting).into_iter().partition(late);
        self.holds.waiting = kept;
        let frame = self.failure_frame(self.default_store(), Failure::NotSent);
        for entry in late {
            self.holds.fences.free(&entry.footprint);
            for seq in entry.what.unpaid() {
                self.clients.pay(entry.client, seq, &frame);
            }
            self.clients.wake(entry.client);
        }
        self.release_held();
    }

    /// What progress of the lanes may have brought about.
    pub(super) fn after_progress(&mut self) {
        self.hand_counts_on();
        self.finish_flip();
        self.taints.answered(StoreId::ALL.map(|store| self.lane(store).answered()));
        for at in 0..self.holds.standing.len() {
            let Some(standing) = self.holds.standing.get(at) else { break };
            if self.is_ready(standing) || self.is_hopeless(standing) {
                let client = standing.client;
                self.clients.wake(client);
            }
        }
    }

    /// Gives everything that waits its turn, in order; what is still blocked stays.
    pub(super) fn release_held(&mut self) {
        let waiting = std::mem::take(&mut self.holds.waiting);
        for entry in &waiting {
            self.holds.fences.free(&entry.footprint);
        }
        for entry in waiting {
            if self.holds.blocks(&entry.footprint) {
                self.holds.push(entry);
            } else {
                self.release(entry);
            }
        }
        for (client, _) in std::mem::take(&mut self.hydration_waiters) {
            self.clients.wake(client);
        }
    }

    fn release(&mut self, entry: Waiting) {
        let Waiting { client, footprint, what, .. } = entry;
        match what {
            What::Command(submission) => self.place(&submission),
            What::Transaction(transaction) => self.place_transaction(transaction),
            What::Attempt(park) => self.attempt_released(park),
            What::Fence => self.raise(client, footprint),
        }
        self.clients.wake(client);
    }

    /// Puts a fence up around keys of which `copies` are on their way. Nothing blocks it: the caller
    /// has looked.
    pub(super) fn raise_hydration(&mut self, id: u64, footprint: Footprint, copies: usize) {
        let fence = self.holds.fences.raise(footprint);
        self.holds.hydrating.push(Hydrating { id, fence, left: copies, refused: HashMap::default() });
    }

    /// One copy of a hydration is done, one way or the other. `refused`: the key, and why the default store cannot
    /// take it over; who has waited for it is told so, and nobody goes on without what only the other store has.
    pub(super) fn hydrated(&mut self, id: u64, refused: Option<(u64, Box<[u8]>)>) {
        let Some(at) = self.holds.hydrating.iter().position(|h| h.id == id) else { return };
        let Some(hydrating) = self.holds.hydrating.get_mut(at) else { return };
        hydrating.left = hydrating.left.saturating_sub(1);
        hydrating.refused.extend(refused);
        if hydrating.left == 0 {
            let done = self.holds.hydrating.swap_remove(at);
            self.holds.fences.lower(done.fence);
            self.refused_copies = done.refused;
            self.release_held();
            self.refused_copies.clear();
            self.finish_flip();
        }
    }

    pub(super) fn drop_holds_of(&mut self, client: ClientKey) {
        self.holds.asides.remove(&client);
        self.hydration_waiters.retain(|(waiter, _)| *waiter != client);
        if self.holds.waiting.is_empty() && self.holds.standing.is_empty() {
            return;
        }
        let (gone, kept): (VecDeque<Waiting>, VecDeque<Waiting>) =
            std::mem::take(&mut self.holds.waiting).into_iter().partition(|w| w.client == client);
        self.holds.waiting = kept;
        gone.iter().for_each(|w| self.holds.fences.free(&w.footprint));
        self.lower_fence(client);
        if !gone.is_empty() {
            // What had lined up behind it may go.
            self.release_held();
        }
    }
}
