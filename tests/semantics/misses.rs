//! "A miss": each kind of read falls back, is counted once under its own name, and a double miss is
//! the default store's own reply and counts nothing.

use super::*;
use std::collections::BTreeMap;

/// How a key is filled, and a read of it that is a hit. `K` stands for the key.
const HITS: &[(&str, &str)] = &[
    ("SET K value", "GET K"),
    ("SET K value", "GETRANGE K 0 2"),
    ("SET K value", "SUBSTR K 0 2"),
    ("SET K value", "STRLEN K"),
    ("SET K value", "EXISTS K"),
    ("SET K value", "TYPE K"),
    ("SET K value", "TTL K"),
    ("SET K value EX 1000", "TTL K"),
    ("SET K value PX 1000000", "PTTL K"),
    ("SET K value EXAT 4000000000", "EXPIRETIME K"),
    ("SET K value EXAT 4000000000", "PEXPIRETIME K"),
    ("SET K value", "BITCOUNT K"),
    ("SET K value", "OBJECT ENCODING K"),
    ("SET K value", "OBJECT REFCOUNT K"),
    ("SET K value", "DUMP K"),
    ("SET K value", "MGET K"),
    ("PFADD K a b c", "STRLEN K"),
    ("RPUSH K a b c", "LINDEX K 1"),
    ("RPUSH K a b c", "LLEN K"),
    ("RPUSH K a b c", "LRANGE K 0 -1"),
    ("RPUSH K a b c", "LPOS K b"),
    ("RPUSH K 2 1 3", "SORT_RO K"),
    ("HSET K f v g w", "HGET K f"),
    ("HSET K f v g w", "HMGET K f missing"),
    ("HSET K f v g w", "HEXISTS K f"),
    ("HSET K f v g w", "HLEN K"),
    ("HSET K f v g w", "HSTRLEN K f"),
    ("HSET K f v g w", "HGETALL K"),
    ("HSET K f v g w", "HKEYS K"),
    ("HSET K f v g w", "HVALS K"),
    ("HSET K f v g w", "HSCAN K 0"),
    ("SADD K a b", "SISMEMBER K a"),
    ("SADD K a b", "SMISMEMBER K a z"),
    ("SADD K a b", "SCARD K"),
    ("SADD K a b", "SMEMBERS K"),
    ("SADD K a b", "SSCAN K 0"),
    ("ZADD K 1 a 2 b", "ZSCORE K a"),
    ("ZADD K 1 a 2 b", "ZMSCORE K a z"),
    ("ZADD K 1 a 2 b", "ZCARD K"),
    ("ZADD K 1 a 2 b", "ZCOUNT K -inf +inf"),
    ("ZADD K 0 a 0 b", "ZLEXCOUNT K - +"),
    ("ZADD K 1 a 2 b", "ZRANGE K 0 -1"),
    ("ZADD K 1 a 2 b", "ZRANGE K 0 -1 WITHSCORES"),
    ("ZADD K 1 a 2 b", "ZRANGEBYSCORE K -inf +inf"),
    ("ZADD K 0 a 0 b", "ZRANGEBYLEX K - +"),
    ("ZADD K 1 a 2 b", "ZREVRANGE K 0 -1"),
    ("ZADD K 1 a 2 b", "ZREVRANGEBYSCORE K +inf -inf"),
    ("ZADD K 0 a 0 b", "ZREVRANGEBYLEX K + -"),
    ("ZADD K 1 a 2 b", "ZRANK K b"),
    ("ZADD K 1 a 2 b", "ZREVRANK K b"),
    ("ZADD K 1 a 2 b", "ZSCAN K 0"),
    ("GEOADD K 13.36 38.11 a 15.08 37.5 b", "GEODIST K a b"),
    ("GEOADD K 13.36 38.11 a 15.08 37.5 b", "GEOPOS K a z"),
    ("GEOADD K 13.36 38.11 a 15.08 37.5 b", "GEOHASH K a z"),
    ("GEOADD K 13.36 38.11 a 15.08 37.5 b", "GEOSEARCH K FROMLONLAT 15 37 BYRADIUS 500 km ASC"),
    ("XADD K 1-1 f v", "XLEN K"),
    ("XADD K 1-1 f v", "XRANGE K - +"),
    ("XADD K 1-1 f v", "XREVRANGE K + -"),
    ("XADD K 1-1 f v", "XREAD STREAMS K 0"),
    ("SETBIT K 7 1", "GETBIT K 7"),
];

/// Reads that miss although the key is there.
const MISSES: &[(&str, &str)] = &[
    ("SET K value", "GETRANGE K 50 60"),
    ("HSET K f v", "HGET K z"),
    ("HSET K f v", "HMGET K y z"),
    ("HSET K f v", "HEXISTS K z"),
    ("RPUSH K a", "LINDEX K 9"),
    ("RPUSH K a", "LRANGE K 5 9"),
    ("SADD K a", "SISMEMBER K z"),
    ("SADD K a", "SMISMEMBER K y z"),
    ("ZADD K 1 a", "ZSCORE K z"),
    ("ZADD K 1 a", "ZMSCORE K y z"),
    ("ZADD K 1 a", "ZRANGEBYSCORE K 5 9"),
    ("ZADD K 1 a", "ZCOUNT K 5 9"),
];

