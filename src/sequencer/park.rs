//! Blocking commands while dual: they never block on a store.
//!
//! The command runs in the lanes as MULTI, the command, EXEC, where it answers at once. On nil the
//! client is parked here, first come first served per key, and tried again right behind each
//! command that may fill its keys, and every `blocking_poll` for writers that don't pass here.
//!
//! Invariants: a parked client has at most one attempt in flight; what an attempt took is paid to
//! the client even if its time ran out meanwhile.

mod line;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::command::{CommandId, Rule};
use crate::compare::Verdict;
use crate::mirror::Way;
use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::clients::ClientKey;
use super::copy::Hydration;
use super::fence::Footprint;
use super::lane::Context;
use super::op::{Kept, OpKey, Owner, Policy, Reply};
use super::plan::Plan;
use super::touched::Touched;
use super::{Expiry, Scope, Sequencer};
use line::{Owed, Park};

pub use line::ParkKey;
pub(super) use line::Parks;

/// A blocking command that is to be tried until it has an answer.
pub struct Parking {
    /// Who waits.
    pub client: ClientKey,
    /// The slot for the reply.
    pub seq: u64,
    /// Which command.
    pub command: CommandId,
    /// Database and protocol.
    pub context: Context,
    /// MULTI, the command, EXEC: encoded.
    pub frame: Box<[u8]>,
    /// What the command touches; spans refer to `frame`.
    pub footprint: Footprint,
    /// How the command may be mirrored.
    pub way: Way,
    /// Does the default store tell a client whose stream went away so in words of its own (before Redis 7.2), where
    /// later ones run the command again and show its error?
    pub words_gone_stream: bool,
    /// It has been looked at already that the keys are of the right type.
    pub looked_at: bool,
    /// When the client's time is up, on the sequencer's clock.
    pub deadline: Option<u64>,
}

/// How a wait ends without an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were up.
    Timeout,
    /// With an error, as CLIENT UNBLOCK … ERROR does.
    Error,
    /// The client has closed its half: it is not answered any more.
    Gone,
}

/// What Redis tells a client that waits in XREADGROUP.
const GROUP_GONE: &[u8] = b"-NOGROUP the consumer group this client was blocked on no longer exists\r\n";
const STREAM_GONE: &[u8] = b"-UNBLOCKED the stream key no longer exists\r\n";
/// Replies of MULTI, the command, EXEC.
const ATTEMPT_REPLIES: u32 = 3;
/// Waiting lines looked at in one go behind a command of unknown effect, or by the poll.
const MAX_LINES: usize = 1024;
/// Bytes of requests that the poll may send in a second. A store is busy for longer than `blocking_poll` with a million
/// keys: polled at that pace, one client that waits for so many would have it for itself.
const POLL_BYTES: u64 = 1 << 20;
/// A second, on the sequencer's clock.
const MICROS: u64 = 1_000_000;

// === impl Parking ===

