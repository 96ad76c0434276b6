//! Read policies, and reads of several keys.

use super::*;

/// A pair whose stores hold different values for `both`, one each of `old` and `new`.
fn split(stage: Stage, settings: &[&str]) -> Pair {
    let pair = calm_with(stage, settings);
    for (server, name) in [(&pair.primary, "new"), (&pair.secondary, "old")] {
        server.words(&format!("SET both {name}"));
        server.words(&format!("SET {name} {name}"));
        server.words(&format!("SADD set {name} shared"));
    }
    pair
}

#[test]
fn policy_default_reads_the_default_store_only() {
    for (stage, both) in [(Stage::DualSecondaryDefault, "old"), (Stage::DualPrimaryDefault, "new")] {
        let pair = split(stage, &["reads = \"default\""]);
        let mut client = pair.client();
        assert_eq!(client.words("GET both"), both.into());
        assert_eq!(client.words("GET old"), if both == "old" { both.into() } else { Value::Nil });
        assert_eq!(client.words("GET new"), if both == "new" { both.into() } else { Value::Nil });
        let piped = client.pipeline(&[&["GET", "both"], &["MGET", "both", "old"]]);
        assert_eq!(piped[0], both.into());
        assert_eq!(pair.other_store(stage).calls_of("get"), 0, "{stage}");
        assert_eq!(pair.other_store(stage).calls_of("mget"), 0, "{stage}");
        assert_eq!(pair.fallbacks() + pair.diffs(), 0.0);
        assert_eq!(pair.of_command(COMMAND_DIFF, "get"), 0.0);
    }
}

#[test]
fn policy_compare_asks_both_and_returns_the_default_stores_reply() {
    for (stage, both) in [(Stage::DualSecondaryDefault, "old"), (Stage::DualPrimaryDefault, "new")] {
        let pair = split(stage, &["reads = \"compare\""]);
        let mut client = pair.client();
        assert_eq!(client.words("GET both"), both.into());
        assert_eq!(client.words("GET nowhere"), Value::Nil);
        let labels = [("instance_name", INSTANCE), ("command", "get")];
        pair.expect_counter(COMMAND_DIFF, &labels, 1.0);
        assert_eq!(client.words("SISMEMBER set shared"), 1.into());
        let piped = client.pipeline(&[&["GET", "both"], &["GET", "nowhere"], &["GET", "both"]]);
        assert_eq!(piped, [both.into(), Value::Nil, both.into()]);
        pair.expect_counter(DIFF, &[("instance_name", INSTANCE), ("command", "pipelined")], 1.0);
        assert_eq!(pair.of_command(COMMAND_DIFF, "get"), 1.0, "{stage}");
        assert_eq!(pair.of_command(COMMAND_DIFF, "sismember"), 0.0, "{stage}");
        assert_eq!(pair.fallbacks(), 0.0, "{stage}");
        assert_eq!(pair.other_store(stage).calls_of("get"), 5, "{stage}");
    }
}

#[test]
fn policies_change_while_the_proxy_runs() {
    let pair = split(Stage::DualSecondaryDefault, &["reads = \"fallback\""]);
    let mut client = pair.client();
    assert_eq!(client.words("GET both"), "new".into());
    pair.proxy.write_config(&pair.proxy.config_text().replace("\"fallback\"", "\"default\""));
    poll_until(SOON, "reads of the default store", || client.words("GET both") == "old".into());
}

#[test]
fn mget_is_merged_element_by_element() {
    for stage in DUAL {
        let pair = split(stage, &[]);
        let mut client = pair.client();
        let mut expect = |line: &str, reply: &[&str], fallbacks: f64| {
            let reply: Vec<Value> =
                reply.iter().map(|one| if one.is_empty() { Value::Nil } else { (*one).into() }).collect();
            assert_eq!(client.words(line), reply.into(), "{stage} {line}");
            assert_eq!(pair.of_command(FALLBACK, "mget"), fallbacks, "{stage} {line}");
        };
        expect("MGET both new", &["new", "new"], 0.0);
        expect("MGET nowhere nothing", &["", ""], 0.0);
        expect("MGET both nowhere new", &["new", "", "new"], 0.0);
        expect("MGET both nowhere old new", &["new", "", "old", "new"], 1.0);
        assert_eq!(pair.fallbacks(), 1.0, "{stage}");
    }
}

#[test]
fn an_mget_of_a_resp3_client_is_merged_too() {
    for stage in DUAL {
        let pair = split(stage, &[]);
        let reply = pair.proxy.client3().words("MGET old nowhere new");
        assert_eq!(reply, vec!["old".into(), Value::Nil, "new".into()].into(), "{stage}");
        assert_eq!(pair.of_command(FALLBACK, "mget"), 1.0, "{stage}");
    }
}

