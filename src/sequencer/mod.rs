//! The one order of an instance. Decides everything about it, does no I/O.
//!
//! Sessions submit requests; the sequencer appends them to the lanes, both in one step where a
//! request is mirrored; the drivers of the lanes hand frames back; the sequencer pays the clients.
//!
//! ```text
//! session → submit → [fences] → lane(primary).out   → socket
//!                             → lane(secondary).out → socket
//! socket → on_frame → op → policy → clients.pay → compare → counters
//! ```
//!
//! Invariants:
//! - a mirrored request is appended to both lanes within one call, so both stores see one order;
//! - nothing here waits: what must wait is held in a queue with a limit and an owner;
//! - every slot opened for a client is paid exactly once, whatever happens to the stores;
//! - a request that has left the process is never sent to the same store again.

mod answer;
pub mod bulk;
pub mod clients;
pub mod copy;
pub mod cursors;
mod derive;
mod ear;
mod effect;
mod ends;
pub mod errors;
pub mod fence;
pub mod flip;
pub mod hold;
pub mod knowledge;
pub mod lane;
pub mod listeners;
pub mod op;
mod ops;
pub mod outbox;
pub mod park;
mod pieces;
mod plain;
pub mod plan;
pub mod policy;
mod reach;
mod read;
mod recent;
mod reply;
mod report;
pub mod scripts;
mod send;
mod settings;
pub mod standing;
mod submission;
mod submit;
mod swap;
mod sync;
mod taint;
mod tally;
#[cfg(test)]
mod testing;
mod time;
mod touched;
mod transaction;
mod write;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::command::Table;
use crate::compare::Samples;
use crate::config::{Ack, OnLag, Reads};
use crate::metrics::InstanceMetrics;
use crate::mirror::{Dialect, Recipes};
use crate::stage::{Flags, Stage, StoreId};

use bulk::Bulk;
use clients::Clients;
use copy::{Copies, CopyCounts};
use cursors::Cursors;
use hold::Holds;
use knowledge::Knowledge;
use lane::{DownReason, Lane};
use op::Failure;
use ops::Ops;
use park::Parks;
use recent::Recent;
use scripts::{ScriptWay, Scripts};

pub use fence::hash_key;
pub use reply::OutOfStep;
pub use settings::{Settings, StoreFace};
pub use submission::{Dedicated, Expiry, Path, Scope, Submission, Transaction};
pub use sync::{Recorded, TakeOver};

/// The one order of an instance.
pub struct Sequencer {
    /// The commands that this instance knows.
    pub table: Rc<Table>,
    /// What is owed to whom.
    pub clients: Clients,
    /// Counters.
    pub metrics: Arc<InstanceMetrics>,
    /// The last differences.
    pub samples: Samples,
    settings: Settings,
    /// The stage of the flags in effect.
    flagged: Stage,
    /// The same, unless both stores are one server: asked several times for every request.
    stage: Stage,
    /// The stage that the flags ask for.
    wanted: Stage,
    /// A change of stage that waits for what came before it.
    pending_flip: Option<flip::PendingFlip>,
    /// No further attempt before this time.
    flip_not_before: u64,
    /// The flags have changed one at a time.
    stepwise: bool,
    same_server: bool,
    stores: [String; 2],
    lanes: [Lane; 2],
    ops: Ops,
    holds: Holds,
    parks: Parks,
    /// What each store has not answered yet.
    recent: [Recent; 2],
    cursors: Cursors,
    known: Knowledge,
    taints: taint::Taints,
    tally: tally::Tally,
    ends: ends::Ends,
    /// Which store the subscribers read from.
    pub listeners: listeners::Listeners,
    copies: Copies,
    copy_counts: CopyCounts,
    recipes: Recipes,
    dialects: [Dialect; 2],
    scripts: Scripts,
    /// Keys may have been written that no command declared: the stores are to be walked.
    owes_walk: bool,
    /// How often clients may have changed functions.
    function_changes: u64,
    /// Who hears which keys change, by store.
    ears: [ear::Ear; 2],
    /// When a command last changed keys that it did not name.
    unnamed_at: Option<u64>,
    /// Clients that wait for a copy before they take a fence.
    hydration_waiters: Vec<(clients::ClientKey, fence::Footprint)>,
    /// While those are let go that have waited for copies: the keys that could not be copied, and why.
    refused_copies: hold::RefusedCopies,
    /// A store that may itself have lost writes: nothing is deleted elsewhere on its word.
    doubted_source: Option<StoreId>,
    /// Repairs are held back (a test, an operator).
    repairs_held: bool,
    tickets: HashMap<u64, oneshot::Sender<Result<Vec<u8>, Failure>>>,
    /// Bulks whose replies are coming in, by their tickets.
    bulks: HashMap<u64, Bulk>,
    next_ticket: u64,
    now: u64,
    /// When the gauges were last refreshed.
    gauged_at: u64,
    primary_behind: bool,
    primary_late: bool,
    flips: u64,
    flipped_at: u64,
    /// Bytes of replies that are kept until the other store's is there.
    kept: u64,
    /// What a store has said that works on a script.
    busy_says: String,
}

