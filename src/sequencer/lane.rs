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

mod entry;
mod loss;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::op::OpKey;

pub use entry::{Arrived, Awaited, Context, ContextOutcome, DownReason, Held, Link, Sink};

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
    /// What was on a connection that is lost, and has not been told so yet.
    lost: VecDeque<Awaited>,
    /// Places in `awaited` for which nothing is owed.
    empties: usize,
    /// How many entries at the front of `awaited` have been expired already.
    expired: usize,
    /// How many entries, of `awaited` and then `held`, have been told to be late already.
    late: usize,
    held: VecDeque<Held>,
    /// No place reserved among the first so many appended is still open.
    open_from: u64,
    held_bytes: u64,
    awaited_bytes: u64,
    sent: Option<Context>,
    /// Requests of this context can go out as they are, for the lane is up and holds nothing: what [`Lane::opens`] found
    /// out last.
    entered: Option<Context>,
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
    next_mark: u32,
    /// When the last numbered ECHO was appended.
    marked_at: u64,
    /// What this lane's marks begin with. Nobody can guess it, so no value that a client has stored
    /// is taken for a mark.
    mark: String,
    round_trip: Option<u64>,
    /// When the last byte came from the store, or the last request was appended to an idle lane.
    pub heard_at: u64,
}

/// A numbered ECHO rides behind this many requests.
const MARK_EVERY: u32 = 4096;
/// A busy lane proves so often that it is in step.
const PROVE_EVERY_MICROS: u64 = 100_000;
/// Bytes of a mark's reply besides what all marks of a lane begin with: a number, and the framing.
const MARK_FRAME_BYTES: usize = 32;
/// What a request takes in the process beside its bytes, in one lane: its place in the queue, and who waits for it.
pub(super) const REQUEST_BYTES: u64 = 256;

// === impl Lane ===

impl Lane {
    /// A lane whose first connection attempt is under way.
    pub fn new(store: StoreId, base_db: u32) -> Lane {
        Lane {
            store,
            link: Link::Dialing,
            out: Vec::new(),
            awaited: VecDeque::new(),
            lost: VecDeque::new(),
            empties: 0,
            expired: 0,
            late: 0,
            held: VecDeque::new(),
            open_from: 0,
            held_bytes: 0,
            awaited_bytes: 0,
            sent: None,
            entered: None,
            usable: HashSet::default(),
            selecting: None,
            has_resp3: false,
            base_db,
            in_reply: false,
            appended: 0,
            answered: 0,
            since_mark: 0,
            next_mark: 0,
            marked_at: 0,
            mark: format!("multistore-mark-{:016x}-", RandomState::new().hash_one(store.index())),
            round_trip: None,
            heard_at: 0,
        }
    }

    /// Bytes that the store has not answered yet.
    pub fn queued_bytes(&self) -> u64 {
        self.held_bytes + self.awaited_bytes
    }

