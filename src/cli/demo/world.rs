//! What the demo shows: two real redis-servers, a `proxy.toml`, and the proxy as a process.

use super::http;
use super::process::{POLL_EVERY, PrivateDir, Process};
use super::screen::thousands;
use crate::admin::InstanceStatus;
use crate::stage::{Stage, StoreId, primary_default_flag, use_both_flag};
use crate::store::connection::{Connection, Endpoint};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The instance that the proxy serves: the one that the flags were made for.
pub(super) const INSTANCE: &str = "duplicate_jobs";

/// How long one answer of a server may take.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// A port may be taken between finding and using it: so often another is tried.
const START_ATTEMPTS: usize = 5;
/// How long the proxy may take to follow a flag.
const FLIP_DEADLINE: Duration = Duration::from_secs(10);
/// How long backfill and verification may take.
const PROOF_DEADLINE: Duration = Duration::from_secs(60);
/// How long the proxy may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Everything that runs beside the workload. Ends on drop, the proxy first.
#[derive(Debug)]
pub(super) struct World {
    proxy: Process,
    port: u16,
    admin: u16,
    stores: [Store; 2],
    dir: PrivateDir,
}

/// One redis-server.
#[derive(Debug)]
pub(super) struct Store {
    port: u16,
    process: Process,
}

// === impl World ===

