//! The state file: what a start knows of the last process.

use std::path::PathBuf;

use super::*;

fn state_file(pair: &Pair) -> PathBuf {
    pair.proxy.config_path().with_extension("state")
}

#[test]
fn after_a_crash_the_other_store_is_repaired_as_a_whole() {
    for stage in DUAL {
        let mut pair = Pair::eager(stage);
        let mut client = pair.client();
        for line in ["SET count 1", "SET deleted 1", "SET kept 1", "SELECT 2", "SET two 1"] {
            client.words(line);
        }
        pair.assert_converges();
        pair.proxy.kill();
        // What the process had sent to the default store and not to the other one.
        let default = pair.default_store(stage);
        for line in ["INCR count", "DEL deleted", "SET added 1"] {
            default.words(line);
        }
        pair.proxy.start_again();
        pair.proxy.wait_for_log("this store may be behind");
        let mut client = pair.client();
        assert_eq!(client.words("GET deleted"), Value::Nil, "{stage}");
        assert_eq!(client.words("GET added"), "1".into(), "{stage}");
        assert_eq!(client.words("INCR count"), 3.into(), "{stage}");
        pair.assert_both("GET count", "3");
        assert_eq!(pair.sync()["untouched_keys"], "in_sync", "{stage}");
    }
}

#[test]
fn a_clean_stop_leaves_nothing_in_doubt() {
    for stage in DUAL {
        let mut pair = Pair::eager(stage);
        pair.client().words("FLUSHALL");
        pair.client().words("SET key 1");
        pair.assert_converges();
        assert_eq!(pair.sync()["untouched_keys"], "in_sync", "{stage}");
        assert_eq!(pair.proxy.terminate(), Some(0));
        pair.proxy.start_again();
        assert_eq!(pair.sync()["untouched_keys"], "in_sync", "{stage}");
        assert!(!pair.proxy.log().contains("may be behind"), "{stage}");
        assert_eq!(pair.client().words("INCR key"), 2.into());
        pair.assert_both("GET key", "2");
    }
}

#[test]
fn a_stop_with_suspects_is_not_clean() {
    let mut pair = Pair::eager(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.words("SET count 1");
    pair.assert_converges();
    pair.primary.words("CONFIG SET maxmemory 1");
    client.words("INCR count");
    pair.wait_suspects(1);
    drop(client);
    pair.proxy.terminate();
    pair.primary.words("CONFIG SET maxmemory 0");
    pair.proxy.start_again();
    assert_eq!(pair.client().words("GET count"), "2".into());
    pair.assert_both("GET count", "2");
}

#[test]
fn a_store_that_was_left_is_remembered_over_restarts() {
    let mut pair = Pair::eager(Stage::DualSecondaryDefault);
    pair.client().words("SET deleted 1");
    pair.assert_converges();
    pair.stage(Stage::SecondaryOnly);
    pair.client().words("DEL deleted");
    for crash in [false, true] {
        if crash {
            pair.proxy.kill();
        } else {
            assert_eq!(pair.proxy.terminate(), Some(0));
        }
        pair.proxy.start_again();
        assert_eq!(pair.sync()["untouched_keys"], "suspect_on_primary", "crash: {crash}");
    }
    pair.stage(Stage::DualSecondaryDefault);
    assert_eq!(pair.client().words("GET deleted"), Value::Nil);
    pair.assert_both("EXISTS deleted", 0);
}

#[test]
fn a_damaged_state_file_is_not_ignored() {
    let mut pair = Pair::eager(Stage::DualSecondaryDefault);
    assert_eq!(pair.proxy.terminate(), Some(0));
    let path = state_file(&pair);
    let whole = std::fs::read(&path).expect("a state file");
    let newer = String::from_utf8_lossy(&whole).replace("\"version\": 1", "\"version\": 99");
    for damaged in [&whole[..whole.len() / 2], b"", b"[]", newer.as_bytes()] {
        std::fs::write(&path, damaged).expect("damage it");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_multistore"))
            .args(["run", "--config"])
            .arg(pair.proxy.config_path())
            .output()
            .expect("run it");
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            errors.contains("cannot read the state file") && errors.contains("which store is behind"),
            "{errors}"
        );
        assert_eq!(std::fs::read(&path).expect("it is left alone"), damaged);
    }
    std::fs::write(&path, &whole).expect("mend it");
    pair.proxy.start_again();
    assert_eq!(pair.client().words("PING"), Value::simple("PONG"));
}

#[test]
fn the_ghost_of_a_dead_process_writes_nothing() {
    for stage in DUAL {
        let mut pair = Pair::eager_with(stage, &[r#"connect_timeout = "200ms""#]);
        let other = stage.default_store().other();
        let mut client = pair.client();
        client.words("SET key 0");
        pair.assert_converges();
        pair.server(other).stop_signal();
        for n in 1..50 {
            assert_eq!(client.words(&format!("SET key {n}")), Value::ok());
        }
        // Its bytes lie in the silent store's socket; what comes now must not be undone by them.
        pair.proxy.kill();
        pair.proxy.start_again();
        let mut client = pair.client();
        assert_eq!(client.words("SET key last"), Value::ok(), "{stage}");
        pair.server(other).cont();
        assert_eq!(client.words("GET key"), "last".into(), "{stage}");
        pair.wait_up(other, true);
        pair.assert_both("GET key", "last");
    }
}
