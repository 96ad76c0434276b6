//! One instance at run time: the sequencer, and everything that moves bytes around it.
//!
//! An instance lives on one thread, like a Redis: its state is shared by plain references, and a
//! turn of the event loop is atomic. Invariant: the sequencer is borrowed for the length of a
//! synchronous block only, never across an await, and [`Instance::settle`] follows every such block
//! that may have produced output.

pub mod admission;
pub mod backfill;
mod background;
mod busy;
mod clients;
mod config;
mod ear;
mod failure;
mod large;
mod memory;
mod own;
mod pause;
mod record;
mod status;
mod stores;
mod strangers;
mod timer;
pub mod verify;
pub mod walk;

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::clock::Clock;
use crate::command::{CommandId, LiveCommand, Offered, Table};
use crate::config::{Config, InstanceConfig};
use crate::metrics::{InstanceMetrics, Metrics};
use crate::resp::Proto;
use crate::resp::reply::ReplyLimits;
use crate::sequencer::clients::ClientKey;
use crate::sequencer::{Recorded, Sequencer};
use crate::session::guesses::Guesses;
use crate::stage::{Stage, StoreId};
use crate::state::{Entry, StateFile};
use crate::store::driver;
use crate::store::handshake::Identity;
use crate::store::pool::Pool;
use crate::store::recognise::Change;

use background::Background;
pub use background::Proof;
use clients::Sockets;
pub use clients::{ClientInfo, ClientIo, TrackingInfo};
pub use failure::{CoreMut, spawn_vital};
#[cfg(test)]
pub use failure::{spring_trap_of_writer, spring_traps};

/// What is known about a store beside its lane.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts {
    /// Which server it is; the last one seen.
    pub identity: Option<Identity>,
    /// Its replies to HELLO 2 and HELLO 3.
    pub hello: [Vec<u8>; 2],
    /// Its last failure.
    pub last_error: Option<String>,
    /// The commands that it has.
    pub offered: Option<Rc<Offered>>,
    /// A first attempt to connect has ended, one way or the other.
    pub tried: bool,
    /// What became of it when it last came back with other data than it may have had.
    pub change: Option<Change>,
    /// Why it is left alone: another server stands under its URL.
    pub stranger: Option<String>,
}

impl StoreFacts {
    /// Its reply to HELLO of this version; empty before there is one.
    pub fn hello_of(&self, proto: Proto) -> &[u8] {
        let [two, three] = &self.hello;
        match proto {
            Proto::Resp2 => two,
            Proto::Resp3 => three,
        }
    }
}

/// One instance at run time.
pub struct Instance {
    /// Its name in the configuration.
    pub name: String,
    /// Its counters.
    pub metrics: Arc<InstanceMetrics>,
    /// Dedicated connections.
    pub pool: Pool,
    /// Who is let in.
    pub admission: admission::Admission,
    core: RefCell<Sequencer>,
    config: RefCell<Rc<InstanceConfig>>,
    facts: RefCell<[StoreFacts; 2]>,
    io: RefCell<Sockets>,
    memory: memory::Memory,
    /// What each address got wrong when it gave passwords.
    pub guesses: RefCell<Guesses>,
    failure: failure::Failure,
    lane_output: [Notify; 2],
    /// The lane's writer has been told, and has not looked yet.
    lane_woken: [Cell<bool>; 2],
    lane_drop: [Notify; 2],
    tried: Notify,
    /// Wakes everything that depends on the stage.
    pub flipped: Notify,
    timer: Notify,
    /// The timer waits to be told that something is owed.
    timer_sleeps: Cell<bool>,
    /// Clients that are not read while the other store lags (`on_lag = "block"`).
    slowed: RefCell<HashSet<ClientKey, foldhash::fast::RandomState>>,
    clock: Clock,
    dirty: RefCell<Vec<ClientKey>>,
    next_client: Cell<u64>,
    random: Cell<u64>,
    /// Are clients being accepted?
    pub listening: Cell<bool>,
    single_db: Cell<bool>,
    /// The setting `refuse`, by command: asked for every request.
    refused: RefCell<Box<[bool]>>,
    /// Is the process ending?
    pub draining: Cell<bool>,
    /// One buffer to read clients into: an idle client owns none.
    pub scratch: RefCell<Box<[u8]>>,
    /// Keys whose values are known to be large.
    pub large: RefCell<large::LargeKeys>,
    live: RefCell<[Vec<LiveCommand>; 2]>,
    recorded: Cell<Option<Recorded>>,
    /// The stores as they were when they were last seen, if they are a pair.
    servers: RefCell<[Identity; 2]>,
    /// The stage that everybody has been told of.
    noticed: Cell<Stage>,
    busy: [busy::Busy; 2],
    pause: Cell<Option<pause::Pause>>,
    state: Arc<StateFile>,
    background: Background,
    ears: ear::Ears,
}

