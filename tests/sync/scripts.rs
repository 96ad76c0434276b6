//! Scripts that write keys which they do not declare: the stores tell which keys have changed.

use super::*;

/// Chooses, so that it is copied, and computes the name of what it writes.
const COUNT: &str = "redis.call('TIME') return redis.call('INCR', KEYS[1] .. ':' .. ARGV[1])";

// === impl Pair ===

impl Pair {
    /// In `stage`, everything in sync, both stores telling what changes.
    #[track_caller]
    fn listening(stage: Stage) -> Pair {
        let mut pair = Pair::eager(DUAL[0]);
        assert!(!pair.client().call(&["EVAL", COUNT, "1", "first", "0"]).is_error());
        poll_until(REPAIRED, "both stores are listened to", || {
            let sync = pair.sync();
            let listens = sync["listens_to"].as_array().is_some_and(|stores| stores.len() == 2);
            listens && sync["undeclared_keys"] == "settled"
        });
        pair.stage(stage);
        pair.assert_converges();
        pair
    }

    /// How often a store was asked for a page of its keyspace: a walk does nothing else.
    fn pages(&self) -> Vec<String> {
        let stats = |server: &RedisServer| server.words("INFO commandstats").text();
        let pages = |stats: String| stats.lines().find(|line| line.starts_with("cmdstat_scan:")).map(calls);
        [&self.primary, &self.secondary].map(|server| pages(stats(server)).unwrap_or_default()).to_vec()
    }

    /// Waits until what scripts have written is known, and copied.
    #[track_caller]
    fn wait_heard(&self) {
        poll_until(REPAIRED, "all is heard", || self.sync()["undeclared_keys"] == "settled");
        self.wait_settled();
    }
}

/// The first field of a line of commandstats.
fn calls(line: &str) -> String {
    line.split(',').next().unwrap_or_default().to_owned()
}

#[test]
fn keys_that_a_script_computes_are_copied_and_nothing_is_walked() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let pages = pair.pages();
        let mut clients = [pair.client(), pair.proxy.client3()];
        clients[1].words("SELECT 3");
        for round in 1..=50 {
            let name = (round % 5).to_string();
            for client in &mut clients {
                assert_eq!(
                    client.call(&["EVAL", COUNT, "1", "n", &name]),
                    ((round + 4) / 5).into(),
                    "{stage}"
                );
                client.words(&format!("SET other:{round} x"));
            }
        }
        pair.wait_heard();
        pair.assert_converges();
        assert_eq!(pair.pages(), pages, "{stage}: nothing was walked");
    }
}

#[test]
fn what_a_script_has_just_computed_is_read_and_nothing_older() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let mut client = pair.client();
        for round in 1..=100 {
            let key = format!("n:{}", round % 3);
            // Both stores have a value of before.
            assert_eq!(client.call(&["SET", &key, "0"]), Value::ok());
            assert_eq!(client.call(&["EVAL", COUNT, "1", "n", &(round % 3).to_string()]), 1.into());
            if round % 2 == 0 {
                let replies = client.pipeline(&[&["MULTI"], &["GET", &key], &["EXEC"]]);
                assert_eq!(replies[2].items()[0], "1".into(), "{stage}, round {round}");
            }
            assert_eq!(client.call(&["GET", &key]), "1".into(), "{stage}, round {round}");
            let replies = client.pipeline(&[&["GET", &key], &["INCR", &key], &["MGET", &key, "none"]]);
            assert_eq!(replies[..2], ["1".into(), 2.into()], "{stage}, round {round}");
            assert_eq!(replies[2].items()[0], "2".into(), "{stage}, round {round}");
            // What carries the value on.
            assert_eq!(client.call(&["COPY", &key, "carried", "REPLACE"]), 1.into());
            assert_eq!(client.words("GET carried"), "2".into(), "{stage}, round {round}");
        }
        pair.wait_heard();
        pair.assert_converges();
        assert_eq!(pair.diffs(), 0.0, "{stage}");
    }
}

