//! The other store is down, silent, or refuses: clients don't notice, and it is repaired by itself.

use std::process::Command;

use super::*;

/// Some of everything.
const WRITES: [&str; 12] = [
    "SET string a",
    "INCR count",
    "RPUSH list a b c",
    "SADD set a b c",
    "HSET hash f v",
    "ZADD zset 1 a",
    "XADD stream * f v",
    "SPOP set",
    "LPOP list",
    "SET expiring v PX 600000",
    "SET gone v",
    "DEL gone before",
];

#[track_caller]
fn write_some(client: &mut Client) {
    for line in WRITES {
        let reply = client.words(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
}

#[test]
fn a_store_that_was_down_is_repaired_when_it_is_back() {
    for stage in DUAL {
        for data in [Data::Kept, Data::Lost] {
            let mut pair = Pair::eager(stage);
            let other = stage.default_store().other();
            let mut client = pair.client();
            for line in ["SET before 1", "SET untouched 1", "INCR count", "RPUSH list z"] {
                client.words(line);
            }
            pair.assert_converges();
            pair.server(other).save();
            pair.server_mut(other).kill();
            write_some(&mut client);
            pair.wait_up(other, false);
            write_some(&mut client);
            assert_eq!(client.words("INCR count"), 4.into(), "{stage} {data:?}");
            assert_eq!(client.words("GET before"), Value::Nil, "{stage} {data:?}");
            pair.server_mut(other).start_again(data);
            // It answers before it is repaired, and nobody is told what it lacks.
            assert_eq!(client.words("GET count"), "4".into(), "{stage} {data:?}");
            assert_eq!(client.words("GET before"), Value::Nil, "{stage} {data:?}");
            assert_eq!(client.words("GET untouched"), "1".into(), "{stage} {data:?}");
            write_some(&mut client);
            assert_eq!(client.words("INCR count"), 6.into(), "{stage} {data:?}");
            pair.wait_up(other, true);
            pair.assert_both("GET untouched", "1");
            assert_eq!(client.words("INCR count"), 7.into(), "{stage} {data:?}");
            pair.assert_both("GET count", "7");
        }
    }
}

#[test]
fn connections_that_are_cut_lose_nothing() {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        let mut client = pair.client();
        for round in 0..20 {
            write_some(&mut client);
            pair.other_store(stage).words("CLIENT KILL TYPE normal SKIPME yes");
            assert_eq!(client.words(&format!("SET round {round}")), Value::ok(), "{stage}");
            assert_eq!(client.words("GET round"), round.to_string().as_str().into(), "{stage}");
        }
        pair.assert_both("GET count", "20");
    }
}

/// `refuse` and `allow` are said to the other store.
fn refused_for_a_while(refuse: &[&str], allow: &[&str]) {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        let other = stage.default_store().other();
        let mut client = pair.client();
        write_some(&mut client);
        client.words("SET before 1");
        pair.assert_converges();
        for line in refuse {
            assert!(!pair.server(other).words(line).is_error(), "{line}");
        }
        write_some(&mut client);
        assert_eq!(client.words("INCR count"), 3.into(), "{stage}");
        assert_eq!(client.words("GET count"), "3".into(), "{stage}");
        pair.wait_suspects(1);
        let failures = pair.status()["counters"]["mirror_write_failures"].as_u64();
        assert!(failures > Some(0), "{stage}: {failures:?}");
        assert_eq!(client.words("GET count"), "3".into(), "{stage}");
        for line in allow {
            assert!(!pair.server(other).words(line).is_error(), "{line}");
        }
        pair.assert_both("GET count", "3");
        write_some(&mut client);
        pair.assert_both("GET count", "4");
    }
}

#[test]
fn a_store_that_was_full_is_repaired_when_it_has_room() {
    refused_for_a_while(&["CONFIG SET maxmemory 1"], &["CONFIG SET maxmemory 0"]);
}

#[test]
fn a_store_that_was_read_only_is_repaired_when_it_takes_writes() {
    // A replica of nobody: what it had stays, writes are refused.
    refused_for_a_while(&["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"]);
}

