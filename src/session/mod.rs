//! One client: reads requests, owes replies in order.
//!
//! ```text
//! socket → read → decode → request (one command at a time, synchronous)
//!                             ├ submit to the sequencer, and go on
//!                             └ a Task: something to wait for; the client is read no further
//! ```
//!
//! Replies do not pass here: the sequencer pays them into the client's buffer, and whoever drove
//! the sequencer flushes it. The session wakes only to read, or when the socket is stuck.

mod aside;
mod asked;
mod auth;
mod blocking;
mod client_command;
mod fenced;
pub mod guesses;
mod heavy;
mod info;
mod judge;
mod large;
mod monitor;
mod pause;
mod pinned;
mod pubsub;
mod queue;
mod request;
mod select;
mod state;
mod tracking;
mod transaction;
mod turn;
pub mod writes;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Sleep;

use crate::command::{CommandId, Effect, Keys};
use crate::instance::admission::Seat;
use crate::instance::{CLIENT_READ_BYTES, ClientInfo, ClientIo, Instance};
use crate::net::{ReadHalf, WriteHalf};
use crate::resp::request::{Decoder, RequestLimits};
use crate::route::ClientCommand;
use crate::sequencer::clients::ClientKey;
use crate::store::pool::Loan;

use heavy::Heavy;
use large::LastRead;
pub use request::{fills, footprint};

use pubsub::Subscriber;
use state::{Repeated, State};
use tracking::Tracking;
use transaction::Multi;

/// Why a session is over. What is still to be sent has been sent, or cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gone;

/// Something that a session must wait for before it reads on.
enum Task {
    /// Others' turn: this client has had its share.
    Yield,
    /// The sequencer holds what was submitted: so many bytes.
    Held(usize),
    /// A blocking command.
    Block(Owned),
    /// SELECT of a database that the store has not answered for.
    Select(Owned),
    /// AUTH, or HELLO with AUTH.
    Authenticate(Owned),
    /// A command that goes past the lanes.
    Aside(Owned),
    /// SUBSCRIBE and its kin.
    Subscribe(Owned),
    /// The default store has changed under a subscriber.
    Resubscribe,
    /// CLIENT PAUSE holds the next request up; it has not been taken. The function that it calls, if it may be one that
    /// never writes.
    Paused(Option<Box<[u8]>>),
    /// INFO multistore.
    Info(Owned),
    /// CLIENT KILL of a user whom only the default store may know.
    KillUser(Owned),
    /// CLIENT TRACKING and its kin.
    Track(ClientCommand, Owned),
    /// The default store has changed under a tracking client.
    Retrack,
    /// MONITOR.
    Monitor(Owned),
    /// WATCH: from here on the client has a connection of its own.
    Watch(Owned),
    /// UNWATCH of a client that watches keys.
    Unwatch(Owned),
    /// A command of a client that has a connection of its own.
    Pinned(Owned),
    /// A request that is too large for a lane.
    Heavy(Heavy),
    /// A read whose reply is too large for a lane.
    ReadLarge(Owned),
    /// EXEC of a transaction that cannot run in a lane.
    PinnedExec(u64),
}

/// A request that is kept.
struct Owned {
    frame: Vec<u8>,
    args: Vec<Vec<u8>>,
    command: CommandId,
    effect: Effect,
    seq: u64,
}

/// One client.
struct Session {
    instance: Rc<Instance>,
    key: ClientKey,
    io: Rc<ClientIo>,
    reader: ReadHalf,
    /// Bytes of requests that are not complete, or that wait for a task to end.
    buf: Vec<u8>,
    decoder: Decoder,
    limits: RequestLimits,
    state: State,
    repeated: Repeated,
    keys: Keys,
    multi: Option<Box<Multi>>,
    pinned: Option<Box<Loan>>,
    /// The connection on which this client watched keys is gone: EXEC answers nil.
    watch_lost: bool,
    subscriber: Option<Box<Subscriber>>,
    /// The lone read that was made last.
    last_read: LastRead,
    /// Bytes read in this turn.
    share: usize,
    /// How many requests may be taken before too much is owed. Each owes one reply at most.
    room: usize,
    tracking: Option<Box<Tracking>>,
    /// While the client reads none of its replies: for how long this is waited for.
    patience: Option<Pin<Box<Sleep>>>,
    /// The client has closed its half.
    eof: bool,
    /// While the process ends: what had arrived by then has been read.
    looked: bool,
    /// Close as soon as everything owed is sent.
    closing: bool,
    /// Bytes of the request that is waited for.
    waiting: usize,
    /// The next request need not wait for the end of the pause.
    passes_pause: bool,
}

