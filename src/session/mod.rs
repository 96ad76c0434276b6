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
mod auth;
mod blocking;
mod client_command;
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
pub mod writes;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use crate::command::{CommandId, Effect, Keys};
use crate::instance::{CLIENT_READ_BYTES, ClientInfo, ClientIo, Instance};
use crate::metrics::ClientErrorKind;
use crate::net::{ReadHalf, WriteHalf};
use crate::resp::request::{Decoder, RequestLimits};
use crate::route::ClientCommand;
use crate::sequencer::clients::{ClientKey, Doom};
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
    /// The sequencer holds what was submitted.
    Held,
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
    /// CLIENT PAUSE holds the next request up; it has not been taken.
    Paused,
    /// INFO multistore.
    Info(Owned),
    /// CLIENT TRACKING and its kin.
    Track(ClientCommand, Owned),
    /// The default store has changed under a tracking client.
    Retrack,
    /// MONITOR.
    Monitor(Owned),
    /// WATCH: from here on the client has a connection of its own.
    Watch(Owned),
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
    tracking: Option<Box<Tracking>>,
    /// The client has closed its half.
    eof: bool,
    /// While the process ends: what had arrived by then has been read.
    looked: bool,
    /// Close as soon as everything owed is sent.
    closing: bool,
    /// Wrong passwords so far.
    failures: u32,
}

/// How long a client that the proxy closes may take to close its side.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are read of one client before others have their turn.
const SHARE: usize = CLIENT_READ_BYTES;
/// Requests read ahead while the session waits for something.
const READ_AHEAD: usize = CLIENT_READ_BYTES;
/// A partial request for which no more room is made than has arrived, times two.
const KEEP_BUF: usize = 4 * 1024;

/// Serves one client until it is gone.
pub async fn serve(instance: Rc<Instance>, reader: ReadHalf, writer: WriteHalf, info: ClientInfo) {
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
        tracking: None,
        eof: false,
        looked: false,
        closing: false,
        failures: 0,
    };
    session.io.authenticated.set(authenticated);
    let _guard = Leave(session.instance.clone(), key);
    let Gone = session.run().await;
}