/// Bytes read from a client at once; also about what one client may submit in one turn.
pub const CLIENT_READ_BYTES: usize = 64 * 1024;
/// How long a driver that failed is left alone.
const DRIVER_BACKOFF: Duration = Duration::from_millis(50);

// === impl Instance ===

impl Instance {
    /// Sets an instance up. Nothing is connected yet.
    pub fn new(name: &str, config: &Config, metrics: &Metrics, state: Arc<StateFile>) -> Rc<Instance> {
        let Some(settings) = config.instances.get(name) else {
            unreachable!("an instance is made from the configuration that names it")
        };
        let table = Rc::new(Table::builtin());
        let refused = refused(&table, settings);
        let counters = counters(name, &table, metrics);
        let stage = config.flags(name).stage();
        let recorded = state.get(name);
        let (begin, known) = self::config::beginning(name, settings, stage, recorded.as_ref());
        let mut core = Sequencer::new(
            table,
            self::config::settings(settings),
            begin,
            self::config::faces(settings),
            counters.clone(),
            known,
        );
        core.doubt_source(recorded.as_ref().and_then(Entry::doubted));
        if config.allow_stage_jump.contains(name) {
            core.set_stage(stage);
        } else {
            core.begin_towards(stage);
        }
        let began = core.flags().stage();
        let servers = recorded.as_ref().map(Entry::paired).unwrap_or_default();
        let background = Background::new(recorded.and_then(|entry| entry.backfill), &counters);
        Rc::new(Instance {
            name: name.to_owned(),
            pool: Pool::new(counters.clone()),
            admission: admission::Admission::default(),
            metrics: counters,
            core: RefCell::new(core),
            config: RefCell::new(Rc::new(settings.clone())),
            facts: RefCell::default(),
            io: RefCell::default(),
            memory: memory::Memory::default(),
            guesses: RefCell::default(),
            failure: failure::Failure::default(),
            lane_output: [Notify::new(), Notify::new()],
            lane_woken: Default::default(),
            lane_drop: [Notify::new(), Notify::new()],
            tried: Notify::new(),
            flipped: Notify::new(),
            timer: Notify::new(),
            timer_sleeps: Cell::new(false),
            slowed: RefCell::default(),
            clock: Clock::start(),
            dirty: RefCell::default(),
            next_client: Cell::new(1),
            random: Cell::new(u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15),
            listening: Cell::new(false),
            refused: RefCell::new(refused),
            single_db: Cell::new(settings.shows_one_database()),
            draining: Cell::new(false),
            scratch: RefCell::new(vec![0; CLIENT_READ_BYTES].into()),
            large: RefCell::default(),
            live: RefCell::default(),
            recorded: Cell::new(None),
            servers: RefCell::new(servers),
            noticed: Cell::new(began),
            busy: Default::default(),
            pause: Cell::new(None),
            state,
            background,
            ears: ear::Ears::default(),
        })
    }

    /// The settings in effect.
    pub fn config(&self) -> Rc<InstanceConfig> {
        self.config.borrow().clone()
    }

