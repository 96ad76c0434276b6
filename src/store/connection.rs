//! A plain connection to a server: for handshakes, admin commands, tools. Not for the traffic of clients.
//!
//! One call at a time. A call that fails half way, or whose future is dropped, leaves replies behind that nobody
//! waits for: such a connection refuses further calls rather than answer with somebody else's reply.

mod endpoint;
mod socket;

pub use endpoint::Endpoint;
pub use socket::{Socket, dial};

use crate::resp::encode;
use crate::resp::reply::{ReplyError, ReplyLimits, ReplyScanner, Scanned};
use crate::resp::value::{OwnedValue, ValueError};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tokio::io::Interest;
use tokio::time::timeout;

/// Read at once.
const READ_BYTES: usize = 16 * 1024;

/// Bytes that a reply may have, which is held in memory as a whole, unless [set](Connection::set_limits).
const MAX_REPLY_BYTES: u64 = 1 << 30;

/// Out-of-band messages that are kept for [`Connection::read_push`]; older ones make way.
const MAX_KEPT_PUSHES: usize = 1024;

/// A connection that sends commands and awaits their replies.
#[derive(Debug)]
pub struct Connection {
    endpoint: Endpoint,
    socket: Socket,
    buf: BytesMut,
    scanner: ReplyScanner,
    limits: ReplyLimits,
    pushes: VecDeque<Vec<u8>>,
    timeout: Duration,
    /// Replies that commands on their way still owe. Not 0 at the start of a call: a call was given up.
    owed: usize,
    /// Something has come from the server.
    heard: bool,
}

/// Why a server could not be asked. Every text names the server.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// No connection came about.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The server.
        endpoint: Endpoint,
        /// What the system says.
        source: io::Error,
    },
    /// No sentinel says where the master is.
    #[error("no sentinel of {master} says where it is: {problem}")]
    NoMaster {
        /// Sentinels and name.
        master: String,
        /// What each of them said.
        problem: String,
    },
    /// The reply did not come in time.
    #[error("{endpoint} did not answer within {after:?}")]
    Timeout {
        /// The server.
        endpoint: Endpoint,
        /// How long it was given.
        after: Duration,
    },
    /// The server closed the connection.
    #[error("{endpoint} closed the connection")]
    Closed {
        /// The server.
        endpoint: Endpoint,
    },
    /// The server closed the connection without a word.
    #[error("{endpoint} closed the connection without any reply{}", plain_hint(endpoint))]
    Mute {
        /// The server.
        endpoint: Endpoint,
    },
    /// The connection broke.
    #[error("connection to {endpoint} failed: {source}")]
    Io {
        /// The server.
        endpoint: Endpoint,
        /// What the system says.
        source: io::Error,
    },
    /// The server sent something that is no reply.
    #[error("{endpoint} does not speak the Redis protocol: {source}")]
    Protocol {
        /// The server.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: ReplyError,
    },
    /// The reply could not be taken apart.
    #[error("reply of {endpoint} cannot be read: {source}")]
    Value {
        /// The server.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: ValueError,
    },
    /// An earlier call was given up half way.
    #[error("connection to {endpoint} is out of step: an earlier call was given up")]
    OutOfStep {
        /// The server.
        endpoint: Endpoint,
    },
}

/// What a server that says nothing at all may be.
pub fn plain_hint(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Tcp { .. } => "; a port for TLS does that to a plain connection (rediss:// is with TLS)",
        Endpoint::Tls { .. } | Endpoint::Unix(_) => "",
    }
}

// === impl Connection ===

impl Connection {
    /// Connects; `timeout` bounds the connecting, and each call until [set otherwise](Self::set_timeout).
    pub async fn open(endpoint: &Endpoint, timeout: Duration) -> Result<Self, ConnectionError> {
        match dial(endpoint, timeout).await {
            Ok(socket) => Ok(Self::from_parts(endpoint.clone(), socket, timeout)),
            Err(source) => Err(ConnectionError::Connect { endpoint: endpoint.clone(), source }),
        }
    }

    /// Takes over a socket on which nothing is outstanding.
    pub fn from_parts(endpoint: Endpoint, socket: Socket, timeout: Duration) -> Self {
        Self {
            endpoint,
            socket,
            buf: BytesMut::new(),
            scanner: ReplyScanner::new(),
            limits: ReplyLimits { max_reply: MAX_REPLY_BYTES, ..ReplyLimits::default() },
            pushes: VecDeque::new(),
            timeout,
            owed: 0,
            heard: false,
        }
    }

    /// The server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How long a call may take from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// How large a reply may become from now on.
    pub fn set_limits(&mut self, limits: ReplyLimits) {
        self.limits = limits;
    }

    /// Sends a command and awaits its reply. An error reply is a value as well.
    pub async fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<OwnedValue, ConnectionError> {
        let frame = self.call_raw(args).await?;
        self.value(&frame)
    }

    /// Sends a command and awaits the bytes of its reply.
    pub async fn call_raw<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Vec<u8>, ConnectionError> {
        let mut out = Vec::new();
        encode::command(&mut out, args);
        let mut frames = self.exchange(&out, 1).await?;
        frames.pop().ok_or_else(|| ConnectionError::OutOfStep { endpoint: self.endpoint.clone() })
    }

    /// Sends all commands at once and awaits all their replies.
    pub async fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<OwnedValue>, ConnectionError> {
        let frames = self.pipeline_raw(commands).await?;
        frames.iter().map(|frame| self.value(frame)).collect()
    }

