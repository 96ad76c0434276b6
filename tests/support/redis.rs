//! A real redis-server of a test's own.

use super::process::{kill_now, print_log_if_panicking, signal};
use super::{Client, SOON, TempDir, Value, free_port, poll_for};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// How many ports are tried before a start fails.
const START_ATTEMPTS: usize = 5;
/// How long a server may take until it answers PING.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A server on loopback, without persistence, in a directory of its own. Ends when dropped.
pub struct RedisServer {
    child: Child,
    program: PathBuf,
    port: u16,
    extra: Vec<String>,
    direct: Mutex<Option<Client>>,
    dir: TempDir,
}

/// What a restarted server finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Everything that it had when it was stopped.
    Kept,
    /// Nothing.
    Lost,
}

// === impl RedisServer ===

impl RedisServer {
    /// Starts a server with the defaults.
    pub fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// Starts a server with further arguments, such as `--maxmemory 1mb`.
    pub fn start_with(extra: &[&str]) -> RedisServer {
        RedisServer::start_program(program(), extra)
    }

    /// Starts what `OTHER_REDIS_SERVER` names, a server of another version, or one more of the same.
    pub fn start_other(extra: &[&str]) -> RedisServer {
        RedisServer::start_program(other_program().unwrap_or_else(program), extra)
    }

    /// Starts the server that `program` is.
    pub fn start_program(program: PathBuf, extra: &[&str]) -> RedisServer {
        let extra: Vec<String> = extra.iter().map(|arg| (*arg).to_owned()).collect();
        let dir = TempDir::new();
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            let mut child = spawn(&program, &dir, port, &extra);
            if answers(&mut child, &socket_path(&dir)) {
                return RedisServer { child, program, port, extra, direct: Mutex::new(None), dir };
            }
            kill_now(&mut child);
        }
        let log = std::fs::read_to_string(dir.join("redis.log")).unwrap_or_default();
        panic!("{} did not start {START_ATTEMPTS} times; its log:\n{log}", program.display());
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `unix://PATH`
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.unix_path().display())
    }

    /// The unix socket.
    pub fn unix_path(&self) -> PathBuf {
        socket_path(&self.dir)
    }

    /// The server's own log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("redis.log")).unwrap_or_default()
    }

    /// A new connection past the proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// One command past the proxy. The connection is kept for the next call and made again after
    /// a restart; it uses the unix socket, so that a server's TCP statistics show the proxy alone.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&self, args: &[A]) -> Value {
        let mut direct = self.direct.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loop {
            let kept = direct.is_some();
            let client = direct.get_or_insert_with(|| {
                Client::try_connect_unix(&self.unix_path())
                    .unwrap_or_else(|error| panic!("connect to the server on port {}: {error}", self.port))
            });
            match client.try_call(args) {
                Ok(reply) => return reply,
                // The server had ended the kept connection before: nothing of this has reached it.
                Err(error) if kept && error.kind() == std::io::ErrorKind::BrokenPipe => *direct = None,
                Err(error) => {
                    *direct = None;
                    panic!("the server on port {} does not answer: {error}", self.port)
                }
            }
        }
    }

    /// One command, given as words, past the proxy.
    #[track_caller]
    pub fn words(&self, line: &str) -> Value {
        self.call(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// One field of INFO.
    #[track_caller]
    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        let text = self.call(&["INFO", section]).text();
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned))
    }

    /// How often the server has executed `command`, from its own statistics.
    #[track_caller]
    pub fn calls_of(&self, command: &str) -> u64 {
        let Some(line) = self.info("commandstats", &format!("cmdstat_{}", command.to_lowercase())) else {
            return 0;
        };
        let calls = line.split(',').find_map(|part| part.strip_prefix("calls="));
        calls.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// SIGKILL: nothing is saved, the connections break.
    pub fn kill(&mut self) {
        self.forget_connection();
        kill_now(&mut self.child);
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn stop_signal(&self) {
        signal(&self.child, Signal::STOP);
    }

    /// SIGCONT: goes on after [`stop_signal`](Self::stop_signal).
    pub fn cont(&self) {
        signal(&self.child, Signal::CONT);
    }

    /// Writes the data to disk, so that a later start finds it.
    #[track_caller]
    pub fn save(&self) {
        // A follower may have asked for a snapshot, which has to be through first.
        super::poll_until(SOON, "it is saved", || self.call(&["SAVE"]) == Value::ok());
    }

    /// Kills the server and starts it again on the same port.
    #[track_caller]
    pub fn restart(&mut self, data: Data) {
        if data == Data::Kept && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.save();
        }
        self.kill();
        self.start_again(data);
    }

    /// Starts a killed server again on the same port. `Data::Kept`: with what it last saved.
    #[track_caller]
    pub fn start_again(&mut self, data: Data) {
        if data == Data::Lost {
            let _ = std::fs::remove_file(self.dir.join("dump.rdb"));
            // Where `--appendonly yes` was asked for: one file before Redis 7.0, a directory since.
            let _ = std::fs::remove_file(self.dir.join("appendonly.aof"));
            let _ = std::fs::remove_dir_all(self.dir.join("appendonlydir"));
        }
        // The old socket file would answer "refused" like a server that is not there yet.
        let _ = std::fs::remove_file(self.unix_path());
        for _ in 0..START_ATTEMPTS {
            self.child = spawn(&self.program, &self.dir, self.port, &self.extra);
            if answers(&mut self.child, &socket_path(&self.dir)) {
                return;
            }
            kill_now(&mut self.child);
        }
        panic!("the server on port {} did not start again; its log:\n{}", self.port, self.log());
    }

    /// From here on the server cannot save, and refuses writes with MISCONF; or it can again.
    #[track_caller]
    pub fn fail_saves(&self, fail: bool) {
        if !fail {
            assert_eq!(self.words("CONFIG SET stop-writes-on-bgsave-error no"), Value::ok());
            return;
        }
        // A directory stands where the file is to be written.
        let file = self.dir.join("dump.rdb");
        let _ = std::fs::remove_file(&file);
        std::fs::create_dir_all(file.join("taken")).expect("a directory in the way");
        for setting in ["save \"3600 1000000\"", "stop-writes-on-bgsave-error yes"] {
            let (name, value) = setting.split_once(' ').expect("a value");
            assert_eq!(
                self.call(&["CONFIG", "SET", name, value.trim_matches('"')]),
                Value::ok(),
                "{setting}"
            );
        }
        self.call(&["BGSAVE"]);
        super::poll_until(SOON, "a save fails", || {
            self.info("persistence", "rdb_last_bgsave_status").as_deref() == Some("err")
        });
        std::fs::remove_dir_all(&file).expect("out of the way");
    }

    fn forget_connection(&self) {
        *self.direct.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        kill_now(&mut self.child);
        print_log_if_panicking(&format!("redis-server on port {}", self.port), &self.dir.join("redis.log"));
    }
}

