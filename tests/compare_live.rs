//! What a real server answers in RESP2 and in RESP3 is the same answer; what two servers that hold the same
//! data answer is the same answer; and what a server says of missing keys is a miss.

mod support;

use multistore::command::{Effect, Table, classify};
use multistore::compare::{Miss, Rule, Tick, Verdict, equal, equal_exec, is_error, is_miss};
use std::time::Duration;
use support::{Client, RedisServer};

const TOLERANCE: Duration = Duration::from_secs(1);
const SECONDS: Rule = Rule::Tolerance(Tick::Seconds);
const MILLIS: Rule = Rule::Tolerance(Tick::Millis);
/// Enough members that sets and hashes are hash tables, whose order every server chooses for itself.
const MANY: usize = 700;

const DATA: &[&str] = &[
    "SET string hello",
    "SET number 42",
    "SET tenth 0.1",
    "SETRANGE bits 10 x",
    "SET soon v EX 1000",
    "SETEX later 5000 v",
    "RPUSH list a b c a 1.5 2",
    "RPUSH numbers 3 1 2",
    "SADD set a b c 1 2",
    "SADD set2 b c d",
    "SADD ints 1 2 3",
    "HSET hash f1 v1 f2 v2 n 0.1",
    "ZADD zset 1 one 2.5 two 0.1 tenth inf most -inf least 100000000000000000 big",
    "ZADD zset2 3 one 4 four",
    "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "XADD stream 1-1 f v g w",
    "XADD stream 1-2 f v2",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >",
    "PFADD log a b c",
    "PFADD log2 c d",
];

