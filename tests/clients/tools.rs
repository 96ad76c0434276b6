//! redis-cli and redis-benchmark, which come with the server.

use crate::row::Row;
use crate::support::*;
use crate::{is_full, rollout};
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a tool to its end and returns what it printed.
#[track_caller]
fn run(program: &str, port: u16, args: &[&str], input: &[u8]) -> String {
    let mut command = Command::new(program);
    command.arg("-p").arg(port.to_string()).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("wait for a tool");
    let _ = writer.join();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}", output.status);
    text
}

#[track_caller]
fn cli(port: u16, args: &[&str]) -> String {
    run("redis-cli", port, args, b"").trim().to_owned()
}

#[test]
fn redis_cli_in_every_stage() {
    let mut pair = Pair::start();
    let port = pair.proxy.port();
    for (at, stage) in rollout().into_iter().enumerate() {
        pair.stage(stage);
        let key = format!("key{at}");
        assert_eq!(cli(port, &["PING"]), "PONG", "{stage}");
        assert_eq!(cli(port, &["SET", &key, "value"]), "OK", "{stage}");
        assert_eq!(cli(port, &["-3", "GET", &key]), "value", "{stage}");
        assert_eq!(cli(port, &["-n", "3", "GET", &key]), "", "{stage}");
        assert_eq!(
            cli(port, &["-3", "HSET", "hash", "field", "1"]),
            if at == 0 { "1" } else { "0" },
            "{stage}"
        );
        assert_eq!(cli(port, &["--csv", "HGETALL", "hash"]), "\"field\",\"1\"", "{stage}");
        assert_eq!(cli(port, &["-r", "3", "INCR", &format!("n{at}")]), "1\n2\n3", "{stage}");
        assert_eq!(cli(port, &["EVAL", "return {KEYS[1], ARGV[1]}", "1", "k", "v"]), "k\nv", "{stage}");
        let lines = b"MULTI\nSET a 1\nINCR a\nEXEC\nBOGUS\nGET a\nSELECT 99\nECHO 'a b'\n";
        let said = run("redis-cli", port, &[], lines);
        let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(said[..5], ["OK", "QUEUED", "QUEUED", "OK", "2"], "{stage}");
        assert!(said[5].starts_with("ERR unknown command 'BOGUS'"), "{stage}: {said:?}");
        assert_eq!(said[6..], ["2", "ERR DB index is out of range", "a b"], "{stage}");
        assert!(cli(port, &["--scan", "--pattern", "key*"]).lines().any(|line| line == key), "{stage}");
        assert!(cli(port, &["--bigkeys"]).contains("Biggest string found"), "{stage}");
        assert!(cli(port, &["INFO", "server"]).contains("redis_version"), "{stage}");
    }
}

#[test]
fn mass_insertion_by_redis_cli() {
    const COUNT: usize = 20_000;
    let mut pair = Pair::start();
    for stage in Stage::ALL {
        pair.stage(stage);
        let commands = (0..COUNT).flat_map(|at| encode(&["SET", &format!("{stage}:{at}"), "value"]));
        let told = run("redis-cli", pair.proxy.port(), &["--pipe"], &commands.collect::<Vec<u8>>());
        assert!(told.contains(&format!("errors: 0, replies: {COUNT}")), "{stage}: {told}");
    }
}

/// How many tests of redis-benchmark come to their end without an error.
#[track_caller]
fn benchmark(port: u16, depth: &str) -> usize {
    let count = if is_full() { "20000" } else { "500" };
    let args = ["-n", count, "-c", "20", "-P", depth, "-r", "1000", "--csv"];
    let told = run("redis-benchmark", port, &args, b"");
    assert!(!told.to_lowercase().contains("error"), "-P {depth}: {told}");
    let tests = told.lines().filter(|line| line.starts_with('"')).count();
    assert!(tests >= 20, "-P {depth}: {told}");
    tests
}

#[test]
fn redis_benchmark_in_every_stage() {
    let mut row = Row::default();
    let lone = RedisServer::start();
    let mut pair = Pair::start();
    for depth in ["1", "16"] {
        let tests = benchmark(lone.port(), depth);
        row.add(Row::DIRECT, tests, tests);
    }
    for stage in Stage::ALL {
        pair.stage(stage);
        for depth in ["1", "16"] {
            let tests = benchmark(pair.proxy.port(), depth);
            row.add(&stage.to_string(), tests, tests);
        }
    }
    row.write("redis-benchmark, `-P 1` and `-P 16`: tests without an error");
}
