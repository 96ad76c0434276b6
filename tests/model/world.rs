//! The real sequencer between two simulated stores, with what an instance does around it.
//!
//! Mirrors `src/instance.rs` and `src/store/driver.rs`: whoever changes what those do around the sequencer changes it
//! here as well.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use multistore::command::{Miss, Table};
use multistore::config::{Ack, OnLag, Reads};
use multistore::metrics::{InstanceMetrics, Metrics, StoreErrorKind};
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use multistore::sequencer::clients::{ClientKey, Doom};
use multistore::sequencer::knowledge::{Knowledge, Limits, Sync};
use multistore::sequencer::lane::DownReason;
use multistore::sequencer::{Recorded, Sequencer, Settings, StoreFace, hash_key};
use multistore::stage::{Stage, StoreId};
use multistore::state::{Entry, SuspectEntry};

use super::books::{Books, Expect};
use super::dice::Dice;
use super::redis::{Redis, Words, show, show_bytes};

pub type Shared = Rc<RefCell<World>>;

/// What never changes between schedules, made once.
#[derive(Clone)]
pub struct Kit {
    pub table: Rc<Table>,
    pub metrics: Arc<InstanceMetrics>,
}

/// The lane's connection, from the proxy's side.
pub struct Wire {
    pub conn: Option<u64>,
    /// What the lane has handed out and the socket has not taken.
    unsent: Vec<u8>,
    scanner: ReplyScanner,
    buf: Vec<u8>,
    flowing: bool,
}

/// One client, and what its session waits for.
pub struct Peer {
    pub key: ClientKey,
    pub db: u32,
    pub resp3: bool,
    pub inbox: std::collections::VecDeque<Ask>,
    pub expect: std::collections::VecDeque<Expect>,
    recv: Vec<u8>,
    scanner: ReplyScanner,
    pub woken: bool,
    /// It hears of flips.
    pub hears_flips: bool,
    pub timer: Option<u64>,
    /// Its own connection to a store.
    pub own: Option<(StoreId, u64)>,
    /// A request is under way on it: a client that goes away is not noticed before it is over.
    pub exchanging: bool,
    pub leaving: bool,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    One(Words),
    /// MULTI, these, EXEC; does the client wait for each QUEUED?
    Transaction(Vec<Words>, bool),
    /// A command that may wait.
    Block(Words),
    /// WATCH the key, GET it, MULTI, SET it, EXEC.
    Swap(Vec<u8>, Vec<u8>),
}

pub struct World {
    pub now: u64,
    /// Counts events: what came first, for the books.
    pub event: u64,
    pub dice: Dice,
    pub kit: Kit,
    pub settings: Settings,
    pub limits: Limits,
    pub stores: [Redis; 2],
    pub core: Sequencer,
    pub wires: [Wire; 2],
    /// Connections that the proxy has given up and the store has not noticed.
    pub ghosts: Vec<(StoreId, u64)>,
    /// What the state file says.
    pub entry: Option<Entry>,
    recorded: Option<Recorded>,
    known_runs: [Option<u64>; 2],
    pub flags: Stage,
    pub peers: BTreeMap<u64, Peer>,
    pub next_client: u64,
    pub books: Books,
    /// A line per event, when somebody wants to read it.
    pub trace: Option<Vec<String>>,
    /// The process: what an old one's walk does counts for nothing.
    pub process: u64,
    probed_at: u64,
    /// What was known of all keys when the last event was over.
    base: Sync,
    announced: Stage,
    /// A store has refused something at some time.
    pub refused: bool,
    /// The primary had everything from the beginning, and has not lost it: as long as nobody has noticed, it may become
    /// the default store.
    pub warm: bool,
    pub problems: Vec<String>,
}

const LANE_TIMEOUT_MICROS: u64 = 30_000_000;
const PROBE_MICROS: u64 = 1_000_000;

// === impl Kit ===

impl Kit {
    pub fn new() -> Kit {
        let table = Rc::new(Table::builtin());
        let metrics = Metrics::new().expect("metrics");
        let names: Vec<&'static str> = table.iter().map(|(_, spec)| spec.label()).collect();
        let reads: Vec<bool> = table.iter().map(|(_, spec)| spec.miss != Miss::Never).collect();
        Kit { metrics: metrics.instance("model", &names, |at| reads[at]), table }
    }
}

