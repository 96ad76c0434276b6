//! The queue of one store: what has been put on its connection, and what is owed in return.
//!
//! A lane is a stream with context, like a replication stream: database and protocol version are
//! switched by the lane itself, never by a client's bytes. Pure: the driver in [`crate::store`]
//! moves `out` to the socket and frames back.
//!
//! Invariants:
//! - every request in `out` or on the wire has one [`Awaited`] entry, in order;
//! - an entry in `held` has not left the process: it can still be refused without doubt;
//! - a database is used only after this store has answered OK to its SELECT on this connection.

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::metrics::StoreErrorKind;
use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::op::OpKey;

/// Where in the database space, and in which protocol version, a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// Logical database, as the store numbers it.
    pub db: u32,
    /// Protocol version in which the reply is wanted.
    pub proto: Proto,
}

/// Who gets the replies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// An operation of the sequencer.
    Op(OpKey),
    /// The lane's own `SELECT`.
    Select(u32),
    /// The lane's own `HELLO`.
    Hello(Proto),
    /// The lane's own numbered `ECHO`: proves that replies still match requests.
    Mark(u64),
    /// Nobody any more: the reply is read and dropped.
    Nobody,
}

/// A request whose replies are still owed by the store.
#[derive(Debug)]
pub struct Awaited {
    /// Who gets the replies.
    pub sink: Sink,
    /// Replies still to come (a transaction has several).
    pub left: u32,
    /// Replies that have come.
    pub seen: u32,
    /// Size of the request in bytes, counted as lag until answered.
    pub bytes: u32,
    /// When it was appended, in microseconds of the sequencer's clock.
    pub at: u64,
}

/// A request that has not left the process.
#[derive(Debug)]
pub struct Held {
    /// Database and protocol to run under.
    pub context: Context,
    /// The encoded request; `None` marks a place that an effect will fill.
    pub frame: Option<Box<[u8]>>,
    /// Who gets the replies.
    pub sink: Sink,
    /// How many replies the request has.
    pub replies: u32,
    /// When it was appended, in microseconds of the sequencer's clock.
    pub at: u64,
}

/// The state of a lane's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A first attempt to (re)connect is under way: requests wait in `held`.
    Dialing,
    /// Connected and shaken hands.
    Up,
    /// The last attempt failed: requests are refused. The text says why.
    Down(DownReason),
}

/// Why a store is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownReason {
    /// What it is counted as.
    pub kind: StoreErrorKind,
    /// For people: what failed and against which address.
    pub text: String,
    /// The store's own error line when it answered with one (`LOADING …`), without `-` and CRLF.
    pub store_error: Option<String>,
}

/// What a reply on the lane was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Who gets it.
    pub sink: Sink,
    /// Its number among the request's replies.
    pub index: u32,
    /// Is it the last of them?
    pub last: bool,
    /// When the request was appended.
    pub at: u64,
}

/// Something a lane found out about its context.
#[derive(Debug)]
pub enum ContextOutcome {
    /// Nothing changed for waiting requests.
    Fine,
    /// The store refused the database: these requests can't run, with the store's error frame.
    Refused(Vec<Held>),
    /// A reply that can't belong to the lane's own request: the lane is out of step.
    OutOfStep,
}

/// The queue of one store.
#[derive(Debug)]
pub struct Lane {
    /// Whose queue this is.
    pub store: StoreId,
    /// Connection state.
    pub link: Link,
    /// Bytes ready for the socket.
    pub out: Vec<u8>,
    awaited: VecDeque<Awaited>,
    /// How many entries at the front of `awaited` have been expired already.
    expired: usize,
    /// How many entries, of `awaited` and then `held`, have been told to be late already.
    late: usize,
    held: VecDeque<Held>,
    held_bytes: u64,
    awaited_bytes: u64,
    sent: Option<Context>,
    usable: HashSet<u32, foldhash::fast::RandomState>,
    selecting: Option<u32>,
    has_resp3: bool,
    /// Where a store's URL names a database, the instance's database 0 is that one.
    base_db: u32,
    /// A reply is coming in piece by piece.
    pub in_reply: bool,
    appended: u64,
    answered: u64,
    /// Requests appended since the last numbered ECHO.
    since_mark: u32,
    next_mark: u64,
    /// What this lane's marks begin with. Nobody can guess it, so no value that a client has stored
    /// is taken for a mark.
    mark: String,
    round_trip: Option<u64>,
    /// When the last byte came from the store, or the last request was appended to an idle lane.
    pub heard_at: u64,
}

