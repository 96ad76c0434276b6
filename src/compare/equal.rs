//! The rules of comparison.

use std::time::Duration;

use super::multiset::{same_multiset, same_pages};
use super::number::same_number;
use super::reader::{List, Reader, Token};
use super::{Rule, Tick};

/// Deeper replies than this are not compared beyond their bytes: they differ unless they are equal.
/// Values that are the last of their parent cost no depth.
const MAX_DEPTH: usize = 16_384;

/// What comparing two replies found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both are the same answer.
    Same,
    /// They are different answers, or at least one is malformed.
    Differ,
}

/// Compares the two stores' complete replies to one command.
///
/// Equal bytes are the same whatever the rule. Otherwise shapes of RESP2 and RESP3 are one value: nil in
/// its three forms, booleans and integers, maps and flat arrays (or arrays of pairs: XREAD), sets and
/// arrays, doubles, big numbers and verbatim strings as the strings they are in RESP2. A simple string is
/// the string. Errors are equal if their first words are. Attributes don't count.
pub fn equal(rule: Rule, a: &[u8], b: &[u8], tolerance: Duration) -> Verdict {
    if a == b {
        return Verdict::Same;
    }
    let same = match rule {
        Rule::Ignore => Some(true),
        Rule::Exact => in_step(Leaves::Exact, a, b),
        Rule::Numbers => in_step(Leaves::Numbers, a, b),
        Rule::Tolerance(tick) => in_step(Leaves::Within(ticks(tick, tolerance)), a, b),
        Rule::Multiset => same_multiset(a, b, 1),
        Rule::PairsMultiset => same_multiset(a, b, 2),
        Rule::ScanPage => same_pages(a, b, 1),
        Rule::ScanPairsPage => same_pages(a, b, 2),
    };
    Verdict::from_bool(same == Some(true))
}

/// Compares two replies to EXEC, element by element, each by the rule of its queued command (`Exact` where
/// `rules` is too short). Nil (an aborted transaction) equals nil only.
pub fn equal_exec(rules: &[Rule], a: &[u8], b: &[u8], tolerance: Duration) -> Verdict {
    let same = a == b || exec_elements(rules, a, b, tolerance) == Some(true);
    Verdict::from_bool(same)
}

fn exec_elements(rules: &[Rule], a: &[u8], b: &[u8], tolerance: Duration) -> Option<bool> {
    let (mut left, mut right) = (Reader::new(a), Reader::new(b));
    let (Token::List(x), Token::List(y)) = (left.token()?, right.token()?) else {
        return in_step(Leaves::Exact, a, b);
    };
    if x.items != y.items {
        return Some(false);
    }
    let mut rules = rules.iter().copied();
    for _ in 0..x.items {
        let (a, b) = (left.values(1)?, right.values(1)?);
        if equal(rules.next().unwrap_or(Rule::Exact), a, b, tolerance) == Verdict::Differ {
            return Some(false);
        }
    }
    Some(left.at_end() && right.at_end())
}

/// How far two times may be apart.
fn ticks(tick: Tick, tolerance: Duration) -> u64 {
    match tick {
        Tick::Millis => u64::try_from(tolerance.as_millis()).unwrap_or(u64::MAX),
        // TTL rounds to whole seconds, so even equal expiry times may show one second apart.
        Tick::Seconds => {
            let up = u64::from(tolerance.subsec_nanos() > 0);
            tolerance.as_secs().saturating_add(up).max(1)
        }
    }
}

