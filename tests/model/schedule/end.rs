//! The end: trouble is over, everything settles, and the stores and the books are looked at.

use std::collections::{BTreeMap, BTreeSet};

use multistore::sequencer::hash_key;
use multistore::sequencer::knowledge::Sync;
use multistore::stage::{Stage, StoreId};

use super::super::data::{Bytes, Data, Entry};
use super::super::redis::show_bytes;
use super::Schedule;
use super::acts::execute_one;

/// Simulated time within which everything must be settled once trouble is over.
const SETTLES_WITHIN_MICROS: u64 = 300_000_000;
const TTL_TOLERANCE_MILLIS: u64 = 1500;

// === impl Schedule ===

impl Schedule {
    /// Trouble is over. Whatever is under way comes to its end.
    pub(super) fn quiesce(&mut self) {
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

    pub(super) fn check(&mut self) {
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
