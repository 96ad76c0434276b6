//! A default store that came back as another server: only an operator can say which store is right.

use std::process::{Command, Output};

use super::*;

/// `multistore repair` with these arguments, for this proxy.
pub(super) fn repair(pair: &Pair, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_multistore"))
        .arg("repair")
        .args(args)
        .arg("--config")
        .arg(pair.proxy.config_path())
        .output()
        .expect("run multistore repair")
}

pub(super) fn code_and_text(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), text.concat())
}

/// Dual, with data on both stores; then the default store comes back empty.
fn after_a_loss(stage: Stage) -> Pair {
    let mut pair = Pair::eager(stage);
    let mut client = pair.client();
    for n in 0..50 {
        client.words(&format!("SET key:{n} {n}"));
    }
    client.words("SET count 10");
    pair.assert_converges();
    let default = stage.default_store();
    pair.server_mut(default).restart(Data::Lost);
    poll_until(REPAIRED, "the loss is noticed", || pair.sync()["operator_must_name_source"].is_string());
    pair.wait_up(default, true);
    wait_in_doubt(&pair, default, true);
    pair
}

/// Waits until the metric says whether a store may have lost writes.
fn wait_in_doubt(pair: &Pair, store: StoreId, doubted: bool) {
    let labels = [("instance_name", INSTANCE), ("store", store.name())];
    poll_until(SOON, "the metric says so", || {
        pair.proxy.metric("multistore_source_in_doubt", &labels) == f64::from(u8::from(doubted))
    });
}

#[test]
fn nothing_is_deleted_on_the_word_of_a_store_that_may_have_lost_it() {
    for stage in DUAL {
        let pair = after_a_loss(stage);
        let why = pair.sync()["operator_must_name_source"].to_string();
        assert!(why.contains(stage.default_store().name()) && why.contains("multistore repair"), "{why}");
        pair.proxy.wait_for_log("came back as another server");
        let other = pair.other_store(stage);
        assert_eq!(other.words("DBSIZE"), 51.into(), "{stage}");
        // What clients write goes to both, and is no reason to delete anything else.
        let mut client = pair.client();
        assert_eq!(client.words("SET new 1"), Value::ok());
        assert_eq!(
            client.words("DEL key:0"),
            client.words("EXISTS nowhere"),
            "{stage}: the default's answer"
        );
        assert_eq!(client.words("GET count"), Value::Nil, "{stage}: the default's answer");
        assert_eq!(client.words("GET key:7"), Value::Nil, "{stage}: the default's answer");
        assert_eq!(client.words("GET new"), "1".into(), "{stage}");
        poll_until(SOON, "new is on both", || other.words("GET new") == "1".into());
        poll_until(SOON, "nothing more comes", || pair.sync()["copies_under_way"] == 0);
        assert_eq!(other.words("GET key:7"), "7".into(), "{stage}");
        assert_eq!(other.words("GET count"), "10".into(), "{stage}");
    }
}

#[test]
fn the_operator_names_the_other_store_and_everything_is_back() {
    for stage in DUAL {
        let pair = after_a_loss(stage);
        let other = stage.default_store().other();
        let output = repair(&pair, &["--from", other.name()]);
        let (code, text) = code_and_text(&output);
        assert_eq!(code, Some(0), "{stage}: {text}");
        assert!(text.contains(INSTANCE) && text.contains(&format!("from the {other} store")), "{text}");
        assert!(pair.sync()["operator_must_name_source"].is_null());
        wait_in_doubt(&pair, stage.default_store(), false);
        // At once, not only when it is done: the default store is known to be behind.
        let mut client = pair.client();
        assert_eq!(client.words("GET key:7"), "7".into(), "{stage}");
        assert_eq!(client.words("INCR count"), 11.into(), "{stage}");
        pair.assert_both("DBSIZE", 51);
        pair.assert_both("GET count", "11");
        assert_eq!(pair.sync()["untouched_keys"], "in_sync", "{stage}");
    }
}

#[test]
fn the_operator_names_the_store_that_lost_and_the_rest_goes() {
    for stage in DUAL {
        let pair = after_a_loss(stage);
        pair.client().words("SET new 1");
        let default = stage.default_store();
        let output = repair(&pair, &["--from", default.name(), "--instance", INSTANCE]);
        let (code, text) = code_and_text(&output);
        assert_eq!(code, Some(0), "{stage}: {text}");
        assert!(pair.sync()["operator_must_name_source"].is_null());
        pair.assert_both("DBSIZE", 1);
    }
}