const READS: &[(Rule, &str)] = &[
    (Rule::Exact, "GET string"),
    (Rule::Exact, "GET missing"),
    (Rule::Exact, "GETRANGE string 1 2"),
    (Rule::Exact, "STRLEN string"),
    (Rule::Exact, "MGET string missing number list"),
    (Rule::Exact, "LCS string number IDX WITHMATCHLEN"),
    (Rule::Exact, "LCS string string IDX"),
    (Rule::Exact, "GETBIT bits 81"),
    (Rule::Exact, "BITCOUNT bits"),
    (Rule::Exact, "BITPOS bits 1"),
    (Rule::Exact, "BITFIELD_RO bits GET u8 0 GET i4 80"),
    (Rule::Exact, "EXISTS string missing"),
    (Rule::Exact, "TYPE zset"),
    (Rule::Exact, "TYPE missing"),
    (Rule::Exact, "OBJECT ENCODING hash"),
    (Rule::Exact, "OBJECT REFCOUNT string"),
    (Rule::Exact, "OBJECT ENCODING missing"),
    (SECONDS, "OBJECT IDLETIME string"),
    (SECONDS, "TTL soon"),
    (SECONDS, "TTL string"),
    (SECONDS, "TTL missing"),
    (SECONDS, "EXPIRETIME soon"),
    (MILLIS, "PTTL soon"),
    (MILLIS, "PTTL string"),
    (MILLIS, "PEXPIRETIME soon"),
    (Rule::Exact, "DUMP string"),
    (Rule::Exact, "LRANGE list 0 -1"),
    (Rule::Exact, "LRANGE missing 0 -1"),
    (Rule::Exact, "LINDEX list 9"),
    (Rule::Exact, "LLEN list"),
    (Rule::Exact, "LPOS list a"),
    (Rule::Exact, "LPOS list z"),
    (Rule::Exact, "LPOS list a COUNT 0"),
    (Rule::Exact, "SORT_RO numbers DESC"),
    (Rule::Exact, "SORT_RO numbers BY nosort GET missing-*"),
    (Rule::Multiset, "SMEMBERS set"),
    (Rule::Multiset, "SMEMBERS missing"),
    (Rule::Multiset, "SUNION set set2"),
    (Rule::Multiset, "SINTER set set2"),
    (Rule::Multiset, "SDIFF set set2"),
    (Rule::Exact, "SISMEMBER set a"),
    (Rule::Exact, "SMISMEMBER set a z"),
    (Rule::Exact, "SCARD set"),
    (Rule::Exact, "SINTERCARD 2 set set2"),
    (Rule::Ignore, "SRANDMEMBER set 3"),
    (Rule::Exact, "HGET hash f1"),
    (Rule::Exact, "HGET hash missing"),
    (Rule::Exact, "HMGET hash f1 missing"),
    (Rule::PairsMultiset, "HGETALL hash"),
    (Rule::PairsMultiset, "HGETALL missing"),
    (Rule::Multiset, "HKEYS hash"),
    (Rule::Multiset, "HVALS hash"),
    (Rule::Exact, "HEXISTS hash f1"),
    (Rule::Exact, "HLEN hash"),
    (Rule::Exact, "HSTRLEN hash f1"),
    (Rule::Ignore, "HRANDFIELD hash 2 WITHVALUES"),
    (Rule::Numbers, "ZSCORE zset two"),
    (Rule::Numbers, "ZSCORE zset tenth"),
    (Rule::Numbers, "ZSCORE zset most"),
    (Rule::Numbers, "ZSCORE zset least"),
    (Rule::Numbers, "ZSCORE zset missing"),
    (Rule::Numbers, "ZMSCORE zset two missing most big"),
    (Rule::Exact, "ZRANK zset two"),
    (Rule::Exact, "ZREVRANK zset missing"),
    (Rule::Exact, "ZCARD zset"),
    (Rule::Exact, "ZCOUNT zset -inf 2"),
    (Rule::Exact, "ZLEXCOUNT zset - +"),
    (Rule::Numbers, "ZRANGE zset 0 -1"),
    (Rule::Numbers, "ZRANGE zset 0 -1 WITHSCORES"),
    (Rule::Numbers, "ZRANGE zset 0 0 WITHSCORES"),
    (Rule::Numbers, "ZRANGE missing 0 -1 WITHSCORES"),
    (Rule::Numbers, "ZREVRANGE zset 0 -1 WITHSCORES"),
    (Rule::Numbers, "ZRANGEBYSCORE zset -inf +inf WITHSCORES LIMIT 1 2"),
    (Rule::Numbers, "ZREVRANGEBYSCORE zset +inf -inf WITHSCORES"),
    (Rule::Numbers, "ZRANGEBYLEX zset - +"),
    (Rule::Numbers, "ZUNION 2 zset zset2 WITHSCORES"),
    (Rule::Numbers, "ZINTER 2 zset zset2 WITHSCORES"),
    (Rule::Numbers, "ZDIFF 2 zset zset2 WITHSCORES"),
    (Rule::Exact, "ZINTERCARD 2 zset zset2"),
    (Rule::Numbers, "GEOPOS geo Palermo missing Catania"),
    (Rule::Numbers, "GEODIST geo Palermo Catania km"),
    (Rule::Numbers, "GEODIST geo Palermo missing"),
    (Rule::Numbers, "GEOHASH geo Palermo missing"),
    (Rule::Numbers, "GEOSEARCH geo FROMMEMBER Palermo BYRADIUS 300 km ASC WITHCOORD WITHDIST WITHHASH"),
    (Rule::Numbers, "GEORADIUS_RO geo 15 37 200 km ASC WITHCOORD WITHDIST"),
    (Rule::Exact, "XRANGE stream - +"),
    (Rule::Exact, "XREVRANGE stream + - COUNT 1"),
    (Rule::Exact, "XLEN stream"),
    (Rule::Exact, "XREAD STREAMS stream 0"),
    (Rule::Exact, "XREAD COUNT 1 STREAMS stream stream 0 1-1"),
    (Rule::Exact, "XREAD STREAMS missing 0"),
    (Rule::Exact, "XPENDING stream group"),
    (Rule::Exact, "XINFO STREAM stream"),
    (Rule::Exact, "XINFO GROUPS stream"),
    (Rule::Exact, "PFCOUNT log log2"),
    (Rule::ScanPage, "SCAN 0 COUNT 1000"),
    (Rule::ScanPage, "SCAN 0 COUNT 3"),
    (Rule::ScanPage, "SSCAN set 0"),
    (Rule::ScanPairsPage, "HSCAN hash 0"),
    (Rule::ScanPairsPage, "ZSCAN zset 0"),
    (Rule::Multiset, "KEYS *"),
    (Rule::Exact, "DBSIZE"),
    (Rule::Ignore, "RANDOMKEY"),
    (Rule::Ignore, "TIME"),
    (Rule::Exact, "ECHO x"),
    (Rule::Exact, "PING"),
    (Rule::PairsMultiset, "CONFIG GET max*"),
    (Rule::Exact, "COMMAND INFO get set nosuch"),
    (Rule::Exact, "COMMAND COUNT"),
    (Rule::Exact, "COMMAND GETKEYSANDFLAGS SET k v"),
    (Rule::Exact, "COMMAND DOCS get"),
    (Rule::Exact, "ACL GETUSER default"),
    (Rule::Exact, "ACL CAT read"),
    (Rule::Exact, "FUNCTION LIST"),
    (Rule::Exact, "FUNCTION STATS"),
    (Rule::Exact, "PUBSUB NUMSUB a b"),
    (Rule::Exact, "PUBSUB CHANNELS"),
    (Rule::Exact, "SCRIPT EXISTS abc"),
    (Rule::Exact, "CLIENT GETNAME"),
    (Rule::Exact, "LATENCY DOCTOR"),
    (Rule::Exact, "MODULE LIST"),
    (Rule::Exact, "SLOWLOG LEN"),
];

