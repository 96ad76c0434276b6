//! How a frame begins, up to the end of its first argument. A client that runs one command again and again begins all its
//! frames alike: they are told by one look.

use super::super::number::LINE_END;
use super::Span;

/// Eight bytes each.
type Ends = [[u8; 8]; 2];

/// The beginning of the last whole frame, if it is short enough to be remembered. Every client has one: it is packed.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Its first bytes and its last ones; where it is shorter than both they overlap.
    ends: Ends,
    /// Arguments of the frame; 0: nothing is remembered.
    count: u16,
    /// Where the first one stands.
    name: (u8, u8),
}

// === impl Head ===

impl Head {
    /// How many arguments a frame has that begins just so, and where its first one stands.
    #[inline]
    pub fn find(&self, buf: &[u8]) -> Option<(usize, Span)> {
        let (start, end) = self.name;
        let name = Span { start: start.into(), end: end.into() };
        let same = ends(buf, name)? == self.ends && self.count > 0;
        same.then_some((self.count.into(), name))
    }

    /// Remembers how this frame begins, which is whole and as an encoder would have written it.
    pub fn remember(&mut self, buf: &[u8], args: &[Span]) {
        *self = Head::of(buf, args).unwrap_or_default();
    }

    fn of(buf: &[u8], args: &[Span]) -> Option<Head> {
        let name = *args.first()?;
        let ends = ends(buf, name).filter(|_| behind(name) <= MAX)?;
        Some(Head { ends, count: args.len().try_into().ok()?, name: (name.start as u8, name.end as u8) })
    }
}

/// Bytes of a head that is remembered, both of its ends: a name may have six letters.
const MAX: usize = 16;

/// The offset behind a head whose name stands here.
#[inline]
pub(super) fn behind(name: Span) -> usize {
    (name.end as usize).saturating_add(LINE_END)
}

/// The first and the last eight bytes of the head whose name stands here.
#[inline]
fn ends(buf: &[u8], name: Span) -> Option<Ends> {
    let head = buf.get(..behind(name))?;
    Some([*head.first_chunk()?, *head.last_chunk()?])
}
