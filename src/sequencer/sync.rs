//! What the sequencer does with its knowledge of the keys.

use crate::command::{Access, Args, CommandId, Kind};
use crate::mirror::{Dialect, Recipe, Way};
use crate::resp::value::Value;
use crate::stage::{Stage, StoreId};

use super::clients::ClientKey;
use super::copy::Hydration;
use super::derive::has_error;
use super::fence::Footprint;
use super::knowledge::{Suspect, Sync};
use super::op::{OpKey, Owner};
use super::park::attempted;
use super::plan::{self, Plan, plan};
use super::standing::lacks;
use super::touched::Touched;
use super::write::named;
use super::{Expiry, Scope, ScriptWay, Sequencer};

/// What is on record of the stores' contents while an instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The stage in effect.
    pub stage: Stage,
    /// What is known of all keys.
    pub base: Sync,
    /// The store that may have lost writes.
    pub doubted: Option<StoreId>,
    /// Changes whenever other keys are suspect on the default store itself ([`Sequencer::suspects_on_default`]).
    pub suspects: u64,
}

/// What a client with a connection of its own has to wait for before it uses keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// Nothing: the default store has them, or nothing can be done about it.
    Done,
    /// What the default store lacks is being copied.
    Begun,
    /// Somebody else's fence, or a flip that is on its way, stands around them.
    HeldUp,
}

// === impl Sequencer ===

impl Sequencer {
    /// How a write reaches the other store.
    #[inline]
    pub(super) fn plan_of(&self, way: Way, footprint: &Footprint, scope: Scope) -> Plan {
        match (scope, footprint) {
            (Scope::FlushAll | Scope::FlushDb, _) if self.may_lack_anything() => Plan::Accepted,
            (Scope::FlushAll | Scope::FlushDb | Scope::Swap | Scope::Functions, _) => match way {
                Way::Nothing | Way::Verbatim => Plan::Verbatim,
                // Something else in the same transaction chooses.
                Way::Derived(_) | Way::Copied => Plan::Derived,
            },
            _ if !self.settings.hydrate => match way {
                Way::Derived(_) => Plan::Derived,
                Way::Nothing | Way::Verbatim | Way::Copied => Plan::Verbatim,
            },
            // Only the store knows what it touches beside its keys.
            (Scope::Undeclared | Scope::Anywhere, _) | (_, Footprint::Everything) => match way {
                Way::Nothing | Way::Verbatim if self.is_everything_known() => Plan::Verbatim,
                _ => plan(Way::Copied, footprint.keys(), |hash| self.standing(hash)),
            },
            // What it carries on may be of a key that has changed unheard.
            _ if self.is_deaf() && carries(footprint) => {
                plan(Way::Copied, footprint.keys(), |hash| self.standing(hash))
            }
            _ => plan(way, footprint.keys(), |hash| self.standing(hash)),
        }
    }

    /// Is a write to these keys, and to no others, one of keys in sync? The usual case, told by one look at each.
    #[inline(always)]
    pub(super) fn are_in_sync(&self, footprint: &Footprint, scope: Scope) -> bool {
        let Footprint::Keys(keys) = footprint else { return false };
        if scope != Scope::Keys || !self.settings.hydrate || self.is_deaf() {
            return false;
        }
        match keys.as_slice() {
            [key] => self.known.of(key.hash) == Sync::InSync,
            keys => keys.iter().all(|key| self.known.of(key.hash) == Sync::InSync),
        }
    }

    /// Is every key in sync, also those that nobody has named?
    fn is_everything_known(&self) -> bool {
        self.known.is_all_in_sync() && !self.is_deaf()
    }

    /// May the default store lack keys that the other one has?
    pub(super) fn may_lack_anything(&self) -> bool {
        let default = self.default_store();
        self.settings.hydrate
            && (lacks(default, self.known.base()) || self.known.has_suspects_behind(default))
    }

