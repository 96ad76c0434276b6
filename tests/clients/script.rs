//! A script that loops until its standard input ends.

use crate::support::*;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long one round may take on a busy machine: timeouts of the clients lie below.
const ROUND: Duration = Duration::from_secs(60);

/// A running script. Ends when dropped.
pub struct Script {
    name: String,
    child: Child,
    rounds: Receiver<String>,
}

// === impl Script ===

impl Script {
    /// Starts it in the repository's root; what it says on standard error passes through.
    #[track_caller]
    pub fn start(program: &str, args: &[&str]) -> Script {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command =
            Command::new(if program.contains('/') { root.join(program) } else { program.into() });
        command.args(args).current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {program}: {error}; `make test-clients` installs it")
        });
        let (lines, rounds) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Script { name: args.join(" "), child, rounds }
    }

    /// Waits until it has completed so many more rounds, and one that may have begun before. How many are these?
    #[track_caller]
    pub fn await_rounds(&mut self, count: usize) -> usize {
        while self.rounds.try_recv().is_ok() {}
        for _ in 0..=count {
            match self.rounds.recv_timeout(ROUND) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("{}: no round within {ROUND:?}", self.name),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{}: ended: {:?}", self.name, self.child.wait())
                }
            }
        }
        count + 1
    }

    /// Ends its standard input; it must end well.
    #[track_caller]
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = wait_with_deadline(&mut self.child, ROUND);
        assert!(status.is_some_and(|status| status.success()), "{}: {status:?}", self.name);
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        kill_now(&mut self.child);
    }
}
