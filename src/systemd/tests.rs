use std::ffi::OsString;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use super::*;

/// A socket in a directory of its own, which goes with it.
struct Manager {
    directory: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(test: &str) -> Manager {
        let directory = std::env::temp_dir().join(format!("multistore-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = UnixDatagram::bind(directory.join("notify")).unwrap();
        Manager { directory, socket }
    }

    fn path(&self) -> OsString {
        self.directory.join("notify").into_os_string()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn receive(socket: &UnixDatagram) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn states_are_sent_as_assignments() {
    let manager = Manager::new("states");
    let notifier = Notifier::new(Some(&manager.path()), None, None).unwrap();
    assert!(notifier.is_active());
    for (state, text) in [
        (State::Ready, "READY=1\n"),
        (State::Stopping, "STOPPING=1\n"),
        (State::Watchdog, "WATCHDOG=1\n"),
        (State::Status("a\nREADY=1\tb"), "STATUS=a READY=1 b\n"),
    ] {
        notifier.notify(state).unwrap();
        assert_eq!(receive(&manager.socket), text);
    }
}

#[test]
fn a_reload_carries_the_monotonic_clock() {
    let manager = Manager::new("reload");
    let notifier = Notifier::new(Some(&manager.path()), None, None).unwrap();
    let stamp = || -> u64 {
        notifier.notify(State::Reloading).unwrap();
        let text = receive(&manager.socket);
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        usec.parse().unwrap()
    };
    let (first, second) = (stamp(), stamp());
    assert!(0 < first && first <= second);
}

#[test]
fn a_status_is_cut_between_characters() {
    let manager = Manager::new("cut");
    let notifier = Notifier::new(Some(&manager.path()), None, None).unwrap();
    notifier.notify(State::Status(&"…".repeat(MAX_STATUS_BYTES))).unwrap();
    let expected = format!("STATUS={}\n", "…".repeat(MAX_STATUS_BYTES / "…".len()));
    assert_eq!(receive(&manager.socket), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_begins_with_at_is_abstract() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("multistore-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    let notifier = Notifier::new(Some(OsStr::new(&format!("@{name}"))), None, None).unwrap();
    notifier.notify(State::Ready).unwrap();
    assert_eq!(receive(&manager), "READY=1\n");
}

#[test]
fn without_a_manager_nothing_happens() {
    for socket in [None, Some(OsStr::new(""))] {
        let notifier = Notifier::new(socket, Some("1000000"), None).unwrap();
        assert!(!notifier.is_active() && notifier.watchdog_interval().is_none());
        notifier.notify(State::Ready).unwrap();
    }
}

#[test]
fn a_manager_that_is_gone_is_an_error_and_no_panic() {
    let path = Manager::new("gone").path();
    let notifier = Notifier::new(Some(&path), None, None).unwrap();
    assert!(notifier.notify(State::Ready).is_err());
}

#[test]
fn a_manager_that_does_not_read_stops_nobody() {
    let manager = Manager::new("full");
    let notifier = Notifier::new(Some(&manager.path()), None, None).unwrap();
    let most = 1_000_000;
    let refused = (0..most).find_map(|_| notifier.notify(State::Watchdog).err()).unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn the_watchdog_is_pinged_twice_per_period_by_the_process_it_watches() {
    let interval = |usec, pid| watchdog_interval(usec, pid, 7);
    assert_eq!(interval(Some("3000000"), None), Some(Duration::from_millis(1500)));
    assert_eq!(interval(Some("3000000"), Some("7")), Some(Duration::from_millis(1500)));
    for (usec, pid) in [
        (Some("3000000"), Some("8")),
        (Some("3000000"), Some("x")),
        (Some("0"), None),
        (Some("soon"), None),
        (None, Some("7")),
    ] {
        assert_eq!(interval(usec, pid), None, "{usec:?} {pid:?}");
    }
}
