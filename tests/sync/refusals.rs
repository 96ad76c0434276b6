//! A default store that refuses, while the other one holds what it lacks: nothing of that is lost.

use super::*;

/// A cold primary that is the default and refuses what `refuse` says; the secondary has everything.
fn refusing(refuse: &str) -> Pair {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    for line in ["SET s old", "SET gone old", "RPUSH q a b c", "SET n 41", "SADD t m", "SET watched 1"] {
        secondary.words(line);
    }
    assert!(!primary.words(refuse).is_error(), "{refuse}");
    Pair::over(primary, secondary, Stage::DualPrimaryDefault, &EAGER)
}

/// What the secondary held is had through the proxy once the primary takes writes again, and on both stores.
fn assert_nothing_lost(pair: &Pair, allow: &str) {
    assert!(!pair.primary.words(allow).is_error(), "{allow}");
    let mut client = pair.client();
    poll_until(REPAIRED, "the primary takes the keys over", || client.words("LPOP q") == "a".into());
    assert_eq!(client.words("INCR n"), 42.into());
    assert_eq!(client.words("GETDEL gone"), "old".into());
    assert_eq!(client.words("SPOP t"), "m".into());
    assert_eq!(client.words("APPEND s er"), 5.into());
    assert_eq!(client.words("INCR watched"), 2.into());
    pair.assert_both("GET s", "older");
    assert_eq!(pair.secondary.words("LRANGE q 0 -1"), Value::bulks(&["b", "c"]));
}

const FULL: (&str, &str) = ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0");

#[test]
fn what_a_full_primary_cannot_take_over_stays_where_it_is() {
    let pair = refusing(FULL.0);
    let mut client = pair.client();
    for line in ["LPOP q", "INCR n", "GETDEL gone", "SPOP t", "PERSIST s", "RPOPLPUSH q other"] {
        let reply = client.words(line);
        assert!(reply.is_error(), "{line}: the primary has not got the key: {reply:?}");
    }
    // Not even together, or while somebody waits.
    client.words("MULTI");
    client.words("LPOP q");
    assert!(client.words("EXEC").is_error());
    assert!(client.words("BLPOP q 0.1").is_error());
    assert!(client.words("EVAL return(redis.call('LPOP',KEYS[1])) 1 q").is_error());
    // What can be read is read.
    assert_eq!(client.words("LRANGE q 0 -1"), Value::bulks(&["a", "b", "c"]));
    assert_eq!(client.words("GET s"), "old".into());
    assert_nothing_lost(&pair, FULL.1);
}

#[test]
fn who_watches_what_cannot_be_taken_over_is_told() {
    let pair = refusing(FULL.0);
    let mut client = pair.client();
    let watch = client.words("WATCH watched");
    let get = client.words("GET watched");
    assert!(watch.is_error() || get.is_error() || get == "1".into(), "{watch:?} {get:?}");
    client.words("UNWATCH");
    assert_nothing_lost(&pair, FULL.1);
}

#[test]
fn a_refused_write_replaces_nothing_on_the_other_store() {
    let pair = refusing(FULL.0);
    let mut client = pair.client();
    assert!(client.words("SET s new").error().starts_with("OOM"));
    assert!(client.words("MSET s new gone new").error().starts_with("OOM"));
    let replies = client.pipeline(&[&["SET", "s", "new"], &["SET", "gone", "new"]]);
    assert!(replies.iter().all(Value::is_error), "{replies:?}");
    client.words("MULTI");
    client.words("SET s new");
    assert!(client.words("EXEC").is_error());
    assert_eq!(client.words("GET s"), "old".into());
    assert_nothing_lost(&pair, FULL.1);
}

#[test]
fn a_refused_removal_removes_nothing_on_the_other_store() {
    let (refuse, allow) =
        ("ACL SETUSER default -del -unlink -flushall -flushdb", "ACL SETUSER default +@all");
    let pair = refusing(refuse);
    let mut client = pair.client();
    for line in ["DEL s", "UNLINK q n", "FLUSHDB", "FLUSHALL"] {
        assert!(client.words(line).error().starts_with("NOPERM"), "{line}");
    }
    client.words("MULTI");
    client.words("FLUSHALL");
    assert!(client.words("EXEC").is_error());
    assert_nothing_lost(&pair, allow);
}

#[test]
fn a_write_that_was_lost_on_its_way_removes_nothing_on_the_other_store() {
    let pair = refusing("PING");
    let mut client = pair.client();
    // Paused commands of a connection that ends are not run.
    pair.primary.words("CLIENT PAUSE 60000 WRITE");
    for line in ["SET s new", "DEL gone", "FLUSHALL"] {
        client.send(&line.split(' ').collect::<Vec<_>>());
        poll_until(SOON, "the write waits on the primary", || {
            pair.primary.info("clients", "blocked_clients").as_deref() == Some("1")
        });
        pair.primary.words("CLIENT KILL TYPE normal SKIPME yes");
        assert!(client.read_reply().is_error(), "{line}");
        pair.wait_up(StoreId::Primary, true);
    }
    pair.primary.words("CLIENT UNPAUSE");
    pair.wait_settled();
    assert_nothing_lost(&pair, "PING");
}

#[test]
fn what_was_carried_on_from_a_refused_write_is_repaired_as_well() {
    // The other store refuses what adds, and takes what only moves: by then the proxy has placed both.
    for (refuse, allow) in [FULL, ("ACL SETUSER default -append -sadd -hset", "ACL SETUSER default +@all")] {
        for stage in DUAL {
            let pair = Pair::eager(stage);
            let mut client = pair.client();
            for line in ["SET a old", "SADD s m", "SADD s2 m", "HSET h f 1", "SET from 1", "SET to 1"] {
                client.words(line);
            }
            pair.assert_converges();
            let other = stage.default_store().other();
            assert!(!pair.server(other).words(refuse).is_error(), "{refuse}");
            let replies = client.pipeline(&[
                &["APPEND", "a", "er"],
                &["RENAME", "a", "b"],
                &["RENAME", "b", "c"],
                &["SADD", "s", "n"],
                &["RENAME", "s", "s3"],
                &["HSET", "h", "g", "2"],
                &["MULTI"],
                &["RENAME", "h", "h2"],
                &["EXEC"],
            ]);
            assert!(!replies.iter().any(Value::is_error), "{stage}: {replies:?}");
            assert!(!pair.server(other).words(allow).is_error(), "{allow}");
            pair.assert_both("GET c", "older");
            pair.assert_both("SCARD s3", 2);
            pair.assert_both("HLEN h2", 2);
        }
    }
}
