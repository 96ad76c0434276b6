//! Properties that hold for every value, on values made from a seed.

use super::super::Verdict::{Differ, Same};
use super::super::{Miss, Prefer, Rule, Samples, equal, equal_exec, is_miss, merge_mget};
use super::{MILLIS, SECOND, SECONDS};
use crate::resp::Proto;
use std::time::SystemTime;

/// A small generator (splitmix64), so that failures repeat.
pub(super) struct Rng(u64);

// === impl Rng ===

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nil,
    Int(i64),
    Bool(bool),
    Text(Vec<u8>),
    Double(f64),
    Error(String),
    Set(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

// === impl Value ===

impl Value {
    fn any(rng: &mut Rng, depth: usize) -> Value {
        let kinds = if depth == 0 { 6 } else { 9 };
        match rng.below(kinds) {
            0 => Value::Nil,
            1 => Value::Int(rng.next() as i64 >> rng.below(64)),
            2 => Value::Bool(rng.below(2) == 0),
            3 => Value::Text((0..rng.below(9)).map(|_| rng.next() as u8).collect()),
            4 => Value::Double((rng.next() as i64 >> rng.below(64)) as f64 / 1024.0),
            5 => Value::Error(format!("E{} text", rng.below(3))),
            6 => Value::Set(Value::some(rng, depth)),
            7 => Value::List(Value::some(rng, depth)),
            _ => Value::Map(Value::some(rng, depth).into_iter().map(|v| (Value::any(rng, 0), v)).collect()),
        }
    }

    fn some(rng: &mut Rng, depth: usize) -> Vec<Value> {
        (0..rng.below(6)).map(|_| Value::any(rng, depth - 1)).collect()
    }

    fn encode(&self, proto: Proto) -> Vec<u8> {
        let three = proto == Proto::Resp3;
        let bulk = |text: &[u8]| [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
        let list = |head: String, items: &[Value]| {
            items.iter().fold(head.into_bytes(), |out, item| [out, item.encode(proto)].concat())
        };
        match self {
            Value::Nil if three => b"_\r\n".to_vec(),
            Value::Nil => b"$-1\r\n".to_vec(),
            Value::Int(n) => format!(":{n}\r\n").into_bytes(),
            Value::Bool(yes) if three => format!("#{}\r\n", if *yes { 't' } else { 'f' }).into_bytes(),
            Value::Bool(yes) => format!(":{}\r\n", u8::from(*yes)).into_bytes(),
            Value::Text(text) => bulk(text),
            Value::Double(value) if three => format!(",{value}\r\n").into_bytes(),
            Value::Double(value) => bulk(value.to_string().as_bytes()),
            Value::Error(text) => format!("-{text}\r\n").into_bytes(),
            Value::Set(items) => list(format!("{}{}\r\n", if three { '~' } else { '*' }, items.len()), items),
            Value::List(items) => list(format!("*{}\r\n", items.len()), items),
            Value::Map(pairs) => {
                let flat: Vec<Value> = pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();
                let head =
                    if three { format!("%{}\r\n", pairs.len()) } else { format!("*{}\r\n", flat.len()) };
                list(head, &flat)
            }
        }
    }
}

const RULES: [Rule; 9] = [
    Rule::Exact,
    Rule::Multiset,
    Rule::PairsMultiset,
    Rule::ScanPage,
    Rule::ScanPairsPage,
    SECONDS,
    MILLIS,
    Rule::Numbers,
    Rule::Ignore,
];

#[test]
fn a_value_is_itself_in_both_protocols() {
    let mut rng = Rng::new(1);
    for _ in 0..3_000 {
        let value = Value::any(&mut rng, 4);
        let (two, three) = (value.encode(Proto::Resp2), value.encode(Proto::Resp3));
        for rule in RULES {
            let odd_pairs = rule == Rule::PairsMultiset && two != three && !matches!(value, Value::Map(_));
            if !odd_pairs {
                assert_eq!(equal(rule, &two, &three, SECOND), Same, "{rule:?} {value:?}");
            }
            assert_eq!(equal(rule, &two, &two, SECOND), Same);
        }
        let exec = |reply: &[u8]| [&b"*2\r\n+OK\r\n"[..], reply].concat();
        assert_eq!(equal_exec(&[], &exec(&two), &exec(&three), SECOND), Same, "{value:?}");
    }
}

#[test]
fn comparison_is_symmetric() {
    let mut rng = Rng::new(2);
    let values: Vec<Vec<u8>> = (0..120)
        .map(|n| Value::any(&mut rng, 2).encode(if n % 2 == 0 { Proto::Resp2 } else { Proto::Resp3 }))
        .collect();
    for a in &values {
        for b in &values {
            for rule in RULES {
                assert_eq!(equal(rule, a, b, SECOND), equal(rule, b, a, SECOND), "{rule:?} {a:?} {b:?}");
            }
        }
    }
}

#[test]
fn order_matters_to_lists_only() {
    let mut rng = Rng::new(3);
    for _ in 0..1_000 {
        let mut items = Value::some(&mut rng, 3);
        let list = Value::List(items.clone()).encode(Proto::Resp2);
        rng.shuffle(&mut items);
        let shuffled = Value::Set(items.clone()).encode(Proto::Resp3);
        assert_eq!(equal(Rule::Multiset, &list, &shuffled, SECOND), Same, "{items:?}");
        let ordered = equal(Rule::Exact, &list, &Value::List(items.clone()).encode(Proto::Resp2), SECOND);
        if ordered == Differ {
            items.pop();
            let fewer = Value::Set(items).encode(Proto::Resp3);
            assert_eq!(equal(Rule::Multiset, &list, &fewer, SECOND), Differ);
        }
    }
}

#[test]
fn one_changed_element_is_seen() {
    let mut rng = Rng::new(4);
    for _ in 0..1_000 {
        let mut items: Vec<Value> = (0..1 + rng.below(20)).map(|n| Value::Int(n as i64 % 7)).collect();
        let before = Value::List(items.clone()).encode(Proto::Resp2);
        let place = rng.below(items.len());
        items[place] = Value::Int(99);
        rng.shuffle(&mut items);
        let after = Value::List(items).encode(Proto::Resp2);
        assert_eq!(equal(Rule::Multiset, &before, &after, SECOND), Differ);
    }
}

#[test]
fn pairs_survive_shuffling() {
    let mut rng = Rng::new(5);
    for _ in 0..1_000 {
        let mut pairs: Vec<(Value, Value)> =
            (0..rng.below(8)).map(|n| (Value::Text(vec![b'f', n as u8]), Value::any(&mut rng, 1))).collect();
        let before = Value::Map(pairs.clone()).encode(Proto::Resp2);
        rng.shuffle(&mut pairs);
        let after = Value::Map(pairs.clone()).encode(Proto::Resp3);
        assert_eq!(equal(Rule::PairsMultiset, &before, &after, SECOND), Same, "{pairs:?}");
    }
}

#[test]
fn broken_bytes_never_panic_and_never_agree_when_cut() {
    let mut rng = Rng::new(6);
    let mut samples = Samples::new(4, false);
    for _ in 0..2_000 {
        let value = Value::any(&mut rng, 3);
        let good = value.encode(Proto::Resp3);
        let mut bad = good.clone();
        for _ in 0..1 + rng.below(3) {
            let place = rng.below(bad.len());
            bad[place] = b"*$:%~|_#,-+=!(>0129\r\n-"[rng.below(22)];
        }
        let cut = &good[..rng.below(good.len())];
        for rule in RULES {
            let _ = equal(rule, &good, &bad, SECOND);
            if rule != Rule::Ignore {
                assert_eq!(equal(rule, &good, cut, SECOND), Differ, "{rule:?} {good:?}");
            }
        }
        let _ = equal_exec(&RULES, &good, &bad, SECOND);
        let _ = merge_mget(&good, &bad, |_| Prefer::PrimaryElseSecondary);
        assert!(!is_miss(Miss::AnyNil, cut, None) || super::super::is_error(cut));
        samples.record("x", Some(&bad), &bad, cut, SystemTime::UNIX_EPOCH);
    }
}

#[test]
fn large_sets_are_compared_in_reasonable_time() {
    let mut rng = Rng::new(8);
    let mut items: Vec<Value> = (0..50_000).map(|n: u32| Value::Text(n.to_be_bytes().to_vec())).collect();
    let encode = |items: &[Value]| {
        let mut out = format!("*{}\r\n", items.len()).into_bytes();
        items.iter().for_each(|item| out.extend(item.encode(Proto::Resp2)));
        out
    };
    let before = encode(&items);
    rng.shuffle(&mut items);
    assert_eq!(equal(Rule::Multiset, &before, &encode(&items), SECOND), Same);
    items[7] = Value::Nil;
    assert_eq!(equal(Rule::Multiset, &before, &encode(&items), SECOND), Differ);
}
