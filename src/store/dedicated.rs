//! A connection to a store that serves one client: for what cannot share a lane.
//!
//! It knows its context, like a lane does, and is reused only while it is in step: a connection
//! whose owner went away in the middle of something is closed.

use std::io;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::time::timeout;

use crate::config::StoreConfig;
use crate::metrics::StoreErrorKind;
use crate::net::{ReadHalf, WriteHalf, split};
use crate::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use crate::resp::{Proto, encode};
use crate::sequencer::OutOfStep;
use crate::sequencer::lane::{Context, DownReason, answers_hello};
use crate::stage::StoreId;

use super::connection::{Connection, ConnectionError};
use super::handshake::{authenticate, locate};

const READ_BYTES: usize = 16 * 1024;
/// The most that is read, or written, before others have their turn.
const TURN_BYTES: usize = 64 * 1024;

/// A connection of one client's own.
pub struct Dedicated {
    /// Which store it leads to.
    pub store: StoreId,
    /// Its CLIENT ID.
    pub id: Option<i64>,
    /// Database and protocol that it is in.
    context: Context,
    base_db: u32,
    reader: ReadHalf,
    writer: WriteHalf,
    scanner: ReplyScanner,
    buf: Vec<u8>,
    start: usize,
    /// Nothing is under way: it can serve somebody else.
    pub clean: bool,
    /// Keys are watched on it: until EXEC it is its owner's alone.
    pub watching: bool,
    /// Out-of-band messages that came before a reply; none: nobody wants them.
    pushes: Option<Vec<u8>>,
}

/// A frame from a dedicated connection.
#[derive(Debug)]
pub struct Frame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Is it an out-of-band message?
    pub push: bool,
}

/// Why a dedicated connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DedicatedError {
    /// It could not be made.
    #[error("{}", .0.text)]
    Down(DownReason),
    /// It broke, or the store closed it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What the store sent is no reply.
    #[error("{0}")]
    Protocol(#[from] crate::resp::reply::ReplyError),
    /// The store refused the context; its error frame.
    #[error("the store refused the database or protocol")]
    Context(Vec<u8>),
    /// HELLO was not answered in the version that was asked for.
    #[error("{}", OutOfStep)]
    OutOfStep,
    /// No reply within `reply_timeout`.
    #[error("no reply in time")]
    Timeout,
}

// === impl Dedicated ===

impl Dedicated {
    /// Dials, authenticates, and says who it is (`name`): should this process be killed, the next one ends it.
    pub async fn dial(
        store: StoreId,
        name: &str,
        config: &StoreConfig,
        within: Duration,
    ) -> Result<Dedicated, DedicatedError> {
        let down = |error: ConnectionError| {
            DedicatedError::Down(DownReason {
                kind: StoreErrorKind::Connect,
                text: error.to_string(),
                store_error: None,
            })
        };
        let endpoint = locate(config, within).await.map_err(down)?;
        let mut connection = Connection::open(&endpoint, within).await.map_err(down)?;
        authenticate(&mut connection, config).await.map_err(DedicatedError::Down)?;
        // Who may not be named serves as well.
        connection.call(&["CLIENT", "SETNAME", name]).await.map_err(down)?;
        let id = connection.call(&["CLIENT", "ID"]).await.map_err(down)?.as_i64();
        let (socket, leftover) = connection.into_parts();
        let (reader, writer) = split(socket);
        Ok(Dedicated {
            store,
            id,
            context: Context { db: 0, proto: Proto::Resp2 },
            base_db: config.database.unwrap_or(0),
            reader,
            writer,
            scanner: ReplyScanner::new(),
            buf: leftover,
            start: 0,
            clean: true,
            watching: false,
            pushes: None,
        })
    }

    /// Dials without authenticating: for a client that wants to authenticate itself.
    pub async fn dial_bare(
        store: StoreId,
        name: &str,
        config: &StoreConfig,
        within: Duration,
    ) -> Result<Dedicated, DedicatedError> {
        let bare = StoreConfig { username: None, password: None, ..config.clone() };
        Dedicated::dial(store, name, &bare, within).await
    }

