//! A lane that is lost, refused or late: what becomes of its entries.

use std::collections::VecDeque;

use super::{Awaited, DownReason, Held, Lane, Link, OpKey, Sink};

// === impl Lane ===

impl Lane {
    /// The connection is gone: every request on it has an unknown outcome. What was held waits for the next attempt.
    pub fn cut(&mut self) {
        self.link = Link::Dialing;
        self.out = Vec::new();
        self.sent = None;
        self.entered = None;
        self.selecting = None;
        self.in_reply = false;
        self.awaited_bytes = 0;
        self.empties = 0;
        self.expired = 0;
        self.late = self.late.saturating_sub(self.awaited.len());
        self.lost.append(&mut self.awaited);
    }

    /// Takes out up to `most` requests of a connection that is lost. The store counts as having answered when the last is
    /// taken out.
    pub fn take_lost(&mut self, most: usize) -> Vec<Awaited> {
        let gone = self.lost.drain(..most.min(self.lost.len())).collect();
        if self.lost.is_empty() {
            self.lost = VecDeque::new();
            self.answered = self.appended - self.held.len() as u64;
        }
        gone
    }

    /// Are there requests of a connection that is lost?
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
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

    /// Requests older than `before` whose senders stop waiting; their replies will be dropped. Not those that are `kept`:
    /// they are answered, or lost with the connection.
    ///
    /// A reply that is coming in may take as long as it needs, while bytes come. Each entry is
    /// looked at once: a store that hangs may owe millions.
    pub fn expire(&mut self, before: u64, kept: impl Fn(OpKey) -> bool) -> Vec<Sink> {
        let mut expired = Vec::new();
        let flows = self.in_reply && self.heard_at >= before;
        if let Some(front) = self.awaited.front_mut().filter(|a| a.at < before && !flows) {
            give_up_late(front, &kept, &mut expired);
        }
        let from = self.expired.max(1);
        let mut seen = 0;
        for entry in self.awaited.iter_mut().skip(from).take_while(|a| a.at < before) {
            give_up_late(entry, &kept, &mut expired);
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

fn give_up_late(entry: &mut Awaited, kept: impl Fn(OpKey) -> bool, expired: &mut Vec<Sink>) {
    if !matches!(entry.sink, Sink::Op(op) if kept(op)) {
        give_up(entry, expired);
    }
}

fn give_up(entry: &mut Awaited, expired: &mut Vec<Sink>) {
    if matches!(entry.sink, Sink::Op(_)) {
        expired.push(std::mem::replace(&mut entry.sink, Sink::Nobody));
    }
}