/// Writes whose replies are the same when they are repeated, or are repeated on a copy of the data.
const WRITES: &[(Rule, &str)] = &[
    (Rule::Exact, "SET string hello"),
    (Rule::Exact, "SET string hello NX"),
    (Rule::Exact, "SET string hello GET"),
    (Rule::Numbers, "INCRBYFLOAT tenth 0.2"),
    (Rule::Numbers, "HINCRBYFLOAT hash n 0.2"),
    (Rule::Numbers, "ZINCRBY zset 1.25 two"),
    (Rule::Numbers, "ZADD zset INCR 1 two"),
    (Rule::Numbers, "ZADD zset XX INCR 1 missing"),
    (Rule::Numbers, "ZPOPMAX zset"),
    (Rule::Numbers, "ZPOPMIN zset 2"),
    (Rule::Numbers, "ZPOPMIN missing"),
    (Rule::Numbers, "ZMPOP 1 zset MAX COUNT 2"),
    (Rule::Numbers, "ZMPOP 1 missing MAX"),
    (Rule::Numbers, "BZPOPMIN zset2 1"),
    (Rule::Exact, "LPOP list"),
    (Rule::Exact, "LPOP list 2"),
    (Rule::Exact, "LPOP missing 2"),
    (Rule::Exact, "LMPOP 1 list LEFT COUNT 2"),
    (Rule::Exact, "BLPOP list 1"),
    (Rule::Multiset, "SPOP ints 3"),
    (Rule::Exact, "SPOP missing"),
    (Rule::Exact, "EXPIRE string 100"),
    (Rule::Exact, "XREADGROUP GROUP group consumer STREAMS stream 0"),
    (Rule::Exact, "XREADGROUP GROUP group consumer STREAMS stream >"),
    (Rule::Exact, "XCLAIM stream group other 0 1-1"),
    (Rule::Exact, "XAUTOCLAIM stream group other 0 0"),
    (Rule::Exact, "DEL string missing"),
];

const ERRORS: &[&str] = &[
    "GET list",
    "INCR string",
    "NOSUCHCOMMAND",
    "GET",
    "XREADGROUP GROUP nosuch c STREAMS stream >",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
    "SET k v XX NX",
];

