//! What a store holds, in a form in which two stores can be compared.

use super::{RedisServer, Value, pairs_sorted};
use std::collections::{BTreeMap, BTreeSet};

/// How far two expiry times may be apart: the stores are read one after the other.
const TTL_TOLERANCE_MS: i64 = 1_500;

/// Everything in a store, by database and key.
pub type Dump = BTreeMap<(u32, Vec<u8>), Entry>;

/// One key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name of its type.
    pub kind: String,
    /// Its value, unordered things sorted.
    pub value: Value,
    /// When it expires, unix time; `None` when it does not.
    pub expires_at_ms: Option<i64>,
}

/// Reads every key of every database with the reads of its type.
#[track_caller]
pub fn dump(server: &RedisServer) -> Dump {
    let mut client = server.client();
    let mut found = Dump::new();
    for db in databases(server) {
        assert_eq!(client.call(&["SELECT", &db.to_string()]), Value::ok());
        for key in client.call(&["KEYS", "*"]).items() {
            let key = key.bytes().to_vec();
            if let Some(entry) = entry(&mut client, &key) {
                found.insert((db, key), entry);
            }
        }
    }
    found
}

fn databases(server: &RedisServer) -> Vec<u32> {
    let text = server.call(&["INFO", "keyspace"]).text();
    let names = text.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':'));
    names.filter_map(|(number, _)| number.parse().ok()).collect()
}

/// `None` when the key expired or became something else meanwhile.
fn entry(client: &mut super::Client, key: &[u8]) -> Option<Entry> {
    let kind = client.call(&[b"TYPE".as_slice(), key]).text();
    let mut read = |words: &[&[u8]]| Some(client.call(words)).filter(|reply| !reply.is_error());
    let value = match kind.as_str() {
        "string" => read(&[b"GET", key])?,
        "list" => read(&[b"LRANGE", key, b"0", b"-1"])?,
        "set" => sorted(&read(&[b"SMEMBERS", key])?),
        "hash" => by_field(&read(&[b"HGETALL", key])?),
        "zset" => by_field(&read(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"])?),
        "stream" => stream(client, key)?,
        "none" => return None,
        // A module's type: its payload is all that is known of it.
        _ => read(&[b"DUMP", key])?,
    };
    let left = client.call(&[b"PTTL".as_slice(), key]).int();
    if left == -2 {
        return None;
    }
    let expires_at_ms = (left >= 0).then(|| now_ms() + left);
    Some(Entry { kind, value, expires_at_ms })
}

fn sorted(members: &Value) -> Value {
    let mut members = members.items().to_vec();
    members.sort_by_key(|member| member.bytes().to_vec());
    Value::Array(members)
}

fn by_field(reply: &Value) -> Value {
    Value::Map(pairs_sorted(reply))
}

/// Entries, the last id, and each group's position, name, pending ids and consumers. `None` when the key expired
/// between two of these questions.
fn stream(client: &mut super::Client, key: &[u8]) -> Option<Value> {
    let present = |reply: Value| (!reply.is_error()).then_some(reply);
    let mut parts = vec![present(client.call(&[b"XRANGE".as_slice(), key, b"-", b"+"]))?];
    let info = present(client.call(&[b"XINFO".as_slice(), b"STREAM", key]))?;
    parts.push(info.field("last-generated-id").cloned().unwrap_or(Value::Nil));
    for group in present(client.call(&[b"XINFO".as_slice(), b"GROUPS", key]))?.items() {
        let name = group.field("name").cloned().unwrap_or(Value::Nil);
        let pending =
            present(client.call(&[b"XPENDING".as_slice(), key, name.bytes(), b"-", b"+", b"1000000"]))?;
        let owners = pending.items().iter().map(|one| Value::Array(one.items()[..2].to_vec())).collect();
        parts.push(group.field("last-delivered-id").cloned().unwrap_or(Value::Nil));
        parts.push(name.clone());
        parts.push(Value::Array(owners));
        let consumers = present(client.call(&[b"XINFO".as_slice(), b"CONSUMERS", key, name.bytes()]))?;
        let names = consumers.items().iter().filter_map(|consumer| consumer.field("name").cloned());
        parts.push(sorted(&Value::Array(names.collect())));
    }
    Some(Value::Array(parts))
}

fn now_ms() -> i64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a clock before the year 292 million")
}

/// Each key in which the two differ, with how.
pub fn differences(primary: &Dump, secondary: &Dump) -> Vec<String> {
    let keys: BTreeSet<&(u32, Vec<u8>)> = primary.keys().chain(secondary.keys()).collect();
    let told = keys.into_iter().filter_map(|key| {
        let what = difference(primary.get(key), secondary.get(key))?;
        Some(format!("db {} key \"{}\": {what}", key.0, key.1.escape_ascii()))
    });
    told.collect()
}

fn difference(primary: Option<&Entry>, secondary: Option<&Entry>) -> Option<String> {
    match (primary, secondary) {
        (Some(one), Some(two)) => entries_differ(one, two),
        (Some(one), None) => Some(format!("only the primary has it: {one:?}")),
        (None, Some(two)) => Some(format!("only the secondary has it: {two:?}")),
        (None, None) => None,
    }
}

fn entries_differ(one: &Entry, two: &Entry) -> Option<String> {
    if one.kind != two.kind {
        return Some(format!("type {} on the primary, {} on the secondary", one.kind, two.kind));
    }
    if one.value != two.value {
        return Some(format!("primary {:?}, secondary {:?}", one.value, two.value));
    }
    let near = match (one.expires_at_ms, two.expires_at_ms) {
        (Some(one), Some(two)) => (one - two).abs() <= TTL_TOLERANCE_MS,
        (one, two) => one == two,
    };
    (!near).then(|| {
        format!("expires at {:?} on the primary, {:?} on the secondary", one.expires_at_ms, two.expires_at_ms)
    })
}
