//! Telling systemd how the process is (`Type=notify`), and the watchdog's rhythm.
//!
//! Outside systemd, where `NOTIFY_SOCKET` is not set, every call does nothing. A notification that
//! cannot be sent is not worth more than a log line: the service goes on.

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::logging::cut;

/// Longest text sent as `STATUS=`.
pub const MAX_STATUS_BYTES: usize = 512;

/// How many pings are sent in one watchdog period: one may get lost.
const PINGS_PER_PERIOD: u32 = 2;

/// What the service manager can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// Started: listeners are open.
    Ready,
    /// The configuration is being reloaded; `Ready` must follow.
    Reloading,
    /// Ending.
    Stopping,
    /// Still alive.
    Watchdog,
    /// Another process goes on in this one's place.
    MainPid(u32),
    /// One line for people.
    Status(&'a str),
}

/// A way to the service manager, or none.
#[derive(Debug, Default)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    watchdog_interval: Option<Duration>,
}

// === impl Notifier ===

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_env() -> io::Result<Notifier> {
        Notifier::new(
            std::env::var_os("NOTIFY_SOCKET").as_deref(),
            std::env::var("WATCHDOG_USEC").ok().as_deref(),
            std::env::var("WATCHDOG_PID").ok().as_deref(),
        )
    }

    fn new(
        socket: Option<&OsStr>,
        watchdog_usec: Option<&str>,
        watchdog_pid: Option<&str>,
    ) -> io::Result<Notifier> {
        let Some(name) = socket.filter(|name| !name.is_empty()) else {
            return Ok(Notifier::default());
        };
        let sender = UnixDatagram::unbound()?;
        // A manager that doesn't read must not stop the proxy.
        sender.set_nonblocking(true)?;
        Ok(Notifier {
            target: Some((sender, socket_address(name)?)),
            watchdog_interval: watchdog_interval(watchdog_usec, watchdog_pid, std::process::id()),
        })
    }

    /// Is there a service manager to tell?
    pub fn is_active(&self) -> bool {
        self.target.is_some()
    }

    /// How often to send [`State::Watchdog`], if the manager watches this process.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog_interval
    }

    /// Sends one notification.
    pub fn notify(&self, state: State<'_>) -> io::Result<()> {
        let Some((sender, address)) = &self.target else { return Ok(()) };
        sender.send_to_addr(message(state).as_bytes(), address).map(|_| ())
    }
}

fn message(state: State<'_>) -> String {
    match state {
        State::Ready => "READY=1\n".to_owned(),
        // systemd matches the reload by this clock (`Type=notify-reload`).
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_usec()),
        State::Stopping => "STOPPING=1\n".to_owned(),
        State::Watchdog => "WATCHDOG=1\n".to_owned(),
        State::MainPid(pid) => format!("MAINPID={pid}\n"),
        State::Status(text) => format!("STATUS={}\n", one_line(text)),
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    cut(text, MAX_STATUS_BYTES).replace(|c: char| c.is_control(), " ")
}

fn monotonic_usec() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

/// A path, or a name in the abstract namespace if it begins with `@`.
fn socket_address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => abstract_address(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract sockets exist on Linux only"))
}

fn watchdog_interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    // Set for another process, which handed its environment down to this one.
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec) / PINGS_PER_PERIOD)
}
