//! One schedule: what happens, in which order, is drawn from one number.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use multistore::sequencer::hash_key;
use multistore::sequencer::knowledge::Sync;
use multistore::stage::{Stage, StoreId};

use super::data::{Bytes, Data, Entry};
use super::redis::{Refusal, show_bytes};
use super::wishes::Wishes;
use super::world::{Kit, Shared, World};
use super::{session, walk};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// How much trouble there is.
#[derive(Clone, Copy, Debug)]
struct Moods {
    flips: bool,
    cuts: bool,
    kills: bool,
    loses_data: bool,
    refusals: bool,
    crashes: bool,
    leaves: bool,
    slow: bool,
}

pub struct Schedule {
    world: Shared,
    tasks: BTreeMap<u64, Task>,
    walk: (u64, Task),
    wishes: Wishes,
    moods: Moods,
    restart: [u64; 2],
}

/// Simulated time within which everything must be settled once trouble is over.
const SETTLES_WITHIN_MICROS: u64 = 300_000_000;
const TTL_TOLERANCE_MILLIS: u64 = 1500;

/// Runs the schedule of `seed`. Err: what is wrong, and everything that happened.
pub fn run(kit: &Kit, seed: u64, traced: bool) -> Result<u64, Vec<String>> {
    let mut schedule = Schedule::new(kit, seed, traced);
    schedule.play();
    schedule.quiesce();
    schedule.check();
    let mut world = schedule.world.borrow_mut();
    let mut problems = std::mem::take(&mut world.problems);
    problems.append(&mut world.books.problems);
    if problems.is_empty() {
        return Ok(world.event);
    }
    if let Some(trace) = world.trace.take() {
        problems.splice(0..0, trace);
    }
    Err(problems)
}

// === impl Schedule ===

impl Schedule {
    fn new(kit: &Kit, seed: u64, traced: bool) -> Schedule {
        let mut world = World::new(kit, seed, traced);
        let dice = &mut world.dice;
        let mut moods = Moods {
            flips: dice.chance(85),
            cuts: dice.chance(50),
            kills: dice.chance(35),
            loses_data: dice.chance(30),
            refusals: dice.chance(30),
            crashes: dice.chance(25),
            leaves: dice.chance(40),
            slow: dice.chance(30),
        };
        if let Ok(off) = std::env::var("MODEL_WITHOUT") {
            moods.flips &= !off.contains("flips");
            moods.cuts &= !off.contains("cuts");
            moods.kills &= !off.contains("kills");
            moods.loses_data &= !off.contains("loses_data");
            moods.refusals &= !off.contains("refusals");
            moods.crashes &= !off.contains("crashes");
            moods.leaves &= !off.contains("leaves");
            moods.slow &= !off.contains("slow");
        }
        // Not drawn: the schedules of other seeds stay what they were.
        let expiring = seed % 4 == 3;
        if expiring {
            world.stores[0].ahead = 35;
        }
        let mut wishes = Wishes::new(expiring);
        populate(&mut world, &mut wishes);
        world.note(|world| format!("{moods:?} {:?} {:?}", world.settings, world.limits));
        let world = Rc::new(RefCell::new(world));
        let walk: (u64, Task) = (0, Box::pin(walk::run(world.clone(), 0)));
        Schedule { world, tasks: BTreeMap::new(), walk, wishes, moods, restart: [0, 0] }
    }

    fn play(&mut self) {
        for store in StoreId::ALL {
            self.world.borrow_mut().dial(store);
        }
        let clients = 1 + self.world.borrow_mut().dice.below(4);
        (0..clients).for_each(|_| self.join());
        let steps = 40 + self.world.borrow_mut().dice.below(260);
        for _ in 0..steps {
            self.act();
            self.after();
        }
    }

    fn join(&mut self) {
        let mut world = self.world.borrow_mut();
        let (db, resp3) = (u32::from(world.dice.chance(20)), world.dice.chance(30));
        let id = world.join(db, resp3);
        drop(world);
        self.tasks.insert(id, Box::pin(session::run(self.world.clone(), id)));
    }

