//! Clients come, ask and leave.

use multistore::resp::reply::ReplyScanner;

use super::super::redis::{show, show_bytes};
use super::{Ask, Peer, World};

// === impl World ===

impl World {
    pub fn join(&mut self, db: u32, resp3: bool) -> u64 {
        let id = self.next_client;
        self.next_client += 1;
        let key = self.core.clients.insert(id);
        self.peers.insert(
            id,
            Peer {
                key,
                db,
                resp3,
                inbox: Default::default(),
                expect: Default::default(),
                recv: Vec::new(),
                scanner: ReplyScanner::new(),
                woken: true,
                hears_flips: false,
                timer: None,
                own: None,
                exchanging: false,
                leaving: false,
            },
        );
        id
    }

    /// A client goes away, whatever is owed to it.
    pub fn leave(&mut self, id: u64) {
        if let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.exchanging) {
            peer.leaving = true;
            return;
        }
        let Some(peer) = self.peers.remove(&id) else { return };
        self.note(|_| format!("client {id} leaves"));
        self.core.set_now(self.now);
        self.core.disconnect(peer.key);
        self.forget(peer);
        self.settle();
    }

    pub(super) fn forget(&mut self, peer: Peer) {
        if let Some((store, conn)) = peer.own {
            if peer.exchanging {
                // What it has sent may be executed still.
                self.ghosts.push((store, conn));
            } else {
                self.stores[store.index()].conns.remove(&conn);
            }
        }
        for expect in peer.expect {
            self.books.lost(expect);
        }
    }

    pub fn ask(&mut self, id: u64, asks: Vec<Ask>) {
        self.note(|_| format!("client {id} → {}", asks.iter().map(show_ask).collect::<Vec<_>>().join(" | ")));
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.inbox.extend(asks);
            peer.woken = true;
        }
    }
}

fn show_ask(ask: &Ask) -> String {
    match ask {
        Ask::One(words) | Ask::Block(words) => show(words),
        Ask::Transaction(all, slow) => {
            let inner: Vec<String> = all.iter().map(|words| show(words)).collect();
            format!("MULTI{} [{}]", if *slow { " slowly" } else { "" }, inner.join(", "))
        }
        Ask::Swap(key, value) => format!("WATCH+SET {} {}", show_bytes(key), show_bytes(value)),
    }
}