/// Walks both replies in step and compares value by value. `None`: malformed.
pub(super) fn in_step(leaves: Leaves, a: &[u8], b: &[u8]) -> Option<bool> {
    let (mut left, mut right) = (Reader::new(a), Reader::new(b));
    let mut level = Level { remaining: 1, pairs: Pairs::Flat };
    let mut parents = Vec::new();
    loop {
        if level.remaining == 0 {
            match parents.pop() {
                Some(parent) => level = parent,
                None => return Some(left.at_end() && right.at_end()),
            }
            continue;
        }
        if !level.enter_pair(&mut left, &mut right)? {
            return Some(false);
        }
        level.remaining -= 1;
        match (left.token()?, right.token()?) {
            (Token::List(x), Token::List(y)) => {
                let Some(inner) = Level::open(leaves, x, y) else { return Some(false) };
                if level.remaining > 0 {
                    if parents.len() == MAX_DEPTH {
                        return Some(false);
                    }
                    parents.push(level);
                }
                level = inner;
            }
            (x, y) if leaves.same(x, y) => {}
            _ => return Some(false),
        }
    }
}

/// How values without children are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// As they are.
    Exact,
    /// Strings that are printed doubles as numbers.
    Numbers,
    /// Integers that are not negative (-1 and -2 have meanings) may be that far apart.
    Within(u64),
}

/// Which reply holds its pairs as arrays of two, where the other one is flat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairs {
    Flat,
    LeftWrapped,
    RightWrapped,
}

/// The children of two lists that are being compared.
struct Level {
    remaining: usize,
    pairs: Pairs,
}

// === impl Verdict ===

impl Verdict {
    fn from_bool(same: bool) -> Self {
        if same { Verdict::Same } else { Verdict::Differ }
    }
}

// === impl Leaves ===

impl Leaves {
    fn same(self, a: Token<'_>, b: Token<'_>) -> bool {
        match (a, b) {
            (Token::Nil, Token::Nil) => true,
            (Token::Int(x), Token::Int(y)) => x == y || self.close(x, y),
            (Token::Text(x), Token::Text(y)) if self == Leaves::Numbers => same_number(x, y),
            (Token::Text(x), Token::Text(y)) => x == y,
            (Token::Double(x), Token::Double(y) | Token::Text(y)) => same_number(x, y),
            (Token::Text(x), Token::Double(y)) => same_number(x, y),
            (Token::Int(n), Token::Double(text) | Token::Text(text))
            | (Token::Double(text) | Token::Text(text), Token::Int(n)) => {
                self == Leaves::Numbers && same_number(itoa::Buffer::new().format(n).as_bytes(), text)
            }
            (Token::Error(x), Token::Error(y)) => Token::error_code(x) == Token::error_code(y),
            _ => false,
        }
    }

    fn close(self, x: i64, y: i64) -> bool {
        matches!(self, Leaves::Within(most) if x >= 0 && y >= 0 && x.abs_diff(y) <= most)
    }
}

// === impl Level ===

impl Level {
    /// The children of two lists, if the heads allow them to be equal at all.
    ///
    /// RESP3 turns some flat arrays of pairs into arrays of two (scores: the `Numbers` commands), and some
    /// arrays of arrays of two into maps (XREAD).
    fn open(leaves: Leaves, x: List, y: List) -> Option<Level> {
        if x.items == y.items {
            return Some(Level { remaining: x.items, pairs: Pairs::Flat });
        }
        let may_wrap = |flat: List| flat.map || leaves == Leaves::Numbers;
        if y.items.checked_mul(2) == Some(x.items) && may_wrap(x) {
            return Some(Level { remaining: x.items, pairs: Pairs::RightWrapped });
        }
        if x.items.checked_mul(2) == Some(y.items) && may_wrap(y) {
            return Some(Level { remaining: y.items, pairs: Pairs::LeftWrapped });
        }
        None
    }

    /// Before each pair, passes over the head of the array that wraps it. `Some(false)`: there is none.
    fn enter_pair<'a>(&self, left: &mut Reader<'a>, right: &mut Reader<'a>) -> Option<bool> {
        let wrapped = match self.pairs {
            Pairs::LeftWrapped => left,
            Pairs::RightWrapped => right,
            Pairs::Flat => return Some(true),
        };
        if !self.remaining.is_multiple_of(2) {
            return Some(true);
        }
        Some(wrapped.token()? == Token::List(List { items: 2, map: false }))
    }
}
