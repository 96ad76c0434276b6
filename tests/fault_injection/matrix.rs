//! Every fault, before each store, in every stage, under the eyes of clients that keep books.

use super::books::Books;
use super::clients::{self, World};
use super::network::{Network, data};
use super::support::*;
use multistore::stage::StoreId;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Quick to notice, quick to come back.
const TIMES: [&str; 5] = [
    "reply_timeout = \"700ms\"",
    "lane_timeout = \"1s\"",
    "connect_timeout = \"500ms\"",
    "reconnect_min = \"10ms\"",
    "reconnect_max = \"50ms\"",
];
const CLIENTS: u64 = 6;
/// Within this time an idle lane says something, and a lane out of step is noticed, on however busy a machine.
const STRIKES: Duration = Duration::from_secs(30);
/// So much must be answered between two faults.
const ROUNDS: u64 = 40;
const CONVERGES: Duration = Duration::from_secs(20);

/// What is done to the lanes.
pub const TO_LANES: [Fault; 14] = [
    Fault::Delay(Duration::from_millis(150)),
    Fault::Delay(Duration::from_millis(1500)),
    Fault::Drip(30),
    Fault::CutWithinReply,
    Fault::CutWithinRequest,
    Fault::HalfCloseToProxy,
    Fault::HalfCloseToStore,
    Fault::GarbageBetween,
    Fault::GarbageWithin,
    Fault::PartThenSilence,
    Fault::OldProtocol,
    Fault::ReplyTooMany,
    Fault::ReplyTooFew,
    Fault::Refuse(Duration::from_millis(150)),
];

/// What is done to connections of one client's own.
pub const TO_DEDICATED: [Fault; 9] = [
    Fault::Delay(Duration::from_millis(150)),
    Fault::CutWithinReply,
    Fault::CutWithinRequest,
    Fault::HalfCloseToProxy,
    Fault::GarbageBetween,
    Fault::GarbageWithin,
    Fault::PartThenSilence,
    Fault::ReplyTooMany,
    Fault::ReplyTooFew,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    store: StoreId,
    target: Target,
    fault: Fault,
}

struct Scene {
    network: Network,
    world: World,
}

#[test]
fn faults_in_secondary_only() {
    every_fault_in(Stage::SecondaryOnly);
}

#[test]
fn faults_in_dual_secondary_default() {
    every_fault_in(Stage::DualSecondaryDefault);
}

#[test]
fn faults_in_dual_primary_default() {
    every_fault_in(Stage::DualPrimaryDefault);
}

#[test]
fn faults_in_primary_only() {
    every_fault_in(Stage::PrimaryOnly);
}