    /// Sends all commands at once and awaits the bytes of all their replies.
    pub async fn pipeline_raw(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Vec<u8>>, ConnectionError> {
        let mut out = Vec::new();
        commands.iter().for_each(|args| encode::command(&mut out, args));
        self.exchange(&out, commands.len()).await
    }

    /// The next out-of-band message (RESP3): one that came between replies, or one that is yet to come.
    pub async fn read_push(&mut self) -> Result<OwnedValue, ConnectionError> {
        let frame = match self.pushes.pop_front() {
            Some(frame) => frame,
            None => self.next_frame().await?,
        };
        self.value(&frame)
    }

    /// The next frame of any kind, whether asked for or not: messages of RESP2 subscriptions, MONITOR.
    ///
    /// May be given up at any time: nothing is lost.
    pub async fn next_frame(&mut self) -> Result<Vec<u8>, ConnectionError> {
        let endpoint = self.endpoint.clone();
        let after = self.timeout;
        let frame = timeout(after, async {
            loop {
                if let Some((frame, _)) = self.take_frame()? {
                    return Ok(frame);
                }
                self.wait(Interest::READABLE).await?;
                self.read()?;
            }
        });
        frame.await.unwrap_or(Err(ConnectionError::Timeout { endpoint, after }))
    }

    /// Gives up the connection: its socket, and what was received beyond the last reply.
    pub fn into_parts(self) -> (Socket, Vec<u8>) {
        (self.socket, self.buf.to_vec())
    }

    /// Sends `out` and awaits `replies` replies.
    async fn exchange(&mut self, out: &[u8], replies: usize) -> Result<Vec<Vec<u8>>, ConnectionError> {
        if self.owed > 0 {
            return Err(ConnectionError::OutOfStep { endpoint: self.endpoint.clone() });
        }
        self.owed = replies;
        let endpoint = self.endpoint.clone();
        let after = self.timeout;
        let exchanged = timeout(after, self.send_and_receive(out));
        exchanged.await.unwrap_or(Err(ConnectionError::Timeout { endpoint, after }))
    }

    /// Reads while it writes: a server that cannot get rid of its replies stops reading commands.
    async fn send_and_receive(&mut self, mut out: &[u8]) -> Result<Vec<Vec<u8>>, ConnectionError> {
        let mut frames = Vec::new();
        loop {
            out = self.write(out);
            while self.owed > 0
                && let Some((frame, push)) = self.take_frame()?
            {
                if push {
                    self.keep_push(frame);
                } else {
                    frames.push(frame);
                    self.owed -= 1;
                }
            }
            if out.is_empty() && self.owed == 0 {
                return Ok(frames);
            }
            let sent = out.is_empty() && self.socket.is_flushed();
            let interest = if sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            self.wait(interest).await?;
            self.read()?;
        }
    }

    fn keep_push(&mut self, frame: Vec<u8>) {
        if self.pushes.len() >= MAX_KEPT_PUSHES {
            self.pushes.pop_front();
        }
        self.pushes.push_back(frame);
    }

    /// The next complete frame of the buffer, and whether it is out of band.
    fn take_frame(&mut self) -> Result<Option<(Vec<u8>, bool)>, ConnectionError> {
        match self.scanner.scan(&self.buf, &self.limits) {
            Ok(Scanned::Incomplete) => Ok(None),
            Ok(Scanned::Complete { len, push }) => {
                let frame = self.buf.get(..len).unwrap_or_default().to_vec();
                self.buf.advance(frame.len());
                Ok(Some((frame, push)))
            }
            Err(source) => Err(ConnectionError::Protocol { endpoint: self.endpoint.clone(), source }),
        }
    }

    /// Writes what the socket takes; gives what is left.
    ///
    /// A failure is left for reading to find: a server that refuses a connection says why before it closes it.
    fn write<'a>(&self, mut out: &'a [u8]) -> &'a [u8] {
        while !out.is_empty() {
            match self.socket.try_write(out) {
                Ok(written) => out = out.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return &[],
            }
        }
        out
    }

    /// Reads once, if there is something.
    fn read(&mut self) -> Result<(), ConnectionError> {
        let mut chunk = [0; READ_BYTES];
        match self.socket.try_read(&mut chunk) {
            Ok(0) => Err(self.closed()),
            Ok(n) => {
                self.heard = true;
                self.buf.extend_from_slice(chunk.get(..n).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // Closed while commands of ours were still unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(self.closed()),
            Err(error) => Err(self.broken(error)),
        }
    }

    async fn wait(&self, interest: Interest) -> Result<(), ConnectionError> {
        self.socket.ready(interest).await.map(drop).map_err(|error| self.broken(error))
    }

    fn value(&self, frame: &[u8]) -> Result<OwnedValue, ConnectionError> {
        OwnedValue::parse(frame)
            .map_err(|source| ConnectionError::Value { endpoint: self.endpoint.clone(), source })
    }

    fn closed(&self) -> ConnectionError {
        let endpoint = self.endpoint.clone();
        if self.heard { ConnectionError::Closed { endpoint } } else { ConnectionError::Mute { endpoint } }
    }

    fn broken(&self, source: io::Error) -> ConnectionError {
        ConnectionError::Io { endpoint: self.endpoint.clone(), source }
    }
}
