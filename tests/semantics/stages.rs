//! "What each stage does", row by row.

use super::*;

/// Replies of the four stages, in their order.
type PerStage<T> = [T; 4];

#[test]
fn a_read_alone_is_answered_by_the_right_store() {
    let mut pair = calm(Stage::SecondaryOnly);
    for at in 0..4 {
        pair.primary.words(&format!("SET both:{at} primary"));
        pair.secondary.words(&format!("SET both:{at} secondary"));
        pair.secondary.words(&format!("SET old:{at} secondary"));
        pair.primary.words(&format!("SET new:{at} primary"));
        pair.primary.words(&format!("RPUSH wrong:{at} x"));
        pair.secondary.words(&format!("SET wrong:{at} secondary"));
    }
    let wrong_type =
        || Value::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into());
    let both: PerStage<Value> = ["secondary".into(), "primary".into(), "primary".into(), "primary".into()];
    let old: PerStage<Value> = ["secondary".into(), "secondary".into(), "secondary".into(), Value::Nil];
    let new: PerStage<Value> = [Value::Nil, "primary".into(), "primary".into(), "primary".into()];
    let wrong: PerStage<Value> = ["secondary".into(), "secondary".into(), "secondary".into(), wrong_type()];
    let fallbacks: PerStage<f64> = [0.0, 2.0, 4.0, 4.0];
    let mut client = pair.client();
    for (at, stage) in Stage::ALL.into_iter().enumerate() {
        pair.stage(stage);
        assert_eq!(client.words(&format!("GET both:{at}")), both[at], "{stage}");
        assert_eq!(client.words(&format!("GET old:{at}")), old[at], "{stage}");
        assert_eq!(client.words(&format!("GET new:{at}")), new[at], "{stage}");
        assert_eq!(client.words(&format!("GET wrong:{at}")), wrong[at], "{stage}");
        assert_eq!(client.words(&format!("GET nowhere:{at}")), Value::Nil, "{stage}");
        assert_eq!(pair.fallbacks(), fallbacks[at], "{stage}");
        assert_eq!(pair.of_command(FALLBACK, "get"), fallbacks[at], "{stage}");
    }
}

#[test]
fn a_write_goes_to_the_stores_of_its_stage_and_the_default_answers() {
    let mut pair = calm(Stage::SecondaryOnly);
    let mut client = pair.client();
    for stage in Stage::ALL {
        pair.stage(stage);
        let [key, list] = ["key", "list"].map(|kind| format!("{kind}:{stage}"));
        assert_eq!(client.words(&format!("SET {key} value")), Value::ok());
        assert_eq!(client.words(&format!("RPUSH {list} a b c")), 3.into());
        assert_eq!(client.words(&format!("LPOP {list}")), "a".into());
        pair.quiet();
        let reached = |server: &RedisServer| server.words(&format!("GET {key}")) == "value".into();
        let dual = stage.is_dual();
        assert!(reached(pair.default_store(stage)), "{stage}");
        assert_eq!(reached(pair.other_store(stage)), dual, "{stage}");
        let left = Value::bulks(if dual { &["b", "c"] } else { &[] });
        pair.eventually(pair.other_store(stage), &format!("LRANGE {list} 0 -1"), &left);
    }
}

#[test]
fn a_differing_write_gets_the_default_stores_reply() {
    for (stage, reply) in [(Stage::DualSecondaryDefault, 21), (Stage::DualPrimaryDefault, 11)] {
        let pair = calm(stage);
        pair.primary.words("SET n 10");
        pair.secondary.words("SET n 20");
        assert_eq!(pair.client().words("INCR n"), reply.into(), "{stage}");
    }
}

#[test]
fn a_pipeline_runs_on_the_stores_of_its_stage_and_the_default_answers() {
    let mut pair = calm_with(Stage::SecondaryOnly, &[VERBATIM]);
    let mut client = pair.client();
    for stage in Stage::ALL {
        pair.stage(stage);
        let key = format!("pipe:{stage}");
        pair.primary.words(&format!("SET who:{stage} primary"));
        pair.secondary.words(&format!("SET who:{stage} secondary"));
        let replies = client.pipeline(&[
            &["SET", &key, "1"],
            &["INCR", &key],
            &["GET", &format!("who:{stage}")],
            &["GET", "nowhere"],
        ]);
        let default = stage.default_store().name();
        assert_eq!(replies, [Value::ok(), 2.into(), default.into(), Value::Nil], "{stage}");
        pair.quiet();
        assert_eq!(pair.default_store(stage).words(&format!("GET {key}")), "2".into());
        let other = if stage.is_dual() { "2".into() } else { Value::Nil };
        pair.eventually(pair.other_store(stage), &format!("GET {key}"), &other);
    }
    assert_eq!(pair.of_command(DIFF, "pipelined"), 2.0, "one per stage in which both were asked");
    assert_eq!(pair.of_command(DIFF, "multi"), 0.0);
}

