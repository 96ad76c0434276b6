//! What is owed to each client, in its order.
//!
//! A slot is one owed reply. Replies may be known out of order (two stores, the proxy's own
//! replies); they leave in order. Most slots wait for their reply, and are paid in their order: they are only counted.
//!
//! Invariants: what is listed in `unusual` is owed; the front slot is never `Ready`, nor muted and done.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use slab::Slab;

use super::op::OpKey;
use super::outbox::Outbox;

/// A client of this instance. Never reused: a key of a client that is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    index: u32,
    id: u64,
}

/// An owed reply that does not simply wait.
#[derive(Debug)]
enum Slot {
    Ready(Box<[u8]>),
    /// The request ran under CLIENT REPLY OFF or SKIP: nothing is sent.
    Muted {
        done: bool,
    },
}

/// One client's owed replies and unsent bytes.
#[derive(Debug)]
pub struct Client {
    id: u64,
    /// The slot that leaves next.
    base: u64,
    /// The slot that is opened next.
    next: u64,
    /// The slots between them that do not simply wait.
    unusual: BTreeMap<u64, Slot>,
    /// The slot that was opened last while nothing was owed.
    batch: u64,
    /// The last batch that was counted as differing.
    counted: Option<u64>,
    /// Bytes that the socket has not taken yet.
    out: Outbox,
    /// Bytes of replies that wait in `unusual` for an earlier one.
    ready: usize,
    /// Bytes of replies that operations keep for it, of which one will be its answer.
    kept: usize,
    dirty: bool,
    /// A part of the reply in the front slot has been sent.
    streaming: bool,
    /// Out-of-band messages that wait for its end.
    later: Vec<u8>,
    /// Bytes in `out`, `ready`, `kept` and `later` together.
    backlog: usize,
    /// The client was closed by the proxy: nothing more is put in `out`.
    pub doomed: Option<Doom>,
    /// A lone read that only the first store has been asked for.
    pub lone_read: Option<OpKey>,
    /// The session waits for something that the sequencer will tell it.
    pub wake: bool,
    /// Bytes of the reply that is being streamed.
    streamed: usize,
    /// A reply was larger than `large`.
    had_large: bool,
    /// The backlogs of all clients together.
    total: Rc<Cell<usize>>,
}

/// Why the proxy closes a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// Its unread replies passed `client_output_max`.
    OutputLimit,
    /// All clients together passed a limit, and this one had the most.
    Evicted,
    /// A store was lost in the middle of a reply that had already begun to flow.
    CutReply,
}

/// All clients of an instance.
#[derive(Debug, Default)]
pub struct Clients {
    slab: Slab<Client>,
    dirty: Vec<ClientKey>,
    woken: Vec<ClientKey>,
    /// Bytes of unread replies above which a client is closed.
    pub output_max: usize,
    /// A streamed reply of more bytes is large.
    pub large: usize,
    /// The backlogs of all clients together.
    total: Rc<Cell<usize>>,
}

// === impl ClientKey ===

impl ClientKey {
    /// The slab index: unique among the living.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The client's ID as CLIENT ID shows it.
    pub fn id(self) -> u64 {
        self.id
    }
}

// === impl Clients ===

impl Clients {
    /// No clients yet.
    pub fn new(output_max: usize, large: usize) -> Clients {
        Clients { output_max, large, ..Clients::default() }
    }

    /// Takes a client in.
    pub fn insert(&mut self, id: u64) -> ClientKey {
        let index = self.slab.insert(Client {
            id,
            base: 0,
            next: 0,
            unusual: BTreeMap::new(),
            batch: 0,
            counted: None,
            out: Outbox::default(),
            ready: 0,
            kept: 0,
            backlog: 0,
            dirty: false,
            streaming: false,
            later: Vec::new(),
            doomed: None,
            lone_read: None,
            wake: false,
            streamed: 0,
            had_large: false,
            total: self.total.clone(),
        });
        ClientKey { index: index as u32, id }
    }

