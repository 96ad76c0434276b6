//! What may happen.

use multistore::sequencer::knowledge::Sync;
use multistore::stage::{Stage, StoreId};

use super::super::redis::Refusal;
use super::super::world::World;
use super::Schedule;

// === impl Schedule ===

impl Schedule {
    pub(super) fn act(&mut self) {
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
}

/// One request on any connection of the store, also such as the proxy has given up.
pub(super) fn execute_one(world: &mut World, store: StoreId) -> bool {
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
