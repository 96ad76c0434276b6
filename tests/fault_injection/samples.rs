//! What a process takes, every few seconds.

use super::support::Proxy;
use serde_json::Value as Json;
use std::time::{Duration, Instant};

/// What the runtime calls a thread of its pool.
const POOLED_THREAD: &str = "tokio-rt-worker";

/// One look at the proxy.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Duration,
    pub rss_kib: u64,
    pub fds: u64,
    /// Those that serve, and those that wait for blocking work: of the latter some come and go.
    pub threads: u64,
    pub blocking: u64,
    pub clients: u64,
    pub under_way: Json,
    pub requests: f64,
}

// === impl Sample ===

impl Sample {
    pub fn take(proxy: &Proxy, instance: &str, began: Instant) -> Sample {
        let pid = proxy.pid();
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the proxy runs");
        let field = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of /proc/PID/status");
            line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().expect("a number")
        };
        let status = proxy.instance_status(instance);
        let blocking = blocking_threads(pid);
        Sample {
            at: began.elapsed(),
            rss_kib: field("VmRSS"),
            fds: std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the proxy runs").count() as u64,
            threads: field("Threads").saturating_sub(blocking),
            blocking,
            clients: status["clients"].as_u64().expect("a number"),
            under_way: status["under_way"].clone(),
            requests: proxy.metric("multistore_requests_total", &[]),
        }
    }

    /// Does the proxy work on nothing for anybody?
    pub fn is_idle(&self) -> bool {
        let mut numbers = self.under_way.as_object().expect("an object").values();
        self.clients == 0 && numbers.all(|number| number == 0)
    }
}

/// Threads of the runtime's pool for blocking work: reading a file, looking a name up.
fn blocking_threads(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the proxy runs");
    let names =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == POOLED_THREAD).count() as u64
}

/// The middle one of the resident sizes, in KiB.
pub fn usual_rss(samples: &[Sample]) -> u64 {
    let mut sizes: Vec<u64> = samples.iter().map(|sample| sample.rss_kib).collect();
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied().unwrap_or_default()
}