/// In all the ways in which scripts reach a store.
#[test]
fn whoever_runs_it_the_other_store_gets_what_it_computes() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let pages = pair.pages();
        let mut client = pair.client();
        // By a name whose source has never passed here.
        let sha = pair.default_store(stage).call(&["SCRIPT", "LOAD", &format!("{COUNT} -- unseen")]).text();
        assert_eq!(client.call(&["EVALSHA", &sha, "1", "sha", "1"]), 1.into(), "{stage}");
        // Without any declared key.
        let keyless = "redis.call('TIME') return redis.call('RPUSH', ARGV[1], 'a')";
        assert_eq!(client.call(&["EVAL", keyless, "0", "keyless"]), 1.into(), "{stage}");
        // As a function.
        let library = "#!lua name=lib\nredis.register_function('count', function(keys, args) \
                       return redis.call('INCR', keys[1] .. args[1]) end)";
        assert!(!client.call(&["FUNCTION", "LOAD", library]).is_error());
        assert_eq!(client.call(&["FCALL", "count", "1", "function", "1"]), 1.into(), "{stage}");
        // Failing after it has written.
        let fails = "redis.call('INCR', KEYS[1] .. ARGV[1]) return redis.call('TIME', 'wrong')";
        assert!(client.call(&["EVAL", fails, "1", "fails", "1"]).is_error(), "{stage}");
        // In transactions, one in a lane and one on a connection of its own.
        let replies =
            client.pipeline(&[&["MULTI"], &["EVAL", COUNT, "1", "multi", "1"], &["SPOP", "none"], &["EXEC"]]);
        assert_eq!(replies[3].items()[0], 1.into(), "{stage}");
        assert_eq!(client.words("WATCH watched"), Value::ok());
        let replies = client.pipeline(&[&["MULTI"], &["EVAL", COUNT, "1", "watch", "1"], &["EXEC"]]);
        assert_eq!(replies[2].items()[0], 1.into(), "{stage}");
        // Too large for a lane.
        let large = format!("{COUNT} -- {}", "x".repeat(300 * 1024));
        assert_eq!(client.call(&["EVAL", &large, "1", "large", "1"]), 1.into(), "{stage}");
        pair.wait_heard();
        for line in ["GET sha:1", "GET function1", "GET fails1", "GET multi:1", "GET watch:1", "GET large:1"]
        {
            pair.assert_both(line, "1");
        }
        assert_eq!(pair.pages(), pages, "{stage}: nothing was walked");
    }
}

/// A script that cannot choose runs on both stores once everything is in sync; where one of them does not know it, what it
/// would have computed is repaired.
#[test]
fn a_script_that_one_store_does_not_know_leaves_the_same() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let mut client = pair.client();
        let plain = "return redis.call('INCR', KEYS[1] .. ':' .. ARGV[1])";
        let sha = client.call(&["SCRIPT", "LOAD", plain]).text();
        assert_eq!(client.call(&["EVALSHA", &sha, "1", "n", "1"]), 1.into(), "{stage}");
        assert_eq!(pair.other_store(stage).words("SCRIPT FLUSH"), Value::ok());
        assert_eq!(client.call(&["EVALSHA", &sha, "1", "n", "1"]), 2.into(), "{stage}");
        pair.wait_heard();
        pair.assert_both("GET n:1", "2");
    }
}

#[test]
fn scripts_that_only_look_change_nothing() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let mut client = pair.client();
        client.words("SET n:1 7");
        let copies = pair.sync()["copies_done"].clone();
        let reads = "return redis.call('GET', KEYS[1] .. ':' .. ARGV[1])";
        for _ in 0..20 {
            assert_eq!(client.call(&["EVAL_RO", reads, "1", "n", "1"]), "7".into(), "{stage}");
            assert_eq!(client.call(&["EVAL", reads, "1", "n", "1"]), "7".into(), "{stage}");
        }
        pair.wait_heard();
        assert_eq!(pair.sync()["copies_done"], copies, "{stage}");
    }
}

