//! Clients that people use, through the proxy, in all four stages, while the flags flip.
//!
//! Those that come with redis-server run always, briefly; redis-py and RQ where `scripts/setup-clients python` has
//! installed them; all of them with `make test-clients`, which installs them into `.cache/` first and sets `CLIENTS=full`.
//!
//! A script beside this file loops over its repertoire, checks every answer, and prints a line per
//! round; it ends when its standard input does. Rounds are awaited in every stage.

#[path = "../support/mod.rs"]
mod support;

mod jobs;
mod redis_py_suite;
mod script;

mod tools;

use script::Script;
use support::*;

/// Installed clients are demanded, and the tools run at length.
fn is_full() -> bool {
    std::env::var("CLIENTS").is_ok_and(|value| value == "full")
}

/// What `scripts/setup-clients python` installs.
const PYTHON: &str = ".cache/clients/python/bin/python";

/// Are the clients of Python there? They are demanded with `CLIENTS=full`.
fn has_python() -> bool {
    let there = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PYTHON).exists();
    if !there {
        assert!(!is_full(), "{PYTHON} is not there: scripts/setup-clients");
        eprintln!("skipped: scripts/setup-clients python installs redis-py and RQ");
    }
    there
}

/// Rounds that are awaited in every stage.
fn rounds() -> usize {
    if is_full() { 2 } else { 1 }
}

/// There and back, one step at a time.
fn rollout() -> Vec<Stage> {
    let there = Stage::ALL;
    there.into_iter().chain(there.into_iter().rev().skip(1)).collect()
}

/// Runs a script through a whole rollout and back.
#[track_caller]
fn through_a_rollout(program: &str, args: &[&str]) {
    let mut pair = Pair::start();
    let port = pair.proxy.port().to_string();
    let mut script = Script::start(program, &[args, &[port.as_str()]].concat());
    for stage in rollout() {
        pair.stage(stage);
        script.await_rounds(rounds());
    }
    script.finish();
}

#[test]
fn redis_py() {
    if has_python() {
        through_a_rollout(PYTHON, &["tests/clients/redis_py.py"]);
    }
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn ioredis() {
    through_a_rollout("node", &["tests/clients/ioredis.js"]);
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn node_redis() {
    through_a_rollout("node", &["tests/clients/node_redis.js"]);
}

#[test]
#[ignore = "builds a client: make test-clients"]
fn redis_rs() {
    through_a_rollout(".cache/clients/rust/debug/redis_rs", &[]);
}

#[test]
#[ignore = "builds a client: make test-clients"]
fn fred() {
    through_a_rollout(".cache/clients/rust/debug/fred_rs", &[]);
}
