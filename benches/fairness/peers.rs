//! Whom the clients speak to.

use crate::support::*;
use std::process::{Child, Command, Stdio};

/// What stands between the clients and the stores, and the stores.
pub struct Peer {
    port: u16,
    between: Between,
    stores: [u16; 2],
    _servers: Vec<RedisServer>,
}

enum Between {
    Nothing,
    // The directory outlives the process that runs in it.
    Twemproxy(Child, #[expect(dead_code, reason = "is removed when dropped")] TempDir),
    Proxy(Box<Pair>),
}

// === impl Peer ===

impl Peer {
    pub const NAMES: [&str; 5] =
        ["direct", "twemproxy", "secondary_only", "dual_secondary_default", "dual_primary_default"];

    /// `None`: it is not installed.
    pub fn start(name: &str) -> Option<Peer> {
        let (primary, secondary) = (server(), server());
        let stores = [primary.port(), secondary.port()];
        let stage = Stage::ALL.into_iter().find(|stage| stage.to_string() == name);
        if let Some(stage) = stage {
            let pair = Pair::over(primary, secondary, stage, &[]);
            let port = pair.proxy.port();
            return Some(Peer {
                port,
                between: Between::Proxy(Box::new(pair)),
                stores,
                _servers: Vec::new(),
            });
        }
        let (port, between) = match name {
            "direct" => (secondary.port(), Between::Nothing),
            _ => twemproxy(secondary.port())?,
        };
        Some(Peer { port, between, stores, _servers: vec![primary, secondary] })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn store_ports(&self) -> [u16; 2] {
        self.stores
    }

    /// Memory of what stands between, in MB.
    pub fn resident(&self) -> Option<u64> {
        let pid = match &self.between {
            Between::Nothing => return None,
            Between::Twemproxy(child, _) => child.id(),
            Between::Proxy(pair) => pair.proxy.pid(),
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    }

    /// The same, when it has not fallen for a second.
    pub fn resident_settled(&self) -> Option<u64> {
        let mut least = self.resident()?;
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
            let now = self.resident()?;
            if now >= least {
                return Some(least);
            }
            least = now;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Between::Twemproxy(child, _) = &mut self.between {
            kill_now(child);
        }
    }
}

fn server() -> RedisServer {
    RedisServer::start()
}

fn twemproxy(store: u16) -> Option<(u16, Between)> {
    let dir = TempDir::new();
    let port = free_port();
    let text = format!(
        "bench:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  \
         servers:\n   - 127.0.0.1:{store}:1\n"
    );
    std::fs::write(dir.join("nutcracker.yml"), text).ok()?;
    let mut command = Command::new("nutcracker");
    command.arg("-c").arg(dir.join("nutcracker.yml")).args([
        "-s",
        &free_port().to_string(),
        "-a",
        "127.0.0.1",
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().ok()?;
    poll_until(SOON, "twemproxy listens", || Client::try_connect(port).is_ok());
    Some((port, Between::Twemproxy(child, dir)))
}
