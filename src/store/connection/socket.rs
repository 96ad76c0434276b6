//! A stream socket to a server, over TCP or a Unix domain socket.

use super::Endpoint;
use crate::config::StoreTls;
use crate::tls::TlsStream;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Silence after which the system asks whether the server still is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// What a server may be that does not shake hands.
const PLAIN_HINT: &str = "; is this a port for TLS? (redis:// is without)";

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
    let deadline = Instant::now() + within;
    let late = |what: &str, hint: &str| {
        io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {within:?}{hint}"))
    };
    let stream = match endpoint {
        Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => {
            let connected = timeout_at(deadline, connect_tcp(host, *port)).await;
            connected.map_err(|_| late("no connection", ""))??
        }
        Endpoint::Unix(path) => {
            let connected = timeout_at(deadline, UnixStream::connect(path)).await;
            return connected.map_err(|_| late("no connection", ""))?.map(Socket::Unix);
        }
    };
    let Endpoint::Tls { host, tls, .. } = endpoint else { return Ok(Socket::Tcp(stream)) };
    let secured = timeout_at(deadline, secure(stream, host, tls)).await;
    let secured = secured.map_err(|_| late("TLS handshake: no answer", PLAIN_HINT))?;
    secured.map(|stream| Socket::Tls(Box::new(stream)))
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = connect_by(|host, port| lookup_host((host, port)), host, port).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Connects to the first address of `host` that takes it. The name is looked up every time: it may lead elsewhere by now.
async fn connect_by<R, F, A>(resolve: R, host: &str, port: u16) -> io::Result<TcpStream>
where
    R: FnOnce(String, u16) -> F,
    F: Future<Output = io::Result<A>>,
    A: Iterator<Item = SocketAddr>,
{
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve(Endpoint::bare_host(host).to_owned(), port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

async fn secure(stream: TcpStream, host: &str, tls: &StoreTls) -> io::Result<TlsStream> {
    let config = tls.config().map_err(|problem| io::Error::other(format!("TLS: {problem}")))?;
    let name = tls.server_name.as_deref().unwrap_or_else(|| Endpoint::bare_host(host)).to_owned();
    let name = ServerName::try_from(name).map_err(|error| io::Error::other(format!("TLS: {error}")))?;
    let explain = |error: io::Error| {
        let foreign = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let is_plain = matches!(foreign, Some(rustls::Error::InvalidMessage(_)))
            || matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
        let hint = if is_plain { PLAIN_HINT } else { "" };
        io::Error::new(error.kind(), format!("TLS handshake: {error}{hint}"))
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn a_name_is_looked_up_at_every_connect_and_each_of_its_addresses_is_tried() {
        let [first, second] = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a port"));
        let [first_at, second_at] = [&first, &second].map(|one| one.local_addr().expect("an address"));
        let connect = |answer: Vec<SocketAddr>| async move {
            let resolve = |name: String, port| async move {
                assert_eq!((name.as_str(), port), ("store.example", 6379));
                Ok(answer.into_iter())
            };
            let stream = connect_by(resolve, "store.example", 6379).await?;
            stream.peer_addr()
        };
        assert_eq!(connect(vec![first_at]).await.expect("there"), first_at);
        // The name has moved.
        assert_eq!(connect(vec![second_at]).await.expect("there"), second_at);
        // One of its addresses answers.
        drop(first);
        assert_eq!(connect(vec![first_at, second_at]).await.expect("there"), second_at);
        drop(second);
        assert_eq!(
            connect(vec![second_at]).await.expect_err("nobody").kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(connect(Vec::new()).await.expect_err("nowhere").kind(), io::ErrorKind::NotFound);
    }
}