    /// What follows from an event, until nothing does.
    fn after(&mut self) {
        {
            let mut world = self.world.borrow_mut();
            world.event += 1;
            let event = world.event;
            world.books.turn_to(event);
        }
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            let process = self.world.borrow().process;
            if self.walk.0 != process {
                self.walk = (process, Box::pin(walk::run(self.world.clone(), process)));
            }
            let _ = self.walk.1.as_mut().poll(&mut context);
            let woken: Vec<u64> = {
                let mut world = self.world.borrow_mut();
                let woken = world.peers.iter_mut().map(|(id, peer)| (*id, std::mem::take(&mut peer.woken)));
                woken.filter(|(_, woken)| *woken).map(|(id, _)| id).collect()
            };
            if woken.is_empty() {
                let world = self.world.borrow();
                self.tasks.retain(|id, _| world.peers.contains_key(id));
                return;
            }
            for id in woken {
                if let Some(task) = self.tasks.get_mut(&id)
                    && task.as_mut().poll(&mut context).is_ready()
                {
                    self.world.borrow_mut().leave(id);
                }
            }
        }
        self.world.borrow_mut().problems.push("sessions wake each other for ever".to_owned());
    }

    // --- what may happen ---

    fn act(&mut self) {
        let (choice, store) = {
            let dice = &mut self.world.borrow_mut().dice;
            (dice.below(1000), *dice.pick(&StoreId::ALL))
        };
        match choice {
            0..=199 => self.ask(),
            200..=399 => self.ship(store),
            400..=599 => self.execute(store),
            600..=799 => self.deliver(store),
            800..=899 => self.pass_time(),
            900..=914 if self.moods.flips => self.flip(),
            915..=929 if self.moods.cuts => self.world.borrow_mut().lose(store),
            930..=939 if self.moods.kills => self.kill(store),
            940..=949 if self.moods.refusals => self.refuse(store),
            950..=954 if self.moods.crashes => self.world.borrow_mut().crash(),
            955..=964 if self.moods.leaves => self.leave(),
            965..=969 => self.join(),
            _ => self.lanes(),
        }
    }

    fn ask(&mut self) {
        let mut world = self.world.borrow_mut();
        let ids: Vec<u64> = world.peers.keys().copied().collect();
        if ids.is_empty() {
            drop(world);
            self.join();
            return;
        }
        let id = *world.dice.pick(&ids);
        let peer = &world.peers[&id];
        if peer.expect.len() + peer.inbox.len() > 12 {
            return;
        }
        let db = peer.db;
        let batch = self.wishes.batch(&mut world.dice, db);
        world.ask(id, batch);
    }

    fn ship(&mut self, store: StoreId) {
        let mut world = self.world.borrow_mut();
        if world.wants_to_ship(store) {
            let all = world.dice.chance(70);
            world.ship(store, all);
        }
    }

    fn execute(&mut self, store: StoreId) {
        let mut world = self.world.borrow_mut();
        let count = if self.moods.slow { 1 } else { 1 + world.dice.below(12) };
        for _ in 0..count {
            if !execute_one(&mut world, store) {
                return;
            }
        }
    }

    fn deliver(&mut self, store: StoreId) {
        let mut world = self.world.borrow_mut();
        if world.has_replies(store) {
            let all = world.dice.chance(70);
            world.deliver(store, all);
        }
    }

    fn pass_time(&mut self) {
        let mut world = self.world.borrow_mut();
        let millis = match world.dice.below(100) {
            0..=59 => 1 + world.dice.below(6) as u64,
            60..=89 => 10 + world.dice.below(200) as u64,
            90..=96 => 1_000,
            _ => *world.dice.pick(&[3_000, 5_100, 12_000, 31_000]),
        };
        // As the instance ticks: not once for a long time.
        let step = if millis > 100 { millis / 4 } else { millis };
        let until = world.now + millis * 1000;
        while world.now < until {
            // Who waits for a secondary that is slow waits no longer than `reply_timeout`.
            world.refused |= millis >= 1_000 && world.core.lane(StoreId::Secondary).depth() > 0;
            world.taint();
            world.now += step * 1000;
            world.tick();
        }
        world.note(|_| format!("{millis} ms pass"));
    }

    fn flip(&mut self) {
        let mut world = self.world.borrow_mut();
        let now = world.flags;
        let next: Vec<Stage> =
            Stage::ALL.into_iter().filter(|next| *next != now && now.may_become(*next)).collect();
        let stage = *world.dice.pick(&next);
        world.flip(stage);
    }

    fn kill(&mut self, store: StoreId) {
        let mut world = self.world.borrow_mut();
        if !world.stores[store.index()].up {
            return;
        }
        let keeps = !self.moods.loses_data || world.dice.chance(60);
        let core = &world.core;
        let default = core.default_store();
        let counts = store == default
            || core.suspects().0 > 0
            || core.sync_base() == Sync::Suspect(default)
            || default == StoreId::Primary && core.sync_base() == Sync::Unknown
            || core.held_flip().is_some()
            || world.flags != world.core.flags().stage();
        world.books.lossy |= !keeps && counts;
        world.warm &= keeps || store == StoreId::Secondary;
        world.stores[store.index()].kill(keeps);
        let now = world.now;
        self.restart[store.index()] = now + world.dice.below(4_000) as u64 * 1000;
        world.note(|_| format!("{store} is killed{}", if keeps { "" } else { ", and its data is gone" }));
    }

    fn refuse(&mut self, store: StoreId) {
        let mut world = self.world.borrow_mut();
        let refusal = match world.stores[store.index()].refusal {
            Some(_) => None,
            None => Some(*world.dice.pick(&[Refusal::Oom, Refusal::ReadOnly, Refusal::NoPerm])),
        };
        world.stores[store.index()].refusal = refusal;
        world.refused = true;
        world.note(|_| format!("{store} refuses {refusal:?}"));
    }

    fn leave(&mut self) {
        let mut world = self.world.borrow_mut();
        let ids: Vec<u64> = world.peers.keys().copied().collect();
        if !ids.is_empty() {
            let id = *world.dice.pick(&ids);
            world.leave(id);
        }
    }

    /// What drivers and operating systems do by themselves.
    fn lanes(&mut self) {
        let mut world = self.world.borrow_mut();
        for store in StoreId::ALL {
            if world.is_cut(store) {
                world.lose(store);
                return;
            }
            if !world.stores[store.index()].up && world.now >= self.restart[store.index()] {
                world.note(|_| format!("{store} is started"));
                world.stores[store.index()].start();
                return;
            }
            if world.wires[store.index()].conn.is_none() {
                world.dial(store);
                return;
            }
        }
    }

    // --- the end ---

    /// Trouble is over. Whatever is under way comes to its end.
    fn quiesce(&mut self) {
        let until = {
            let mut world = self.world.borrow_mut();
            world.note(|_| "--- trouble is over ---".to_owned());
            for store in StoreId::ALL {
                world.stores[store.index()].refusal = None;
                if !world.stores[store.index()].up {
                    world.stores[store.index()].start();
                }
                // What still sits in a socket that nobody reads from is executed now or never.
                while world.dice.chance(50) && execute_one(&mut world, store) {}
            }
            let stage = *world.dice.pick(&[Stage::DualSecondaryDefault, Stage::DualPrimaryDefault]);
            let from = world.flags;
            if from.may_become(stage) {
                world.flip(stage);
            }
            world.now + SETTLES_WITHIN_MICROS
        };
        self.after();
        while !self.is_quiet() {
            if self.world.borrow().now > until {
                let text = self.why_not_quiet();
                self.world.borrow_mut().problems.push(format!("it does not settle: {text}"));
                return;
            }
            self.quiesce_step();
        }
    }

    fn quiesce_step(&mut self) {
        for store in StoreId::ALL {
            let mut world = self.world.borrow_mut();
            if world.is_cut(store) {
                world.lose(store);
            }
            world.dial(store);
            if world.wants_to_ship(store) {
                world.ship(store, true);
            }
            while execute_one(&mut world, store) {}
            if world.has_replies(store) {
                world.deliver(store, true);
            }
            drop(world);
            self.after();
        }
        let mut world = self.world.borrow_mut();
        let busy = StoreId::ALL.iter().any(|store| world.wants_to_ship(*store) || world.has_replies(*store));
        world.now += if busy { 1_000 } else { 20_000 };
        world.tick();
        if let Some(doubted) = world.core.doubted_source()
            && StoreId::ALL.iter().all(|store| world.core.lane(*store).is_up())
        {
            world.repair_from(doubted);
        }
        drop(world);
        self.after();
    }

    fn is_quiet(&self) -> bool {
        let world = self.world.borrow();
        let core = &world.core;
        core.is_idle()
            && core.copies_under_way() == 0
            && core.suspects().0 == 0
            && core.behind_as_a_whole().is_none()
            && !core.owes_walk()
            && core.doubted_source().is_none()
            && core.flags().stage() == world.flags
            && world.flags.is_dual()
            && StoreId::ALL.iter().all(|store| core.lane(*store).is_up() && core.lane(*store).depth() == 0)
            && world.peers.values().all(|peer| peer.expect.is_empty() && peer.inbox.is_empty())
    }

    fn why_not_quiet(&self) -> String {
        let world = self.world.borrow();
        let core = &world.core;
        let owed: Vec<String> = world
            .peers
            .iter()
            .filter(|(_, peer)| !peer.expect.is_empty() || !peer.inbox.is_empty())
            .map(|(id, peer)| format!("client {id}: {:?} {:?}", peer.expect, peer.inbox))
            .collect();
        if world.trace.is_some() {
            StoreId::ALL.iter().for_each(|store| println!("{:?}", core.lane(*store)));
        }
        format!(
            "idle {}, copies {}, suspects {:?}, behind {:?}, owes a walk {}, doubted {:?}, stage {} flags {} held {:?}, \
             lanes {:?}, parked {}, owed {owed:?}",
            core.is_idle(),
            core.copies_under_way(),
            core.suspects(),
            core.behind_as_a_whole(),
            core.owes_walk(),
            core.doubted_source(),
            core.flags().stage(),
            world.flags,
            core.held_flip(),
            StoreId::ALL.map(|store| (
                core.lane(store).is_up(),
                core.lane(store).depth(),
                core.lane(store).queued_bytes()
            )),
            core.parked(),
        )
    }

    fn check(&mut self) {
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        if !world.problems.is_empty() {
            return;
        }
        let default = world.core.default_store();
        let now = world.millis();
        let mut held = BTreeMap::new();
        for db in 0..world.stores[0].dbs.len() {
            let keys: BTreeSet<Bytes> =
                world.stores.iter().flat_map(|store| store.dbs[db].keys().cloned()).collect();
            for key in keys {
                let [primary, secondary] = [0, 1].map(|at| world.stores[at].get(db, &key, now).cloned());
                let known = world.core.sync_of(hash_key(db as u32, &key));
                if !alike(primary.as_ref(), secondary.as_ref(), known, now) {
                    world.problems.push(format!(
                        "db{db} {} ({known:?}) differs: primary {}, secondary {}",
                        show_bytes(&key),
                        show_entry(primary.as_ref()),
                        show_entry(secondary.as_ref())
                    ));
                }
                let counts = match default {
                    StoreId::Primary if known != Sync::Unknown => primary,
                    StoreId::Primary => primary.or(secondary),
                    StoreId::Secondary => secondary,
                };
                if let Some(entry) = counts {
                    held.insert((db as u32, key), entry);
                }
            }
        }
        for store in StoreId::ALL {
            let lane = world.core.lane(store);
            if lane.queued_bytes() != 0 || lane.answered() != lane.appended() {
                world.problems.push(format!(
                    "{store}: {} bytes queued, {} of {} answered in an empty lane",
                    lane.queued_bytes(),
                    lane.answered(),
                    lane.appended()
                ));
            }
        }
        world.books.check(&held);
    }
}

