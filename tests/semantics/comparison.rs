//! "Comparison": what counts as a difference, under which name, and how often.

use super::*;

fn total(pair: &Pair) -> f64 {
    pair.diffs() + pair.counter(COMMAND_DIFF)
}

/// The label sets of the two kinds of batches.
fn diff(command: &str) -> [(&'static str, &str); 2] {
    [("instance_name", INSTANCE), ("command", command)]
}

/// Reads of keys that are the same data, differently laid out: filled so on the primary, so on the secondary.
const ALIKE: &[(&str, &str, &str)] = &[
    ("SADD s a b c d", "SADD s d c b a", "SMEMBERS s"),
    ("SADD s a b c d", "SADD s d c b a", "SUNION s none"),
    ("SADD s a b c d", "SADD s d c b a", "SINTER s s"),
    ("SADD s a b c d", "SADD s d c b a", "SDIFF s none"),
    ("SADD s a b c d", "SADD s d c b a", "SSCAN s 0"),
    ("HSET h a 1 b 2 c 3", "HSET h c 3 b 2 a 1", "HGETALL h"),
    ("HSET h a 1 b 2 c 3", "HSET h c 3 b 2 a 1", "HKEYS h"),
    ("HSET h a 1 b 2 c 3", "HSET h c 3 b 2 a 1", "HVALS h"),
    ("HSET h a 1 b 2 c 3", "HSET h c 3 b 2 a 1", "HSCAN h 0"),
    ("ZADD z 1 a 2 b", "ZADD z 2 b 1 a", "ZRANGE z 0 -1 WITHSCORES"),
    ("ZADD z 1e3 a", "ZADD z 1000 a", "ZSCORE z a"),
    ("SET t v PX 900000", "SET t v PX 900600", "PTTL t"),
    ("SET t v EXAT 4000000000", "SET t v EXAT 4000000001", "TTL t"),
    ("SET t v EXAT 4000000000", "SET t v EXAT 4000000001", "EXPIRETIME t"),
    ("SET t v PXAT 4000000000000", "SET t v PXAT 4000000000900", "PEXPIRETIME t"),
    ("SADD r a b c d e f g h", "SADD r i j k l m n o p", "SRANDMEMBER r"),
    ("HSET x a 1", "HSET x b 1", "HRANDFIELD x"),
    ("ZADD y 1 a", "ZADD y 1 b", "ZRANDMEMBER y"),
    ("SET k here", "SET k there", "TIME"),
    ("SET k here", "SET k there", "RANDOMKEY"),
    ("SET k here", "SET k there", "INFO"),
    ("SET k here", "SET k there", "DBSIZE"),
];

/// Reads that differ.
const UNLIKE: &[(&str, &str, &str)] = &[
    ("SET k one", "SET k two", "GET k"),
    ("SET k one", "SET k three", "STRLEN k"),
    ("SADD s a b", "SADD s a c", "SMEMBERS s"),
    ("SADD s a b", "SADD s a", "SMEMBERS s"),
    ("HSET h f 1", "HSET h f 2", "HGETALL h"),
    ("HSET h f g", "HSET h g f", "HGETALL h"),
    ("RPUSH l a b", "RPUSH l b a", "LRANGE l 0 -1"),
    ("ZADD z 1 a", "ZADD z 2 a", "ZSCORE z a"),
    ("SET t v EX 100", "SET t v EX 110", "TTL t"),
    ("SET t v", "SET t v EX 110", "TTL t"),
    ("SET w v", "RPUSH w v", "GET w"),
    ("SET w v", "RPUSH w v", "TYPE w"),
];

fn fill(pair: &Pair, primary: &str, secondary: &str) {
    for (server, line) in [(&pair.primary, primary), (&pair.secondary, secondary)] {
        server.words("FLUSHALL");
        assert!(!server.words(line).is_error(), "{line}");
    }
}

#[test]
fn replies_that_mean_the_same_are_equal() {
    let mut pair = calm_with(Stage::DualSecondaryDefault, &[VERBATIM]);
    for stage in DUAL {
        pair.stage(stage);
        let mut clients = [pair.client(), pair.proxy.client3()];
        for (primary, secondary, read) in ALIKE {
            fill(&pair, primary, secondary);
            for client in &mut clients {
                let words: Vec<&str> = read.split(' ').collect();
                client.pipeline(&[&words, &words]);
                client.pipeline(&[&["MULTI"], &words, &["EXEC"]]);
                client.pipeline(&[&["PING"]]);
            }
            pair.quiet();
            if read.starts_with("DBSIZE") {
                continue;
            }
            assert_eq!(total(&pair), 0.0, "{stage} {read}: {:?}", pair.proxy.instance_status(INSTANCE));
        }
    }
}

#[test]
fn replies_that_mean_different_things_are_counted() {
    let mut pair = calm_with(Stage::DualSecondaryDefault, &[VERBATIM]);
    let mut expected = 0.0;
    for stage in DUAL {
        pair.stage(stage);
        let mut clients = [pair.client(), pair.proxy.client3()];
        for (primary, secondary, read) in UNLIKE {
            fill(&pair, primary, secondary);
            for client in &mut clients {
                let words: Vec<&str> = read.split(' ').collect();
                client.pipeline(&[&words, &words]);
                client.pipeline(&[&["MULTI"], &words, &["EXEC"]]);
                expected += 1.0;
            }
            pair.expect_counter(DIFF, &diff("pipelined"), expected);
            pair.expect_counter(DIFF, &diff("multi"), expected);
        }
    }
    assert_eq!(pair.counter(COMMAND_DIFF), 0.0, "batches are not counted by command");
}

#[test]
fn a_batch_counts_once_however_many_of_its_replies_differ() {
    for stage in DUAL {
        let pair = calm_with(stage, &[VERBATIM]);
        pair.primary.words("SET n 1");
        pair.secondary.words("SET n 100");
        let mut client = pair.client();
        let incr: &[&str] = &["INCR", "n"];
        client.pipeline(&[incr; 10]);
        pair.expect_counter(DIFF, &diff("pipelined"), 1.0);
        client.pipeline(&[incr; 10]);
        pair.expect_counter(DIFF, &diff("pipelined"), 2.0);
        client.pipeline(&[&["MULTI"], incr, incr, incr, &["EXEC"]]);
        pair.expect_counter(DIFF, &diff("multi"), 1.0);
        assert_eq!(pair.of_command(DIFF, "pipelined"), 2.0, "{stage}");
        client.pipeline(&[&["SET", "m", "1"], &["INCR", "m"], &["PING"]]);
        pair.quiet();
        assert_eq!(pair.diffs(), 3.0, "{stage}");
        assert_eq!(pair.counter(COMMAND_DIFF), 0.0, "{stage}");
    }
}

#[test]
fn a_standalone_command_that_differs_is_counted_under_its_own_name() {
    for stage in DUAL {
        let pair = calm_with(stage, &[VERBATIM]);
        pair.primary.words("RPUSH list a");
        pair.secondary.words("RPUSH list a b");
        pair.secondary.words("SET once x");
        let mut client = pair.client();
        client.words("RPUSH list c");
        client.words("RPUSH list c");
        client.words("SETNX once y");
        client.words("SET once z");
        pair.expect_counter(COMMAND_DIFF, &diff("rpush"), 2.0);
        pair.expect_counter(COMMAND_DIFF, &diff("setnx"), 1.0);
        pair.quiet();
        assert_eq!(pair.counter(COMMAND_DIFF), 3.0, "{stage}");
        assert_eq!(pair.diffs(), 0.0, "{stage}");
    }
}

#[test]
fn errors_are_compared_by_their_code() {
    for stage in DUAL {
        let pair = calm_with(stage, &[VERBATIM]);
        // "ERR value is not an integer" here, "ERR increment would overflow" there.
        pair.primary.words("SET n word");
        pair.secondary.words("SET n 9223372036854775807");
        let mut client = pair.client();
        assert!(client.words("INCR n").error().starts_with("ERR "));
        pair.quiet();
        assert_eq!(total(&pair), 0.0, "{stage}");
        pair.primary.words("SET other word");
        pair.secondary.words("RPUSH other word");
        assert!(client.words("INCR other").is_error());
        pair.expect_counter(COMMAND_DIFF, &diff("incr"), 1.0);
    }
}

#[test]
fn receivers_of_publish_are_not_compared() {
    let pair = calm(Stage::DualSecondaryDefault);
    let mut direct = pair.primary.client();
    direct.words("SUBSCRIBE news");
    let mut client = pair.client();
    assert_eq!(client.words("PUBLISH news one"), 0.into(), "the default store's count");
    client.pipeline(&[&["PUBLISH", "news", "two"], &["PUBLISH", "news", "three"]]);
    client.pipeline(&[&["MULTI"], &["PUBLISH", "news", "four"], &["EXEC"]]);
    for text in ["one", "two", "three", "four"] {
        assert_eq!(direct.read_reply(), Value::bulks(&["message", "news", text]));
    }
    pair.quiet();
    assert_eq!(total(&pair), 0.0);
}

#[test]
fn a_sample_names_command_and_key_and_shows_values_only_if_asked() {
    for (setting, shown) in [("log_values = false", false), ("log_values = true", true)] {
        let pair = calm_with(Stage::DualSecondaryDefault, &[VERBATIM, setting]);
        pair.primary.words("SET k top-secret-one");
        pair.secondary.words("SET k top-secret-two");
        pair.client().pipeline(&[&["GET", "k"], &["SET", "k", "x"]]);
        pair.expect_counter(DIFF, &diff("pipelined"), 1.0);
        let status = pair.proxy.instance_status(INSTANCE);
        let sample = &status["diff_samples"][0];
        assert_eq!(sample["command"], "get", "{status}");
        let key = sample["key"].as_str().expect("a key");
        assert!(if shown { key == "k" } else { key.starts_with("key(1 bytes") }, "{status}");
        assert_eq!(status.to_string().contains("top-secret"), shown, "{status}");
        assert!(!pair.proxy.log().contains("top-secret"));
    }
}

#[test]
fn a_wider_tolerance_is_a_setting() {
    let pair = calm_with(Stage::DualSecondaryDefault, &[VERBATIM, "ttl_tolerance = \"60s\""]);
    pair.primary.words("SET t v EX 100");
    pair.secondary.words("SET t v EX 130");
    pair.client().pipeline(&[&["TTL", "t"], &["PTTL", "t"]]);
    pair.quiet();
    assert_eq!(total(&pair), 0.0);
}

#[test]
fn large_replies_are_compared_too() {
    let pair = calm_with(Stage::DualSecondaryDefault, &[VERBATIM]);
    for (server, last) in [(&pair.primary, "a"), (&pair.secondary, "b")] {
        server.call(&["SET", "same", &"x".repeat(300_000)]);
        server.call(&["SET", "differs", &("x".repeat(300_000) + last)]);
    }
    let mut client = pair.client();
    let get: &[&str] = &["GET", "same"];
    client.pipeline(&[get, get]);
    pair.quiet();
    assert_eq!(total(&pair), 0.0);
    let get: &[&str] = &["GET", "differs"];
    let replies = client.pipeline(&[get, get]);
    assert!(replies[0].bytes().ends_with(b"b"), "the default store's");
    pair.expect_counter(DIFF, &diff("pipelined"), 1.0);
}

#[test]
fn what_is_not_compared_is_counted_with_the_reason() {
    let pair = Pair::start_in(Stage::DualSecondaryDefault);
    let skipped =
        |reason: &str| pair.proxy.metric("multistore_comparisons_skipped_total", &[("reason", reason)]);
    let mut client = pair.client();
    pair.secondary.words("SET cold 1");
    // The primary gets the value afterwards.
    assert_eq!(client.words("INCR cold"), Value::Int(2));
    poll_until(SOON, "copied", || skipped("derived") == 1.0);
    client.words("SADD set a b c");
    client.words("SPOP set");
    poll_until(SOON, "derived", || skipped("derived") == 3.0);
    assert_eq!(skipped("rule"), 0.0);
    // Of a key that the primary is behind in the right store alone is asked: there would be nothing to compare.
    pair.assert_equal_stores();
    client.pipeline(&[&["SRANDMEMBER", "set"], &["GET", "cold"]]);
    poll_until(SOON, "by rule", || skipped("rule") == 1.0);
}