    /// The settings in effect, for a glance.
    pub fn config_ref(&self) -> Ref<'_, InstanceConfig> {
        Ref::map(self.config.borrow(), |config| &**config)
    }

    /// Does the setting `refuse` list this command?
    pub fn refuses(&self, command: CommandId) -> bool {
        self.refused.borrow().get(command.index()).copied().unwrap_or_default()
    }

    /// Does a store's URL name a database, so that the instance shows only that one?
    pub fn single_db(&self) -> bool {
        self.single_db.get()
    }

    /// The sequencer, with its clock set.
    pub fn core_mut(&self) -> CoreMut<'_> {
        let mut core = self.core_in_turn();
        core.set_now(self.micros());
        core
    }

    /// A turn begins: the sequencer's clock is set, once for all that one client or one store has sent.
    pub fn begin_turn(&self) -> u64 {
        let now = self.micros();
        self.core_in_turn().set_now(now);
        now
    }

    /// The sequencer, to look at.
    pub fn core(&self) -> Ref<'_, Sequencer> {
        self.core.borrow()
    }

    /// What is known about a store.
    pub fn facts(&self, store: StoreId) -> StoreFacts {
        self.facts.borrow()[store.index()].clone()
    }

    /// Looks at what is known about a store.
    pub fn with_facts<R>(&self, store: StoreId, look: impl FnOnce(&StoreFacts) -> R) -> R {
        look(&self.facts.borrow()[store.index()])
    }

    /// Does the default store have this command? True where it has not told.
    fn offers(&self, name: &str) -> bool {
        let core = self.core();
        let Some(id) = core.table.by_name(name) else { return false };
        self.with_facts(core.default_store(), |facts| facts.offered.as_ref().is_none_or(|has| has.has(id)))
    }

    /// Is the default store new enough to show the names of its clients' libraries?
    pub fn has_client_info(&self) -> bool {
        self.offers("client|setinfo")
    }

    /// Is the default store new enough for CLIENT KILL MAXAGE?
    pub fn knows_max_age(&self) -> bool {
        self.is_default_store_at_least(7, 4) || self.offers("client|capa")
    }

    /// Is the default store a Redis of this version, or one that calls itself so?
    pub fn is_default_store_at_least(&self, major: u32, minor: u32) -> bool {
        self.with_facts(self.core().default_store(), |facts| {
            facts.identity.as_ref().is_some_and(|identity| is_at_least(&identity.version, major, minor))
        })
    }

    pub(crate) fn micros(&self) -> u64 {
        self.clock.micros()
    }

    /// A number in 0..1 for jitter; nothing secret depends on it.
    pub fn random(&self) -> f64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (x >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Limits of replies, as configured.
    pub fn reply_limits(&self) -> ReplyLimits {
        let config = self.config.borrow();
        let max = config.max_reply.bytes() as u64;
        ReplyLimits { max_depth: config.reply_depth, max_bulk: max, max_reply: max, ..ReplyLimits::default() }
    }

    /// Moves on what a turn has produced: replies to clients, requests to the lanes, wake-ups.
    pub fn settle(&self) {
        if self.has_failed() {
            return;
        }
        self.record();
        self.notice_stage();
        self.limit_replies();
        let mut core = self.core_in_turn();
        if core.clients.has_news() {
            self.tell_clients(&mut core);
        }
        self.ears.settle(&mut core);
        let mut busy = false;
        // The default store's writer first: it is its reply that clients wait for, and each write takes a while.
        let default = core.default_store();
        for store in [default, default.other()] {
            let lane = core.lane(store);
            if !lane.out.is_empty() && !self.lane_woken[store.index()].replace(true) {
                self.lane_output[store.index()].notify_one();
            }
            busy |= lane.depth() > 0;
        }
        if busy && self.timer_sleeps.replace(false) {
            self.timer.notify_one();
        }
        self.let_go_on(&core);
    }

    /// The same at the end of a client's turn. Most only append to lanes whose writers have been told already, and those
    /// settle before anything leaves: then it is left to them.
    pub fn settle_turn(&self) {
        let core = self.core();
        let told = |store: StoreId| self.lane_woken[store.index()].get();
        let comes = StoreId::ALL.iter().any(|store| told(*store) && core.lane(*store).is_up());
        let all_told = StoreId::ALL.iter().all(|store| told(*store) || core.lane(*store).out.is_empty());
        if comes && all_told && !core.clients.has_news() {
            return;
        }
        drop(core);
        self.settle();
    }

    /// Sends clients what they have got, and wakes those that wait for something.
    fn tell_clients(&self, core: &mut Sequencer) {
        let mut keys = self.dirty.borrow_mut();
        core.clients.take_dirty(&mut keys);
        for key in keys.drain(..) {
            self.flush(core, key);
        }
        core.clients.take_woken(&mut keys);
        for key in keys.drain(..) {
            self.wake(key);
        }
    }

    /// Wakes a client when it may be read further: it is owed less, or nothing holds it up any more.
    pub fn wake_when_readable(&self, key: ClientKey) {
        let mut core = self.core_mut();
        core.clients.wake_on_reply(key);
        if core.must_slow_down() {
            self.slowed.borrow_mut().insert(key);
        }
    }

    /// Wakes the clients that were slowed down, once the other store has caught up.
    fn let_go_on(&self, core: &Sequencer) {
        let mut slowed = self.slowed.borrow_mut();
        if !slowed.is_empty() && !core.must_slow_down() {
            slowed.drain().for_each(|key| self.wake(key));
        }
    }

    // --- lanes ---

    /// Waits until the lane of `store` may have output.
    pub async fn lane_output(&self, store: StoreId) {
        self.lane_output[store.index()].notified().await;
    }

    /// Waits until the connection of `store` is to be dropped.
    pub async fn lane_drop(&self, store: StoreId) {
        self.lane_drop[store.index()].notified().await;
    }

    /// Drops the connection of `store`, if there is one.
    pub fn drop_lane(&self, store: StoreId) {
        self.lane_drop[store.index()].notify_waiters();
    }

    /// Takes what the lane of `store` wants to send; `into` is empty and its capacity is reused.
    pub fn take_lane_output(&self, store: StoreId, into: &mut Vec<u8>) {
        // What clients have left to the writers.
        self.settle();
        self.lane_woken[store.index()].set(false);
        if self.has_failed() {
            return;
        }
        let mut core = self.core_in_turn();
        std::mem::swap(&mut core.lane_mut(store).out, into);
    }

    // --- configuration ---

    /// Takes a new configuration over: settings at once, the stage at a point of the order.
    pub fn reconfigure(&self, config: &Config) {
        let Some(settings) = config.instances.get(&self.name) else { return };
        let stage = config.flags(&self.name).stage();
        let before = self.config.replace(Rc::new(settings.clone()));
        self.end_changed_users(&before, settings);
        *self.refused.borrow_mut() = refused(&self.core().table, settings);
        self.core_mut().set_settings(self::config::settings(settings));
        self.set_stage(stage);
    }

    fn set_stage(&self, stage: Stage) {
        self.core_mut().set_stage(stage);
        self.settle();
        let core = self.core();
        if let Some(held) = core.held_flip().filter(|_| !core.is_flipping()) {
            tracing::warn!(instance = %self.name, from = %core.flags().stage(), to = %held.wanted, reason = %held.reason,
                "the change of stage is held back; it is applied when the reason is gone");
        }
    }

    /// Tells those that depend on the stage, if it has changed.
    fn notice_stage(&self) {
        let now = self.core().flags().stage();
        let before = self.noticed.replace(now);
        if now == before {
            return;
        }
        tracing::info!(instance = %self.name, from = %before, to = %now, "stage changes");
        self.flipped.notify_waiters();
        for (_, io) in self.all_clients() {
            let info = io.info.borrow();
            let listens = info.tracking.is_some() || info.subscriptions.iter().any(|count| *count > 0);
            drop(info);
            if listens {
                io.wake();
            }
        }
    }
}

