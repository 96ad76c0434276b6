//! Clients that do anything: every type, hot keys, several databases, pipelines, transactions.

use super::agent::{Agent, World};
use super::journal::Book;
use super::support::{Numbers, Value};
use std::sync::Arc;

type Command = Vec<Vec<u8>>;

/// Commands by what they work on. `K` is a key of the type, `O` another one; `A` any key; `M` a small member,
/// `N` a small number, `F` a fraction, `V` a value, `T` seconds, `P` milliseconds; `I` an id in a stream.
const STRINGS: &[&str] = &[
    "SET K V",
    "SET K V",
    "SET K V EX T",
    "SET K V PX P",
    "SET K V NX",
    "SET K V XX",
    "SET K V KEEPTTL",
    "SET K V GET",
    "SETNX K V",
    "SETEX K T V",
    "PSETEX K P V",
    "GETSET K V",
    "GETDEL K",
    "GETEX K EX T",
    "GETEX K PERSIST",
    "GET K",
    "GET K",
    "STRLEN K",
    "APPEND K V",
    "SETRANGE K N V",
    "GETRANGE K 0 3",
    "MSET K V O V",
    "MSETNX K V O V",
    "MGET K O K",
    "LCS K O",
    "EXISTS K O",
];
const NUMBERS: &[&str] = &[
    "SET K N",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K F",
    "GET K",
    "GETDEL K",
    "SET K N EX T",
    "MGET K O",
    "GETSET K N",
];
const LISTS: &[&str] = &[
    "LPUSH K M M",
    "RPUSH K N M",
    "RPUSH K N N",
    "LPUSHX K M",
    "LPOP K",
    "RPOP K 2",
    "LRANGE K 0 -1",
    "LLEN K",
    "LINDEX K 0",
    "LSET K 0 M",
    "LREM K 1 M",
    "LTRIM K 0 20",
    "LINSERT K BEFORE M M",
    "LMOVE K O LEFT RIGHT",
    "RPOPLPUSH K O",
    "LMPOP 2 K O LEFT COUNT 2",
    "LPOS K M",
    "SORT K ALPHA STORE O",
    "SORT K ALPHA DESC LIMIT 0 5 STORE O",
    "BLPOP K O 0.01",
    "BLMOVE K O LEFT LEFT 0.01",
    "BRPOP K 0.02",
];
const HASHES: &[&str] = &[
    "HSET K M V M V",
    "HSET K M N",
    "HSETNX K M V",
    "HMSET K M V",
    "HDEL K M M",
    "HGET K M",
    "HMGET K M M",
    "HGETALL K",
    "HLEN K",
    "HINCRBY K n N",
    "HINCRBYFLOAT K f F",
    "HEXISTS K M",
    "HKEYS K",
    "HRANDFIELD K",
    "HSCAN K 0",
    "HSTRLEN K M",
];
const SETS: &[&str] = &[
    "SADD K M M M",
    "SADD K N N",
    "SREM K M",
    "SPOP K",
    "SPOP K 2",
    "SRANDMEMBER K",
    "SRANDMEMBER K -3",
    "SMEMBERS K",
    "SCARD K",
    "SISMEMBER K M",
    "SMISMEMBER K M M",
    "SMOVE K O M",
    "SUNIONSTORE K O K",
    "SINTERSTORE O K O",
    "SDIFFSTORE K K O",
    "SUNION K O",
    "SDIFF K O",
    "SINTERCARD 2 K O",
    "SORT K ALPHA STORE l:0",
    "SSCAN K 0",
];
const SORTED: &[&str] = &[
    "ZADD K N M",
    "ZADD K F M N M",
    "ZADD K NX N M",
    "ZADD K GT N M",
    "ZADD K INCR F M",
    "ZINCRBY K F M",
    "ZREM K M",
    "ZPOPMIN K",
    "ZPOPMAX K 2",
    "ZRANGE K 0 -1 WITHSCORES",
    "ZSCORE K M",
    "ZRANK K M",
    "ZCARD K",
    "ZRANGEBYSCORE K 0 5",
    "ZREMRANGEBYRANK K 0 0",
    "ZREMRANGEBYSCORE K 0 1",
    "ZUNIONSTORE K 2 K O",
    "ZINTERSTORE O 2 K O AGGREGATE MAX",
    "ZRANGESTORE O K 0 2",
    "ZDIFFSTORE K 2 K O",
    "ZMPOP 2 K O MIN",
    "ZRANDMEMBER K",
    "BZPOPMIN K 0.01",
    "BZMPOP 0.01 2 K O MAX",
    "ZMSCORE K M M",
];
const STREAMS: &[&str] = &[
    "XADD K * M V",
    "XADD K * M V",
    "XADD K MAXLEN ~ 10 * M V",
    "XADD K MAXLEN 5 * M V",
    "XADD K NOMKSTREAM * M V",
    "XLEN K",
    "XRANGE K - +",
    "XREVRANGE K + - COUNT 2",
    "XDEL K I",
    "XTRIM K MAXLEN 8",
    "XTRIM K MAXLEN ~ 8",
    "XREAD COUNT 2 STREAMS K 0",
    "XGROUP CREATE K g 0 MKSTREAM",
    "XGROUP CREATE K g $",
    "XGROUP CREATECONSUMER K g c9",
    "XGROUP DELCONSUMER K g c1",
    "XREADGROUP GROUP g c1 COUNT 2 STREAMS K >",
    "XREADGROUP GROUP g c2 COUNT 1 STREAMS K >",
    "XREADGROUP GROUP g c2 COUNT 1 NOACK STREAMS K >",
    "XREADGROUP GROUP g c1 COUNT 3 STREAMS K 0",
    "XACK K g I",
    "XCLAIM K g c2 0 I",
    "XCLAIM K g c1 0 I JUSTID",
    "XAUTOCLAIM K g c2 0 0 COUNT 2",
    "XPENDING K g",
    "XGROUP SETID K g 0",
    "XGROUP DESTROY K g",
    "XREAD COUNT 1 BLOCK 10 STREAMS K $",
    "XINFO STREAM K",
];
const BITS: &[&str] = &[
    "SETBIT K N 1",
    "SETBIT K N 0",
    "GETBIT K N",
    "BITCOUNT K",
    "BITOP OR K K O",
    "BITOP NOT O K",
    "BITPOS K 1",
    "BITFIELD K SET u8 0 N INCRBY i5 8 N",
    "BITFIELD K OVERFLOW FAIL INCRBY u4 N 7",
    "BITFIELD K GET u8 0",
];
const PLACES: &[&str] = &[
    "GEOADD K 13.N 38.N M",
    "GEOADD K 15.N 37.N M 2.N 48.N M",
    "GEODIST K M M",
    "GEOPOS K M M",
    "ZREM K M",
    "GEOSEARCH K FROMLONLAT 15 37 BYRADIUS 300 km ASC",
    "GEOSEARCHSTORE O K FROMLONLAT 15 37 BYRADIUS 300 km",
    "GEORADIUS K 15 37 200 km STORE O",
    "GEOHASH K M",
];
const SKETCHES: &[&str] =
    &["PFADD K M M M", "PFADD K V", "PFCOUNT K", "PFCOUNT K O", "PFMERGE K O", "PFMERGE O K K"];
