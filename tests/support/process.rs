//! Child processes: signals by id, waits with a deadline.

use super::poll_for;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// Sends `which` to the child, and to no other process: the child is not reaped yet, so its id is
/// still its own.
pub fn signal(child: &Child, which: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, which).unwrap_or_else(|error| panic!("signal {which:?} to {pid:?}: {error}"));
}

/// Waits for the child's end; `None` if it still runs after `deadline`.
pub fn wait_with_deadline(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    poll_for(deadline, || child.try_wait().expect("wait for a child"))
}

/// Ends the child at once, also when it is stopped, and reaps it. Harmless when it has ended.
pub fn kill_now(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Shows the log of a process whose test is failing.
pub fn print_log_if_panicking(name: &str, log: &Path) {
    if !std::thread::panicking() {
        return;
    }
    match std::fs::read(log) {
        Ok(text) => eprintln!("--- log of {name} ---\n{}--- end of log ---", String::from_utf8_lossy(&text)),
        Err(error) => eprintln!("--- no log of {name}: {error} ---"),
    }
}