#[test]
fn a_store_that_cannot_save_is_repaired_when_it_can() {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        let other = stage.default_store().other();
        let mut client = pair.client();
        write_some(&mut client);
        pair.assert_converges();
        pair.server(other).fail_saves(true);
        assert!(pair.server(other).words("SET k v").error().starts_with("MISCONF"), "{stage}");
        write_some(&mut client);
        pair.wait_suspects(1);
        pair.server(other).fail_saves(false);
        pair.assert_both("GET count", "2");
    }
}

#[test]
fn a_store_whose_rights_were_taken_away_is_repaired_when_it_has_them_again() {
    refused_for_a_while(
        &["ACL SETUSER default -set -incr -@list -@set -@hash -@sortedset -@stream -del -restore"],
        &["ACL SETUSER default +@all"],
    );
}

#[test]
fn nobody_waits_for_a_store_that_is_silent() {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        let other = stage.default_store().other();
        let mut client = pair.client();
        write_some(&mut client);
        pair.server(other).stop_signal();
        for _ in 0..10 {
            write_some(&mut client);
        }
        pair.server(other).cont();
        assert_eq!(client.words("INCR count"), 12.into(), "{stage}");
        pair.assert_both("GET count", "12");
    }
}

#[test]
fn replies_that_come_too_late_leave_a_repair_behind() {
    for stage in DUAL {
        let pair = Pair::eager_with(
            stage,
            &[r#"reply_timeout = "100ms""#, r#"lane_timeout = "300ms""#, r#"connect_timeout = "200ms""#],
        );
        let other = stage.default_store().other();
        let mut client = pair.client();
        write_some(&mut client);
        pair.server(other).stop_signal();
        write_some(&mut client);
        pair.wait_up(other, false);
        write_some(&mut client);
        client.words("SET string last");
        pair.server(other).cont();
        pair.wait_up(other, true);
        assert_eq!(client.words("INCR count"), 4.into(), "{stage}");
        pair.assert_both("GET string", "last");
    }
}

#[test]
fn what_exceeds_the_queue_is_repaired() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[r#"lag_max = "64kb""#]);
        let other = stage.default_store().other();
        let mut client = pair.client();
        let value = "v".repeat(1000);
        pair.server(other).stop_signal();
        for n in 0..300 {
            assert_eq!(client.call(&["SET", &format!("key:{n}"), &value]), Value::ok(), "{stage}");
            assert!(!client.words(&format!("APPEND key:{} x", n / 2)).is_error());
        }
        pair.wait_suspects(100);
        pair.server(other).cont();
        pair.assert_both("DBSIZE", 300);
    }
}

#[test]
fn while_the_default_store_is_down_nobody_gets_a_write() {
    for stage in DUAL {
        let mut pair = Pair::eager(stage);
        let default = stage.default_store();
        let mut client = pair.client();
        client.words("SET key before");
        pair.assert_converges();
        pair.server_mut(default).kill();
        pair.wait_up(default, false);
        for line in ["SET key after", "DEL key", "INCR count", "SPOP set", "EVAL return(1) 1 key"] {
            assert!(client.words(line).is_error(), "{stage}: {line}");
        }
        let replies = client.pipeline(&[&["MULTI"], &["SET", "key", "after"], &["EXEC"]]);
        assert!(replies[2].is_error(), "{stage}: {replies:?}");
        assert_eq!(pair.other_store(stage).words("GET key"), "before".into(), "{stage}");
        assert_eq!(pair.other_store(stage).words("DBSIZE"), 1.into(), "{stage}");
    }
}

