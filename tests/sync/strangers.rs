//! Another server under a store's URL: what somebody else uses is left alone until an operator says so.

use std::process::Command;

use super::source::{code_and_text, repair};
use super::*;

/// How the proxy is ended before its file is changed.
const ENDS: [bool; 2] = [false, true];

/// Dual, with data on both stores that are equal.
fn with_data(stage: Stage) -> Pair {
    let pair = Pair::eager(stage);
    let mut client = pair.client();
    (0..50).for_each(|n| drop(client.words(&format!("SET key:{n} {n}"))));
    pair.assert_converges();
    pair
}

/// Restarts the proxy with `server` under the URL of `store`, where what stood there before goes on running.
fn put_under_the_url(pair: &mut Pair, store: StoreId, server: RedisServer, crash: bool) -> RedisServer {
    let before = std::mem::replace(pair.server_mut(store), server);
    restart_with(pair, &before.url(), &pair.server(store).url(), crash);
    before
}

fn restart_with(pair: &mut Pair, before: &str, now: &str, crash: bool) {
    if crash {
        pair.proxy.kill();
    } else {
        pair.proxy.terminate();
    }
    let text = pair.proxy.config_text().replace(&format!("\"{before}\""), &format!("\"{now}\""));
    assert!(text.contains(now), "{text}");
    pair.proxy.write_config(&text);
    pair.proxy.start_again_not_ready();
    poll_until(REPAIRED, "clients are let in", || pair.status()["listening"] == true);
}

/// A server that somebody else uses.
fn somebodys() -> RedisServer {
    let foreign = RedisServer::start();
    (0..7).for_each(|n| drop(foreign.words(&format!("SET theirs:{n} {n}"))));
    foreign
}

/// Runs `multistore` with these arguments and the proxy's file.
fn multistore(pair: &Pair, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(args)
        .arg("--config")
        .arg(pair.proxy.config_path())
        .output()
        .expect("run multistore");
    code_and_text(&output)
}

fn must_name(pair: &Pair) -> String {
    poll_until(REPAIRED, "an operator is asked", || pair.sync()["operator_must_name_source"].is_string());
    pair.sync()["operator_must_name_source"].to_string()
}

#[test]
fn nothing_of_a_stranger_is_deleted_or_written() {
    for (stage, crash) in DUAL.into_iter().flat_map(|stage| ENDS.map(|crash| (stage, crash))) {
        let mut pair = with_data(stage);
        let other = stage.default_store().other();
        let before = put_under_the_url(&mut pair, other, somebodys(), crash);
        let why = must_name(&pair);
        for part in [other.name(), "7 keys", "multistore repair", &pair.server(other).port().to_string()] {
            assert!(why.contains(part), "{stage}, crash {crash}: {why} lacks {part}");
        }
        pair.proxy.wait_for_log("another server stands under the URL of this store");
        // The clients go on with the default store.
        let mut client = pair.client();
        assert_eq!(client.words("SET new 1"), Value::ok(), "{stage}");
        assert_eq!(client.words("GET key:7"), "7".into(), "{stage}");
        assert_eq!(client.words("INCR key:1"), 2.into(), "{stage}");
        let removes = stage == Stage::DualSecondaryDefault;
        if removes {
            // What a cold primary removes while the secondary is away would come back from there.
            assert_eq!(client.words("DEL key:0"), 1.into());
        }
        let status = pair.status();
        assert_eq!(status["stores"][other.name()]["up"], false, "{stage}: {status}");
        let foreign = pair.server(other);
        assert_eq!(foreign.words("DBSIZE"), 7.into(), "{stage}, crash {crash}");
        for written in ["set", "incr", "del", "client|kill"] {
            let calls = foreign.calls_of(written);
            assert_eq!(calls, if written == "set" { 7 } else { 0 }, "{stage}: {written}");
        }
        // The old URL again: it was away, no more.
        let url = foreign.url();
        let foreign = std::mem::replace(pair.server_mut(other), before);
        let now = pair.server(other).url();
        restart_with(&mut pair, &url, &now, crash);
        assert!(pair.sync()["operator_must_name_source"].is_null(), "{stage}");
        assert_eq!(pair.client().words("SET last 1"), Value::ok());
        pair.assert_both("DBSIZE", if removes { 51 } else { 52 });
        assert_eq!(foreign.words("DBSIZE"), 7.into(), "{stage}");
    }
}

#[test]
fn a_stranger_does_not_answer_for_the_default_store() {
    for stage in DUAL {
        let mut pair = with_data(stage);
        let default = stage.default_store();
        put_under_the_url(&mut pair, default, somebodys(), false);
        let why = must_name(&pair);
        assert!(why.contains(default.name()) && why.contains("7 keys"), "{why}");
        for line in ["SET new 1", "SUBSCRIBE channel", "WATCH key:7", "BLPOP list 1"] {
            let answer = format!("{:?}", pair.client().words(line));
            assert!(answer.contains("MULTISTORE") && answer.contains("another server"), "{line}: {answer}");
        }
        assert_eq!(pair.default_store(stage).words("DBSIZE"), 7.into(), "{stage}");
        assert_eq!(pair.other_store(stage).words("DBSIZE"), 50.into(), "{stage}");
    }
}

