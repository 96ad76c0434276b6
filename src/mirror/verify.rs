//! Do both stores hold the same for a key? Pure: the stores' answers in, a judgement out.
//!
//! Equal payloads of DUMP are the same value. Unequal ones prove nothing: a server writes a set in the order of its
//! own table. Then the values are compared by type, unordered things as sets.

use std::fmt;
use std::time::Duration;

use super::by_type::Type;
use super::effects::field;
use crate::command::Rule;
use crate::compare::{self, Verdict};
use crate::resp::value::Value;
use crate::stage::StoreId;

/// How the two stores differ in a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// This store does not have it, the other one does.
    Missing(StoreId),
    /// Two types.
    Type {
        /// The primary's.
        primary: String,
        /// The secondary's.
        secondary: String,
    },
    /// Two values of this type.
    Value(&'static str),
    /// Two times to live, in milliseconds; `None`: for ever.
    Expiry {
        /// The primary's.
        primary: Option<i64>,
        /// The secondary's.
        secondary: Option<i64>,
    },
    /// A value of a module, whose payloads differ, and nothing else can be told.
    Payload(String),
    /// A store refused to show it.
    Refused {
        /// Which store.
        store: StoreId,
        /// What it said.
        error: String,
    },
}

/// What one look at a key has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Both hold the same.
    Same,
    /// Neither has it.
    Gone,
    /// They differ.
    Differ(Why),
    /// The payloads do, which proves nothing: to be compared by type.
    Look,
}

/// What one store answered to PTTL and DUMP.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// PTTL's frame.
    pub pttl: &'a [u8],
    /// DUMP's frame.
    pub dump: &'a [u8],
    /// When the answer came, in microseconds of any clock that both stores' answers share.
    pub at: u64,
}

/// What stands behind the value in a payload: the version of the format, and a checksum.
const FOOTER_BYTES: usize = 10;

// === impl Why ===

impl Why {
    /// The word that scripts match.
    pub fn code(&self) -> &'static str {
        match self {
            Why::Missing(StoreId::Primary) => "missing_on_primary",
            Why::Missing(StoreId::Secondary) => "missing_on_secondary",
            Why::Type { .. } => "type",
            Why::Value(_) => "value",
            Why::Expiry { .. } => "expiry",
            Why::Payload(_) => "payload",
            Why::Refused { .. } => "refused",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Missing(store) => write!(f, "only the {} has it", store.other()),
            Why::Type { primary, secondary } => {
                write!(f, "{primary} on the primary, {secondary} on the secondary")
            }
            Why::Value(kind) => write!(f, "the values differ ({kind})"),
            Why::Expiry { primary, secondary } => {
                write!(f, "expires {} on the primary, {} on the secondary", left(*primary), left(*secondary))
            }
            Why::Payload(kind) => {
                write!(f, "the payloads differ (type {kind}, which only its module can read)")
            }
            Why::Refused { store, error } => write!(f, "the {store} refused to show it: {error}"),
        }
    }
}

fn left(ms: Option<i64>) -> String {
    match ms {
        None => "never".to_owned(),
        Some(ms) => format!("in {}.{:03} s", ms / 1000, ms % 1000),
    }
}

