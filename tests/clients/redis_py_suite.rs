//! redis-py's own test suite: what passes against a server passes through the proxy, in every stage and both protocols.
//!
//! `make test-redis-py` fetches the suite (it comes with the source package) and prints the table for
//! docs/compatibility.md.

use crate::support::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The files that speak to a server: not those about clusters, sentinels, TLS, modules, or mocks alone.
const FILES: &[&str] = &[
    "test_commands.py",
    "test_pipeline.py",
    "test_pubsub.py",
    "test_lock.py",
    "test_scripting.py",
    "test_connection.py",
    "test_connection_pool.py",
    "test_client.py",
    "test_encoding.py",
    "test_monitor.py",
    "test_function.py",
    "test_cache.py",
    "test_hash.py",
    "test_keyspace_notifications.py",
    "test_multiprocessing.py",
    "test_asyncio/test_commands.py",
    "test_asyncio/test_pipeline.py",
    "test_asyncio/test_pubsub.py",
    "test_asyncio/test_lock.py",
    "test_asyncio/test_scripting.py",
    "test_asyncio/test_connection.py",
    "test_asyncio/test_connection_pool.py",
    "test_asyncio/test_encoding.py",
    "test_asyncio/test_monitor.py",
];

/// Tests that hang now and then whoever answers: two threads race for one lock.
const RACES: &[&str] = &["tests/test_pubsub.py::TestPubSubAutoReconnect"];

/// Tests that fail through the proxy and not without it, and why: a line for each in docs/compatibility.md.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("test_replicaof", "REPLICAOF is refused"),
    ("test_failover", "FAILOVER is refused"),
    ("test_psync", "PSYNC is refused"),
    ("test_sync", "SYNC is refused"),
];

/// What came of one run.
struct Outcome {
    passed: usize,
    skipped: usize,
    failed: BTreeSet<String>,
}

// === impl Outcome ===

impl Outcome {
    /// From the last lines that pytest prints.
    #[track_caller]
    fn of(told: &str) -> Outcome {
        let failed = told.lines().filter_map(|line| {
            let rest = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "))?;
            Some(rest.split(" - ").next().unwrap_or(rest).trim().to_owned())
        });
        let summary = told.lines().rev().find(|line| line.contains(" in ") && line.contains("passed"));
        let summary = summary.unwrap_or_else(|| panic!("pytest did not run:\n{told}"));
        let words: Vec<&str> = summary.split([' ', ',', '=']).filter(|word| !word.is_empty()).collect();
        let count = |what: &str| {
            let pair = words.windows(2).find(|pair| pair[1] == what);
            pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0usize)
        };
        Outcome {
            passed: count("passed") + count("xpassed"),
            skipped: count("skipped"),
            failed: failed.collect(),
        }
    }
}

fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/clients/redis-py-suite")
}

/// pytest, for tests of the suite against whoever listens on `port`.
fn pytest(port: u16, protocol: &str, what: &[&str]) -> Output {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/suites");
    let mut command = Command::new(suite().join("python/bin/python"));
    command.args(["-m", "pytest", "-q", "--tb=short", "-rfE", "-p", "no:warnings", "-p", "no:cacheprovider"]);
    // A test that hangs ends its worker (-n): the next one goes on.
    command.args(["-p", "loopback_only", "-n", "1", "--timeout", "60", "--protocol", protocol]);
    command.args(RACES.iter().flat_map(|id| ["--deselect", id]));
    command.arg("--redis-url").arg(format!("redis://127.0.0.1:{port}/9"));
    command.args(["-m", "not onlycluster and not redismod and not ssl"]).args(what);
    command.current_dir(suite().join("source")).env("PYTHONPATH", plugins).stdin(Stdio::null());
    command.output().expect("run pytest: `make test-redis-py` installs it")
}

/// Runs the whole suite.
#[track_caller]
fn run(port: u16, protocol: &str) -> Outcome {
    let files: Vec<String> = FILES.iter().map(|file| format!("tests/{file}")).collect();
    let output = pytest(port, protocol, &files.iter().map(String::as_str).collect::<Vec<_>>());
    Outcome::of(&String::from_utf8_lossy(&output.stdout))
}

/// Runs the suite; a test that is not in `known` fails when it also fails once more, alone.
#[track_caller]
fn run_twice(port: u16, protocol: &str, known: &BTreeSet<String>) -> Outcome {
    let mut outcome = run(port, protocol);
    let before = outcome.failed.len();
    outcome.failed.retain(|id| {
        let again = (!known.contains(id)).then(|| pytest(port, protocol, &[id]));
        let fails = again.as_ref().is_none_or(|output| !output.status.success());
        if let Some(output) = again.filter(|_| fails) {
            println!("{}", String::from_utf8_lossy(&output.stdout));
        }
        fails
    });
    outcome.passed += before - outcome.failed.len();
    outcome
}

fn row(protocol: &str, where_: &str, outcome: &Outcome) -> String {
    let failed = outcome.failed.len();
    format!(
        "| redis-py, RESP{protocol} | {where_} | {} | {failed} | {} | {} |",
        outcome.passed,
        outcome.skipped,
        outcome.passed + failed
    )
}

/// Each stage has servers of its own: the suite waits more than it works.
#[track_caller]
fn whatever_passes_directly_passes_through_the_proxy(protocol: &str) {
    let server = || RedisServer::start_with(&["--enable-debug-command", "local"]);
    let lone = server();
    let direct = run(lone.port(), protocol);
    let through = std::thread::scope(|scope| {
        let stages = Stage::ALL.map(|stage| {
            let pair = Pair::over(server(), server(), stage, &[]);
            let known = &direct.failed;
            (
                stage,
                scope.spawn(move || {
                    // All of it: the servers last as long as the run.
                    let pair = pair;
                    run_twice(pair.proxy.port(), protocol, known)
                }),
            )
        });
        stages.map(|(stage, run)| (stage, run.join().expect("a run of the suite")))
    });
    println!("{}", row(protocol, "direct", &direct));
    let mut unexpected = Vec::new();
    for (stage, outcome) in &through {
        println!("{}", row(protocol, &stage.to_string(), outcome));
        for id in outcome.failed.difference(&direct.failed) {
            let name = id.rsplit("::").next().unwrap_or(id);
            if !EXCEPTIONS.iter().any(|(known, _)| name.split('[').next() == Some(known)) {
                unexpected.push(format!("{stage}: {id}"));
            }
        }
    }
    assert!(unexpected.is_empty(), "pass directly, and not through the proxy:\n{}", unexpected.join("\n"));
}

#[test]
#[ignore = "takes long: make test-redis-py"]
fn suite_of_redis_py_in_resp2() {
    whatever_passes_directly_passes_through_the_proxy("2");
}

#[test]
#[ignore = "takes long: make test-redis-py"]
fn suite_of_redis_py_in_resp3() {
    whatever_passes_directly_passes_through_the_proxy("3");
}
