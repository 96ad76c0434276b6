//! Listening sockets: bound before anything else, so that a taken port is the first thing one learns.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::{FileMode, HostPort, Listen};
use crate::instance::ClientInfo;
use crate::resp::Proto;
use crate::upgrade::{self, Inherited};

use super::StartError;

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// A listening socket that no runtime knows yet.
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

/// A listening socket.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A client's socket, as it was accepted.
pub(super) enum Incoming {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

// === impl Incoming ===

impl Incoming {
    /// Where it comes from; `None` over a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Incoming::Tcp(_, address) => Some(*address),
            Incoming::Unix(_) => None,
        }
    }

    /// A farewell, if the socket takes it at once.
    pub fn say(&self, words: &[u8]) {
        let _ = match self {
            Incoming::Tcp(stream, _) => stream.try_write(words),
            Incoming::Unix(stream) => stream.try_write(words),
        };
    }
}

// === impl Bound ===

impl Bound {
    /// The listener that was inherited under this name or address, or a new one.
    pub fn bind(
        listen: &Listen,
        mode: FileMode,
        name: &str,
        inherited: &mut Inherited,
    ) -> Result<Bound, StartError> {
        let bound = match listen {
            Listen::Tcp(address) => inherit_or_bind(address, name, inherited).map(Bound::Tcp),
            Listen::Unix(path) => match inherited.take_unix(name, path) {
                Ok(Some(listener)) => Ok(Bound::Unix(listener, path.clone())),
                Ok(None) => bind_unix(path, mode),
                Err(error) => Err(error),
            },
        };
        bound.map_err(|source| StartError::Listen { address: listen.to_string(), source })
    }

    /// The same socket once more.
    pub fn duplicate(&self) -> io::Result<Bound> {
        match self {
            Bound::Tcp(listener) => listener.try_clone().map(Bound::Tcp),
            Bound::Unix(listener, path) => Ok(Bound::Unix(listener.try_clone()?, path.clone())),
        }
    }

    /// The bare socket, to be handed over.
    pub fn into_fd(self) -> OwnedFd {
        match self {
            Bound::Tcp(listener) => listener.into(),
            Bound::Unix(listener, _) => listener.into(),
        }
    }

    /// Hands the socket to the runtime of this thread.
    pub fn adopt(self) -> io::Result<Listener> {
        match self {
            Bound::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
            Bound::Unix(listener, path) => {
                UnixListener::from_std(listener).map(|listener| Listener::Unix(listener, path))
            }
        }
    }
}

/// Binds the admin listener.
pub(super) fn bind_admin(
    address: &HostPort,
    inherited: &mut Inherited,
) -> Result<std::net::TcpListener, StartError> {
    inherit_or_bind(address, upgrade::ADMIN, inherited)
        .map_err(|source| StartError::Listen { address: address.to_string(), source })
}

fn inherit_or_bind(
    address: &HostPort,
    name: &str,
    inherited: &mut Inherited,
) -> io::Result<std::net::TcpListener> {
    let addresses: Vec<_> = (address.host.as_str(), address.port).to_socket_addrs()?.collect();
    match inherited.take_tcp(name, &addresses)? {
        Some(listener) => Ok(listener),
        None => bind_tcp(address),
    }
}

fn bind_tcp(address: &HostPort) -> io::Result<std::net::TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (address.host.as_str(), address.port).to_socket_addrs()? {
        let bound =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                socket.listen(BACKLOG)?;
                socket.set_nonblocking(true)?;
                Ok(socket.into())
            });
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket file that nobody listens on any more is replaced; any other file is not.
fn bind_unix(path: &Path, mode: FileMode) -> io::Result<Bound> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        let stale = metadata.file_type().is_socket()
            && std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if stale {
            std::fs::remove_file(path)?;
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode.0))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(Bound::Unix(socket.into(), path.to_owned()))
}

// === impl Listener ===

impl Listener {
    /// The next client.
    pub async fn accept(&self) -> io::Result<(Incoming, ClientInfo)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
                let ip = peer.ip().to_canonical();
                Ok((Incoming::Tcp(stream, ip), info(peer.to_string(), local, Some(ip))))
            }
            Listener::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                let address = format!("{}:0", path.display());
                Ok((Incoming::Unix(stream), info(address.clone(), address, None)))
            }
        }
    }
}

fn info(addr: String, laddr: String, ip: Option<IpAddr>) -> ClientInfo {
    ClientInfo {
        addr,
        ip,
        laddr,
        name: Vec::new(),
        lib_name: Vec::new(),
        lib_ver: Vec::new(),
        user: b"default".to_vec(),
        db: 0,
        proto: Proto::Resp2,
        subscriptions: [0; 3],
        queued: -1,
        watching: false,
        monitor: false,
        blocked: false,
        no_evict: false,
        no_touch: false,
        tracking: None,
    }
}
