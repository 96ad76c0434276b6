//! Backfill, verification, verdict, rollout: from an old store full of keys to a proven flip, against two real servers.

#[path = "../support/mod.rs"]
mod support;

mod data;
mod fill;
mod offline;
mod rates;
mod verify;
mod walk;
mod workload;

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value as Json;
use support::*;

/// How long something that takes all keys may take, on a busy machine.
const PATIENTLY: Duration = Duration::from_secs(120);
/// A busy machine is no slow primary.
const CALM: &str = r#"read_patience = "10s""#;

/// `multistore` with these arguments, for the proxy of this pair.
fn cli(pair: &Pair, args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(args)
        .arg("--config")
        .arg(pair.proxy.config_path())
        .output();
    output.expect("run multistore")
}

/// Exit code, standard output and standard error, one behind the other.
fn told(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), text.concat())
}

/// Runs it and demands this exit code.
#[track_caller]
fn run(pair: &Pair, args: &[&str], code: i32) -> String {
    let (ended, text) = told(&cli(pair, args));
    assert_eq!(ended, Some(code), "multistore {args:?}: {text}");
    text
}

#[track_caller]
fn status(pair: &Pair) -> Json {
    pair.proxy.instance_status(INSTANCE)
}

#[track_caller]
fn wait_for_backfill(pair: &Pair, state: &str) {
    let mut last = Json::Null;
    let reached = poll_for(PATIENTLY, || {
        last = status(pair)["backfill"].clone();
        (last["state"] == state).then_some(())
    });
    assert!(reached.is_some(), "the backfill is not {state}: {last:#}");
}

/// The report of a verification, with the exit code it must have.
#[track_caller]
fn verified(pair: &Pair, args: &[&str], code: i32) -> Json {
    let output = cli(pair, &[&["verify", "--json"], args].concat());
    let (ended, text) = told(&output);
    assert_eq!(ended, Some(code), "multistore verify {args:?}: {text}");
    let json = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {text}"))
}
