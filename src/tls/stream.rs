//! A TLS connection over TCP with the operations of a non-blocking socket.
//!
//! Two rules keep it honest. What [`TlsStream::try_write`] has taken may still wait here as ciphertext: whoever has
//! nothing more to write calls [`TlsStream::try_flush`] until it succeeds. And at most one record's worth of it waits:
//! while it does, no further plaintext is taken, so a limit on unsent bytes still means what it says.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

/// Plaintext that is taken at once, and ciphertext that may wait.
const MAX_WAITING: usize = 64 * 1024;
/// Reads of one turn that bring no plaintext (handshakes, empty records) before others have theirs.
const MAX_IDLE_READS: usize = 16;

/// An established TLS connection.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    // Both halves share it, and the uncontended lock is nothing beside the encryption.
    session: Mutex<Connection>,
}

/// The socket as rustls wants it.
struct Tcp<'a>(&'a TcpStream);

impl Read for Tcp<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl TlsStream ===

impl TlsStream {
    /// Shakes hands with a client that has connected.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<TlsStream> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        TlsStream::shake_hands(tcp, session.into()).await
    }

    /// Shakes hands with a server, which must prove to be `name`.
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<TlsStream> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        TlsStream::shake_hands(tcp, session.into()).await
    }

    async fn shake_hands(tcp: TcpStream, mut session: Connection) -> io::Result<TlsStream> {
        session.set_buffer_limit(Some(MAX_WAITING));
        let stream = TlsStream { tcp, session: Mutex::new(session) };
        loop {
            match stream.try_flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.tcp.writable().await?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !stream.lock().is_handshaking() {
                return Ok(stream);
            }
            stream.tcp.readable().await?;
            match stream.read_records(&mut stream.lock()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A session whose owner panicked is closed with it; what it says until then is still encrypted.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads once from the socket and decrypts. 0: the peer has closed.
    fn read_records(&self, session: &mut Connection) -> io::Result<usize> {
        let n = session.read_tls(&mut Tcp(&self.tcp))?;
        if let Err(error) = session.process_new_packets() {
            // The alert that says why; the peer may be gone.
            let _ = session.write_tls(&mut Tcp(&self.tcp));
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(n)
    }

    /// Plaintext that is there, or what one read brings. `None`: that read brought none.
    fn step(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let session = &mut *self.lock();
        for read_more in [true, false] {
            match session.reader().read(buf) {
                Ok(n) => return Ok(Some(n)),
                // Closed without a farewell. Frames have their lengths: one that was cut is not taken for whole.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if read_more => {
                    self.read_records(session)?;
                    if session.wants_write() {
                        // An answer to the peer's handshake messages; what does not fit leaves with the next write.
                        let _ = flush(session, &self.tcp);
                    }
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Reads once, into the front of `buf`. 0: the peer has closed.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        for _ in 0..MAX_IDLE_READS {
            match self.step(buf) {
                Ok(Some(n)) => return Poll::Ready(Ok(n)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.tcp.poll_read_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what is there, or fails with `WouldBlock`.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self.step(buf)? {
            Some(n) => Ok(n),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes what can be sent now, or fails with `WouldBlock`.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let session = &mut *self.lock();
        flush(session, &self.tcp)?;
        let taken = session.writer().write(bytes.get(..MAX_WAITING).unwrap_or(bytes))?;
        match flush(session, &self.tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Sends what was taken and still waits; `WouldBlock` while the socket takes no more.
    pub fn try_flush(&self) -> io::Result<()> {
        flush(&mut self.lock(), &self.tcp)
    }

    /// Does something that was taken still wait?
    pub fn has_unsent(&self) -> bool {
        self.lock().wants_write()
    }

    /// Does the socket take bytes again?
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    /// Waits until one of `interest` is likely to succeed.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        if interest.is_readable() && self.has_plaintext() {
            return Ok(Ready::READABLE);
        }
        self.tcp.ready(interest).await
    }

    fn has_plaintext(&self) -> bool {
        self.lock().process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }

    /// Says that nothing more will be written; what was written still arrives.
    pub fn shutdown(&self) {
        let session = &mut *self.lock();
        session.send_close_notify();
        let _ = flush(session, &self.tcp);
        // A socket that is gone needs no farewell.
        let _ = SockRef::from(&self.tcp).shutdown(std::net::Shutdown::Write);
    }
}

fn flush(session: &mut Connection, tcp: &TcpStream) -> io::Result<()> {
    while session.wants_write() {
        if session.write_tls(&mut Tcp(tcp))? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}
