//! Clients that race, and clients that wait: one winner, the same on both stores.

use std::sync::Arc;
use std::sync::Barrier;
use std::thread;

use super::*;

const ROUNDS: usize = 60;

#[test]
fn two_watchers_of_one_key_leave_the_same_winner_on_both_stores() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        // Some of the keys are known to the secondary alone.
        for round in (0..ROUNDS).step_by(3) {
            pair.secondary.words(&format!("SET key:{round} 0"));
        }
        let start = Arc::new(Barrier::new(2));
        let racers: Vec<_> = ["alice", "bob"]
            .into_iter()
            .enumerate()
            .map(|(at, name)| {
                let mut client = if at == 0 { pair.client() } else { pair.proxy.client3() };
                let start = start.clone();
                thread::spawn(move || {
                    (0..ROUNDS).map(|n| race(&mut client, &start, name, n)).collect::<Vec<_>>()
                })
            })
            .collect();
        let won: Vec<Vec<bool>> = racers.into_iter().map(|racer| racer.join().expect("a racer")).collect();
        pair.wait_settled();
        for (round, (alice, bob)) in won[0].iter().copied().zip(won[1].iter().copied()).enumerate() {
            assert!(alice || bob, "{stage}, round {round}: nobody won");
            let line = format!("LRANGE log:{round} 0 -1");
            let log = pair.primary.words(&line);
            assert_eq!(log, pair.secondary.words(&line), "{stage}, round {round}");
            assert_eq!(log.items().len(), usize::from(alice) + usize::from(bob), "{stage}, round {round}");
            let last = log.items().last().cloned().unwrap_or(Value::Nil);
            assert_eq!(pair.primary.words(&format!("GET key:{round}")), last, "{stage}, round {round}");
        }
        pair.assert_equal_stores();
    }
}

/// One round: read, decide, write if nobody has written meanwhile.
fn race(client: &mut Client, start: &Barrier, name: &str, round: usize) -> bool {
    let (key, log) = (format!("key:{round}"), format!("log:{round}"));
    start.wait();
    assert_eq!(client.call(&["WATCH", &key]), Value::ok());
    client.call(&["GET", &key]);
    let replies = client.pipeline(&[&["MULTI"], &["SET", &key, name], &["RPUSH", &log, name], &["EXEC"]]);
    !replies[3].is_nil()
}

#[test]
fn every_client_that_waits_gets_one_element_and_both_stores_lose_it() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        let waiting: Vec<_> = (0..4)
            .map(|n| {
                let mut client = if n % 2 == 0 { pair.client() } else { pair.proxy.client3() };
                thread::spawn(move || {
                    let taken = (0..10).map(|_| client.words("BLPOP queue other 20").items()[1].text());
                    taken.collect::<Vec<_>>()
                })
            })
            .collect();
        let moving = {
            let mut client = pair.client();
            thread::spawn(move || {
                (0..10).map(|_| client.words("BLMOVE queue done LEFT RIGHT 20").text()).collect::<Vec<_>>()
            })
        };
        let mut client = pair.client();
        let mut sent = Vec::new();
        for n in 0..25 {
            let (a, b) = (format!("a{n}"), format!("b{n}"));
            assert!(client.call(&["RPUSH", "queue", &a, &b]).int() > 0, "{stage}");
            sent.extend([a, b]);
        }
        let mut taken: Vec<String> =
            waiting.into_iter().flat_map(|one| one.join().expect("a waiter")).collect();
        let moved = moving.join().expect("a mover");
        taken.extend(moved.iter().cloned());
        sent.sort();
        taken.sort();
        assert_eq!(taken, sent, "{stage}: each element once");
        let moved: Vec<&str> = moved.iter().map(String::as_str).collect();
        pair.assert_both("LRANGE done 0 -1", Value::bulks(&moved));
        pair.assert_both("EXISTS queue", 0);
    }
}

#[test]
fn a_parked_client_gets_what_only_the_secondary_has() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        for line in ["RPUSH cold a b", "ZADD scores 1 a 2 b"] {
            pair.secondary.words(line);
        }
        let mut client = pair.client();
        assert_eq!(client.words("BLPOP cold 5"), Value::bulks(&["cold", "a"]), "{stage}");
        assert_eq!(client.words("BRPOPLPUSH cold moved 5"), "b".into(), "{stage}");
        assert_eq!(client.words("BZPOPMAX scores 5"), Value::bulks(&["scores", "b", "2"]), "{stage}");
        pair.assert_converges();
        assert_eq!(pair.primary.words("LRANGE moved 0 -1"), Value::bulks(&["b"]), "{stage}");
    }
}