/// What misses on a missing key, the command, and the same asked of something that is there.
const MISSES: &[(Miss, &str, &str)] = &[
    (Miss::Nil, "GET missing", "GET string"),
    (Miss::Nil, "HGET hash missing", "HGET hash f1"),
    (Miss::Nil, "LINDEX missing 0", "LINDEX list 0"),
    (Miss::Nil, "ZSCORE missing m", "ZSCORE zset two"),
    (Miss::Nil, "ZRANK missing m", "ZRANK zset two"),
    (Miss::Nil, "GEODIST missing a b", "GEODIST geo Palermo Catania"),
    (Miss::Nil, "OBJECT ENCODING missing", "OBJECT ENCODING list"),
    (Miss::Nil, "DUMP missing", "DUMP list"),
    (Miss::Nil, "XREAD STREAMS missing 0", "XREAD STREAMS stream 0"),
    (Miss::EmptyString, "GETRANGE missing 0 -1", "GETRANGE string 0 -1"),
    (Miss::EmptyString, "SUBSTR missing 0 -1", "SUBSTR string 0 -1"),
    (Miss::AllNil, "HMGET missing a b", "HMGET hash missing f1"),
    (Miss::AllNil, "ZMSCORE missing a b", "ZMSCORE zset missing two"),
    (Miss::AllNil, "GEOPOS missing a b", "GEOPOS geo missing Palermo"),
    (Miss::AllZero, "SMISMEMBER missing a b", "SMISMEMBER set z a"),
    (Miss::AnyNil, "MGET string missing", "MGET string number"),
    (Miss::Zero, "EXISTS missing", "EXISTS string"),
    (Miss::Zero, "HEXISTS missing f", "HEXISTS hash f1"),
    (Miss::Zero, "SISMEMBER missing a", "SISMEMBER set a"),
    (Miss::Zero, "STRLEN missing", "STRLEN string"),
    (Miss::Zero, "LLEN missing", "LLEN list"),
    (Miss::Zero, "PFCOUNT missing", "PFCOUNT log"),
    (Miss::Zero, "ZCOUNT missing -inf +inf", "ZCOUNT zset -inf +inf"),
    (Miss::Empty, "HGETALL missing", "HGETALL hash"),
    (Miss::Empty, "HKEYS missing", "HKEYS hash"),
    (Miss::Empty, "SMEMBERS missing", "SMEMBERS set"),
    (Miss::Empty, "LRANGE missing 0 -1", "LRANGE list 0 -1"),
    (Miss::Empty, "ZRANGE missing 0 -1 WITHSCORES", "ZRANGE zset 0 -1 WITHSCORES"),
    (Miss::Empty, "XRANGE missing - +", "XRANGE stream - +"),
    (Miss::Empty, "SORT_RO missing", "SORT_RO numbers"),
    (
        Miss::Empty,
        "GEOSEARCH missing FROMLONLAT 0 0 BYRADIUS 1 m",
        "GEOSEARCH geo FROMMEMBER Palermo BYRADIUS 1 m",
    ),
    (Miss::MinusTwo, "TTL missing", "TTL string"),
    (Miss::MinusTwo, "PTTL missing", "PTTL soon"),
    (Miss::MinusTwo, "EXPIRETIME missing", "EXPIRETIME string"),
    (Miss::TypeNone, "TYPE missing", "TYPE string"),
    (Miss::ZeroOrMinusOne, "BITPOS missing 1", "BITPOS bits 1"),
    (Miss::ScanEmpty, "HSCAN missing 0", "HSCAN hash 0"),
    (Miss::ScanEmpty, "SSCAN missing 0", "SSCAN set 0"),
    (Miss::ScanEmpty, "ZSCAN missing 0", "ZSCAN zset 0"),
    (Miss::OnlyError, "GET list", "GET missing"),
];

/// Two servers choose for themselves here.
const CHOOSES: &[&str] = &["SPOP ints 3"];

/// What the command table says of a request.
fn effect(line: &str) -> Effect {
    let table = Table::builtin();
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = table.find(&words[..]).unwrap_or_else(|| panic!("the table lacks {line}"));
    classify(table.spec(id), &words[..])
}

/// One connection for each protocol version.
fn clients(server: &RedisServer) -> [Client; 2] {
    let (two, mut three) = (server.client(), server.client());
    assert!(!three.words("HELLO 3").is_error());
    [two, three]
}

fn raw(client: &mut Client, line: &str) -> Vec<u8> {
    client.send(&line.split_whitespace().collect::<Vec<_>>());
    client.read_raw_reply()
}

fn load(server: &RedisServer) {
    for line in DATA {
        assert!(!server.words(line).is_error(), "{line}");
    }
}