/// A numbered ECHO rides behind this many requests.
const MARK_EVERY: u32 = 4096;
/// Bytes of a mark's reply besides what all marks of a lane begin with: a number, and the framing.
const MARK_FRAME_BYTES: usize = 32;

// === impl Lane ===

impl Lane {
    /// A lane whose first connection attempt is under way.
    pub fn new(store: StoreId, base_db: u32) -> Lane {
        Lane {
            store,
            link: Link::Dialing,
            out: Vec::new(),
            awaited: VecDeque::new(),
            expired: 0,
            late: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            awaited_bytes: 0,
            sent: None,
            usable: HashSet::default(),
            selecting: None,
            has_resp3: false,
            base_db,
            in_reply: false,
            appended: 0,
            answered: 0,
            since_mark: 0,
            next_mark: 0,
            mark: format!("multistore-mark-{:016x}-", RandomState::new().hash_one(store.index())),
            round_trip: None,
            heard_at: 0,
        }
    }

    /// Bytes that the store has not answered yet.
    pub fn queued_bytes(&self) -> u64 {
        self.held_bytes + self.awaited_bytes
    }

    /// Requests that the store has not answered yet.
    pub fn depth(&self) -> usize {
        self.held.len() + self.awaited.len()
    }

    /// From appending the last answered request to its reply, in microseconds.
    pub fn round_trip(&self) -> Option<u64> {
        self.round_trip
    }

    /// How many requests have been appended, ever: the position of the tail.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// The position up to which the store has answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// When the oldest unanswered request was appended.
    pub fn oldest(&self) -> Option<u64> {
        self.awaited.front().map(|a| a.at).or_else(|| self.held.front().map(|h| h.at))
    }

    /// Can a request be appended (now, or behind a first attempt to connect)?
    pub fn accepts(&self) -> bool {
        !matches!(self.link, Link::Down(_))
    }

    /// Is the connection there?
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Appends a request. Its place in the store's order is fixed from here on.
    pub fn append(&mut self, context: Context, frame: &[u8], sink: Sink, replies: u32, now: u64) {
        self.appended += 1;
        if self.held.is_empty() && self.is_up() && self.enter(context, now) {
            self.emit(frame, sink, replies, now);
            return;
        }
        self.hold(Held { context, frame: Some(frame.into()), sink, replies, at: now });
    }

    /// Reserves a place that [`Lane::fill`] or [`Lane::vacate`] decides about later. Whatever is
    /// appended behind it waits.
    pub fn reserve(&mut self, context: Context, op: OpKey, now: u64) {
        self.appended += 1;
        self.hold(Held { context, frame: None, sink: Sink::Op(op), replies: 0, at: now });
    }

    /// Fills the place reserved for `op`.
    pub fn fill(&mut self, op: OpKey, frame: Box<[u8]>, replies: u32, now: u64) -> bool {
        let Some(place) = self.place_of(op) else { return false };
        self.held_bytes += frame.len() as u64;
        self.held[place].frame = Some(frame);
        self.held[place].replies = replies;
        self.pump(now);
        true
    }

    /// Gives the place reserved for `op` up.
    pub fn vacate(&mut self, op: OpKey, now: u64) {
        if let Some(place) = self.place_of(op) {
            self.held.remove(place);
            self.answered += 1;
            self.pump(now);
        }
    }

