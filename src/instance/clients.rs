//! The sockets of the clients, and what other clients may know about them.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Instance;
use crate::command::CommandId;
use crate::config::{Auth, InstanceConfig};
use crate::net::WriteHalf;
use crate::resp::Proto;
use crate::sequencer::Sequencer;
use crate::sequencer::clients::ClientKey;
use crate::sequencer::park::Unblock;

/// Bytes that one client is sent before others have their turn.
const SHARE: usize = 64 * 1024;

/// What CLIENT LIST shows of a client.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The client's address.
    pub addr: String,
    /// Its IP address; `None` over a Unix socket.
    pub ip: Option<IpAddr>,
    /// The address that it connected to.
    pub laddr: String,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO lib-name.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO lib-ver.
    pub lib_ver: Vec<u8>,
    /// The ACL user.
    pub user: Vec<u8>,
    /// Database.
    pub db: u32,
    /// Protocol version.
    pub proto: Proto,
    /// Channels, patterns, shard channels.
    pub subscriptions: [usize; 3],
    /// Commands queued in MULTI, or -1.
    pub queued: i64,
    /// Keys watched: at least one.
    pub watching: bool,
    /// Is it a MONITOR?
    pub monitor: bool,
    /// Does it wait in a blocking command?
    pub blocked: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT TRACKING, if it is on.
    pub tracking: Option<TrackingInfo>,
}

/// What CLIENT LIST shows of client-side caching.
#[derive(Clone, Copy, Debug)]
pub struct TrackingInfo {
    /// BCAST
    pub broadcast: bool,
    /// The client that messages were for is gone.
    pub broken: bool,
    /// The id of the client that messages are for, or 0.
    pub redirect: u64,
}

/// The socket of a client and its session's waker.
pub struct ClientIo {
    /// Where replies go.
    pub writer: WriteHalf,
    /// What others may know.
    pub info: RefCell<ClientInfo>,
    /// When it connected.
    pub since: Instant,
    /// When it last sent something, on the instance's clock.
    pub active: Cell<u64>,
    /// May it run commands?
    pub authenticated: Cell<bool>,
    /// Its last command.
    pub last: Cell<Option<CommandId>>,
    /// Somebody ended this client (CLIENT KILL, draining).
    pub killed: Cell<bool>,
    /// The socket takes no more for now, or others are to have their turn: the session sends the rest. Since when that is
    /// so, on the instance's clock: until then the socket took something.
    stuck: Cell<Option<u64>>,
    /// The socket is broken.
    pub broken: Cell<bool>,
    /// Bytes of its requests that are not complete, or that wait.
    pub requests: Cell<usize>,
    /// It is closed for the memory that it took.
    pub evicted: Cell<bool>,
    /// Everything owed has been sent, and nothing more will be: for others it is gone.
    pub leaving: Cell<bool>,
    /// CLIENT UNBLOCK, for a client that waits on a store.
    pub unblock: Cell<Option<Unblock>>,
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
}

/// The sockets of all clients, by the place of the client: found without a search for every reply.
#[derive(Default)]
pub(super) struct Sockets {
    places: Vec<Option<(ClientKey, Rc<ClientIo>)>>,
    count: usize,
}

// === impl Sockets ===

impl Sockets {
    fn insert(&mut self, key: ClientKey, io: Rc<ClientIo>) {
        if self.places.len() <= key.index() {
            self.places.resize(key.index() + 1, None);
        }
        if let Some(place) = self.places.get_mut(key.index())
            && place.replace((key, io)).is_none()
        {
            self.count += 1;
        }
    }

    fn remove(&mut self, key: ClientKey) -> Option<Rc<ClientIo>> {
        self.get(key)?;
        let (_, io) = self.places.get_mut(key.index())?.take()?;
        self.count -= 1;
        Some(io)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(ClientKey, Rc<ClientIo>)> {
        self.places.iter().flatten()
    }

    #[inline]
    fn get(&self, key: ClientKey) -> Option<&Rc<ClientIo>> {
        let (known, io) = self.places.get(key.index())?.as_ref()?;
        (*known == key).then_some(io)
    }
}

// === impl ClientIo ===

impl ClientIo {
    /// Does the session have to send what is left?
    #[inline]
    pub fn is_stuck(&self) -> bool {
        self.stuck.get().is_some()
    }

