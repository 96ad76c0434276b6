//! Times to live survive copies and delays, and nothing that has expired comes back.

use super::*;

/// Milliseconds by which the expiry times of a key may differ on a busy machine.
const TOLERANCE_MS: i64 = 1_000;

#[track_caller]
fn assert_expires_alike(pair: &Pair, key: &str) {
    let line = format!("PEXPIRETIME {key}");
    let mut last = [0, 0];
    let alike = poll_for(REPAIRED, || {
        last = [&pair.primary, &pair.secondary].map(|server| server.words(&line).int());
        let [primary, secondary] = last;
        (primary > 0 && (primary - secondary).abs() <= TOLERANCE_MS).then_some(())
    });
    assert!(alike.is_some(), "{key} expires at {last:?}");
}

#[test]
fn a_copy_expires_when_the_original_does() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        let mut client = pair.client();
        let commands = [
            ("SET a 1 PX 100000", "INCR a", "a"),
            ("RPUSH l x", "RPUSH l y", "l"),
            ("HSET h f 1", "HINCRBYFLOAT h f 1", "h"),
            ("SET nx 1 PX 200000", "SETNX nx 2", "nx"),
        ];
        for (before, write, key) in commands {
            pair.secondary.words(before);
            if !before.contains("PX") {
                pair.secondary.words(&format!("PEXPIRE {key} 300000"));
            }
            assert!(!client.words(write).is_error());
        }
        pair.wait_settled();
        for (.., key) in commands {
            assert_expires_alike(&pair, key);
        }
        // A read that falls back copies the key with its time to live, too.
        pair.secondary.words("SET read 1 PX 400000");
        assert_eq!(client.words("GET read"), "1".into());
        assert_expires_alike(&pair, "read");
        pair.secondary.words("SET persistent 1");
        assert_eq!(client.words("EXPIRE persistent 500"), 1.into());
        pair.wait_settled();
        assert_expires_alike(&pair, "persistent");
        assert_eq!(client.words("PERSIST persistent"), 1.into());
        pair.assert_both("PTTL persistent", -1);
    }
}

#[test]
fn a_time_to_live_that_waited_in_a_queue_is_repaired() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[r#"ttl_tolerance = "200ms""#]);
        let other = stage.default_store().other();
        let default = stage.default_store();
        let mut client = pair.client();
        for line in ["SET b 1", "SET c 1", "RPUSH d 1"] {
            client.words(line);
        }
        pair.assert_converges();
        pair.server(other).stop_signal();
        for line in ["SET a v PX 60000", "PEXPIRE b 60000", "SETEX c 60 v", "GETEX b PX 60000"] {
            assert!(!client.words(line).is_error(), "{line}");
        }
        let replies = client.pipeline(&[&["MULTI"], &["PEXPIRE", "d", "60000"], &["EXEC"]]);
        assert_eq!(replies[2], vec![1.into()].into());
        poll_until(SOON, "time passes", || pair.server(default).words("PTTL d").int() < 58_500);
        pair.server(other).cont();
        pair.wait_settled();
        for key in ["a", "b", "c", "d"] {
            assert_expires_alike(&pair, key);
        }
    }
}

#[test]
fn a_time_to_live_that_waited_in_an_effect_is_repaired() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[r#"ttl_tolerance = "200ms""#]);
        let mut client = pair.client();
        for line in ["SADD choose a b c", "SET e 1", "SET w 1"] {
            client.words(line);
        }
        pair.assert_converges();
        pair.other_store(stage).stop_signal();
        // What chooses makes the whole transaction an effect; so does WATCH.
        let choosing =
            client.pipeline(&[&["MULTI"], &["SPOP", "choose"], &["PEXPIRE", "e", "60000"], &["EXEC"]]);
        assert_eq!(choosing[3].items()[1], 1.into());
        client.words("WATCH w");
        let watched = client.pipeline(&[&["MULTI"], &["PEXPIRE", "w", "60000"], &["EXEC"]]);
        assert_eq!(watched[2], vec![1.into()].into());
        poll_until(SOON, "time passes", || pair.default_store(stage).words("PTTL w").int() < 58_500);
        pair.other_store(stage).cont();
        pair.wait_settled();
        for key in ["e", "w"] {
            assert_expires_alike(&pair, key);
        }
    }
}

#[test]
fn a_copy_that_waited_in_a_queue_expires_when_the_original_does() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[r#"ttl_tolerance = "200ms""#]);
        let other = stage.default_store().other();
        let default = stage.default_store();
        let mut client = pair.client();
        client.words("SET n 1 PX 60000");
        pair.assert_converges();
        // The other store refuses a write, so that the key is copied; and the copy waits.
        pair.server(other).words("CONFIG SET maxmemory 1");
        client.words("INCR n");
        pair.wait_suspects(1);
        pair.server(other).words("CONFIG SET maxmemory 0");
        pair.server(other).stop_signal();
        poll_until(SOON, "time passes", || pair.server(default).words("PTTL n").int() < 58_000);
        pair.server(other).cont();
        pair.wait_settled();
        assert_expires_alike(&pair, "n");
    }
}