    /// Forgets a client; replies still owed to it will find nobody.
    pub fn remove(&mut self, key: ClientKey) {
        if self.get(key).is_some() {
            self.slab.remove(key.index());
        }
    }

    /// The client, if it is still there.
    pub fn get(&self, key: ClientKey) -> Option<&Client> {
        self.slab.get(key.index()).filter(|c| c.id == key.id)
    }

    /// The client, if it is still there.
    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.slab.get_mut(key.index()).filter(|c| c.id == key.id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Bytes of replies that wait for their clients, of all of them together.
    pub fn unread(&self) -> usize {
        self.total.get()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Opens a slot for one more reply; `muted`: its reply will not be sent.
    #[inline(always)]
    pub fn owe(&mut self, key: ClientKey, muted: bool) -> u64 {
        let Some(client) = self.get_mut(key) else { return 0 };
        let seq = client.next;
        client.next += 1;
        if seq == client.base {
            client.batch = seq;
        }
        if muted {
            client.unusual.insert(seq, Slot::Muted { done: false });
        }
        seq
    }

    /// What is outstanding together with the slot that was opened last, by the first slot of it. `None`: nothing else is,
    /// and no `more` has come.
    #[inline]
    pub fn batch(&self, key: ClientKey, seq: u64, more: bool) -> Option<u64> {
        let first = self.get(key)?.batch;
        (more || first != seq).then_some(first)
    }

    /// A reply in this batch differs. Is it the first one? Of a client that is gone each one is.
    pub fn counts(&mut self, key: ClientKey, batch: u64) -> bool {
        self.get_mut(key).is_none_or(|client| client.counted.replace(batch) != Some(batch))
    }

    /// Is this slot the next one to leave?
    pub fn is_front(&self, key: ClientKey, seq: u64) -> bool {
        self.get(key).is_some_and(|c| c.base == seq && c.owed() > 0)
    }

    /// The reply in this slot is sent after all (CLIENT REPLY ON).
    pub fn unmute(&mut self, key: ClientKey, seq: u64) {
        let Some(client) = self.get_mut(key) else { return };
        if matches!(client.unusual.get(&seq), Some(Slot::Muted { done: false })) {
            client.unusual.remove(&seq);
        }
    }

    /// Is this slot still to be paid?
    pub fn is_owed(&self, key: ClientKey, seq: u64) -> bool {
        self.get(key).is_some_and(|client| {
            let paid = matches!(client.unusual.get(&seq), Some(Slot::Ready(_) | Slot::Muted { done: true }));
            client.is_open(seq) && !paid
        })
    }

    /// Pays one owed reply.
    #[inline(always)]
    pub fn pay(&mut self, key: ClientKey, seq: u64, reply: &[u8]) {
        let Clients { slab, dirty, woken, output_max, .. } = self;
        let Some(client) = slab.get_mut(key.index()).filter(|client| client.id == key.id) else { return };
        if !client.is_open(seq) {
            return;
        }
        if client.unusual.is_empty() && seq == client.base {
            client.base += 1;
            client.push(reply, *output_max);
        } else if !client.pay_unusual(seq, reply, *output_max) {
            return;
        }
        client.touch(key, dirty, woken);
    }

    /// Counts a reply that is kept for this client elsewhere.
    pub fn keep(&mut self, key: ClientKey, size: usize) {
        let output_max = self.output_max;
        let Some(client) = self.get_mut(key) else { return };
        client.kept += size;
        client.grew(size);
        if client.backlog() > output_max {
            client.close_over_limit();
            self.touch(key);
        }
    }

    /// Undoes [`Clients::keep`].
    pub fn unkeep(&mut self, key: ClientKey, size: usize) {
        if let Some(client) = self.get_mut(key) {
            let size = size.min(client.kept);
            client.kept -= size;
            client.shrank(size);
        }
    }

    /// Sends bytes of the reply in the front slot before the reply is complete.
    pub fn stream(&mut self, key: ClientKey, bytes: &[u8]) {
        let output_max = self.output_max;
        let Some(client) = self.get_mut(key) else { return };
        client.streamed += bytes.len();
        if client.is_open(client.base) && !client.unusual.contains_key(&client.base) {
            client.push(bytes, output_max);
            client.streaming = true;
        }
        self.touch(key);
    }

    /// The reply streamed into the front slot is complete.
    pub fn end_stream(&mut self, key: ClientKey) {
        let (output_max, large) = (self.output_max, self.large);
        let Some(client) = self.get_mut(key) else { return };
        client.had_large |= std::mem::take(&mut client.streamed) > large;
        if client.is_open(client.base) {
            client.leave();
        }
        client.streaming = false;
        let later = std::mem::take(&mut client.later);
        client.shrank(later.len());
        client.push(&later, output_max);
        client.settle_front(output_max);
        self.touch(key);
    }

    /// Has a reply been large since the last call?
    pub fn take_large(&mut self, key: ClientKey) -> bool {
        self.get_mut(key).is_some_and(|client| std::mem::take(&mut client.had_large))
    }

    /// Puts bytes that belong to no slot (pushes, replies of a dedicated connection) in line.
    /// Only when nothing is owed, or for pushes, which come at the next reply boundary.
    pub fn push(&mut self, key: ClientKey, bytes: &[u8]) {
        let output_max = self.output_max;
        if let Some(client) = self.get_mut(key) {
            match client.streaming {
                false => client.push(bytes, output_max),
                true => client.push_later(bytes, output_max),
            }
        }
        self.touch(key);
    }

    /// Closes a client, and forgets what it has not read.
    pub fn evict(&mut self, key: ClientKey) {
        if let Some(client) = self.get_mut(key) {
            client.close(Doom::Evicted);
        }
        self.touch(key);
    }

    /// Closes a client from the proxy's side.
    pub fn doom(&mut self, key: ClientKey, why: Doom) {
        if let Some(client) = self.get_mut(key) {
            client.doomed.get_or_insert(why);
        }
        self.touch(key);
    }

    /// Asks for the session to be woken when its next reply is in.
    pub fn wake_on_reply(&mut self, key: ClientKey) {
        if let Some(client) = self.get_mut(key) {
            client.wake = true;
        }
    }

    /// Wakes the session at the next turn.
    pub fn wake(&mut self, key: ClientKey) {
        self.woken.push(key);
    }

    fn touch(&mut self, key: ClientKey) {
        let Clients { slab, dirty, woken, .. } = self;
        if let Some(client) = slab.get_mut(key.index()).filter(|client| client.id == key.id) {
            client.touch(key, dirty, woken);
        }
    }

    /// Has any client got something, or is it to be woken?
    #[inline]
    pub fn has_news(&self) -> bool {
        !(self.dirty.is_empty() && self.woken.is_empty())
    }

    /// The clients whose `out` has grown since the last call.
    pub fn take_dirty(&mut self, into: &mut Vec<ClientKey>) {
        std::mem::swap(&mut self.dirty, into);
        for key in into.iter() {
            if let Some(client) = self.get_mut(*key) {
                client.dirty = false;
            }
        }
    }

    /// The clients whose sessions are to be woken.
    pub fn take_woken(&mut self, into: &mut Vec<ClientKey>) {
        std::mem::swap(&mut self.woken, into);
    }

    /// Every living client.
    pub fn keys(&self) -> impl Iterator<Item = ClientKey> + '_ {
        self.slab.iter().map(|(index, c)| ClientKey { index: index as u32, id: c.id })
    }
}

// === impl Client ===

impl Client {
    /// It has something to send, and its session is woken if it waits for that.
    #[inline]
    fn touch(&mut self, key: ClientKey, dirty: &mut Vec<ClientKey>, woken: &mut Vec<ClientKey>) {
        if !std::mem::replace(&mut self.dirty, true) {
            dirty.push(key);
        }
        if std::mem::take(&mut self.wake) {
            woken.push(key);
        }
    }

