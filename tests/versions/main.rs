//! Stores of different versions, in both roles: a whole rollout, copies in the direction in which payloads are
//! refused, commands that only one of them knows, a server without HELLO.
//!
//! `make test-versions` fetches the servers into `target/servers` (scripts/setup-servers) and demands them; otherwise a
//! test whose servers are not there says so and passes.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod rollout;

use std::path::PathBuf;
use std::time::Duration;

use support::*;

/// A store that comes back is noticed at once.
const EAGER: [&str; 2] = [r#"reconnect_min = "10ms""#, r#"reconnect_max = "50ms""#];

/// How long copies may take, on a busy machine.
const COPIED: Duration = Duration::from_secs(30);

/// Pairs of an older and a newer server, or of two houses.
const PAIRS: [(&str, &str); 5] = [
    ("redis-6.2", "redis-8.2"),
    ("redis-6.2", "valkey-8.1"),
    ("redis-8.2", "valkey-9.1"),
    ("valkey-8.1", "valkey-9.1"),
    ("redis-6.2", "system"),
];

/// The server of that name, if it is there. `system`: the one that all tests use.
fn program(name: &str) -> Option<PathBuf> {
    if name == "system" {
        return Some(std::env::var_os("REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(name);
    if path.exists() {
        return Some(path);
    }
    let demanded = std::env::var("VERSIONS").is_ok_and(|value| value == "full");
    assert!(!demanded, "{} is missing: scripts/setup-servers fetches it", path.display());
    eprintln!("skipped: {name} is not in target/servers (make test-versions fetches it)");
    None
}

/// Servers of these two versions, if both are there: primary, secondary.
fn servers(primary: &str, secondary: &str) -> Option<[RedisServer; 2]> {
    let (primary, secondary) = (program(primary)?, program(secondary)?);
    Some([RedisServer::start_program(primary, &[]), RedisServer::start_program(secondary, &[])])
}

/// Every pair, in both roles.
fn each_way(run: impl Fn(&str, &str, [RedisServer; 2])) {
    for (one, two) in PAIRS {
        for (primary, secondary) in [(one, two), (two, one)] {
            if let Some(servers) = servers(primary, secondary) {
                run(primary, secondary, servers);
            }
        }
    }
}

/// The pair behind a proxy.
fn pair([primary, secondary]: [RedisServer; 2], stage: Stage) -> Pair {
    Pair::over(primary, secondary, stage, &EAGER)
}

/// Waits until nothing is suspect, copied or queued.
#[track_caller]
fn settle(pair: &Pair, when: &str) {
    let mut last = serde_json::Value::Null;
    let settled = poll_for(COPIED, || {
        last = pair.proxy.instance_status(INSTANCE);
        let sync = &last["sync"];
        let quiet = ["primary", "secondary"].iter().all(|store| last["stores"][store]["depth"] == 0);
        let whole = sync["behind_as_a_whole"].is_null();
        (quiet && whole && sync["suspects"] == 0 && sync["copies_under_way"] == 0).then_some(())
    });
    assert!(settled.is_some(), "{when}: not settled: {last:#}");
}

#[track_caller]
fn assert_same(pair: &Pair, when: &str) {
    settle(pair, when);
    assert_exactly_same(&mut pair.secondary.client(), &mut pair.primary.client(), when);
}
