//! A restart without a gap: the old process hands its listeners to a new one, and then the stores.
//!
//! ```text
//! old: starts the new program, with the listening sockets             (SIGUSR2)
//!                                           new: reads the configuration  → "prepared"
//! old: takes no more clients, answers what is under way, closes clients at a reply boundary,
//!      records what is known of the stores, ends its lanes              → "go"
//!                                           new: opens the state file, connects  → "serving"
//! old: ends
//! ```
//!
//! Clients that connect meanwhile wait in the listeners' backlog. One process has the lanes at any time: the new one
//! touches neither the stores nor the state file before "go". Until "go" the old one can change its mind, and does
//! when the new program does not get as far as "prepared".
//!
//! Listeners travel as systemd's socket activation passes them (`LISTEN_FDS`, `LISTEN_FDNAMES`), so a start under
//! systemd takes them the same way.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Set for a process that is to take over.
const HANDOVER: &str = "MULTISTORE_HANDOVER";
/// The name of the admin listener among those that are handed over; no instance's, as theirs have a prefix.
pub const ADMIN: &str = "admin";
/// The first descriptor that is passed, by convention.
const FIRST_FD: i32 = 3;
/// How long the new program may take to read its configuration, and then to connect and serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take to end when it has closed its standard output.
const PATIENCE_AT_END: Duration = Duration::from_secs(5);

const PREPARED: &str = "prepared";
const GO: &str = "go";
const SERVING: &str = "serving";

/// The listeners that this process was started with.
pub struct Inherited(Vec<(String, Socket)>);

enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The new process, waiting for its turn.
pub struct Successor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Why a handover did not come about.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The system would not.
    #[error("the new program cannot be started: {0}")]
    Start(#[from] io::Error),
    /// It has ended. Its standard error is this process's own.
    #[error(
        "the new program ended before it said that it is {wanted} ({status}): its own message stands above, in this log"
    )]
    Ended {
        /// What it should have said.
        wanted: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// It said something else, or nothing.
    #[error("the new program did not say that it is {wanted} within {PATIENCE:?}: its log says why")]
    Silent {
        /// What it should have said.
        wanted: &'static str,
    },
}

/// The name under which the listener of an instance is handed over.
pub fn instance_name(instance: &str) -> String {
    format!("instance-{instance}")
}

// === impl Inherited ===

impl Inherited {
    /// What the environment says (`LISTEN_FDS`, `LISTEN_FDNAMES`).
    pub fn from_env() -> Inherited {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut sockets = ListenFd::from_env();
        let count = sockets.len();
        let take = |at| {
            let name = names.next().unwrap_or_default();
            let tcp = sockets.take_tcp_listener(at).ok().flatten().map(Socket::Tcp);
            let socket = tcp.or_else(|| sockets.take_unix_listener(at).ok().flatten().map(Socket::Unix))?;
            Some((name, socket))
        };
        Inherited((0..count).filter_map(take).collect())
    }

    /// The TCP listener of this name, or at one of these addresses.
    pub fn take_tcp(
        &mut self,
        name: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<Option<std::net::TcpListener>> {
        let at = self.0.iter().position(|(found, socket)| match socket {
            Socket::Tcp(listener) => {
                found == name || listener.local_addr().is_ok_and(|address| addresses.contains(&address))
            }
            Socket::Unix(_) => false,
        });
        match at.map(|at| self.0.swap_remove(at).1) {
            Some(Socket::Tcp(listener)) => {
                listener.set_nonblocking(true)?;
                Ok(Some(listener))
            }
            Some(Socket::Unix(_)) | None => Ok(None),
        }
    }

    /// The Unix listener of this name, or at this path.
    pub fn take_unix(
        &mut self,
        name: &str,
        path: &Path,
    ) -> io::Result<Option<std::os::unix::net::UnixListener>> {
        let at = self.0.iter().position(|(found, socket)| match socket {
            Socket::Unix(listener) => {
                found == name
                    || listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
            }
            Socket::Tcp(_) => false,
        });
        match at.map(|at| self.0.swap_remove(at).1) {
            Some(Socket::Unix(listener)) => {
                listener.set_nonblocking(true)?;
                Ok(Some(listener))
            }
            Some(Socket::Tcp(_)) | None => Ok(None),
        }
    }

    /// The names of those that nobody has taken: they are closed.
    pub fn unused(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

// === impl Successor ===

impl Successor {
    /// Starts the program that this process was started as, which may be a newer one by now, and waits until it has
    /// read its configuration.
    pub async fn start(listeners: Vec<(String, OwnedFd)>) -> Result<Successor, UpgradeError> {
        let mut args = std::env::args_os();
        let program = args.next().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        let names: Vec<&str> = listeners.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new(program);
        command.args(args).env(HANDOVER, "1").env("LISTEN_FDS", listeners.len().to_string());
        command.env("LISTEN_FDNAMES", names.join(":")).env_remove("LISTEN_PID").env_remove("WATCHDOG_PID");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mappings = listeners.into_iter().zip(FIRST_FD..);
        let mappings = mappings.map(|((_, parent_fd), child_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut child = command.spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        };
        let mut successor = Successor { child, orders, answers: BufReader::new(answers) };
        match successor.hears(PREPARED).await {
            Ok(()) => Ok(successor),
            Err(error) => {
                successor.give_up();
                Err(error)
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The stores are its own from now on. Returns when it serves.
    pub async fn go(&mut self) -> Result<(), UpgradeError> {
        self.orders.write_all(format!("{GO}\n").as_bytes()).await?;
        self.hears(SERVING).await
    }

    /// It is not needed any more.
    pub fn give_up(&mut self) {
        // It may have ended already.
        let _ = self.child.start_kill();
    }

    async fn hears(&mut self, wanted: &'static str) -> Result<(), UpgradeError> {
        let mut line = String::new();
        match timeout(PATIENCE, self.answers.read_line(&mut line)).await {
            Ok(Ok(_)) if line.trim_end() == wanted => Ok(()),
            Ok(Ok(0)) => match timeout(PATIENCE_AT_END, self.child.wait()).await {
                Ok(Ok(status)) => Err(UpgradeError::Ended { wanted, status }),
                _ => Err(UpgradeError::Silent { wanted }),
            },
            _ => Err(UpgradeError::Silent { wanted }),
        }
    }
}

/// Was this process started to take over from another one?
pub fn is_successor() -> bool {
    std::env::var_os(HANDOVER).is_some()
}

/// Says that the configuration is read, and waits for the predecessor to let go. False: it changed its mind.
pub fn await_turn() -> bool {
    say(PREPARED);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok() && line.trim_end() == GO
}

/// Says that clients are being served.
pub fn say_serving() {
    say(SERVING);
}

fn say(word: &str) {
    use std::io::Write;
    // A predecessor that is gone has let go.
    let _ = writeln!(std::io::stdout(), "{word}");
    let _ = std::io::stdout().flush();
}
