//! Requests above `heavy_bytes`: past the lanes, in their place of the order all the same.

use super::*;

/// So that values of a few kilobytes are heavy.
const LIGHT: &str = r#"heavy_bytes = "4kb""#;

fn big(letter: char) -> String {
    String::from(letter).repeat(300_000)
}

#[test]
fn a_large_request_keeps_its_place_among_its_clients_others() {
    for stage in Stage::ALL {
        let pair = Pair::eager_with(stage, &[LIGHT]);
        let mut client = pair.client();
        let (a, b) = (big('a'), big('b'));
        let replies = client.pipeline(&[
            &["SET", "key", "small"],
            &["SET", "key", &a],
            &["STRLEN", "key"],
            &["APPEND", "key", &b],
            &["GETRANGE", "key", "299999", "300000"],
            &["RPUSH", "list", "first", &a, "last"],
            &["LLEN", "list"],
            &["SET", "key", &b, "NX"],
            &["EVAL", "return redis.call('STRLEN', KEYS[1]) + #ARGV[1]", "1", "key", &a],
            &["NOSUCH", &a],
            &["SET", &a],
            &["GET", "nothing"],
        ]);
        assert_eq!(replies[1], Value::ok(), "{stage}");
        assert_eq!(replies[2..5], [300_000.into(), 600_000.into(), "ab".into()], "{stage}");
        assert_eq!(replies[5..9], [3.into(), 3.into(), Value::Nil, 900_000.into()], "{stage}");
        assert!(replies[9].error().starts_with("ERR unknown command"), "{stage}");
        assert!(replies[10].error().starts_with("ERR wrong number"), "{stage}");
        assert_eq!(replies[11], Value::Nil, "{stage}");
        if stage.is_dual() {
            pair.assert_converges();
            // What replaces a value as a whole reaches a store that answers reads by pieces.
            client.call(&["SET", "whole", &a, "PX", "3600000"]);
            pair.assert_converges();
            assert!(stage == DUAL[1] || pair.primary.calls_of("rename") >= 1, "{stage}");
        }
    }
}

#[test]
fn large_and_small_writes_of_two_clients_leave_the_same_on_both_stores() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[LIGHT]);
        let mut clients = [pair.client(), pair.client()];
        for round in 0..20 {
            let value = big(if round % 2 == 0 { 'x' } else { 'y' });
            clients[0].send(&["SET", "key", &value]);
            clients[1].send(&["APPEND", "key", &round.to_string()]);
            clients[0].send(&["RPUSH", "list", &value]);
            clients[1].send(&["RPUSH", "list", "small"]);
            clients[1].send(&["LTRIM", "list", "-5", "-1"]);
            clients[0].read_replies(2);
            clients[1].read_replies(3);
        }
        pair.assert_converges();
    }
}

#[test]
fn large_transactions_run_as_one() {
    for stage in Stage::ALL {
        let pair = Pair::eager_with(stage, &[LIGHT]);
        let mut client = pair.client();
        let value = big('v');
        let replies =
            client.pipeline(&[&["MULTI"], &["SET", "key", &value], &["INCR", "count"], &["EXEC"], &["PING"]]);
        assert_eq!(replies[3], vec![Value::ok(), 1.into()].into(), "{stage}");
        assert_eq!(replies[4], Value::simple("PONG"), "{stage}");
        client.words("WATCH count");
        client.words("MULTI");
        client.call(&["SET", "key", &value]);
        assert_eq!(client.words("EXEC"), vec![Value::ok()].into(), "{stage}");
        if stage.is_dual() {
            pair.assert_converges();
        }
    }
}

#[test]
fn a_large_write_to_a_cold_primary_does_not_begin_from_nothing() {
    let pair = Pair::eager_with(DUAL[1], &[LIGHT]);
    pair.secondary.words("SET key old");
    pair.secondary.words("SET lock alice");
    let mut client = pair.client();
    assert_eq!(client.call(&["APPEND", "key", &big('n')]), 300_003.into());
    assert_eq!(client.call(&["SET", "lock", &big('b'), "NX"]), Value::Nil);
    pair.assert_converges();
}