/// Databases are emptied, and keys moved, beside scripts that compute keys.
#[test]
fn databases_are_emptied_and_keys_moved_beside_such_scripts() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let mut client = pair.client();
        for round in 0..10 {
            let name = round.to_string();
            client.call(&["EVAL", COUNT, "1", "n", &name]);
            client.pipeline(&[&["MULTI"], &["EVAL", COUNT, "1", "m", &name], &["FLUSHDB"], &["EXEC"]]);
            client.call(&["EVAL", COUNT, "1", "n", &name]);
            client.call(&["EVAL", COUNT, "1", "moved", &name]);
            client.call(&["MOVE", &format!("moved:{name}"), "2"]);
            client.call(&["COPY", &format!("n:{name}"), &format!("copy:{name}"), "DB", "5"]);
        }
        pair.wait_heard();
        pair.assert_converges();
    }
}

#[test]
fn moves_between_databases_need_no_walk() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let pages = pair.pages();
        let mut client = pair.client();
        for round in 0..20 {
            let (key, copy) = (format!("key:{round}"), format!("copy:{round}"));
            client.call(&["SET", &key, "value"]);
            // Not everything is in sync for a moment.
            client.call(&["EVAL", COUNT, "1", "n", "1"]);
            client.call(&["RPUSH", "numbers", "3", "1", "2"]);
            assert_eq!(client.call(&["COPY", &key, &copy, "DB", "4"]), 1.into(), "{stage}");
            assert_eq!(client.call(&["MOVE", &key, "2"]), 1.into(), "{stage}");
            let sorted = client.call(&["SORT", "numbers", "BY", "weight_*", "GET", "#", "STORE", "sorted"]);
            assert_eq!(sorted, (3 * (round + 1)).into(), "{stage}");
            let replies = client.pipeline(&[
                &["MULTI"],
                &["SELECT", "6"],
                &["SET", &key, "x"],
                &["SELECT", "0"],
                &["EXEC"],
            ]);
            assert!(!replies[4].is_error(), "{stage}: {replies:?}");
        }
        pair.wait_heard();
        pair.assert_converges();
        assert_eq!(pair.pages(), pages, "{stage}: nothing was walked");
    }
}

#[test]
fn databases_are_exchanged_with_what_is_known_of_them() {
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let mut client = pair.client();
        for round in 0..5 {
            client.call(&["SET", "mark", &round.to_string()]);
            client.call(&["EVAL", COUNT, "1", "n", "1"]);
            assert_eq!(client.words("SWAPDB 0 1"), Value::ok(), "{stage}");
            client.call(&["EVAL", COUNT, "1", "n", "2"]);
        }
        pair.wait_heard();
        pair.assert_converges();
    }
}

/// What only the secondary has would be taken for removed.
#[test]
fn a_cold_primary_refuses_to_exchange_databases() {
    let pair = Pair::start_in(Stage::DualPrimaryDefault);
    pair.secondary.words("SET cold value");
    let mut client = pair.client();
    client.words("SET warm value");
    let leaves = "redis.call('SELECT', 3) redis.call('SET', KEYS[1], 1)";
    for refused in [
        client.words("SWAPDB 0 1"),
        client.pipeline(&[&["MULTI"], &["SWAPDB", "0", "1"], &["EXEC"]])[2].clone(),
        client.pipeline(&[&["MULTI"], &["SWAPDB", "0", "1"], &["EVAL", leaves, "1", "key"], &["EXEC"]])[3]
            .clone(),
    ] {
        assert!(format!("{refused:?}").contains("MULTISTORE SWAPDB is refused"), "{refused:?}");
    }
    assert_eq!(client.words("GET cold"), "value".into());
    pair.wait_settled();
    assert_eq!(pair.secondary.words("GET cold"), "value".into());
    assert_eq!(client.words("GET warm"), "value".into());
}