/// How long a client that the proxy closes may take to close its side.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are read of one client before others have their turn.
const SHARE: usize = CLIENT_READ_BYTES;
/// Requests read ahead while the session waits for something.
const READ_AHEAD: usize = CLIENT_READ_BYTES;
/// A partial request for which no more room is made than has arrived, times two.
const KEEP_BUF: usize = 4 * 1024;

/// Takes a client in. What is returned serves it until it is gone, and holds nothing but its state: there may be very
/// many of them.
pub fn serve(
    instance: Rc<Instance>,
    seat: Seat,
    reader: ReadHalf,
    writer: WriteHalf,
    info: ClientInfo,
) -> impl Future<Output = ()> {
    let config = instance.config();
    let authenticated = config.auth == crate::config::Auth::None;
    let (key, io) = instance.join(ClientIo::new(writer, info));
    let limits = RequestLimits {
        max_bulk: config.max_bulk.bytes(),
        max_args: config.max_args,
        max_inline: config.max_inline.bytes(),
        max_request: config.max_request.bytes(),
        unauthenticated: !authenticated,
    };
    let mut session = Session {
        instance,
        key,
        io,
        reader,
        buf: Vec::new(),
        decoder: Decoder::new(),
        limits,
        state: State::new(authenticated),
        repeated: Repeated::default(),
        keys: Keys::new(),
        multi: None,
        pinned: None,
        watch_lost: false,
        subscriber: None,
        last_read: LastRead::default(),
        share: 0,
        room: 0,
        tracking: None,
        patience: None,
        eof: false,
        looked: false,
        closing: false,
        waiting: 0,
        passes_pause: false,
    };
    session.io.authenticated.set(authenticated);
    let leave = Leave { instance: session.instance.clone(), key, _seat: seat };
    async move {
        let _leave = &leave;
        let Gone = session.run().await;
    }
}

/// Lets the client go however its session ends, a panic included.
struct Leave {
    instance: Rc<Instance>,
    key: ClientKey,
    _seat: Seat,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.instance.leave(self.key);
    }
}

// === impl Task ===

impl Task {
    /// What is kept while it is waited for.
    fn bytes(&self) -> usize {
        match self {
            Task::Held(bytes) => *bytes,
            Task::Heavy(heavy) => heavy.bytes(),
            Task::Block(request)
            | Task::Select(request)
            | Task::Authenticate(request)
            | Task::Aside(request)
            | Task::Subscribe(request)
            | Task::Info(request)
            | Task::KillUser(request)
            | Task::Track(_, request)
            | Task::Monitor(request)
            | Task::Watch(request)
            | Task::Unwatch(request)
            | Task::Pinned(request)
            | Task::ReadLarge(request) => request.bytes(),
            Task::Yield | Task::Resubscribe | Task::Paused(_) | Task::Retrack | Task::PinnedExec(_) => 0,
        }
    }
}

// === impl Owned ===

impl Owned {
    /// The frame, and its arguments once more.
    fn bytes(&self) -> usize {
        self.frame.len() * 2 + self.args.len() * size_of::<Vec<u8>>()
    }
}

// === impl Session ===

impl Session {
    async fn run(&mut self) -> Gone {
        loop {
            if self.closing {
                return self.finish().await;
            }
            let task = match self.next_task().await {
                Ok(Some(task)) => task,
                Ok(None) => continue,
                Err(gone) => return gone,
            };
            let done = match task {
                Task::Yield => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
                task => {
                    self.waiting = task.bytes();
                    self.weigh();
                    let done = Box::pin(self.perform(task)).await;
                    self.waiting = 0;
                    self.weigh();
                    done
                }
            };
            if let Err(gone) = done {
                return gone;
            }
            // What a task paid leaves now: the session may sleep next.
            self.instance.settle();
        }
    }

