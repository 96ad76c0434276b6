//! Blocked clients: wherever they wait, they get what comes, once and in their turn.

use super::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What blocks, what then fills its key, what the client gets, and what is left of the key. `K` is the key.
const KINDS: &[(&str, &str, &str)] = &[
    ("BLPOP K 0", "RPUSH K a", "LLEN K"),
    ("BRPOP K none 0", "RPUSH K a", "LLEN K"),
    ("BLMOVE K K:to LEFT RIGHT 0", "RPUSH K a", "LLEN K"),
    ("BRPOPLPUSH K K:to 0", "RPUSH K a", "LLEN K"),
    ("BLMPOP 0 1 K LEFT COUNT 2", "RPUSH K a", "LLEN K"),
    ("BZPOPMIN K 0", "ZADD K 1.5 a", "ZCARD K"),
    ("BZPOPMAX K 0", "ZADD K 1.5 a", "ZCARD K"),
    ("BZMPOP 0 1 K MIN", "ZADD K 1.5 a", "ZCARD K"),
    ("XREAD BLOCK 0 STREAMS K $", "XADD K 5-1 f v", "EXISTS none"),
    ("XREAD COUNT 1 BLOCK 0 STREAMS K 3-0", "XADD K 5-1 f v", "EXISTS none"),
];