    /// Replies owed.
    pub fn owed(&self) -> usize {
        (self.next - self.base) as usize
    }

    /// Has this slot been opened, and not left yet?
    #[inline]
    fn is_open(&self, seq: u64) -> bool {
        (self.base..self.next).contains(&seq)
    }

    /// The front slot leaves.
    fn leave(&mut self) -> Option<Slot> {
        self.base += 1;
        self.unusual.remove(&(self.base - 1))
    }

    /// Bytes that the socket has not taken: as many as are sent at once. Empty: everything is sent.
    pub fn unsent(&self) -> &[u8] {
        self.out.front()
    }

    /// Notes that the socket took `n` more bytes.
    pub fn took(&mut self, n: usize) {
        let before = self.out.len();
        self.out.took(n);
        self.shrank(before - self.out.len());
    }

    /// Bytes that wait for the socket, or for an earlier reply.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    #[inline]
    fn grew(&mut self, n: usize) {
        self.backlog += n;
        self.total.set(self.total.get() + n);
    }

    #[inline]
    fn shrank(&mut self, n: usize) {
        self.backlog = self.backlog.saturating_sub(n);
        self.total.set(self.total.get().saturating_sub(n));
    }

    /// Pays a slot that is not in front, or not all of whose companions simply wait. Has that brought anything about?
    fn pay_unusual(&mut self, seq: u64, reply: &[u8], output_max: usize) -> bool {
        if seq > self.base {
            return self.store(seq, reply, output_max);
        }
        if self.leave().is_none() {
            self.push(reply, output_max);
        }
        self.settle_front(output_max);
        true
    }