// === impl Wire ===

impl Wire {
    fn new() -> Wire {
        Wire { conn: None, unsent: Vec::new(), scanner: ReplyScanner::new(), buf: Vec::new(), flowing: false }
    }
}

/// What eight requests count for in a queue beside their bytes.
const FEW: u64 = 8 * 256;

pub fn settings(dice: &mut Dice) -> Settings {
    let rarely = |dice: &mut Dice, rare: u64, usual: u64| if dice.chance(15) { rare } else { usual };
    Settings {
        hydrate: true,
        reads: if dice.chance(85) { Reads::Fallback } else { *dice.pick(&[Reads::Default, Reads::Compare]) },
        ack: *dice.pick(&[Ack::Default, Ack::Default, Ack::Default, Ack::Both]),
        on_lag: *dice.pick(&[OnLag::Repair, OnLag::Repair, OnLag::Block]),
        reply_timeout: Duration::from_secs(5),
        read_patience: Duration::from_millis(5),
        blocking_poll: Duration::from_millis(100),
        lag_max: rarely(dice, 300 + FEW, 64 << 20),
        flip_max_lag: rarely(dice, 200, 1 << 20),
        queue_max: rarely(dice, 400 + FEW, 256 << 20),
        heavy_bytes: 256 << 10,
        copy_max_bytes: 1 << 20,
        compare_max_bytes: rarely(dice, 40, 1 << 20) as usize,
        ttl_tolerance: Duration::from_secs(1),
        client_output_max: 256 << 20,
        log_values: false,
    }
}

// === impl World ===

impl World {
    pub fn new(kit: &Kit, seed: u64, traced: bool) -> World {
        let mut dice = Dice::new(seed);
        let settings = settings(&mut dice);
        // With several bounds tiny at once, no walk ever gets to its end.
        let roomy = settings.lag_max > 1 << 20 && settings.queue_max > 1 << 20;
        let limits = match dice.below(10) {
            0 if roomy => Limits { in_sync: 4, ..Limits::default() },
            1 if roomy => Limits { suspects: 3, ..Limits::default() },
            _ => Limits::default(),
        };
        let flags = if dice.chance(60) { Stage::SecondaryOnly } else { Stage::DualSecondaryDefault };
        let mut stores = [0u64, 7].map(|skew| Redis::new(kit.table.clone(), dice.fork(), skew));
        if traced {
            stores.iter_mut().for_each(|store| store.log = Some(Vec::new()));
        }
        let core = sequencer(kit, &settings, flags, Knowledge::new(Sync::Unknown, limits));
        World {
            now: 1_000_000,
            event: 0,
            dice,
            kit: kit.clone(),
            settings,
            limits,
            stores,
            core,
            wires: [Wire::new(), Wire::new()],
            ghosts: Vec::new(),
            entry: None,
            recorded: None,
            known_runs: [None, None],
            flags,
            peers: BTreeMap::new(),
            next_client: 1,
            books: Books::default(),
            trace: traced.then(Vec::new),
            process: 0,
            probed_at: 0,
            base: Sync::Unknown,
            announced: flags,
            refused: false,
            warm: false,
            problems: Vec::new(),
        }
    }

