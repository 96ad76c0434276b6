//! Keys that commands change without naming them: scripts that compute names, commands of modules.
//!
//! An ear is a connection to a store on which that tells the name of every key that changes (CLIENT TRACKING ON BCAST);
//! `instance::ear` moves its bytes. A server tells what has changed before it sends the replies of the same turn. So
//! when the ear has answered a question that was sent after a command's reply had come, all that the command has changed
//! has been heard.
//!
//! Invariants:
//! - from the point of the order at which such a command is placed until that question is answered, every key of its
//!   database that is heard of comes into doubt on the other store: also those that others have changed, which costs a
//!   copy and nothing else;
//! - until then no key counts as known: reads go to the default store, what carries values from key to key is copied,
//!   and the default store does not change;
//! - where nobody listens, the stores are to be walked: [`Sequencer::owes_walk`].

use crate::stage::StoreId;

use super::Sequencer;
use super::clients::ClientKey;
use super::copy::is_scratch;
use super::fence::hash_key;
use super::knowledge::Sync;
use super::reach::Reach;
use super::submission::Scope;
use super::touched::Touched;

/// What is known of one store's ear.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// It hears everything that changes from here on.
    hears: bool,
    /// What has not been heard out, by database.
    unheard: Vec<Unheard>,
    /// The same, of clients with connections of their own, while they are at it.
    asides: Vec<(ClientKey, u32)>,
    /// Questions sent.
    rounds: u64,
    /// The position that the default store had answered when the question under way was sent.
    asked: Option<u64>,
}

/// The last command that may have changed keys of a database without naming them.
#[derive(Debug)]
struct Unheard {
    db: u32,
    /// Its position in the lane.
    position: u64,
    /// The first question that may be its last.
    round: u64,
}

/// Databases, and clients' databases, that are listened to at once.
const MAX_DATABASES: usize = 64;
/// So long an ear is kept for the next command that needs it.
const KEPT_MICROS: u64 = 600_000_000;

// === impl Ear ===

impl Ear {
    fn is_at_it(&self) -> bool {
        !self.unheard.is_empty() || !self.asides.is_empty()
    }

    fn listen(&mut self, db: u32, position: u64, round: u64) {
        match self.unheard.iter_mut().find(|unheard| unheard.db == db) {
            Some(unheard) => {
                unheard.position = unheard.position.max(position);
                unheard.round = unheard.round.max(round);
            }
            None => self.unheard.push(Unheard { db, position, round }),
        }
    }

    fn has_room_for(&self, reach: &Reach) -> bool {
        self.unheard.len() + self.asides.len() + reach.databases.len() <= MAX_DATABASES
    }