    fn place_of(&self, op: OpKey) -> Option<usize> {
        self.held.iter().position(|h| h.frame.is_none() && h.sink == Sink::Op(op))
    }

    fn hold(&mut self, held: Held) {
        self.held_bytes += held.frame.as_ref().map_or(0, |f| f.len() as u64);
        self.held.push_back(held);
    }

    /// Sends what no longer has to wait.
    pub fn pump(&mut self, now: u64) {
        while self.is_up() {
            let Some(front) = self.held.front() else { return };
            if front.frame.is_none() {
                return;
            }
            let context = front.context;
            if !self.enter(context, now) {
                return;
            }
            let Some(held) = self.held.pop_front() else { return };
            let frame = held.frame.unwrap_or_default();
            self.held_bytes -= frame.len() as u64;
            if self.awaited.is_empty() {
                // The store is silent about it from now on, however long it was held.
                self.heard_at = self.heard_at.max(now);
            }
            self.emit(&frame, held.sink, held.replies, held.at);
        }
    }

    fn emit(&mut self, frame: &[u8], sink: Sink, replies: u32, at: u64) {
        if self.awaited.is_empty() {
            self.heard_at = self.heard_at.max(at);
        }
        self.out.extend_from_slice(frame);
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.awaited_bytes += u64::from(bytes);
        self.awaited.push_back(Awaited { sink, left: replies, seen: 0, bytes, at });
        self.since_mark += 1;
        if self.since_mark >= MARK_EVERY {
            self.mark(at);
        }
    }

    fn own(&mut self, args: &[&[u8]], sink: Sink, at: u64) {
        if self.awaited.is_empty() {
            self.heard_at = self.heard_at.max(at);
        }
        encode::command(&mut self.out, args);
        self.awaited.push_back(Awaited { sink, left: 1, seen: 0, bytes: 0, at });
    }

    fn mark(&mut self, at: u64) {
        self.since_mark = 0;
        self.next_mark += 1;
        let text = format!("{}{}", self.mark, self.next_mark);
        self.own(&[b"ECHO", text.as_bytes()], Sink::Mark(self.next_mark), at);
    }

    /// Switches the stream to `context` if need be. False: the database must be answered first.
    fn enter(&mut self, context: Context, now: u64) -> bool {
        let proto = if self.has_resp3 { context.proto } else { Proto::Resp2 };
        let wanted = Context { db: context.db + self.base_db, proto };
        if self.selecting.is_some() {
            return false;
        }
        if self.sent == Some(wanted) {
            return true;
        }
        if self.sent.map(|c| c.proto) != Some(proto) {
            let version: &[u8] = if proto == Proto::Resp3 { b"3" } else { b"2" };
            if self.has_resp3 {
                self.own(&[b"HELLO", version], Sink::Hello(proto), now);
            }
        }
        let mut ready = true;
        if self.sent.map(|c| c.db) != Some(wanted.db) {
            let mut number = itoa::Buffer::new();
            self.own(&[b"SELECT", number.format(wanted.db).as_bytes()], Sink::Select(wanted.db), now);
            ready = self.usable.contains(&wanted.db);
            if !ready {
                self.selecting = Some(wanted.db);
            }
        }
        self.sent = Some(wanted);
        ready
    }

    /// The database of the stream is not known any more (a transaction with SELECT ran).
    pub fn forget_db(&mut self) {
        self.sent = None;
    }

    /// Takes note of one reply and says who gets it. `None`: no reply was owed.
    pub fn arrived(&mut self, now: u64) -> Option<Arrived> {
        self.heard_at = now;
        self.in_reply = false;
        let front = self.awaited.front_mut()?;
        let arrived = Arrived { sink: front.sink, index: front.seen, last: front.left <= 1, at: front.at };
        front.seen += 1;
        front.left = front.left.saturating_sub(1);
        if arrived.last {
            self.round_trip = Some(now.saturating_sub(front.at));
            self.awaited_bytes -= u64::from(front.bytes);
            let own = matches!(front.sink, Sink::Select(_) | Sink::Hello(_) | Sink::Mark(_));
            self.awaited.pop_front();
            self.expired = self.expired.saturating_sub(1);
            self.late = self.late.saturating_sub(1);
            if !own {
                self.answered += 1;
            }
        }
        Some(arrived)
    }