/// Judges what PTTL and DUMP have shown of a key on both stores (indexed by store) at one point of the order.
pub fn judge(shown: [Shown<'_>; 2], tolerance: Duration) -> Judgement {
    let [primary, secondary] = shown;
    let parsed = (Value::parse(primary.dump), Value::parse(secondary.dump));
    match parsed {
        (Ok(Value::Nil), Ok(Value::Nil)) => Judgement::Gone,
        (Ok(Value::Nil), Ok(Value::Bulk(_))) => Judgement::Differ(Why::Missing(StoreId::Primary)),
        (Ok(Value::Bulk(_)), Ok(Value::Nil)) => Judgement::Differ(Why::Missing(StoreId::Secondary)),
        (Ok(Value::Bulk(a)), Ok(Value::Bulk(b))) if same_payload(a, b) => {
            match expiry(shown.map(|one| (one.pttl, one.at)), tolerance) {
                Some(why) => Judgement::Differ(why),
                None => Judgement::Same,
            }
        }
        // A store that does not let its values be dumped may still let them be read.
        _ => Judgement::Look,
    }
}

/// Are two payloads the same value, whatever version wrote them?
fn same_payload(a: &[u8], b: &[u8]) -> bool {
    let body = |payload: &'_ [u8]| payload.len().checked_sub(FOOTER_BYTES);
    match (body(a), body(b)) {
        (Some(x), Some(y)) => a.get(..x) == b.get(..y),
        _ => false,
    }
}

/// Compares two replies to PTTL, each with the time at which it came.
pub fn expiry(pttl: [(&[u8], u64); 2], tolerance: Duration) -> Option<Why> {
    let [primary, secondary] = pttl.map(|(frame, at)| match Value::parse(frame) {
        Ok(Value::Int(ms)) if ms >= 0 => Some((ms, at)),
        _ => None,
    });
    let ends = |(ms, at): (i64, u64)| i64::try_from(at / 1000).unwrap_or(i64::MAX).saturating_add(ms);
    let near = match (primary, secondary) {
        (Some(one), Some(two)) => u128::from(ends(one).abs_diff(ends(two))) <= tolerance.as_millis(),
        (one, two) => one.is_none() && two.is_none(),
    };
    let shown = |one: Option<(i64, u64)>| one.map(|(ms, _)| ms);
    (!near).then(|| Why::Expiry { primary: shown(primary), secondary: shown(secondary) })
}

/// Compares two replies to TYPE. `Ok`: the type to compare by; `None` where neither has the key.
pub fn types(primary: &[u8], secondary: &[u8]) -> Result<Option<Type>, Why> {
    let mut names = Vec::with_capacity(2);
    for (store, frame) in [(StoreId::Primary, primary), (StoreId::Secondary, secondary)] {
        match Value::parse(frame) {
            Ok(Value::Simple(name)) => names.push(String::from_utf8_lossy(name).into_owned()),
            _ => return Err(refused(store, frame)),
        }
    }
    match names.as_slice() {
        [one, two] if one == two && one == "none" => Ok(None),
        [one, two] if one == two => {
            Type::parse(one.as_bytes()).map(Some).ok_or_else(|| Why::Payload(one.clone()))
        }
        [one, _] if one == "none" => Err(Why::Missing(StoreId::Primary)),
        [_, two] if two == "none" => Err(Why::Missing(StoreId::Secondary)),
        [one, two] => Err(Why::Type { primary: one.clone(), secondary: two.clone() }),
        _ => Ok(None),
    }
}

/// A store answered something else than what was asked for.
pub fn refused(store: StoreId, frame: &[u8]) -> Why {
    Why::Refused {
        store,
        error: String::from_utf8_lossy(frame).trim_end().trim_start_matches('-').to_owned(),
    }
}

/// Compares two replies to the read that shows a whole value of this type ([`super::by_type::read_whole`]).
pub fn values(kind: Type, replies: [&[u8]; 2]) -> Option<Why> {
    let [primary, secondary] = replies;
    for (store, reply) in [(StoreId::Primary, primary), (StoreId::Secondary, secondary)] {
        if compare::is_error(reply) {
            return Some(refused(store, reply));
        }
    }
    let rule = match kind {
        Type::String | Type::List => Rule::Exact,
        Type::Set => Rule::Multiset,
        Type::Hash => Rule::PairsMultiset,
        Type::SortedSet => Rule::Numbers,
        Type::Stream => return streams(primary, secondary),
    };
    let same = compare::equal(rule, primary, secondary, Duration::ZERO) == Verdict::Same;
    (!same).then_some(Why::Value(name(kind)))
}

/// How people call it.
pub fn name(kind: Type) -> &'static str {
    match kind {
        Type::String => "string",
        Type::List => "list",
        Type::Set => "set",
        Type::Hash => "hash",
        Type::SortedSet => "sorted set",
        Type::Stream => "stream",
    }
}

fn streams(primary: &[u8], secondary: &[u8]) -> Option<Why> {
    let (Ok(one), Ok(two)) = (Value::parse(primary), Value::parse(secondary)) else {
        return Some(Why::Value("stream"));
    };
    let same = ["length", "last-generated-id", "entries"].iter().all(|name| {
        let name = name.as_bytes();
        field(&one, name) == field(&two, name)
    });
    if !same {
        return Some(Why::Value("stream"));
    }
    (groups(&one) != groups(&two)).then_some(Why::Value("groups of a stream"))
}

