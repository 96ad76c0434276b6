//! Commands that only one of the two servers knows, and replies that differ in shape.

use super::*;

#[test]
fn what_only_the_default_store_knows_is_copied_or_says_so() {
    let Some(servers) = servers("redis-6.2", "redis-8.2") else { return };
    let mut pair = pair(servers, Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.words("RPUSH list a b c d");
    client.words("ZADD zset 1 a 2 b 3 c");
    client.words("HSET hash f v g w");
    for (line, key) in [
        ("LMPOP 1 list LEFT COUNT 2", "list"),
        ("ZMPOP 1 zset MIN COUNT 1", "zset"),
        ("EXPIRE list 1000 NX", "list"),
        ("HGETDEL hash FIELDS 1 f", "hash"),
    ] {
        let reply = client.words(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
        settle(&pair, line);
        let same = [&pair.primary, &pair.secondary].map(|server| server.words(&format!("EXISTS {key}")));
        assert_eq!(same[0], same[1], "{line}");
    }
    assert_same(&pair, "commands of 8.2 beside 6.2");
    // With the older one as the default they are what they are there.
    pair.stage(Stage::DualPrimaryDefault);
    let reply = pair.client().words("LMPOP 1 list LEFT");
    assert!(reply.error().starts_with("ERR unknown command"), "{reply:?}");
    assert_same(&pair, "6.2 is the default");
}

#[test]
fn fields_that_expire_cannot_be_held_by_an_old_server_and_are_reported() {
    let Some(servers) = servers("redis-6.2", "redis-8.2") else { return };
    let pair = pair(servers, Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.words("HSET hash f v g w");
    assert!(!client.words("HPEXPIRE hash 3600000 FIELDS 1 f").is_error());
    poll_until(COPIED, "it is reported", || {
        pair.proxy.instance_status(INSTANCE)["sync"]["copies_unsupported"].as_u64() > Some(0)
    });
    assert_eq!(client.words("HGET hash f"), "v".into());
    // Written whole, it is in sync again.
    client.words("DEL hash");
    client.words("HSET hash f v");
    assert_same(&pair, "after DEL");
}

#[test]
fn fields_that_expire_are_copied_where_both_know_them() {
    for (primary, secondary) in [("redis-8.2", "valkey-9.1"), ("valkey-9.1", "redis-8.2")] {
        let Some(servers) = servers(primary, secondary) else { return };
        let when = format!("primary {primary}, secondary {secondary}");
        servers[1].words("HSET hash f v g w h x");
        assert!(!servers[1].words("HPEXPIRE hash 3600000 FIELDS 2 f g").is_error(), "{when}");
        let pair = pair(servers, Stage::DualSecondaryDefault);
        pair.client().words("HSET hash i y");
        assert_same(&pair, &when);
        assert!(pair.primary.words("HPTTL hash FIELDS 1 f").items()[0].int() > 3_000_000, "{when}");
    }
}

#[test]
fn functions_beside_a_server_without_functions() {
    for (primary, secondary) in [("redis-6.2", "redis-8.2"), ("redis-6.2", "valkey-8.1")] {
        let Some(servers) = servers(primary, secondary) else { return };
        let when = format!("primary {primary}, secondary {secondary}");
        let pair = pair(servers, Stage::DualSecondaryDefault);
        let mut client = pair.client();
        let code = "#!lua name=lib\nredis.register_function('put', function(keys, args) \
                    return redis.call('SET', keys[1], args[1]) end)";
        assert_eq!(client.call(&["FUNCTION", "LOAD", code]), "lib".into(), "{when}");
        assert_eq!(client.call(&["FCALL", "put", "1", "key", "value"]), Value::ok(), "{when}");
        poll_until(COPIED, &format!("{when}: what the function wrote is copied"), || {
            pair.primary.words("GET key") == "value".into()
        });
    }
}

#[test]
fn reads_whose_replies_differ_in_shape_are_no_difference() {
    each_way(|primary, secondary, servers| {
        let when = format!("primary {primary}, secondary {secondary}");
        let [primary, secondary] = servers;
        let pair = Pair::over(primary, secondary, Stage::DualSecondaryDefault, &[r#"reads = "compare""#]);
        for mut client in [pair.client(), pair.proxy.client3()] {
            for line in [
                "DEL zset hash set stream list",
                "ZADD zset 0.1 a 3 b 1e300 c",
                "HSET hash f v g w",
                "SADD set a b c",
                "RPUSH list a b c",
                "XADD stream 1-1 f v",
                "ZSCORE zset a",
                "ZRANGE zset 0 -1 WITHSCORES",
                "HGETALL hash",
                "SMEMBERS set",
                "LPOS list b",
                "XRANGE stream - +",
                "TTL zset",
                "TYPE nothing",
                "OBJECT HELP",
                "GETRANGE nothing 0 1",
            ] {
                client.words(line);
            }
        }
        settle(&pair, &when);
        let samples = pair.proxy.instance_status(INSTANCE)["diff_samples"].clone();
        assert_eq!(samples.as_array().map(Vec::len), Some(0), "{when}: {samples:#}");
    });
}

#[test]
fn a_server_without_hello_serves_in_either_role() {
    let deaf = || RedisServer::start_with(&["--rename-command", "HELLO", ""]);
    for deaf_primary in [true, false] {
        let servers =
            if deaf_primary { [deaf(), RedisServer::start()] } else { [RedisServer::start(), deaf()] };
        let mut pair = pair(servers, Stage::SecondaryOnly);
        let mut client = pair.client();
        for (round, stage) in Stage::ALL.into_iter().enumerate() {
            pair.stage(stage);
            let when = format!("deaf primary: {deaf_primary}, {stage}");
            assert_eq!(client.words("INCR count"), (round as i64 + 1).into(), "{when}");
            assert_eq!(client.words("GET count"), (round as i64 + 1).to_string().as_str().into(), "{when}");
            let default_is_deaf =
                deaf_primary == (stage.default_store() == multistore::stage::StoreId::Primary);
            let hello = pair.client().words("HELLO 3");
            assert_eq!(hello.is_error(), default_is_deaf, "{when}: {hello:?}");
            if stage.is_dual() {
                assert_same(&pair, &when);
            }
        }
    }
}

#[test]
fn a_hash_that_a_cold_primary_empties_by_time_is_gone_from_the_secondary_before_anybody_is_told() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(servers) = servers("valkey-9.1", "valkey-9.1") else { return };
    let pair = pair(servers, Stage::DualPrimaryDefault);
    let mut client = pair.client();
    for line in
        ["HPEXPIRE hash 0 FIELDS 1 f", "HPEXPIREAT hash 1 FIELDS 1 f", "HGETEX hash EXAT 1 FIELDS 1 f"]
    {
        client.words("DEL hash");
        client.words("HSET hash f v");
        settle(&pair, line);
        pair.secondary.stop_signal();
        let goes_on = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                poll_until(SOON, "it is on its way", || {
                    pair.proxy.instance_status(INSTANCE)["stores"]["secondary"]["depth"] != 0
                });
                goes_on.store(true, Ordering::SeqCst);
                pair.secondary.cont();
            });
            let reply = client.words(line);
            assert!(!reply.is_error(), "{line}: {reply:?}");
            assert!(goes_on.load(Ordering::SeqCst), "{line}");
        });
        settle(&pair, line);
        assert_eq!(client.words("EXISTS hash"), 0.into(), "{line}");
    }
}
