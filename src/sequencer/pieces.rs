//! Replies that come, and go to their clients, in pieces.

use crate::compare::Digest;
use crate::stage::StoreId;

use super::Sequencer;
use super::answer::{fell_back, may_be_large_miss};
use super::lane::Sink;
use super::op::{Kept, OpKey, Owner, Reply};
use super::policy;
use super::reply::OutOfStep;

// === impl Sequencer ===

impl Sequencer {
    /// Takes a piece of a large reply of `store` that is still coming in. False: the piece must
    /// be kept by the caller until the reply is complete.
    pub fn on_piece(&mut self, store: StoreId, piece: &[u8]) -> bool {
        let now = self.now;
        self.lanes[store.index()].heard_at = now;
        self.lanes[store.index()].in_reply = true;
        let Some((sink, index)) = self.lanes[store.index()].expected() else { return false };
        let Sink::Op(key) = sink else { return sink == Sink::Nobody };
        let Some(op) = self.ops.get(key) else { return true };
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
            // What is not believed as a whole does not flow piece by piece either.
            let may = !self.is_overtaken(op, store) && policy::may_stream(op.policy, store, self.seen(op));
            let miss = may_be_large_miss(op);
            if !may || miss || !self.clients.is_front(client, seq) {
                return false;
            }
        }
        if let Some(op) = self.ops.get_mut(key) {
            op.streaming = Some(store);
            op.answered = true;
        }
        self.digest(key, store, piece);
        self.clients.stream(client, piece);
        true
    }

    pub(super) fn digest(&mut self, key: OpKey, store: StoreId, piece: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
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
        let Some(op) = self.ops.get_mut(key) else { return Ok(()) };
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
                self.tally.answered(kind, self.now - started, &self.metrics);
                self.forget_lone_read(client, key);
                self.clients.end_stream(client);
            }
        }
        self.compare_kept(key);
        self.retire(key);
        Ok(())
    }
}
