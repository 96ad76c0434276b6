//! Numbers at the ends of what a type holds, in every place where a command takes a number.

use crate::bench::{Bench, Request, Talk};
use crate::support::*;

/// What an `N` becomes. `\q` is nothing at all.
const EXTREMES: [&str; 16] = [
    "0",
    "-1",
    "-0",
    "4294967296",
    "-9223372036854775808",
    "9223372036854775807",
    "9223372036854775806",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "-1e308",
    "1e-320",
    "nan",
    "inf",
    "\\q",
];

const DATA: &str = "SET str hello
    SET num 10
    SET bits abc
    RPUSH list a b c a b c a b c
    SADD set 1 2 3
    HSET hash f 1 g v
    ZADD zset 1 a 2.5 b 3 c
    XADD stream 1-1 f v
    XADD stream 2-1 f w
    XGROUP CREATE stream grp 0
    GEOADD geo 13.361389 38.115556 p 15.087269 37.502669 q";

/// Where a command takes a number. What a random choice, or the time of day, decides is left out, and so are waits that
/// do not end by themselves.
const TEMPLATES: &str = "SET a v EX N / SET a v PX N / SET a v EXAT N / SET a v PXAT N / SETEX a N v / PSETEX a N v
    GETEX str EX N / GETEX str PX N / GETEX str EXAT N / GETEX str PXAT N
    EXPIRE str N / PEXPIRE str N / EXPIREAT str N / PEXPIREAT str N / EXPIRE num N NX / EXPIRE num N GT / EXPIRE num N LT
    PEXPIREAT str N / PEXPIRETIME str / EXPIRETIME str / APPEND str x / GET str / COPY str copy REPLACE / PEXPIRETIME copy
    INCRBY num N / DECRBY num N / INCRBYFLOAT num N / INCRBY missing N / DECRBY missing N / GET num
    HINCRBY hash f N / HINCRBYFLOAT hash f N / HGET hash f / ZINCRBY zset N a / ZADD zset N m / ZADD zset INCR N a / ZSCORE zset a
    GETRANGE str N N / SUBSTR str N N / GETRANGE str 0 N / SETRANGE str N x / GETBIT str N / SETBIT str N 1 / SETBIT str 0 N
    BITCOUNT str N N / BITCOUNT str 0 N BIT / BITPOS str 1 N N / BITFIELD bits GET u8 N / BITFIELD bits GET u8 #N
    BITFIELD bits INCRBY u8 0 N / BITFIELD bits OVERFLOW SAT INCRBY i64 0 N / BITFIELD bits SET i5 0 N / BITFIELD_RO bits GET uN 0
    LRANGE list N N / LRANGE list 0 N / LINDEX list N / LSET list N x / LTRIM list N N / LREM list N a / LPOP list N / RPOP list N
    LPOS list a RANK N / LPOS list a COUNT N / LPOS list a MAXLEN N / LMPOP N list LEFT / LMPOP 1 list LEFT COUNT N
    BLPOP list N / BRPOP list N / BRPOPLPUSH list list N / BLMOVE list list LEFT RIGHT N / BLMPOP N 1 list LEFT COUNT N / BLMPOP 1 N list LEFT
    BZPOPMIN zset N / BZPOPMAX zset N / BZMPOP N 1 zset MIN / BZMPOP 1 N zset MIN COUNT N
    SPOP set N / SINTERCARD N set / SINTERCARD 1 set LIMIT N / SSCAN set N / SSCAN set 0 COUNT N / SRANDMEMBER missing N
    HSCAN hash N / HSCAN hash 0 COUNT N / ZSCAN zset N / ZSCAN zset 0 COUNT N / SCAN 0 COUNT N TYPE stream / HRANDFIELD missing N
    SORT list LIMIT N N ALPHA / SORT list ALPHA LIMIT 0 N STORE dest / SORT_RO list LIMIT N 1 ALPHA
    ZRANGE zset N N / ZRANGE zset N N BYSCORE LIMIT N N / ZRANGESTORE dest zset N N / ZREVRANGE zset 0 N / ZRANGEBYSCORE zset N N LIMIT N N
    ZRANGEBYSCORE zset -inf N LIMIT 0 N / ZCOUNT zset N N / ZREMRANGEBYRANK zset N N / ZREMRANGEBYSCORE zset N N / ZPOPMIN zset N
    ZPOPMAX zset N / ZMPOP N zset MIN / ZMPOP 1 zset MIN COUNT N / ZDIFF N zset / ZINTER N zset / ZUNION N zset WITHSCORES
    ZUNION 1 zset WEIGHTS N WITHSCORES / ZUNIONSTORE dest N zset / ZUNIONSTORE dest 1 zset WEIGHTS N / ZINTERSTORE dest N zset
    ZDIFFSTORE dest N zset / ZINTERCARD N zset LIMIT N / ZRANDMEMBER missing N / LCS str num IDX MINMATCHLEN N
    GEOADD geo N N m / GEOADD geo 13 N m / GEOSEARCH geo FROMLONLAT N 1 BYRADIUS 5 m / GEOSEARCH geo FROMLONLAT 15 37 BYRADIUS N km ASC
    GEOSEARCH geo FROMLONLAT 15 37 BYBOX N N km ASC / GEOSEARCH geo FROMLONLAT 15 37 BYRADIUS 500 km ASC COUNT N
    GEORADIUS geo 15 37 N km ASC / GEORADIUS geo 15 37 500 km COUNT N STORE dest / GEOSEARCHSTORE dest geo FROMLONLAT 15 37 BYRADIUS N km
    XADD stream N f v / XADD stream 5-N f v / XADD stream MAXLEN N 7-1 f v / XADD stream MAXLEN ~ N LIMIT N 8-1 f v / XADD stream MINID N 9-1 f v
    XTRIM stream MAXLEN N / XTRIM stream MAXLEN ~ N LIMIT N / XTRIM stream MINID N / XLEN stream / XRANGE stream N N / XRANGE stream - + COUNT N
    XREVRANGE stream + N COUNT N / XDEL stream N / XREAD COUNT N STREAMS stream 0 / XREAD BLOCK N STREAMS stream 0 / XREAD STREAMS stream N
    XREADGROUP GROUP grp c COUNT N STREAMS stream > / XREADGROUP GROUP grp c BLOCK N STREAMS stream 0 / XREADGROUP GROUP grp d STREAMS stream N
    XCLAIM stream grp c N 1-1 JUSTID / XCLAIM stream grp c 0 1-1 IDLE N JUSTID / XCLAIM stream grp c 0 1-1 TIME N JUSTID / XCLAIM stream grp c 0 1-1 RETRYCOUNT N FORCE JUSTID
    XAUTOCLAIM stream grp c N 0 JUSTID / XAUTOCLAIM stream grp c 0 N COUNT N JUSTID / XPENDING stream grp IDLE N - + N / XACK stream grp N
    XSETID stream N / XSETID stream 9-9 ENTRIESADDED N MAXDELETEDID N / XGROUP CREATE stream g N / XGROUP CREATE stream g 0 ENTRIESREAD N / XGROUP SETID stream grp N
    MOVE str N / COPY str dest DB N / SELECT N / SWAPDB 0 N / RESTORE dest N x / RESTORE dest 0 x IDLETIME N / RESTORE dest 0 x FREQ N / WAIT 0 N / WAITAOF N 0 1
    EVAL return\\s1 N / EVAL return\\s#KEYS N a b / EVAL_RO return\\s1 N a / EVALSHA 0000000000000000000000000000000000000000 N / FCALL f N a / FCALL_RO f N
    EVAL return\\sredis.call('incrby',KEYS[1],ARGV[1]) 1 num N / EVAL return\\sredis.call('pexpireat',KEYS[1],ARGV[1]) 1 num N
    HELLO N / CLIENT KILL ID N / CLIENT UNBLOCK N / CLIENT LIST ID N / CLIENT TRACKING on REDIRECT N / CLIENT NO-EVICT N / CLIENT CACHING N / SLOWLOG GET -N / LATENCY HISTORY N
    MEMORY USAGE missing SAMPLES N / OBJECT FREQ N / LOLWUT VERSION N / PING N / ECHO N / MSETNX N N / KEYS N / TYPE N";