#[test]
fn in_a_pipeline_the_primarys_miss_is_looked_up_once_it_is_the_default() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    for stage in DUAL {
        pair.stage(stage);
        let key = format!("old:{stage}");
        pair.secondary.words(&format!("SET {key} old"));
        let before = pair.fallbacks();
        let replies = pair.client().pipeline(&[&["GET", &key], &["GET", &key]]);
        assert_eq!(replies[0], "old".into(), "{stage}");
        assert_eq!(replies[1], "old".into(), "{stage}");
        let counted = pair.fallbacks() - before;
        match stage {
            Stage::DualPrimaryDefault => assert_eq!(counted, 2.0),
            _ => assert_eq!(counted, 0.0, "the default store's own reply is no fallback"),
        }
    }
}

#[test]
fn a_transaction_runs_on_the_stores_of_its_stage_and_the_default_answers() {
    let mut pair = calm_with(Stage::SecondaryOnly, &[VERBATIM]);
    let mut client = pair.client();
    for stage in Stage::ALL {
        pair.stage(stage);
        let key = format!("multi:{stage}");
        pair.primary.words(&format!("SET who:{stage} primary"));
        pair.secondary.words(&format!("SET who:{stage} secondary"));
        assert_eq!(client.words("MULTI"), Value::ok());
        assert_eq!(client.words(&format!("SET {key} x")), Value::simple("QUEUED"));
        assert_eq!(client.words(&format!("GET who:{stage}")), Value::simple("QUEUED"));
        let exec = client.words("EXEC");
        assert_eq!(exec, vec![Value::ok(), stage.default_store().name().into()].into(), "{stage}");
        pair.quiet();
        let other = if stage.is_dual() { "x".into() } else { Value::Nil };
        pair.eventually(pair.other_store(stage), &format!("GET {key}"), &other);
    }
    assert_eq!(pair.of_command(DIFF, "multi"), 2.0);
    assert_eq!(pair.of_command(DIFF, "pipelined"), 0.0);
}

#[test]
fn an_unknown_command_goes_to_the_default_store_and_counts_while_dual() {
    let mut pair = calm(Stage::SecondaryOnly);
    let mut client = pair.client();
    let counted: PerStage<f64> = [0.0, 1.0, 2.0, 2.0];
    for (at, stage) in Stage::ALL.into_iter().enumerate() {
        pair.stage(stage);
        let direct = pair.default_store(stage).words("NOSUCH a b");
        for server in [&pair.primary, &pair.secondary] {
            server.words("CONFIG RESETSTAT");
        }
        assert_eq!(client.words("NOSUCH a b"), direct, "{stage}");
        assert!(direct.error().starts_with("ERR unknown command 'NOSUCH'"));
        assert_eq!(pair.missing(), counted[at], "{stage}");
        assert_eq!(pair.default_store(stage).info("stats", "unexpected_error_replies"), Some("0".into()));
        assert_eq!(errors_of(pair.default_store(stage)), 1, "{stage}");
        assert_eq!(errors_of(pair.other_store(stage)), 0, "{stage}");
        client.words("INFO server");
        assert_eq!(pair.missing(), counted[at], "INFO never counts");
    }
}

