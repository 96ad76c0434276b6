use super::*;
use crate::command::{Table, Tick};

fn of(request: &str) -> Effect {
    with(request, classify)
}

fn with<'a, T>(request: &'a str, run: impl Fn(&Spec, &[&'a str]) -> T) -> T {
    let table = Table::builtin();
    let words: Vec<&str> = request.split(' ').collect();
    let id = table.find(&words[..]).unwrap_or_else(|| panic!("{request}"));
    run(table.spec(id), &words[..])
}

#[test]
fn arguments_decide_whether_it_writes() {
    for request in [
        "sort l",
        "sort l by nosort limit 0 1",
        "sort l get store",
        "sort_ro l by w_* store d",
        "georadius g 1 2 3 m",
        "georadiusbymember g x 3 m asc",
        "bitfield b get u8 0 overflow sat get u8 1",
        "bitfield b",
        "getex k",
        "hgetex h fields 1 f",
        "pfcount a b",
        "xread streams s 0",
    ] {
        assert_eq!((of(request).kind, of(request).writes), (Kind::Read, false), "{request}");
    }
    for request in [
        "sort l store d",
        "sort l limit 0 1 asc store d",
        "georadius g 1 2 3 m store d",
        "georadiusbymember g x 3 m storedist d",
        "bitfield b get u8 0 set u8 0 1",
        "bitfield b set u8 0 1",
        "bitfield b incrby u8 0 1",
        "getex k persist",
        "hgetex h persist fields 1 f",
        "hgetex h fields 1 f ex 5",
        "pfcount a",
        "xreadgroup group g c streams s >",
        "set k v get",
        "hset h f v",
    ] {
        assert_eq!((of(request).kind, of(request).writes), (Kind::Write, true), "{request}");
        assert_eq!(of(request).miss, Miss::Never, "{request}");
    }
}

#[test]
fn kinds_by_name() {
    for (request, kind) in [
        ("scan 0", Kind::KeyspaceRead),
        ("flushall", Kind::KeyspaceWrite),
        ("swapdb 0 1", Kind::KeyspaceWrite),
        ("script load x", Kind::ServerWrite),
        ("function restore x", Kind::ServerWrite),
        ("script exists x", Kind::Admin),
        ("eval x 0", Kind::Script),
        ("evalsha_ro x 0", Kind::ScriptRead),
        ("ssubscribe c", Kind::PubSub),
        ("pubsub channels", Kind::Admin),
        ("spublish c m", Kind::Publish),
        ("client reply off", Kind::Connection),
        ("client pause 5", Kind::Admin),
        ("hello 3", Kind::Connection),
        ("watch k", Kind::Transaction),
        ("monitor", Kind::Monitor),
        ("info", Kind::Admin),
        ("debug sleep 1", Kind::Admin),
        ("object help", Kind::Admin),
        ("shutdown", Kind::Dangerous),
        ("script debug sync", Kind::Takeover),
        ("psync ? -1", Kind::Takeover),
        ("migrate h 1 k 0 1", Kind::Dangerous),
        ("cluster nodes", Kind::Admin),
        ("cluster meet h 1", Kind::Dangerous),
        ("wait 1 0", Kind::Blocking),
    ] {
        assert_eq!(of(request).kind, kind, "{request}");
    }
}

#[test]
fn what_waits_and_how_long() {
    let seconds = |arg| Some(Timeout { arg, unit: TimeoutUnit::Seconds });
    let millis = |arg| Some(Timeout { arg, unit: TimeoutUnit::Millis });
    for (request, expected) in [
        ("blpop a b 0.5", seconds(3)),
        ("brpoplpush a b 0", seconds(3)),
        ("blmove a b left right 0", seconds(5)),
        ("bzpopmin z 1", seconds(2)),
        ("blmpop 0 1 a left", seconds(1)),
        ("bzmpop 0 1 a min", seconds(1)),
        ("xread block 5 streams s $", millis(2)),
        ("xread count 1 block 5 streams s $", millis(4)),
        ("xreadgroup group block c count 1 block 7 streams s >", millis(7)),
        ("wait 1 100", millis(2)),
        ("waitaof 1 0 100", millis(3)),
    ] {
        assert_eq!(of(request).kind, Kind::Blocking, "{request}");
        assert!(of(request).blocks, "{request}");
        assert_eq!(with(request, timeout), expected, "{request}");
    }
    for request in
        ["xread streams block 0", "xread count 1 streams block 0", "xreadgroup group g block streams s >"]
    {
        assert!(!of(request).blocks, "{request}");
        assert_eq!(with(request, timeout), None, "{request}");
    }
    assert!(of("blpop a 0").writes);
    assert!(!of("xread block 0 streams s $").writes);
    assert!(!of("wait 1 0").writes);
}

#[test]
fn misses() {
    for (request, miss) in [
        ("get k", Miss::Nil),
        ("getex k", Miss::Nil),
        ("getrange k 0 1", Miss::EmptyString),
        ("hmget h a b", Miss::AllNil),
        ("geopos g a", Miss::AllNil),
        ("smismember s a", Miss::AllZero),
        ("mget a b", Miss::AnyNil),
        ("exists a", Miss::Zero),
        ("exists a b", Miss::Never),
        ("touch a b", Miss::Never),
        ("xlen s", Miss::Zero),
        ("hgetall h", Miss::Empty),
        ("sort_ro l", Miss::Empty),
        ("sort l", Miss::Empty),
        ("sort l by w_*", Miss::Never),
        ("georadius g 1 2 3 m", Miss::Empty),
        ("ttl k", Miss::MinusTwo),
        ("type k", Miss::TypeNone),
        ("hscan h 0", Miss::ScanEmpty),
        ("hscan h 17", Miss::Never),
        ("scan 0", Miss::Never),
        ("dbsize", Miss::Never),
        ("sdiff a b", Miss::Never),
        ("xread streams s 0", Miss::Empty),
        ("xread streams s t 0 0", Miss::Never),
        ("xinfo stream s", Miss::OnlyError),
        ("set k v", Miss::Never),
    ] {
        assert_eq!(of(request).miss, miss, "{request}");
    }
}

#[test]
fn rules() {
    for (request, rule) in [
        ("get k", Rule::Exact),
        ("set k v", Rule::Exact),
        ("smembers s", Rule::Multiset),
        ("keys *", Rule::Multiset),
        ("hgetall h", Rule::PairsMultiset),
        ("sscan s 0", Rule::ScanPage),
        ("hscan h 0", Rule::ScanPairsPage),
        ("ttl k", Rule::Tolerance(Tick::Seconds)),
        ("object idletime k", Rule::Tolerance(Tick::Seconds)),
        ("pexpiretime k", Rule::Tolerance(Tick::Millis)),
        ("zscore z m", Rule::Numbers),
        ("incrbyfloat k 1", Rule::Numbers),
        ("zrange z 0 -1", Rule::Exact),
        ("zrange z 0 -1 WithScores", Rule::Numbers),
        ("zadd z 1 m", Rule::Exact),
        ("zadd z incr 1 m", Rule::Numbers),
        ("geosearch g fromlonlat 1 2 byradius 3 m withdist", Rule::Numbers),
        ("sort l by nosort", Rule::Multiset),
        ("sort l", Rule::Exact),
        ("xpending s g", Rule::Exact),
        ("xpending s g - + 5", Rule::Ignore),
        ("time", Rule::Ignore),
        ("randomkey", Rule::Ignore),
        ("srandmember s", Rule::Ignore),
        ("info", Rule::Ignore),
        ("publish c m", Rule::Ignore),
        ("ping", Rule::Exact),
    ] {
        assert_eq!(of(request).rule, rule, "{request}");
    }
}

#[test]
fn whole_values() {
    for request in [
        "set k v",
        "set k v ex 5",
        "setex k 5 v",
        "psetex k 5 v",
        "mset a 1 b 2",
        "msetex 2 a 1 b 2 ex 5",
        "del a b",
        "unlink a",
        "getdel a",
        "restore k 0 x replace",
        "sunionstore d a b",
        "zrangestore d s 0 -1",
        "geosearchstore d s fromlonlat 1 2 byradius 3 m",
        "bitop and d a",
        "sort l store d",
        "georadius g 1 2 3 m store d",
        "rename a b",
        "flushall",
        "flushdb async",
    ] {
        assert!(with(request, sets_whole_value), "{request}");
    }
    for request in [
        "get k",
        "set k v nx",
        "set k v ex 5 keepttl",
        "set k v get",
        "set k v ifeq x",
        "msetex 1 a 1 nx",
        "setnx k v",
        "msetnx a 1",
        "getset k v",
        "restore k 0 x",
        "renamenx a b",
        "copy a b",
        "copy a b replace",
        "copy replace b",
        "incr k",
        "lpush l a",
        "lpop l",
        "expire k 5",
        "pfmerge d a",
        "delifeq k v",
        "swapdb 0 1",
        "eval x 1 k",
        "move k 1",
    ] {
        assert!(!with(request, sets_whole_value), "{request}");
    }
}

fn fills(spec: &Spec, args: &[&str]) -> bool {
    let mut listed = Keys::new();
    crate::command::keys(spec, args, &mut listed).expect("keys");
    can_fill(spec, &listed)
}

#[test]
fn what_others_wait_for() {
    for request in [
        "lpush l a",
        "set k v",
        "rename a b",
        "xadd s * f v",
        "eval x 0",
        "swapdb 0 1",
        "move k 1",
        "sort l store d",
    ] {
        assert!(with(request, fills), "{request}");
    }
    for request in [
        "get k",
        "lpop l",
        "del k",
        "srem s a",
        "sort l",
        "sort l by w_*",
        "xreadgroup group g c streams s >",
    ] {
        assert!(!with(request, fills), "{request}");
    }
}

/// Arguments that end where an option would go on are the store's to refuse, and nobody else's to trip over.
#[test]
fn truncated_requests_are_survived() {
    let table = Table::builtin();
    let words = [
        "STORE", "BY", "GET", "LIMIT", "BLOCK", "STREAMS", "GROUP", "DB", "REPLACE", "KEYS", "9", "-1", "",
        "k",
    ];
    for (_, spec) in table.iter() {
        for length in 0..9 {
            for offset in 0..words.len() {
                let args: Vec<&str> = (0..length).map(|at| words[(at * 5 + offset) % words.len()]).collect();
                classify(spec, &args[..]);
                sets_whole_value(spec, &args[..]);
                timeout(spec, &args[..]);
                crate::command::first_key(spec, &args[..]);
                crate::command::other_db(spec, &args[..]);
                let mut keys = crate::command::Keys::new();
                let _ = crate::command::keys(spec, &args[..], &mut keys);
                assert!(keys.iter().all(|key| (key.arg as usize) < args.len()), "{} {args:?}", spec.name);
            }
        }
    }
}