#[test]
fn parked_clients_are_served_on_over_flips_and_outages() {
    let mut pair = Pair::eager(Stage::SecondaryOnly);
    let mut expected = Vec::new();
    let mut waiter = pair.client();
    let mut pusher = pair.client();
    let stages = [0, 1, 2, 3, 2, 1, 0];
    for (round, at) in stages.into_iter().enumerate() {
        waiter.words(&format!("SET waiting {round}"));
        waiter.send(&["BLMOVE", "queue", "done", "LEFT", "RIGHT", "20"]);
        pair.proxy.write_stage_of(INSTANCE, Stage::ALL[at]);
        let stage = Stage::ALL[at].name();
        poll_until(REPAIRED, &format!("stage {stage}"), || pair.status()["stage"] == stage);
        if Stage::ALL[at].is_dual() {
            let other = Stage::ALL[at].default_store().other();
            pair.server_mut(other).restart(Data::Kept);
        }
        let element = format!("e{round}");
        assert_eq!(pusher.call(&["RPUSH", "queue", &element]), 1.into(), "{stage}");
        assert_eq!(waiter.read_reply(), element.as_str().into(), "{stage}");
        expected.push(element);
    }
    pair.proxy.write_stage_of(INSTANCE, Stage::DualSecondaryDefault);
    pair.proxy.wait_for_stage(INSTANCE, Stage::DualSecondaryDefault);
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    pair.assert_both("LRANGE done 0 -1", Value::bulks(&expected));
    pair.assert_both("EXISTS queue", 0);
}

#[test]
fn who_waits_is_tried_when_something_may_have_come_and_not_all_the_time() {
    for stage in DUAL {
        let pair = Pair::start_with(stage, &[r#"blocking_poll = "1m""#]);
        pair.secondary.words("SET cold 1");
        let mut waiters: Vec<Client> = (0..4).map(|_| pair.client()).collect();
        for (n, waiter) in (1..).zip(&mut waiters) {
            waiter.send(&["BLPOP", "queue", "other", "0"]);
            // One by one: of two that are read in the same turn either may come first.
            poll_until(SOON, "it is parked", || {
                pair.proxy.metric("multistore_parked_clients", &[("instance_name", INSTANCE)]) == f64::from(n)
            });
        }
        let mut client = pair.client();
        // A write of another type to their key, and a script that may have filled it.
        assert_eq!(client.words("SET queue x"), Value::ok());
        assert_eq!(client.words("DEL queue"), 1.into());
        let script = "redis.call('INCR', KEYS[1]) return redis.call('RANDOMKEY')";
        assert!(!client.call(&["EVAL", script, "1", "cold"]).is_error());
        let default = pair.default_store(stage);
        let tried = |client: &mut Client| {
            for _ in 0..50 {
                client.words("GET nothing");
            }
            default.calls_of("blpop")
        };
        poll_until(SOON, "nobody is tried any more", || {
            let before = default.calls_of("blpop");
            tried(&mut client) == before
        });
        for n in 0..4 {
            assert_eq!(client.call(&["RPUSH", "other", &n.to_string()]), 1.into(), "{stage}");
        }
        for (n, waiter) in waiters.iter_mut().enumerate() {
            assert_eq!(waiter.read_reply(), Value::bulks(&["other", &n.to_string()]), "{stage}");
        }
        pair.assert_both("EXISTS other", 0);
    }
}

/// A client waits for several keys. Who is first at one of them is not tried before somebody who came earlier at
/// another, whose attempt is still under way.
#[test]
fn who_came_first_at_any_of_its_keys_is_served_first() {
    for stage in DUAL {
        let server = || RedisServer::start_with(&["--enable-debug-command", "yes"]);
        let pair = Pair::over(server(), server(), stage, &[r#"blocking_poll = "1ms""#]);
        let parked =
            || pair.proxy.metric("multistore_parked_clients", &[("instance_name", INSTANCE)]) as usize;
        let mut client = pair.client();
        for round in 0..5 {
            let (mut first, mut second) = (pair.client(), pair.client());
            first.words("PING");
            first.send(&["BRPOPLPUSH", "queue", "taken:1", "0"]);
            poll_until(SOON, "the first waits", || parked() == 1);
            second.send(&["BRPOPLPUSH", "queue", "taken:2", "0"]);
            poll_until(SOON, "the second waits", || parked() == 2);
            // The default store is slow for a while: the first is being tried for its other key when the element comes.
            let mut slow = pair.default_store(stage).client();
            slow.send(&["DEBUG", "SLEEP", "0.1"]);
            client.send(&["LPUSH", "taken:1", "x"]);
            client.send(&["LPUSH", "queue", "a"]);
            client.read_replies(2);
            assert_eq!(first.read_reply(), "a".into(), "{stage}, round {round}");
            client.words("LPUSH queue b");
            assert_eq!(second.read_reply(), "b".into(), "{stage}, round {round}");
            client.words("DEL taken:1 taken:2");
        }
        pair.assert_equal_stores();
    }
}

#[test]
fn what_a_waiting_client_took_is_not_carried_on_by_the_other_store() {
    let pair = Pair::eager(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    assert_eq!(client.words("RPUSH q a b"), 2.into());
    pair.assert_converges();
    // One of its keys is cold: only the secondary is asked, which takes its time, and then answers from the other.
    pair.secondary.stop_signal();
    let mut waits = pair.client();
    waits.send(&["BLPOP", "q", "cold", "10"]);
    poll_until(SOON, "the attempt is on its way", || {
        pair.status()["stores"]["secondary"]["depth"].as_u64() > Some(0)
    });
    client.send(&["RENAME", "q", "moved"]);
    poll_until(SOON, "the other command is behind it", || {
        pair.status()["stores"]["secondary"]["depth"].as_u64() > Some(1)
    });
    pair.secondary.cont();
    assert_eq!(waits.read_reply(), Value::bulks(&["q", "a"]));
    assert_eq!(client.read_reply(), Value::ok());
    pair.assert_converges();
    assert_eq!(pair.primary.words("LRANGE moved 0 -1"), Value::bulks(&["b"]));
}