/// Lets the client go however its session ends, a panic included.
struct Leave(Rc<Instance>, ClientKey);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.leave(self.1);
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
                task => Box::pin(self.perform(task)).await,
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
            Task::Held => {
                let key = self.key;
                self.until(move |session| !session.instance.core().is_held(key)).await
            }
            Task::Block(request) => self.block(request).await,
            Task::Select(request) => self.select_unknown(request).await,
            Task::Authenticate(request) => self.authenticate(request).await,
            Task::Aside(request) => self.run_aside(request).await,
            Task::Subscribe(request) => self.subscribe(request).await,
            Task::Resubscribe => self.resubscribe().await,
            Task::Paused => self.wait_for_unpause().await,
            Task::Info(request) => self.info(request).await,
            Task::Track(command, request) => self.track(command, request).await,
            Task::Retrack => self.retrack().await,
            Task::Monitor(request) => self.monitor(request).await,
            Task::Watch(request) => self.watch(request).await,
            Task::Pinned(request) => self.run_pinned(request).await,
            Task::Heavy(request) => self.run_heavy(request).await,
            Task::ReadLarge(request) => self.read_large(request).await,
            Task::PinnedExec(seq) => self.exec_pinned(seq).await,
        }
    }

    /// Processes requests until there is something to wait for, or the end.
    async fn next_task(&mut self) -> Result<Option<Task>, Gone> {
        if !self.buf.is_empty() && self.may_read() {
            let buf = std::mem::take(&mut self.buf);
            let (used, mut task) = self.consume(&buf);
            self.keep_rest(buf, used, &mut task);
            if task.is_some() || self.closing {
                return Ok(task);
            }
        }
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn keep_rest(&mut self, mut buf: Vec<u8>, used: usize, task: &mut Option<Task>) {
        if let Some(Task::Heavy(heavy)) = task {
            buf = heavy.take_frame(buf, used);
        } else if used == buf.len() {
            buf.clear();
        } else if used > 0 {
            buf.drain(..used);
        }
        if buf.is_empty() && buf.capacity() > KEEP_BUF {
            buf = Vec::new();
        }
        debug_assert!(self.buf.is_empty());
        self.buf = buf;
    }

    /// May more requests of this client be taken? Not while too much is owed or unread.
    fn may_read(&self) -> bool {
        let config = self.instance.config();
        let core = self.instance.core();
        let Some(client) = core.clients.get(self.key) else { return false };
        client.owed() < config.client_pipeline_max
            && client.backlog() <= config.client_output_soft.bytes()
            && !core.must_slow_down()
    }

    /// One step of an idle session: flush what is stuck, forward messages, read.
    fn poll_turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Task>, Gone>> {
        self.share = 0;
        loop {
            self.check()?;
            self.poll_unstick(cx)?;
            if let Poll::Ready(moved) = self.poll_messages(cx) {
                return Poll::Ready(moved.map(|_| Some(Task::Resubscribe)));
            }
            if let Poll::Ready(moved) = self.poll_invalidations(cx) {
                return Poll::Ready(moved.map(|_| Some(Task::Retrack)));
            }
            if !self.may_read() {
                self.instance.wake_when_readable(self.key);
                if self.stay_asleep(cx) {
                    return Poll::Pending;
                }
                continue;
            }
            if !self.buf.is_empty() && self.decoder.needed().is_none_or(|needed| needed <= self.buf.len()) {
                // Requests that arrived while the session waited.
                let buf = std::mem::take(&mut self.buf);
                let (used, mut task) = self.consume(&buf);
                let stalled = used == 0 && task.is_none();
                self.keep_rest(buf, used, &mut task);
                if task.is_some() || self.closing {
                    return Poll::Ready(Ok(task));
                }
                if !stalled {
                    continue;
                }
            }
            // Only now: requests that came before the end of the stream are served.
            let draining = self.instance.draining.get() && self.at_boundary();
            if self.eof || (draining && self.looked) {
                self.closing = true;
                return Poll::Ready(Ok(None));
            }
            // What has arrived by now is still served.
            self.looked |= draining;
            match self.poll_read(cx) {
                Poll::Ready(Ok(task)) if task.is_some() || self.closing => return Poll::Ready(Ok(task)),
                Poll::Ready(Ok(_)) if self.share >= SHARE => return Poll::Ready(Ok(Some(Task::Yield))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
                Poll::Pending if draining => {}
                Poll::Pending => {
                    if self.stay_asleep(cx) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Is nothing half done: no partial request, no open transaction?
    fn at_boundary(&self) -> bool {
        let idle = self.pinned.is_none() || (self.tracking.is_some() && !self.is_watching());
        self.buf.is_empty() && self.multi.is_none() && idle
    }

    /// Reads once and processes what came.
    fn poll_read(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Task>, Gone>> {
        if !self.buf.is_empty() {
            return self.poll_read_more(cx);
        }
        let instance = self.instance.clone();
        let mut scratch = instance.scratch.borrow_mut();
        let n = match self.reader.poll_read(cx, &mut scratch) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                return Poll::Ready(Ok(None));
            }
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
        };
        self.came(n);
        let data = scratch.get(..n).unwrap_or_default();
        let (used, mut task) = self.consume(data);
        if let Some(Task::Heavy(heavy)) = &mut task {
            heavy.copy_frame(data, used);
        }
        self.buf.extend_from_slice(data.get(used..).unwrap_or_default());
        Poll::Ready(Ok(task))
    }

    /// Reads once behind a partial request, and processes it if it is complete.
    fn poll_read_more(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Task>, Gone>> {
        match self.poll_fill(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
            Poll::Ready(Ok(())) => {}
        }
        if self.eof {
            return Poll::Ready(Ok(None));
        }
        let buf = std::mem::take(&mut self.buf);
        let (used, mut task) = self.consume(&buf);
        self.keep_rest(buf, used, &mut task);
        Poll::Ready(Ok(task))
    }

    /// Reads once to the end of `buf`, which grows by what has come: a client that waits, or that
    /// sends a request byte by byte, costs little more than it has sent.
    fn poll_fill(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Gone>> {
        let instance = self.instance.clone();
        let mut scratch = instance.scratch.borrow_mut();
        match self.reader.poll_read(cx, &mut scratch) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(n)) => {
                self.buf.extend_from_slice(scratch.get(..n).unwrap_or_default());
                self.came(n);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Gone)),
        }
    }

    fn came(&mut self, n: usize) {
        self.share += n;
        self.instance.metrics.client_bytes_received.inc_by(n as u64);
    }

    /// Was the client ended by somebody else, or by the proxy?
    fn check(&self) -> Result<(), Gone> {
        if self.io.killed.get() || self.io.broken.get() {
            return Err(Gone);
        }
        let doomed = self.instance.core().clients.get(self.key).map(|client| client.doomed);
        match doomed {
            Some(None) => Ok(()),
            Some(Some(Doom::OutputLimit)) => {
                self.instance.metrics.client_errors[ClientErrorKind::OutputLimit].inc();
                tracing::warn!(instance = %self.instance.name, client = %self.io.info.borrow().addr,
                    "client closed: unread replies passed client_output_max");
                Err(Gone)
            }
            Some(Some(Doom::CutReply)) | None => Err(Gone),
        }
    }

    /// Sends a share of what is unsent, if the socket takes it.
    fn poll_unstick(&self, cx: &mut TaskContext<'_>) -> Result<(), Gone> {
        if !self.io.stuck.get() {
            return Ok(());
        }
        match self.io.writer.poll_write_ready(cx) {
            Poll::Ready(Ok(())) if !self.instance.unstick(self.key, &self.io) => Err(Gone),
            Poll::Ready(Ok(())) => {
                if self.io.stuck.get() {
                    // Others first. A socket that takes no more is waited for when this is polled again.
                    self.io.take_woken();
                    cx.waker().wake_by_ref();
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Pending => Ok(()),
        }
    }

    /// Registers for wake-ups. False: one has come already.
    fn stay_asleep(&self, cx: &mut TaskContext<'_>) -> bool {
        self.io.listen(cx.waker());
        !self.io.take_woken()
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
                let done = client.owed() == 0 && client.unsent().is_empty() && !session.io.stuck.get();
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