    async fn perform(&mut self, task: Task) -> Result<(), Gone> {
        match task {
            Task::Yield => Ok(()),
            Task::Held(_) => {
                let key = self.key;
                self.until(move |session| !session.instance.core().is_held(key)).await
            }
            Task::Block(request) => self.block(request).await,
            Task::Select(request) => self.select_unknown(request).await,
            Task::Authenticate(request) => self.authenticate(request).await,
            Task::Aside(request) => self.run_aside(request).await,
            Task::Subscribe(request) => self.subscribe(request).await,
            Task::Resubscribe => self.resubscribe().await,
            Task::Paused(function) => self.wait_for_unpause(function).await,
            Task::Info(request) => self.info(request).await,
            Task::KillUser(request) => self.kill_user(request).await,
            Task::Track(command, request) => self.track(command, request).await,
            Task::Retrack => self.retrack().await,
            Task::Monitor(request) => self.monitor(request).await,
            Task::Watch(request) => self.watch(request).await,
            Task::Unwatch(request) => self.unwatch(request).await,
            Task::Pinned(request) => self.run_pinned(request).await,
            Task::Heavy(request) => self.run_heavy(request).await,
            Task::ReadLarge(request) => self.read_large(request).await,
            Task::PinnedExec(seq) => self.exec_pinned(seq).await,
        }
    }

    /// Waits until `done`, while replies flow and requests are read ahead.
    async fn until(&mut self, mut done: impl FnMut(&mut Session) -> bool) -> Result<(), Gone> {
        self.instance.settle();
        poll_fn(|cx| {
            loop {
                self.check()?;
                self.poll_unstick(cx)?;
                if let Poll::Ready(Err(gone)) = self.poll_invalidations(cx) {
                    return Poll::Ready(Err(gone));
                }
                if done(self) {
                    return Poll::Ready(Ok(()));
                }
                if !self.eof && self.buf.len() < READ_AHEAD && self.poll_fill(cx)?.is_ready() {
                    continue;
                }
                self.poll_patience(cx);
                if self.stay_asleep(cx) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Waits until all earlier replies are in.
    async fn drained(&mut self, but: usize) -> Result<(), Gone> {
        self.until(move |session| {
            let mut core = session.instance.core_mut();
            let drained = core.clients.get(session.key).is_none_or(|client| client.owed() <= but);
            if !drained {
                core.clients.wake_on_reply(session.key);
            }
            drained
        })
        .await
    }

    /// Waits until everything owed is sent, then ends.
    async fn finish(&mut self) -> Gone {
        let _ = self
            .until(|session| {
                let mut core = session.instance.core_mut();
                let Some(client) = core.clients.get(session.key) else { return true };
                let done = client.owed() == 0 && client.unsent().is_empty() && !session.io.is_stuck();
                if !done {
                    core.clients.wake_on_reply(session.key);
                }
                done
            })
            .await;
        self.linger().await;
        Gone
    }

    /// Lets the client take what was sent to it. A socket that is closed with input unread is reset,
    /// and what the client has not received by then is lost.
    async fn linger(&mut self) {
        if self.eof || self.check().is_err() {
            return;
        }
        self.io.leaving.set(true);
        self.io.writer.shutdown();
        let _ = tokio::time::timeout(
            LINGER,
            self.until(|session| {
                session.buf.clear();
                session.eof
            }),
        )
        .await;
    }

    // --- paying ---

    /// Opens a slot for the reply to the request at hand.
    fn owe(&mut self) -> u64 {
        let muted = self.state.begin_command();
        self.instance.core_in_turn().clients.owe(self.key, muted)
    }

    fn pay(&self, seq: u64, reply: &[u8]) {
        self.instance.core_in_turn().clients.pay(self.key, seq, reply);
    }

    fn pay_with(&self, seq: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let mut reply = Vec::new();
        write(&mut reply);
        self.pay(seq, &reply);
    }

    fn pay_error(&self, seq: u64, text: impl AsRef<[u8]>) {
        self.pay_with(seq, |out| crate::resp::encode::error(out, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each client has one of these for as long as it is connected.
    #[test]
    fn a_session_is_small() {
        fn size<A, B, C, D, E, F: Future>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(serve) <= 1536, "{} bytes", size(serve));
    }
}
