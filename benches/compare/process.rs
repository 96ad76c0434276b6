//! Processes that are measured: started, watched through /proc, ended when dropped.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ports;

/// A process of the bench's own.
pub struct Process {
    child: Child,
    pub name: String,
}

/// How long a process may take to answer on its port.
const START: Duration = Duration::from_secs(20);

// === impl Process ===

impl Process {
    /// Starts a command; what it says goes to a file in `dir`.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> io::Result<Process> {
        let log = fs::File::create(dir.join(format!("{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Process { child, name: name.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until somebody answers on `addr`.
    pub fn answers(&mut self, addr: SocketAddr) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            if TcpStream::connect(addr).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended: {status}", self.name)));
            }
            if begin.elapsed() > START {
                return Err(io::Error::other(format!("{} does not answer on {addr}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// CPU time used so far, user and system, all threads.
    pub fn cpu(&self) -> Duration {
        self.scheduled(1)
    }

    /// The same, and for how long its threads have waited for a core: on a busy machine, who does little may have much to do.
    pub fn wanted(&self) -> Duration {
        self.scheduled(2)
    }

    /// The first so many of what the scheduler counts of each thread: time on a core, time spent waiting for one.
    fn scheduled(&self, fields: usize) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let nanos = |task: fs::DirEntry| -> Option<u64> {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').take(fields).map(|count| count.parse::<u64>().ok()).sum()
        };
        Duration::from_nanos(tasks.filter_map(nanos).sum())
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it has been since [`Process::forget_peak`].
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    pub fn forget_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) -> io::Result<()> {
        self.signal("TERM")?;
        self.child.wait().map(drop)
    }

    /// Sends a signal by name: STOP, TERM.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("kill failed")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody uses now, another one each time. Not one of those that outgoing connections are given: the bench
/// opens tens of thousands of them between the search and the use.
pub fn free_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free_port()))
}

/// Lets this process, and those that it starts, have as many files open as the system allows.
pub fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, what needs many connections says so itself.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
