//! The lanes, as `src/store/driver.rs` moves their bytes.

use multistore::metrics::StoreErrorKind;
use multistore::resp::reply::{ReplyLimits, Scanned};
use multistore::sequencer::knowledge::Sync;
use multistore::sequencer::lane::DownReason;
use multistore::stage::StoreId;

use super::super::redis::show_bytes;
use super::{Wire, World};

// === impl World ===

impl World {
    pub fn wants_to_ship(&self, store: StoreId) -> bool {
        let wire = &self.wires[store.index()];
        wire.conn.is_some() && (!wire.unsent.is_empty() || !self.core.lane(store).out.is_empty())
    }

    /// The socket takes bytes of the lane; not always all of them.
    pub fn ship(&mut self, store: StoreId, all: bool) {
        let wire = &mut self.wires[store.index()];
        let Some(conn) = wire.conn else { return };
        let mut out = std::mem::take(&mut self.core.lane_mut(store).out);
        wire.unsent.append(&mut out);
        let count = if all { wire.unsent.len() } else { 1 + self.dice.below(wire.unsent.len()) };
        let bytes: Vec<u8> = wire.unsent.drain(..count.min(wire.unsent.len())).collect();
        self.note(|_| format!("{store}: {} bytes leave", bytes.len()));
        if let Some(conn) = self.stores[store.index()].conns.get_mut(&conn) {
            conn.inbox.extend_from_slice(&bytes);
        }
    }

    pub fn has_replies(&self, store: StoreId) -> bool {
        let conn = self.wires[store.index()].conn;
        conn.and_then(|id| self.stores[store.index()].conns.get(&id))
            .is_some_and(|conn| !conn.outbox.is_empty())
    }

    /// The proxy reads from the lane; not always all there is, nor whole frames.
    pub fn deliver(&mut self, store: StoreId, all: bool) {
        let wire = &mut self.wires[store.index()];
        let Some(id) = wire.conn else { return };
        let Some(conn) = self.stores[store.index()].conns.get_mut(&id) else { return };
        let count = if all { conn.outbox.len() } else { 1 + self.dice.below(conn.outbox.len()) };
        let bytes: Vec<u8> = conn.outbox.drain(..count.min(conn.outbox.len())).collect();
        self.note(|_| format!("{store}: {} bytes come in: {}", bytes.len(), show_bytes(&bytes)));
        let now = self.now;
        self.core.set_now(now);
        self.core.lane_mut(store).heard_at = now;
        self.wires[store.index()].buf.extend_from_slice(&bytes);
        if let Err(error) = self.hand_over(store) {
            self.problems.push(format!("{store}: {error}"));
            self.lose(store);
            return;
        }
        self.core.end_of_batch();
        self.settle();
    }

    /// As `Reading::hand_over`, with everything above a few bytes a large reply.
    fn hand_over(&mut self, store: StoreId) -> Result<(), String> {
        let flows = self.dice.chance(20);
        let wire = &mut self.wires[store.index()];
        let limits = ReplyLimits::default();
        while !wire.buf.is_empty() {
            match wire.scanner.scan(&wire.buf, &limits).map_err(|error| error.to_string())? {
                Scanned::Complete { len, push } => {
                    let frame: Vec<u8> = wire.buf.drain(..len).collect();
                    if std::mem::take(&mut wire.flowing) {
                        self.core.on_last_piece(store, &frame).map_err(|error| error.to_string())?;
                    } else if !push {
                        self.core.on_frame(store, &frame).map_err(|error| error.to_string())?;
                    }
                }
                Scanned::Incomplete => {
                    let certain = wire.scanner.certain(wire.buf.len());
                    if (flows || wire.flowing)
                        && certain > 0
                        && self.core.on_piece(store, &wire.buf[..certain])
                    {
                        wire.scanner.forget(certain);
                        wire.buf.drain(..certain);
                        wire.flowing = true;
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// The proxy loses its connection. What the store has already may be executed still.
    pub fn lose(&mut self, store: StoreId) {
        let wire = std::mem::replace(&mut self.wires[store.index()], Wire::new());
        let Some(conn) = wire.conn else { return };
        self.ghosts.push((store, conn));
        self.note(|_| format!("{store}: the lane is lost"));
        self.refused |= store == StoreId::Secondary || self.core.copies_under_way() > 0;
        self.taint();
        self.core.set_now(self.now);
        let more = self.core.lane_lost(store, self.lost_at_once);
        if more {
            self.note(|_| format!("{store}: not all that was on it is accounted for"));
        }
        self.settle();
    }

    /// Goes on with what was on a lost connection. False: nothing is left.
    fn lose_more(&mut self, store: StoreId) -> bool {
        if !self.core.lane(store).has_lost() {
            return false;
        }
        self.note(|_| format!("{store}: more of what was lost is accounted for"));
        self.taint();
        self.core.set_now(self.now);
        self.core.lose_more(store, self.lost_at_once);
        self.settle();
        true
    }

    /// Has the lane of `store` a connection that the store does not know any more?
    pub fn is_cut(&self, store: StoreId) -> bool {
        let conn = self.wires[store.index()].conn;
        conn.is_some_and(|id| !self.stores[store.index()].conns.contains_key(&id))
    }

    /// An attempt to connect, as the driver makes it.
    pub fn dial(&mut self, store: StoreId) {
        if self.wires[store.index()].conn.is_some() || self.lose_more(store) {
            return;
        }
        self.core.set_now(self.now);
        if !self.stores[store.index()].up {
            self.note(|_| format!("{store}: cannot be reached"));
            let reason = DownReason {
                kind: StoreErrorKind::Connect,
                text: "connection refused".to_owned(),
                store_error: None,
            };
            self.core.lane_down(store, reason);
            self.settle();
            return;
        }
        // The predecessor is ended before the new lane carries anything.
        for (_, conn) in self.ghosts.extract_if(.., |(of, _)| *of == store) {
            self.stores[store.index()].conns.remove(&conn);
        }
        let run_id = self.stores[store.index()].run_id;
        self.note(|_| format!("{store}: connected, run_id {}", run_id % 1000));
        self.judge_return(store, run_id);
        if self.known_runs[store.index()].replace(run_id) != Some(run_id) {
            self.recorded = None;
        }
        let conn = self.stores[store.index()].connect();
        self.wires[store.index()] = Wire { conn: Some(conn), ..Wire::new() };
        self.core.lane_up(store, true);
        self.settle();
    }

    /// As `Instance::judge_return`.
    fn judge_return(&mut self, store: StoreId, run_id: u64) {
        let same = self.known_runs[store.index()].is_none_or(|known| known == run_id);
        let alone =
            store == self.core.default_store() && self.core.sync_base() == Sync::Suspect(store.other());
        if same || !(self.core.stage().is_dual() || alone) {
            return;
        }
        let source = match self.core.sync_base() {
            Sync::Suspect(behind) => behind.other(),
            Sync::InSync | Sync::Unknown => self.core.default_store(),
        };
        if store == source {
            self.core.doubt_source(Some(store));
        }
        self.core.doubt_unnamed(source.other());
    }
}
