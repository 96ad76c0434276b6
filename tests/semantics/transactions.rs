//! MULTI … EXEC in every stage, for clients that pipeline and for clients that wait.

use super::*;

fn queued() -> Value {
    Value::simple("QUEUED")
}

const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

/// Runs `check` with a client in every stage of one proxy.
fn in_every_stage(check: impl Fn(&Pair, Stage, &mut Client)) {
    let mut pair = calm(Stage::SecondaryOnly);
    let mut client = pair.client();
    for stage in Stage::ALL {
        pair.stage(stage);
        for server in [&pair.primary, &pair.secondary] {
            server.words("FLUSHALL");
        }
        check(&pair, stage, &mut client);
        assert_eq!(client.words("PING"), Value::simple("PONG"), "{stage}: the client goes on");
    }
}

#[test]
fn a_pipelined_transaction_is_answered_by_the_store() {
    in_every_stage(|pair, stage, client| {
        let key = stage.name();
        let replies = client.pipeline(&[
            &["MULTI"],
            &["SET", key, "1"],
            &["INCR", key],
            &["LPUSH", key, "x"],
            &["EXEC"],
            &["GET", key],
        ]);
        assert_eq!(replies[..4], [Value::ok(), queued(), queued(), queued()], "{stage}");
        let exec = replies[4].items();
        assert_eq!(exec[..2], [Value::ok(), 2.into()], "{stage}");
        assert!(exec[2].error().starts_with("WRONGTYPE"), "{stage}");
        assert_eq!(replies[5], "2".into(), "{stage}");
        pair.quiet();
        let other = if stage.is_dual() { "2".into() } else { Value::Nil };
        pair.eventually(pair.other_store(stage), &format!("GET {key}"), &other);
        // Copies read in transactions of their own, and may do so between the two questions.
        let store = pair.default_store(stage);
        poll_until(SOON, "as many EXEC as MULTI", || store.calls_of("multi") == store.calls_of("exec"));
    });
}

#[test]
fn errors_that_only_the_store_knows_of_come_at_queue_time_in_a_pipeline() {
    // Out of memory: the store refuses to queue, and EXEC aborts.
    let small = ["--maxmemory", "1", "--maxmemory-policy", "noeviction"];
    for stage in Stage::ALL {
        let (primary, secondary) = match stage.default_store() {
            multistore::stage::StoreId::Primary => (RedisServer::start_with(&small), RedisServer::start()),
            multistore::stage::StoreId::Secondary => (RedisServer::start(), RedisServer::start_with(&small)),
        };
        let pair = Pair::over(primary, secondary, stage, &[]);
        let mut client = pair.client();
        let replies = client.pipeline(&[&["MULTI"], &["SET", "a", "b"], &["EXEC"]]);
        assert_eq!(replies[0], Value::ok(), "{stage}");
        assert!(replies[1].error().starts_with("OOM"), "{stage}: {:?}", replies[1]);
        assert_eq!(replies[2], Value::Error(ABORTED.into()), "{stage}");
    }
}

#[test]
fn a_client_that_waits_gets_the_proxys_queued_and_the_stores_exec() {
    in_every_stage(|pair, stage, client| {
        let before = pair.default_store(stage).calls_of("incr");
        assert_eq!(client.words("MULTI"), Value::ok());
        assert_eq!(client.words(&format!("INCR {stage}")), queued());
        assert_eq!(client.words(&format!("GET {stage}")), queued());
        assert_eq!(pair.default_store(stage).calls_of("incr"), before, "nothing runs before EXEC");
        assert_eq!(client.words("EXEC"), vec![1.into(), "1".into()].into(), "{stage}");
    });
}

#[test]
fn queue_time_errors_abort_as_in_redis() {
    let oracle = RedisServer::start();
    let lines: &[&str] = &[
        "MULTI",
        "SET only-a-key",
        "NOSUCH thing",
        "CLIENT NOSUCH",
        "CONFIG NOSUCH",
        "SET fine now",
        "EXEC",
        "EXEC",
        "GET fine",
        "MULTI",
        "MULTI",
        "SET nested 1",
        "EXEC",
        "MULTI",
        "EXEC",
        "DISCARD",
        "MULTI",
        "SET dropped 1",
        "DISCARD",
        "GET dropped",
        "MULTI",
        "DISCARD x",
        "EXEC x",
        "EXEC",
        "MULTI x",
        "EXEC",
        "MULTI",
        "WATCH k",
        "SET after watch",
        "EXEC",
        "MULTI",
        "SUBSCRIBE_ x",
        "DISCARD",
        "UNWATCH",
        "EXEC",
    ];
    let script: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    let script: Vec<&[&str]> = script.iter().map(Vec::as_slice).collect();
    in_every_stage(|_, stage, client| {
        oracle.words("FLUSHALL");
        let mut direct = oracle.client();
        client.words("FLUSHALL");
        for (line, words) in lines.iter().zip(&script) {
            assert_eq!(client.call(words), direct.call(words), "{stage} waiting: {line}");
        }
        oracle.words("FLUSHALL");
        client.words("FLUSHALL");
        let (mine, theirs) = (client.pipeline(&script), direct.pipeline(&script));
        for ((line, mine), theirs) in lines.iter().zip(mine).zip(theirs) {
            assert_eq!(mine, theirs, "{stage} pipelined: {line}");
        }
    });
}

