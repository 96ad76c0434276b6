//! Stores that refuse.

use super::*;

#[test]
fn a_loading_store_s_own_error_reaches_the_client_until_it_has_loaded() {
    const LOADING: &str = "LOADING Redis is loading the dataset in memory";
    let loading = |request: &Request| match request.name().as_str() {
        "PING" | "SET" | "GET" => Answer::bytes(format!("-{LOADING}\r\n")),
        _ => Answer::Usual,
    };
    let secondary = ScriptedStore::start(loading);
    let primary = RedisServer::start();
    let config =
        TIMES.iter().fold(ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url()), |config, line| {
            config.setting(line)
        });
    let proxy = Proxy::start_not_ready(config);
    let mut client = proxy.client();
    poll_until(SOON, "the store's own error", || client.words("SET a 1").error() == LOADING);
    assert_eq!(secondary.count_of("SET"), 0, "a loading store gets no requests");
    secondary.script(|_| Answer::Usual);
    poll_until(SOON, "loaded", || client.words("SET a 1") == Value::ok());
}

#[test]
fn what_the_default_store_refuses_the_client_sees_and_what_the_other_refuses_is_counted() {
    for stage in [Stage::DualSecondaryDefault, Stage::DualPrimaryDefault] {
        let pair = Pair::start_with(stage, &TIMES);
        let mut client = pair.client();
        let failures = |pair: &Pair| {
            pair.proxy.metric(
                "multistore_mirror_write_failures_total",
                &[("store", stage.default_store().other().name())],
            )
        };
        // A replica whose master is away is read-only.
        let dead = free_port().to_string();
        pair.default_store(stage).call(&["REPLICAOF", "127.0.0.1", &dead]);
        assert!(client.words("SET a 1").error().starts_with("READONLY"), "{stage}");
        pair.default_store(stage).words("REPLICAOF NO ONE");
        assert_eq!(client.words("SET a 1"), Value::ok());

        let before = failures(&pair);
        pair.other_store(stage).call(&["REPLICAOF", "127.0.0.1", &dead]);
        assert_eq!(client.words("SET a 2"), Value::ok(), "{stage}");
        poll_until(SOON, "a counted failure", || failures(&pair) > before);
        pair.other_store(stage).words("REPLICAOF NO ONE");

        // Full.
        pair.default_store(stage).words("CONFIG SET maxmemory 1");
        assert!(client.words("SET a 3").error().starts_with("OOM"), "{stage}");
        pair.default_store(stage).words("CONFIG SET maxmemory 0");
        let before = failures(&pair);
        pair.other_store(stage).words("CONFIG SET maxmemory 1");
        assert_eq!(client.words("SET a 4"), Value::ok(), "{stage}");
        poll_until(SOON, "a counted failure", || failures(&pair) > before);
        pair.other_store(stage).words("CONFIG SET maxmemory 0");
    }
}

#[test]
fn connections_that_the_store_ends_while_idle_are_no_error() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let mut client = pair.client();
        assert_eq!(client.words("SET a 1"), Value::ok());
        for round in 0..20 {
            for server in [&pair.primary, &pair.secondary] {
                server.words("CLIENT KILL TYPE normal SKIPME yes");
            }
            let reply = client.words("SET a 2");
            assert_eq!(reply, Value::ok(), "{stage}, round {round}");
            assert_eq!(client.words("GET a"), "2".into(), "{stage}, round {round}");
        }
    }
}

#[test]
fn a_pooled_connection_that_the_store_timed_out_is_not_used() {
    let pair = Pair::over(
        RedisServer::start(),
        RedisServer::start_with(&["--timeout", "1"]),
        Stage::SecondaryOnly,
        &TIMES,
    );
    let mut client = pair.client();
    for _ in 0..2 {
        client.words("RPUSH list element");
        assert_eq!(client.words("BLPOP list 1").items().len(), 2);
        // The lane's connection is kept alive by its probes, the dedicated one is not.
        poll_until(SOON, "the idle connection has timed out", || {
            let list = pair.secondary.words("CLIENT LIST TYPE normal").text();
            list.lines().filter(|line| line.contains("cmd=blpop")).count() == 0
        });
    }
}
