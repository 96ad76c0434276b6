//! Stream sockets, TCP, Unix or TLS, split into a half that reads and a half that writes.
//!
//! Reading goes through tokio's poll_read: it knows that a read that did not fill the buffer has
//! emptied the socket, which saves a system call per request.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use crate::store::connection::Socket;
use crate::tls::TlsStream;

/// Bytes that are written to one peer before others have their turn.
const WRITE_SHARE: usize = 128 * 1024;

/// The half that reads.
#[derive(Debug)]
pub enum ReadHalf {
    /// Of a TCP stream.
    Tcp(tcp::OwnedReadHalf),
    /// Of a Unix stream.
    Unix(unix::OwnedReadHalf),
    /// Of a TLS stream.
    Tls(Arc<TlsStream>),
}

/// The half that writes. It can be shared: writing never needs `&mut`.
#[derive(Debug)]
pub enum WriteHalf {
    /// Of a TCP stream.
    Tcp(tcp::OwnedWriteHalf),
    /// Of a Unix stream.
    Unix(unix::OwnedWriteHalf),
    /// Of a TLS stream.
    Tls(Arc<TlsStream>),
}

/// Splits a TCP stream.
pub fn split_tcp(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
}

/// Splits a Unix stream.
pub fn split_unix(stream: UnixStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (ReadHalf::Unix(read), WriteHalf::Unix(write))
}

/// Splits a TLS stream.
pub fn split_tls(stream: TlsStream) -> (ReadHalf, WriteHalf) {
    let stream = Arc::new(stream);
    (ReadHalf::Tls(stream.clone()), WriteHalf::Tls(stream))
}

/// Splits a dialed socket.
pub fn split(socket: Socket) -> (ReadHalf, WriteHalf) {
    match socket {
        Socket::Tcp(stream) => split_tcp(stream),
        Socket::Unix(stream) => split_unix(stream),
        Socket::Tls(stream) => split_tls(*stream),
    }
}

// === impl ReadHalf ===

impl ReadHalf {
    /// Reads once, into the front of `buf`. 0: the peer has closed.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let ready = match self {
            ReadHalf::Tcp(half) => Pin::new(half).poll_read(cx, &mut buf),
            ReadHalf::Unix(half) => Pin::new(half).poll_read(cx, &mut buf),
            ReadHalf::Tls(stream) => return stream.poll_read(cx, buf.initialize_unfilled()),
        };
        ready.map_ok(|()| buf.filled().len())
    }

    /// Reads once, into the front of `buf`. 0: the peer has closed.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            ReadHalf::Tcp(half) => half.read(buf).await,
            ReadHalf::Unix(half) => half.read(buf).await,
            ReadHalf::Tls(stream) => poll_fn(|cx| stream.poll_read(cx, buf)).await,
        }
    }
}

/// Sends at once what the socket takes: nearly always it does. The runtime, which keeps count of which sockets do, is asked
/// where it does not (`or_wait`): it must know before it is waited for.
#[inline]
fn send(socket: impl AsFd, bytes: &[u8], or_wait: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::WOULDBLOCK) => or_wait(),
        sent => Ok(sent?),
    }
}

// === impl WriteHalf ===

impl WriteHalf {
    /// Writes what the socket takes now.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            WriteHalf::Tcp(half) => send(half.as_ref(), bytes, || half.try_write(bytes)),
            WriteHalf::Unix(half) => send(half.as_ref(), bytes, || half.try_write(bytes)),
            WriteHalf::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// May what was written still wait on this side?
    #[inline]
    pub fn holds_back(&self) -> bool {
        matches!(self, WriteHalf::Tls(_))
    }

    /// Sends what was written and still waits on this side, as under TLS it may; `WouldBlock` while it must wait on.
    pub fn try_flush(&self) -> io::Result<()> {
        match self {
            WriteHalf::Tcp(_) | WriteHalf::Unix(_) => Ok(()),
            WriteHalf::Tls(stream) => stream.try_flush(),
        }
    }

    /// Does the socket take bytes again?
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteHalf::Tcp(half) => half.as_ref().poll_write_ready(cx),
            WriteHalf::Unix(half) => half.as_ref().poll_write_ready(cx),
            WriteHalf::Tls(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Waits until the socket takes bytes again.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            WriteHalf::Tcp(half) => half.writable().await,
            WriteHalf::Unix(half) => half.writable().await,
            WriteHalf::Tls(stream) => poll_fn(|cx| stream.poll_write_ready(cx)).await,
        }
    }

    /// Says that nothing more will be written; what was written still arrives.
    pub fn shutdown(&self) {
        // A socket that is gone needs no farewell.
        let _ = match self {
            WriteHalf::Tcp(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
            WriteHalf::Unix(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
            WriteHalf::Tls(stream) => {
                stream.shutdown();
                Ok(())
            }
        };
    }

    /// Writes everything; others have their turn in between, however fast the peer takes it.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut share = WRITE_SHARE;
        loop {
            if share == 0 {
                share = WRITE_SHARE;
                tokio::task::yield_now().await;
            }
            let written = match bytes.is_empty() {
                true => self.try_flush().map(|()| None),
                false => self.try_write(bytes.get(..share).unwrap_or(bytes)).map(Some),
            };
            match written {
                Ok(None) => return Ok(()),
                Ok(Some(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Some(n)) => {
                    bytes = bytes.get(n..).unwrap_or_default();
                    share = share.saturating_sub(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}
