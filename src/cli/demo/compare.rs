//! The end of the demo: every key of both stores, read with the reads of its type, side by side.

use super::old_data::Words;
use crate::resp::value::OwnedValue;
use crate::store::connection::Connection;
use std::collections::{BTreeMap, BTreeSet};

/// How far two expiry times may be apart: the stores are read one after the other.
const TTL_TOLERANCE_MS: i64 = 2_000;
/// Keys asked for in one write.
const BATCH: usize = 500;

/// A database and a key in it.
pub(super) type Place = (u32, Vec<u8>);

/// Everything that a store holds.
pub(super) type Contents = BTreeMap<Place, Entry>;

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    kind: String,
    /// Unordered things are sorted.
    value: OwnedValue,
    /// Milliseconds left; -1 without an expiry.
    ttl_ms: i64,
}

/// How a key differs between the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    /// Only the old store has it.
    OnlySecondary,
    /// Only the new store has it.
    OnlyPrimary,
    /// Both have it, with another type or value.
    Value,
    /// Both have it with the same value, and it expires at another time.
    Expiry,
}

/// Both stores at the end.
pub(super) struct Comparison {
    /// How many keys are the same in both.
    pub(super) equal: usize,
    /// Every key that is not.
    pub(super) different: BTreeMap<Place, Difference>,
}

// === impl Comparison ===

impl Comparison {
    /// Reads both stores, which must be at rest, and compares them.
    pub(super) async fn make(
        primary: &mut Connection,
        secondary: &mut Connection,
    ) -> Result<Comparison, String> {
        let primary = contents(primary).await?;
        let secondary = contents(secondary).await?;
        Ok(Comparison::of(&primary, &secondary))
    }

    fn of(primary: &Contents, secondary: &Contents) -> Comparison {
        let places: BTreeSet<&Place> = primary.keys().chain(secondary.keys()).collect();
        let all = places.len();
        let judged = places.into_iter().filter_map(|place| {
            difference(primary.get(place), secondary.get(place)).map(|difference| (place.clone(), difference))
        });
        let different: BTreeMap<Place, Difference> = judged.collect();
        Comparison { equal: all - different.len(), different }
    }
}

fn difference(primary: Option<&Entry>, secondary: Option<&Entry>) -> Option<Difference> {
    match (primary, secondary) {
        (Some(one), Some(two)) if one.kind != two.kind || one.value != two.value => Some(Difference::Value),
        (Some(one), Some(two)) => (!expire_together(one.ttl_ms, two.ttl_ms)).then_some(Difference::Expiry),
        (Some(entry), None) => (!may_have_expired(entry)).then_some(Difference::OnlyPrimary),
        (None, Some(entry)) => (!may_have_expired(entry)).then_some(Difference::OnlySecondary),
        (None, None) => None,
    }
}

fn expire_together(one: i64, two: i64) -> bool {
    (one < 0) == (two < 0) && (one - two).abs() <= TTL_TOLERANCE_MS
}

/// It was about to expire when its store was read, and the other store was read at another moment.
fn may_have_expired(entry: &Entry) -> bool {
    (0..=TTL_TOLERANCE_MS).contains(&entry.ttl_ms)
}

async fn contents(store: &mut Connection) -> Result<Contents, String> {
    let mut found = Contents::new();
    for db in databases(store).await? {
        ask(store, vec![vec![b"SELECT".to_vec(), db.to_string().into_bytes()]]).await?;
        let keys: Vec<Vec<u8>> = keys(store).await?.into_iter().collect();
        for batch in keys.chunks(BATCH) {
            let entries = entries(store, batch).await?;
            found.extend(entries.into_iter().map(|(key, entry)| ((db, key), entry)));
        }
    }
    Ok(found)
}

async fn databases(store: &mut Connection) -> Result<Vec<u32>, String> {
    let info = store.call(&["INFO", "keyspace"]).await.map_err(|error| error.to_string())?;
    let names = info.as_str().unwrap_or_default().lines().filter_map(|line| line.strip_prefix("db"));
    Ok(names.filter_map(|rest| rest.split_once(':')?.0.parse().ok()).collect())
}

/// SCAN may show a key twice.
async fn keys(store: &mut Connection) -> Result<BTreeSet<Vec<u8>>, String> {
    let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
    loop {
        let page =
            store.call(&["SCAN", &cursor, "COUNT", "1000"]).await.map_err(|error| error.to_string())?;
        let parts = page.as_array().unwrap_or_default();
        let [next, keys] = parts else { return Err(format!("SCAN said {page:?}")) };
        let keys = keys.as_array().unwrap_or_default();
        found.extend(keys.iter().filter_map(|key| key.as_bytes()).map(<[u8]>::to_vec));
        cursor = next.as_str().unwrap_or("0").to_owned();
        if cursor == "0" {
            return Ok(found);
        }
    }
}

