//! MultiStore's two old wounds, and `hydrate`.

use super::*;

#[test]
fn an_incr_on_a_cold_primary_goes_on_counting() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        pair.secondary.words("SET visits 41");
        let mut client = pair.client();
        assert_eq!(client.words("INCR visits"), 42.into(), "{stage}");
        assert_eq!(client.words("GET visits"), "42".into(), "{stage}");
        pair.assert_both("GET visits", "42");
        assert_eq!(client.words("INCR visits"), 43.into(), "{stage}");
        pair.assert_both("GET visits", "43");
    }
}

#[test]
fn counts_go_on_over_both_flips() {
    let mut pair = Pair::start_in(Stage::SecondaryOnly);
    pair.secondary.words("SET visits 100");
    let mut client = pair.client();
    let mut expected = 100;
    for stage in [Stage::SecondaryOnly, DUAL[0], DUAL[1], Stage::PrimaryOnly] {
        pair.stage(stage);
        for _ in 0..3 {
            expected += 1;
            assert_eq!(client.words("INCR visits"), expected.into(), "{stage}");
        }
    }
    assert_eq!(pair.primary.words("GET visits"), "112".into());
}

#[test]
fn a_lock_held_on_the_secondary_is_not_granted_by_a_cold_primary() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        pair.secondary.words("SET lock alice PX 60000");
        let mut bob = pair.client();
        assert_eq!(bob.words("SET lock bob NX PX 60000"), Value::Nil, "{stage}");
        assert_eq!(bob.words("SETNX lock bob"), 0.into(), "{stage}");
        assert_eq!(bob.words("GET lock"), "alice".into(), "{stage}");
        pair.assert_both("GET lock", "alice");
        // The lock is released and taken again: by one, on both stores.
        assert_eq!(bob.words("DEL lock"), 1.into(), "{stage}");
        assert_eq!(bob.words("SET lock bob NX PX 60000"), Value::ok(), "{stage}");
        assert_eq!(pair.client().words("SET lock carol NX PX 60000"), Value::Nil, "{stage}");
        pair.assert_both("GET lock", "bob");
    }
}

#[test]
fn a_lock_is_not_granted_by_a_pipeline_transaction_or_script_either() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        for key in ["pipe", "multi", "script"] {
            pair.secondary.words(&format!("SET {key} alice"));
        }
        let mut bob = pair.client();
        let replies = bob.pipeline(&[&["SETNX", "pipe", "bob"], &["GET", "pipe"]]);
        assert_eq!(replies, [0.into(), "alice".into()], "{stage}");
        let replies = bob.pipeline(&[&["MULTI"], &["SETNX", "multi", "bob"], &["GET", "multi"], &["EXEC"]]);
        assert_eq!(replies[3], vec![0.into(), "alice".into()].into(), "{stage}");
        let script = "return {redis.call('SETNX', KEYS[1], ARGV[1]), redis.call('GET', KEYS[1])}";
        let reply = bob.call(&["EVAL", script, "1", "script", "bob"]);
        assert_eq!(reply, vec![0.into(), "alice".into()].into(), "{stage}");
        pair.assert_converges();
    }
}

#[test]
fn the_grant_of_a_lock_and_its_holder_come_from_the_same_truth() {
    // A leftover on the primary: MultiStore granted the lock by the secondary and then told its
    // holder, from the primary, that somebody else has it.
    let pair = Pair::start_in(Stage::DualSecondaryDefault);
    pair.primary.words("SET lock leftover");
    let mut client = pair.client();
    assert_eq!(client.words("SET lock mine NX"), Value::ok());
    assert_eq!(client.words("GET lock"), "mine".into());
    pair.assert_both("GET lock", "mine");

    // While the primary is the default, a key that only the secondary has is found, and counts.
    let pair = Pair::start_in(Stage::DualPrimaryDefault);
    pair.secondary.words("SET lock theirs");
    let mut client = pair.client();
    assert_eq!(client.words("SET lock mine NX"), Value::Nil);
    assert_eq!(client.words("GET lock"), "theirs".into());
    pair.assert_both("GET lock", "theirs");
}