// === impl Sequencer ===

impl Sequencer {
    /// A sequencer whose lanes are being dialed. `stores`: primary, secondary. `known`: what is known of
    /// keys that have not been touched.
    pub fn new(
        table: Rc<Table>,
        settings: Settings,
        stage: Stage,
        stores: [StoreFace; 2],
        metrics: Arc<InstanceMetrics>,
        known: Knowledge,
    ) -> Sequencer {
        let [primary, secondary] = stores;
        let lanes =
            [Lane::new(StoreId::Primary, primary.base_db), Lane::new(StoreId::Secondary, secondary.base_db)];
        metrics.set_flags(stage.flags());
        let recipes = Recipes::new(&table);
        Sequencer {
            table,
            clients: Clients::new(settings.client_output_max, settings.heavy_bytes as usize),
            samples: Samples::new(SAMPLES, settings.log_values),
            metrics,
            settings,
            flagged: stage,
            stage,
            wanted: stage,
            pending_flip: None,
            flip_not_before: 0,
            stepwise: true,
            same_server: false,
            stores: [primary.name, secondary.name],
            lanes,
            ops: Ops::default(),
            holds: Holds::default(),
            parks: Parks::default(),
            recent: Default::default(),
            cursors: Cursors::default(),
            known,
            taints: taint::Taints::default(),
            tally: tally::Tally::default(),
            ends: ends::Ends::default(),
            listeners: listeners::Listeners::default(),
            copies: Copies::default(),
            copy_counts: CopyCounts::default(),
            recipes,
            dialects: [Dialect::default(); 2],
            scripts: Scripts::default(),
            owes_walk: false,
            function_changes: 0,
            ears: Default::default(),
            unnamed_at: None,
            hydration_waiters: Vec::new(),
            refused_copies: Default::default(),
            doubted_source: None,
            repairs_held: false,
            tickets: HashMap::new(),
            bulks: HashMap::new(),
            next_ticket: 0,
            now: 0,
            gauged_at: 0,
            primary_behind: false,
            primary_late: false,
            flips: 0,
            flipped_at: 0,
            kept: 0,
            busy_says: String::new(),
        }
    }

    /// Takes a table over that knows more commands; known ones keep their ids.
    pub fn set_table(&mut self, table: Rc<Table>) {
        self.recipes = Recipes::new(&table);
        self.table = table;
    }

    /// Sets the clock: microseconds since any fixed point, never backwards.
    pub fn set_now(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// The clock.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Takes new settings over, from the next request on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.clients.output_max = settings.client_output_max;
        self.clients.large = settings.heavy_bytes as usize;
        self.samples.set_log_values(settings.log_values);
        self.settings = settings;
    }

    /// The stage that requests run under: the flags', unless both stores are the same server.
    #[inline]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The stage, or whether both stores are one server, has changed.
    fn take_effect(&mut self) {
        self.stage = match (self.same_server, self.flagged) {
            (true, Stage::DualSecondaryDefault) => Stage::SecondaryOnly,
            (true, Stage::DualPrimaryDefault) => Stage::PrimaryOnly,
            (_, stage) => stage,
        };
    }

    /// The flags in effect.
    pub fn flags(&self) -> Flags {
        self.flagged.flags()
    }

    /// How often the stage has changed: lets a session notice that it must look again.
    pub fn flips(&self) -> u64 {
        self.flips
    }