    /// Must both stores have executed this before its client is told? What is not in a cold primary is looked for on the
    /// secondary, and a crash makes forgotten what was removed: it would be found there again.
    #[inline(always)]
    pub(super) fn must_be_gone(&self, footprint: &Footprint, scope: Scope, expiry: Expiry) -> bool {
        let cold = self.default_store() == StoreId::Primary
            && self.known.base() == Sync::Unknown
            && self.settings.hydrate;
        let flushes = matches!(scope, Scope::FlushAll | Scope::FlushDb);
        cold && (flushes || may_end_at_once(expiry) || may_remove(footprint))
    }

    /// Both stores hold the same for this key from this point of the order on.
    pub(super) fn settle_key(&mut self, hash: u64) {
        let holds = &self.holds;
        self.known.settle(hash, |hash| holds.awaits(hash));
    }

    /// The default store has taken what replaces these keys, and the other one will: they are in sync, unless another
    /// write has been lost meanwhile.
    pub(super) fn settle_accepted(&mut self, touched: &Touched, scope: Scope) {
        if scope == Scope::FlushAll {
            self.known.emptied();
        }
        let other = self.default_store().other();
        touched.each(|hash, _| {
            if self.known.of(hash) != Sync::Suspect(other) {
                self.settle_key(hash);
            }
            // Whatever is behind in it: the default store has had it.
            self.known.warm(hash);
        });
    }

    /// A write goes to both stores at this point: notes what is in sync from here on. True: something
    /// was not in sync before, so the replies may part.
    pub(super) fn wrote_verbatim(&mut self, footprint: &Footprint, frame: &[u8], scope: Scope) -> bool {
        match scope {
            Scope::FlushAll => {
                self.known.emptied();
                self.dirty_all_copies();
                return true;
            }
            Scope::FlushDb => self.dirty_all_copies(),
            Scope::Swap => self.swapped(frame),
            Scope::Keys | Scope::Functions | Scope::Undeclared | Scope::Unlisted | Scope::Anywhere => {}
        }
        let mut blind = scope != Scope::Keys || self.known.base() != Sync::InSync;
        if let Footprint::Keys(keys) = footprint {
            blind = false;
            for key in keys {
                self.dirty_copy(key.hash);
                if self.known.of(key.hash) == Sync::InSync {
                    continue;
                }
                blind = true;
                if plan::settles(key.access) {
                    self.settle_key(key.hash);
                }
            }
        }
        blind
    }

    /// `behind` may not hold what the other store holds for these keys.
    pub(super) fn doubt(&mut self, touched: &Touched, db: u32, behind: StoreId) {
        let tails = StoreId::ALL.map(|store| self.lane(store).appended());
        if self.lanes.iter().any(|lane| lane.depth() > 0) {
            touched.each(|hash, _| self.taints.note(hash, self.now, tails));
        }
        self.doubt_from_here(touched, db, behind);
    }

    /// The same for a write that is being placed: what came before it is none the worse for it.
    fn doubt_from_here(&mut self, touched: &Touched, db: u32, behind: StoreId) {
        if !self.stage().is_dual() || !self.settings.hydrate {
            return;
        }
        let now = self.now;
        if matches!(touched, Touched::Everything) {
            self.known.doubt_any(behind);
            self.dirty_all_copies();
        }
        touched.each(|hash, key| {
            self.known.doubt(hash, db, key, behind, now);
            if let Some(copy) = self.copies.of_mut(hash) {
                copy.dirty = true;
            }
        });
    }

    /// The default store has gone on with these keys without the other one: what that held counts no more.
    pub(super) fn went_on_alone(&mut self, touched: &Touched, db: u32) {
        touched.each(|hash, _| {
            if self.known.of(hash) == Sync::Suspect(self.default_store()) {
                self.known.forget(hash);
            }
        });
        self.doubt_from_here(touched, db, self.default_store().other());
        touched.each(|hash, _| self.known.go_on_alone(hash));
    }

