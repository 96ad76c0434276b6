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
mod large;
mod own;
mod pause;
mod status;
pub mod verify;
pub mod walk;

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::command::{CommandId, LiveCommand, Offered, Table};
use crate::config::{Config, InstanceConfig};
use crate::metrics::{InstanceMetrics, Metrics, StoreErrorKind};
use crate::mirror::Dialect;
use crate::resp::reply::ReplyLimits;
use crate::sequencer::clients::ClientKey;
use crate::sequencer::knowledge::Sync;
use crate::sequencer::lane::DownReason;
use crate::sequencer::{Recorded, Sequencer};
use crate::stage::{Stage, StoreId};
use crate::state::{Entry, StateFile};
use crate::store::driver::{self, PROBE_EVERY};
use crate::store::handshake::Identity;
use crate::store::pool::Pool;

use background::Background;
pub use background::Proof;
use clients::Sockets;
pub use clients::{ClientInfo, ClientIo, TrackingInfo};

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
    epoch: Instant,
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
    /// The stage that everybody has been told of.
    noticed: Cell<Stage>,
    busy: RefCell<Option<busy::Busy>>,
    asks_busy: Cell<bool>,
    pause: Cell<Option<pause::Pause>>,
    state: Arc<StateFile>,
    background: Background,
    ears: ear::Ears,
}

/// Bytes read from a client at once; also about what one client may submit in one turn.
pub const CLIENT_READ_BYTES: usize = 64 * 1024;
/// How long a driver that failed is left alone.
const DRIVER_BACKOFF: Duration = Duration::from_millis(50);
/// The finest step of the instance's clock for timeouts.
const TICK: Duration = Duration::from_millis(5);

// === impl Instance ===

impl Instance {
    /// Sets an instance up. Nothing is connected yet.
    pub fn new(name: &str, config: &Config, metrics: &Metrics, state: Arc<StateFile>) -> Rc<Instance> {
        let Some(settings) = config.instances.get(name) else {
            unreachable!("an instance is made from the configuration that names it")
        };
        let table = Rc::new(Table::builtin());
        let names: Vec<&'static str> = table.iter().map(|(_, spec)| spec.label()).collect();
        let refused = refused(&table, settings);
        let reads: Vec<bool> =
            table.iter().map(|(_, spec)| spec.miss != crate::command::Miss::Never).collect();
        let counters = metrics.instance(name, &names, |index| reads.get(index).copied().unwrap_or_default());
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
        core.set_stage(stage);
        let began = core.flags().stage();
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
            lane_output: [Notify::new(), Notify::new()],
            lane_woken: Default::default(),
            lane_drop: [Notify::new(), Notify::new()],
            tried: Notify::new(),
            flipped: Notify::new(),
            timer: Notify::new(),
            timer_sleeps: Cell::new(false),
            slowed: RefCell::default(),
            epoch: Instant::now(),
            dirty: RefCell::default(),
            next_client: Cell::new(1),
            random: Cell::new(u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15),
            listening: Cell::new(false),
            refused: RefCell::new(refused),
            single_db: Cell::new(StoreId::ALL.iter().any(|store| settings.store(*store).database.is_some())),
            draining: Cell::new(false),
            scratch: RefCell::new(vec![0; CLIENT_READ_BYTES].into()),
            large: RefCell::default(),
            live: RefCell::default(),
            recorded: Cell::new(None),
            noticed: Cell::new(began),
            busy: RefCell::default(),
            asks_busy: Cell::new(false),
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
    pub fn core_mut(&self) -> RefMut<'_, Sequencer> {
        let mut core = self.core.borrow_mut();
        core.set_now(self.micros());
        core
    }

    /// A turn begins: the sequencer's clock is set, once for all that one client or one store has sent.
    pub fn begin_turn(&self) -> Instant {
        let now = Instant::now();
        self.core.borrow_mut().set_now((now - self.epoch).as_micros() as u64);
        now
    }