#[test]
fn every_type_is_continued_on_a_cold_primary() {
    let writes = [
        ("RPUSH list a b", "RPUSH list c", "LRANGE list 0 -1"),
        ("HSET hash f 1", "HINCRBY hash f 1", "HGETALL hash"),
        ("SADD set a", "SADD set b", "SCARD set"),
        ("ZADD zset 1 a", "ZINCRBY zset 1 a", "ZRANGE zset 0 -1 WITHSCORES"),
        ("XADD stream 5-1 f v", "XADD stream 6-1 f w", "XLEN stream"),
        ("SETRANGE string 0 abc", "APPEND string d", "GET string"),
        ("PFADD hll a b", "PFADD hll c", "PFCOUNT hll"),
        ("SETBIT bits 7 1", "SETBIT bits 3 1", "BITCOUNT bits"),
    ];
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        let alone = RedisServer::start();
        let mut client = pair.client();
        for (before, write, read) in writes {
            pair.secondary.words(before);
            alone.words(before);
            assert_eq!(client.words(write), alone.words(write), "{stage}: {write}");
            assert_eq!(client.words(read), alone.words(read), "{stage}: {read}");
        }
        pair.assert_converges();
        assert_eq!(differences(&dump(&pair.primary), &dump(&alone)), Vec::<String>::new(), "{stage}");
    }
}

#[test]
fn keys_that_move_over_are_not_lost_on_a_cold_primary() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        for line in ["SET a 1", "SET b 2", "SADD s x y", "SADD t y", "RPUSH l 1 2 3"] {
            pair.secondary.words(line);
        }
        let mut client = pair.client();
        assert_eq!(client.words("RENAME a c"), Value::ok(), "{stage}");
        assert_eq!(client.words("COPY b d"), 1.into(), "{stage}");
        assert_eq!(client.words("SDIFFSTORE u s t"), 1.into(), "{stage}");
        assert_eq!(client.words("LMOVE l m LEFT RIGHT"), "1".into(), "{stage}");
        assert_eq!(client.words("MGET a b c d"), vec![Value::Nil, "2".into(), "1".into(), "2".into()].into());
        assert_eq!(client.words("SMEMBERS u"), Value::bulks(&["x"]), "{stage}");
        // Only what was touched has been copied.
        for key in ["a", "c", "d", "u", "l", "m"] {
            let line = format!("DUMP {key}");
            poll_until(SOON, &format!("{stage}: {key} alike"), || {
                pair.primary.words(&line) == pair.secondary.words(&line)
            });
        }
    }
}

#[test]
fn reads_of_several_keys_miss_nothing_on_a_cold_primary() {
    for stage in DUAL {
        for piped in [false, true] {
            let pair = Pair::start_in(stage);
            let alone = RedisServer::start();
            let mut client = pair.client();
            for line in ["SADD s x y", "SADD t y z", "ZADD z 1 a", "SET m one", "SET n two", "PFADD h a b"] {
                pair.secondary.words(line);
                alone.words(line);
            }
            for line in ["SADD u y", "ZADD w 2 a 3 b", "PFADD i c"] {
                client.words(line);
                alone.words(line);
            }
            for read in [
                "SDIFF s t",
                "SINTER s t u",
                "SINTERCARD 2 s u",
                "ZUNION 2 z w WITHSCORES",
                "EXISTS s t n nowhere",
                "TOUCH s nowhere",
                "LCS m n",
                "PFCOUNT h i",
                "EVAL_RO return(redis.call('GET',KEYS[1])) 1 m",
            ] {
                let reply = match piped {
                    false => client.words(read),
                    true => client.pipeline(&[&["PING"], &read.split(' ').collect::<Vec<_>>()]).remove(1),
                };
                assert_eq!(reply, alone.words(read), "{stage}, piped: {piped}: {read}");
            }
            pair.wait_settled();
            assert_eq!(pair.fallbacks(), 0.0, "{stage}");
        }
    }
}

