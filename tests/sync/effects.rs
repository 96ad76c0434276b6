//! Commands that choose: what the default store chose is what the other store gets.

use super::*;

/// In both protocol versions, in both dual stages; keys in sync, and keys that only the secondary has.
fn everywhere(seed: &[&str], run: impl Fn(&mut Client)) {
    for stage in DUAL {
        for (resp3, cold) in [(false, false), (true, false), (false, true)] {
            let pair = Pair::start_in(stage);
            let mut client = if resp3 { pair.proxy.client3() } else { pair.client() };
            for line in seed {
                let reply = if cold { pair.secondary.words(line) } else { client.words(line) };
                assert!(!reply.is_error(), "{line}: {reply:?}");
            }
            run(&mut client);
            pair.assert_converges();
        }
    }
}

fn numbers(count: usize) -> String {
    (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
}

/// A reply so large that it would flow to the client in pieces: the effect needs the whole of it.
#[test]
fn an_effect_is_made_from_a_reply_of_any_size() {
    let member = "m".repeat(1000);
    let members: Vec<String> = (0..500).map(|n| format!("{member}{n}")).collect();
    everywhere(&[&format!("SADD set {}", members.join(" "))], |client| {
        assert_eq!(client.words("SPOP set 400").items().len(), 400);
        assert!(!client.words("SET later value").is_error());
    });
}

#[test]
fn spop_takes_the_same_members() {
    let fill = format!("SADD set {}", numbers(200));
    everywhere(&[&fill, "SADD other a b c"], |client| {
        for _ in 0..20 {
            assert!(!client.words("SPOP set").is_nil());
        }
        assert_eq!(client.words("SPOP set 30").items().len(), 30);
        assert_eq!(client.words("SPOP other 10").items().len(), 3);
        assert!(client.words("SPOP other").is_nil());
        let replies = client.pipeline(&[&["SPOP", "set", "7"], &["SCARD", "set"], &["SPOP", "set"]]);
        assert_eq!(replies[1], 143.into());
    });
}

#[test]
fn xadd_makes_the_same_ids() {
    everywhere(&["XADD stream 1-1 f v"], |client| {
        for n in 0..20 {
            assert!(!client.words(&format!("XADD stream * n {n}")).is_error());
        }
        assert!(!client.words("XADD stream MAXLEN 10 * n last").is_error());
        assert!(!client.words("XADD fresh * n 1").is_error());
        assert!(client.words("XADD nowhere NOMKSTREAM * n 1").is_nil());
        assert_eq!(client.words("XLEN stream"), 10.into());
    });
}

#[test]
fn approximate_trimming_leaves_the_same_entries() {
    everywhere(&["XADD stream 1-1 f v"], |client| {
        let add: Vec<String> = (0..500).map(|n| format!("XADD stream * n {n}")).collect();
        let add: Vec<Vec<&str>> = add.iter().map(|line| line.split(' ').collect()).collect();
        client.pipeline(&add.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert!(!client.words("XADD stream MAXLEN ~ 150 * n last").is_error());
        assert!(client.words("XTRIM stream MAXLEN ~ 20").int() > 0);
    });
}

#[test]
fn consumer_groups_move_alike() {
    let seed = ["XGROUP CREATE stream group 0 MKSTREAM", "XADD stream 1-1 f a", "XADD stream 1-2 f b"];
    everywhere(&seed, |client| {
        for n in 3..9 {
            client.words(&format!("XADD stream 1-{n} f {n}"));
        }
        assert!(!client.words("XREADGROUP GROUP group one COUNT 3 STREAMS stream >").is_error());
        assert!(!client.words("XREADGROUP GROUP group two COUNT 2 NOACK STREAMS stream >").is_error());
        assert!(!client.words("XREADGROUP GROUP group two STREAMS stream >").is_error());
        assert!(client.words("XREADGROUP GROUP group idle STREAMS stream >").is_nil());
        assert_eq!(client.words("XACK stream group 1-1"), 1.into());
        assert!(!client.words("XCLAIM stream group two 0 1-2").is_error());
        assert!(!client.words("XAUTOCLAIM stream group three 0 0 COUNT 2").is_error());
    });
}

#[test]
fn floats_add_up_to_the_same_bytes() {
    everywhere(&["SET float 0.1 PX 600000", "HSET hash float 0.1"], |client| {
        for _ in 0..10 {
            assert!(!client.words("INCRBYFLOAT float 0.1").is_error());
            assert!(!client.words("HINCRBYFLOAT hash float 1.1e-3").is_error());
            assert!(!client.words("ZINCRBY zset 0.1 member").is_error());
        }
        assert!(client.words("PTTL float").int() > 500_000, "the expiry is kept");
        assert!(client.words("HINCRBYFLOAT float f 1").is_error());
    });
}

#[test]
fn a_transaction_of_all_of_them_is_one_effect() {
    everywhere(&["SADD set a b c d", "XADD stream 1-1 f v", "SET n 1"], |client| {
        for _ in 0..5 {
            let replies = client.pipeline(&[
                &["MULTI"],
                &["SPOP", "set"],
                &["INCR", "n"],
                &["XADD", "stream", "*", "f", "v"],
                &["INCRBYFLOAT", "float", "0.1"],
                &["LPUSH", "n", "wrong"],
                &["SET", "last", "x", "PX", "600000"],
                &["EXEC"],
            ]);
            assert_eq!(replies[7].items().len(), 6);
        }
    });
}

#[test]
fn scripts_that_choose_leave_the_same() {
    everywhere(&["SADD set a b c d e f g h", "SET n 1"], |client| {
        let script = "redis.call('SET', KEYS[1], redis.call('TIME')[2]) \
                      redis.call('SADD', KEYS[2], math.random(1000000)) return redis.call('SPOP', KEYS[2])";
        for _ in 0..5 {
            assert!(!client.call(&["EVAL", script, "2", "time", "set"]).is_error());
        }
        let failing = "redis.call('INCR', KEYS[1]) return redis.call('NOSUCH')";
        assert!(client.call(&["EVAL", failing, "1", "n"]).is_error());
        let plain = "return redis.call('INCR', KEYS[1])";
        assert_eq!(client.call(&["EVAL", plain, "1", "n"]), 3.into());
        let sha = client.call(&["SCRIPT", "LOAD", plain]).text();
        assert_eq!(client.call(&["EVALSHA", &sha, "1", "n"]), 4.into());
    });
}

#[test]
fn a_script_that_only_the_default_store_knows_is_copied() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        let mut client = pair.client();
        client.words("SET n 1");
        let sha =
            pair.default_store(stage).call(&["SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])"]).text();
        assert_eq!(client.call(&["EVALSHA", &sha, "1", "n"]), 2.into(), "{stage}");
        assert_eq!(client.call(&["EVALSHA", &sha, "1", "n"]), 3.into(), "{stage}");
        pair.assert_both("GET n", "3");
    }
}