    /// Has the store answered OK to SELECT of this database on this connection?
    pub fn is_usable(&self, db: u32) -> bool {
        self.is_up() && self.usable.contains(&(db + self.base_db))
    }

    /// Is a reply owed, and has the store not sent a byte since `before`?
    pub fn is_silent_since(&self, before: u64) -> bool {
        !self.awaited.is_empty() && self.heard_at < before
    }

    /// Puts a numbered ECHO into the lane: into an idle one, so that a store that has gone is noticed,
    /// into a busy one, so that replies that don't match requests are.
    pub fn probe(&mut self, now: u64) {
        if self.is_up() && (self.since_mark > 0 || self.awaited.is_empty()) {
            self.mark(now);
        }
    }

    /// Is this reply a mark's, while another request's is due?
    pub fn is_stray_mark(&self, frame: &[u8]) -> bool {
        frame.len() > self.mark.len()
            && frame.len() < self.mark.len() + MARK_FRAME_BYTES
            && !matches!(self.awaited.front(), Some(Awaited { sink: Sink::Mark(_), .. }))
            && memchr::memmem::find(frame, self.mark.as_bytes()).is_some()
    }

    /// Who gets the reply that is now coming in?
    pub fn expected(&self) -> Option<(Sink, u32)> {
        self.awaited.front().map(|a| (a.sink, a.seen))
    }

    /// Digests the reply to one of the lane's own requests.
    pub fn context_reply(&mut self, sink: Sink, frame: &[u8], now: u64) -> ContextOutcome {
        match sink {
            Sink::Select(db) => self.selected(db, frame, now),
            Sink::Hello(_) if frame.first() == Some(&b'-') => ContextOutcome::OutOfStep,
            Sink::Mark(n) if !self.is_mark(frame, n) => ContextOutcome::OutOfStep,
            _ => ContextOutcome::Fine,
        }
    }

    fn is_mark(&self, frame: &[u8], number: u64) -> bool {
        let mut expected = Vec::with_capacity(self.mark.len() + MARK_FRAME_BYTES);
        encode::bulk(&mut expected, format!("{}{number}", self.mark).as_bytes());
        frame == expected
    }