#[test]
fn a_flip_waits_for_what_is_on_its_way_past_the_lanes() {
    let mut pair = Pair::eager_with(Stage::SecondaryOnly, &[LIGHT]);
    let mut writers: Vec<Client> = (0..4).map(|_| pair.client()).collect();
    for stage in [DUAL[0], DUAL[1], DUAL[0], Stage::SecondaryOnly, DUAL[0]] {
        for (at, writer) in writers.iter_mut().enumerate() {
            for round in 0..3 {
                writer.send(&["SET", &format!("key-{at}-{round}"), &big('v')]);
                writer.send(&["RPUSH", &format!("list-{at}"), &big('w')]);
            }
        }
        pair.stage(stage);
        for writer in &mut writers {
            for reply in writer.read_replies(6) {
                assert!(!reply.is_error(), "{stage}: {reply:?}");
            }
        }
    }
    pair.assert_converges();
}

#[test]
fn large_replies_are_the_stores_own_and_small_ones_stay_small() {
    for stage in Stage::ALL {
        let pair = Pair::eager_with(stage, &[LIGHT]);
        let mut client = pair.client();
        let value = big('v');
        client.call(&["SET", "key", &value]);
        client.call(&["RPUSH", "list", &value, "a", &value]);
        let list = Value::bulks(&[&value, "a", &value]);
        for round in 0..4 {
            // The first reply shows that it is large, the others go past the lanes.
            assert_eq!(client.words("GET key"), value.as_str().into(), "{stage}, round {round}");
            assert_eq!(client.words("LRANGE list 0 -1"), list, "{stage}, round {round}");
            let replies = client.pipeline(&[
                &["INCR", "count"],
                &["GET", "key"],
                &["STRLEN", "key"],
                &["LRANGE", "list", "0", "-1"],
                &["GET", "count"],
            ]);
            assert_eq!(replies[1], value.as_str().into(), "{stage}, round {round}");
            assert_eq!(replies[2..4], [300_000.into(), list.clone()], "{stage}, round {round}");
            assert_eq!(replies[4], (round + 1).to_string().as_str().into(), "{stage}, round {round}");
        }
        // What has become small, or something else, or nothing.
        client.words("SET key small");
        client.words("DEL list");
        for _ in 0..2 {
            assert_eq!(client.words("GET key"), "small".into(), "{stage}");
            assert_eq!(client.words("LRANGE list 0 -1"), Value::Array(Vec::new()), "{stage}");
        }
        client.words("RPUSH key2 a");
        assert!(client.words("GET key2").is_error(), "{stage}");
        if stage.is_dual() {
            pair.assert_converges();
        }
    }
}

#[test]
fn a_large_reply_that_nobody_reads_is_not_kept_whole() {
    let pair = Pair::eager_with(Stage::SecondaryOnly, &[LIGHT, r#"client_output_max = "64mb""#]);
    let mut client = pair.client();
    client.call(&["SET", "key", &"v".repeat(4_000_000)]);
    assert_eq!(client.words("GET key").bytes().len(), 4_000_000);
    // Much more than the limit, if it were taken at once.
    for _ in 0..40 {
        client.send(&["GET", "key"]);
    }
    assert_eq!(pair.client().words("PING"), Value::simple("PONG"));
    for reply in client.read_replies(40) {
        assert_eq!(reply.bytes().len(), 4_000_000);
    }
}

#[test]
fn a_lost_store_cuts_a_large_reply_or_says_so() {
    let mut pair = Pair::eager_with(Stage::SecondaryOnly, &[LIGHT]);
    let mut client = pair.client();
    client.call(&["SET", "key", &big('v')]);
    assert_eq!(client.words("GET key").bytes().len(), 300_000);
    pair.secondary.kill();
    let reply = client.words("GET key");
    assert!(reply.error().starts_with("MULTISTORE "), "{reply:?}");
}