    pub fn note(&mut self, line: impl FnOnce(&World) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>5} {:>9}ms {}", self.event, self.now / 1000, line(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    pub fn millis(&self) -> u64 {
        self.now / 1000
    }

    /// Moves on what has been produced: replies to clients, wake-ups, the record.
    pub fn settle(&mut self) {
        self.taint();
        self.record();
        self.announce_stage();
        self.base = self.core.sync_base();
        let mut keys = Vec::new();
        self.core.clients.take_dirty(&mut keys);
        for key in keys.drain(..) {
            self.flush(key);
        }
        self.core.clients.take_woken(&mut keys);
        for key in keys {
            if let Some(peer) = self.peers.get_mut(&key.id()) {
                peer.woken = true;
            }
        }
    }

    fn flush(&mut self, key: ClientKey) {
        let Some(client) = self.core.clients.get_mut(key) else { return };
        match client.doomed {
            None => {}
            Some(Doom::CutReply) => return self.leave(key.id()),
            Some(doom) => return self.problems.push(format!("client {} was closed: {doom:?}", key.id())),
        }
        let bytes = client.unsent().to_vec();
        client.took(bytes.len());
        let Some(peer) = self.peers.get_mut(&key.id()) else { return };
        peer.recv.extend_from_slice(&bytes);
        let mut frames = Vec::new();
        while !peer.recv.is_empty() {
            match peer.scanner.scan(&peer.recv, &ReplyLimits::default()) {
                Ok(Scanned::Complete { len, .. }) => frames.push(peer.recv.drain(..len).collect::<Vec<u8>>()),
                Ok(Scanned::Incomplete) => break,
                Err(error) => {
                    self.problems.push(format!("client {} got no reply: {error}", key.id()));
                    break;
                }
            }
        }
        for frame in frames {
            let expect = self.peers.get_mut(&key.id()).and_then(|peer| peer.expect.pop_front());
            self.note(|_| format!("client {} ← {}", key.id(), show_bytes(&frame)));
            match expect {
                Some(expect) => self.books.answered(expect, &frame),
                None => self.problems.push(format!(
                    "client {} got a reply too many: {}",
                    key.id(),
                    show_bytes(&frame)
                )),
            }
        }
    }

    /// As `Instance::record`.
    fn record(&mut self) {
        let now = self.core.to_record();
        if self.recorded.replace(now) == Some(now) {
            return;
        }
        let behind = match now.base {
            Sync::Suspect(store) => Some(store),
            Sync::InSync | Sync::Unknown => None,
        };
        self.entry = Some(Entry {
            clean: false,
            in_sync: now.base == Sync::InSync,
            doubted: now.doubted.map(|store| store.name().to_owned()),
            servers: self.known_runs.map(|run| run.map_or_else(String::new, |run| run.to_string())),
            suspects: self.core.suspects_on_default().map(SuspectEntry::of).collect(),
            ..Entry::running(now.stage, behind)
        });
    }

    // --- lanes ---

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
        self.core.lane_lost(store);
        self.settle();
    }

    /// Has the lane of `store` a connection that the store does not know any more?
    pub fn is_cut(&self, store: StoreId) -> bool {
        let conn = self.wires[store.index()].conn;
        conn.is_some_and(|id| !self.stores[store.index()].conns.contains_key(&id))
    }

    /// An attempt to connect, as the driver makes it.
    pub fn dial(&mut self, store: StoreId) {
        if self.wires[store.index()].conn.is_some() {
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

    /// As `Instance::repair_from`.
    pub fn repair_from(&mut self, right: StoreId) {
        if self.core.stage().is_dual() || self.core.doubted_source().is_some() {
            self.note(|_| format!("the operator says that the {right} store is right"));
            // A cold primary is made the measure of everything.
            self.books.lossy |=
                right == StoreId::Primary && self.core.sync_base() == Sync::Unknown && !self.warm;
            self.core.doubt_source(None);
            self.core.doubt_store(right.other());
            self.settle();
        }
    }

    // --- time, flags, processes ---

    /// As `Instance::tick`.
    pub fn tick(&mut self) {
        self.core.set_now(self.now);
        self.core.tick();
        self.core.try_flip();
        let probe = self.now - self.probed_at >= PROBE_MICROS;
        for store in StoreId::ALL {
            if probe {
                self.core.lane_mut(store).probe(self.now);
            }
            if self.core.lane(store).is_silent_since(self.now.saturating_sub(LANE_TIMEOUT_MICROS)) {
                self.lose(store);
            }
        }
        if probe {
            self.probed_at = self.now;
        }
        self.settle();
        let millis = self.millis();
        self.stores.iter_mut().for_each(|store| store.tick(millis));
        let now = self.now;
        for peer in self.peers.values_mut() {
            peer.woken |= peer.timer.is_some_and(|at| at <= now);
        }
    }

    pub fn flip(&mut self, stage: Stage) {
        self.flags = stage;
        self.core.set_now(self.now);
        self.core.set_stage(stage);
        self.note(|world| {
            format!(
                "flags: {stage}; in effect {}, held {:?}",
                world.core.flags().stage(),
                world.core.held_flip().map(|h| h.reason)
            )
        });
        self.settle();
    }

    /// As `Instance::announce_stage`.
    fn announce_stage(&mut self) {
        let now = self.core.flags().stage();
        let before = std::mem::replace(&mut self.announced, now);
        if now == before {
            return;
        }
        self.note(|_| format!("stage {before} → {now}"));
        // Left behind with what only it has, by an operator who did not wait for the verdict.
        self.books.lossy |= now == Stage::PrimaryOnly && self.base == Sync::Unknown && !self.warm;
        self.peers.values_mut().for_each(|peer| peer.woken |= peer.hears_flips);
    }

    /// While a cold primary counts and the secondary, or a copy from it, cannot be had, the primary goes on alone:
    /// nobody is held up by the other store. What comes of such keys proves nothing.
    pub fn taint(&mut self) {
        let primary_counts =
            self.core.default_store() == StoreId::Primary || self.flags.default_store() == StoreId::Primary;
        let alone = primary_counts
            && self.core.stage().is_dual()
            && !self.warm
            && (!self.core.lane(StoreId::Secondary).is_up()
                || self.refused
                || self.settings.reads != Reads::Fallback);
        if !alone {
            return;
        }
        let core = &self.core;
        self.books.taint(|db, key| core.sync_of(hash_key(db, key)) == Sync::Unknown);
    }

    /// The proxy is killed, and started again with what the state file says.
    pub fn crash(&mut self) {
        self.note(|_| "the proxy is killed".to_owned());
        for store in StoreId::ALL {
            let wire = std::mem::replace(&mut self.wires[store.index()], Wire::new());
            self.ghosts.extend(wire.conn.map(|conn| (store, conn)));
        }
        let ids: Vec<u64> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(peer) = self.peers.remove(&id) {
                self.forget(peer);
            }
        }
        // Of a cold primary's secondary nobody remembers what it has yet to lose, if it was not to be had, or if clients
        // that wait have taken it.
        let takes = self.books.records.iter().any(|record| record.words[0].starts_with(b"BL"));
        let lags = self.core.lane(StoreId::Secondary).depth() > 0 && takes || self.core.suspects().0 > 0;
        self.books.lossy |=
            self.core.stage() == Stage::DualPrimaryDefault && self.core.sync_base() == Sync::Unknown && lags;
        let entry = self.entry.clone();
        let (stage, mut known) = match entry.as_ref().map(|entry| entry.believed(self.flags)) {
            Some(believed) if believed.stale => (believed.stage, Knowledge::cold_and_stale(self.limits)),
            Some(believed) => (believed.stage, Knowledge::new(believed.base, self.limits)),
            None => (self.flags, Knowledge::new(Sync::Unknown, self.limits)),
        };
        self.note(|world| format!("the proxy starts in {stage}, flags {}, {entry:?}", world.flags));
        entry.iter().for_each(|entry| entry.list_suspects(&mut known));
        let base = known.base();
        self.core = sequencer(&self.kit, &self.settings, stage, known);
        self.core.set_now(self.now);
        self.core.doubt_source(entry.as_ref().and_then(Entry::doubted));
        self.core.set_stage(self.flags);
        self.books.lossy |= self.core.flags().stage() == Stage::PrimaryOnly
            && stage != Stage::PrimaryOnly
            && base == Sync::Unknown
            && !self.warm;
        self.announced = self.core.flags().stage();
        self.recorded = None;
        self.known_runs = entry
            .as_ref()
            .map(Entry::mirrored_between)
            .unwrap_or_default()
            .map(|seen| seen.run_id.parse().ok());
        self.process += 1;
        self.settle();
    }

    // --- clients ---

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

    fn forget(&mut self, peer: Peer) {
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

fn sequencer(kit: &Kit, settings: &Settings, stage: Stage, known: Knowledge) -> Sequencer {
    let faces = StoreId::ALL.map(|store| StoreFace { name: format!("{store} store"), base_db: 0 });
    Sequencer::new(kit.table.clone(), settings.clone(), stage, faces, kit.metrics.clone(), known)
}