/// Starts what an instance needs at run time, whether or not it serves clients: its lanes, its timer, repair, backfill,
/// and the look at the verdict. On the local set of its thread.
pub fn spawn_tasks(instance: &Rc<Instance>) {
    for store in StoreId::ALL {
        spawn_local(supervise(instance.clone(), store));
        spawn_vital(instance, ear::run(instance.clone(), store));
    }
    spawn_vital(instance, instance.clone().run_timer());
    spawn_vital(instance, walk::run(instance.clone()));
    spawn_vital(instance, backfill::run(instance.clone()));
    spawn_vital(instance, background::watch(instance.clone()));
}

/// Runs a lane's driver. It never ends by itself; a panic in it is logged, and it starts anew.
async fn supervise(instance: Rc<Instance>, store: StoreId) {
    loop {
        let driver = spawn_local(driver::run(instance.clone(), store));
        if let Err(error) = driver.await {
            tracing::error!(instance = %instance.name, store = %store, "the lane's driver failed: {error}");
            instance.store_lost(store, crate::metrics::StoreErrorKind::Lost, "internal error").await;
        }
        tokio::time::sleep(DRIVER_BACKOFF).await;
    }
}

/// Makes the counters of an instance, which takes a while: a process that is to take over does it before its turn.
pub fn prepare(name: &str, metrics: &Metrics) {
    counters(name, &Table::builtin(), metrics);
}

fn counters(name: &str, table: &Table, metrics: &Metrics) -> Arc<InstanceMetrics> {
    let names: Vec<&'static str> = table.iter().map(|(_, spec)| spec.label()).collect();
    let reads: Vec<bool> = table.iter().map(|(_, spec)| spec.miss != crate::command::Miss::Never).collect();
    metrics.instance(name, &names, |index| reads.get(index).copied().unwrap_or_default())
}

/// The setting `refuse`, by command.
fn refused(table: &Table, settings: &InstanceConfig) -> Box<[bool]> {
    table.iter().map(|(_, spec)| settings.refuse.contains(&spec.name)).collect()
}

/// Is a version such as `7.0.15` this one or a later one?
fn is_at_least(version: &str, major: u32, minor: u32) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
}
