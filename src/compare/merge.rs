//! One MGET reply made of both stores' replies.

use super::reader::{Reader, Token};

/// Where one element of a merged reply comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// The primary's answer counts, a nil too: the key is in sync.
    PrimaryOnly,
    /// The primary's answer, or where that is nil, the secondary's.
    PrimaryElseSecondary,
    /// The secondary's answer counts, a nil too: the key is suspect on the primary.
    SecondaryOnly,
}

/// A reply made of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The frame for the client; its elements are the bytes of the store that they come from.
    pub reply: Vec<u8>,
    /// The places of elements that the secondary has and the primary lacks, and that were taken from it.
    pub taken: Vec<usize>,
}

/// Merges two complete replies to one MGET, element by element, as `prefer` says for each place.
///
/// `None` if either is no list (an error, say), malformed, or of another length.
pub fn merge_mget(primary: &[u8], secondary: &[u8], prefer: impl Fn(usize) -> Prefer) -> Option<Merged> {
    let (mut first, mut second) = (Reader::new(primary), Reader::new(secondary));
    let (Token::List(x), Token::List(y)) = (first.token()?, second.token()?) else { return None };
    if x != y || x.map {
        return None;
    }
    // Every element takes at least three bytes of its frame, so the loop is bounded by the bytes there are.
    let mut merged = Merged { reply: head(x.items, primary.len()), taken: Vec::new() };
    for place in 0..x.items {
        let (a, b) = (first.values(1)?, second.values(1)?);
        let found = !is_nil(b) && is_nil(a);
        let from_second = match prefer(place) {
            Prefer::PrimaryOnly => false,
            Prefer::PrimaryElseSecondary => found,
            Prefer::SecondaryOnly => true,
        };
        merged.reply.extend_from_slice(if from_second { b } else { a });
        if from_second && found {
            merged.taken.push(place);
        }
    }
    (first.at_end() && second.at_end()).then_some(merged)
}

fn head(items: usize, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.push(b'*');
    out.extend_from_slice(itoa::Buffer::new().format(items).as_bytes());
    out.extend_from_slice(b"\r\n");
    out
}

fn is_nil(value: &[u8]) -> bool {
    Reader::new(value).token() == Some(Token::Nil)
}