#[test]
fn what_has_expired_on_the_way_does_not_come_back() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[r#"ttl_tolerance = "100ms""#]);
        let other = stage.default_store().other();
        let default = stage.default_store();
        let mut client = pair.client();
        client.words("SET long v");
        pair.assert_converges();
        pair.server(other).stop_signal();
        client.words("SET short v PX 800");
        client.words("PEXPIRE long 800");
        if stage == Stage::DualSecondaryDefault {
            // An unknown key that is copied over.
            pair.secondary.words("SET cold 1 PX 800");
            client.words("INCR cold");
        }
        poll_until(SOON, "the keys expire", || {
            pair.server(default).words("EXISTS short long cold") == 0.into()
        });
        pair.server(other).cont();
        pair.assert_both("EXISTS short long cold", 0);
        for key in ["short", "long", "cold"] {
            assert_eq!(client.words(&format!("GET {key}")), Value::Nil, "{stage} {key}");
            assert_eq!(client.words(&format!("SET {key} mine NX")), Value::ok(), "{stage} {key}");
        }
        pair.assert_both("GET cold", "mine");
    }
}

/// However a key came by its end.
fn give_ends(client: &mut Client, life: i64) {
    let script = "return redis.call('PEXPIRE', KEYS[1], ARGV[1])";
    let life = life.to_string();
    client.words(&format!("PEXPIRE plain {life}"));
    let now = client.call(&["TIME"]).items()[0].text().parse::<i64>().expect("seconds");
    client.words(&format!("EXPIREAT timed {}", now + 3));
    client.call(&["EVAL", script, "1", "script", &life]);
    client.pipeline(&[&["MULTI"], &["PEXPIRE", "multi", &life], &["EXEC"]]);
    client.words("WATCH watched");
    client.pipeline(&[&["MULTI"], &["PEXPIRE", "watched", &life], &["EXEC"]]);
    client.words(&format!("PEXPIRE old {life}"));
    client.words("RENAME old moved");
}

#[test]
fn a_write_that_one_store_runs_before_the_end_of_its_key_and_the_other_after_it() {
    const KEYS: [&str; 6] = ["plain", "timed", "script", "multi", "watched", "moved"];
    for stage in DUAL {
        let pair = Pair::eager(stage);
        let other = stage.default_store().other();
        let default = stage.default_store();
        let mut client = pair.client();
        for key in ["plain", "timed", "script", "multi", "watched", "old"] {
            client.words(&format!("SADD {key} a"));
        }
        pair.assert_converges();
        give_ends(&mut client, 3_000);
        poll_until(SOON, "the other store knows", || pair.server(other).words("PTTL moved").int() > 0);
        pair.server(other).stop_signal();
        for key in KEYS {
            // Both stores will say so.
            assert_eq!(client.words(&format!("SADD {key} b")), 1.into(), "{key}");
        }
        let all = format!("EXISTS {}", KEYS.join(" "));
        poll_until(SOON, "the keys end", || pair.server(default).words(&all) == 0.into());
        pair.server(other).cont();
        pair.assert_both(&all, 0);
    }
}

#[test]
fn what_the_default_store_has_lost_is_not_found_on_the_other_one() {
    let pair = Pair::start_in(Stage::DualPrimaryDefault);
    let mut client = pair.client();
    client.words("MSET key value other value");
    pair.assert_converges();
    pair.primary.words("DEL key");
    for _ in 0..3 {
        assert_eq!(client.words("GET key"), Value::Nil);
        let piped = client.pipeline(&[&["GET", "key"], &["MGET", "key", "other"], &["STRLEN", "key"]]);
        assert_eq!(piped, [Value::Nil, vec![Value::Nil, "value".into()].into(), 0.into()]);
    }
    assert_eq!(pair.fallbacks(), 0.0);
}

#[test]
fn what_a_primary_has_evicted_is_found_on_the_secondary_and_copied_again() {
    for read in ["GET key", "MGET key cold"] {
        let pair = Pair::start_with(Stage::DualSecondaryDefault, &["read_patience = \"10s\""]);
        let mut client = pair.client();
        client.words("SET key value");
        pair.assert_converges();
        pair.primary.words("DEL key");
        pair.secondary.words("SET cold value");
        let found = client.words(read);
        let found = if read.starts_with('M') { found.items()[0].clone() } else { found };
        assert_eq!(found, "value".into(), "{read}");
        assert_eq!(pair.fallbacks(), 1.0, "{read}");
        poll_until(SOON, "it is copied", || pair.primary.words("GET key") == "value".into());
        if read.starts_with('M') {
            poll_until(SOON, "so is what it never had", || pair.primary.words("GET cold") == "value".into());
        }
    }
}

#[test]
fn what_was_evicted_or_deleted_on_the_other_store_alone_is_not_taken_for_deleted() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        let mut client = pair.client();
        client.words("SET count 5");
        pair.assert_converges();
        pair.other_store(stage).words("DEL count");
        assert_eq!(client.words("INCR count"), 6.into(), "{stage}");
        // The replies differ: the key is suspect and copied.
        pair.assert_both("GET count", "6");
    }
}
