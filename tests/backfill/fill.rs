//! The whole keyspace comes over.

use super::data::{load, load_large};
use super::*;

fn dual(settings: &[&str]) -> Pair {
    Pair::start_with(Stage::DualSecondaryDefault, &[&[CALM], settings].concat())
}

#[test]
fn everything_comes_over_and_counts_as_in_sync() {
    let pair = dual(&[]);
    load(&mut pair.secondary.client(), 3000);
    load_large(&mut pair.secondary.client(), 1000);
    pair.secondary.words("FUNCTION LOAD #!lua\u{20}name=lib");
    assert_eq!(status(&pair)["sync"]["untouched_keys"], "unknown");
    let text = run(&pair, &["backfill", "start", "--wait"], 0);
    assert!(text.contains("done"), "{text}");
    assert_eq!(status(&pair)["sync"]["untouched_keys"], "in_sync");
    pair.assert_equal_stores();
    assert_eq!(pair.primary.words("DBSIZE"), pair.secondary.words("DBSIZE"));
    let text = run(&pair, &["backfill", "status"], 0);
    assert!(text.contains("done"), "{text}");
}

#[test]
fn the_setting_starts_it_and_it_waits_for_dual() {
    let mut pair = Pair::start_with(Stage::SecondaryOnly, &[CALM, "backfill = true"]);
    load(&mut pair.secondary.client(), 100);
    wait_for_backfill(&pair, "waiting");
    pair.stage(Stage::DualSecondaryDefault);
    wait_for_backfill(&pair, "done");
    pair.assert_equal_stores();
}

#[test]
fn from_a_new_default_store_both_ways() {
    // The primary answers, and each store has keys of its own.
    let pair = Pair::start_with(Stage::DualPrimaryDefault, &[CALM]);
    load(&mut pair.secondary.client(), 500);
    for n in 0..100 {
        pair.primary.words(&format!("SET new:{n} {n}"));
    }
    pair.primary.words("SET old:0 newer");
    run(&pair, &["backfill", "start", "--wait"], 0);
    pair.assert_equal_stores();
    assert_eq!(pair.secondary.words("GET old:0"), "newer".into(), "the default store is right");
    assert_eq!(pair.primary.words("GET old:1"), "value 1".into());
    assert_eq!(pair.secondary.words("GET new:7"), "7".into());
}

#[test]
fn nothing_newer_is_overwritten() {
    let pair = dual(&["background_keys = 4000"]);
    load(&mut pair.secondary.client(), 4000);
    let mut client = pair.client();
    run(&pair, &["backfill", "start"], 0);
    for round in 0..20 {
        for n in (0..4000).step_by(97) {
            client.send(&["APPEND", &format!("old:{}", n / 8 * 8), &format!(" {round}")]);
        }
        for reply in client.read_replies(4000_usize.div_ceil(97)) {
            assert!(!reply.is_error(), "{reply:?}");
        }
    }
    wait_for_backfill(&pair, "done");
    pair.assert_equal_stores();
}

#[test]
fn a_pause_and_a_restart_do_not_begin_anew() {
    let mut pair = dual(&["background_keys = 1000"]);
    load(&mut pair.secondary.client(), 4000);
    run(&pair, &["backfill", "start"], 0);
    poll_until(PATIENTLY, "some keys are passed", || {
        status(&pair)["backfill"]["keys_seen"].as_u64().is_some_and(|seen| seen >= 1000)
    });
    run(&pair, &["backfill", "pause"], 0);
    wait_for_backfill(&pair, "paused");
    let seen = status(&pair)["backfill"]["keys_seen"].as_u64().expect("a number");
    assert!((1000..4000).contains(&seen), "{seen}");
    poll_until(SOON, "the copies are done", || status(&pair)["sync"]["copies_under_way"] == 0);
    assert_eq!(pair.proxy.terminate(), Some(0));
    pair.proxy.start_again();
    wait_for_backfill(&pair, "paused");
    run(&pair, &["backfill", "resume", "--wait"], 0);
    let log = pair.proxy.log();
    assert!(log.contains(&format!("seen={seen}")), "it began anew: {log}");
    pair.assert_equal_stores();
}

#[test]
fn a_store_that_goes_away_is_waited_for() {
    let mut pair = Pair::start_with(
        Stage::DualSecondaryDefault,
        &[CALM, r#"reconnect_max = "50ms""#, "background_keys = 2000"],
    );
    load(&mut pair.secondary.client(), 3000);
    run(&pair, &["backfill", "start"], 0);
    poll_until(PATIENTLY, "some keys are passed", || {
        status(&pair)["backfill"]["keys_seen"].as_u64().is_some_and(|seen| seen >= 500)
    });
    // It comes back as another server, with nothing: what was copied has to be copied again.
    pair.primary.restart(Data::Lost);
    poll_until(PATIENTLY, "everything is in sync", || {
        let status = status(&pair);
        status["sync"]["untouched_keys"] == "in_sync" && status["sync"]["suspects"] == 0
    });
    wait_for_backfill(&pair, "done");
    pair.assert_equal_stores();
}

#[test]
fn an_order_that_cannot_be_carried_out_says_why() {
    let pair = Pair::start_with(Stage::DualSecondaryDefault, &["hydrate = false"]);
    let text = run(&pair, &["backfill", "start"], 1);
    assert!(text.contains("hydrate"), "{text}");
    let text = run(&pair, &["backfill", "start", "--instance", "nobody"], 2);
    assert!(text.contains(INSTANCE), "{text}");
}
