//! WATCH in every stage: conflicts through the proxy and past it, UNWATCH, DISCARD, flips.

use super::*;

fn exec(client: &mut Client, commands: &[&[&str]]) -> Value {
    assert_eq!(client.words("MULTI"), Value::ok());
    for command in commands {
        assert_eq!(client.call(command), Value::simple("QUEUED"));
    }
    client.words("EXEC")
}

#[test]
fn a_watched_key_that_stays_lets_exec_run_and_one_that_changes_does_not() {
    let mut pair = calm(Stage::SecondaryOnly);
    for stage in Stage::ALL {
        pair.stage(stage);
        let (mut client, mut another) = (pair.client(), pair.client());
        another.words("SET key 0");
        // Nobody else writes.
        assert_eq!(client.words("WATCH key other"), Value::ok());
        assert_eq!(client.words("GET key"), "0".into());
        assert_eq!(exec(&mut client, &[&["SET", "key", "1"]]), vec![Value::ok()].into(), "{stage}");
        // Another client of the proxy does.
        assert_eq!(client.words("WATCH key"), Value::ok());
        assert_eq!(another.words("SET key 2"), Value::ok());
        assert_eq!(exec(&mut client, &[&["SET", "key", "3"]]), Value::Nil, "{stage}");
        assert_eq!(client.words("GET key"), "2".into(), "{stage}");
        // The client itself does, between WATCH and MULTI.
        assert_eq!(client.words("WATCH key"), Value::ok());
        assert_eq!(client.words("SET key 4"), Value::ok());
        assert_eq!(exec(&mut client, &[&["SET", "key", "5"]]), Value::Nil, "{stage}");
        // UNWATCH and DISCARD let go.
        for word in ["UNWATCH", "DISCARD"] {
            assert_eq!(client.words("WATCH key"), Value::ok());
            if word == "DISCARD" {
                assert_eq!(client.words("MULTI"), Value::ok());
            }
            assert_eq!(client.words(word), Value::ok());
            assert_eq!(another.words("SET key 6"), Value::ok());
            assert_eq!(
                exec(&mut client, &[&["SET", "key", "7"]]),
                vec![Value::ok()].into(),
                "{stage} {word}"
            );
        }
        // EXEC lets go as well.
        assert_eq!(another.words("SET key 8"), Value::ok());
        assert_eq!(exec(&mut client, &[&["INCR", "key"]]), vec![9.into()].into(), "{stage}");
        pair.quiet();
        assert_eq!(pair.default_store(stage).words("GET key"), "9".into(), "{stage}");
        if stage.is_dual() {
            pair.assert_equal_stores();
        }
    }
}

#[test]
fn in_a_resp3_transaction_an_abort_is_a_null() {
    let pair = calm(Stage::DualSecondaryDefault);
    let (mut client, mut another) = (pair.proxy.client3(), pair.client());
    client.words("WATCH key");
    another.words("SET key 1");
    client.words("MULTI");
    client.words("SET key 2");
    client.send(&["EXEC"]);
    assert_eq!(client.read_raw_reply(), b"_\r\n");
}

#[test]
fn an_increment_by_watching_loses_nothing() {
    let mut pair = calm(Stage::SecondaryOnly);
    for stage in Stage::ALL {
        pair.stage(stage);
        pair.client().words("SET count 0");
        let (clients, each) = (3, 15);
        std::thread::scope(|scope| {
            for _ in 0..clients {
                let mut client = pair.client();
                scope.spawn(move || {
                    let mut done = 0;
                    while done < each {
                        client.words("WATCH count");
                        let count: i64 = client.words("GET count").text().parse().expect("a number");
                        let next = (count + 1).to_string();
                        if !exec(&mut client, &[&["SET", "count", &next]]).is_nil() {
                            done += 1;
                        }
                    }
                });
            }
        });
        let count = (clients * each).to_string();
        assert_eq!(pair.client().words("GET count"), count.as_str().into(), "{stage}");
        if stage.is_dual() {
            pair.assert_equal_stores();
        }
    }
}

