//! A stream socket to a server, over TCP or a Unix domain socket.

use super::Endpoint;
use crate::config::StoreTls;
use crate::tls::TlsStream;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io;
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
    /// TLS over TCP.
    Tls(Box<TlsStream>),
}

/// Hands a method over to the stream inside.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
            Socket::Tls($stream) => $call,
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
        Endpoint::Tcp { host, port } => connect_tcp(host, *port).await.map(Socket::Tcp),
        Endpoint::Tls { host, port, tls } => {
            let stream = connect_tcp(host, *port).await?;
            secure(stream, host, tls).await.map(|stream| Socket::Tls(Box::new(stream)))
        }
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
    }
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Endpoint::bare_host(host), port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

async fn secure(stream: TcpStream, host: &str, tls: &StoreTls) -> io::Result<TlsStream> {
    let config = tls.config().map_err(|problem| io::Error::other(format!("TLS: {problem}")))?;
    let name = tls.server_name.as_deref().unwrap_or_else(|| Endpoint::bare_host(host)).to_owned();
    let name = ServerName::try_from(name).map_err(|error| io::Error::other(format!("TLS: {error}")))?;
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("TLS handshake: {error}"));
    TlsStream::connect(stream, config, name).await.map_err(explain)
}

// === impl Socket ===

impl Socket {
    /// Waits until one of `interest` is likely to succeed.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        either!(self, stream => stream.ready(interest).await)
    }

    /// Reads what is there, or fails with `WouldBlock`. 0: the server closed the connection.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(buf))
    }

    /// Writes what the system takes, or fails with `WouldBlock`.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(buf))
    }

    /// Sends what was written and still waits here. False: the system takes no more for now.
    pub fn is_flushed(&self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => true,
            // A failure is left for reading to find.
            Socket::Tls(stream) => {
                !stream.try_flush().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }
}
