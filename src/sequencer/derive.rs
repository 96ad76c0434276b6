//! Effects made from the default store's replies, put into the places reserved for them.

use crate::command::Table;
use crate::compare;
use crate::mirror::{self, Derivation, Dialect, Effect, Extra, Part, Way};
use crate::resp::request::{Decoded, Decoder, Request, RequestLimits, Span};
use crate::stage::StoreId;

use super::lane::Arrived;
use super::op::{Extra as Rare, Failure, OpKey, Reply};
use super::{Scope, Sequencer};

/// Requests one behind the other, taken apart: one command, or a whole transaction.
pub(super) struct Taken<'a> {
    table: &'a Table,
    requests: Vec<(&'a [u8], Vec<Span>)>,
    ways: &'a [Way],
}

// === impl Taken ===

impl<'a> Taken<'a> {
    pub fn apart(table: &'a Table, frame: &'a [u8], ways: &'a [Way]) -> Taken<'a> {
        Taken { table, requests: split(frame), ways }
    }

    fn views(&self) -> Vec<Request<'_>> {
        self.requests.iter().map(|(frame, args)| Request { frame, args }).collect()
    }

    /// The commands between MULTI and EXEC, if that is what this is.
    fn parts<'b>(&'b self, views: &'b [Request<'b>]) -> Option<Vec<Part<'b, Request<'b>>>> {
        let queued = views.get(1..views.len().checked_sub(1)?)?;
        if queued.len() != self.ways.len() {
            return None;
        }
        let part = |(args, way): (&'b Request<'b>, &Way)| {
            Some(Part { spec: self.table.spec(self.table.find(args)?), args, way: *way })
        };
        queued.iter().zip(self.ways).map(part).collect()
    }

    fn alone(&self) -> Option<Derivation> {
        match (self.requests.len(), self.ways) {
            (1, [Way::Derived(derivation)]) => Some(*derivation),
            _ => None,
        }
    }

    /// Appends the reads that the effect needs answered right behind the request. Says how many
    /// replies they have.
    pub fn companions(&self, dialect: Dialect, out: &mut Vec<u8>) -> u32 {
        let views = self.views();
        match (self.alone(), views.as_slice()) {
            (Some(derivation), [request]) => mirror::companions(derivation, request, dialect, out),
            (_, views) => self.parts(views).map_or(0, |parts| mirror::exec_companions(&parts, dialect, out)),
        }
    }

    /// What the other store gets, and whether the keys must be copied beside it.
    pub fn effect(&self, dialect: Dialect, reply: &[u8], companions: &[Box<[u8]>]) -> (Effect, bool) {
        let replies: Vec<&[u8]> = companions.iter().map(|reply| &**reply).collect();
        let extra = Extra { replies: &replies, dialect };
        let views = self.views();
        match (self.alone(), views.as_slice()) {
            (Some(derivation), [request]) => (mirror::derive(derivation, request, reply, extra), false),
            (_, views) => match self.parts(views) {
                Some(parts) => {
                    let made = mirror::derive_exec(&parts, reply, extra);
                    (made.effect, !made.copy.is_empty())
                }
                None => (Effect::Copy, true),
            },
        }
    }
}

/// Is this reply an error, or may it contain one? A string that looks like one only costs a copy.
pub(super) fn has_error(reply: &[u8]) -> bool {
    compare::is_error(reply) || memchr::memmem::find(reply, b"\r\n-").is_some()
}

/// The requests that stand one behind the other in `frames`.
pub(super) fn split(frames: &[u8]) -> Vec<(&[u8], Vec<Span>)> {
    let limits = RequestLimits { max_request: u32::MAX as usize, ..RequestLimits::default() };
    let mut decoder = Decoder::new();
    let mut rest = frames;
    let mut requests = Vec::new();
    while let Ok(Decoded::Request { len, .. }) = decoder.decode(rest, &limits) {
        let (frame, tail) = rest.split_at(len.min(rest.len()));
        requests.push((frame, decoder.spans().to_vec()));
        rest = tail;
    }
    requests
}

// === impl Sequencer ===

impl Sequencer {
    /// A request for the default store with the reads that its effect needs behind it, and how many
    /// replies those have.
    pub fn with_companions(&self, ways: &[Way], frame: &[u8]) -> (Vec<u8>, u32) {
        let (asked, companions) = self.companions(ways, frame);
        ([frame, &asked].concat(), companions)
    }

    /// What is to be asked right behind a request, so that its effect can be made.
    pub fn companions(&self, ways: &[Way], frame: &[u8]) -> (Vec<u8>, u32) {
        let mut asked = Vec::new();
        let companions = Taken::apart(&self.table, frame, ways).companions(self.dialect(), &mut asked);
        (asked, companions)
    }

