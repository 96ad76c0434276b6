//! One schedule: what happens, in which order, is drawn from one number.

mod acts;
mod end;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use multistore::stage::StoreId;

use super::data::{Data, Entry};
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