/// A server that does not tell what has changed: both stores are walked, and until then nothing old is read.
#[test]
fn where_nobody_tells_the_stores_are_walked() {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        for server in [&pair.primary, &pair.secondary] {
            assert_eq!(server.words("ACL SETUSER default -client|tracking"), Value::ok());
        }
        let mut client = pair.client();
        client.words("SET n:1 0");
        assert_eq!(client.call(&["EVAL", COUNT, "1", "n", "1"]), 1.into(), "{stage}");
        assert_eq!(client.words("GET n:1"), "1".into(), "{stage}");
        pair.wait_heard();
        pair.assert_both("GET n:1", "1");
        assert_eq!(pair.sync()["listens_to"].as_array().map(Vec::len), Some(0), "{stage}");
    }
}

/// A store tells which keys have changed, but not in which database.
#[test]
fn a_script_that_selects_another_database_has_both_stores_walked() {
    let selects = "redis.call('SELECT', 3) redis.call('SET', KEYS[1], redis.call('TIME')[2])";
    for stage in DUAL {
        let pair = Pair::listening(stage);
        let mut client = pair.client();
        client.call(&["EVAL", selects, "1", "alone"]);
        client.words("WATCH guard");
        client.pipeline(&[&["MULTI"], &["SET", "here", "1"], &["EVAL", selects, "1", "together"], &["EXEC"]]);
        assert_eq!(client.words("EXISTS alone together"), 0.into(), "{stage}");
        pair.wait_heard();
        client.words("SELECT 3");
        assert_eq!(client.words("EXISTS alone together"), 2.into(), "{stage}");
        pair.assert_converges();
    }
}

/// Where each store stops at another command of a script, with errors that count as the same, one has written more.
#[test]
fn a_script_that_fails_at_different_places_parts_nobody() {
    for stage in DUAL {
        let pair = Pair::start_with(stage, &[r#"blocking_poll = "1m""#]);
        let mut client = pair.client();
        assert_eq!(client.words("SET key old"), Value::ok());
        let fails = "redis.call('SET', KEYS[1], 'new') return redis.error_reply('ERR on purpose')";
        pair.default_store(stage).words("ACL SETUSER default -set");
        let alone = client.call(&["EVAL", fails, "1", "key"]);
        let together = client.pipeline(&[&["MULTI"], &["EVAL", fails, "1", "other"], &["EXEC"]]);
        pair.default_store(stage).words("ACL SETUSER default +set");
        assert!(alone.error().contains("can't run this command"), "{stage}: {alone:?}");
        assert!(together[2].items()[0].is_error(), "{stage}: {together:?}");
        pair.assert_converges();
        pair.assert_both("GET key", "old");
        pair.assert_both("EXISTS other", 0);
    }
}

#[test]
fn a_script_that_fails_with_the_same_words_at_another_command_parts_nobody() {
    const LINE: &str = "redis.call('APPEND', KEYS[1], 'x') redis.call('INCR', KEYS[2])";
    for stage in DUAL {
        let lacking = |command| RedisServer::start_with(&["--rename-command", command, ""]);
        // One of them writes before it fails, the other one does not.
        let pair = Pair::over(lacking("INCR"), lacking("APPEND"), stage, &EAGER);
        let mut client = pair.client();
        let eval = ["EVAL", LINE, "2", "text", "number"];
        for (at, transaction) in [false, true].into_iter().enumerate() {
            for line in ["SET text a", "SET number 1"] {
                client.words(line);
            }
            pair.assert_converges();
            let reply = match transaction {
                false => client.call(&eval),
                true => client.pipeline(&[&["MULTI"], &eval, &["EXEC"]]).pop().expect("EXEC has a reply"),
            };
            assert!(format!("{reply:?}").contains("Unknown Redis command"), "{stage}: {reply:?}");
            let told =
                |server: &RedisServer| server.info("commandstats", "cmdstat_eval").map(|stats| calls(&stats));
            poll_until(SOON, "both have run it", || {
                [&pair.primary, &pair.secondary]
                    .iter()
                    .all(|server| told(server) == Some(format!("calls={}", at + 1)))
            });
            let text = if stage == Stage::DualPrimaryDefault { "ax" } else { "a" };
            pair.assert_both("GET text", text);
        }
    }
}