const ANY: &[&str] = &[
    "DEL A",
    "UNLINK A A",
    "EXISTS A",
    "TYPE A",
    "TTL A",
    "PTTL A",
    "EXPIRE A T",
    "PEXPIRE A P",
    "EXPIRE A T NX",
    "EXPIRE A T GT",
    "PERSIST A",
    "PERSIST A",
    "PEXPIREAT A 99999999999999",
    "EXPIREAT A 1",
    "RENAME A A",
    "RENAMENX A A",
    "COPY A A",
    "COPY A A REPLACE",
    "TOUCH A A",
    "OBJECT ENCODING A",
    "DBSIZE",
    "RANDOMKEY",
    "SCAN 0 COUNT 100",
    "KEYS s:*",
    "DUMP A",
];
const MOVES: &[&str] = &["COPY A A DB 1 REPLACE", "MOVE A 2", "COPY A A DB 0"];
const ODD: &[&str] =
    &["NOSUCHCOMMAND A", "SET A", "INCR l:0", "LPUSH s:0 M", "GET h:0", "ECHO V", "PING", "TIME"];

/// The kinds of keys and what is done to them.
const KINDS: &[(&str, &[&str])] = &[
    ("s", STRINGS),
    ("n", NUMBERS),
    ("l", LISTS),
    ("h", HASHES),
    ("t", SETS),
    ("z", SORTED),
    ("x", STREAMS),
    ("b", BITS),
    ("g", PLACES),
    ("p", SKETCHES),
];

