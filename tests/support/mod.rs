//! Real parts for integration tests: redis-servers, the proxy as a process, raw clients, and a
//! scripted store that misbehaves on demand.
//!
//! Everything blocks and every wait has a deadline: a test that hangs is a test that fails with a
//! sentence. Parts panic on failure, end their processes when dropped, and print their logs when
//! the test that owns them panics.
//!
//! - [`RedisServer`]: one redis-server (or what `REDIS_SERVER` names) on a free port;
//! - [`Proxy`]: `multistore run` with a `proxy.toml` of its own;
//! - [`Client`]: a raw connection, bytes in and bytes out;
//! - [`ScriptedStore`]: a store made of a closure, for faults that no real one shows on request;
//! - [`FaultProxy`]: a network before a real store that delays, cuts, garbles, adds and loses replies;
//! - [`Pair`]: two servers and the proxy before them, and the comparison of the two.

// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]

mod certificates;
mod client;
mod docs;
mod dump;
mod exact;
mod fault_proxy;
mod http;
mod numbers;
mod pair;
mod ports;
mod process;
mod proxy;
mod redis;
mod scripted;
mod tempdir;
mod value;
mod way;

pub use certificates::Authority;
pub use client::{Client, is_timeout};
pub use docs::{write_result, write_table};
pub use dump::{Dump, Entry, differences, dump};
pub use exact::{assert_exactly_same, everything};
pub use fault_proxy::{Astray, Fault, FaultProxy, Target};
pub use http::{HttpAnswer, get as http_get, request as http_request};
pub use numbers::Numbers;
pub use pair::{INSTANCE, Pair};
pub use ports::free_port;
pub use process::{kill_now, signal, wait_with_deadline};
pub use proxy::{Proxy, ProxyConfig, program};
pub use redis::{Data, RedisServer};
pub use scripted::{Answer, Request, ScriptedStore};
pub use tempdir::TempDir;
pub use value::{Reader, Value, encode, pairs_sorted};
pub use way::{Served, Way, narrowed};

pub use multistore::stage::Stage;

use std::time::{Duration, Instant};

/// How long anything that should happen soon may take, on a busy two-core machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Pause between two looks of [`poll_until`].
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Looks again and again until `condition` holds; panics with `what` after `deadline`.
#[track_caller]
pub fn poll_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let found = poll_for(deadline, || condition().then_some(()));
    assert!(found.is_some(), "not within {deadline:?}: {what}");
}

/// Looks again and again until `look` finds something; `None` after `deadline`.
pub fn poll_for<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL_EVERY);
    }
}
