//! Requests of the proxy's own: many commands in one place of the order, to one store or to both.
//!
//! What is asked of both stores is appended to both lanes in one step: the two answers tell what the stores held
//! at the same point of the order.

use tokio::sync::oneshot;

use crate::resp::Proto;
use crate::stage::StoreId;

use super::Sequencer;
use super::lane::Context;
use super::op::{Failure, OpKey, Owner, Policy, Reply};

/// One store's replies to a bulk of commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// When the last of them came, on the sequencer's clock.
    pub at: u64,
}

/// What each store answered, indexed by store; `None` where it was not asked.
pub type Answers = [Option<Result<Replies, Failure>>; 2];

/// A bulk whose replies are still coming in.
#[derive(Debug)]
pub(super) struct Bulk {
    sender: oneshot::Sender<Answers>,
    coming: [Replies; 2],
    answers: Answers,
    left: usize,
}

// === impl Replies ===

impl Replies {
    /// The frames, in the order of the commands.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// The frame at this place, empty where there is none.
    pub fn get(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let span = start.zip(self.ends.get(at)).and_then(|(start, end)| self.bytes.get(start..*end));
        span.unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn push(&mut self, frame: &[u8], now: u64) {
        self.bytes.extend_from_slice(frame);
        self.ends.push(self.bytes.len());
        self.at = now;
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Appends `commands` requests, one behind the other in `frames`, to the lanes of `stores` in one step.
    pub fn ask_bulk(
        &mut self,
        stores: &[StoreId],
        db: u32,
        frames: &[u8],
        commands: u32,
    ) -> oneshot::Receiver<Answers> {
        let (sender, receiver) = oneshot::channel();
        // Without a command there is nothing to answer; a table without SCAN does not exist.
        if let (Some(command), true) = (self.table.by_name("scan"), commands > 0) {
            self.next_ticket += 1;
            let id = self.next_ticket;
            let bulk = Bulk { sender, coming: Default::default(), answers: [None, None], left: stores.len() };
            self.bulks.insert(id, bulk);
            let context = Context { db, proto: Proto::Resp2 };
            let op = self.own_op(Owner::Bulk(id), command, Policy::Authority(self.default_store()), context);
            self.send_counted(op, frames, stores, commands);
        }
        receiver
    }

    /// One of the replies to a bulk.
    pub(super) fn bulk_reply(&mut self, key: OpKey, id: u64, store: StoreId, last: bool, frame: &[u8]) {
        let now = self.now;
        let Some(bulk) = self.bulks.get_mut(&id) else { return };
        let Some(coming) = bulk.coming.get_mut(store.index()) else { return };
        coming.push(frame, now);
        if last {
            let replies = std::mem::take(coming);
            self.bulk_settled(key, id, store, Ok(replies));
        }
    }

    /// `store` will not answer a bulk.
    pub(super) fn bulk_failed(&mut self, key: OpKey, id: u64, store: StoreId, failure: Failure) {
        self.bulk_settled(key, id, store, Err(failure));
    }

    fn bulk_settled(&mut self, key: OpKey, id: u64, store: StoreId, answer: Result<Replies, Failure>) {
        let Some(bulk) = self.bulks.get_mut(&id) else { return };
        if let Some(place) = bulk.answers.get_mut(store.index()) {
            *place = Some(answer);
        }
        bulk.left = bulk.left.saturating_sub(1);
        let all = bulk.left == 0;
        if let Some(op) = self.ops.get_mut(key)
            && let Some(reply) = op.replies.get_mut(store.index())
        {
            *reply = Reply::Gone;
            op.answered = all;
        }
        if all {
            self.retire(key);
            if let Some(bulk) = self.bulks.remove(&id) {
                // Whoever asked may be gone.
                let _ = bulk.sender.send(bulk.answers);
            }
        }
    }
}