fn socket_path(dir: &TempDir) -> PathBuf {
    dir.join("redis.sock")
}

fn program() -> PathBuf {
    std::env::var_os("REDIS_SERVER").map_or_else(|| PathBuf::from("redis-server"), PathBuf::from)
}

/// A server of another version, where tests may compare two.
fn other_program() -> Option<PathBuf> {
    std::env::var_os("OTHER_REDIS_SERVER").map(PathBuf::from)
}

fn spawn(program: &Path, dir: &TempDir, port: u16, extra: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("redis.log")).expect("open a log");
    let errors = log.try_clone().expect("share the log");
    let mut command = Command::new(program);
    command.arg("--port").arg(port.to_string()).args(["--bind", "127.0.0.1"]);
    if knows_source_address(program) {
        command.args(["--bind-source-addr", "127.0.0.1"]);
    }
    command.arg("--dir").arg(dir.path()).arg("--unixsocket").arg(socket_path(dir));
    command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]).args(extra);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot start {}: {error}; `make setup` installs redis-server", program.display())
    })
}

/// Waits until the server answers PING; false when it ended instead (its port was taken).
///
/// It is asked at the unix socket: whoever took the port might answer as well.
fn answers(child: &mut Child, socket: &std::path::Path) -> bool {
    let found = poll_for(START_DEADLINE, || {
        if child.try_wait().expect("wait for a child").is_some() {
            return Some(false);
        }
        let mut client = Client::try_connect_unix(socket).ok()?.with_patience(SOON);
        let reply = client.try_call(&["PING"]).ok()?;
        // -LOADING and -NOAUTH also come from a server that is there.
        (reply == Value::simple("PONG") || reply.error().starts_with("NOAUTH")).then_some(true)
    });
    found.unwrap_or(false)
}

/// Redis before 7.0 does not know `--bind-source-addr` and would not start with it.
fn knows_source_address(program: &Path) -> bool {
    static KNOWN: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *known.entry(program.to_owned()).or_insert_with(|| {
        let Ok(output) = Command::new(program).arg("--version").output() else { return true };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let major = text.split("v=").nth(1).and_then(|rest| rest.split('.').next());
        major.and_then(|number| number.parse::<u32>().ok()).is_none_or(|number| number >= 7)
    })
}
