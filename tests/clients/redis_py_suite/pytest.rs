//! pytest, run on the suite.

use super::Protocol;
use super::outcome::Outcome;
use crate::support::*;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a run may take.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Seconds that one test may take.
const STUCK: &str = "60";

/// The files that speak to a server: not those about clusters, sentinels, TLS, modules, several databases at once, or mocks
/// alone.
const FILES: &[&str] = &[
    "test_commands.py",
    "test_command_parser.py",
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
    "test_asyncio/test_client.py",
    "test_asyncio/test_commands.py",
    "test_asyncio/test_command_parser.py",
    "test_asyncio/test_cwe_404.py",
    "test_asyncio/test_pipeline.py",
    "test_asyncio/test_pubsub.py",
    "test_asyncio/test_lock.py",
    "test_asyncio/test_scripting.py",
    "test_asyncio/test_connection.py",
    "test_asyncio/test_connection_pool.py",
    "test_asyncio/test_encoding.py",
    "test_asyncio/test_hash.py",
    "test_asyncio/test_keyspace_notifications.py",
    "test_asyncio/test_monitor.py",
    "test_asyncio/test_usage_counter.py",
];

/// What needs a cluster, a server with modules or with TLS, or dials a replica at a fixed port.
const MARKS: &str = "not onlycluster and not redismod and not ssl and not replica";

/// Tests that hang now and then whoever answers: two threads race for one lock.
const RACES: &[&str] = &["tests/test_pubsub.py::TestPubSubAutoReconnect"];

/// Where a run prints.
pub fn log_path(protocol: Protocol, way: Way, attempt: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/redis-py-suite");
    std::fs::create_dir_all(&dir).expect("make target/redis-py-suite");
    dir.join(format!("resp{}-{}{attempt}.log", protocol.0, way.name().replace('/', "-")))
}

/// Everything, to its end.
pub fn run_whole(port: u16, protocol: Protocol, way: Way) -> Outcome {
    let _ = std::fs::remove_file(log_path(protocol, way, super::outcome::AGAIN));
    let files: Vec<String> = FILES.iter().map(|file| format!("tests/{file}")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    run(port, protocol, &log_path(protocol, way, ""), &files)
}

/// These tests alone.
pub fn run_again(port: u16, protocol: Protocol, way: Way, tests: &[&str]) -> Outcome {
    run(port, protocol, &log_path(protocol, way, super::outcome::AGAIN), tests)
}

/// pytest on `what`, against whoever listens on `port`.
#[track_caller]
fn run(port: u16, protocol: Protocol, log: &Path, what: &[&str]) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let suite = root.join(".cache/clients/redis-py-suite");
    let out = File::create(log).expect("create a log");
    let mut command = Command::new(suite.join("python/bin/python"));
    command.args([
        "-m",
        "pytest",
        "-q",
        "--tb=native",
        "-rfEpX",
        "-p",
        "no:warnings",
        "-p",
        "no:cacheprovider",
    ]);
    // A test that hangs ends its worker (-n): the next one goes on.
    // Of the kinds of traceback only the native one does not read files of 8,000 lines for each.
    command.args(["-p", "calm", "-n", "1", "--timeout", STUCK, "--protocol", protocol.0]);
    command.args(RACES.iter().flat_map(|id| ["--deselect", id]));
    command.arg("--redis-url").arg(format!("redis://127.0.0.1:{port}/9")).args(["-m", MARKS]).args(what);
    command.current_dir(suite.join("source")).env("PYTHONPATH", root.join("tests/clients/suites"));
    command.env("COLUMNS", "300").stdin(Stdio::null()).stderr(out.try_clone().expect("share the log"));
    let mut child = command.stdout(out).spawn().expect("run pytest: `make test-redis-py` installs it");
    if wait_with_deadline(&mut child, DEADLINE).is_none() {
        kill_now(&mut child);
    }
    Outcome::of_log(log).unwrap_or_else(|| panic!("pytest did not come to its end: {}", log.display()))
}
