//! A raw client: what is sent and what comes back, byte by byte, with a deadline on every wait.

use super::SOON;
use super::value::{Reader, Value, encode};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One connection to a server or to the proxy.
pub struct Client {
    replies: Reader<Socket>,
    /// How long one reply may take.
    patience: Duration,
}

/// Either kind of stream.
pub enum Socket {
    /// TCP
    Tcp(TcpStream),
    /// A unix socket
    Unix(UnixStream),
    /// TLS over TCP
    Tls(Box<RefCell<TlsStream>>),
}

type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

// === impl Client ===

impl Client {
    /// Connects to a loopback port; panics when nobody listens.
    #[track_caller]
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|error| panic!("connect to port {port}: {error}"))
    }

    /// Connects to a loopback port.
    pub fn try_connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), SOON)?;
        stream.set_nodelay(true)?;
        Client::over(Socket::Tcp(stream))
    }

    /// Connects to a unix socket.
    pub fn try_connect_unix(path: &Path) -> io::Result<Client> {
        Client::over(Socket::Unix(UnixStream::connect(path)?))
    }

    /// Connects to a loopback port and speaks TLS.
    pub fn try_connect_tls(port: u16, config: Arc<rustls::ClientConfig>) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), SOON)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let session = rustls::ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = TlsStream::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Client::over(Socket::Tls(Box::new(RefCell::new(stream))))
    }

    /// Did a TLS session go on that had begun on another connection?
    pub fn is_resumed(&self) -> bool {
        let Socket::Tls(stream) = self.socket() else { return false };
        stream.borrow().conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    fn over(socket: Socket) -> io::Result<Client> {
        let client = Client { replies: Reader::new(socket), patience: SOON };
        client.socket().set_timeouts(SOON)?;
        Ok(client)
    }

    /// Changes how long one reply may take.
    pub fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self.socket().set_timeouts(patience).expect("set a timeout");
        self
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap_or_else(|error| panic!("send {} bytes: {error}", bytes.len()));
    }

    /// Sends exactly these bytes.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.socket() {
            Socket::Tcp(stream) => (&*stream).write_all(bytes),
            Socket::Unix(stream) => (&*stream).write_all(bytes),
            Socket::Tls(stream) => stream.borrow_mut().write_all(bytes),
        }
    }

    /// Sends one command and does not wait.
    #[track_caller]
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send_raw(&encode(args));
    }

    /// The next reply.
    #[track_caller]
    pub fn read_reply(&mut self) -> Value {
        self.try_read_reply().unwrap_or_else(|error| self.no_reply(&error))
    }

    /// The next reply, as the bytes that came.
    #[track_caller]
    pub fn read_raw_reply(&mut self) -> Vec<u8> {
        match self.replies.read() {
            Ok((_, raw)) => raw,
            Err(error) => self.no_reply(&error),
        }
    }

    /// The next reply as the bytes that came, or why there is none.
    pub fn try_read_raw_reply(&mut self) -> io::Result<Vec<u8>> {
        self.replies.read().map(|(_, raw)| raw)
    }

    /// The next reply, or why there is none.
    pub fn try_read_reply(&mut self) -> io::Result<Value> {
        self.replies.read().map(|(value, _)| value)
    }

    /// The next `count` replies.
    #[track_caller]
    pub fn read_replies(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.read_reply()).collect()
    }

    #[track_caller]
    fn no_reply(&self, error: &io::Error) -> ! {
        panic!("no reply: {error}; unread: \"{}\"", self.replies.unread().escape_ascii())
    }

    /// One command and its reply.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(args);
        self.read_reply()
    }

    /// One command and its reply, as the bytes that came.
    #[track_caller]
    pub fn read_raw_after<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.send(args);
        self.read_raw_reply()
    }

    /// One command and its reply, or why there is none.
    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.try_send_raw(&encode(args))?;
        self.try_read_reply()
    }

    /// One command, given as words, and its reply.
    #[track_caller]
    pub fn words(&mut self, line: &str) -> Value {
        self.call(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Commands sent in one write, and their replies in order.
    #[track_caller]
    pub fn pipeline(&mut self, commands: &[&[&str]]) -> Vec<Value> {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        self.send_raw(&bytes);
        self.read_replies(commands.len())
    }

    /// Nothing may come for `quiet`; panics with what came.
    #[track_caller]
    pub fn expect_silence(&mut self, quiet: Duration) {
        self.socket().set_timeouts(quiet).expect("set a timeout");
        let came = self.try_read_reply();
        self.socket().set_timeouts(self.patience).expect("set a timeout");
        match came {
            Err(error) if is_timeout(&error) && self.replies.unread().is_empty() => {}
            other => panic!("not silent: {other:?} \"{}\"", self.replies.unread().escape_ascii()),
        }
    }

    /// The other side must close; returns what it still sent before.
    #[track_caller]
    pub fn expect_closed(&mut self) -> Vec<u8> {
        let mut rest = self.replies.unread().to_vec();
        let end = Instant::now() + self.patience;
        let mut chunk = [0; 4096];
        while Instant::now() < end {
            let read = match self.socket() {
                Socket::Tcp(stream) => (&*stream).read(&mut chunk),
                Socket::Unix(stream) => (&*stream).read(&mut chunk),
                Socket::Tls(stream) => stream.borrow_mut().read(&mut chunk),
            };
            match read {
                Ok(0) => return rest,
                Ok(count) => rest.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("not closed: {error}; came: \"{}\"", rest.escape_ascii()),
            }
        }
        panic!("not closed within {:?}; came: \"{}\"", self.patience, rest.escape_ascii())
    }

    /// Says that nothing more will be sent; replies can still be read.
    pub fn close_write(&mut self) {
        let _ = match self.socket() {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
            Socket::Tls(stream) => {
                let stream = &mut *stream.borrow_mut();
                stream.conn.send_close_notify();
                stream.flush().and_then(|()| stream.sock.shutdown(Shutdown::Write))
            }
        };
    }

    /// Bytes that have come and were not consumed.
    pub fn unread(&self) -> &[u8] {
        self.replies.unread()
    }

    fn socket(&self) -> &Socket {
        self.replies.source()
    }
}

// === impl Socket ===

impl Socket {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => {
                stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_write_timeout(Some(timeout)))
            }
            Socket::Unix(stream) => {
                stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_write_timeout(Some(timeout)))
            }
            Socket::Tls(stream) => {
                let stream = &stream.borrow().sock;
                stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_write_timeout(Some(timeout)))
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
            Socket::Tls(stream) => stream.borrow_mut().read(buffer),
        }
    }
}

/// Did the wait run out, rather than the connection?
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
