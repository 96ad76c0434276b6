//! Stores that are the same, that show one database, that refuse, that are down.

use super::*;

fn failures(pair: &Pair, store: &str) -> f64 {
    pair.proxy.metric(LOST_WRITES, &[("instance_name", INSTANCE), ("store", store)])
}

/// Waits until the proxy knows that the default or the other store of `stage` is down, having killed it.
fn kill(pair: &mut Pair, store: multistore::stage::StoreId) {
    match store {
        multistore::stage::StoreId::Primary => pair.primary.kill(),
        multistore::stage::StoreId::Secondary => pair.secondary.kill(),
    }
    let labels = [("instance_name", INSTANCE), ("store", store.name())];
    pair.expect_counter("multistore_store_up", &labels, 0.0);
}

#[test]
fn one_server_as_both_stores_is_not_dual() {
    let server = RedisServer::start();
    // By run_id, not by name.
    for other in [server.url(), server.unix_url(), format!("redis://localhost:{}", server.port())] {
        let config = ProxyConfig::new(INSTANCE, &server.url(), &other);
        let mut proxy = Proxy::start(config);
        let mut client = proxy.client();
        for (stage, seen) in
            [(Stage::DualSecondaryDefault, "secondary_only"), (Stage::DualPrimaryDefault, "primary_only")]
        {
            let text = proxy.config_text();
            proxy.write_stage_of(INSTANCE, stage);
            assert_ne!(text, proxy.config_text());
            let labels = [("instance_name", INSTANCE)];
            let flips = if stage == Stage::DualSecondaryDefault { 1.0 } else { 2.0 };
            poll_until(SOON, "the flip", || proxy.metric("multistore_flips_total", &labels) == flips);
            let status = proxy.instance_status(INSTANCE);
            assert_eq!(status["stage"], seen, "{status}");
            assert_eq!(status["same_server"], true, "{status}");
            client.words("DEL n list");
            assert_eq!(client.words("INCR n"), 1.into(), "{other} {stage}");
            assert_eq!(client.pipeline(&[&["RPUSH", "list", "a"], &["RPUSH", "list", "b"]])[1], 2.into());
            assert_eq!(client.pipeline(&[&["MULTI"], &["INCR", "n"], &["EXEC"]])[2], vec![2.into()].into());
            assert_eq!(server.words("GET n"), "2".into(), "applied once");
        }
        assert!(proxy.log().contains("WARN"), "{}", proxy.log());
        assert!(proxy.log().contains("same server"), "{}", proxy.log());
        assert_eq!(proxy.terminate(), Some(0));
    }
}

#[test]
fn two_databases_of_one_server_are_two_stores() {
    let server = RedisServer::start();
    let config = ProxyConfig::new(INSTANCE, &format!("{}/1", server.url()), &format!("{}/2", server.url()));
    let proxy = Proxy::start(config.stage(Stage::DualSecondaryDefault));
    let mut client = proxy.client();
    assert_eq!(client.words("SET key value"), Value::ok());
    let mut direct = server.client();
    for (db, there) in [("0", false), ("1", true), ("2", true)] {
        direct.words(&format!("SELECT {db}"));
        let wanted = if there { "value".into() } else { Value::Nil };
        poll_until(SOON, &format!("key in database {db}: {there}"), || direct.words("GET key") == wanted);
    }
}

