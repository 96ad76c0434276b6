//! What differs is found, and nothing else.

use super::data::{load, load_large};
use super::workload::Workload;
use super::*;

/// Dual, with everything in sync.
fn filled(keys: usize, settings: &[&str]) -> Pair {
    let pair =
        Pair::start_with(Stage::DualSecondaryDefault, &[&[CALM, "log_values = true"], settings].concat());
    load(&mut pair.secondary.client(), keys);
    run(&pair, &["backfill", "start", "--wait"], 0);
    pair
}

fn differences(report: &Json) -> Vec<(String, String)> {
    let listed = report["differences"].as_array().expect("a list");
    let word = |one: &Json, name: &str| one[name].as_str().expect("a word").to_owned();
    let mut found: Vec<_> = listed.iter().map(|one| (word(one, "key"), word(one, "why"))).collect();
    found.sort();
    found
}

#[test]
fn equal_stores_are_equal() {
    let pair = filled(2000, &[]);
    load_large(&mut pair.client(), 1000);
    let report = verified(&pair, &[], 0);
    assert_eq!(report["equal"], true);
    assert_eq!(report["complete"], true);
    assert_eq!(report["functions_equal"], true);
    assert_eq!(report["databases"], serde_json::json!([0, 3]));
    let compared = report["keys_compared"].as_u64().expect("a number");
    assert!(compared >= 2006, "{report:#}");
    assert!(report["compared_by_type"].as_u64() >= Some(2), "large sets dump differently: {report:#}");
    let text = run(&pair, &["verify"], 0);
    assert!(text.contains("the same in both stores"), "{text}");
    let last = &status(&pair)["verification"]["last_complete"];
    assert_eq!(last["equal"], true, "{last:#}");
}

#[test]
fn who_forces_a_step_is_told_what_stands_against_it() {
    let pair = Pair::start_with(Stage::DualSecondaryDefault, &[CALM]);
    let flag = format!("use_primary_store_as_default_for_{INSTANCE}");
    let text = run(&pair, &["feature", "set", &flag, "true"], 3);
    let against = text.lines().nth(1).expect("a reason").to_owned();
    let text = run(&pair, &["feature", "set", &flag, "true", "--force"], 0);
    assert!(
        text.contains("forced: dual_primary_default is not safe now") && text.contains(&against),
        "{text}"
    );
}

#[test]
fn every_kind_of_difference_is_told() {
    let pair = filled(100, &[]);
    for (line, _) in DIFFERENCES {
        pair.primary.words(line);
    }
    pair.secondary.words("SELECT 3");
    pair.secondary.words("SET only:secondary 1");
    pair.secondary.words("SELECT 0");
    let report = verified(&pair, &[], 4);
    assert_eq!(report["equal"], false);
    let mut expected: Vec<(String, String)> = DIFFERENCES
        .iter()
        .map(|(line, why)| (line.split(' ').nth(1).expect("a key").to_owned(), (*why).to_owned()))
        .collect();
    expected.push(("only:secondary".to_owned(), "missing_on_primary".to_owned()));
    expected.sort();
    assert_eq!(differences(&report), expected, "{report:#}");
    let text = run(&pair, &["verify"], 4);
    assert!(text.contains("DIFFER") && text.contains("old:3"), "{text}");
    // The verdict takes it into account, and the flag is refused.
    let text = run(&pair, &["status"], 3);
    assert!(text.contains("found differences"), "{text}");
    let flag = format!("use_primary_store_as_default_for_{INSTANCE}");
    let text = run(&pair, &["feature", "set", &flag, "true"], 3);
    assert!(text.contains("not safe"), "{text}");
    // What is handed to repair is equal afterwards.
    let report = verified(&pair, &["--repair"], 0);
    assert_eq!(report["repaired"], expected.len(), "{report:#}");
    pair.assert_equal_stores();
    verified(&pair, &[], 0);
    let text = run(&pair, &["status"], 0);
    assert!(text.contains("dual_primary_default: safe"), "{text}");
    run(&pair, &["feature", "set", &flag, "true"], 0);
}

