//! What the proxy does not do, it says: each answer here has its line in docs/compatibility.md.

use crate::bench::Bench;
use crate::support::*;

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let mut bench = Bench::start();
    bench.in_each_stage(|bench, stage| {
        let mut client = bench.pair.client();
        let refused = |client: &mut Client, line: &str| {
            let reply = client.words(line);
            assert!(reply.error().starts_with("MULTISTORE "), "{stage}: {line}: {reply:?}");
        };
        for line in ["SHUTDOWN", "REPLICAOF NO ONE"] {
            refused(&mut client, line);
        }
        for line in
            ["SUBSCRIBE a", "UNSUBSCRIBE", "CLIENT REPLY OFF", "CLIENT TRACKING on", "REPLICAOF NO ONE"]
        {
            assert_eq!(client.words("MULTI"), Value::ok());
            refused(&mut client, line);
            assert_eq!(client.words("SET unsupported x"), Value::simple("QUEUED"));
            assert!(client.words("EXEC").error().starts_with("EXECABORT "), "{stage}: {line}");
        }
        assert_eq!(client.words("EXISTS unsupported"), 0.into());
        assert_eq!(client.words("CLIENT TRACKINGINFO").items().len(), 6);
    });
}

/// A connection to a store is shared: what would take it over is refused, whatever the setting `refuse` says.
#[test]
fn nobody_takes_over_a_connection_to_a_store() {
    let mut pair = Pair::start_with(Stage::SecondaryOnly, &["refuse = []"]);
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut client = pair.client();
        for line in ["SCRIPT DEBUG YES", "SCRIPT DEBUG SYNC", "SYNC", "PSYNC ? -1", "REPLCONF ACK 1"] {
            let reply = client.words(line);
            assert!(reply.error().starts_with("MULTISTORE "), "{stage}: {line}: {reply:?}");
            assert_eq!(pair.client().call(&["EVAL", "return 1", "0"]), 1.into(), "{stage}: {line}");
        }
    }
}

#[test]
fn commands_of_operators_are_about_the_default_store() {
    let mut bench = Bench::start();
    bench.in_each_stage(|bench, stage| {
        let mut client = bench.pair.client();
        let (default, other) = (bench.pair.default_store(stage), bench.pair.other_store(stage));
        let run_id = default.info("server", "run_id").expect("a run_id");
        assert!(client.words("INFO server").text().contains(&run_id), "{stage}");
        let before = other.words("CONFIG GET slowlog-max-len");
        assert_eq!(client.words("CONFIG SET slowlog-max-len 77"), Value::ok());
        assert_eq!(default.words("CONFIG GET slowlog-max-len"), Value::bulks(&["slowlog-max-len", "77"]));
        assert_eq!(other.words("CONFIG GET slowlog-max-len"), before, "{stage}");
        default.words("CONFIG SET slowlog-max-len 128");
        assert_eq!(client.words("CLIENT PAUSE 60000 WRITE"), Value::ok());
        assert_eq!(client.words("PING"), Value::simple("PONG"));
        // The stores are not told: what waits is the client.
        let mut writer = bench.pair.client();
        writer.send(&["SET", "paused", "x"]);
        poll_until(SOON, "the write waits", || {
            client.words("INFO multistore").text().contains("multistore_blocked_clients:1")
        });
        assert_eq!(client.words("CLIENT UNPAUSE"), Value::ok());
        assert_eq!(writer.read_reply(), Value::ok(), "{stage}");
    });
}

#[test]
fn wait_is_about_what_the_client_wrote_through_the_proxy() {
    let mut bench = Bench::start();
    bench.in_each_stage(|bench, stage| {
        let default = bench.pair.default_store(stage);
        let replica = RedisServer::start_with(&["--replicaof", &format!("127.0.0.1 {}", default.port())]);
        poll_until(SOON, "the replica is in step", || {
            replica.info("replication", "master_link_status").as_deref() == Some("up")
        });
        let mut client = bench.pair.client();
        assert_eq!(client.words("SET waited x"), Value::ok());
        assert_eq!(client.words("WAIT 1 8000"), 1.into(), "{stage}");
        assert_eq!(replica.words("GET waited"), "x".into());
        // A replica that has stopped cannot have the next one.
        replica.stop_signal();
        assert_eq!(client.words("SET waited y"), Value::ok());
        assert_eq!(client.words("WAIT 1 200"), 0.into(), "{stage}");
    });
}