    /// The sequencer, with its clock as this turn has set it.
    pub fn core_in_turn(&self) -> RefMut<'_, Sequencer> {
        self.core.borrow_mut()
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
        self.epoch.elapsed().as_micros() as u64
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
        self.record();
        self.notice_stage();
        let mut keys = std::mem::take(&mut *self.dirty.borrow_mut());
        let mut core = self.core.borrow_mut();
        core.clients.take_dirty(&mut keys);
        for key in keys.drain(..) {
            self.flush(&mut core, key);
        }
        core.clients.take_woken(&mut keys);
        for key in keys.drain(..) {
            self.wake(key);
        }
        self.ears.settle(&mut core);
        let mut busy = false;
        for store in StoreId::ALL {
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
        drop(core);
        *self.dirty.borrow_mut() = keys;
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

    /// Takes what the lane of `store` wants to send; `into` is empty and its capacity is reused.
    pub fn take_lane_output(&self, store: StoreId, into: &mut Vec<u8>) {
        self.lane_woken[store.index()].set(false);
        let mut core = self.core.borrow_mut();
        std::mem::swap(&mut core.lane_mut(store).out, into);
    }

    /// The store has answered the handshake.
    pub fn store_up(
        &self,
        store: StoreId,
        identity: Identity,
        hello: [Vec<u8>; 2],
        has_resp3: bool,
        commands: Vec<LiveCommand>,
    ) {
        tracing::info!(instance = %self.name, store = %store, version = %identity.version,
            run_id = %identity.run_id, keys = identity.keys, "store connected");
        self.overlay(store, commands);
        self.judge_return(store, &identity);
        let known =
            self.with_facts(store, |facts| facts.identity.as_ref().map(|known| known.version.clone()));
        if known.is_some_and(|known| known != identity.version) {
            self.core_mut().forget_refused_payloads();
        }
        {
            let mut facts = self.facts.borrow_mut();
            let facts = &mut facts[store.index()];
            facts.identity = Some(identity);
            facts.hello = hello;
            facts.tried = true;
            facts.last_error = None;
        }
        self.judge_identity();
        self.core_mut().lane_up(store, has_resp3);
        self.tried.notify_waiters();
        self.settle();
    }

    /// Adds what the stores have beside the built-in commands, and notes what each of them has.
    fn overlay(&self, store: StoreId, commands: Vec<LiveCommand>) {
        if commands.is_empty() {
            return;
        }
        let mut core = self.core_mut();
        let mut table = (*core.table).clone();
        table.overlay(commands.iter().cloned());
        self.live.borrow_mut()[store.index()] = commands;
        let table = Rc::new(table);
        *self.refused.borrow_mut() = refused(&table, &self.config_ref());
        for store in StoreId::ALL {
            let live = self.live.borrow();
            let commands = &live[store.index()];
            if !commands.is_empty() {
                self.facts.borrow_mut()[store.index()].offered = Some(Rc::new(table.offered(commands)));
            }
        }
        core.set_table(table);
        let offered = StoreId::ALL.map(|store| self.with_facts(store, |facts| facts.offered.clone()));
        if let [Some(primary), Some(secondary)] = &offered {
            let dialects = [
                Dialect::new(&core.table, primary, secondary),
                Dialect::new(&core.table, secondary, primary),
            ];
            core.set_dialects(dialects);
        }
    }

    /// A store that comes back as another server may lack writes that it had acknowledged.
    fn judge_return(&self, store: StoreId, identity: &Identity) {
        let same = self.with_facts(store, |facts| {
            facts.identity.as_ref().is_none_or(|known| known.run_id == identity.run_id)
        });
        let mut core = self.core_mut();
        if same || !core.stage().is_dual() {
            return;
        }
        let source = match core.sync_base() {
            Sync::Suspect(behind) => behind.other(),
            Sync::InSync | Sync::Unknown => core.default_store(),
        };
        if store == source {
            tracing::warn!(instance = %self.name, store = %store,
                "the store that counts came back as another server: it may have lost writes; nothing is repaired from \
                 it until you say which store is right (multistore repair --from)");
            core.doubt_source(Some(store));
        } else {
            tracing::warn!(instance = %self.name, store = %store,
                "the store came back as another server: it is repaired as a whole");
        }
        core.doubt_unnamed(source.other());
    }

    /// An operator says which store is right: the other one is made equal to it. Only while dual.
    pub fn repair_from(&self, right: StoreId) -> Result<(), String> {
        if !self.config_ref().hydrate {
            return Err(format!("{} has hydrate = false: nothing is copied", self.name));
        }
        let mut core = self.core_mut();
        if !core.stage().is_dual() {
            return Err(format!("{} is in {}: repair needs both stores in use", self.name, core.stage()));
        }
        tracing::warn!(instance = %self.name, from = %right, to = %right.other(), "repair of a whole store, on request");
        core.doubt_source(None);
        core.doubt_store(right.other());
        drop(core);
        self.settle();
        Ok(())
    }

    /// A write must never be applied twice to one store: by run_id and database, not by name.
    fn judge_identity(&self) {
        let (config, facts) = (self.config.borrow(), self.facts.borrow());
        let [primary, secondary] = &*facts;
        let same = match (&primary.identity, &secondary.identity) {
            (Some(a), Some(b)) => !a.run_id.is_empty() && a.run_id == b.run_id,
            _ => false,
        } && config.primary.database.unwrap_or(0) == config.secondary.database.unwrap_or(0);
        let mut core = self.core.borrow_mut();
        if same && !core.same_server() {
            tracing::warn!(instance = %self.name,
                "primary and secondary are the same server and database: dual is treated as off");
        }
        core.set_same_server(same);
    }

    /// An attempt to connect has failed; the next one comes after `delay`.
    pub fn store_down(&self, store: StoreId, reason: DownReason, delay: Duration) {
        self.metrics.store(store).errors[reason.kind].inc();
        let news = {
            let mut facts = self.facts.borrow_mut();
            let facts = &mut facts[store.index()];
            facts.tried = true;
            facts.last_error.replace(reason.text.clone()).as_ref() != Some(&reason.text)
        };
        if news {
            tracing::warn!(instance = %self.name, store = %store, reason = %reason.text,
                "store is down; reconnecting, next attempt in {} ms", delay.as_millis());
        }
        self.core_mut().lane_down(store, reason);
        self.tried.notify_waiters();
        self.settle();
    }

    /// An established connection has ended.
    pub fn store_lost(&self, store: StoreId, kind: StoreErrorKind, why: &str) {
        self.metrics.store(store).errors[kind].inc();
        let owed = self.core().lane(store).depth();
        if owed > 0 || kind != StoreErrorKind::Lost {
            tracing::warn!(instance = %self.name, store = %store, why, owed, "connection lost; reconnecting");
        } else {
            tracing::info!(instance = %self.name, store = %store, why, "idle connection ended; reconnecting");
        }
        self.facts.borrow_mut()[store.index()].last_error = Some(why.to_owned());
        self.core_mut().lane_lost(store);
        self.settle();
    }

    /// Waits until both stores have been tried once: before that, "down" would be a guess.
    pub async fn first_attempts(&self) {
        loop {
            let tried = self.tried.notified();
            if self.facts.borrow().iter().all(|facts| facts.tried) {
                return;
            }
            tried.await;
        }
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

    /// Records what has changed since it was last recorded, if that must survive a crash. Comes before any
    /// request leaves, and before any reply.
    pub fn record(&self) {
        let now = self.core().to_record();
        if self.recorded.replace(Some(now)) != Some(now) {
            self.write_state(now, false);
        }
    }

    /// Records a clean stop, if it is one: both stores have answered everything, nothing is suspect.
    pub fn record_stop(&self) {
        let core = self.core();
        let idle =
            StoreId::ALL.iter().all(|store| core.lane(*store).is_up() && core.lane(*store).depth() == 0);
        let (suspects, _) = core.suspects();
        let now = core.to_record();
        let walks = core.is_deaf() || now.base == Sync::Unknown && core.behind_as_a_whole().is_some();
        let clean = idle && suspects == 0 && !walks;
        drop(core);
        self.write_state(now, clean);
    }

    fn write_state(&self, now: Recorded, clean: bool) {
        let behind = match now.base {
            Sync::Suspect(store) => Some(store),
            Sync::InSync | Sync::Unknown => None,
        };
        let entry = Entry {
            clean,
            in_sync: now.base == Sync::InSync,
            doubted: now.doubted.map(|store| store.name().to_owned()),
            backfill: self.backfill().to_record(clean),
            ..Entry::running(now.stage, behind)
        };
        if let Err(error) = self.state.set(&self.name, entry) {
            tracing::error!(instance = %self.name,
                "the state file cannot be written ({error}): after a crash nobody would know which store is behind");
        }
    }

    // --- time ---

    /// Runs what time alone brings about. A task of its own, until dropped.
    pub async fn run_timer(self: Rc<Self>) {
        let mut probed = Instant::now();
        loop {
            let idle = !self.core().needs_time();
            if idle {
                self.timer_sleeps.set(true);
                let _ = tokio::time::timeout(PROBE_EVERY, self.timer.notified()).await;
            }
            tokio::time::sleep(TICK).await;
            self.tick(&mut probed);
            busy::look(&self);
        }
    }

    fn tick(&self, probed: &mut Instant) {
        let lane_timeout = self.config.borrow().lane_timeout.as_micros() as u64;
        let probe = probed.elapsed() >= PROBE_EVERY;
        {
            let mut core = self.core_mut();
            core.tick();
            core.try_flip();
            let now = core.now();
            for store in StoreId::ALL {
                if probe {
                    core.lane_mut(store).probe(now);
                }
                if core.lane(store).is_silent_since(now.saturating_sub(lane_timeout)) {
                    self.lane_drop[store.index()].notify_waiters();
                }
            }
        }
        if probe {
            *probed = Instant::now();
        }
        self.settle();
    }
}

/// Starts what an instance needs at run time, whether or not it serves clients: its lanes, its timer, repair, backfill,
/// and the look at the verdict. On the local set of its thread.
pub fn spawn_tasks(instance: &Rc<Instance>) {
    for store in StoreId::ALL {
        spawn_local(supervise(instance.clone(), store));
        spawn_local(ear::run(instance.clone(), store));
    }
    spawn_local(instance.clone().run_timer());
    spawn_local(walk::run(instance.clone()));
    spawn_local(backfill::run(instance.clone()));
    spawn_local(background::watch(instance.clone()));
}

/// Runs a lane's driver. It never ends by itself; a panic in it is logged, and it starts anew.
async fn supervise(instance: Rc<Instance>, store: StoreId) {
    loop {
        let driver = spawn_local(driver::run(instance.clone(), store));
        if let Err(error) = driver.await {
            tracing::error!(instance = %instance.name, store = %store, "the lane's driver failed: {error}");
            instance.store_lost(store, crate::metrics::StoreErrorKind::Lost, "internal error");
        }
        tokio::time::sleep(DRIVER_BACKOFF).await;
    }
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