/// What the lost connection has sent may be executed behind newer writes: that cannot be ruled out, so it is looked for.
#[test]
fn a_store_that_refuses_to_end_the_lost_connection_is_walked() {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        let other = stage.default_store().other();
        let server = pair.server(other);
        server.words("ACL SETUSER operator on nopass ~* &* +@all");
        let mut operator = server.client();
        operator.words("AUTH operator any");
        pair.client().words("SET key value");
        pair.assert_converges();
        // As if a write had come late.
        operator.words("SET key ghost");
        operator.words("ACL SETUSER default -client|kill");
        for line in
            operator.words("CLIENT LIST").text().lines().filter(|line| line.contains("name=multistore:"))
        {
            let id = line.split(' ').next().and_then(|word| word.strip_prefix("id=")).expect("an id");
            operator.words(&format!("CLIENT KILL ID {id}"));
        }
        pair.assert_both("GET key", "value");
    }
}

#[test]
fn the_repair_of_a_whole_store_shows_how_far_it_is() {
    let pair = Pair::eager(DUAL[0]);
    let keys: Vec<String> = (0..5000).flat_map(|n| [format!("key:{n}"), "value".to_owned()]).collect();
    assert_eq!(pair.secondary.call(&[vec!["MSET".to_owned()], keys].concat()), Value::ok());
    let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["repair", "--from", "secondary", "--config"])
        .arg(pair.proxy.config_path())
        .output();
    assert!(output.expect("run multistore repair").status.success());
    let repair = poll_for(REPAIRED, || {
        let repair = pair.sync()["repair"].clone();
        repair["keys_passed"].as_u64().is_some_and(|passed| passed > 0).then_some(repair)
    });
    let expected = repair.expect("a repair is under way")["keys_expected"].as_u64();
    assert!(expected.is_some_and(|keys| keys >= 5000), "{expected:?}");
    pair.assert_both("DBSIZE", 5000);
    poll_until(SOON, "none is under way", || pair.sync()["repair"].is_null());
}

#[test]
fn a_lone_read_in_sync_is_answered_by_the_secondary_if_the_primary_is_lost_meanwhile() {
    let mut pair = Pair::eager(Stage::DualPrimaryDefault);
    let mut client = pair.client();
    assert_eq!(client.words("SET key value"), Value::ok());
    pair.assert_converges();
    let before = pair.fallbacks();
    pair.primary.stop_signal();
    client.send(&["GET", "key"]);
    poll_until(SOON, "the read is on its way", || {
        pair.status()["under_way"]["operations"].as_u64().is_some_and(|operations| operations > 0)
    });
    pair.primary.kill();
    assert_eq!(client.read_reply(), "value".into());
    assert_eq!(pair.fallbacks(), before + 1.0);
}

#[test]
fn a_read_that_the_client_has_gone_on_behind_is_not_looked_up_later() {
    let mut pair = Pair::eager(Stage::DualPrimaryDefault);
    let mut client = pair.client();
    assert_eq!(client.words("SET key value"), Value::ok());
    pair.assert_converges();
    pair.primary.stop_signal();
    for (sent, words) in [(1, ["GET", "key", ""]), (2, ["SET", "key", "later"])] {
        client.send(&words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>());
        poll_until(SOON, "it is on its way", || pair.status()["under_way"]["operations"] == sent);
    }
    pair.primary.kill();
    let (get, set) = (client.read_reply(), client.read_reply());
    assert!(get.is_error() && set.is_error(), "{get:?} {set:?}");
}

#[test]
fn what_a_store_that_hangs_has_not_read_of_a_client_that_left_is_ended_before_newer_writes() {
    let pair = Pair::eager_with(Stage::SecondaryOnly, &[r#"reply_timeout = "300ms""#]);
    // A connection that is there already: none can be made to a store that hangs.
    assert_eq!(pair.client().words("BLPOP nothing 0.01"), Value::Nil);
    let kills = || pair.secondary.calls_of("client|kill");
    let before = kills();
    pair.secondary.stop_signal();
    let mut client = pair.client();
    client.send(&["BLPOP", "list", "0"]);
    poll_until(SOON, "it waits", || pair.status()["under_way"]["dedicated"] == 1);
    drop(client);
    poll_until(SOON, "it has left", || pair.status()["under_way"]["dedicated"] == 0);
    pair.secondary.cont();
    poll_until(SOON, "its connection is ended", || kills() > before);
}