fn load_many(server: &RedisServer) {
    for n in 0..MANY {
        for command in ["SADD many-set", "HSET many-hash field", "ZADD many-zset 1.5"] {
            let line = if command.starts_with("HSET") {
                format!("{command}-{n} value-{n}")
            } else {
                format!("{command} member-{n}")
            };
            assert!(!server.words(&line).is_error(), "{line}");
        }
    }
}

#[track_caller]
fn assert_same(rule: Rule, line: &str, a: &[u8], b: &[u8]) {
    let shown = || format!("{rule:?} {line}\n  {}\n  {}", a.escape_ascii(), b.escape_ascii());
    assert_eq!(equal(rule, a, b, TOLERANCE), Verdict::Same, "{}", shown());
    assert_eq!(equal(rule, b, a, TOLERANCE), Verdict::Same, "{}", shown());
}

#[test]
fn reads_are_the_same_in_both_protocols() {
    let server = RedisServer::start();
    load(&server);
    let [mut two, mut three] = clients(&server);
    let mut other_bytes = 0;
    for (rule, line) in READS {
        let (a, b) = (raw(&mut two, line), raw(&mut three, line));
        assert!(!is_error(&a), "{line}: {}", a.escape_ascii());
        other_bytes += usize::from(a != b);
        assert_same(*rule, line, &a, &b);
    }
    assert!(other_bytes > 20, "only {other_bytes} replies have other bytes in RESP3");
}

