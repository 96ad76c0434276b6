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
        // From here on nothing is cold: what one store lacks was deleted.
        client.words("FLUSHALL");
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
fn flags_that_were_set_while_nobody_was_there_leave_out_no_step() {
    for (before, after) in
        [(Stage::SecondaryOnly, Stage::PrimaryOnly), (Stage::PrimaryOnly, Stage::SecondaryOnly)]
    {
        let mut pair = Pair::eager(Stage::DualSecondaryDefault);
        pair.client().words("FLUSHALL");
        pair.client().words("SET key old");
        pair.assert_converges();
        if before == Stage::PrimaryOnly {
            pair.stage(Stage::DualPrimaryDefault);
        }
        pair.stage(before);
        pair.client().words("SET key new");
        pair.proxy.kill();
        pair.proxy.write_stage_of(INSTANCE, after);
        pair.proxy.start_again();
        // Whichever stage it is in by now: the store that was left had to take over first what it had missed.
        assert_eq!(pair.client().words("GET key"), "new".into(), "{before}");
        pair.proxy.wait_for_stage(INSTANCE, after);
        assert_eq!(pair.client().words("GET key"), "new".into(), "{after}");
    }
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

#[test]
fn a_crash_does_not_disown_what_only_the_secondary_has() {
    // The primary is the default and cold: what it lacks is looked up on the secondary. A crash must
    // not make that a reason to delete it there.
    let mut pair = Pair::eager(Stage::DualPrimaryDefault);
    for line in ["SET cold 41", "SET colder 1", "SET stale 1"] {
        pair.secondary.words(line);
    }
    let mut client = pair.client();
    assert_eq!(client.words("INCR stale"), 2.into());
    pair.wait_settled();
    pair.proxy.kill();
    // What the process had sent to the primary and not to the secondary.
    pair.primary.words("INCR stale");
    pair.proxy.start_again();
    let mut client = pair.client();
    assert_eq!(client.words("GET stale"), "3".into());
    assert_eq!(client.words("INCR cold"), 42.into());
    pair.wait_settled();
    assert_eq!(pair.secondary.words("GET stale"), "3".into(), "what the primary has is copied");
    assert_eq!(client.words("GET colder"), "1".into());
    pair.assert_converges();
    // The same where the secondary comes back as another server.
    pair.secondary.words("SET coldest 1");
    pair.secondary.restart(Data::Kept);
    assert_eq!(client.words("INCR stale"), 4.into());
    pair.wait_up(StoreId::Secondary, true);
    pair.wait_settled();
    assert_eq!(client.words("GET coldest"), "1".into());
    pair.assert_both("GET stale", "4");
}

#[test]
fn a_flip_that_is_held_is_not_on_record() {
    let mut pair = Pair::eager_with(Stage::DualSecondaryDefault, &[r#"connect_timeout = "200ms""#]);
    let mut client = pair.client();
    client.words("SET count 1");
    pair.assert_converges();
    pair.primary.save();
    pair.primary.kill();
    pair.wait_up(StoreId::Primary, false);
    pair.proxy.write_stage_of(INSTANCE, Stage::DualPrimaryDefault);
    pair.held_flip();
    assert_eq!(client.words("INCR count"), 2.into());
    pair.proxy.kill();
    // The primary is back before the proxy, and lacks a write: it must not be taken for the default.
    pair.primary.start_again(Data::Kept);
    pair.proxy.start_again();
    assert_eq!(pair.client().words("INCR count"), 3.into());
    pair.proxy.wait_for_stage(INSTANCE, Stage::DualPrimaryDefault);
    assert_eq!(pair.client().words("INCR count"), 4.into());
    pair.assert_both("GET count", "4");
}

#[test]
fn a_store_that_was_restarted_empty_while_the_proxy_was_stopped() {
    for stage in DUAL {
        let mut pair = Pair::eager(stage);
        let other = stage.default_store().other();
        pair.client().words("FLUSHALL");
        for line in ["SET count 5", "SET kept 1"] {
            pair.client().words(line);
        }
        pair.assert_converges();
        assert_eq!(pair.proxy.terminate(), Some(0));
        pair.server_mut(other).restart(Data::Lost);
        pair.proxy.start_again();
        pair.proxy.wait_for_log("came back as another server");
        assert_eq!(pair.client().words("INCR count"), 6.into(), "{stage}");
        pair.assert_both("MGET count kept", vec!["6".into(), "1".into()]);
    }
}

#[test]
fn a_default_store_that_was_restarted_empty_while_the_proxy_was_stopped() {
    for stage in DUAL {
        let mut pair = Pair::eager(stage);
        let default = stage.default_store();
        pair.client().words("FLUSHALL");
        pair.client().words("SET kept 1");
        pair.assert_converges();
        assert_eq!(pair.proxy.terminate(), Some(0));
        pair.server_mut(default).restart(Data::Lost);
        pair.proxy.start_again();
        pair.proxy.wait_for_log("it may have lost writes");
        assert_eq!(pair.other_store(stage).words("GET kept"), "1".into(), "nothing is deleted on its word");
        assert!(pair.status()["verdict"].to_string().contains("may have lost writes"), "{:#}", pair.status());
    }
}

#[test]
fn a_key_too_large_to_copy_that_a_change_of_stage_left_behind_is_remembered() {
    let mut pair = Pair::eager_with(Stage::DualSecondaryDefault, &[r#"copy_max_bytes = "2kb""#]);
    let mut client = pair.client();
    client.words("FLUSHALL");
    let big = "x".repeat(6_000);
    client.call(&["XADD", "stream", "1-1", "field", &big]);
    pair.assert_converges();
    pair.primary.words("CONFIG SET maxmemory 1");
    client.words("XADD stream 2-1 field more");
    poll_until(SOON, "the copy is given up", || pair.sync()["copies_too_large"].as_u64() > Some(0));
    pair.primary.words("CONFIG SET maxmemory 0");
    pair.stage(Stage::DualPrimaryDefault);
    assert_eq!(client.words("XLEN stream"), 2.into());
    pair.proxy.kill();
    pair.proxy.start_again();
    assert_eq!(pair.client().words("XLEN stream"), 2.into(), "the secondary is right about it");
    poll_until(SOON, "the rest is repaired", || pair.sync()["behind_as_a_whole"].is_null());
    assert_eq!(pair.secondary.words("XLEN stream"), 2.into(), "nor is it copied over what is right");
}

#[test]
fn what_a_cold_primary_removes_is_gone_from_the_secondary_before_anybody_is_told() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let pair = Pair::eager(Stage::DualPrimaryDefault);
    let mut client = pair.client();
    for line in [
        "DEL cold",
        "LPOP list",
        "BLPOP list 9",
        "BLMPOP 9 2 nothing list LEFT",
        "SPOP set",
        "EVAL return(redis.call('DEL',KEYS[1])) 1 list",
        "SINTERSTORE set nothing set",
        "PEXPIRE list 0",
        "EXPIREAT list 1",
        "PEXPIREAT list 1 XX",
        "SET string x PXAT 1",
        "GETEX string EXAT 1",
        "MULTI|PEXPIRE list 0|EXEC",
        "MULTI|EXPIREAT list 1|EXEC",
        "MULTI|FLUSHDB|EXEC",
        "MULTI|DEL colder|EXEC",
        "WATCH list|MULTI|DEL list|EXEC",
        "FLUSHDB",
        "MULTI|INCR number|FLUSHALL|EXEC",
    ] {
        client.words("DEL list set nothing");
        client.words("RPUSH list a");
        client.words("PEXPIRE list 1000000");
        client.words("SADD set a");
        client.words("SET string x");
        pair.wait_settled();
        pair.secondary.words("MSET cold 1 colder 1 coldest 1");
        pair.secondary.stop_signal();
        let goes_on = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                poll_until(SOON, "it is on its way", || pair.status()["stores"]["secondary"]["depth"] != 0);
                goes_on.store(true, Ordering::SeqCst);
                pair.secondary.cont();
            });
            line.split('|').for_each(|line| {
                assert!(!client.words(line).is_error(), "{line}");
            });
            // A crash from here on brings nothing back.
            assert!(goes_on.load(Ordering::SeqCst), "{line}");
        });
    }
    pair.assert_converges();
    pair.assert_both("DBSIZE", 0);
}