impl Parking {
    fn hashes(&self) -> Vec<u64> {
        self.footprint.keys().iter().map(|key| key.hash).collect()
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Tries a blocking command at once, and parks its client if it has no answer yet.
    pub fn park(&mut self, parking: Parking) {
        self.hurry_lone_read(parking.client);
        let key = self.parks.insert(parking);
        self.attempt_in_turn(key, u64::MAX, 1);
    }

    /// Is this client parked?
    pub fn is_parked(&self, client: ClientKey) -> bool {
        self.parks.by_client.contains_key(&client)
    }

    /// CLIENT UNBLOCK for a parked client. False: it is not parked.
    pub fn unblock(&mut self, client: ClientKey, how: Unblock) -> bool {
        let Some(key) = self.parks.by_client.get(&client).copied() else { return false };
        self.end_park(key, how);
        true
    }

    /// The client has closed its half. What an attempt in flight takes is still paid; nothing more is tried.
    pub fn abandon(&mut self, client: ClientKey) {
        self.unblock(client, Unblock::Gone);
    }

    /// Lets all parked clients without an attempt in flight go: their sessions wait on a store.
    pub(super) fn unpark_if_single(&mut self) {
        if self.stage().is_dual() {
            return;
        }
        let idle: Vec<ParkKey> = self
            .parks
            .slab
            .iter()
            .filter(|(_, park)| !park.in_flight)
            .map(|(index, park)| ParkKey { index: index as u32, id: park.id })
            .collect();
        idle.into_iter().for_each(|key| self.let_go(key));
    }

    fn let_go(&mut self, key: ParkKey) {
        if let Some(park) = self.parks.remove(key) {
            self.holds.forget_attempt(key);
            self.clients.wake(park.parking.client);
        }
    }

    pub(super) fn drop_park_of(&mut self, client: ClientKey) {
        if let Some(key) = self.parks.by_client.get(&client).copied() {
            self.leave(key);
        }
    }

    /// A client leaves its lines without an element; who was to be tried behind it is tried now.
    fn leave(&mut self, key: ParkKey) -> Option<Park> {
        let park = self.parks.remove(key)?;
        let held = self.holds.forget_attempt(key);
        if let Some(owed) = park.again {
            self.serve_parked(&park.parking.footprint, owed.count);
        }
        if held {
            self.release_held();
        }
        Some(park)
    }

    /// Tries the clients that a write to `footprint` may serve: `count` of each line.
    pub(super) fn serve_parked(&mut self, footprint: &Footprint, count: usize) {
        if self.parks.is_empty() {
            return;
        }
        let since = self.lane(self.default_store()).appended();
        self.serve_parked_since(footprint, count, since);
    }

    /// The same; who was tried behind position `since` of the default lane has had his turn.
    fn serve_parked_since(&mut self, footprint: &Footprint, count: usize, since: u64) {
        match footprint {
            Footprint::Nothing => {}
            Footprint::Everything => self.serve_fronts(since),
            Footprint::Keys(keys) => {
                keys.iter().for_each(|key| self.serve_line(key.hash, count.min(MAX_LINES), since));
            }
        }
    }

    /// Tries the first of every line.
    fn serve_fronts(&mut self, since: u64) {
        self.parks.fronts().into_iter().for_each(|key| {
            self.attempt_in_turn(key, since, 1);
        });
    }

    /// Tries a client, unless somebody in front of it in any of its lines, whose attempt is in flight or owed, must have
    /// his turn first: behind him it is tried as well, with `count` of its lines. True: it is tried.
    fn attempt_in_turn(&mut self, key: ParkKey, since: u64, count: usize) -> bool {
        let Some(other) = self.parks.busy_before(key, since) else {
            self.attempt(key);
            return true;
        };
        // Who comes new has nobody's turn behind him yet.
        let since = since.min(self.lane(self.default_store()).appended());
        self.parks.try_again(other, Owed { count: MAX_LINES, since });
        if let Some(park) = self.parks.get_mut(key) {
            park.behind = Some(Owed { count, since }.with(park.behind));
        }
        false
    }

    /// Tries the first `count` of a line, in their order.
    fn serve_line(&mut self, hash: u64, count: usize, since: u64) {
        for key in self.parks.first_in_line(hash, count) {
            if self.parks.is_tried_since(key, since) {
                continue;
            }
            if self.parks.is_busy(key) {
                self.parks.try_again(key, Owed { count, since });
                return;
            }
            if !self.attempt_in_turn(key, since, count) {
                return;
            }
        }
    }

    fn attempt(&mut self, key: ParkKey) {
        self.parks.turns.push_back(key);
        if std::mem::replace(&mut self.parks.taking_turns, true) {
            return;
        }
        while let Some(key) = self.parks.turns.pop_front() {
            self.attempt_now(key);
        }
        self.parks.taking_turns = false;
    }

    fn attempt_now(&mut self, key: ParkKey) {
        let once = self.owed_once();
        let Some(park) = self.parks.get_mut(key) else { return };
        if park.in_flight {
            park.again.get_or_insert(once);
            return;
        }
        let footprint = park.parking.footprint.clone();
        if !self.holds.is_open() && self.holds.blocks(&footprint) {
            self.defer(key);
            return;
        }
        let (way, command, context) = (park.parking.way, park.parking.command, park.parking.context);
        let frame = park.parking.frame.clone();
        let plan = self.plan_of(way, &footprint, Scope::Keys);
        if plan == Plan::Hydrate {
            match self.hydrate(&footprint, &frame, context.db) {
                Hydration::Unreachable => {}
                Hydration::Begun => {
                    self.defer(key);
                    return;
                }
                Hydration::Refused(error) => {
                    self.pay_parked(key, &error);
                    return;
                }
            }
        }
        if let Some(park) = self.parks.get_mut(key) {
            park.in_flight = true;
            park.again = park.behind.take().filter(|owed| owed.count > 1);
        }
        self.send_attempt(key, plan, command, context, &frame, way, &footprint);
        let position = self.lane(self.default_store()).appended();
        if let Some(park) = self.parks.get_mut(key) {
            park.position = position;
        }
        self.note_write(&footprint);
    }

    /// One attempt more than those that have been placed.
    fn owed_once(&self) -> Owed {
        Owed { count: 1, since: self.lane(self.default_store()).appended() }
    }

    /// The attempt takes its place behind the fence that stands in its way.
    fn defer(&mut self, key: ParkKey) {
        let once = self.owed_once();
        let Some(park) = self.parks.get_mut(key) else { return };
        park.again.get_or_insert(once);
        if !std::mem::replace(&mut park.held, true) {
            let (client, footprint) = (park.parking.client, park.parking.footprint.clone());
            self.hold_attempt(client, key, footprint);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn send_attempt(
        &mut self,
        key: ParkKey,
        plan: Plan,
        command: CommandId,
        context: Context,
        frame: &[u8],
        way: Way,
        footprint: &Footprint,
    ) {
        let default = self.default_store();
        let mut op = self.own_op(Owner::Attempt(key), command, Policy::Authority(default), context);
        op.write = true;
        op.due = self.due(footprint);
        op.touched = Touched::of(footprint, frame, true);
        match plan {
            Plan::Verbatim | Plan::Accepted => {
                if self.must_be_gone(footprint, Scope::Keys, Expiry::Keeps) {
                    op.policy = Policy::Both(default);
                }
                self.send_counted(op, frame, &StoreId::ALL, ATTEMPT_REPLIES);
            }
            Plan::Derived => {
                op.policy = Policy::Single(default);
                self.send_derived(op, frame, ATTEMPT_REPLIES, vec![way]);
            }
            Plan::Copied | Plan::Hydrate => {
                op.policy = Policy::Single(default);
                self.send_alone(op, frame, ATTEMPT_REPLIES, footprint, Scope::Keys);
            }
        }
    }

    /// A store's answer to an attempt. The default store's counts; what it took may have to be gone on both.
    pub(super) fn attempt_reply(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
        op.replies[store.index()] = Reply::Kept(Kept::new(frame, usize::MAX));
        let took = op.replies[op.default.index()].frame().is_some_and(took);
        let waits = took && matches!(op.policy, Policy::Both(_));
        if !op.answered && !waits && store == op.default {
            self.answer(key, store, frame);
        }
        self.compare_attempt(key);
        self.settle(key);
    }

    /// What an attempt took must have been taken on both stores alike.
    fn compare_attempt(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key) else { return };
        let default = op.default;
        if op.is_open() {
            return;
        }
        if matches!(op.policy, Policy::Single(_)) {
            return;
        }
        let mine = op.replies[default.index()].frame();
        let theirs = op.replies[default.other().index()].frame();
        let took = mine.is_some_and(took);
        let alike = match (mine, theirs) {
            (Some(mine), Some(theirs)) => {
                mine == theirs
                    || crate::compare::equal(Rule::Exact, mine, theirs, Duration::ZERO) == Verdict::Same
            }
            _ => !took,
        };
        if !alike {
            let (touched, db) = (op.touched.clone(), op.context.db);
            self.doubt(&touched, db, default.other());
        }
    }

    /// The fence is down that held up an attempt. Who stands before it in one of its lines may have taken his place
    /// behind it, since it spoke for the key of the line: he has his turn first.
    pub(super) fn attempt_released(&mut self, key: ParkKey) {
        let Some(park) = self.parks.get_mut(key) else { return };
        park.held = false;
        let Some(first) = self.parks.held_before(key) else { return self.attempt_again(key) };
        let owed = Owed { count: MAX_LINES, ..self.owed_once() };
        self.parks.try_again(first, owed);
        if let Some(park) = self.parks.get_mut(key) {
            let (again, behind) = (park.again.take(), park.behind);
            park.behind = again.map(|again| again.with(behind)).or(behind);
        }
    }

    /// The attempt that is owed, and those of the ones behind.
    fn attempt_again(&mut self, key: ParkKey) {
        let Some(park) = self.parks.get_mut(key) else { return };
        let Some(owed) = park.again.take() else { return };
        let footprint = park.parking.footprint.clone();
        // Another store may be the default by now, whose lane counts for itself.
        let since = owed.since.min(self.lane(self.default_store()).appended());
        self.attempt(key);
        self.serve_parked_since(&footprint, owed.count, since);
    }

    /// The default store's answer to an attempt: EXEC's reply, or an error. True: it took something.
    pub(super) fn attempt_settled(&mut self, key: ParkKey, frame: &[u8]) -> bool {
        let dual = self.stage().is_dual();
        let Some(park) = self.parks.get_mut(key) else { return false };
        park.in_flight = false;
        let first = !std::mem::replace(&mut park.tried, true) && !park.parking.looked_at;
        let inner = attempted(frame);
        // Who waits already is not told that a key has become something else meanwhile: it may become right again.
        let name = &*self.table.spec(park.parking.command).name;
        let told = matches!(name, "blmove" | "brpoplpush" | "xreadgroup");
        let other_type = !first && !told && inner.starts_with(b"-WRONGTYPE");
        let found = !is_nil(inner) && !other_type;
        if found {
            let reworded = !first && name == "xreadgroup" && park.parking.words_gone_stream;
            let reply = match inner.get(..8) {
                Some(b"-NOGROUP") if reworded => GROUP_GONE,
                Some(b"-WRONGTY") if reworded => STREAM_GONE,
                _ => inner,
            };
            self.pay_parked(key, reply);
        } else if let Some(how) = park.ended {
            self.pay_ended(key, how);
        } else if !dual {
            self.let_go(key);
        } else if park.again.is_some() {
            self.attempt_again(key);
        } else if other_type {
            let hashes: Vec<u64> = park.parking.hashes();
            let since = self.lane(self.default_store()).appended();
            self.parks.next_in_line(key, &hashes).into_iter().for_each(|next| {
                self.attempt_in_turn(next, since, 1);
            });
        }
        found
    }

    fn pay_parked(&mut self, key: ParkKey, reply: &[u8]) {
        let Some(park) = self.parks.remove(key) else { return };
        self.clients.pay(park.parking.client, park.parking.seq, reply);
        self.clients.wake(park.parking.client);
        self.serve_parked(&park.parking.footprint, park.again.map_or(1, |owed| owed.count.max(1)));
    }

    fn end_park(&mut self, key: ParkKey, how: Unblock) {
        let Some(park) = self.parks.get_mut(key) else { return };
        park.ended = Some(how);
        // A store looks before it waits: whose time runs out while a fence holds it up is tried that once.
        let looks_first = how == Unblock::Timeout && !park.tried;
        if !park.in_flight && !looks_first {
            self.pay_ended(key, how);
        }
    }

    fn pay_ended(&mut self, key: ParkKey, how: Unblock) {
        let Some(park) = self.leave(key) else { return };
        if how != Unblock::Gone {
            let reply = ended_reply(how, park.parking.context.proto);
            self.clients.pay(park.parking.client, park.parking.seq, &reply);
        }
        self.clients.wake(park.parking.client);
    }

    pub(super) fn tick_parks(&mut self) {
        while let Some((deadline, key)) = self.parks.deadlines.first().copied() {
            if deadline > self.now {
                break;
            }
            self.parks.deadlines.pop_first();
            self.end_park(key, Unblock::Timeout);
        }
        if self.parks.is_empty() || self.now < self.parks.next_poll {
            return;
        }
        let poll = self.settings.blocking_poll.as_micros() as u64;
        let (since, fronts) = (self.lane(self.default_store()).appended(), self.parks.fronts());
        let costs = self.parks.bytes_of(&fronts).saturating_mul(MICROS) / POLL_BYTES;
        self.parks.next_poll = self.now.saturating_add(poll.max(costs));
        self.serve_fronts(since);
    }

    /// How many clients are parked.
    pub fn parked(&self) -> usize {
        self.parks.len()
    }
}

/// Did an attempt with this reply take something, or fail?
fn took(reply: &[u8]) -> bool {
    !is_nil(attempted(reply))
}

/// What the command has answered, in EXEC's reply to an attempt.
pub(super) fn attempted(reply: &[u8]) -> &[u8] {
    reply.strip_prefix(b"*1\r\n").unwrap_or(reply)
}

fn is_nil(reply: &[u8]) -> bool {
    matches!(reply, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n")
}

/// What a client gets whose wait ended without an element, as Redis words it.
pub fn ended_reply(how: Unblock, proto: Proto) -> Vec<u8> {
    let mut reply = Vec::new();
    match how {
        Unblock::Timeout | Unblock::Gone => encode::nil_array(&mut reply, proto),
        Unblock::Error => encode::error(&mut reply, b"UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    }
    reply
}