#[test]
fn a_store_url_with_a_database_shows_that_one_only() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    for server in [&primary, &secondary] {
        server.words("SET outside stays");
    }
    let urls = (format!("{}/3", primary.url()), format!("{}/5", secondary.url()));
    let mut proxy = Proxy::start(ProxyConfig::new(INSTANCE, &urls.0, &urls.1));
    let direct = |stage: Stage| {
        let (server, db) = match stage.default_store() {
            multistore::stage::StoreId::Primary => (&primary, "3"),
            multistore::stage::StoreId::Secondary => (&secondary, "5"),
        };
        let mut client = server.client();
        client.call(&["SELECT", db]);
        client
    };
    let mut client = proxy.client();
    for stage in Stage::ALL {
        proxy.stage(stage);
        assert_eq!(client.words("SELECT 0"), Value::ok(), "{stage}");
        assert_eq!(client.words("SET inside x"), Value::ok());
        assert_eq!(client.words("GET outside"), Value::Nil, "{stage}");
        assert_eq!(direct(stage).words("GET inside"), "x".into(), "{stage}");
        assert!(client.words("CLIENT INFO").text().contains(" db=0 "), "{stage}");
        for db in ["1", "3", "5", "15", "99"] {
            let reply = client.call(&["SELECT", db]);
            assert_eq!(reply, Value::Error("ERR DB index is out of range".into()), "{stage} {db}");
        }
        for line in ["SWAPDB 0 1", "MOVE inside 1", "COPY inside other DB 1"] {
            assert!(client.words(line).is_error(), "{stage} {line}");
            let multi = client.pipeline(&[&["MULTI"], &line.split(' ').collect::<Vec<_>>(), &["EXEC"]]);
            assert!(multi[2].is_error(), "{stage} {line} in MULTI: {multi:?}");
        }
        let select = client.pipeline(&[&["MULTI"], &["SELECT", "3"], &["SET", "inside", "y"], &["EXEC"]]);
        assert!(
            select.last().is_some_and(|exec| exec.is_error() || exec.items()[0].is_error()),
            "{stage} {select:?}"
        );
        assert_eq!(direct(stage).words("DBSIZE"), 1.into(), "{stage}: nothing went elsewhere");
        // FLUSHALL means FLUSHDB: alone, in a pipeline, in MULTI, and on a connection of the client's own.
        let flushes: &[&[&str]] = &[
            &["FLUSHALL"],
            &["FLUSHALL ASYNC"],
            &["FLUSHALL SYNC", "PING"],
            &["MULTI", "FLUSHALL", "EXEC"],
            &["WATCH inside", "FLUSHALL", "UNWATCH"],
            &["WATCH inside", "MULTI", "FLUSHALL SYNC", "EXEC"],
            &["EVAL return(redis.call('FLUSHDB')) 0"],
        ];
        for flush in flushes {
            client.words("SET inside x");
            for line in *flush {
                assert!(!client.words(line).is_error(), "{stage} {flush:?} {line}");
            }
            assert_eq!(direct(stage).words("DBSIZE"), 0.into(), "{stage} {flush:?}");
            for server in [&primary, &secondary] {
                assert_eq!(server.words("GET outside"), "stays".into(), "{stage} {flush:?}");
            }
        }
    }
}

#[test]
fn a_write_that_the_default_store_refuses_is_an_error() {
    for stage in DUAL {
        let pair = calm(stage);
        let mut client = pair.client();
        client.words("SET before x");
        pair.quiet();
        pair.default_store(stage).words("CONFIG SET maxmemory 1");
        assert!(client.words("SET key value").error().starts_with("OOM"), "{stage}");
        let piped = client.pipeline(&[&["SET", "key", "value"], &["GET", "before"]]);
        assert!(piped[0].error().starts_with("OOM"), "{stage}");
        assert_eq!(piped[1], "x".into(), "{stage}");
        // And the other store ends up without it. (A store without memory queues nothing in a MULTI, by which
        // keys are looked at: the copy waits for it.)
        pair.default_store(stage).words("CONFIG SET maxmemory 0");
        pair.eventually(pair.other_store(stage), "GET key", &Value::Nil);
    }
}

