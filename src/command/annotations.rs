//! What no server tells: what kind of command each is, which reply is a miss, how replies are compared.
//!
//! Written by hand; `tests.rs` fails if a command that reads has no line here.

use super::{CommandFlags, Kind, Miss, Rule, Shape, Tick};

/// What a command does, as far as its name and flags tell.
pub(super) fn kind(name: &str, flags: CommandFlags) -> Kind {
    by_name(name).unwrap_or_else(|| by_flags(flags))
}

fn by_name(name: &str) -> Option<Kind> {
    if name.ends_with("|help") {
        return Some(Kind::Admin);
    }
    Some(match name {
        "scan" | "keys" | "dbsize" | "randomkey" => Kind::KeyspaceRead,
        "flushall" | "flushdb" | "swapdb" => Kind::KeyspaceWrite,
        // Servers call it a read; it writes its count into the key.
        "pfcount" => Kind::Write,
        "script|load" | "script|flush" => Kind::ServerWrite,
        "function|load" | "function|delete" | "function|flush" | "function|restore" => Kind::ServerWrite,
        "eval" | "evalsha" | "fcall" => Kind::Script,
        "eval_ro" | "evalsha_ro" | "fcall_ro" => Kind::ScriptRead,
        "subscribe" | "psubscribe" | "ssubscribe" => Kind::PubSub,
        "unsubscribe" | "punsubscribe" | "sunsubscribe" => Kind::PubSub,
        "publish" | "spublish" => Kind::Publish,
        "multi" | "exec" | "discard" | "watch" | "unwatch" => Kind::Transaction,
        "monitor" => Kind::Monitor,
        "hello" | "auth" | "select" | "quit" | "reset" | "echo" | "ping" => Kind::Connection,
        "asking" | "readonly" | "readwrite" => Kind::Connection,
        // These two stop everybody, not the connection that sends them.
        "client|pause" | "client|unpause" => Kind::Admin,
        "shutdown" | "replicaof" | "slaveof" | "failover" => Kind::Dangerous,
        "migrate" | "module|load" | "module|loadex" | "module|unload" => Kind::Dangerous,
        "sync" | "psync" | "replconf" | "script|debug" => Kind::Takeover,
        "lolwut" | "pubsub" | "debug" | "pfselftest" => Kind::Admin,
        _ if name.starts_with("client|") => Kind::Connection,
        _ if name.starts_with("cluster|") => cluster(name),
        _ if name.starts_with("pubsub|") => Kind::Admin,
        _ => return None,
    })
}

/// CLUSTER: asking is harmless, changing the cluster is not.
fn cluster(name: &str) -> Kind {
    match name {
        "cluster|addslots" | "cluster|addslotsrange" | "cluster|bumpepoch" | "cluster|delslots" => {
            Kind::Dangerous
        }
        "cluster|delslotsrange" | "cluster|failover" | "cluster|flushslots" | "cluster|forget" => {
            Kind::Dangerous
        }
        "cluster|meet" | "cluster|replicate" | "cluster|reset" | "cluster|saveconfig" => Kind::Dangerous,
        "cluster|set-config-epoch" | "cluster|setslot" | "cluster|migrateslots" => Kind::Dangerous,
        "cluster|cancelslotmigrations" | "cluster|migration" | "cluster|flushslot" => Kind::Dangerous,
        _ => Kind::Admin,
    }
}

fn by_flags(flags: CommandFlags) -> Kind {
    if flags.has(CommandFlags::BLOCKING) {
        Kind::Blocking
    } else if flags.has(CommandFlags::WRITE) {
        Kind::Write
    } else if flags.has(CommandFlags::READONLY) {
        Kind::Read
    } else if flags.has(CommandFlags::PUBSUB) {
        Kind::PubSub
    } else if flags.has(CommandFlags::MAY_REPLICATE) {
        // A module's command whose effect nobody knows.
        Kind::Script
    } else {
        Kind::Admin
    }
}

