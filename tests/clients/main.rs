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
mod row;
mod script;
mod tools;

use row::Row;
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

/// Runs a script through a whole rollout and back, and where clients run at length against a lone server as well.
#[track_caller]
fn through_a_rollout(client: &str, program: &str, args: &[&str]) {
    let mut row = Row::default();
    if is_full() {
        let lone = RedisServer::start();
        let mut script = Script::start(program, &[args, &[&*lone.port().to_string()]].concat());
        let rounds = script.await_rounds(rounds());
        row.add(Row::DIRECT, rounds, rounds);
        script.finish();
    }
    let mut pair = Pair::start();
    let mut script = Script::start(program, &[args, &[&*pair.proxy.port().to_string()]].concat());
    for stage in rollout() {
        pair.stage(stage);
        let rounds = script.await_rounds(rounds());
        row.add(&stage.to_string(), rounds, rounds);
    }
    script.finish();
    row.write(&format!("{client}: rounds in which every answer is right"));
}

#[test]
fn redis_py() {
    if has_python() {
        through_a_rollout("redis-py 8.1, RESP2 and RESP3", PYTHON, &["tests/clients/redis_py.py"]);
    }
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn ioredis() {
    through_a_rollout("ioredis 6.0, auto-pipelining", "node", &["tests/clients/ioredis.js"]);
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn node_redis() {
    through_a_rollout("node-redis 6.3", "node", &["tests/clients/node_redis.js"]);
}

#[test]
#[ignore = "builds a client: make test-clients"]
fn redis_rs() {
    through_a_rollout("redis-rs 1.8, RESP2 and RESP3", ".cache/clients/rust/debug/redis_rs", &[]);
}

#[test]
#[ignore = "builds a client: make test-clients"]
fn fred() {
    through_a_rollout("fred 10.1, RESP2 and RESP3", ".cache/clients/rust/debug/fred_rs", &[]);
}
