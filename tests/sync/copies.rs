//! Copies of every type: in one go, with the commands of the type where RESTORE is not to be had, and by pieces.

use super::*;

/// A value of each type, most of them above a kilobyte.
fn fill(client: &mut Client) {
    let many = 3_000;
    let word = |at: usize| format!("member-{at:06}");
    client.call(&["SET", "string", &"x".repeat(700_000)]);
    client.call(&["SET", "short", "v", "PX", "3600000"]);
    client.call(&["SETRANGE", "padded", "300000", "end"]);
    for (head, pair) in [(["RPUSH", "list"], false), (["SADD", "set"], false), (["HSET", "hash"], true)] {
        let words = (0..many).flat_map(|at| std::iter::repeat_n(word(at), if pair { 2 } else { 1 }));
        client.call(&head.map(str::to_owned).into_iter().chain(words).collect::<Vec<_>>());
    }
    let scored = (0..many).flat_map(|at| [(at as f64 / 7.0).to_string(), word(at)]);
    client.call(&["ZADD", "zset"].map(str::to_owned).into_iter().chain(scored).collect::<Vec<_>>());
    client.call(&["RPUSH", "wide", &"w".repeat(400_000), "", &"v".repeat(300_000), "u"]);
    for line in [
        "PEXPIRE hash 3600000",
        "XADD stream 1-1 f v",
        "XADD stream 2-1 f v g w",
        "XGROUP CREATE stream g 0",
        "XREADGROUP GROUP g alice COUNT 1 STREAMS stream >",
    ] {
        assert!(!client.words(line).is_error(), "{line}");
    }
}

/// Every key is touched, so that it is copied, without being changed in the end.
fn touch(client: &mut Client) {
    for line in [
        "APPEND string y",
        "APPEND short w",
        "APPEND padded y",
        "RPUSH list last",
        "RPUSH wide last",
        "SADD set last",
        "HSET hash last 1",
        "ZADD zset 1e9 last",
        "XADD stream 3-1 f last",
    ] {
        let reply = client.words(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
}

fn assert_copied(pair: &Pair, when: &str) {
    pair.wait_settled();
    assert_exactly_same(&mut pair.secondary.client(), &mut pair.primary.client(), when);
}

#[test]
fn large_keys_are_copied_by_pieces() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[r#"copy_max_bytes = "16kb""#]);
        fill(&mut pair.secondary.client());
        touch(&mut pair.client());
        assert_copied(&pair, &stage.to_string());
        assert_eq!(pair.sync()["copies_too_large"], 0, "{stage}");
        let pieces = pair.primary.calls_of("rename") + pair.primary.calls_of("renamenx");
        assert!(pieces >= 7, "{stage}: {pieces} keys were renamed");
    }
}

#[test]
fn where_restore_is_not_to_be_had_keys_are_copied_by_their_types() {
    for stage in DUAL {
        let deaf = RedisServer::start_with(&["--rename-command", "RESTORE", ""]);
        let pair = Pair::over(deaf, RedisServer::start(), stage, &EAGER);
        fill(&mut pair.secondary.client());
        touch(&mut pair.client());
        assert_copied(&pair, &stage.to_string());
        assert_eq!(pair.sync()["copies_failed"], 0, "{stage}");
        // The other way round payloads pass.
        assert_eq!(pair.secondary.calls_of("rename"), 0, "{stage}");
    }
}

#[test]
fn a_count_goes_on_although_the_first_payload_is_refused() {
    let deaf = RedisServer::start_with(&["--rename-command", "RESTORE", ""]);
    let pair = Pair::over(deaf, RedisServer::start(), Stage::DualPrimaryDefault, &EAGER);
    let mut client = pair.client();
    for n in 0..3 {
        pair.secondary.words(&format!("SET visits{n} 41"));
        pair.secondary.words(&format!("SET lock{n} alice PX 60000"));
        assert_eq!(client.words(&format!("INCR visits{n}")), 42.into());
        assert_eq!(client.words(&format!("SET lock{n} bob NX PX 60000")), Value::Nil);
    }
    pair.assert_both("GET visits0", "42");
}

#[test]
fn a_value_that_cannot_be_copied_is_not_made_up() {
    // Neither way is open: a write that would go on from nothing is refused, and says so.
    let deaf = ["--rename-command", "RESTORE", "", "--rename-command", "RENAMENX", ""];
    let pair = Pair::over(RedisServer::start_with(&deaf), RedisServer::start(), DUAL[1], &EAGER);
    pair.secondary.words("SET visits 41");
    let reply = pair.client().words("INCR visits");
    assert!(reply.error().starts_with("MULTISTORE "), "{reply:?}");
    assert!(reply.error().contains("RENAMENX"), "{reply:?}");
    assert_eq!(pair.primary.words("EXISTS visits"), 0.into());
    assert_eq!(pair.secondary.words("GET visits"), "41".into());
}

#[test]
fn a_default_store_without_room_is_copied_from() {
    let full = RedisServer::start();
    let pair = Pair::over(RedisServer::start(), full, DUAL[0], &EAGER);
    pair.secondary.words("RPUSH list a b c");
    pair.secondary.words("SET other 1");
    pair.secondary.words("CONFIG SET maxmemory 1");
    // It refuses what needs memory, MULTI among it, and takes this.
    assert_eq!(pair.client().words("LPOP list"), "a".into());
    pair.wait_settled();
    assert_eq!(pair.primary.words("LRANGE list 0 -1"), Value::bulks(&["b", "c"]));
}

#[test]
fn a_large_key_that_is_written_to_all_the_time_is_copied_in_the_end() {
    for stage in DUAL {
        let pair = Pair::eager_with(stage, &[r#"copy_max_bytes = "16kb""#]);
        let fields = (0..3_000).flat_map(|at| [format!("member-{at}"), "value".to_owned()]);
        pair.secondary
            .call(&["HSET", "hash"].map(str::to_owned).into_iter().chain(fields).collect::<Vec<_>>());
        let mut writers = [pair.client(), pair.client()];
        let mut round = 0;
        poll_until(REPAIRED, "the hash is in sync", || {
            for client in &mut writers {
                round += 1;
                let reply = client.words(&format!("HSET hash field-{round} {round}"));
                assert_eq!(reply, 1.into(), "{stage}");
            }
            pair.primary.words("EXISTS hash") == 1.into() && pair.sync()["suspects"] == 0
        });
        assert_copied(&pair, &stage.to_string());
        let names = pair.primary.words("KEYS multistore:*");
        assert!(names.items().is_empty(), "{stage}: left behind: {names:?}");
    }
}

#[test]
fn a_large_key_expires_when_it_should() {
    let pair = Pair::eager_with(DUAL[0], &[r#"copy_max_bytes = "1kb""#]);
    pair.secondary.call(&["SET", "string", &"x".repeat(300_000)]);
    pair.secondary.words("PEXPIRE string 3600000");
    pair.client().words("APPEND string y");
    pair.wait_settled();
    let left = [&pair.primary, &pair.secondary].map(|server| server.words("PTTL string").int());
    assert!((left[0] - left[1]).abs() < 1_000, "{left:?}");
}