#[test]
fn without_hydrate_cold_keys_are_as_with_multistore() {
    const VERBATIM: &[&str] = &["hydrate = false"];
    let pair = Pair::start_with(Stage::DualSecondaryDefault, VERBATIM);
    pair.secondary.words("SET visits 41");
    let mut client = pair.client();
    assert_eq!(client.words("INCR visits"), 42.into());
    poll_until(SOON, "the primary counts from 1", || pair.primary.words("GET visits") == "1".into());
    poll_until(SOON, "and answers so", || client.words("GET visits") == "1".into());
    pair.wait_settled();
    assert_eq!(pair.primary.words("GET visits"), "1".into(), "nothing is copied");
    assert_eq!(pair.sync()["copies_done"], 0);

    let pair = Pair::start_with(Stage::DualPrimaryDefault, VERBATIM);
    pair.secondary.words("SET visits 41");
    pair.secondary.words("SET lock alice");
    let mut client = pair.client();
    assert_eq!(client.words("INCR visits"), 1.into());
    assert_eq!(client.words("SET lock bob NX"), Value::ok());
    pair.wait_settled();
    assert_eq!(pair.secondary.words("GET visits"), "42".into());
    assert_eq!(pair.secondary.words("GET lock"), "alice".into());
    assert_eq!(pair.sync()["copies_done"], 0);
}

#[test]
fn a_copy_of_nothing_says_nothing_about_its_target() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        pair.secondary.words("SET target 41");
        let mut client = pair.client();
        // In sync, and not there.
        client.words("DEL source");
        assert_eq!(client.words("COPY source target REPLACE"), 0.into(), "{stage}");
        assert_eq!(client.words("INCR target"), 42.into(), "{stage}");
        pair.assert_both("GET target", "42");
    }
}

/// Keys that only the secondary has, `@` standing for a prefix of their own.
const COLD: &str = "SET @str hello
    SET @num 10
    RPUSH @list a b c
    RPUSH @list2 d e
    SADD @set 1 2 3
    SADD @set2 2 3 4
    HSET @hash f 1 g v
    ZADD @zset 1 a 2.5 b 3 c
    ZADD @zset2 4 c 5 d
    XADD @stream 1-1 f v
    XADD @stream 2-1 f w
    XGROUP CREATE @stream grp 0
    PFADD @hll a b
    PFADD @hll2 b c
    GEOADD @geo 13.361389 38.115556 p 15.087269 37.502669 q
    SET @ends soon PX 600000";