fn of(template: &str, key: &str) -> String {
    let words = template.split(' ').map(|word| match word.strip_prefix('K') {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => format!("{key}{rest}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What a lone server answers.
fn own_reply(server: &RedisServer, block: &str, fill: &str, key: &str) -> Value {
    let (mut waiting, mut another) = (server.client(), server.client());
    another.words(&of("DEL K", key));
    waiting.send(&of(block, key).split(' ').collect::<Vec<_>>());
    poll_until(SOON, "blocked", || server.info("clients", "blocked_clients") == Some("1".into()));
    another.words(&of(fill, key));
    waiting.read_reply()
}

#[test]
fn every_kind_of_blocked_client_is_moved_over_every_flip() {
    let oracle = RedisServer::start();
    for (from, to) in STEPS {
        let mut pair = Pair::start_in(from);
        let keys: Vec<String> = (0..KINDS.len()).map(|at| format!("key:{at}")).collect();
        let mut clients = Vec::new();
        for ((block, _, _), key) in KINDS.iter().zip(&keys) {
            let mut client = pair.client();
            client.send(&of(block, key).split(' ').collect::<Vec<_>>());
            clients.push(client);
        }
        pair.expect_blocked(from, KINDS.len());
        pair.stage(to);
        pair.expect_blocked(to, KINDS.len());
        let mut another = pair.client();
        for (((block, fill, left), key), client) in KINDS.iter().zip(&keys).zip(&mut clients) {
            assert!(!another.words(&of(fill, key)).is_error());
            let own = own_reply(&oracle, block, fill, key);
            assert_eq!(client.read_reply(), own, "{from} → {to}: {block}");
            assert_eq!(another.words(&of(left, key)), 0.into(), "{from} → {to}: {block}");
            assert_eq!(client.words("PING"), Value::simple("PONG"), "{from} → {to}: {block}");
        }
        if to.is_dual() && from.is_dual() {
            pair.assert_equal_stores();
        }
    }
}

#[test]
fn a_blocked_client_is_carried_through_the_whole_rollout_and_back() {
    let mut pair = Pair::start();
    let mut client = pair.client();
    client.send(&["BLPOP", "list", "0"]);
    pair.expect_blocked(Stage::SecondaryOnly, 1);
    for (_, to) in STEPS {
        pair.stage(to);
        pair.expect_blocked(to, 1);
    }
    let mut another = pair.client();
    another.words("RPUSH list a b");
    assert_eq!(client.read_reply(), Value::bulks(&["list", "a"]));
    assert_eq!(another.words("LRANGE list 0 -1"), Value::bulks(&["b"]));
}

#[test]
fn waiting_clients_are_served_first_come_first_served() {
    let mut pair = Pair::start();
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut another = pair.client();
        let mut clients: Vec<Client> = Vec::new();
        for at in 0..5 {
            let mut client = pair.client();
            client.send(&["BLPOP", "list", "0"]);
            pair.expect_blocked(stage, at + 1);
            clients.push(client);
        }
        // By pushes of one, of several, in a transaction, and by a script.
        another.words("RPUSH list 0");
        another.words("RPUSH list 1 2");
        another.pipeline(&[&["MULTI"], &["RPUSH", "list", "3"], &["EXEC"]]);
        another.call(&["EVAL", "return redis.call('RPUSH', KEYS[1], ARGV[1])", "1", "list", "4"]);
        for (at, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_reply(), Value::bulks(&["list", &at.to_string()]), "{stage}");
        }
        assert_eq!(another.words("EXISTS list"), 0.into(), "{stage}");
    }
}

#[test]
fn what_comes_of_another_type_leaves_a_client_waiting() {
    let mut pair = Pair::start();
    for stage in Stage::ALL {
        pair.stage(stage);
        let (mut zset, mut list, mut another) = (pair.client(), pair.client(), pair.client());
        zset.send(&["BZPOPMIN", "key", "0"]);
        pair.expect_blocked(stage, 1);
        list.send(&["BLPOP", "key", "0"]);
        pair.expect_blocked(stage, 2);
        assert_eq!(another.words("RPUSH key a"), 1.into(), "{stage}");
        assert_eq!(list.read_reply(), Value::bulks(&["key", "a"]), "{stage}");
        pair.expect_blocked(stage, 1);
        assert_eq!(another.words("ZADD key 1 b"), 1.into(), "{stage}");
        assert_eq!(zset.read_reply(), Value::bulks(&["key", "b", "1"]), "{stage}");
        another.words("SET key text");
        for line in ["BLPOP key 1", "BZPOPMIN key 1"] {
            assert!(list.words(line).error().starts_with("WRONGTYPE"), "{stage} {line}");
        }
        another.words("DEL key");
    }
}

#[test]
fn a_client_blocked_on_several_keys_gets_one_element() {
    let mut pair = Pair::start();
    for stage in Stage::ALL {
        pair.stage(stage);
        let (mut client, mut another) = (pair.client(), pair.client());
        client.send(&["BLPOP", "a", "b", "c", "0"]);
        pair.expect_blocked(stage, 1);
        another.pipeline(&[&["MULTI"], &["RPUSH", "c", "1"], &["RPUSH", "b", "2"], &["EXEC"]]);
        let got = client.read_reply();
        let left =
            another.words("LLEN a").int() + another.words("LLEN b").int() + another.words("LLEN c").int();
        assert_eq!(left, 1, "{stage}: {got:?}");
        another.words("DEL a b c");
    }
}

#[test]
fn time_runs_out_in_every_stage_and_over_every_flip() {
    let oracle = RedisServer::start();
    for line in [
        "BLPOP none 0.2",
        "BLMOVE none to LEFT LEFT 0.2",
        "BZPOPMIN none 0.2",
        "XREAD BLOCK 200 STREAMS none $",
    ] {
        for client in [false, true] {
            let mut direct = oracle.client();
            if client {
                direct.words("HELLO 3");
            }
            direct.send(&line.split(' ').collect::<Vec<_>>());
            let own = direct.read_raw_reply();
            let mut pair = Pair::start();
            for stage in Stage::ALL {
                pair.stage(stage);
                let mut through = if client { pair.proxy.client3() } else { pair.client() };
                let since = Instant::now();
                through.send(&line.split(' ').collect::<Vec<_>>());
                assert_eq!(through.read_raw_reply(), own, "{stage} {line}");
                assert!(
                    since.elapsed() >= Duration::from_millis(195),
                    "{stage} {line}: {:?}",
                    since.elapsed()
                );
            }
        }
    }
    for (from, to) in STEPS {
        let mut pair = Pair::start_in(from);
        let mut client = pair.client();
        let since = Instant::now();
        client.send(&["BLPOP", "none", "0.6"]);
        pair.expect_blocked(from, 1);
        pair.stage(to);
        assert_eq!(client.read_reply(), Value::Nil, "{from} → {to}");
        assert!(since.elapsed() >= Duration::from_millis(590), "{from} → {to}: {:?}", since.elapsed());
    }
}

#[test]
fn client_unblock_reaches_whoever_waits() {
    let mut pair = Pair::start();
    for stage in Stage::ALL {
        for after_flip in [false, true] {
            let (mut client, mut another) = (pair.client(), pair.client());
            let id = client.words("CLIENT ID").int().to_string();
            assert_eq!(another.call(&["CLIENT", "UNBLOCK", &id]), 0.into(), "{stage}: it does not wait");
            for (how, reply) in [
                ("TIMEOUT", Value::Nil),
                ("ERROR", Value::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())),
            ] {
                client.send(&["BLPOP", "none", "0"]);
                if after_flip {
                    pair.stage(Stage::DualSecondaryDefault);
                }
                pair.stage(stage);
                pair.expect_blocked(stage, 1);
                assert_eq!(another.call(&["CLIENT", "UNBLOCK", &id, how]), 1.into(), "{stage} {how}");
                assert_eq!(client.read_reply(), reply, "{stage} {how}");
            }
            if stage == Stage::PrimaryOnly {
                pair.stage(Stage::DualPrimaryDefault);
            }
        }
    }
}

#[test]
fn a_client_that_leaves_takes_nothing_with_it() {
    let mut pair = Pair::start();
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut client = pair.client();
        client.send(&["BLPOP", "list", "0"]);
        pair.expect_blocked(stage, 1);
        drop(client);
        pair.expect_blocked(stage, 0);
        let mut another = pair.client();
        assert_eq!(another.words("RPUSH list a"), 1.into(), "{stage}");
        assert_eq!(another.words("LPOP list"), "a".into(), "{stage}");
    }
}