    /// A client that has just come.
    pub fn new(writer: WriteHalf, info: ClientInfo) -> ClientIo {
        ClientIo {
            writer,
            info: RefCell::new(info),
            since: Instant::now(),
            active: Cell::new(0),
            authenticated: Cell::new(true),
            last: Cell::new(None),
            killed: Cell::new(false),
            stuck: Cell::new(None),
            broken: Cell::new(false),
            requests: Cell::new(0),
            evicted: Cell::new(false),
            leaving: Cell::new(false),
            unblock: Cell::new(None),
            waker: RefCell::new(None),
            woken: Cell::new(false),
        }
    }

    /// Wakes the session.
    pub fn wake(&self) {
        self.woken.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Has the session been woken since the last call?
    pub fn take_woken(&self) -> bool {
        self.woken.replace(false)
    }

    /// The session is to be woken through `waker`.
    pub fn listen(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

// === impl Instance ===

impl Instance {
    /// Takes a client in.
    pub fn join(&self, io: ClientIo) -> (ClientKey, Rc<ClientIo>) {
        let id = self.next_client.get();
        self.next_client.set(id + 1);
        let key = self.core_mut().clients.insert(id);
        io.active.set(self.micros());
        let io = Rc::new(io);
        self.io.borrow_mut().insert(key, io.clone());
        self.metrics.connections.inc();
        (key, io)
    }

    /// Lets a client go.
    pub fn leave(&self, key: ClientKey) {
        // What cannot be believed is not touched either: it could panic once more.
        if !self.has_failed() {
            self.core_mut().disconnect(key);
        }
        if let Some(io) = self.io.borrow_mut().remove(key) {
            self.unweigh(&io);
        }
        self.metrics.connections.dec();
        self.settle();
    }

    /// All clients, oldest first.
    pub fn all_clients(&self) -> Vec<(ClientKey, Rc<ClientIo>)> {
        let io = self.io.borrow();
        let there = io.iter().filter(|(_, io)| !io.leaving.get());
        let mut all: Vec<_> = there.map(|(key, io)| (*key, io.clone())).collect();
        all.sort_unstable_by_key(|(key, _)| key.id());
        all
    }

    /// The client with this id.
    pub fn client_by_id(&self, id: u64) -> Option<ClientKey> {
        let io = self.io.borrow();
        let mut there = io.iter().filter(|(_, io)| !io.leaving.get());
        there.find(|(key, _)| key.id() == id).map(|(key, _)| *key)
    }

    /// A client's protocol, and whether it is subscribed to anything.
    pub fn client_mode(&self, key: ClientKey) -> Option<(Proto, bool)> {
        let io = self.io.borrow();
        let info = io.get(key).filter(|io| !io.leaving.get())?.info.borrow();
        Some((info.proto, info.subscriptions.iter().any(|count| *count > 0)))
    }

    /// How many clients there are.
    pub fn client_count(&self) -> usize {
        self.io.borrow().count
    }

    /// No more clients come; those that are here end at a reply boundary. Subscribers end now; those
    /// that are blocked get the answer that their time is up, or the element that is on its way.
    pub fn begin_drain(&self) {
        self.draining.set(true);
        self.unpause();
        for (key, io) in self.all_clients() {
            let waits = {
                let info = io.info.borrow();
                !info.blocked && (info.monitor || info.subscriptions.iter().any(|count| *count > 0))
            };
            let blocked = io.info.borrow().blocked;
            if blocked && !self.core_mut().unblock(key, Unblock::Timeout) {
                io.unblock.set(Some(Unblock::Timeout));
            } else if waits {
                io.killed.set(true);
            }
            io.wake();
        }
    }

    /// Are all clients gone, and has the default store answered everything, and the other if it is up?
    pub fn is_drained(&self) -> bool {
        let core = self.core();
        self.client_count() == 0
            && crate::stage::StoreId::ALL.iter().all(|store| {
                let lane = core.lane(*store);
                !lane.is_up() || lane.depth() == 0
            })
    }

    /// Has a client read nothing of what it was sent for so long?
    pub fn reads_nothing(&self, io: &ClientIo, patience: Duration) -> bool {
        let for_so_long = |since| Duration::from_micros(self.micros().saturating_sub(since)) >= patience;
        io.stuck.get().is_some_and(for_so_long)
    }

    /// For how long a client has sent nothing.
    pub fn idle(&self, io: &ClientIo) -> Duration {
        Duration::from_micros(self.micros().saturating_sub(io.active.get()))
    }

    /// Ends clients that have said nothing for `limit`; not those that wait for something.
    pub fn end_idle(&self, limit: Duration) {
        for (key, io) in self.all_clients() {
            let owed = self.core().clients.get(key).is_some_and(|client| client.owed() > 0);
            let info = io.info.borrow();
            let subscribed = info.subscriptions.iter().any(|count| *count > 0);
            let waits = owed || info.blocked || info.monitor || subscribed;
            drop(info);
            if !waits && self.idle(&io) > limit {
                self.metrics.client_errors[crate::metrics::ClientErrorKind::Idle].inc();
                io.killed.set(true);
                io.wake();
            }
        }
    }

    /// Ends the clients of users that are gone or have changed, as Redis does.
    pub(super) fn end_changed_users(&self, before: &InstanceConfig, now: &InstanceConfig) {
        if now.auth != Auth::Users || before.users == now.users {
            return;
        }
        for (_, io) in self.all_clients() {
            let changed = {
                let name = &io.info.borrow().user;
                before.users.get(name) != now.users.get(name)
            };
            if changed {
                io.killed.set(true);
                io.wake();
            }
        }
    }

    /// Ends clients that have not given their password in time.
    pub fn end_unauthenticated(&self, limit: Duration) {
        for (_, io) in self.all_clients() {
            if !io.authenticated.get() && io.since.elapsed() > limit {
                self.metrics.client_errors[crate::metrics::ClientErrorKind::Idle].inc();
                io.killed.set(true);
                io.wake();
            }
        }
    }

    /// Wakes a client's session.
    pub fn wake(&self, key: ClientKey) {
        if let Some(io) = self.io.borrow().get(key) {
            io.wake();
        }
    }

    /// Sends a client what the socket takes now; the session does the rest.
    pub(super) fn flush(&self, core: &mut Sequencer, key: ClientKey) {
        let now = core.now();
        let io = self.io.borrow();
        let (Some(io), Some(client)) = (io.get(key), core.clients.get_mut(key)) else { return };
        if client.doomed.is_some() {
            io.wake();
            return;
        }
        if io.is_stuck() || io.broken.get() {
            return;
        }
        let mut share = SHARE;
        loop {
            let sent = match client.unsent() {
                // One client's large reply is not to keep all others waiting.
                unsent if share == 0 && !unsent.is_empty() => {
                    io.stuck.set(Some(now));
                    io.wake();
                    return;
                }
                [] => io.writer.try_flush().map(|()| None),
                unsent => io.writer.try_write(unsent.get(..share).unwrap_or(unsent)).map(Some),
            };
            match sent {
                Ok(None) => return,
                Ok(Some(n)) if n > 0 => {
                    self.metrics.client_bytes_sent.inc_by(n as u64);
                    client.took(n);
                    share = share.saturating_sub(n);
                    if client.unsent().is_empty() && !io.writer.holds_back() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    io.stuck.set(Some(now));
                    io.wake();
                    return;
                }
                _ => {
                    self.metrics.client_errors[crate::metrics::ClientErrorKind::Io].inc();
                    io.broken.set(true);
                    io.wake();
                    return;
                }
            }
        }
    }

    /// The socket takes bytes again: sends what is there. False: it is broken.
    pub fn unstick(&self, key: ClientKey, io: &ClientIo) -> bool {
        io.stuck.set(None);
        if self.has_failed() {
            return false;
        }
        let mut core = self.core_in_turn();
        self.flush(&mut core, key);
        !io.broken.get()
    }
}