#[test]
fn an_empty_and_a_large_transaction() {
    in_every_stage(|pair, stage, client| {
        assert_eq!(client.pipeline(&[&["MULTI"], &["EXEC"]])[1], Value::bulks(&[]));
        let big = "x".repeat(1_000);
        let mut commands: Vec<Vec<&str>> = vec![vec!["MULTI"]];
        commands.extend((0..2_000).map(|_| vec!["RPUSH", "big", &big]));
        commands.push(vec!["EXEC"]);
        let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
        client.words("DEL big");
        let replies = client.pipeline(&commands);
        assert_eq!(replies.last().map(|exec| exec.items().len()), Some(2_000), "{stage}");
        assert_eq!(pair.default_store(stage).words("LLEN big"), 2_000.into(), "{stage}");
        pair.quiet();
        assert_eq!(pair.diffs(), 0.0, "{stage}");
        client.words("DEL big");
    });
}

#[test]
fn transactions_are_not_interleaved() {
    let mut pair = calm(Stage::SecondaryOnly);
    for stage in Stage::ALL {
        pair.stage(stage);
        let turns = 60;
        std::thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                let mut client = pair.client();
                scope.spawn(move || {
                    for _ in 0..turns {
                        assert_eq!(client.words("MULTI"), Value::ok());
                        for _ in 0..3 {
                            client.call(&["RPUSH", "log", name]);
                        }
                        assert!(!client.words("EXEC").is_error());
                    }
                });
            }
        });
        pair.quiet();
        let log = pair.client().words("LRANGE log 0 -1");
        assert_eq!(log.items().len(), 9 * turns, "{stage}");
        assert!(log.items().chunks(3).all(|three| three.iter().all(|one| *one == three[0])), "{stage}");
        if stage.is_dual() {
            assert_eq!(pair.primary.words("LRANGE log 0 -1"), pair.secondary.words("LRANGE log 0 -1"));
        }
        assert_eq!(pair.client().words("DEL log"), 1.into());
    }
}

#[test]
fn select_in_a_transaction_stays_behind_it() {
    in_every_stage(|pair, stage, client| {
        let key = stage.name();
        let replies = client.pipeline(&[
            &["SELECT", "0"],
            &["MULTI"],
            &["SET", key, "zero"],
            &["SELECT", "3"],
            &["SET", key, "three"],
            &["EXEC"],
            &["GET", key],
        ]);
        assert_eq!(replies[5], vec![Value::ok(), Value::ok(), Value::ok()].into(), "{stage}");
        assert_eq!(replies[6], "three".into(), "{stage}: the client stays in database 3");
        assert!(client.words("CLIENT INFO").text().contains(" db=3 "), "{stage}");
        // A SELECT that fails moves nobody: what follows runs where the transaction was.
        client.words("SELECT 0");
        client.words("MULTI");
        assert_eq!(client.words("SELECT 99"), queued(), "{stage}");
        assert_eq!(client.words(&format!("APPEND {key} !")), queued(), "{stage}");
        let exec = client.words("EXEC");
        assert!(exec.items()[0].is_error(), "{stage}: {exec:?}");
        assert_eq!(exec.items()[1], 5.into(), "{stage}");
        assert_eq!(client.words(&format!("GET {key}")), "zero!".into(), "{stage}");
        // The lanes are where they were.
        assert_eq!(pair.client().words("SET where here"), Value::ok());
        let here = if stage.is_dual() { "here".into() } else { Value::Nil };
        pair.eventually(pair.other_store(stage), "GET where", &here);
    });
}

#[test]
fn hello_and_setname_in_a_transaction() {
    in_every_stage(|pair, stage, client| {
        // In sync, so that the other store gets the transaction and no copy.
        client.words("DEL hash");
        let replies = client.pipeline(&[
            &["MULTI"],
            &["HELLO", "3"],
            &["CLIENT", "SETNAME", "me"],
            &["HSET", "hash", "f", "v"],
            &["EXEC"],
            &["CLIENT", "GETNAME"],
        ]);
        assert!(!replies[4].is_error(), "{stage}: {:?}", replies[4]);
        assert_eq!(replies[5], "me".into(), "{stage}");
        // Others are not touched: no lane has changed its protocol or name.
        pair.quiet();
        for server in [&pair.primary, &pair.secondary] {
            let list = server.words("CLIENT LIST").text();
            assert!(!list.contains(" name=me "), "{stage}: {list}");
        }
        let mut another = pair.client();
        assert_eq!(another.words("HGETALL hash"), Value::bulks(&["f", "v"]), "{stage}");
        assert_eq!(
            another.pipeline(&[&["HGETALL", "hash"], &["PING"]])[0],
            Value::bulks(&["f", "v"]),
            "{stage}"
        );
        let map = Value::Map(vec![("f".into(), "v".into())]);
        assert_eq!(client.words("HGETALL hash"), map, "{stage}: RESP3 from there on");
        assert!(!client.words("HELLO 2").is_error());
        pair.quiet();
        if stage.is_dual() {
            pair.assert_equal_stores();
        }
    });
}

#[test]
fn a_transaction_that_fails_on_the_default_store_is_an_error_at_once() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    pair.secondary.kill();
    let down = [("instance_name", INSTANCE), ("store", "secondary")];
    pair.expect_counter("multistore_store_up", &down, 0.0);
    client.words("MULTI");
    assert_eq!(client.words("SET a b"), queued());
    assert!(client.words("EXEC").error().starts_with("MULTISTORE"));
    let replies = client.pipeline(&[&["MULTI"], &["SET", "a", "b"], &["EXEC"], &["PING"]]);
    assert!(
        replies.iter().all(|reply| reply.is_error() && reply.error().starts_with("MULTISTORE")),
        "{replies:?}"
    );
    assert_eq!(pair.primary.words("EXISTS a"), 0.into());
    pair.secondary.start_again(Data::Lost);
    poll_until(SOON, "healed", || client.words("PING") == Value::simple("PONG"));
    assert_eq!(client.pipeline(&[&["MULTI"], &["SET", "a", "b"], &["EXEC"]])[2], vec![Value::ok()].into());
}