    /// `store` has answered a write that carries values from key to key. If one of them came into doubt after it had
    /// been placed, so does what it wrote.
    pub(super) fn pass_doubt_on(&mut self, key: OpKey) {
        if self.taints.is_empty() {
            return;
        }
        let Some(op) = self.ops.get(key).filter(|op| op.write) else { return };
        let Touched::Many(keys) = &op.touched else { return };
        let sources = op.extra.as_ref().map(|extra| &*extra.sources).unwrap_or_default();
        let carried = keys.iter().map(|(hash, _)| *hash).chain(sources.iter().copied());
        if self.taints.touch(carried, op.started) {
            self.doubt_op(key);
        }
    }

    /// The default store has answered a write: where it has replaced values, or was seen to have had some, what it holds
    /// of these keys counts from now on. One that went on alone may have found nothing to change, and is not counted.
    pub(super) fn warm_keys(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        if self.known.suspects() == 0 {
            return;
        }
        let Some(op) = self.ops.get(key).filter(|op| op.write && op.default == store) else {
            return;
        };
        let known = &mut self.known;
        if op.derived {
            if !has_error(frame) {
                op.touched.each(|hash, _| known.warm(hash));
            }
        } else if op.ran_alone() && self.table.spec(op.command).kind != Kind::Script {
            let reply = match op.owner {
                Owner::Attempt(_) => attempted(frame),
                _ => frame,
            };
            if let Ok(reply) = Value::parse(reply) {
                op.touched.each_found(&reply, |hash| known.warm(hash));
            }
        } else if let Some(extra) = op.extra.as_ref().filter(|extra| !extra.written.is_empty())
            && let Ok(Value::Array(replies)) = Value::parse(frame)
        {
            for (written, reply) in extra.written.iter().skip(1).zip(&replies) {
                written.each_found(reply, |hash| known.warm(hash));
            }
        }
    }