#[test]
fn an_mget_that_one_store_cannot_answer_comes_from_the_other() {
    for down in ["primary", "secondary"] {
        let mut pair = split(Stage::DualPrimaryDefault, &[]);
        if down == "primary" {
            pair.primary.kill()
        } else {
            pair.secondary.kill()
        }
        pair.expect_counter("multistore_store_up", &[("instance_name", INSTANCE), ("store", down)], 0.0);
        let [new, old] = match down {
            "primary" => [Value::Nil, "old".into()],
            _ => ["new".into(), Value::Nil],
        };
        assert_eq!(pair.client().words("MGET new old"), vec![new, old].into(), "{down} is down");
    }
}

#[test]
fn what_is_in_sync_is_read_from_the_secondary_where_the_primary_is_down() {
    let mut pair = calm(Stage::DualPrimaryDefault);
    let mut client = pair.client();
    assert_eq!(client.words("SET key value"), Value::ok());
    pair.assert_equal_stores();
    pair.primary.kill();
    pair.expect_counter("multistore_store_up", &[("instance_name", INSTANCE), ("store", "primary")], 0.0);
    poll_until(SOON, "nobody waits for it any more", || client.words("SET other value").is_error());
    assert_eq!(client.words("GET key"), "value".into());
    let piped = client.pipeline(&[&["GET", "key"], &["STRLEN", "key"]]);
    assert_eq!(piped, ["value".into(), 5.into()]);
}

#[test]
fn reads_of_several_keys_and_of_the_keyspace_are_the_default_stores() {
    for stage in DUAL {
        let pair = split(stage, &[]);
        let mut client = pair.client();
        let default = pair.default_store(stage);
        for read in [
            "EXISTS old new both",
            "TOUCH old new",
            "SUNION set nowhere",
            "SDIFF set nowhere",
            "SINTERCARD 2 set set",
            "DBSIZE",
            "KEYS *",
            "LCS both old",
        ] {
            let (mut reply, mut own) = (client.words(read), default.words(read));
            for value in [&mut reply, &mut own] {
                if let Value::Array(items) = value {
                    items.sort_by_key(|item| item.text());
                }
            }
            assert_eq!(reply, own, "{stage} {read}");
        }
        assert_eq!(pair.fallbacks(), 0.0, "{stage}");
    }
}

#[test]
fn a_reader_always_sees_its_own_writes() {
    for stage in DUAL {
        for settings in [&[][..], &["ack = \"both\""]] {
            let pair = calm_with(stage, settings);
            let mut client = pair.client();
            for turn in 0..300 {
                let value = turn.to_string();
                assert_eq!(client.call(&["SET", "key", &value]), Value::ok());
                assert_eq!(client.words("GET key"), value.as_str().into(), "{stage} {settings:?}");
                assert_eq!(client.words("DEL key"), 1.into());
                assert_eq!(client.words("GET key"), Value::Nil, "{stage} {settings:?}");
            }
            pair.assert_equal_stores();
        }
    }
}

#[test]
fn a_second_command_does_not_wait_behind_a_slow_lone_read() {
    // The primary says nothing at all: with the next command the first goes to the secondary too.
    let secondary = RedisServer::start();
    secondary.words("SET a one");
    secondary.words("SET b two");
    let primary = ScriptedStore::start(|request| match request.name().as_str() {
        "GET" => Answer::Hang,
        _ => Answer::Usual,
    });
    let config = ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url())
        .stage(Stage::DualSecondaryDefault)
        .setting("reply_timeout = \"30s\"");
    let proxy = Proxy::start(config);
    let mut client = proxy.client();
    client.send(&["GET", "a"]);
    client.send(&["GET", "b"]);
    assert_eq!(client.read_replies(2), ["one".into(), "two".into()]);
}

#[test]
fn ack_both_waits_for_the_other_store() {
    for (ack, reached) in [("default", false), ("both", true)] {
        let pair =
            calm_with(Stage::DualSecondaryDefault, &[&format!("ack = \"{ack}\""), "reply_timeout = \"30s\""]);
        let mut client = pair.client();
        assert_eq!(client.words("SET warm up"), Value::ok());
        pair.quiet();
        pair.primary.stop_signal();
        client.send(&["SET", "key", "value"]);
        if reached {
            poll_until(SOON, "the default store has it", || {
                pair.secondary.words("GET key") == "value".into()
            });
            client.expect_silence(std::time::Duration::from_millis(100));
            pair.primary.cont();
        }
        assert_eq!(client.read_reply(), Value::ok(), "{ack}");
        pair.primary.cont();
        pair.assert_equal_stores();
        // With both acknowledged, both have it when the client is told.
        if reached {
            assert_eq!(client.words("SET key other"), Value::ok());
            assert_eq!(pair.primary.words("GET key"), "other".into());
        }
    }
}

#[test]
fn ack_both_still_returns_the_default_stores_reply() {
    for (stage, reply) in [(Stage::DualSecondaryDefault, 21), (Stage::DualPrimaryDefault, 11)] {
        let pair = calm_with(stage, &["ack = \"both\""]);
        pair.primary.words("SET n 10");
        pair.secondary.words("SET n 20");
        assert_eq!(pair.client().words("INCR n"), reply.into(), "{stage}");
    }
}