#[test]
fn a_connection_that_watched_serves_nobody_else() {
    // The keys of a client that gave up would abort the transaction of the next one.
    let mut pair = calm(Stage::SecondaryOnly);
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut another = pair.client();
        for ending in ["UNWATCH", "DISCARD", "EXECABORT", "RESET", "close"] {
            let mut client = pair.client();
            client.words("WATCH stale");
            match ending {
                "UNWATCH" | "RESET" => drop(client.words(ending)),
                "DISCARD" => {
                    client.words("MULTI");
                    client.words("DISCARD");
                }
                "EXECABORT" => {
                    client.words("MULTI");
                    client.words("NOSUCH");
                    assert!(client.words("EXEC").error().starts_with("EXECABORT"));
                }
                _ => drop(client),
            }
            another.words("INCR stale");
            let mut next = pair.client();
            assert_eq!(next.words("WATCH fresh"), Value::ok());
            another.words("INCR stale");
            assert_eq!(exec(&mut next, &[&["PING"]]), vec![Value::simple("PONG")].into(), "{stage} {ending}");
        }
    }
}

#[test]
fn a_watch_across_a_flip_of_the_default_store_aborts() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    for (from, to) in [
        (Stage::DualSecondaryDefault, Stage::DualPrimaryDefault),
        (Stage::DualPrimaryDefault, Stage::DualSecondaryDefault),
    ] {
        for between in [&[][..], &["GET key"], &["SET own 1"], &["SELECT 1", "SELECT 0"]] {
            pair.stage(from);
            let (mut client, mut another) = (pair.client(), pair.client());
            another.words("SET key before");
            assert_eq!(client.words("WATCH key"), Value::ok());
            assert_eq!(another.words("SET key changed"), Value::ok());
            pair.stage(to);
            for line in between {
                assert!(!client.words(line).is_error(), "{line}");
            }
            assert_eq!(
                exec(&mut client, &[&["SET", "key", "mine"]]),
                Value::Nil,
                "{from} → {to} {between:?}"
            );
            assert_eq!(client.words("GET key"), "changed".into());
            assert_eq!(exec(&mut client, &[&["SET", "key", "mine"]]), vec![Value::ok()].into());
            pair.assert_equal_stores();
        }
    }
}

#[test]
fn a_watch_whose_connection_was_lost_aborts() {
    let pair = calm(Stage::DualSecondaryDefault);
    let (mut client, mut another) = (pair.client(), pair.client());
    assert_eq!(client.words("WATCH key"), Value::ok());
    another.words("SET key changed");
    pair.secondary.words("CLIENT KILL TYPE normal SKIPME yes");
    // Whatever the client does meanwhile, its transaction must not run as if nothing had been watched.
    poll_until(SOON, "the store is there again", || !another.words("GET key").is_error());
    let _ = client.words("GET key");
    let reply = exec(&mut client, &[&["SET", "key", "mine"]]);
    assert!(reply.is_nil() || reply.is_error(), "{reply:?}");
    assert_eq!(another.words("GET key"), "changed".into());
}

#[test]
fn writes_of_a_watching_client_are_mirrored_in_their_place() {
    for stage in DUAL {
        let pair = calm(stage);
        let (mut client, mut another) = (pair.client(), pair.client());
        for turn in 0..50 {
            client.words("WATCH list");
            client.call(&["RPUSH", "list", "watcher"]);
            another.call(&["RPUSH", "list", &turn.to_string()]);
            another.call(&["RPUSH", "free", &turn.to_string()]);
            client.words("UNWATCH");
            client.words("WATCH elsewhere");
            assert!(exec(&mut client, &[&["RPUSH", "list", "exec"], &["DEL", "free"]]).items().len() == 2);
        }
        assert_eq!(pair.client().words("LLEN list"), 150.into(), "{stage}");
        pair.assert_equal_stores();
    }
}