/// Each template, with each extreme in its place, in one conversation.
fn talks() -> Vec<Talk> {
    let templates = TEMPLATES.lines().flat_map(|line| line.split(" / ")).map(str::trim);
    let talk = |template: &str| {
        let requests = EXTREMES.iter().map(|extreme| {
            let filled: Vec<String> = template.split(' ').map(|word| filled(word, extreme)).collect();
            Request::parse(&filled.join(" "))
        });
        Talk { name: template.to_owned(), requests: requests.collect(), stepped: true }
    };
    templates.map(talk).collect()
}

/// `N`, `-N`, `#N`, `uN`, `5-N`.
fn filled(word: &str, extreme: &str) -> String {
    match word.strip_suffix('N').filter(|head| head.is_empty() || ["-", "#", "u", "5-"].contains(head)) {
        Some(head) => format!("{head}{extreme}"),
        None => word.to_owned(),
    }
}

#[test]
fn extreme_numbers_are_answered_as_by_a_lone_server() {
    let mut bench = Bench::start();
    bench.compare(DATA, &talks());
    assert_eq!(bench.pair.proxy.metric("multistore_panics_total", &[]), 0.0);
}

/// The longest waits that there are end when there is something, and not before.
#[test]
fn extreme_waits_end_when_there_is_something() {
    let waits = [
        ("BLPOP l 9223372036854775", "RPUSH l a"),
        ("BLPOP l 1e15", "RPUSH l a"),
        ("BLPOP l 0x7fffffff", "RPUSH l a"),
        ("BRPOP l 0.000001e9", "RPUSH l a"),
        ("BLMOVE l m LEFT LEFT 9e15", "RPUSH l a"),
        ("BZPOPMIN z 9223372036854774", "ZADD z 1 a"),
        ("XREAD BLOCK 9000000000000000000 STREAMS s $", "XADD s 1-1 f v"),
        ("XREAD BLOCK 0 STREAMS s $", "XADD s 2-1 f v"),
    ];
    let mut bench = Bench::start();
    bench.in_each_stage(|bench, stage| {
        for (wait, wake) in waits {
            let seen = |port| {
                let (mut waiter, mut waker) = (Client::connect(port), Client::connect(port));
                waker.words("FLUSHALL");
                let id = waiter.words("CLIENT ID").int().to_string();
                waiter.send(&wait.split(' ').collect::<Vec<_>>());
                poll_until(SOON, "the client waits, or is answered", || {
                    let list = waker.words("CLIENT LIST").text();
                    let mut lines = list.lines();
                    let line = lines.find(|line| line.starts_with(&format!("id={id} "))).unwrap_or_default();
                    line.contains(" flags=b ") || wait.starts_with('X') && line.contains("cmd=xread")
                });
                waker.words(wake);
                waiter.read_raw_reply()
            };
            let (lone, proxy) = (seen(bench.lone.port()), seen(bench.pair.proxy.port()));
            assert_eq!(proxy.escape_ascii().to_string(), lone.escape_ascii().to_string(), "{stage}: {wait}");
        }
    });
}