#[test]
fn a_write_that_the_other_store_refuses_is_counted_and_nobody_notices() {
    for stage in DUAL {
        let pair = calm(stage);
        let mut client = pair.client();
        client.words("SET before x");
        pair.quiet();
        let other = stage.default_store().other().name();
        assert_eq!(failures(&pair, other), 0.0);
        pair.other_store(stage).words("CONFIG SET maxmemory 1");
        assert_eq!(client.words("SET key value"), Value::ok(), "{stage}");
        poll_until(SOON, "the failure is counted", || failures(&pair, other) >= 1.0);
        assert_eq!(client.words("GET key"), "value".into(), "{stage}: read where it is");
        assert_eq!(client.words("SET key again"), Value::ok(), "{stage}");
        poll_until(SOON, "the failure is counted", || failures(&pair, other) >= 2.0);
        let piped = client.pipeline(&[&["MULTI"], &["SET", "a", "b"], &["EXEC"], &["GET", "key"]]);
        assert_eq!(piped[2..], [vec![Value::ok()].into(), "again".into()], "{stage}");
    }
}

#[test]
fn the_other_store_being_down_is_counted_and_nobody_notices() {
    for stage in DUAL {
        let mut pair = calm(stage);
        let mut client = pair.client();
        let other = stage.default_store().other();
        client.words("SET before x");
        pair.quiet();
        kill(&mut pair, other);
        for line in ["SET key value", "SET second value", "DEL second"] {
            assert!(!client.words(line).is_error(), "{stage} {line}");
        }
        assert!(failures(&pair, other.name()) >= 3.0, "{stage}");
        assert_eq!(client.words("GET key"), "value".into(), "{stage}");
        assert_eq!(client.words("GET before"), "x".into(), "{stage}");
        assert_eq!(client.words("MGET key nowhere"), vec!["value".into(), Value::Nil].into(), "{stage}");
        let piped = client.pipeline(&[&["INCR", "n"], &["GET", "n"], &["MULTI"], &["INCR", "n"], &["EXEC"]]);
        assert_eq!(piped[4], vec![2.into()].into(), "{stage}");
        assert_eq!(client.words("BLPOP nothing 0.05"), Value::Nil, "{stage}");
        assert_eq!(client.words("WATCH n"), Value::ok(), "{stage}");
        assert_eq!(client.pipeline(&[&["MULTI"], &["INCR", "n"], &["EXEC"]])[2], vec![3.into()].into());
        let mut subscriber = pair.client();
        subscriber.words("SUBSCRIBE news");
        client.words("PUBLISH news hello");
        assert_eq!(subscriber.read_reply(), Value::bulks(&["message", "news", "hello"]), "{stage}");
    }
}

#[test]
fn the_default_store_being_down_is_an_error_at_once_and_the_other_gets_nothing() {
    for stage in DUAL {
        let mut pair = calm_with(stage, &["reply_timeout = \"30s\""]);
        let mut client = pair.client();
        kill(&mut pair, stage.default_store());
        let before = pair.other_store(stage).info("stats", "total_commands_processed");
        let since = std::time::Instant::now();
        for line in [
            "SET key value",
            "INCR key",
            "RPUSH list a",
            "PUBLISH news x",
            "FLUSHALL",
            "EVAL return(1) 1 key",
        ] {
            let reply = client.words(line);
            assert!(
                reply.is_error() && reply.error().starts_with("MULTISTORE "),
                "{stage} {line}: {reply:?}"
            );
        }
        let piped = client.pipeline(&[&["SET", "a", "b"], &["MULTI"], &["SET", "c", "d"], &["EXEC"]]);
        assert!(piped.iter().all(|reply| reply.is_error()), "{stage}: {piped:?}");
        assert!(client.words("BLPOP list 5").is_error(), "{stage}");
        assert!(client.words("WATCH key").is_error(), "{stage}");
        assert!(since.elapsed() < SOON, "{stage}: at once");
        assert_eq!(pair.other_store(stage).words("DBSIZE"), 0.into(), "{stage}");
        let _ = before;
        match stage.default_store() {
            multistore::stage::StoreId::Primary => pair.primary.start_again(Data::Lost),
            multistore::stage::StoreId::Secondary => pair.secondary.start_again(Data::Lost),
        }
        poll_until(SOON, "it heals by itself", || client.words("SET key value") == Value::ok());
        pair.eventually(pair.other_store(stage), "GET key", &"value".into());
    }
}