    /// Switches to a protocol, and to nothing else: HELLO is answered while a script runs, SELECT is not.
    pub async fn speak(
        &mut self,
        proto: Proto,
        limits: &ReplyLimits,
        within: Duration,
    ) -> Result<(), DedicatedError> {
        // `enter` adds the database of the store's URL to the client's.
        let base_db = std::mem::take(&mut self.base_db);
        let entered = self.enter(Context { db: self.context.db, proto }, limits, within).await;
        self.base_db = base_db;
        entered
    }

    /// Switches to `context`, and awaits the answers.
    pub async fn enter(
        &mut self,
        context: Context,
        limits: &ReplyLimits,
        within: Duration,
    ) -> Result<(), DedicatedError> {
        let wanted = Context { db: context.db + self.base_db, proto: context.proto };
        let mut request = Vec::new();
        let mut replies = 0;
        if wanted.proto != self.context.proto {
            let version: &[u8] = if wanted.proto == Proto::Resp3 { b"3" } else { b"2" };
            encode::command(&mut request, &[b"HELLO", version]);
            replies += 1;
        }
        if wanted.db != self.context.db {
            let mut number = itoa::Buffer::new();
            encode::command(&mut request, &[b"SELECT".as_slice(), number.format(wanted.db).as_bytes()]);
            replies += 1;
        }
        if replies == 0 {
            return Ok(());
        }
        let mut greeted = wanted.proto != self.context.proto;
        self.clean = false;
        self.send(&request, within).await?;
        for _ in 0..replies {
            let frame = self.reply(limits, within).await?;
            if frame.first() == Some(&b'-') {
                return Err(DedicatedError::Context(frame));
            }
            if std::mem::take(&mut greeted) && !answers_hello(wanted.proto, &frame) {
                return Err(DedicatedError::OutOfStep);
            }
        }
        self.context = wanted;
        self.clean = true;
        Ok(())
    }

