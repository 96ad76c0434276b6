//! MultiStore's two old wounds, and `hydrate`.

use super::*;

#[test]
fn an_incr_on_a_cold_primary_goes_on_counting() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        pair.secondary.words("SET visits 41");
        let mut client = pair.client();
        assert_eq!(client.words("INCR visits"), 42.into(), "{stage}");
        assert_eq!(client.words("GET visits"), "42".into(), "{stage}");
        pair.assert_both("GET visits", "42");
        assert_eq!(client.words("INCR visits"), 43.into(), "{stage}");
        pair.assert_both("GET visits", "43");
    }
}

#[test]
fn counts_go_on_over_both_flips() {
    let mut pair = Pair::start_in(Stage::SecondaryOnly);
    pair.secondary.words("SET visits 100");
    let mut client = pair.client();
    let mut expected = 100;
    for stage in [Stage::SecondaryOnly, DUAL[0], DUAL[1], Stage::PrimaryOnly] {
        pair.stage(stage);
        for _ in 0..3 {
            expected += 1;
            assert_eq!(client.words("INCR visits"), expected.into(), "{stage}");
        }
    }
    assert_eq!(pair.primary.words("GET visits"), "112".into());
}

#[test]
fn a_lock_held_on_the_secondary_is_not_granted_by_a_cold_primary() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        pair.secondary.words("SET lock alice PX 60000");
        let mut bob = pair.client();
        assert_eq!(bob.words("SET lock bob NX PX 60000"), Value::Nil, "{stage}");
        assert_eq!(bob.words("SETNX lock bob"), 0.into(), "{stage}");
        assert_eq!(bob.words("GET lock"), "alice".into(), "{stage}");
        pair.assert_both("GET lock", "alice");
        // The lock is released and taken again: by one, on both stores.
        assert_eq!(bob.words("DEL lock"), 1.into(), "{stage}");
        assert_eq!(bob.words("SET lock bob NX PX 60000"), Value::ok(), "{stage}");
        assert_eq!(pair.client().words("SET lock carol NX PX 60000"), Value::Nil, "{stage}");
        pair.assert_both("GET lock", "bob");
    }
}

#[test]
fn a_lock_is_not_granted_by_a_pipeline_transaction_or_script_either() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        for key in ["pipe", "multi", "script"] {
            pair.secondary.words(&format!("SET {key} alice"));
        }
        let mut bob = pair.client();
        let replies = bob.pipeline(&[&["SETNX", "pipe", "bob"], &["GET", "pipe"]]);
        assert_eq!(replies, [0.into(), "alice".into()], "{stage}");
        let replies = bob.pipeline(&[&["MULTI"], &["SETNX", "multi", "bob"], &["GET", "multi"], &["EXEC"]]);
        assert_eq!(replies[3], vec![0.into(), "alice".into()].into(), "{stage}");
        let script = "return {redis.call('SETNX', KEYS[1], ARGV[1]), redis.call('GET', KEYS[1])}";
        let reply = bob.call(&["EVAL", script, "1", "script", "bob"]);
        assert_eq!(reply, vec![0.into(), "alice".into()].into(), "{stage}");
        pair.assert_converges();
    }
}

#[test]
fn the_grant_of_a_lock_and_its_holder_come_from_the_same_truth() {
    // A leftover on the primary: MultiStore granted the lock by the secondary and then told its
    // holder, from the primary, that somebody else has it.
    let pair = Pair::start_in(Stage::DualSecondaryDefault);
    pair.primary.words("SET lock leftover");
    let mut client = pair.client();
    assert_eq!(client.words("SET lock mine NX"), Value::ok());
    assert_eq!(client.words("GET lock"), "mine".into());
    pair.assert_both("GET lock", "mine");

    // While the primary is the default, a key that only the secondary has is found, and counts.
    let pair = Pair::start_in(Stage::DualPrimaryDefault);
    pair.secondary.words("SET lock theirs");
    let mut client = pair.client();
    assert_eq!(client.words("SET lock mine NX"), Value::Nil);
    assert_eq!(client.words("GET lock"), "theirs".into());
    pair.assert_both("GET lock", "theirs");
}

#[test]
fn every_type_is_continued_on_a_cold_primary() {
    let writes = [
        ("RPUSH list a b", "RPUSH list c", "LRANGE list 0 -1"),
        ("HSET hash f 1", "HINCRBY hash f 1", "HGETALL hash"),
        ("SADD set a", "SADD set b", "SCARD set"),
        ("ZADD zset 1 a", "ZINCRBY zset 1 a", "ZRANGE zset 0 -1 WITHSCORES"),
        ("XADD stream 5-1 f v", "XADD stream 6-1 f w", "XLEN stream"),
        ("SETRANGE string 0 abc", "APPEND string d", "GET string"),
        ("PFADD hll a b", "PFADD hll c", "PFCOUNT hll"),
        ("SETBIT bits 7 1", "SETBIT bits 3 1", "BITCOUNT bits"),
    ];
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        let alone = RedisServer::start();
        let mut client = pair.client();
        for (before, write, read) in writes {
            pair.secondary.words(before);
            alone.words(before);
            assert_eq!(client.words(write), alone.words(write), "{stage}: {write}");
            assert_eq!(client.words(read), alone.words(read), "{stage}: {read}");
        }
        pair.assert_converges();
        assert_eq!(differences(&dump(&pair.primary), &dump(&alone)), Vec::<String>::new(), "{stage}");
    }
}