    /// A reply that belongs to a derived operation.
    pub(super) fn derived_reply(&mut self, key: OpKey, store: StoreId, arrived: Arrived, frame: &[u8]) {
        let Some(op) = self.ops.get_mut(key) else { return };
        if op.policy != super::op::Policy::Single(store) {
            self.effect_reply(key, store, arrived.last, frame);
            return;
        }
        let extra = op.extra_mut();
        let proper = extra.proper;
        if arrived.index + 1 < proper {
            self.part_reply(key, store, arrived.index, frame);
            return;
        }
        if arrived.index + 1 == proper {
            extra.reply = Some(frame.into());
            self.answer_derived(key, store, frame);
        } else {
            extra.companions.push(frame.into());
        }
        if arrived.last {
            self.place_derived(key, store);
        }
    }

    fn answer_derived(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let Some(op) = self.ops.get(key) else { return };
        if op.extra.as_ref().is_none_or(|extra| !extra.waits) {
            self.answer(key, store, frame);
        }
    }

    /// Tells a client that has waited for the effect what the default store has said, if that is known.
    pub(super) fn answer_waiting(&mut self, key: OpKey) {
        let Some(op) = self.ops.get_mut(key).filter(|op| op.derived && !op.answered) else {
            return;
        };
        let default = op.default;
        if let Some(reply) =
            op.extra.as_mut().filter(|extra| extra.waits).and_then(|extra| extra.reply.take())
        {
            self.answer(key, default, &reply);
        }
    }

    /// Fills the place in the other lane, now that the default store has answered.
    fn place_derived(&mut self, key: OpKey, store: StoreId) {
        let other = store.other();
        let Some(op) = self.ops.get_mut(key) else { return };
        op.replies[store.index()] = Reply::Gone;
        let request = std::mem::take(&mut op.request);
        let mut extra = op.extra.take().unwrap_or_default();
        let reply = extra.reply.take().unwrap_or_default();
        let db = op.context.db;
        let touched = std::mem::take(&mut op.touched);
        let now = self.now;
        let table = self.table.clone();
        let taken = Taken::apart(&table, &request, &extra.ways);
        let (effect, copies) = taken.effect(self.dialect(), &reply, &extra.companions);
        if copies {
            self.doubt(&touched, db, other);
        }
        match effect {
            Effect::Frames { bytes, replies } if self.lane(other).accepts() => {
                if !has_error(&reply) {
                    self.settle_accepted(&touched, extra.scope);
                }
                if let Some(op) = self.ops.get_mut(key) {
                    op.touched = touched;
                    if extra.waits {
                        op.extra =
                            Some(Box::new(Rare { waits: true, reply: Some(reply), ..Rare::default() }));
                    }
                }
                self.lanes[other.index()].fill(key, bytes.into(), replies, now);
                self.tally.sent(other);
                return;
            }
            Effect::Nothing => {}
            Effect::Copy => self.doubt(&touched, db, other),
            Effect::Frames { .. } => {
                self.note_lost_mirror(other, Failure::Down);
                if !has_error(&reply) {
                    // What the other store held was replaced, whatever it was.
                    self.settle_accepted(&touched, Scope::Keys);
                }
                self.doubt(&touched, db, other);
            }
        }
        if let Some(op) = self.ops.get_mut(key) {
            op.replies[other.index()] = Reply::Gone;
        }
        self.lanes[other.index()].vacate(key, now);
        if extra.waits {
            self.answer(key, store, &reply);
        }
        self.retire(key);
    }

    /// A reply of the other store to an effect: only a refusal matters.
    pub(super) fn effect_reply(&mut self, key: OpKey, store: StoreId, last: bool, frame: &[u8]) {
        let refused = has_error(frame);
        let (now, tolerance) = (self.now, self.settings.ttl_tolerance.as_micros() as u64);
        let Some(op) = self.ops.get_mut(key) else { return };
        // A time to live that counts from when it runs counts from too late.
        let late = last && op.relative && now.saturating_sub(op.started) > tolerance;
        if refused || late {
            let touched = op.touched.clone();
            let db = op.context.db;
            if refused {
                self.metrics.store(store).mirror_write_failures.inc();
            }
            self.doubt(&touched, db, store);
        }
        if last {
            if let Some(op) = self.ops.get_mut(key) {
                op.replies[store.index()] = Reply::Gone;
            }
            self.answer_waiting(key);
            self.retire(key);
        }
    }

    /// The default store will not answer a derived operation: its place is given up.
    pub(super) fn give_place_up(&mut self, key: OpKey, default: StoreId, failure: Failure) {
        let other = default.other();
        let Some(op) = self.ops.get_mut(key) else { return };
        op.replies[other.index()] = Reply::Gone;
        let (touched, db) = (std::mem::take(&mut op.touched), op.context.db);
        if matches!(failure, Failure::Lost | Failure::Timeout) {
            self.doubt(&touched, db, other);
            touched.each(|hash, _| self.known.leave_undecided(hash));
        }
        let now = self.now;
        self.lanes[other.index()].vacate(key, now);
    }
}