impl World {
    /// Starts both stores, empty, and the proxy in `secondary_only`.
    pub(super) async fn start() -> Result<World, String> {
        let dir = PrivateDir::new()?;
        let primary = Store::start(StoreId::Primary, &dir).await?;
        let secondary = Store::start(StoreId::Secondary, &dir).await?;
        let stores = [primary, secondary];
        for attempt in 1.. {
            let (port, admin) = (free_port()?, free_port()?);
            write_config(&dir, port, admin, &stores)?;
            let mut proxy = start_proxy(&dir)?;
            match wait_until_ready(&mut proxy, admin).await {
                Ok(()) => return Ok(World { proxy, port, admin, stores, dir }),
                Err(error) if attempt >= START_ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Where clients find the proxy.
    pub(super) fn endpoint(&self) -> Endpoint {
        loopback(self.port)
    }

    /// The port of the admin endpoints.
    pub(super) fn admin_port(&self) -> u16 {
        self.admin
    }

    /// A connection to a store, past the proxy.
    pub(super) async fn direct(&self, store: StoreId) -> Result<Connection, String> {
        let port = self.stores[store.index()].port;
        Connection::open(&loopback(port), ANSWER_TIMEOUT).await.map_err(|error| error.to_string())
    }

    /// Where the flags stand.
    fn config(&self) -> PathBuf {
        self.dir.path().join("proxy.toml")
    }

    /// Moves to a neighbouring stage as an operator does: changes one flag in the file, and looks
    /// at `/status` until the proxy follows. Returns the flag as written, and how long it took.
    pub(super) async fn flip(&mut self, from: Stage, to: Stage) -> Result<(String, Duration), String> {
        let flag = if from.flags().use_both == to.flags().use_both {
            (primary_default_flag(INSTANCE), to.flags().primary_default)
        } else {
            (use_both_flag(INSTANCE), to.flags().use_both)
        };
        let line = format!("{} = {}", flag.0, flag.1);
        let begun = Instant::now();
        self.write_flag(&flag.0, &line)?;
        loop {
            let stage = http::status(self.admin, INSTANCE).await.map(|status| status.stage);
            // A process that has ended explains an answer that did not come.
            self.check()?;
            if stage? == to.name() {
                return Ok((line, begun.elapsed()));
            }
            if begun.elapsed() > FLIP_DEADLINE {
                return Err(self.proxy.failure(&format!("did not reach {to} within {FLIP_DEADLINE:?}")));
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// A new file beside the old one, renamed over it: no reader ever sees half of it.
    fn write_flag(&self, flag: &str, line: &str) -> Result<(), String> {
        let told = |error: std::io::Error| format!("cannot change {}: {error}", self.config().display());
        let text = std::fs::read_to_string(self.config()).map_err(told)?;
        let lines = text.lines().map(|old| if old.starts_with(flag) { line } else { old });
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let beside = self.dir.path().join("proxy.toml.new");
        std::fs::write(&beside, text).map_err(told)?;
        std::fs::rename(&beside, self.config()).map_err(told)
    }

    /// Copies the whole keyspace and compares both stores, as an operator does before the default store changes.
    pub(super) async fn prove(&self) -> Result<String, String> {
        http::order(self.admin, "/backfill?action=start").await?;
        let filled = self.until("the backfill is done", |status| status.backfill.state == "done").await?;
        http::order(self.admin, "/verify?action=start").await?;
        let verified =
            self.until("the stores are compared", |status| status.verification.state == "done").await?;
        Ok(format!(
            "backfill: {} keys copied; verify: {} keys compared, {} differ",
            thousands(filled.backfill.keys_copied),
            thousands(verified.verification.keys_compared),
            thousands(verified.verification.differing)
        ))
    }

    async fn until(
        &self,
        what: &str,
        done: impl Fn(&InstanceStatus) -> bool,
    ) -> Result<InstanceStatus, String> {
        let end = Instant::now() + PROOF_DEADLINE;
        loop {
            let status = http::status(self.admin, INSTANCE).await?;
            if done(&status) {
                return Ok(status);
            }
            if Instant::now() >= end {
                return Err(format!("not within {PROOF_DEADLINE:?}: {what}"));
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// An error if the proxy or a store has ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let stores = self.stores.iter_mut().map(|store| &mut store.process);
        for process in std::iter::once(&mut self.proxy).chain(stores) {
            if let Some(status) = process.ended() {
                return Err(process.failure(&format!("ended with {status}")));
            }
        }
        Ok(())
    }

    /// The end of the proxy's log.
    pub(super) fn proxy_log(&self) -> String {
        self.proxy.log_end()
    }

    /// Asks the proxy to end, as an operator does.
    pub(super) async fn end_proxy(&mut self) -> Result<(), String> {
        self.proxy.terminate(STOP_DEADLINE).await
    }
}

// === impl Store ===

impl Store {
    async fn start(id: StoreId, dir: &PrivateDir) -> Result<Store, String> {
        let mut last = String::new();
        for _ in 0..START_ATTEMPTS {
            let port = free_port()?;
            let mut process = spawn_redis(id, dir, port)?;
            match wait_for_pong(&mut process, port).await {
                Ok(()) => return Ok(Store { port, process }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn loopback(port: u16) -> Endpoint {
    Endpoint::Tcp { host: "127.0.0.1".to_owned(), port }
}

fn free_port() -> Result<u16, String> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}

fn spawn_redis(id: StoreId, dir: &PrivateDir, port: u16) -> Result<Process, String> {
    let home = dir.path().join(id.name());
    std::fs::create_dir_all(&home).map_err(|error| format!("cannot make {}: {error}", home.display()))?;
    let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let mut command = Command::new(&program);
    command.arg("--port").arg(port.to_string());
    command.args(["--bind", "127.0.0.1", "--bind-source-addr", "127.0.0.1"]);
    command.arg("--dir").arg(&home).args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
    let name = match id {
        StoreId::Primary => "the new store",
        StoreId::Secondary => "the old store",
    };
    let started = Process::start(name, &mut command, home.join("redis.log"));
    started.map_err(|error| {
        let program = program.display();
        format!(
            "{error}; it would be {program}: `make setup` installs redis-server, REDIS_SERVER names another"
        )
    })
}

async fn wait_for_pong(process: &mut Process, port: u16) -> Result<(), String> {
    let end = Instant::now() + START_DEADLINE;
    while Instant::now() < end {
        if let Some(status) = process.ended() {
            return Err(process.failure(&format!("ended with {status}")));
        }
        if let Ok(mut connection) = Connection::open(&loopback(port), ANSWER_TIMEOUT).await
            && connection.call(&["PING"]).await.is_ok_and(|reply| reply.as_str() == Some("PONG"))
        {
            return Ok(());
        }
        sleep(POLL_EVERY).await;
    }
    Err(process.failure(&format!("did not answer within {START_DEADLINE:?}")))
}

fn write_config(dir: &PrivateDir, port: u16, admin: u16, stores: &[Store; 2]) -> Result<(), String> {
    let [primary, secondary] = stores.each_ref().map(|store| store.port);
    let text = format!(
        "[admin]\n\
         listen = \"127.0.0.1:{admin}\"\n\n\
         [instances.{INSTANCE}]\n\
         listen = \"127.0.0.1:{port}\"\n\
         primary = \"redis://127.0.0.1:{primary}\"      # the new store, empty\n\
         secondary = \"redis://127.0.0.1:{secondary}\"    # the old store, in use\n\n\
         [feature_flags]\n\
         {} = false\n\
         {} = false\n",
        use_both_flag(INSTANCE),
        primary_default_flag(INSTANCE),
    );
    let path = dir.path().join("proxy.toml");
    std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn start_proxy(dir: &PrivateDir) -> Result<Process, String> {
    let program = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(dir.path().join("proxy.toml"));
    Process::start("the proxy", command.current_dir(dir.path()), dir.path().join("proxy.log"))
}

async fn wait_until_ready(proxy: &mut Process, admin: u16) -> Result<(), String> {
    let end = Instant::now() + START_DEADLINE;
    while Instant::now() < end {
        if let Some(status) = proxy.ended() {
            return Err(proxy.failure(&format!("ended with {status}")));
        }
        if http::get(admin, "/readyz").await.is_ok() {
            return Ok(());
        }
        sleep(POLL_EVERY).await;
    }
    Err(proxy.failure(&format!("was not ready within {START_DEADLINE:?}")))
}