fn errors_of(server: &RedisServer) -> u64 {
    server.info("stats", "total_error_replies").and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn ping_and_echo_are_answered_while_the_default_store_is_there() {
    for stage in DUAL {
        let mut pair = calm(stage);
        let mut client = pair.client();
        for (line, reply) in
            [("PING", Value::simple("PONG")), ("PING hi", "hi".into()), ("ECHO hi", "hi".into())]
        {
            assert_eq!(client.words(line), reply, "{stage}");
        }
        match stage {
            Stage::DualSecondaryDefault => pair.primary.kill(),
            _ => pair.secondary.kill(),
        }
        let other = stage.default_store().other().name();
        pair.expect_counter("multistore_store_up", &[("instance_name", INSTANCE), ("store", other)], 0.0);
        for (line, reply) in [("PING", Value::simple("PONG")), ("ECHO hi", "hi".into())] {
            assert_eq!(client.words(line), reply, "{stage}");
        }
        match stage {
            Stage::DualSecondaryDefault => pair.secondary.kill(),
            _ => pair.primary.kill(),
        }
        let default = stage.default_store().name();
        pair.expect_counter("multistore_store_up", &[("instance_name", INSTANCE), ("store", default)], 0.0);
        let reply = client.words("PING");
        assert!(reply.is_error() && reply.error().starts_with("MULTISTORE"), "{stage}: {reply:?}");
    }
}

#[test]
fn admin_commands_go_to_the_default_store_alone() {
    let mut pair = calm(Stage::SecondaryOnly);
    let mut client = pair.client();
    for stage in Stage::ALL {
        pair.stage(stage);
        let size =
            format!("{}", 100 + stage.flags().use_both as i32 * 10 + stage.flags().primary_default as i32);
        assert_eq!(client.call(&["CONFIG", "SET", "hash-max-listpack-entries", &size]), Value::ok());
        let read = |server: &RedisServer| {
            server.words("CONFIG GET hash-max-listpack-entries").items()[1].text() == size
        };
        assert!(read(pair.default_store(stage)), "{stage}");
        assert!(!read(pair.other_store(stage)), "{stage}");
        let run_id = pair.default_store(stage).info("server", "run_id").expect("a run_id");
        assert!(client.words("INFO server").text().contains(&run_id), "{stage}");
    }
}

#[test]
fn blocking_pops_take_from_the_stores_of_their_stage() {
    let mut pair = calm(Stage::SecondaryOnly);
    let mut client = pair.client();
    for stage in Stage::ALL {
        pair.stage(stage);
        let key = format!("list:{stage}");
        client.words(&format!("RPUSH {key} a b"));
        assert_eq!(client.words(&format!("BLPOP {key} 1")), Value::bulks(&[&key, "a"]), "{stage}");
        pair.quiet();
        assert_eq!(pair.default_store(stage).words(&format!("LRANGE {key} 0 -1")), Value::bulks(&["b"]));
        let other = Value::bulks(if stage.is_dual() { &["b"] } else { &[] });
        pair.eventually(pair.other_store(stage), &format!("LRANGE {key} 0 -1"), &other);
        // Nothing comes: the reply of a store whose time is up.
        let direct = pair.default_store(stage).client().words("BLMOVE nothing to LEFT LEFT 0.01");
        assert_eq!(client.words("BLMOVE nothing to LEFT LEFT 0.01"), direct, "{stage}");
    }
}

#[test]
fn published_messages_reach_the_subscribers_of_every_store_in_use() {
    let mut pair = calm(Stage::SecondaryOnly);
    let mut client = pair.client();
    let mut direct = [pair.primary.client(), pair.secondary.client()];
    for subscriber in &mut direct {
        subscriber.words("SUBSCRIBE news");
    }
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut through = pair.client();
        assert_eq!(through.words("SUBSCRIBE news").items()[2], 1.into());
        client.call(&["PUBLISH", "news", stage.name()]);
        let message = Value::bulks(&["message", "news", stage.name()]);
        assert_eq!(through.read_reply(), message, "{stage}");
        for (store, subscriber) in multistore::stage::StoreId::ALL.into_iter().zip(&mut direct) {
            if stage.is_dual() || store == stage.default_store() {
                assert_eq!(subscriber.read_reply(), message, "{stage} {store}");
            }
        }
    }
    for subscriber in &mut direct {
        assert_eq!(
            subscriber.words("UNSUBSCRIBE news").items()[0],
            "unsubscribe".into(),
            "nothing came twice"
        );
    }
}

#[test]
fn monitor_shows_the_default_store() {
    let mut pair = calm(Stage::SecondaryOnly);
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut monitor = pair.client();
        assert_eq!(monitor.words("MONITOR"), Value::ok(), "{stage}");
        let (default, other) = (pair.default_store(stage), pair.other_store(stage));
        other.call(&["SET", "seen", "other"]);
        default.call(&["SET", "seen", "default"]);
        let line = loop {
            let line = monitor.read_reply().text();
            if line.contains("\"seen\"") {
                break line;
            }
        };
        assert!(line.contains("\"default\""), "{stage}: {line}");
        assert_eq!(monitor.words("QUIT"), Value::ok(), "{stage}");
    }
}

#[test]
fn every_series_of_an_instance_is_there_from_the_start() {
    let pair = calm(Stage::SecondaryOnly);
    let labels = |command| [("instance_name", INSTANCE), ("command", command)];
    for command in ["get", "mget", "hgetall", "exists", "ttl", "type", "zrangebyscore", "sscan"] {
        assert_eq!(pair.proxy.metric_opt(FALLBACK, &labels(command)), Some(0.0), "{command}");
    }
    for command in ["pipelined", "multi"] {
        assert_eq!(pair.proxy.metric_opt(DIFF, &labels(command)), Some(0.0), "{command}");
    }
    assert_eq!(pair.proxy.metric_opt(MISSING, &labels("other")), Some(0.0));
    for command in ["set", "get", "del", "eval"] {
        assert_eq!(pair.proxy.metric_opt(COMMAND_DIFF, &labels(command)), Some(0.0), "{command}");
    }
    for store in ["primary", "secondary"] {
        let labels = [("instance_name", INSTANCE), ("store", store)];
        assert_eq!(pair.proxy.metric_opt(LOST_WRITES, &labels), Some(0.0), "{store}");
    }
}