/// What is done to the primary alone, and how that is called.
const DIFFERENCES: [(&str, &str); 9] = [
    ("SET old:0 other", "value"),
    ("DEL old:1", "missing_on_primary"),
    ("PERSIST old:2", "expiry"),
    ("HSET old:3 a other", "value"),
    ("LSET old:4 0 other", "value"),
    ("SREM old:5 member", "value"),
    ("ZADD old:6 7 a", "value"),
    ("XACK old:7 readers 5-1", "value"),
    ("SET only:primary 1", "missing_on_secondary"),
];

#[test]
fn a_type_is_a_difference() {
    let pair = filled(16, &[]);
    pair.primary.words("DEL old:8");
    pair.primary.words("RPUSH old:8 1");
    let report = verified(&pair, &[], 4);
    assert_eq!(differences(&report), [("old:8".to_owned(), "type".to_owned())]);
}

#[test]
fn large_values_are_compared_by_pieces() {
    let pair = filled(8, &[]);
    load_large(&mut pair.client(), 20_000);
    pair.assert_equal_stores();
    let report = verified(&pair, &[], 0);
    assert!(report["compared_by_pieces"].as_u64() >= Some(4), "{report:#}");
    for line in [
        "LSET large:list 15000 other",
        "SREM large:set element\\ 3",
        "HSET large:hash new value",
        "ZADD large:zset 5 new",
        "XDEL large:stream 777-1",
        "SETRANGE large:string 500000 x",
    ] {
        let words: Vec<String> = line.split(' ').map(|word| word.replace('\\', "")).collect();
        pair.primary.call(&words);
    }
    pair.primary.call(&["SREM", "large:set", "element 3"]);
    let report = verified(&pair, &[], 4);
    let keys: Vec<String> = differences(&report).into_iter().map(|(key, _)| key).collect();
    let all = ["hash", "list", "set", "stream", "string", "zset"].map(|kind| format!("large:{kind}"));
    assert_eq!(keys, all, "{report:#}");
}

#[test]
fn a_function_is_compared() {
    let pair = filled(8, &[]);
    let code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    assert!(!pair.primary.call(&["FUNCTION", "LOAD", code]).is_error());
    let report = verified(&pair, &[], 4);
    assert_eq!(report["functions_equal"], false);
    assert_eq!(report["differing"], 0);
}

#[test]
fn it_is_exact_while_clients_write() {
    let pair = filled(1000, &[]);
    let port = pair.proxy.port();
    let workload = Workload::start(4, 1000, move || Client::connect(port));
    for _ in 0..5 {
        let report = verified(&pair, &[], 0);
        assert_eq!(report["differing"], 0, "{report:#}");
    }
    pair.primary.words("SET old:2 wrong EX 100000");
    let report = verified(&pair, &[], 4);
    assert_eq!(differences(&report), [("old:2".to_owned(), "value".to_owned())]);
    assert!(workload.finish() > 0);
}

#[test]
fn a_sample_is_a_part_and_proves_nothing() {
    let pair = filled(4000, &[]);
    let report = verified(&pair, &["--sample", "10%"], 0);
    let compared = report["keys_compared"].as_u64().expect("a number");
    assert!((100..1200).contains(&compared), "{report:#}");
    assert_eq!(report["complete"], false);
    assert!(status(&pair)["verification"]["last_complete"].is_null());
    run(&pair, &["verify", "--sample", "nothing"], 2);
}

#[test]
fn what_is_being_compared_must_be_in_use() {
    let pair = Pair::start();
    let text = run(&pair, &["verify"], 1);
    assert!(text.contains("secondary_only"), "{text}");
    assert!(run(&pair, &["verify", "--last"], 1).contains("nothing has been verified"));
}
