//! Comparison without order.

use std::cmp::Ordering;

use super::equal::{Leaves, in_step};
use super::reader::{Reader, Token};

/// Do both lists hold the same groups of `group` values, in any order? Duplicates count.
/// What is no list on both sides is compared as it is. `None`: malformed.
///
/// Doubles are compared as text here: no command without order answers with them.
pub(super) fn same_multiset(a: &[u8], b: &[u8], group: usize) -> Option<bool> {
    let (mut left, mut right) = (Reader::new(a), Reader::new(b));
    let same = match (left.token()?, right.token()?) {
        (Token::List(x), Token::List(y)) => {
            let even = x.items.checked_rem(group)? == 0;
            even && x.items == y.items && same_groups(&mut left, &mut right, x.items / group, group)?
        }
        _ => return in_step(Leaves::Exact, a, b),
    };
    Some(same && left.at_end() && right.at_end())
}

/// Compares two pages of a scan: as multisets if both are the last page of their store.
///
/// A cursor belongs to the store that issued it, and two stores cut the same keys into different pages, so
/// pages in the middle say nothing: any two of them count as the same.
pub(super) fn same_pages(a: &[u8], b: &[u8], group: usize) -> Option<bool> {
    match (Page::parse(a), Page::parse(b)) {
        (Some(x), Some(y)) if x.last && y.last => same_multiset(x.elements, y.elements, group),
        (Some(_), Some(_)) => Some(true),
        _ => in_step(Leaves::Exact, a, b),
    }
}

/// A reply of the SCAN family.
pub(super) struct Page<'a> {
    /// The cursor is 0.
    pub(super) last: bool,
    /// The raw list of elements.
    pub(super) elements: &'a [u8],
}

// === impl Page ===

impl<'a> Page<'a> {
    pub(super) fn parse(reply: &'a [u8]) -> Option<Page<'a>> {
        let mut reader = Reader::new(reply);
        match reader.token()? {
            Token::List(list) if list.items == 2 => {}
            _ => return None,
        }
        let Token::Text(cursor) = reader.token()? else { return None };
        let elements = reader.values(1)?;
        let is_list = matches!(Reader::new(elements).token()?, Token::List(_));
        (is_list && reader.at_end()).then_some(Page { last: is_zero(cursor), elements })
    }
}

/// Is it the cursor 0? (Redis reads cursors as numbers: `00` is one, too.)
pub(super) fn is_zero(cursor: &[u8]) -> bool {
    !cursor.is_empty() && cursor.iter().all(|b| *b == b'0')
}

fn same_groups<'a>(a: &mut Reader<'a>, b: &mut Reader<'a>, groups: usize, group: usize) -> Option<bool> {
    let a = sorted(a, groups, group)?;
    let b = sorted(b, groups, group)?;
    Some(a.iter().zip(&b).all(|(x, y)| order(x, y) == Ordering::Equal))
}

/// The count is only a claim, so memory is taken as values are found.
fn sorted<'a>(reader: &mut Reader<'a>, groups: usize, group: usize) -> Option<Vec<&'a [u8]>> {
    let mut found = Vec::new();
    for _ in 0..groups {
        found.push(reader.values(group)?);
    }
    found.sort_unstable_by(|x, y| order(x, y));
    Some(found)
}

/// A total order of raw values in which exactly the same values (in either protocol version) are equal.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    let (mut left, mut right) = (Reader::new(a), Reader::new(b));
    loop {
        let step = match (left.token(), right.token()) {
            (Some(x), Some(y)) => key(x).cmp(&key(y)),
            (None, None) => return Ordering::Equal,
            (x, _) => return if x.is_none() { Ordering::Less } else { Ordering::Greater },
        };
        if step != Ordering::Equal {
            return step;
        }
    }
}

/// What orders tokens: kind, number, text.
fn key(token: Token<'_>) -> (u8, i64, &[u8]) {
    match token {
        Token::Nil => (0, 0, b""),
        Token::Int(n) => (1, n, b""),
        Token::Text(text) | Token::Double(text) => (2, 0, text),
        Token::Error(text) => (3, 0, Token::error_code(text)),
        Token::List(list) => (4, i64::try_from(list.items).unwrap_or(i64::MAX), b""),
    }
}