    /// Are primary and secondary one server and database? Dual is then treated as off.
    pub fn same_server(&self) -> bool {
        self.same_server
    }

    /// Tells whether primary and secondary turned out to be the same server and database.
    pub fn set_same_server(&mut self, same: bool) {
        let before = self.stage();
        self.same_server = same;
        self.take_effect();
        if self.stage() != before {
            self.flipped(before);
            self.release_held();
        }
    }

    /// The authority now.
    pub fn default_store(&self) -> StoreId {
        self.stage().default_store()
    }

    /// One store's lane.
    pub fn lane(&self, store: StoreId) -> &Lane {
        &self.lanes[store.index()]
    }

    /// One store's lane.
    pub fn lane_mut(&mut self, store: StoreId) -> &mut Lane {
        &mut self.lanes[store.index()]
    }

    /// How the store is called in errors: its name and address.
    pub fn store_name(&self, store: StoreId) -> &str {
        &self.stores[store.index()]
    }

    /// Must clients be slowed down (`on_lag = "block"`)?
    pub fn must_slow_down(&self) -> bool {
        self.stage().is_dual()
            && self.settings.on_lag == OnLag::Block
            && self.lane(self.default_store().other()).queued_memory() > self.settings.lag_max
    }

    // --- lanes coming and going ---

    /// The lane of `store` is connected.
    pub fn lane_up(&mut self, store: StoreId, has_resp3: bool) {
        let now = self.now;
        self.fail_lost(store, usize::MAX);
        self.lanes[store.index()].connected(has_resp3, now);
        self.metrics.store(store).up.set(1);
        self.after_progress();
    }

    /// The connection of `store` was lost: what was on it has an unknown outcome. True: there is more of it than is seen to
    /// `at_once`, and [`Sequencer::lose_more`] is to be called before the next attempt to connect. Until then the store has
    /// not answered what was on it, and the stage does not change.
    pub fn lane_lost(&mut self, store: StoreId, at_once: usize) -> bool {
        self.metrics.store(store).up.set(0);
        self.lanes[store.index()].cut();
        // What was on the lane has an unknown outcome, and the next one may lead to another server.
        self.ear_shut(store);
        self.lose_more(store, at_once)
    }

    /// Goes on with what was on a lost connection. True: there is more.
    pub fn lose_more(&mut self, store: StoreId, at_once: usize) -> bool {
        self.fail_lost(store, at_once);
        self.after_progress();
        self.lanes[store.index()].has_lost()
    }

    fn fail_lost(&mut self, store: StoreId, most: usize) {
        for awaited in self.lanes[store.index()].take_lost(most) {
            if let lane::Sink::Op(op) = awaited.sink {
                self.failed(op, store, Failure::Lost);
            }
        }
    }

    /// The connection of `store` is given up since its replies did not match its requests. Since when nobody knows, nor
    /// what was done on their word meanwhile: effects that were made of them, writes that were taken for refused.
    pub fn lane_out_of_step(&mut self, store: StoreId) {
        self.lane_lost(store, usize::MAX);
        let behind = self.default_store().other();
        self.doubt(&touched::Touched::Everything, 0, behind);
        self.known.retry_all(self.now);
    }

    /// An attempt to connect failed: whatever waited for it is refused.
    pub fn lane_down(&mut self, store: StoreId, reason: DownReason) {
        self.metrics.store(store).up.set(0);
        let held = self.lanes[store.index()].down(reason);
        for entry in held {
            if let lane::Sink::Op(op) = entry.sink {
                self.failed(op, store, Failure::Down);
            }
        }
        self.after_progress();
    }

    /// How many operations are not done yet.
    pub fn operations(&self) -> usize {
        self.ops.len()
    }

    /// Forgets a client: nothing that it asked for and that has not been sent will be.
    pub fn disconnect(&mut self, key: clients::ClientKey) {
        self.drop_holds_of(key);
        self.forget_aside(key);
        self.drop_park_of(key);
        self.clients.remove(key);
    }

    /// Is nothing in flight and nothing owed? What a drain waits for.
    pub fn is_idle(&self) -> bool {
        self.ops.is_empty() && self.parks.is_empty() && self.holds.is_open()
    }
}

/// How many samples of differences are kept.
const SAMPLES: usize = 50;