    /// Sends bytes. `within` bounds each part of a large request: while it flows it may take as long as it needs.
    pub async fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), DedicatedError> {
        for (at, part) in bytes.chunks(TURN_BYTES).enumerate() {
            if at > 0 {
                tokio::task::yield_now().await;
            }
            match timeout(within, self.writer.write_all(part)).await {
                Ok(sent) => sent?,
                Err(_) => return Err(DedicatedError::Timeout),
            }
        }
        Ok(())
    }

    /// The protocol that it is in.
    pub fn proto(&self) -> Proto {
        self.context.proto
    }

    /// Are out-of-band messages before a reply kept for [`Dedicated::take_pushes`]?
    pub fn keep_pushes(&mut self, keep: bool) {
        self.pushes = keep.then(|| self.take_pushes());
    }

    /// Does somebody want them?
    pub fn keeps_pushes(&self) -> bool {
        self.pushes.is_some()
    }

    /// The out-of-band messages that came before replies.
    pub fn take_pushes(&mut self) -> Vec<u8> {
        self.pushes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The next reply; out-of-band messages before it are kept or dropped.
    pub async fn reply(&mut self, limits: &ReplyLimits, within: Duration) -> Result<Vec<u8>, DedicatedError> {
        let frame = async {
            loop {
                let frame = self.frame(limits).await?;
                if !frame.push {
                    return Ok(frame.bytes);
                }
                if let Some(pushes) = &mut self.pushes {
                    if (pushes.len() + frame.bytes.len()) as u64 > limits.max_reply {
                        return Err(DedicatedError::Timeout);
                    }
                    pushes.extend_from_slice(&frame.bytes);
                }
            }
        };
        timeout(within, frame).await.unwrap_or(Err(DedicatedError::Timeout))
    }

    /// The next frame of any kind. Nothing is lost when it is given up.
    pub async fn frame(&mut self, limits: &ReplyLimits) -> Result<Frame, DedicatedError> {
        std::future::poll_fn(|cx| self.poll_frame(cx, limits)).await
    }

    /// The next frame of any kind.
    pub fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
        limits: &ReplyLimits,
    ) -> Poll<Result<Frame, DedicatedError>> {
        let mut share = 0;
        loop {
            if let Some((len, push)) = self.scan(limits)? {
                return Poll::Ready(Ok(Frame { bytes: self.take(len), push }));
            }
            if share >= TURN_BYTES {
                // A large reply: others first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(n)) => share += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Appends the whole frames that are there to `out`, to be relayed as they are: a share of them, at least one.
    pub fn poll_frames(
        &mut self,
        cx: &mut TaskContext<'_>,
        limits: &ReplyLimits,
        out: &mut Vec<u8>,
    ) -> Poll<Result<(), DedicatedError>> {
        loop {
            while out.len() < TURN_BYTES
                && let Some((len, _)) = self.scan(limits)?
            {
                out.extend_from_slice(self.buf.get(self.start..self.start + len).unwrap_or_default());
                self.start += len;
            }
            if out.len() >= TURN_BYTES {
                return Poll::Ready(Ok(()));
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(_)) => {}
                // What has come is relayed first: a connection that has ended ends again.
                Poll::Pending | Poll::Ready(Err(_)) if !out.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Appends what has come of the next reply to `out`. True: it is complete.
    pub fn poll_piece(
        &mut self,
        cx: &mut TaskContext<'_>,
        limits: &ReplyLimits,
        out: &mut Vec<u8>,
    ) -> Poll<Result<bool, DedicatedError>> {
        loop {
            if let Some((len, push)) = self.scan(limits)? {
                let bytes = self.buf.get(self.start..self.start + len).unwrap_or_default();
                self.start += len;
                if !push {
                    out.extend_from_slice(bytes);
                    return Poll::Ready(Ok(true));
                }
                continue;
            }
            let bytes = self.buf.get(self.start..).unwrap_or_default();
            let certain = self.scanner.certain(bytes.len());
            if bytes.len() >= TURN_BYTES && certain > 0 && !self.scanner.in_push() {
                out.extend_from_slice(bytes.get(..certain).unwrap_or_default());
                self.scanner.forget(certain);
                self.start += certain;
                return Poll::Ready(Ok(false));
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The length of the next frame, if it is complete, and whether it is a push.
    fn scan(&mut self, limits: &ReplyLimits) -> Result<Option<(usize, bool)>, DedicatedError> {
        let bytes = self.buf.get(self.start..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.scanner.scan(bytes, limits)? {
            Scanned::Complete { len, push } => Ok(Some((len, push))),
            Scanned::Incomplete => Ok(None),
        }
    }

    /// Reads once.
    fn poll_more(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<usize, DedicatedError>> {
        self.buf.drain(..self.start);
        self.start = 0;
        let filled = self.buf.len();
        let room = filled.clamp(READ_BYTES, TURN_BYTES);
        if self.buf.capacity() < filled + room {
            self.buf.reserve_exact(room.max(filled / 2));
        }
        self.buf.resize(filled + room, 0);
        let read = self.reader.poll_read(cx, self.buf.get_mut(filled..).unwrap_or_default());
        let n = match &read {
            Poll::Ready(Ok(n)) => *n,
            _ => 0,
        };
        self.buf.truncate(filled + n);
        match read {
            Poll::Pending => {
                if self.buf.is_empty() {
                    self.buf = Vec::new();
                }
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            Poll::Ready(Ok(n)) => Poll::Ready(Ok(n)),
        }
    }

    /// Takes the next `len` bytes, which are a frame.
    fn take(&mut self, len: usize) -> Vec<u8> {
        if self.start == 0 && len == self.buf.len() {
            // A large reply is seldom followed by anything: it need not be copied.
            return std::mem::take(&mut self.buf);
        }
        let frame = self.buf.get(self.start..self.start + len).unwrap_or_default().to_vec();
        self.start += len;
        frame
    }

    /// Is the connection still there, with nothing unread? A reply that its last owner has left behind would be taken
    /// for the answer to the next one.
    pub fn is_alive(&mut self) -> bool {
        let mut cx = TaskContext::from_waker(std::task::Waker::noop());
        let mut byte = [0; 1];
        let all_read = self.buf.len() == self.start;
        self.clean && all_read && self.reader.poll_read(&mut cx, &mut byte).is_pending()
    }

    /// A successful transaction with SELECT, or the like, has moved it: it serves nobody else.
    pub fn spoil(&mut self) {
        self.clean = false;
    }
}
