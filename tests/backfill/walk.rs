//! The whole rollout by one command, and back by another, under load.

use super::data::load;
use super::workload::Workload;
use super::*;

/// Keys in CI; `BACKFILL_KEYS` names another number.
const KEYS: usize = 20_000;

fn keys() -> usize {
    std::env::var("BACKFILL_KEYS").ok().and_then(|number| number.parse().ok()).unwrap_or(KEYS)
}

#[test]
fn to_the_end_and_back_unattended() {
    let keys = keys();
    let pair = Pair::start_with(Stage::SecondaryOnly, &[CALM, r#"reply_timeout = "30s""#]);
    load(&mut pair.secondary.client(), keys);
    let port = pair.proxy.port();
    let workload = Workload::start(4, keys, move || Client::connect(port).with_patience(PATIENTLY));
    let began = std::time::Instant::now();
    let text = run(&pair, &["rollout", "--to", "primary_only"], 0);
    println!("{text}to primary_only: {:.1} s with {keys} keys", began.elapsed().as_secs_f64());
    assert_eq!(status(&pair)["stage"], "primary_only");
    assert_eq!(text.matches("the same in both stores").count(), 2, "{text}");
    let began = std::time::Instant::now();
    let text = run(&pair, &["rollout", "--to", "secondary_only"], 0);
    println!("{text}back to secondary_only: {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(status(&pair)["stage"], "secondary_only");
    let requests = workload.finish();
    println!("{requests} requests, none answered wrong");
    // Only the flags were edited.
    let file = pair.proxy.config_text();
    assert!(file.contains(&format!("use_primary_and_secondary_stores_for_{INSTANCE} = false")), "{file}");
    assert!(!file.contains("allow_stage_jump"), "{file}");
    assert_eq!(pair.counter("gitlab_redis_multi_store_pipelined_diff_error_total"), 0.0);
}

#[test]
fn both_stores_are_equal_before_one_is_left() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &[CALM]);
    load(&mut pair.secondary.client(), 500);
    run(&pair, &["rollout", "--to", "dual_primary_default"], 0);
    pair.assert_equal_stores();
    assert_eq!(status(&pair)["stage"], "dual_primary_default");
    // Once more is nothing.
    run(&pair, &["rollout", "--to", "dual_primary_default"], 0);
}

#[test]
fn it_stops_where_the_stores_differ_and_says_so() {
    let pair = Pair::start_with(Stage::DualSecondaryDefault, &[CALM]);
    load(&mut pair.secondary.client(), 100);
    run(&pair, &["backfill", "start", "--wait"], 0);
    pair.primary.words("SET surplus 1");
    let text = run(&pair, &["rollout", "--to", "primary_only"], 4);
    assert!(text.contains("surplus") && text.contains("stores differ"), "{text}");
    assert_eq!(status(&pair)["stage"], "dual_secondary_default");
    run(&pair, &["rollout", "--to", "primary_only", "--repair"], 0);
    assert_eq!(pair.primary.words("EXISTS surplus"), 0.into());
}

#[test]
fn it_stops_where_a_command_was_missing() {
    let pair = Pair::start_with(Stage::DualSecondaryDefault, &[CALM]);
    let mut client = pair.client();
    assert!(client.words("NOSUCHTHING x").is_error());
    let text = run(&pair, &["rollout", "--to", "dual_primary_default"], 3);
    assert!(text.contains("nosuchthing"), "{text}");
    assert_eq!(status(&pair)["stage"], "dual_secondary_default");
    assert_eq!(pair.proxy.metric("multistore_verdict_safe", &[("direction", "forward")]), 0.0);
    assert_eq!(pair.proxy.metric("multistore_verdict_safe", &[("direction", "back")]), 1.0);
}

#[test]
fn a_proxy_that_is_not_there_is_said() {
    let mut pair = Pair::start();
    pair.proxy.kill();
    let flag = format!("use_primary_and_secondary_stores_for_{INSTANCE}");
    let text = run(&pair, &["feature", "set", &flag, "true"], 0);
    assert!(text.contains("was not checked"), "{text}");
    run(&pair, &["status"], 1);
    run(&pair, &["rollout", "--to", "dual_secondary_default"], 1);
}

#[test]
fn what_the_file_asks_for_and_what_is_in_effect_are_both_told() {
    let pair = Pair::start_with(Stage::DualSecondaryDefault, &[CALM]);
    run(&pair, &["backfill", "start", "--wait"], 0);
    verified(&pair, &[], 0);
    let text = run(&pair, &["status"], 0);
    assert!(!text.contains("the file asks"), "{text}");
    let broken = pair.proxy.config_text().replace("[admin]", "[admin]\nunknown = 1");
    let json: Json = serde_json::from_str(&run(&pair, &["status", "--json"], 0)).expect("JSON");
    assert_eq!(json["instances"][0]["verdict"]["forward"]["safe"], true);
    pair.proxy.write_config(&broken);
    run(&pair, &["status"], 0);
}