    /// Keeps a reply that is known before an earlier one. True: the client is closed instead.
    fn store(&mut self, seq: u64, reply: &[u8], output_max: usize) -> bool {
        let room = self.doomed.is_none() && self.backlog() + reply.len() <= output_max;
        match self.unusual.get_mut(&seq) {
            None if room => {
                self.unusual.insert(seq, Slot::Ready(reply.into()));
                self.ready += reply.len();
                self.grew(reply.len());
            }
            None => {
                self.close_over_limit();
                return true;
            }
            Some(Slot::Muted { done }) => *done = true,
            Some(Slot::Ready(_)) => {}
        }
        false
    }

    fn close_over_limit(&mut self) {
        self.close(Doom::OutputLimit);
    }

    /// The slots stay owed, and are never paid: the session ends.
    fn close(&mut self, why: Doom) {
        self.doomed.get_or_insert(why);
        self.shrank(self.out.len() + self.ready + self.later.len());
        self.out.clear();
        self.later = Vec::new();
        for slot in self.unusual.values_mut().filter(|slot| matches!(slot, Slot::Ready(_))) {
            *slot = Slot::Muted { done: true };
        }
        self.ready = 0;
    }

    #[inline(always)]
    fn push(&mut self, bytes: &[u8], output_max: usize) {
        if self.doomed.is_some() {
            return;
        }
        if self.backlog() + bytes.len() > output_max {
            self.close_over_limit();
            return;
        }
        self.grew(bytes.len());
        self.out.push(bytes);
    }

    /// A reply is in the middle of being sent: what belongs to no slot waits for its end.
    fn push_later(&mut self, bytes: &[u8], output_max: usize) {
        if self.doomed.is_none() && self.backlog() + bytes.len() > output_max {
            self.close_over_limit();
        }
        if self.doomed.is_none() {
            self.grew(bytes.len());
            self.later.extend_from_slice(bytes);
        }
    }

    fn settle_front(&mut self, output_max: usize) {
        while let Some(Slot::Ready(_) | Slot::Muted { done: true }) = self.unusual.get(&self.base) {
            if let Some(Slot::Ready(reply)) = self.leave() {
                self.ready -= reply.len();
                self.shrank(reply.len());
                self.push(&reply, output_max);
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shrank(self.backlog());
    }
}