fn every_fault_in(stage: Stage) {
    for seed in seeds() {
        println!("{stage}, FAULT_SEED={seed}");
        Scene::set(stage, seed).play(stage, &mut cases(stage, seed));
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match (number("FAULT_SEED"), number("FAULT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 1..1 + count.unwrap_or(1),
    }
}

/// All faults that this stage can meet, in an order of the seed's.
fn cases(stage: Stage, seed: u64) -> Vec<Case> {
    let mut cases: Vec<Case> = StoreId::ALL
        .into_iter()
        .filter(|store| stage.is_dual() || *store == stage.default_store())
        .flat_map(|store| TO_LANES.map(|fault| Case { store, target: Target::Lane, fault }))
        .collect();
    let store = stage.default_store();
    cases.extend(TO_DEDICATED.map(|fault| Case { store, target: Target::Dedicated, fault }));
    if !stage.is_dual() {
        // The store that is not in use: whatever happens to it, nobody notices.
        let store = store.other();
        let some = [Fault::CutWithinReply, Fault::ReplyTooMany, Fault::GarbageBetween];
        cases.extend(some.map(|fault| Case { store, target: Target::Lane, fault }));
    }
    let mut numbers = Numbers(seed);
    for at in (1..cases.len()).rev() {
        cases.swap(at, numbers.below(at + 1));
    }
    cases
}

// === impl Scene ===

impl Scene {
    fn set(stage: Stage, seed: u64) -> Scene {
        let network = Network::start(stage, &TIMES);
        let world = World {
            port: network.proxy.port(),
            seed,
            books: Books::default(),
            astray: network.astray.clone(),
            stop: AtomicBool::new(false),
            churn: 1,
            pause: Duration::ZERO,
        };
        Scene { network, world }
    }

    fn play(mut self, stage: Stage, cases: &mut [Case]) {
        let world = &self.world;
        std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|number| scope.spawn(move || clients::live(world, number))).collect();
            let mut failed = None;
            for case in cases.iter() {
                failed = self.strike(*case).err().map(|what| format!("{case:?}: {what}"));
                if failed.is_some() || clients.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                    break;
                }
            }
            world.stop.store(true, std::sync::atomic::Ordering::SeqCst);
            if let Some(failed) = failed {
                world.books.complain(failed);
            }
        });
        assert!(self.network.proxy.is_running());
        assert_eq!(self.network.proxy.metric("multistore_panics_total", &[]), 0.0);
        self.reckon(stage);
    }

    /// Lets one thing go wrong, and waits until everything is as before.
    fn strike(&self, case: Case) -> Result<(), String> {
        let network = &self.network.ways[case.store.index()];
        let before = network.struck();
        // Not always as out_of_step: where the reply that is missing was the last one, silence tells.
        let noticed =
            || self.network.proxy.metric("multistore_store_errors_total", &[("store", case.store.name())]);
        let noticed_before = noticed();
        network.arm(case.fault, case.target);
        self.wait("the fault to strike", || network.struck() > before).inspect_err(|_| {
            network.disarm();
        })?;
        if case.target == Target::Dedicated && self.world.astray.is_open() {
            // It may lie in the pool, where it is looked at before it is used: that may be a while.
            let answered = self.world.books.unanswered() + ROUNDS;
            self.wait("clients to go on", || {
                self.world.books.unanswered() > answered || !self.world.astray.is_open()
            })?;
            network.cut_all();
        }
        self.wait("the connection that is out of step to end", || !self.world.astray.is_open())?;
        let tells_tales = case.fault.misaligns() || case.fault == Fault::OldProtocol;
        if tells_tales && case.target == Target::Lane {
            self.wait("it to be counted", || noticed() > noticed_before)?;
        }
        self.wait("the store to be up", || {
            self.network.proxy.instance_status(INSTANCE)["stores"][case.store.name()]["up"] == true
        })?;
        let answered = self.world.books.answered() + ROUNDS;
        self.wait("clients to be served", || self.world.books.answered() > answered)?;
        match self.world.books.complaints() {
            complaints if complaints.is_empty() => Ok(()),
            _ => Err("after this".to_owned()),
        }
    }

    fn wait(&self, what: &str, condition: impl FnMut() -> bool) -> Result<(), String> {
        let mut condition = condition;
        poll_for(STRIKES, || condition().then_some(())).ok_or_else(|| format!("waited in vain for {what}"))
    }

    /// The clients' books agree with the default store, and where both are written, both hold the same.
    fn reckon(self, stage: Stage) {
        let books = &self.world.books;
        println!("{stage}: {} answers, {} without one", books.answered(), books.unanswered());
        let mut found = Vec::new();
        if stage.is_dual() {
            let mut last = Vec::new();
            let equal = poll_for(CONVERGES, || {
                last = differences(&data(&self.network.stores[0]), &data(&self.network.stores[1]));
                last.is_empty().then_some(())
            });
            if equal.is_none() {
                found.extend(last.into_iter().map(|text| text.chars().take(400).collect()));
                found.push(format!("{}", self.network.proxy.instance_status(INSTANCE)["sync"]));
            }
        }
        found.extend(books.audit(&self.network.stores[stage.default_store().index()]));
        assert!(found.is_empty(), "{stage}:\n{}", found.join("\n"));
    }
}