#[test]
fn the_doubt_survives_the_proxy() {
    let mut pair = after_a_loss(Stage::DualSecondaryDefault);
    for crash in [false, true] {
        if crash {
            pair.proxy.kill();
        } else {
            pair.proxy.terminate();
        }
        pair.proxy.start_again();
        assert!(pair.sync()["operator_must_name_source"].is_string(), "crash: {crash}");
        pair.wait_up(StoreId::Primary, true);
        // A flip would make the store that may be all that is left a copy of the other one, or hide it.
        pair.proxy.write_stage_of(INSTANCE, Stage::DualPrimaryDefault);
        let held = pair.held_flip();
        assert!(held.contains("multistore repair"), "{held}");
        pair.proxy.write_stage_of(INSTANCE, Stage::DualSecondaryDefault);
        poll_until(SOON, "no flip is held", || pair.status()["held_flip"].is_null());
        assert_eq!(pair.primary.words("DBSIZE"), 51.into(), "crash: {crash}");
    }
    assert_eq!(repair(&pair, &["--from", "primary"]).status.code(), Some(0));
    pair.assert_both("DBSIZE", 51);
}

/// The store that is in use alone comes back empty: the other one may hold the last copy.
#[test]
fn the_last_copy_is_not_made_equal_to_a_store_that_was_lost_in_use_alone() {
    for right in StoreId::ALL {
        let mut pair = Pair::eager(Stage::DualPrimaryDefault);
        let mut client = pair.client();
        (0..50).for_each(|n| drop(client.words(&format!("SET key:{n} {n}"))));
        pair.assert_converges();
        pair.stage(Stage::PrimaryOnly);
        pair.server_mut(StoreId::Primary).restart(Data::Lost);
        poll_until(REPAIRED, "it is noticed", || pair.sync()["operator_must_name_source"].is_string());
        pair.wait_up(StoreId::Primary, true);
        client = pair.client();
        client.words("SET new 1");
        let reasons = pair.status()["verdict"]["back"].to_string();
        assert!(reasons.contains("source_in_doubt"), "{reasons}");
        pair.proxy.write_stage_of(INSTANCE, Stage::DualPrimaryDefault);
        let held = pair.held_flip();
        assert!(held.contains("multistore repair"), "{held}");
        assert_eq!(pair.secondary.words("DBSIZE"), 50.into());
        let (code, text) = code_and_text(&repair(&pair, &["--from", right.name()]));
        assert_eq!(code, Some(0), "{text}");
        pair.proxy.wait_for_stage(INSTANCE, Stage::DualPrimaryDefault);
        let left = if right == StoreId::Secondary { 50 } else { 1 };
        pair.assert_both("DBSIZE", left);
    }
}

