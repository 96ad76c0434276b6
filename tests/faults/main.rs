//! Stores that die, hang, refuse and talk nonsense: what clients see of it, and that it heals.

#[path = "../support/mod.rs"]
mod support;

mod load;
mod nonsense;
mod once;
mod refusals;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use multistore::stage::StoreId;
use support::*;

/// A lookup may wait for two stores in turn; the rest is for a machine that is busy otherwise.
const LONGEST_WAIT: Duration = Duration::from_secs(7);
/// Quick to notice, quick to come back.
const TIMES: [&str; 5] = [
    "reply_timeout = \"1s\"",
    "lane_timeout = \"2s\"",
    "connect_timeout = \"1s\"",
    "reconnect_min = \"10ms\"",
    "reconnect_max = \"100ms\"",
];

/// Did the proxy answer in a store's stead?
fn fails(reply: &Value) -> bool {
    reply.is_error() && reply.error().starts_with("MULTISTORE ")
}

trait LaneDepth {
    fn instance_lane_depth(&self, store: StoreId) -> u64;
}

impl LaneDepth for Pair {
    fn instance_lane_depth(&self, store: StoreId) -> u64 {
        let status = self.proxy.instance_status(INSTANCE);
        status["stores"][store.name()]["depth"].as_u64().expect("a depth")
    }
}