/// Scripts, with the kinds of the keys that they declare.
const SCRIPTS: &[(&str, &[&str])] = &[
    ("return redis.call('INCR',KEYS[1])", &["n"]),
    ("redis.call('SET',KEYS[1],redis.call('TIME')[2]); return redis.call('GET',KEYS[1])", &["s"]),
    ("return redis.call('SPOP',KEYS[1])", &["t"]),
    (
        "local m=redis.call('SRANDMEMBER',KEYS[1]); if m then return redis.call('SMOVE',KEYS[1],KEYS[2],m) end",
        &["t", "t"],
    ),
    ("return redis.call('HSET',KEYS[1],'r',math.random(1000000))", &["h"]),
    ("redis.call('RPUSH',KEYS[1],'before'); return redis.call('INCR',KEYS[1])", &["l"]),
    (
        "redis.call('SET',KEYS[1],'x'); redis.call('EXPIRE',KEYS[1],100); return redis.error_reply('ERR on purpose')",
        &["s"],
    ),
    ("local r=redis.pcall('LPUSH',KEYS[1],'a'); return redis.call('XADD',KEYS[2],'*','f','v')", &["l", "x"]),
    (
        "for i,m in ipairs(redis.call('SMEMBERS',KEYS[1])) do redis.call('RPUSH',KEYS[2],m) end; return 1",
        &["t", "l"],
    ),
    ("return redis.call('GET',KEYS[1])", &["s"]),
    ("return redis.call('ZADD',KEYS[1],redis.call('TIME')[1] % 100,ARGV[1])", &["z"]),
    ("return redis.call('DEL',unpack(KEYS))", &["s", "n"]),
];

/// Scripts that write what they did not declare. `K` is put in the place of a key.
const SECRETIVE: &[&str] =
    &["return redis.call('INCR','K')", "return redis.call('SADD','K',redis.call('TIME')[2])"];

/// Does anything until the run is over.
pub fn live(world: &Arc<World>, number: u64) -> Book {
    let mut agent = Agent::new(world, "any", number);
    while world.goes_on() {
        step(&mut agent);
    }
    agent.book
}

fn step(agent: &mut Agent) {
    let keys = agent.world.scenario.keys;
    match agent.numbers.below(100) {
        0..4 => {
            let db = agent.numbers.pick(&[0, 0, 0, 1, 2]);
            agent.select(db);
        }
        4..14 => {
            let count = 2 + agent.numbers.below(6);
            let commands = (0..count).map(|_| one(&mut agent.numbers, keys)).collect();
            agent.batch(commands);
        }
        14..20 => transaction(agent),
        20..23 => watched(agent),
        23..32 => script(agent),
        32..34 => restore(agent),
        34 => flush(agent),
        35 if agent.world.scenario.moves => {
            let template = agent.numbers.pick(MOVES);
            let command = fill(&mut agent.numbers, keys, ("", template));
            agent.call(&command);
        }
        _ => {
            let command = one(&mut agent.numbers, keys);
            agent.call(&command);
        }
    }
}

/// One command.
fn one(numbers: &mut Numbers, keys: usize) -> Command {
    let template = match numbers.below(20) {
        0..4 => ("", numbers.pick(ANY)),
        4 if numbers.below(4) == 0 => ("", numbers.pick(ODD)),
        _ => {
            let (kind, templates) = numbers.pick(KINDS);
            (kind, numbers.pick(templates))
        }
    };
    fill(numbers, keys, template)
}

fn fill(numbers: &mut Numbers, keys: usize, (kind, template): (&str, &str)) -> Command {
    let mut words = template.split(' ');
    let name = words.next().unwrap_or_default();
    let mut command: Command = vec![name.into()];
    command.extend(words.map(|word| argument(numbers, keys, kind, word).into_bytes()));
    command
}

