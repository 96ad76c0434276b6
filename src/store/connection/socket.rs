//! A stream socket to a server, over TCP or a Unix domain socket.

use super::Endpoint;
use bytes::BufMut;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, IoSlice};
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Silence after which the system asks whether the server still is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// A connected socket. Its operations are tokio's.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix domain socket.
    Unix(UnixStream),
}

/// Hands a method over to the stream inside.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

/// Connects. Resolving a name counts towards the time, and every address that it stands for is tried.
pub async fn dial(endpoint: &Endpoint, within: Duration) -> io::Result<Socket> {
    match timeout(within, connect(endpoint)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {within:?}"))),
    }
}

async fn connect(endpoint: &Endpoint) -> io::Result<Socket> {
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((Endpoint::bare_host(host), *port)).await?;
            stream.set_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            Ok(Socket::Tcp(stream))
        }
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
    }
}

// === impl Socket ===

impl Socket {
    /// Waits until one of `interest` is likely to succeed.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        either!(self, stream => stream.ready(interest).await)
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> io::Result<()> {
        either!(self, stream => stream.readable().await)
    }

    /// Waits until something can be written.
    pub async fn writable(&self) -> io::Result<()> {
        either!(self, stream => stream.writable().await)
    }

    /// Reads what is there, or fails with `WouldBlock`. 0: the server closed the connection.
    #[inline]
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(buf))
    }

    /// As [`try_read`](Self::try_read), appending to a buffer.
    #[inline]
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        either!(self, stream => stream.try_read_buf(buf))
    }

    /// Writes what the system takes, or fails with `WouldBlock`.
    #[inline]
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(buf))
    }

    /// As [`try_write`](Self::try_write), from several buffers.
    #[inline]
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_vectored(bufs))
    }
}