    fn selected(&mut self, db: u32, frame: &[u8], now: u64) -> ContextOutcome {
        let waiting = self.selecting == Some(db);
        if waiting {
            self.selecting = None;
        }
        if frame == encode::OK {
            self.usable.insert(db);
            self.pump(now);
            return ContextOutcome::Fine;
        }
        if !waiting {
            return ContextOutcome::OutOfStep;
        }
        self.sent = None;
        let (refused, kept): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|h| h.context.db + self.base_db == db && h.frame.is_some());
        self.answered += refused.len() as u64;
        self.held = kept.into();
        self.late = self.late.min(self.awaited.len());
        self.held_bytes = self.held.iter().map(|h| h.frame.as_ref().map_or(0, |f| f.len() as u64)).sum();
        self.pump(now);
        ContextOutcome::Refused(refused)
    }

    /// The connection is up: what was held may go.
    pub fn connected(&mut self, has_resp3: bool, now: u64) {
        self.link = Link::Up;
        self.has_resp3 = has_resp3;
        self.sent = None;
        self.selecting = None;
        self.usable.clear();
        self.out.clear();
        self.in_reply = false;
        self.since_mark = 0;
        self.heard_at = now;
        self.pump(now);
    }

    /// The connection is gone: every request on it is taken out, with an unknown outcome.
    /// What was held waits for the next attempt.
    pub fn lost(&mut self) -> Vec<Awaited> {
        self.link = Link::Dialing;
        self.out = Vec::new();
        self.sent = None;
        self.selecting = None;
        self.in_reply = false;
        self.awaited_bytes = 0;
        self.expired = 0;
        self.late = self.late.saturating_sub(self.awaited.len());
        let gone: Vec<Awaited> = std::mem::take(&mut self.awaited).into();
        self.answered = self.appended - self.held.len() as u64;
        gone
    }

    /// The attempt failed: what was held is taken out; it never left.
    pub fn down(&mut self, reason: DownReason) -> Vec<Held> {
        self.link = Link::Down(reason);
        self.drop_held()
    }

    /// Takes out everything that has not left the process.
    pub fn drop_held(&mut self) -> Vec<Held> {
        let (gone, places): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.held).into_iter().partition(|h| h.frame.is_some());
        self.held = places.into();
        self.late = self.late.min(self.awaited.len());
        self.held_bytes = 0;
        self.answered += gone.len() as u64;
        gone
    }

    /// Requests older than `before` whose senders stop waiting; their replies will be dropped.
    ///
    /// A reply that is coming in may take as long as it needs, while bytes come. Each entry is
    /// looked at once: a store that hangs may owe millions.
    pub fn expire(&mut self, before: u64) -> Vec<Sink> {
        let mut expired = Vec::new();
        let flows = self.in_reply && self.heard_at >= before;
        if let Some(front) = self.awaited.front_mut().filter(|a| a.at < before && !flows) {
            give_up(front, &mut expired);
        }
        let from = self.expired.max(1);
        let mut seen = 0;
        for entry in self.awaited.iter_mut().skip(from).take_while(|a| a.at < before) {
            give_up(entry, &mut expired);
            seen += 1;
        }
        self.expired = if seen > 0 { from + seen } else { self.expired };
        expired
    }

    /// Of what waits behind the request that the store works on: the operations that `which` picks, told whether one is at the
    /// front, are waited for no more. Their replies are still read.
    pub fn give_up_behind_front(&mut self, mut which: impl FnMut(OpKey, bool) -> bool) -> Vec<Sink> {
        let mut given_up = Vec::new();
        for (at, entry) in self.awaited.iter_mut().enumerate() {
            if matches!(entry.sink, Sink::Op(op) if which(op, at == 0)) {
                give_up(entry, &mut given_up);
            }
        }
        given_up
    }

    /// Requests that have not left and are older than `before`: taken out.
    pub fn expire_held(&mut self, before: u64) -> Vec<Held> {
        let count = self.held.iter().take_while(|h| h.at < before && h.frame.is_some()).count();
        let gone: Vec<Held> = self.held.drain(..count).collect();
        if count > 0 {
            self.late = self.late.min(self.awaited.len());
        }
        self.held_bytes -= gone.iter().map(|h| h.frame.as_ref().map_or(0, |f| f.len() as u64)).sum::<u64>();
        self.answered += gone.len() as u64;
        gone
    }

    /// The operations that have waited for this store since before `before`. Each is told once, or
    /// seldom twice: a store that hangs may owe millions.
    pub fn newly_late(&mut self, before: u64) -> Vec<OpKey> {
        let awaited = self.awaited.iter().map(|a| (a.sink, a.at));
        let entries = awaited.chain(self.held.iter().map(|h| (h.sink, h.at)));
        let mut late = Vec::new();
        for (sink, _) in entries.skip(self.late).take_while(|(_, at)| *at < before) {
            self.late += 1;
            if let Sink::Op(op) = sink {
                late.push(op);
            }
        }
        late
    }
}

fn give_up(entry: &mut Awaited, expired: &mut Vec<Sink>) {
    if matches!(entry.sink, Sink::Op(_)) {
        expired.push(std::mem::replace(&mut entry.sink, Sink::Nobody));
    }
}