fn argument(numbers: &mut Numbers, keys: usize, kind: &str, word: &str) -> String {
    match word {
        // Now and then a key of another type.
        "K" | "O" if numbers.below(50) > 0 => format!("{kind}:{}", numbers.below(keys)),
        "K" | "O" | "A" => format!("{}:{}", numbers.pick(KINDS).0, numbers.below(keys)),
        "M" => format!("m{}", numbers.below(12)),
        "N" => numbers.below(30).to_string(),
        "F" => format!("{}", numbers.below(100) as f64 / 8.0 - 3.0),
        "V" => format!("v{}", numbers.next() % 1_000_000),
        "T" => (20 + numbers.below(100)).to_string(),
        "P" => (20 + numbers.below(400)).to_string(),
        "I" => format!("{}-0", numbers.below(5)),
        word => match word.strip_suffix(".N") {
            Some(whole) => format!("{whole}.{}", numbers.below(1000)),
            None => word.to_owned(),
        },
    }
}

fn transaction(agent: &mut Agent) {
    let commands = queued(agent);
    if agent.numbers.below(2) == 0 {
        agent.batch(commands);
        return;
    }
    for command in commands {
        // After a cut connection the rest would run alone, which is as good as anything.
        agent.call(&command);
    }
}

fn queued(agent: &mut Agent) -> Vec<Command> {
    let (keys, numbers) = (agent.world.scenario.keys, &mut agent.numbers);
    let mut commands: Vec<Command> = vec![vec![b"MULTI".to_vec()]];
    let count = 1 + numbers.below(4);
    commands.extend((0..count).map(|_| one(numbers, keys)));
    let end: &[u8] = if numbers.below(10) == 0 { b"DISCARD" } else { b"EXEC" };
    commands.push(vec![end.to_vec()]);
    commands
}

fn watched(agent: &mut Agent) {
    let keys = agent.world.scenario.keys;
    let watch = fill(&mut agent.numbers, keys, ("", "WATCH A A"));
    agent.call(&watch);
    let look = one(&mut agent.numbers, keys);
    agent.call(&look);
    if agent.numbers.below(6) == 0 {
        agent.call(&["UNWATCH"]);
    }
    let commands = queued(agent);
    agent.batch(commands);
}

fn script(agent: &mut Agent) {
    let (keys, undeclared) = (agent.world.scenario.keys, agent.world.scenario.undeclared);
    if undeclared && agent.numbers.below(20) == 0 {
        let (source, kind) =
            if agent.numbers.below(2) == 0 { (SECRETIVE[0], "n") } else { (SECRETIVE[1], "t") };
        let source = source.replace('K', &format!("{kind}:{}", agent.numbers.below(keys)));
        agent.call(&["EVAL", &source, "0"]);
        return;
    }
    let (source, kinds) = agent.numbers.pick(SCRIPTS);
    let mut args: Vec<Vec<u8>> = vec![kinds.len().to_string().into_bytes()];
    for kind in kinds {
        args.push(argument(&mut agent.numbers, keys, kind, "K").into_bytes());
    }
    args.push(argument(&mut agent.numbers, keys, "", "M").into_bytes());
    if agent.numbers.below(2) == 0 {
        agent.call(&[vec![b"EVAL".to_vec(), source.as_bytes().to_vec()], args].concat());
        return;
    }
    if let Some(Value::Bulk(hash)) = agent.call(&["SCRIPT", "LOAD", source]) {
        agent.call(&[vec![b"EVALSHA".to_vec(), hash], args].concat());
    }
}

fn restore(agent: &mut Agent) {
    let keys = agent.world.scenario.keys;
    let any = |numbers: &mut Numbers| argument(numbers, keys, "", "A").into_bytes();
    let (from, to) = (any(&mut agent.numbers), any(&mut agent.numbers));
    if let Some(Value::Bulk(payload)) = agent.call(&[b"DUMP".to_vec(), from]) {
        let end = if agent.numbers.below(3) == 0 { Vec::new() } else { vec![b"REPLACE".to_vec()] };
        let ttl = agent.numbers.pick(&["0", "0", "50000"]).as_bytes().to_vec();
        agent.call(&[vec![b"RESTORE".to_vec(), to, ttl, payload], end].concat());
    }
}

/// Database 0 has the keys about which books are kept.
fn flush(agent: &mut Agent) {
    if agent.numbers.below(10) == 0 && agent.select(1) {
        agent.call(&["FLUSHDB"]);
    }
}