/// Which reply is a miss. `None`: nobody has thought about this command.
pub(super) fn miss(name: &str) -> Option<Miss> {
    Some(match name {
        "get" | "getex" | "hget" | "lindex" | "zscore" | "geodist" | "dump" | "digest" => Miss::Nil,
        "zrank" | "zrevrank" | "memory|usage" => Miss::Nil,
        "object|encoding" | "object|freq" | "object|idletime" | "object|refcount" => Miss::Nil,
        "getrange" | "substr" => Miss::EmptyString,
        "hmget" | "hgetex" | "zmscore" | "geopos" | "geohash" => Miss::AllNil,
        "smismember" | "bitfield" | "bitfield_ro" => Miss::AllZero,
        "mget" => Miss::AnyNil,
        "exists" | "hexists" | "sismember" | "touch" | "getbit" | "hstrlen" => Miss::Zero,
        "strlen" | "llen" | "hlen" | "scard" | "zcard" | "xlen" | "pfcount" | "bitcount" => Miss::Zero,
        "zcount" | "zlexcount" => Miss::Zero,
        "bitpos" => Miss::ZeroOrMinusOne,
        "hgetall" | "hkeys" | "hvals" | "smembers" | "lrange" | "lpos" | "geosearch" | "xread" => Miss::Empty,
        "zrange" | "zrangebylex" | "zrangebyscore" | "xrange" | "xrevrange" | "sort" | "sort_ro" => {
            Miss::Empty
        }
        "zrevrange" | "zrevrangebylex" | "zrevrangebyscore" => Miss::Empty,
        "georadius" | "georadius_ro" | "georadiusbymember" | "georadiusbymember_ro" => Miss::Empty,
        "srandmember" | "hrandfield" | "zrandmember" => Miss::Empty,
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => Miss::MinusTwo,
        "httl" | "hpttl" | "hexpiretime" | "hpexpiretime" => Miss::MinusTwo,
        "type" => Miss::TypeNone,
        "hscan" | "sscan" | "zscan" => Miss::ScanEmpty,
        "xinfo|stream" | "xinfo|groups" | "xinfo|consumers" | "xpending" => Miss::OnlyError,
        "scan" | "keys" | "dbsize" | "randomkey" | "lolwut" => Miss::Never,
        "sdiff" | "sinter" | "sunion" | "sintercard" | "lcs" => Miss::Never,
        "zdiff" | "zinter" | "zunion" | "zintercard" => Miss::Never,
        "eval_ro" | "evalsha_ro" | "fcall_ro" => Miss::Never,
        _ => return None,
    })
}

/// How replies are compared.
pub(super) fn rule(name: &str, kind: Kind) -> Rule {
    match name {
        "smembers" | "sunion" | "sinter" | "sdiff" | "hkeys" | "hvals" | "keys" => Rule::Multiset,
        "hgetall" => Rule::PairsMultiset,
        "scan" | "sscan" => Rule::ScanPage,
        "hscan" | "zscan" => Rule::ScanPairsPage,
        "ttl" | "expiretime" | "object|idletime" | "httl" | "hexpiretime" => Rule::Tolerance(Tick::Seconds),
        "pttl" | "pexpiretime" | "hpttl" | "hpexpiretime" => Rule::Tolerance(Tick::Millis),
        "zscore" | "zmscore" | "zincrby" | "incrbyfloat" | "hincrbyfloat" => Rule::Numbers,
        "zpopmin" | "zpopmax" | "zmpop" | "bzpopmin" | "bzpopmax" | "bzmpop" => Rule::Numbers,
        "geodist" | "geopos" => Rule::Numbers,
        "randomkey" | "srandmember" | "hrandfield" | "zrandmember" => Rule::Ignore,
        // These tell how a server holds a value, which two versions do differently.
        "dump" | "memory|usage" | "object|encoding" | "object|freq" | "object|refcount" => Rule::Ignore,
        "xinfo|stream" | "xinfo|consumers" => Rule::Ignore,
        "ping" | "echo" => Rule::Exact,
        _ => match kind {
            Kind::Admin | Kind::Connection | Kind::Publish | Kind::PubSub | Kind::Monitor => Rule::Ignore,
            _ => Rule::Exact,
        },
    }
}

/// Which arguments change what the name says.
pub(super) fn shape(name: &str) -> Shape {
    match name {
        "sort" | "sort_ro" => Shape::Sort,
        "georadius" | "georadiusbymember" => Shape::GeoRadius,
        "bitfield" => Shape::Bitfield,
        "getex" => Shape::GetEx,
        "hgetex" => Shape::HGetEx,
        "xread" => Shape::XRead,
        "xreadgroup" => Shape::XReadGroup,
        "set" => Shape::Set,
        "msetex" => Shape::MSetEx,
        "restore" | "restore-asking" => Shape::Restore,
        "copy" => Shape::Copy,
        "move" => Shape::Move,
        "swapdb" => Shape::SwapDb,
        "flushall" => Shape::FlushAll,
        "flushdb" => Shape::FlushDb,
        "migrate" => Shape::Migrate,
        "exists" | "touch" => Shape::SeveralKeys,
        "pfcount" => Shape::PfCount,
        "hscan" | "sscan" | "zscan" => Shape::Scan,
        "zrange" | "zrangebyscore" | "zrevrange" | "zrevrangebyscore" | "zrank" | "zrevrank" => {
            Shape::WithScores
        }
        "zdiff" | "zinter" | "zunion" | "geosearch" => Shape::WithScores,
        "georadius_ro" | "georadiusbymember_ro" => Shape::WithScores,
        "getdel" => Shape::GetDel,
        "rename" => Shape::Rename,
        "blpop" | "brpop" | "bzpopmin" | "bzpopmax" | "blmove" | "brpoplpush" => Shape::TimeoutLast,
        "blmpop" | "bzmpop" => Shape::TimeoutFirst,
        "wait" | "waitaof" => Shape::Wait,
        "zadd" => Shape::ZAdd,
        "xpending" => Shape::XPending,
        _ => Shape::Plain,
    }
}