#[test]
fn what_a_watching_client_writes_is_mirrored_whatever_the_reply() {
    everywhere(&["SET taken by-me"], |client| {
        assert_eq!(client.words("WATCH watched"), Value::ok());
        // Nil is no refusal here.
        assert!(client.words("SET fresh value GET").is_nil());
        assert!(client.words("SET taken value NX GET").bytes() == b"by-me");
        let script = "redis.call('set', KEYS[1], 'written'); return redis.call('incr', KEYS[1])";
        assert!(client.call(&["EVAL", script, "1", "half"]).is_error());
        assert_eq!(client.words("UNWATCH"), Value::ok());
        assert_eq!(client.words("GET half"), "written".into());
    });
}

#[test]
fn transactions_over_several_databases_leave_the_same() {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        for line in ["SET n 41", "RPUSH q a b"] {
            pair.secondary.words(line);
        }
        let mut client = pair.client();
        for round in 0..3 {
            let number = round.to_string();
            let replies = client.pipeline(&[
                &["MULTI"],
                &["INCR", "n"],
                &["SELECT", "1"],
                &["SADD", "s", &number],
                &["INCR", "n"],
                &["SELECT", "2"],
                &["SPOP", "nothing"],
                &["SET", "last", &number, "EX", "1000"],
                &["EXEC"],
            ]);
            let exec = replies.last().expect("a reply").items().to_vec();
            assert_eq!((&exec[0], &exec[3]), (&(42 + round).into(), &(1 + round).into()), "{stage}");
            // The client is where the transaction left it.
            assert_eq!(client.words("GET last"), number.as_str().into(), "{stage}");
            assert_eq!(client.words("SELECT 0"), Value::ok());
            assert_eq!(client.words("RPUSH q c"), (3 + round).into(), "{stage}");
        }
        pair.assert_both("GET n", "44");
    }
}