async fn entries(store: &mut Connection, keys: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, Entry)>, String> {
    let kinds = ask(store, keys.iter().map(|key| command(&["TYPE"], key, &[])).collect()).await?;
    let kinds: Vec<String> = kinds.iter().map(|kind| kind.as_str().unwrap_or_default().to_owned()).collect();
    let reads =
        keys.iter().zip(&kinds).flat_map(|(key, kind)| [command(&["PTTL"], key, &[]), read(kind, key)]);
    let replies = ask(store, reads.collect()).await?;
    let pairs = replies.chunks_exact(2);
    let entries = keys.iter().zip(kinds).zip(pairs).filter_map(|((key, kind), pair)| {
        let [ttl, value] = pair else { return None };
        // -2: it expired between the reads.
        let ttl_ms = ttl.as_i64().filter(|ttl| *ttl != -2)?;
        let value = in_order(&kind, value.clone());
        Some((key.clone(), Entry { kind, value, ttl_ms }))
    });
    Ok(entries.collect())
}

async fn ask(store: &mut Connection, commands: Vec<Words>) -> Result<Vec<OwnedValue>, String> {
    store.pipeline(&commands).await.map_err(|error| error.to_string())
}

fn read(kind: &str, key: &[u8]) -> Words {
    match kind {
        "string" => command(&["GET"], key, &[]),
        "list" => command(&["LRANGE"], key, &["0", "-1"]),
        "set" => command(&["SMEMBERS"], key, &[]),
        "hash" => command(&["HGETALL"], key, &[]),
        "zset" => command(&["ZRANGE"], key, &["0", "-1", "WITHSCORES"]),
        "stream" => command(&["XRANGE"], key, &["-", "+"]),
        _ => command(&["DUMP"], key, &[]),
    }
}

fn command(before: &[&str], key: &[u8], after: &[&str]) -> Words {
    let bytes = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut words = bytes(before);
    words.push(key.to_vec());
    words.extend(bytes(after));
    words
}

/// Sets and hashes in one order, whatever order the server keeps.
fn in_order(kind: &str, value: OwnedValue) -> OwnedValue {
    let OwnedValue::Array(mut items) = value else { return value };
    let bytes = |item: &OwnedValue| item.as_bytes().map(<[u8]>::to_vec);
    match kind {
        "set" => items.sort_by_key(bytes),
        "hash" => {
            let mut pairs: Vec<[OwnedValue; 2]> = items
                .chunks_exact(2)
                .filter_map(|pair| <[OwnedValue; 2]>::try_from(pair.to_vec()).ok())
                .collect();
            pairs.sort_by_key(|[field, _]| bytes(field));
            items = pairs.into_iter().flatten().collect();
        }
        _ => {}
    }
    OwnedValue::Array(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str, ttl_ms: i64) -> Entry {
        Entry { kind: "string".to_owned(), value: OwnedValue::Bulk(value.into()), ttl_ms }
    }

    fn store(entries: &[(&str, Entry)]) -> Contents {
        entries.iter().map(|(key, entry)| ((0, key.as_bytes().to_vec()), entry.clone())).collect()
    }

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        let primary = store(&[
            ("same", entry("a", -1)),
            ("value", entry("a", -1)),
            ("near", entry("a", 60_000)),
            ("far", entry("a", 60_000)),
            ("persists", entry("a", -1)),
            ("new", entry("a", -1)),
            ("expiring", entry("a", 500)),
        ]);
        let secondary = store(&[
            ("same", entry("a", -1)),
            ("value", entry("b", -1)),
            ("near", entry("a", 59_000)),
            ("far", entry("a", 30_000)),
            ("persists", entry("a", 1_000)),
            ("old", entry("a", -1)),
        ]);
        let comparison = Comparison::of(&primary, &secondary);
        let told: Vec<(String, Difference)> = comparison
            .different
            .iter()
            .map(|((_, key), difference)| (String::from_utf8_lossy(key).into_owned(), *difference))
            .collect();
        let expected = [
            ("far", Difference::Expiry),
            ("new", Difference::OnlyPrimary),
            ("old", Difference::OnlySecondary),
            ("persists", Difference::Expiry),
            ("value", Difference::Value),
        ];
        assert_eq!(told, expected.map(|(key, difference)| (key.to_owned(), difference)));
        assert_eq!(comparison.equal, 3);
    }

    #[test]
    fn order_counts_in_lists_alone() {
        let bulks = |items: &[&str]| {
            OwnedValue::Array(items.iter().map(|item| OwnedValue::Bulk((*item).into())).collect())
        };
        let (one, two) = (bulks(&["b", "1", "a", "2"]), bulks(&["a", "2", "b", "1"]));
        assert_eq!(in_order("hash", one.clone()), in_order("hash", two.clone()));
        assert_eq!(in_order("set", one.clone()), in_order("set", two.clone()));
        assert_ne!(in_order("list", one), in_order("list", two));
    }
}