#[test]
fn different_answers_differ_in_both_protocols() {
    let server = RedisServer::start();
    load(&server);
    let [mut two, mut three] = clients(&server);
    for (one, other) in [
        ("GET string", "GET number"),
        ("HGETALL hash", "HGETALL missing"),
        ("SMEMBERS set", "SMEMBERS set2"),
        ("ZRANGE zset 0 -1 WITHSCORES", "ZRANGE zset 0 -2 WITHSCORES"),
        ("ZSCORE zset two", "ZSCORE zset tenth"),
        ("XREAD STREAMS stream 0", "XREAD STREAMS stream 1-1"),
        ("TTL soon", "TTL later"),
        ("GEOPOS geo Palermo", "GEOPOS geo Catania"),
        ("GET list", "GET string"),
        ("GET list", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"),
    ] {
        let (a, b) = (raw(&mut two, one), raw(&mut three, other));
        for rule in [Rule::Exact, Rule::Multiset, Rule::PairsMultiset, Rule::Numbers, SECONDS] {
            assert_eq!(equal(rule, &a, &b, TOLERANCE), Verdict::Differ, "{rule:?} {one} / {other}");
        }
    }
}

#[test]
fn writes_are_answered_alike_in_both_protocols() {
    let servers = [RedisServer::start(), RedisServer::start()];
    servers.iter().for_each(load);
    let [mut two, _] = clients(&servers[0]);
    let [_, mut three] = clients(&servers[1]);
    for (rule, line) in WRITES {
        let (a, b) = (raw(&mut two, line), raw(&mut three, line));
        assert!(!is_error(&a), "{line}: {}", a.escape_ascii());
        assert_same(*rule, line, &a, &b);
    }
}

#[test]
fn errors_are_the_same_in_both_protocols() {
    let server = RedisServer::start();
    load(&server);
    let [mut two, mut three] = clients(&server);
    for line in ERRORS {
        let (a, b) = (raw(&mut two, line), raw(&mut three, line));
        assert!(is_error(&a) && is_error(&b), "{line}");
        assert_same(Rule::Exact, line, &a, &b);
    }
}

#[test]
fn transactions_are_the_same_in_both_protocols() {
    let server = RedisServer::start();
    load(&server);
    let reads: Vec<_> = READS.iter().filter(|(_, line)| !line.starts_with("CLIENT")).collect();
    let rules: Vec<Rule> = reads.iter().map(|(rule, _)| *rule).chain([Rule::Exact]).collect();
    let replies = clients(&server).map(|mut client| {
        raw(&mut client, "MULTI");
        reads.iter().for_each(|(_, line)| assert_eq!(raw(&mut client, line), b"+QUEUED\r\n", "{line}"));
        raw(&mut client, "GET list");
        raw(&mut client, "EXEC")
    });
    assert_ne!(replies[0], replies[1]);
    assert_eq!(equal_exec(&rules, &replies[0], &replies[1], TOLERANCE), Verdict::Same);
    assert_eq!(equal_exec(&[], &replies[0], &replies[1], TOLERANCE), Verdict::Differ);
}

#[test]
fn an_aborted_transaction_is_the_same_in_both_protocols() {
    let server = RedisServer::start();
    let replies = clients(&server).map(|mut client| {
        raw(&mut client, "WATCH key");
        server.words("INCR key");
        raw(&mut client, "MULTI");
        raw(&mut client, "GET key");
        raw(&mut client, "EXEC")
    });
    assert_ne!(replies[0], replies[1]);
    assert_eq!(equal_exec(&[Rule::Exact], &replies[0], &replies[1], TOLERANCE), Verdict::Same);
}

#[test]
fn two_servers_with_the_same_data_answer_alike() {
    let servers = [RedisServer::start(), RedisServer::start()];
    servers.iter().for_each(load_many);
    let [mut one, _] = clients(&servers[0]);
    let [mut two, mut three] = clients(&servers[1]);
    for (rule, line) in [
        (Rule::Multiset, "SMEMBERS many-set"),
        (Rule::Multiset, "HKEYS many-hash"),
        (Rule::Multiset, "HVALS many-hash"),
        (Rule::PairsMultiset, "HGETALL many-hash"),
        (Rule::ScanPage, "SSCAN many-set 0 COUNT 5000"),
        (Rule::ScanPairsPage, "HSCAN many-hash 0 COUNT 5000"),
        (Rule::ScanPairsPage, "ZSCAN many-zset 0 COUNT 5000"),
        (Rule::ScanPage, "SSCAN many-set 0 COUNT 10"),
    ] {
        let a = raw(&mut one, line);
        for b in [raw(&mut two, line), raw(&mut three, line)] {
            assert_ne!(a, b, "{line}: every server has an order of its own");
            assert_eq!(equal(Rule::Exact, &a, &b, TOLERANCE), Verdict::Differ, "{line}");
            assert_same(rule, line, &a, &b);
        }
    }
    servers[1].words("HSET many-hash field-7 value-8");
    let (a, b) = (raw(&mut one, "HGETALL many-hash"), raw(&mut three, "HGETALL many-hash"));
    assert_eq!(equal(Rule::PairsMultiset, &a, &b, TOLERANCE), Verdict::Differ);
}

#[test]
fn what_is_missing_misses_in_both_protocols() {
    let server = RedisServer::start();
    load(&server);
    for (mut client, name) in clients(&server).into_iter().zip(["RESP2", "RESP3"]) {
        for (miss, missing, present) in MISSES {
            let reply = raw(&mut client, missing);
            assert!(is_miss(*miss, &reply, Some(b"0")), "{name} {missing}: {}", reply.escape_ascii());
            let reply = raw(&mut client, present);
            assert!(!is_miss(*miss, &reply, Some(b"0")), "{name} {present}: {}", reply.escape_ascii());
        }
    }
}

#[test]
fn the_command_table_names_rules_that_fit() {
    let servers = [RedisServer::start(), RedisServer::start()];
    servers.iter().for_each(load);
    let [mut two, _] = clients(&servers[0]);
    let [_, mut three] = clients(&servers[1]);
    for (_, line) in READS.iter().chain(WRITES).filter(|(_, line)| !CHOOSES.contains(line)) {
        let (a, b) = (raw(&mut two, line), raw(&mut three, line));
        assert_same(effect(line).rule, line, &a, &b);
    }
}

#[test]
fn the_command_table_names_misses_that_fit() {
    let server = RedisServer::start();
    load(&server);
    let mut client = server.client();
    for (miss, missing, present) in MISSES.iter().filter(|(_, line, _)| effect(line).miss != Miss::Never) {
        let reply = raw(&mut client, missing);
        assert!(is_miss(effect(missing).miss, &reply, Some(b"0")), "{missing}: {}", reply.escape_ascii());
        if *miss != Miss::OnlyError {
            let reply = raw(&mut client, present);
            assert!(
                !is_miss(effect(present).miss, &reply, Some(b"0")),
                "{present}: {}",
                reply.escape_ascii()
            );
        }
    }
}