    /// The memory that this takes, which small requests take more of than they have bytes.
    pub fn queued_memory(&self) -> u64 {
        self.queued_bytes() + self.depth() as u64 * REQUEST_BYTES
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

    /// Would a request of this context and size go out at once, and no more than `most` be queued then?
    #[inline(always)]
    pub fn takes(&self, context: Context, bytes: usize, most: u64) -> bool {
        self.entered == Some(context) && self.queued_memory() + bytes as u64 <= most
    }

    /// Appends a request that the lane takes ([`Lane::takes`]).
    #[inline(always)]
    pub fn put(&mut self, frame: &[u8], sink: Sink, replies: u32, now: u64) {
        self.appended += 1;
        self.emit(frame, sink, replies, now);
    }

    /// Appends a request. Its place in the store's order is fixed from here on.
    pub fn append(&mut self, context: Context, frame: &[u8], sink: Sink, replies: u32, now: u64) {
        self.appended += 1;
        if self.entered == Some(context) || self.opens(context, now) {
            self.emit(frame, sink, replies, now);
            return;
        }
        self.hold(Held { context, frame: Some(frame.into()), sink, replies, at: now });
    }

    /// May a request of this context go out now, behind all that was appended before it?
    #[cold]
    fn opens(&mut self, context: Context, now: u64) -> bool {
        let opens = self.held.is_empty() && self.is_up() && self.enter(context, now);
        self.entered = opens.then_some(context);
        opens
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

    /// Gives the place reserved for `op` up. It counts as answered in its turn: what stands before it may not be.
    pub fn vacate(&mut self, op: OpKey, now: u64) {
        if let Some(place) = self.place_of(op) {
            self.held[place].become_empty();
            self.pump(now);
        }
    }

    /// An empty place is at the front of what was held.
    fn pass_empty(&mut self, at: u64) {
        if self.awaited.is_empty() {
            self.answered += 1;
            self.late = self.late.saturating_sub(1);
        } else {
            self.empties += 1;
            self.awaited.push_back(Awaited { sink: Sink::Nobody, left: 0, seen: 0, bytes: 0, at });
        }
    }

    /// The place reserved for `op`. Most are filled in their order: what stands before the first open one is passed over.
    fn place_of(&mut self, op: OpKey) -> Option<usize> {
        let front = self.appended - self.held.len() as u64;
        let from = self.open_from.saturating_sub(front) as usize;
        let open = from + self.held.iter().skip(from).position(|held| held.frame.is_none())?;
        self.open_from = front + open as u64;
        let is_it = |held: &Held| held.frame.is_none() && held.sink == Sink::Op(op);
        Some(open + self.held.iter().skip(open).position(is_it)?)
    }

    #[cold]
    fn hold(&mut self, held: Held) {
        self.entered = None;
        self.held_bytes += held.frame.as_ref().map_or(0, |f| f.len() as u64);
        self.held.push_back(held);
    }

    /// Sends what no longer has to wait.
    pub fn pump(&mut self, now: u64) {
        while self.is_up() {
            let Some(front) = self.held.front() else { return };
            if front.is_empty() {
                let at = front.at;
                self.held.pop_front();
                self.pass_empty(at);
                continue;
            }
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

    #[inline(always)]
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

    #[cold]
    fn mark(&mut self, at: u64) {
        self.since_mark = 0;
        self.marked_at = at;
        self.next_mark = self.next_mark.wrapping_add(1);
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
        self.entered = None;
    }

    /// Takes note of one reply and says who gets it. `None`: no reply was owed.
    #[inline(always)]
    pub fn arrived(&mut self, now: u64) -> Option<Arrived> {
        self.heard_at = now;
        self.in_reply = false;
        let front = self.awaited.front_mut()?;
        let arrived = Arrived { sink: front.sink, index: front.seen, last: front.left <= 1, at: front.at };
        if !arrived.last {
            front.seen += 1;
            front.left -= 1;
            return Some(arrived);
        }
        self.round_trip = Some(now.saturating_sub(front.at));
        self.awaited_bytes -= u64::from(front.bytes);
        let own = matches!(front.sink, Sink::Select(_) | Sink::Hello(_) | Sink::Mark(_));
        self.forget_front();
        self.answered += u64::from(!own);
        if self.empties > 0 {
            self.pass_empties();
        }
        Some(arrived)
    }

    /// Nothing is owed for the empty places in front.
    #[cold]
    fn pass_empties(&mut self) {
        while self.awaited.front().is_some_and(|next| next.left == 0) {
            self.forget_front();
            self.answered += 1;
            self.empties -= 1;
        }
    }

    /// Nothing is owed for the first request any more.
    #[inline(always)]
    fn forget_front(&mut self) {
        self.awaited.pop_front();
        if self.expired | self.late > 0 {
            self.expired = self.expired.saturating_sub(1);
            self.late = self.late.saturating_sub(1);
        }
    }

    /// Has the store answered OK to SELECT of this database on this connection?
    pub fn is_usable(&self, db: u32) -> bool {
        self.is_up() && self.usable.contains(&(db + self.base_db))
    }

    /// Is a reply owed, and has the store not sent a byte since `before`?
    pub fn is_silent_since(&self, before: u64) -> bool {
        !self.awaited.is_empty() && self.heard_at < before
    }

    /// Puts a numbered ECHO into the lane, so that a store that has gone is noticed.
    pub fn probe(&mut self, now: u64) {
        if self.is_up() && (self.since_mark > 0 || self.awaited.is_empty()) {
            self.mark(now);
        }
    }

    /// Puts a numbered ECHO behind what was sent since the last one, so that replies that don't match requests are
    /// noticed before many have got them.
    pub fn prove(&mut self, now: u64) {
        if self.is_up() && self.since_mark > 0 && now.saturating_sub(self.marked_at) >= PROVE_EVERY_MICROS {
            self.mark(now);
        }
    }

    /// Is this reply a mark's, while another request's is due?
    #[inline(always)]
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
            Sink::Hello(proto) if !answers_hello(proto, frame) => ContextOutcome::OutOfStep,
            Sink::Mark(n) if !self.is_mark(frame, n) => ContextOutcome::OutOfStep,
            _ => ContextOutcome::Fine,
        }
    }

    fn is_mark(&self, frame: &[u8], number: u32) -> bool {
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
        self.entered = None;
        let base = self.base_db;
        let of_it = |held: &Held| held.context.db + base == db && held.frame.is_some() && !held.is_empty();
        let refused = self.held.iter_mut().filter(|held| of_it(held)).map(Held::take_out).collect();
        self.held_bytes = self.held.iter().map(|h| h.frame.as_ref().map_or(0, |f| f.len() as u64)).sum();
        self.pump(now);
        ContextOutcome::Refused(refused)
    }

    /// The connection is up: what was held may go.
    pub fn connected(&mut self, has_resp3: bool, now: u64) {
        self.link = Link::Up;
        self.has_resp3 = has_resp3;
        self.sent = None;
        self.entered = None;
        self.selecting = None;
        self.usable.clear();
        self.out.clear();
        self.in_reply = false;
        self.since_mark = 0;
        self.heard_at = now;
        self.pump(now);
    }
}

/// Is this what HELLO answers, in the version that was asked for?
pub fn answers_hello(proto: Proto, frame: &[u8]) -> bool {
    let wanted = match proto {
        Proto::Resp2 => b'*',
        Proto::Resp3 => b'%',
    };
    frame.first() == Some(&wanted)
}