/// One request on any connection of the store, also such as the proxy has given up.
fn execute_one(world: &mut World, store: StoreId) -> bool {
    let now = world.millis();
    let redis = &mut world.stores[store.index()];
    if !redis.up {
        return false;
    }
    let ready: Vec<u64> =
        redis.conns.iter().filter(|(_, conn)| conn.has_request()).map(|(id, _)| *id).collect();
    if ready.is_empty() {
        return false;
    }
    let id = *world.dice.pick(&ready);
    redis.step(id, now);
    let lines = redis.log.as_mut().map(std::mem::take).unwrap_or_default();
    for line in lines {
        world.note(|_| format!("{store} runs {line}"));
    }
    // Whoever has a connection of his own hears of it.
    for peer in world.peers.values_mut() {
        peer.woken |= peer.own.is_some_and(|(own, _)| own == store);
    }
    true
}

/// Does the end find what it should? What is unknown may be missing on a cold primary.
fn alike(primary: Option<&Entry>, secondary: Option<&Entry>, known: Sync, now: u64) -> bool {
    match (primary, secondary) {
        (Some(a), Some(b)) => {
            let near = match (a.expires, b.expires) {
                (Some(a), Some(b)) => a.abs_diff(b) <= TTL_TOLERANCE_MILLIS,
                (a, b) => a == b,
            };
            a.data == b.data && near
        }
        (None, None) => true,
        (None, Some(_)) if known == Sync::Unknown => true,
        // About to expire, and here it has.
        (None, Some(entry)) | (Some(entry), None) => {
            entry.expires.is_some_and(|at| at <= now + TTL_TOLERANCE_MILLIS)
        }
    }
}