#[test]
fn the_operator_ends_it_with_the_store_that_is_right() {
    for (stage, foreign) in DUAL.into_iter().flat_map(|stage| StoreId::ALL.map(|store| (stage, store))) {
        for right in StoreId::ALL {
            let mut pair = with_data(stage);
            put_under_the_url(&mut pair, foreign, somebodys(), false);
            must_name(&pair);
            let (code, text) = code_and_text(&repair(&pair, &["--from", right.name()]));
            assert_eq!(code, Some(0), "{stage}, {foreign}, {right}: {text}");
            assert!(pair.sync()["operator_must_name_source"].is_null());
            // Not even a crash makes it ask again.
            pair.proxy.kill();
            pair.proxy.start_again_not_ready();
            pair.assert_both("DBSIZE", if right == foreign { 7 } else { 50 });
            assert!(pair.sync()["operator_must_name_source"].is_null());
        }
    }
}

#[test]
fn an_empty_server_and_one_that_goes_on_with_the_data_need_no_operator() {
    for stage in DUAL {
        let other = stage.default_store().other();
        let mut pair = with_data(stage);
        let was = put_under_the_url(&mut pair, other, RedisServer::start(), false);
        pair.assert_both("DBSIZE", 50);
        drop(was);
        // The same server under another name.
        let (url, name) =
            (pair.server(other).url(), pair.server(other).url().replace("127.0.0.1", "localhost"));
        restart_with(&mut pair, &url, &name, true);
        pair.assert_both("DBSIZE", 50);
        restart_with(&mut pair, &name, &url, false);
        // A replica of it that was promoted, and one of the default store.
        for of in [other, stage.default_store()] {
            let replica = RedisServer::start();
            replica.words(&format!("REPLICAOF 127.0.0.1 {}", pair.server(of).port()));
            poll_until(REPAIRED, "it is synced", || replica.words("DBSIZE") == 50.into());
            // The history is known as of the last connect.
            let kills = pair.server(of).words("CLIENT KILL TYPE normal SKIPME yes");
            assert!(matches!(kills, Value::Int(_)), "{kills:?}");
            poll_until(SOON, "both are up", || pair.client().words("SET key:1 1") == Value::ok());
            pair.assert_converges();
            poll_until(REPAIRED, "it has everything", || replica.words("GET key:1") == "1".into());
            replica.words("REPLICAOF NO ONE");
            drop(put_under_the_url(&mut pair, other, replica, false));
            pair.assert_both("DBSIZE", 50);
        }
        assert!(!pair.proxy.log().contains("another server stands under the URL"), "{stage}");
    }
}

#[test]
fn another_database_of_the_same_server_is_somebody_elses() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let [primary, secondary] = servers.each_ref().map(RedisServer::url);
    let config = ProxyConfig::new(INSTANCE, &format!("{primary}/1"), &format!("{secondary}/1"));
    let config = EAGER.iter().fold(config.stage(DUAL[0]), |config, line| config.setting(line));
    let [p, s] = servers;
    p.words("SELECT 2");
    p.words("SET theirs 1");
    let mut pair = Pair { proxy: Proxy::start(config), primary: p, secondary: s };
    pair.client().words("SET key value");
    poll_until(SOON, "it is on both", || pair.primary.info("keyspace", "db1").is_some());
    restart_with(&mut pair, &format!("{primary}/1"), &format!("{primary}/2"), false);
    let why = must_name(&pair);
    assert!(why.contains("/2 holds 1 keys"), "{why}");
    assert_eq!(pair.primary.words("GET theirs"), "1".into());
    // An empty one is filled.
    restart_with(&mut pair, &format!("{primary}/2"), &format!("{primary}/3"), false);
    poll_until(REPAIRED, "it is filled", || pair.primary.info("keyspace", "db3").is_some());
    assert_eq!(pair.primary.words("GET theirs"), "1".into());
}

#[test]
fn a_store_that_was_left_is_not_repaired_under_another_url_either() {
    let mut pair = with_data(Stage::DualPrimaryDefault);
    pair.stage(Stage::PrimaryOnly);
    put_under_the_url(&mut pair, StoreId::Secondary, somebodys(), false);
    must_name(&pair);
    let (code, text) = multistore(&pair, &["status"]);
    assert!(text.contains("another server than before") && text.contains("repair --from"), "{code:?} {text}");
    let flag = format!("use_primary_and_secondary_stores_for_{INSTANCE}");
    let (code, text) = multistore(&pair, &["feature", "set", &flag, "true"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("another server than before"), "{text}");
    pair.stage(Stage::DualPrimaryDefault);
    assert_eq!(pair.client().words("SET new 1"), Value::ok());
    assert_eq!(pair.secondary.words("DBSIZE"), 7.into());
    let (code, text) = code_and_text(&repair(&pair, &["--from", "primary"]));
    assert_eq!(code, Some(0), "{text}");
    pair.assert_both("DBSIZE", 51);
}

#[test]
fn a_store_in_use_alone_is_what_its_url_says() {
    let mut pair = with_data(Stage::DualPrimaryDefault);
    pair.stage(Stage::PrimaryOnly);
    put_under_the_url(&mut pair, StoreId::Primary, somebodys(), false);
    assert_eq!(pair.client().words("GET theirs:3"), "3".into());
    // But the other one is not made equal to it without a question.
    must_name(&pair);
    pair.proxy.write_stage_of(INSTANCE, Stage::DualPrimaryDefault);
    let held = pair.held_flip();
    assert!(held.contains("multistore repair"), "{held}");
    assert_eq!(pair.secondary.words("DBSIZE"), 50.into());
}