    /// The stores have parted over this operation: the other one is behind in its keys.
    pub(super) fn doubt_op(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key) else { return };
        let (touched, db, behind) = (op.touched.clone(), op.context.db, op.default.other());
        self.doubt(&touched, db, behind);
    }

    /// A store has answered a write that counts its time to live from when it runs. That was at any time since it was
    /// placed: if this is long ago, the stores may have run it at times too far apart.
    pub(super) fn note_delay(&mut self, key: OpKey) {
        let tolerance = self.settings.ttl_tolerance.as_micros() as u64;
        let Some(op) = self.ops.get(key) else { return };
        if self.now.saturating_sub(op.started) > tolerance {
            self.doubt_op(key);
        }
    }

    /// A write on a dedicated connection has an unknown outcome.
    pub fn doubt_effect(&mut self, footprint: &Footprint, frame: &[u8], scope: Scope, db: u32) {
        let touched = match scope {
            Scope::Keys => Touched::of(footprint, frame, true),
            _ if !scope.is_named() => named(footprint, frame),
            _ => Touched::Everything,
        };
        if !scope.is_named() {
            // It may run later than anybody listens.
            self.owe_walk();
        }
        self.doubt(&touched, db, self.default_store().other());
    }

    /// Has this store not answered the last write to the key yet?
    pub(super) fn is_pending_on(&self, store: StoreId, hash: u64) -> bool {
        self.recent[store.index()].is_pending(hash, self.lane(store).answered())
    }

    /// What the two stores know, as far as effects need it.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialects[self.default_store().index()]
    }

    /// Tells what the stores know; indexed by default store.
    pub fn set_dialects(&mut self, dialects: [Dialect; 2]) {
        self.dialects = dialects;
    }

    /// How a command may be mirrored. `writes`: whether this request does.
    #[inline]
    pub fn way<A: Args + ?Sized>(&mut self, id: CommandId, writes: bool, args: &A) -> ScriptWay {
        match writes && self.recipes.is_plain(id) {
            true => ScriptWay::plain(Way::Verbatim),
            false => self.way_of(id, writes, args),
        }
    }

    fn way_of<A: Args + ?Sized>(&mut self, id: CommandId, writes: bool, args: &A) -> ScriptWay {
        let spec = self.table.spec(id);
        if spec.kind == Kind::Script || (spec.kind == Kind::ServerWrite && spec.name == "script|load") {
            return self.scripts.way(&spec.name, args);
        }
        let way = match self.recipes.get(id) {
            Recipe::Verbatim if writes => Way::Verbatim,
            recipe => recipe.way(spec, args),
        };
        ScriptWay::plain(way)
    }

    /// Functions may be changed at this point of the order.
    pub(super) fn note_functions(&mut self, scope: Scope) {
        if matches!(scope, Scope::Functions | Scope::Unlisted | Scope::Anywhere) {
            self.function_changes += 1;
        }
    }

    /// Rises whenever functions may have been changed: what was read of them before is not what they are.
    pub fn function_changes(&self) -> u64 {
        self.function_changes
    }

    /// Keys that no command declared may have been written on one store only.
    pub fn owe_walk(&mut self) {
        self.owes_walk |= self.stage().is_dual() && self.settings.hydrate;
    }

    /// Are the stores to be walked, since undeclared keys may have been written? Asked once.
    pub fn take_owed_walk(&mut self) -> bool {
        std::mem::take(&mut self.owes_walk)
    }

    /// Are the stores to be walked?
    pub fn owes_walk(&self) -> bool {
        self.owes_walk
    }

    /// Does a write need what only the other store knows of these keys?
    pub(super) fn lacks_keys_of(&self, footprint: &Footprint) -> bool {
        self.stage().is_dual()
            && self.settings.hydrate
            && plan(Way::Verbatim, footprint.keys(), |hash| self.standing(hash)) == Plan::Hydrate
    }

    /// Starts copying what only the other store knows of these keys.
    pub fn hydrate_for(&mut self, footprint: &Footprint, frame: &[u8], db: u32) -> TakeOver {
        if !self.lacks_keys_of(footprint) {
            return TakeOver::Done;
        }
        if self.holds.blocks(footprint) {
            return TakeOver::HeldUp;
        }
        match self.hydrate(footprint, frame, db) {
            Hydration::Begun => TakeOver::Begun,
            Hydration::Unreachable | Hydration::Refused(_) => TakeOver::Done,
        }
    }

    /// Is a write to one of these keys, or a copy, on its way to the default store? What comes on another
    /// connection may overtake it.
    pub fn is_write_pending(&self, hashes: &[u64]) -> bool {
        self.stage().is_dual() && hashes.iter().any(|hash| self.is_pending_on(self.default_store(), *hash))
    }

    /// Does a fence stand around these keys, of a copy or of somebody else? Then the client is woken when one comes down.
    pub fn awaits_hydration(&mut self, client: ClientKey, footprint: &Footprint) -> bool {
        let awaits = self.holds.blocks(footprint);
        if awaits && !self.hydration_waiters.iter().any(|(waiter, _)| *waiter == client) {
            self.hydration_waiters.push((client, footprint.clone()));
        }
        awaits
    }

    /// A store was left behind, or is to be made equal to the other one: what only it has counts for nothing.
    pub fn doubt_store(&mut self, behind: StoreId) {
        self.known.blame(behind);
        self.dirty_all_copies();
    }

    /// A store came back as another server, or keys were written that nobody can name. What only it has counts
    /// as it did before.
    pub fn doubt_unnamed(&mut self, behind: StoreId) {
        self.known.doubt_any(behind);
        self.dirty_all_copies();
    }

    /// What a crash must not make forgotten.
    pub fn to_record(&self) -> Recorded {
        Recorded {
            stage: self.flagged,
            base: self.known.base(),
            doubted: self.doubted_source,
            suspects: self.known.listings_of(self.default_store()),
        }
    }

    /// Keys in which the other store is right, not the default store: what a start would not guess.
    pub fn suspects_on_default(&self) -> impl Iterator<Item = &Suspect> {
        self.known.listed_behind(self.default_store())
    }

    /// The store that is being repaired as a whole.
    pub fn behind_as_a_whole(&self) -> Option<StoreId> {
        match self.known.base() {
            Sync::Suspect(behind) => Some(behind),
            Sync::Unknown if self.known.is_stale() => Some(StoreId::Secondary),
            Sync::Unknown | Sync::InSync => None,
        }
    }

    /// What is known of keys that are not listed.
    pub fn sync_base(&self) -> Sync {
        self.known.base()
    }

    /// What is known of one key.
    pub fn sync_of(&self, hash: u64) -> Sync {
        self.known.of(hash)
    }

    /// Keys that are listed as suspect, and the age of the oldest in microseconds.
    pub fn suspects(&self) -> (usize, u64) {
        let age = self.known.oldest().map_or(0, |since| self.now.saturating_sub(since));
        (self.known.suspects(), age)
    }

    /// Keys that are listed as suspect on `store` for longer than `micros`.
    pub fn suspects_behind(&self, store: StoreId, micros: u64) -> u64 {
        self.known.suspects_behind(store, self.now.saturating_sub(micros)) as u64
    }

    /// Keys that could not be copied to `store` in several attempts.
    pub fn stuck_behind(&self, store: StoreId) -> u64 {
        self.known.stuck_behind(store) as u64
    }

    /// Rises whenever doubt has spread beyond what is listed.
    pub fn spread(&self) -> u64 {
        self.known.spread()
    }

    /// The default store may have lost writes: nothing is deleted elsewhere on its word, until an
    /// operator says which store is right.
    pub fn doubt_source(&mut self, source: Option<StoreId>) {
        self.doubted_source = source;
    }

    /// The store that may have lost writes, if any.
    pub fn doubted_source(&self) -> Option<StoreId> {
        self.doubted_source
    }

    /// Is every key in sync?
    pub fn is_all_in_sync(&self) -> bool {
        self.known.is_all_in_sync()
    }

    /// A walk has copied everything that was not in sync: from here on only the listed are in doubt.
    pub fn walked(&mut self) {
        match self.known.base() {
            Sync::Unknown => self.known.refreshed(),
            Sync::InSync | Sync::Suspect(_) => self.known.settle_everything(),
        }
    }

    /// A backfill has passed over the whole keyspace: from here on only the listed are in doubt. False: doubt has
    /// spread since it began, when [`Sequencer::spread`] was this.
    pub fn filled(&mut self, spread: u64) -> bool {
        let holds = self.stage().is_dual() && self.known.base() == Sync::Unknown && self.spread() == spread;
        if holds {
            self.known.settle_everything();
        }
        holds
    }

    /// The stage has changed from `before`: a store that was left is behind as a whole.
    pub(super) fn know_stage(&mut self, before: Stage) {
        let now = self.stage();
        if !now.is_dual() && (before.is_dual() || before.default_store() != now.default_store()) {
            self.drop_copies();
            self.ends.clear();
            self.known.blame(now.default_store().other());
            // All of it is walked for when dual goes on again.
            self.owes_walk = false;
        }
    }
}

/// May keys be gone afterwards, since their time is over as soon as it is set? A time by the store's clock may lie in the
/// past, and a hash is gone with its last field.
fn may_end_at_once(expiry: Expiry) -> bool {
    match expiry {
        Expiry::In(life) => life == 0,
        Expiry::At | Expiry::Fields | Expiry::Untold => true,
        Expiry::Keeps | Expiry::Carried => false,
    }
}

/// May one of these keys be gone afterwards? What is made of other keys may be nothing.
fn may_remove(footprint: &Footprint) -> bool {
    let keys = footprint.keys();
    let made_of_others =
        || keys.iter().any(|key| key.access == Access::Read) && keys.iter().any(|key| key.access.writes());
    keys.iter().any(|key| key.access.may_remove()) || keys.len() > 1 && made_of_others()
}

/// Does a write of several keys depend on what one of them held?
fn carries(footprint: &Footprint) -> bool {
    let keys = footprint.keys();
    keys.len() > 1
        && keys.iter().any(|key| key.access.depends())
        && keys.iter().any(|key| key.access.writes())
}