fn show_entry(entry: Option<&Entry>) -> String {
    entry.map_or("nothing".to_owned(), |entry| {
        let data = match &entry.data {
            Data::Str(value) => show_bytes(value),
            other => format!("{} {}", other.type_name(), show_bytes(&other.dump())),
        };
        format!("{data} until {:?}", entry.expires)
    })
}

/// What the secondary has, and a cold primary has not; or both have.
fn populate(world: &mut World, wishes: &mut Wishes) {
    let warm = world.flags.is_dual() && world.dice.chance(50);
    world.warm = warm;
    let put = |world: &mut World, key: &[u8], data: Data| {
        world.books.initial.insert((0, key.to_vec()), data.clone());
        let entry = Entry { data, expires: None };
        world.stores[1].dbs[0].insert(key.to_vec(), entry.clone());
        if warm {
            world.stores[0].dbs[0].insert(key.to_vec(), entry);
        }
    };
    for key in ["r0", "c0", "l0", "q0", "s0", "j0"] {
        if world.dice.chance(40) {
            continue;
        }
        let data = match key.as_bytes()[0] {
            b'c' => Data::Str(b"100".to_vec()),
            b'q' => Data::List([wishes.name("e"), wishes.name("e")].into()),
            b's' => Data::Set([wishes.name("m"), wishes.name("m")].into()),
            _ => Data::Str(wishes.name("v")),
        };
        put(world, key.as_bytes(), data);
    }
}