/// Requests, a line each, or several with bars in between. Not here: DEL, which removes on both stores and counts what
/// the default store had.
const ASKED: &str = "GET @str
    GETEX @str PERSIST
    GETDEL @str
    GETSET @str x
    SET @str x GET
    SET @str x NX
    SET @str x XX
    SET @ends x KEEPTTL
    SETNX @str x
    MSETNX @str x @new y
    APPEND @str x
    SETRANGE @str 2 x
    STRLEN @str
    GETRANGE @str 1 2
    SUBSTR @str 1 2
    LCS @str @num
    MGET @str @none @num
    INCR @num
    DECRBY @num 3
    INCRBYFLOAT @num 1.5
    EXISTS @str @none @num @str
    TOUCH @str @none
    TYPE @str
    PERSIST @ends
    EXPIRE @ends 1000 XX
    EXPIRE @ends 1000 NX
    EXPIRE @ends 1000000 GT
    EXPIRE @ends 100 LT
    EXPIRE @str 0
    RENAME @str @num
    RENAME @none @num
    RENAMENX @str @num
    COPY @str @num
    COPY @str @num REPLACE
    OBJECT ENCODING @list
    LPUSHX @list x
    RPUSHX @none x
    LPUSH @list x
    LPOP @list
    RPOP @list 5
    LRANGE @list 0 -1
    LLEN @list
    LINDEX @list 1
    LPOS @list c
    LSET @list 0 x
    LREM @list 0 b
    LTRIM @list 1 1
    LINSERT @list BEFORE b x
    LMOVE @list @list2 LEFT RIGHT
    RPOPLPUSH @list @list2
    LMPOP 2 @none @list LEFT COUNT 2
    BLPOP @none @list 1
    BRPOP @list 1
    BLMOVE @list @list2 LEFT LEFT 1
    BLMPOP 1 2 @none @list RIGHT
    SORT @list ALPHA DESC STORE @list2
    SORT @none STORE @list2
    SORT @set LIMIT 0 2
    SADD @set 3 9
    SREM @set 1
    SISMEMBER @set 2
    SMISMEMBER @set 2 7
    SMEMBERS @set
    SCARD @set
    SMOVE @set @set2 1
    SINTER @set @set2
    SUNION @set @none
    SDIFF @set @set2
    SINTERCARD 2 @set @set2
    SINTERSTORE @set @set @set2
    SINTERSTORE @set2 @set @none
    SUNIONSTORE @new @set @set2
    SDIFFSTORE @set2 @set2 @set
    HGET @hash f
    HMGET @hash f x
    HGETALL @hash
    HSET @hash f 2 h 3
    HSETNX @hash f 2
    HDEL @hash f x
    HINCRBY @hash f 4
    HINCRBYFLOAT @hash f 1.1e1
    HEXISTS @hash g
    HLEN @hash
    HSTRLEN @hash g
    HSCAN @hash 0
    ZADD @zset GT 2 a 9 z
    ZADD @zset INCR 2 a
    ZADD @zset XX CH 7 a
    ZINCRBY @zset 2 a
    ZREM @zset a
    ZSCORE @zset b
    ZMSCORE @zset a x
    ZRANK @zset c
    ZCARD @zset
    ZCOUNT @zset 1 2
    ZRANGE @zset 0 -1 WITHSCORES
    ZPOPMIN @zset
    ZPOPMAX @zset 2
    ZMPOP 2 @none @zset MIN
    BZPOPMIN @none @zset 1
    BZMPOP 1 2 @none @zset MAX
    ZUNION 2 @zset @zset2 WITHSCORES
    ZINTER 2 @zset @zset2
    ZDIFF 2 @zset @zset2
    ZINTERCARD 2 @zset @zset2
    ZUNIONSTORE @zset 2 @zset @zset2
    ZINTERSTORE @zset2 2 @zset @none
    ZDIFFSTORE @new 2 @zset @zset2
    ZRANGESTORE @new @zset 0 1
    ZREMRANGEBYRANK @zset 0 0
    ZREMRANGEBYSCORE @zset 0 9
    XADD @stream 3-1 f x
    XADD @stream MINID ~ 2 3-1 f x
    XADD @none NOMKSTREAM 3-1 f x
    XLEN @stream
    XRANGE @stream - +
    XREAD STREAMS @stream @none 0 0
    XREAD COUNT 1 STREAMS @stream 1
    XTRIM @stream MAXLEN 1
    XDEL @stream 1-1
    XREADGROUP GROUP grp me COUNT 1 STREAMS @stream >
    XREADGROUP GROUP grp me NOACK STREAMS @stream >
    XGROUP CREATECONSUMER @stream grp me
    XGROUP SETID @stream grp $
    XCLAIM @stream grp me 0 1-1 FORCE JUSTID
    XPENDING @stream grp
    XSETID @stream 9-9
    PFADD @hll z
    PFCOUNT @hll
    PFCOUNT @hll @hll2
    PFMERGE @hll @hll2
    GEOADD @geo 2 48 r
    GEODIST @geo p q
    GEOSEARCH @geo FROMMEMBER p BYRADIUS 300 km ASC
    GEOSEARCHSTORE @new @geo FROMMEMBER p BYRADIUS 300 km
    GEORADIUS @geo 15 37 200 km STORE @zset
    SETBIT @str 7 1
    GETBIT @str 1
    BITCOUNT @str
    BITPOS @str 1
    BITOP AND @new @str @num
    BITOP NOT @str @none
    BITFIELD @str OVERFLOW FAIL INCRBY u2 0 3 GET u8 0
    BITFIELD_RO @str GET u8 0
    EVAL return(redis.call('INCR',KEYS[1])) 1 @num
    EVAL return(redis.call('SDIFF',KEYS[1],KEYS[2])) 2 @set @set2
    EVAL_RO return(redis.call('GET',KEYS[1])) 1 @str
    MULTI|INCR @num|GET @str|RPOP @list|EXEC
    MULTI|SDIFF @set @set2|EXEC
    MULTI|SUNIONSTORE @new @set @set2|SCARD @new|EXEC
    MULTI|SET @num 5|GETSET @num 6|RENAME @str @num|EXEC
    WATCH @num|GET @num|MULTI|INCR @num|LPOP @list|EXEC";

