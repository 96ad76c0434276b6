//! Everything that a store holds, as exactly as its commands tell: consumer groups with all that is pending, and what
//! streams remember of entries that are gone.

use super::{Client, Value, pairs_sorted};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Two clocks and one round trip.
const TIME_TOLERANCE_MS: i64 = 5_000;

/// Panics with the first key in which two stores differ.
#[track_caller]
pub fn assert_exactly_same(first: &mut Client, second: &mut Client, when: &str) {
    let [first, second] = [everything(first), everything(second)];
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>(), "{when}");
    for (key, one) in &first {
        assert!(same(one, &second[key]), "{when}: {key}\n first: {one:?}\nsecond: {:?}", second[key]);
    }
}

/// All keys with value and expiry; times stand as `Value::Double` and are compared with a tolerance.
pub fn everything(client: &mut Client) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for key in client.call(&["KEYS", "*"]).items().to_vec() {
        let key = key.text();
        let kind = client.call(&["TYPE", &key]).text();
        let value = match kind.as_str() {
            "string" => client.call(&["GET", &key]),
            "set" => Value::Array(sorted(client.call(&["SMEMBERS", &key]).items())),
            "hash" => hash(client, &key),
            "stream" => stream(&client.call(&["XINFO", "STREAM", &key, "FULL", "COUNT", "0"]), ""),
            "list" => client.call(&["LRANGE", &key, "0", "-1"]),
            _ => scores(&client.call(&["ZRANGE", &key, "0", "-1", "WITHSCORES"])),
        };
        let left = client.call(&["PTTL", &key]).int();
        found.insert(key, Value::Array(vec![value, expiry(left)]));
    }
    found
}

fn sorted(items: &[Value]) -> Vec<Value> {
    let mut items = items.to_vec();
    items.sort_by_key(|item| item.bytes().to_vec());
    items
}

/// When something expires of which so much time is left.
fn expiry(left: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    let time = if left < 0 { left } else { left + i64::try_from(now).expect("a time") };
    Value::Double(time.to_string())
}

/// Fields, values, and when each field expires, where the server knows such a thing.
fn hash(client: &mut Client, key: &str) -> Value {
    let pairs = pairs_sorted(&client.call(&["HGETALL", key]));
    let count = pairs.len().to_string();
    let head = [b"HPTTL".as_slice(), key.as_bytes(), b"FIELDS", count.as_bytes()];
    let asked: Vec<&[u8]> = head.into_iter().chain(pairs.iter().map(|(field, _)| field.bytes())).collect();
    let left = match client.call(&asked) {
        Value::Error(_) => vec![Value::Int(-1); pairs.len()],
        left => left.items().to_vec(),
    };
    let fields = pairs.into_iter().zip(left);
    let fields = fields.map(|((field, value), left)| Value::Array(vec![field, value, expiry(left.int())]));
    Value::Array(fields.collect())
}

/// Members and the bits of their scores, which servers write in different ways.
fn scores(reply: &Value) -> Value {
    let flat: Vec<Value> = match reply.items() {
        pairs @ [Value::Array(_), ..] => pairs.iter().flat_map(|pair| pair.items().to_vec()).collect(),
        flat => flat.to_vec(),
    };
    let pairs = flat.chunks_exact(2).map(|pair| {
        let score: f64 = pair[1].text().parse().expect("a score");
        Value::Array(vec![pair[0].clone(), Value::Int(score.to_bits().cast_signed())])
    });
    Value::Array(pairs.collect())
}

/// XINFO STREAM FULL of either protocol version, without what is not data, times marked.
fn stream(info: &Value, within: &str) -> Value {
    // The lag follows from the rest, by rules that versions see differently.
    const NOT_DATA: [&str; 5] = ["radix-tree-keys", "radix-tree-nodes", "seen-time", "active-time", "lag"];
    let pairs = match info {
        Value::Map(pairs) => pairs.clone(),
        Value::Array(items) if items.first().is_some_and(|item| matches!(item, Value::Bulk(_))) => {
            items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        }
        other => return other.clone(),
    };
    let kept = pairs.into_iter().filter(|(name, _)| !NOT_DATA.contains(&name.text().as_str()));
    let fields = kept.map(|(name, value)| {
        let value = match name.text().as_str() {
            "groups" | "consumers" => {
                Value::Array(value.items().iter().map(|one| stream(one, &name.text())).collect())
            }
            "pel" | "pending" if matches!(value, Value::Array(_)) => {
                Value::Array(value.items().iter().map(|one| pending(one, within)).collect())
            }
            _ => value,
        };
        (name, value)
    });
    Value::Map(fields.collect())
}

/// `[id, consumer, time, count]` in a group, `[id, time, count]` in a consumer.
fn pending(entry: &Value, within: &str) -> Value {
    let time_at = if within == "consumers" { 1 } else { 2 };
    let mut parts = entry.items().to_vec();
    parts[time_at] = Value::Double(parts[time_at].int().to_string());
    Value::Array(parts)
}

fn same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Double(one), Value::Double(two)) => {
            let [one, two] = [one, two].map(|time| time.parse::<i64>().expect("a time"));
            (one - two).abs() < TIME_TOLERANCE_MS && (one < 0) == (two < 0)
        }
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        // What only one of two versions tells is not compared.
        (Value::Map(one), Value::Map(_)) => {
            one.iter().all(|(name, value)| two.field(&name.text()).is_none_or(|other| same(value, other)))
        }
        (one, two) => one == two,
    }
}