    fn databases(&self) -> Vec<u32> {
        let asides = self.asides.iter().map(|(_, db)| *db);
        let mut databases: Vec<u32> = self.unheard.iter().map(|unheard| unheard.db).chain(asides).collect();
        databases.sort_unstable();
        databases.dedup();
        databases
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Commands that may change keys which they do not name have been placed in the default store's lane.
    pub(super) fn wrote_unnamed(&mut self, frames: &[u8], scope: Scope, db: u32) {
        let store = self.default_store();
        let position = self.lane(store).appended();
        let reach = Reach::of(&self.table, frames, db);
        if !self.is_heard(store, scope, &reach) {
            self.owe_walk();
            return;
        }
        for db in reach.databases {
            self.ears[store.index()].listen(db, position, 0);
        }
    }

    /// Is what such a command changes heard? Where a cold primary may hold less than it reads, that is no help.
    fn is_heard(&mut self, store: StoreId, scope: Scope, reach: &Reach) -> bool {
        self.unnamed_at = Some(self.now);
        let ear = &self.ears[store.index()];
        let cold = self.known.base() == Sync::Unknown && store == StoreId::Secondary;
        // A server does not tell of databases that are exchanged, nor in which one a script has changed a key.
        let told = reach.swapped.is_empty() && scope != Scope::Anywhere;
        ear.hears && ear.has_room_for(reach) && !cold && told
    }

    /// A client is about to run such commands on a connection of its own to the default store.
    pub fn listen_aside(&mut self, client: ClientKey, frames: &[u8], scope: Scope, db: u32) {
        if !self.stage().is_dual() || !self.settings.hydrate {
            return;
        }
        let store = self.default_store();
        let reach = Reach::of(&self.table, frames, db);
        if self.is_heard(store, scope, &reach) {
            let asides = reach.databases.into_iter().map(|db| (client, db));
            self.ears[store.index()].asides.extend(asides);
        } else {
            self.owe_walk();
        }
    }

    /// It has its reply, or will never have it.
    pub fn listened_aside(&mut self, client: ClientKey) {
        for ear in &mut self.ears {
            let asides = std::mem::take(&mut ear.asides);
            let (done, kept) = asides.into_iter().partition(|(who, _)| *who == client);
            ear.asides = kept;
            let done: Vec<(ClientKey, u32)> = done;
            let round = ear.rounds + 1;
            done.into_iter().for_each(|(_, db)| ear.listen(db, 0, round));
        }
    }

    /// It is gone, and perhaps in the middle of something.
    pub(super) fn forget_aside(&mut self, client: ClientKey) {
        if self.ears.iter().any(|ear| ear.asides.iter().any(|(who, _)| *who == client)) {
            self.listened_aside(client);
            self.owe_walk();
        }
    }

    /// Are there keys that may have been changed and have not been heard of?
    pub fn is_deaf(&self) -> bool {
        self.owes_walk || self.ears.iter().any(Ear::is_at_it)
    }

    /// Is somebody to listen to both stores?
    pub fn wants_ears(&self) -> bool {
        let needed = self.unnamed_at.is_some_and(|at| self.now.saturating_sub(at) < KEPT_MICROS);
        needed && self.stage().is_dual() && self.settings.hydrate
    }

    /// `store` tells of everything that changes from here on.
    pub fn ear_open(&mut self, store: StoreId) {
        self.ears[store.index()] = Ear { hears: true, ..Ear::default() };
    }

    /// It does not any more: what has not been heard out is to be walked for.
    pub fn ear_shut(&mut self, store: StoreId) {
        if std::mem::take(&mut self.ears[store.index()]).is_at_it() {
            self.owe_walk();
        }
    }

    /// Does `store` tell of everything that changes?
    pub fn is_ear_open(&self, store: StoreId) -> bool {
        self.ears[store.index()].hears
    }

    /// Is a question due on the ear of `store`? It is to be sent now.
    pub fn ask_ear(&mut self, store: StoreId) -> bool {
        let answered = self.lane(store).answered();
        let ear = &mut self.ears[store.index()];
        let due = ear.asked.is_none() && ear.unheard.iter().any(|unheard| unheard.position <= answered);
        if due {
            ear.asked = Some(answered);
            ear.rounds += 1;
        }
        due
    }

    /// The ear of `store` has answered the question.
    pub fn ear_answered(&mut self, store: StoreId) {
        let ear = &mut self.ears[store.index()];
        let Some(answered) = ear.asked.take() else { return };
        let round = ear.rounds;
        ear.unheard.retain(|unheard| unheard.position > answered || unheard.round > round);
        self.after_progress();
    }

    /// `store` tells that a key has changed, in a database that it does not tell. None: all keys of a database.
    pub fn ear_heard(&mut self, store: StoreId, key: Option<&[u8]>) {
        let ear = &self.ears[store.index()];
        if !ear.is_at_it() || store != self.default_store() {
            return;
        }
        let Some(key) = key else {
            self.owe_walk();
            return;
        };
        if is_scratch(key) {
            return;
        }
        for db in ear.databases() {
            let touched = Touched::Many([(hash_key(db, key), key.into())].into());
            self.went_on_alone(&touched, db);
        }
    }
}