#[test]
fn a_repair_that_has_to_wait_for_a_store_says_so() {
    let mut pair = Pair::start_with(DUAL[0], &[]);
    pair.secondary.words("SET key value");
    pair.server_mut(StoreId::Primary).kill();
    pair.wait_up(StoreId::Primary, false);
    let (code, text) = code_and_text(&repair(&pair, &["--from", "secondary"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("down: it begins when both stores answer"), "{text}");
    pair.server_mut(StoreId::Primary).restart(Data::Lost);
    pair.assert_both("GET key", "value");
}

#[test]
fn an_ordered_repair_survives_the_proxy() {
    // The default store is the one behind: a restart must not take it for the one that is right.
    let mut pair = after_a_loss(Stage::DualPrimaryDefault);
    pair.primary.words("CONFIG SET maxmemory 1");
    assert_eq!(repair(&pair, &["--from", "secondary"]).status.code(), Some(0));
    pair.proxy.kill();
    pair.primary.words("CONFIG SET maxmemory 0");
    pair.proxy.start_again();
    assert_eq!(pair.client().words("GET key:7"), "7".into());
    pair.assert_both("DBSIZE", 51);
}

#[test]
fn an_order_that_cannot_be_carried_out_says_why() {
    let pair = Pair::eager(Stage::SecondaryOnly);
    let (code, text) = code_and_text(&repair(&pair, &["--from", "primary"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("secondary_only"), "{text}");
    let (code, text) = code_and_text(&repair(&pair, &["--from", "primary", "--instance", "nobody"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(INSTANCE), "{text}");
    let (code, text) = code_and_text(&repair(&pair, &["--from", "both"]));
    assert_eq!(code, Some(2), "{text}");
    let nobody = format!("127.0.0.1:{}", free_port());
    let (code, text) = code_and_text(&repair(&pair, &["--from", "primary", "--admin", &nobody]));
    assert_eq!(code, Some(1), "{text}");

    let pair = Pair::start_with(Stage::DualSecondaryDefault, &["hydrate = false"]);
    let (code, text) = code_and_text(&repair(&pair, &["--from", "secondary"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("hydrate"), "{text}");
}

#[test]
fn of_several_instances_one_must_be_named() {
    let stores = [RedisServer::start(), RedisServer::start()];
    let [primary, secondary] = stores.each_ref().map(RedisServer::url);
    let stage = Stage::DualSecondaryDefault;
    let config = ProxyConfig::new("one", &format!("{primary}/1"), &format!("{secondary}/1")).stage(stage);
    let config = config.instance("two", &format!("{primary}/2"), &format!("{secondary}/2")).stage(stage);
    let [primary, secondary] = stores;
    let pair = Pair { proxy: Proxy::start(config), primary, secondary };
    let (code, text) = code_and_text(&repair(&pair, &["--from", "primary"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("one, two"), "{text}");
    for line in ["SELECT 1", "SET stale 1", "SELECT 2", "SET stale 2"] {
        pair.primary.words(line);
    }
    assert_eq!(repair(&pair, &["--from", "secondary", "--instance", "two"]).status.code(), Some(0));
    poll_until(REPAIRED, "two is repaired", || pair.primary.words("EXISTS stale") == 0.into());
    pair.primary.words("SELECT 1");
    assert_eq!(pair.primary.words("GET stale"), "1".into(), "one is not");
}

/// Makes `server` a copy of `of`, and its own master again: the same process, with other data.
fn replace_data(server: &RedisServer, of: &RedisServer) {
    server.words(&format!("REPLICAOF 127.0.0.1 {}", of.port()));
    poll_until(REPAIRED, "it is synced", || {
        server.info("replication", "master_link_status").as_deref() == Some("up")
            && server.info("replication", "master_sync_in_progress").as_deref() == Some("0")
    });
    server.words("REPLICAOF NO ONE");
    server.words("CLIENT KILL TYPE normal SKIPME yes");
}

#[test]
fn a_store_that_was_made_a_copy_of_another_server_is_not_the_one_that_it_was() {
    for stage in DUAL {
        let foreign = RedisServer::start();
        foreign.words("SET foreign 1");
        let pair = Pair::eager(stage);
        let mut client = pair.client();
        (0..50).for_each(|n| drop(client.words(&format!("SET key:{n} {n}"))));
        pair.assert_converges();
        if stage == Stage::DualSecondaryDefault {
            // Of the other store it is made good without a question. (What only a cold primary's has may count.)
            replace_data(pair.other_store(stage), &foreign);
            pair.proxy.wait_for_log("was made a copy of another server (REPLICAOF)");
            pair.assert_both("DBSIZE", 50);
        }
        replace_data(pair.default_store(stage), &foreign);
        poll_until(REPAIRED, "it is noticed", || pair.sync()["operator_must_name_source"].is_string());
        let why = pair.sync()["operator_must_name_source"].to_string();
        assert!(why.contains("was made a copy of another server"), "{why}");
        let verdict = pair.status()["verdict"].to_string();
        assert!(verdict.contains("source_in_doubt") && verdict.contains("made a copy"), "{verdict}");
        pair.wait_up(stage.default_store(), true);
        assert_eq!(pair.other_store(stage).words("DBSIZE"), 50.into());
        let other = stage.default_store().other();
        assert_eq!(repair(&pair, &["--from", other.name()]).status.code(), Some(0));
        pair.assert_both("DBSIZE", 50);
    }
}

#[test]
fn what_is_known_of_a_default_store_that_comes_back_is_said() {
    for (data, told) in [(Data::Kept, "goes on with its data"), (Data::Lost, "it had 1 keys, and has 0")] {
        let mut pair = Pair::eager(DUAL[0]);
        // Only who is followed keeps a history.
        let follower = RedisServer::start();
        assert_eq!(pair.client().words("SET key value"), Value::ok());
        follower.words(&format!("REPLICAOF 127.0.0.1 {}", pair.secondary.port()));
        poll_until(REPAIRED, "it is followed", || follower.words("GET key") == "value".into());
        pair.secondary.words("CLIENT KILL TYPE normal SKIPME yes");
        poll_until(SOON, "both are up again", || pair.client().words("SET key value") == Value::ok());
        pair.assert_converges();
        pair.secondary.restart(data);
        poll_until(REPAIRED, "it is noticed", || pair.sync()["operator_must_name_source"].is_string());
        let why = pair.sync()["operator_must_name_source"].to_string();
        assert!(why.contains(told), "{data:?}: {why}");
    }
}
