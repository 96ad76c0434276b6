//! A client's own connection to the default store, as `src/store/dedicated.rs` lends it.

use multistore::resp::Proto;
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};

use super::World;

// === impl World ===

impl World {
    /// Takes a connection of the client's own to the default store. False: the store is down.
    pub(super) fn acquire(&mut self, id: u64) -> bool {
        self.release(id);
        let store = self.core.default_store();
        if !self.stores[store.index()].up {
            return false;
        }
        let context = self.context(id);
        let conn = self.stores[store.index()].connect();
        if let Some(slot) = self.stores[store.index()].conns.get_mut(&conn) {
            slot.db = context.db as usize;
            slot.resp3 = context.proto == Proto::Resp3;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.own = Some((store, conn));
        }
        true
    }

    pub(super) fn release(&mut self, id: u64) {
        if let Some((store, conn)) = self.peers.get_mut(&id).and_then(|peer| peer.own.take()) {
            self.stores[store.index()].conns.remove(&conn);
        }
    }

    /// As `store::given_up`: the client's own connection is not heard any more, and the store may still run what it has.
    pub(super) fn give_up(&mut self, id: u64) {
        let Some((store, conn)) = self.peers.get_mut(&id).and_then(|peer| peer.own.take()) else { return };
        if self.stores[store.index()].conns.contains_key(&conn) {
            self.ghosts.push((store, conn));
            drop(self.core.end_connection(store, conn as i64));
            self.settle();
        }
    }

    /// Replies on the client's own connection; None: it is gone.
    pub(super) fn own_replies(&mut self, id: u64, count: usize) -> Option<Vec<Vec<u8>>> {
        let (store, conn) = self.peers.get(&id)?.own?;
        let conn = self.stores[store.index()].conns.get_mut(&conn)?;
        let mut frames = Vec::new();
        let mut rest = conn.outbox.as_slice();
        while frames.len() < count {
            match ReplyScanner::new().scan(rest, &ReplyLimits::default()) {
                Ok(Scanned::Complete { len, .. }) => {
                    frames.push(rest[..len].to_vec());
                    rest = &rest[len..];
                }
                _ => return Some(Vec::new()),
            }
        }
        let left = rest.to_vec();
        conn.outbox = left;
        Some(frames)
    }
}
