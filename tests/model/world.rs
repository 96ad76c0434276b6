//! The real sequencer between two simulated stores, with what an instance does around it.
//!
//! Mirrors `src/instance.rs` and `src/store/driver.rs`: whoever changes what those do around the sequencer changes it
//! here as well.

mod lanes;
mod peers;
mod process;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use multistore::command::{Miss, Table};
use multistore::config::{Ack, OnLag, Reads};
use multistore::metrics::{InstanceMetrics, Metrics};
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use multistore::sequencer::clients::{ClientKey, Doom};
use multistore::sequencer::knowledge::{Knowledge, Limits, Sync};
use multistore::sequencer::{Recorded, Sequencer, Settings, StoreFace};
use multistore::stage::{Stage, StoreId};
use multistore::state::Entry;

use super::books::{Books, Expect};
use super::dice::Dice;
use super::redis::{Redis, Words, show_bytes};

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
    /// So many requests were asked before a cold primary ceased to be the default store.
    asked_in_the_cold: usize,
    /// So much of what was on a lost connection is seen to at once.
    lost_at_once: usize,
    pub problems: Vec<String>,
}

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

/// From this seed on what was on a lost connection is seen to in pieces.
const FIRST_IN_PIECES: u64 = 900_000;
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
            asked_in_the_cold: 0,
            // Not drawn: the schedules of older seeds stay what they were.
            lost_at_once: if seed < FIRST_IN_PIECES { usize::MAX } else { 1 + seed as usize % 3 },
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
}

fn sequencer(kit: &Kit, settings: &Settings, stage: Stage, known: Knowledge) -> Sequencer {
    let faces = StoreId::ALL.map(|store| StoreFace { name: format!("{store} store"), base_db: 0 });
    Sequencer::new(kit.table.clone(), settings.clone(), stage, faces, kit.metrics.clone(), known)
}