/// What counts of a group: its position, its consumers, and what is pending for whom. How often and how long ago it
/// was delivered is bookkeeping, which an effect does not carry over exactly.
type Group<'a> =
    (Option<&'a [u8]>, Option<&'a [u8]>, Vec<Option<&'a [u8]>>, Vec<Option<(&'a [u8], &'a [u8])>>);

fn groups<'a>(info: &Value<'a>) -> Vec<Group<'a>> {
    let listed = |value: &Value<'a>, name: &[u8]| -> Vec<Value<'a>> {
        field(value, name).and_then(Value::as_array).map(<[Value<'a>]>::to_vec).unwrap_or_default()
    };
    let text = |value: &Value<'a>, name: &[u8]| field(value, name).and_then(Value::as_bytes);
    let one = |group: &Value<'a>| {
        let mut consumers: Vec<_> =
            listed(group, b"consumers").iter().map(|consumer| text(consumer, b"name")).collect();
        consumers.sort_unstable();
        let pending = match listed(group, b"pel") {
            none if none.is_empty() => listed(group, b"pending"),
            some => some,
        };
        let pending = pending.iter().map(|entry| match entry.as_array() {
            Some([id, owner, ..]) => id.as_bytes().zip(owner.as_bytes()),
            _ => None,
        });
        (text(group, b"name"), text(group, b"last-delivered-id"), consumers, pending.collect())
    };
    let mut found: Vec<Group<'a>> = listed(info, b"groups").iter().map(one).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreId::{Primary, Secondary};

    fn bulk(text: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        crate::resp::encode::bulk(&mut frame, text);
        frame
    }

    fn shown<'a>(dump: &'a [u8], pttl: &'a [u8], at: u64) -> Shown<'a> {
        Shown { pttl, dump, at }
    }

    #[test]
    fn a_payload_is_compared_without_its_footer() {
        let (a, b) = (bulk(b"value-11-checksu"), bulk(b"value-10-other..."));
        let (c, nil) = (bulk(b"other-11-checksu"), b"$-1\r\n");
        let second = Duration::from_secs(1);
        let look =
            |one: &[u8], two: &[u8]| judge([shown(one, b":-1\r\n", 0), shown(two, b":-1\r\n", 0)], second);
        assert_eq!(look(&a, &bulk(b"value--9-another")), Judgement::Same);
        assert_eq!(look(&a, &b), Judgement::Look, "another length is another value");
        assert_eq!(look(&a, &c), Judgement::Look);
        assert_eq!(look(nil, nil), Judgement::Gone);
        assert_eq!(look(nil, &a), Judgement::Differ(Why::Missing(Primary)));
        assert_eq!(look(&a, nil), Judgement::Differ(Why::Missing(Secondary)));
        assert_eq!(look(&a, b"-NOPERM no\r\n"), Judgement::Look);
    }

    #[test]
    fn times_to_live_are_compared_as_moments() {
        let second = Duration::from_secs(1);
        let at = |one: (&'static [u8], u64), two: (&'static [u8], u64)| expiry([one, two], second);
        assert_eq!(at((b":-1\r\n", 0), (b":-1\r\n", 9)), None);
        assert_eq!(at((b":5000\r\n", 0), (b":4100\r\n", 0)), None);
        assert_eq!(at((b":5000\r\n", 0), (b":2000\r\n", 3_000_000)), None, "the second came later");
        assert!(at((b":5000\r\n", 0), (b":5000\r\n", 3_000_000)).is_some());
        assert!(at((b":5000\r\n", 0), (b":-1\r\n", 0)).is_some());
    }

    #[test]
    fn values_are_compared_by_what_their_type_means() {
        let list = |words: &[&str]| {
            let mut frame = Vec::new();
            crate::resp::encode::command(&mut frame, words);
            frame
        };
        let (ab, ba) = (list(&["a", "b"]), list(&["b", "a"]));
        assert_eq!(values(Type::Set, [&ab, &ba]), None);
        assert_eq!(values(Type::List, [&ab, &ba]), Some(Why::Value("list")));
        assert_eq!(values(Type::Hash, [&list(&["a", "1", "b", "2"]), &list(&["b", "2", "a", "1"])]), None);
        assert!(values(Type::Hash, [&ab, &ba]).is_some());
        let refusal = values(Type::Set, [&ab, b"-NOPERM no\r\n"]);
        assert_eq!(refusal.map(|why| why.code()), Some("refused"));
    }

    #[test]
    fn two_types_are_told_apart() {
        assert_eq!(types(b"+set\r\n", b"+set\r\n"), Ok(Some(Type::Set)));
        assert_eq!(types(b"+none\r\n", b"+none\r\n"), Ok(None));
        assert_eq!(types(b"+none\r\n", b"+set\r\n"), Err(Why::Missing(Primary)));
        assert_eq!(types(b"+module\r\n", b"+module\r\n"), Err(Why::Payload("module".to_owned())));
        assert_eq!(types(b"+set\r\n", b"+hash\r\n").map_err(|why| why.code()), Err("type"));
    }
}