/// Is the order of the reply the server's own affair?
fn is_unordered(line: &str) -> bool {
    ["SINTER", "SUNION", "SDIFF", "SMEMBERS", "EVAL"].iter().any(|name| line.starts_with(name))
}

#[test]
fn nothing_shows_that_a_primary_is_cold() {
    for stage in DUAL {
        let pair = Pair::start_in(stage);
        let alone = RedisServer::start();
        let (mut client, mut lone, mut secondary) = (pair.client(), alone.client(), pair.secondary.client());
        for (at, asked) in ASKED.lines().enumerate() {
            let named = |line: &&str| {
                line.split_whitespace()
                    .any(|key| key.starts_with('@') && asked.split(['|', ' ']).any(|word| word == key))
            };
            let ours = |line: &str| line.trim().replace('@', &format!("{at}:"));
            for line in COLD.lines().filter(named).map(ours) {
                secondary.words(&line);
                lone.words(&line);
            }
            for line in ours(asked).split('|') {
                let (mut got, mut expected) = (client.words(line), lone.words(line));
                for value in [&mut got, &mut expected] {
                    if let (true, Value::Array(items)) = (is_unordered(line), value) {
                        items.sort_by_key(Value::text);
                    }
                }
                assert_eq!(got, expected, "{stage}: {line}");
            }
        }
        pair.wait_settled();
        let held = dump(&pair.secondary);
        assert_eq!(differences(&held, &dump(&alone)), Vec::<String>::new(), "{stage}");
        let touched = dump(&pair.primary);
        let held: Dump = held.into_iter().filter(|(key, _)| touched.contains_key(key)).collect();
        assert_eq!(differences(&touched, &held), Vec::<String>::new(), "{stage}: primary, secondary");
    }
}

#[test]
fn a_transaction_that_empties_the_stores_sees_what_a_cold_primary_lacks_before_it_does() {
    for stage in DUAL {
        for (flush, first) in [("FLUSHDB", "PING"), ("FLUSHALL", "PING"), ("FLUSHDB", "WATCH guard")] {
            let pair = Pair::start_in(stage);
            let alone = RedisServer::start();
            let (mut client, mut lone) = (pair.client(), alone.client());
            for line in ["SET visits 41", "SET other x", "RPUSH list a b"] {
                pair.secondary.words(line);
                alone.words(line);
            }
            let lines = [
                first,
                "MULTI",
                "INCR visits",
                "LPOP list",
                flush,
                "INCR visits",
                "EXISTS other list",
                "EXEC",
            ];
            for line in lines {
                assert_eq!(client.words(line), lone.words(line), "{stage}: {line} with {flush}");
            }
            pair.assert_both("GET visits", "1");
            pair.assert_both("DBSIZE", 1);
            assert_eq!(client.words("EXISTS other list"), 0.into(), "{stage}: {flush}");
        }
    }
}