#[test]
fn keys_that_move_over_are_not_lost_on_a_cold_primary() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        for line in ["SET a 1", "SET b 2", "SADD s x y", "SADD t y", "RPUSH l 1 2 3"] {
            pair.secondary.words(line);
        }
        let mut client = pair.client();
        assert_eq!(client.words("RENAME a c"), Value::ok(), "{stage}");
        assert_eq!(client.words("COPY b d"), 1.into(), "{stage}");
        assert_eq!(client.words("SDIFFSTORE u s t"), 1.into(), "{stage}");
        assert_eq!(client.words("LMOVE l m LEFT RIGHT"), "1".into(), "{stage}");
        assert_eq!(client.words("MGET a b c d"), vec![Value::Nil, "2".into(), "1".into(), "2".into()].into());
        assert_eq!(client.words("SMEMBERS u"), Value::bulks(&["x"]), "{stage}");
        // Only what was touched has been copied.
        for key in ["a", "c", "d", "u", "l", "m"] {
            let line = format!("DUMP {key}");
            poll_until(SOON, &format!("{stage}: {key} alike"), || {
                pair.primary.words(&line) == pair.secondary.words(&line)
            });
        }
    }
}

#[test]
fn reads_of_several_keys_miss_nothing_on_a_cold_primary() {
    for stage in DUAL {
        for piped in [false, true] {
            let pair = Pair::start_in(stage);
            let alone = RedisServer::start();
            let mut client = pair.client();
            for line in ["SADD s x y", "SADD t y z", "ZADD z 1 a", "SET m one", "SET n two", "PFADD h a b"] {
                pair.secondary.words(line);
                alone.words(line);
            }
            for line in ["SADD u y", "ZADD w 2 a 3 b", "PFADD i c"] {
                client.words(line);
                alone.words(line);
            }
            for read in [
                "SDIFF s t",
                "SINTER s t u",
                "SINTERCARD 2 s u",
                "ZUNION 2 z w WITHSCORES",
                "EXISTS s t n nowhere",
                "TOUCH s nowhere",
                "LCS m n",
                "PFCOUNT h i",
                "EVAL_RO return(redis.call('GET',KEYS[1])) 1 m",
            ] {
                let reply = match piped {
                    false => client.words(read),
                    true => client.pipeline(&[&["PING"], &read.split(' ').collect::<Vec<_>>()]).remove(1),
                };
                assert_eq!(reply, alone.words(read), "{stage}, piped: {piped}: {read}");
            }
            pair.wait_settled();
            assert_eq!(pair.fallbacks(), 0.0, "{stage}");
        }
    }
}

#[test]
fn without_hydrate_cold_keys_are_as_with_multistore() {
    const VERBATIM: &[&str] = &["hydrate = false"];
    let pair = Pair::start_with(Stage::DualSecondaryDefault, VERBATIM);
    pair.secondary.words("SET visits 41");
    let mut client = pair.client();
    assert_eq!(client.words("INCR visits"), 42.into());
    poll_until(SOON, "the primary counts from 1", || pair.primary.words("GET visits") == "1".into());
    poll_until(SOON, "and answers so", || client.words("GET visits") == "1".into());
    pair.wait_settled();
    assert_eq!(pair.primary.words("GET visits"), "1".into(), "nothing is copied");
    assert_eq!(pair.sync()["copies_done"], 0);

    let pair = Pair::start_with(Stage::DualPrimaryDefault, VERBATIM);
    pair.secondary.words("SET visits 41");
    pair.secondary.words("SET lock alice");
    let mut client = pair.client();
    assert_eq!(client.words("INCR visits"), 1.into());
    assert_eq!(client.words("SET lock bob NX"), Value::ok());
    pair.wait_settled();
    assert_eq!(pair.secondary.words("GET visits"), "42".into());
    assert_eq!(pair.secondary.words("GET lock"), "alice".into());
    assert_eq!(pair.sync()["copies_done"], 0);
}

#[test]
fn a_copy_of_nothing_says_nothing_about_its_target() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        pair.secondary.words("SET target 41");
        let mut client = pair.client();
        // In sync, and not there.
        client.words("DEL source");
        assert_eq!(client.words("COPY source target REPLACE"), 0.into(), "{stage}");
        assert_eq!(client.words("INCR target"), 42.into(), "{stage}");
        pair.assert_both("GET target", "42");
    }
}