/// A command about `key`.
fn of(template: &str, key: &str) -> String {
    template.split(' ').map(|word| if word == "K" { key } else { word }).collect::<Vec<_>>().join(" ")
}

/// The name under which a read is counted.
fn label(read: &str) -> String {
    let words: Vec<String> = read.split(' ').map(str::to_lowercase).collect();
    match words[0].as_str() {
        "object" => format!("{}|{}", words[0], words[1]),
        name => name.to_owned(),
    }
}

/// All fallbacks so far, by command; zeros left out.
fn counted(pair: &Pair) -> BTreeMap<String, u64> {
    let text = pair.proxy.metrics();
    let series = text.lines().filter(|line| line.starts_with(FALLBACK));
    let values = series.filter_map(|line| {
        let command = line.split("command=\"").nth(1)?.split('"').next()?;
        let value = line.rsplit(' ').next()?.parse().ok()?;
        Some((command.to_owned(), value))
    });
    values.filter(|(_, value)| *value > 0).collect()
}

/// The same read twice differs only in what passes with time.
fn alike(read: &str, one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) if read.contains("TTL") => (one - two).abs() <= 2_000,
        _ => one == two,
    }
}

#[test]
fn each_read_falls_back_to_the_secondary_and_is_counted_once() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    let mut expected = BTreeMap::new();
    for stage in DUAL {
        pair.stage(stage);
        let mut client = pair.client();
        for (at, (fill, read)) in HITS.iter().enumerate() {
            let key = format!("{stage}:{at}");
            pair.secondary.words(&of(fill, &key));
            let read_it = of(read, &key);
            let own = pair.secondary.words(&read_it);
            let reply = client.words(&read_it);
            assert!(alike(read, &own, &reply), "{stage} {read}: {reply:?}, the secondary says {own:?}");
            *expected.entry(label(read)).or_insert(0) += 1;
        }
        assert_eq!(counted(&pair), expected, "{stage}");
    }
}

#[test]
fn a_double_miss_is_the_default_stores_reply_and_counts_nothing() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    for stage in DUAL {
        pair.stage(stage);
        let mut client = pair.client();
        for (_, read) in HITS {
            let read = of(read, "nowhere");
            let own = pair.default_store(stage).words(&read);
            assert_eq!(client.words(&read), own, "{stage} {read}");
        }
        for (at, (fill, read)) in MISSES.iter().enumerate() {
            let key = format!("{stage}:{at}");
            pair.secondary.words(&of(fill, &key));
            let read = of(read, &key);
            assert_eq!(client.words(&read), pair.secondary.words(&read), "{stage} {read}");
        }
        assert_eq!(counted(&pair), BTreeMap::new(), "{stage}");
    }
}

#[test]
fn a_hit_of_the_primary_is_not_looked_up() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    for stage in DUAL {
        pair.stage(stage);
        let mut client = pair.client();
        for (at, (fill, read)) in HITS.iter().enumerate() {
            let key = format!("{stage}:{at}");
            pair.primary.words(&of(fill, &key));
            let read_it = of(read, &key);
            let own = pair.primary.words(&read_it);
            let reply = client.words(&read_it);
            assert!(alike(read, &own, &reply), "{stage} {read}: {reply:?}, the primary says {own:?}");
        }
    }
    assert_eq!(counted(&pair), BTreeMap::new());
}

#[test]
fn minus_one_is_a_hit() {
    let pair = calm(Stage::DualPrimaryDefault);
    pair.primary.words("SET key here");
    pair.secondary.words("SET key there EX 100");
    for read in ["TTL key", "PTTL key", "EXPIRETIME key", "PEXPIRETIME key"] {
        assert_eq!(pair.client().words(read), (-1).into(), "{read}");
    }
    assert_eq!(pair.fallbacks(), 0.0);
}

#[test]
fn resp3_clients_miss_and_fall_back_alike() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    let mut expected = BTreeMap::new();
    for stage in DUAL {
        pair.stage(stage);
        let mut client = pair.proxy.client3();
        let mut direct = pair.secondary.client();
        direct.words("HELLO 3");
        for (at, (fill, read)) in HITS.iter().enumerate() {
            let key = format!("{stage}:{at}");
            pair.secondary.words(&of(fill, &key));
            let nowhere = client.words(&of(read, "nowhere"));
            assert_eq!(nowhere, direct.words(&of(read, "nowhere")), "{stage} {read}");
            let read_it = of(read, &key);
            let (own, reply) = (direct.words(&read_it), client.words(&read_it));
            assert!(alike(read, &own, &reply), "{stage} {read}: {reply:?}, the secondary says {own:?}");
            *expected.entry(label(read)).or_insert(0) += 1;
        }
        assert_eq!(counted(&pair), expected, "{stage}");
    }
}
