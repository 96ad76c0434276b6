//! Children of the demo and their private directory. Both are gone when their values are.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Pause between two looks at something that will soon be there.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(10);

/// How many lines of a log are shown when something fails.
const LOG_LINES_SHOWN: usize = 15;

/// A directory that only this user can read, removed on drop.
#[derive(Debug)]
pub(super) struct PrivateDir(PathBuf);

/// A process that this one started and ends.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

// === impl PrivateDir ===

impl PrivateDir {
    pub(super) fn new() -> Result<PrivateDir, String> {
        let path = std::env::temp_dir().join(format!("multistore-demo-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("cannot make the directory {}: {error}", path.display()))?;
        Ok(PrivateDir(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

// === impl Process ===

impl Process {
    /// Starts `command` with its output in `log`.
    pub(super) fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Result<Process, String> {
        let told = |error: std::io::Error| format!("cannot start {name}: {error}");
        let out = File::create(&log).map_err(told)?;
        let errors = out.try_clone().map_err(told)?;
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        // A group of its own: Ctrl-C reaches the demo alone, which then ends its children in order.
        let child = command.process_group(0).spawn().map_err(told)?;
        Ok(Process { name, child, log })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What went wrong, with the end of the log.
    pub(super) fn failure(&self, what: &str) -> String {
        format!("{}: {what}; the end of its log:\n{}", self.name, self.log_end())
    }

    /// The end of the log, indented.
    pub(super) fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines.iter().skip(lines.len().saturating_sub(LOG_LINES_SHOWN));
        let shown: Vec<String> = shown.map(|line| format!("    {line}")).collect();
        shown.join("\n")
    }

    /// Asks it to end and waits; an error if it did not, or not with success.
    pub(super) async fn terminate(&mut self, deadline: Duration) -> Result<(), String> {
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // It is not reaped yet, so the id is still its own.
            kill_process(pid, Signal::TERM).map_err(|error| format!("cannot end {}: {error}", self.name))?;
        }
        let end = Instant::now() + deadline;
        loop {
            match self.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failure(&format!("ended with {status}"))),
                None if Instant::now() >= end => {
                    return Err(self.failure(&format!("did not end within {deadline:?}")));
                }
                None => sleep(POLL_EVERY).await,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