/// Pushes and blocking pops go on while the flags flip; each element comes out once, in order per producer.
fn no_element_is_lost(steps: &[Stage], rounds: usize) {
    let mut pair = Pair::start_in(steps[steps.len() - 1]);
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut got: Vec<Vec<i64>> = Vec::new();
    let mut pushed = 0;
    std::thread::scope(|scope| {
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let mut client = pair.client();
                let done = &done;
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    loop {
                        let ended = done.load(Ordering::SeqCst);
                        match client.words("BLPOP queue 0.1") {
                            Value::Nil if ended => return mine,
                            Value::Nil => {}
                            reply => mine.push(reply.items()[1].text().parse().expect("a number")),
                        }
                    }
                })
            })
            .collect();
        let producer = {
            let mut client = pair.client();
            let stop = &stop;
            scope.spawn(move || {
                let mut next: i64 = 0;
                while !stop.load(Ordering::SeqCst) {
                    let reply = client.call(&["RPUSH", "queue", &next.to_string(), &(next + 1).to_string()]);
                    assert!(!reply.is_error(), "{reply:?}");
                    next += 2;
                }
                next
            })
        };
        let flips = (0..rounds).flat_map(|_| steps);
        flips.for_each(|stage| pair.stage(*stage));
        stop.store(true, Ordering::SeqCst);
        pushed = producer.join().expect("the producer");
        poll_until(SOON, "the queue is empty", || pair.client().words("LLEN queue") == 0.into());
        done.store(true, Ordering::SeqCst);
        got = consumers.into_iter().map(|consumer| consumer.join().expect("a consumer")).collect();
    });
    assert!(got.iter().all(|mine| mine.is_sorted()), "each consumer saw them in their order");
    let all: Vec<i64> = got.concat();
    let distinct: BTreeSet<i64> = all.iter().copied().collect();
    let missing: Vec<i64> = (0..pushed).filter(|at| !distinct.contains(at)).collect();
    assert_eq!((distinct.len(), missing), (all.len(), Vec::new()), "of {pushed}");
    if pair.proxy.instance_status(INSTANCE)["stage"].as_str().is_some_and(|stage| stage.starts_with("dual")) {
        pair.assert_equal_stores();
    }
}

#[test]
fn no_element_is_lost_while_the_default_store_changes() {
    no_element_is_lost(&[Stage::DualPrimaryDefault, Stage::DualSecondaryDefault], 3);
}

#[test]
fn no_element_is_lost_while_dual_goes_on_and_off() {
    no_element_is_lost(&[Stage::DualSecondaryDefault, Stage::SecondaryOnly], 3);
    no_element_is_lost(&[Stage::DualPrimaryDefault, Stage::PrimaryOnly], 3);
}

#[test]
fn no_element_is_lost_in_a_rollout() {
    no_element_is_lost(
        &[
            Stage::DualSecondaryDefault,
            Stage::DualPrimaryDefault,
            Stage::PrimaryOnly,
            Stage::DualPrimaryDefault,
        ],
        1,
    );
}
