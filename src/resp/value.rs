//! What is inside one complete frame.
//!
//! Order and duplicates of maps and sets are kept, errors need not be text, attributes are left out. Nesting is
//! bounded, since values are taken apart (and dropped) recursively: deeper frames are only ever bytes.

mod owned;
#[cfg(test)]
mod tests;

pub use owned::OwnedValue;

use super::number::{self, LINE_END};
use thiserror::Error;

/// Levels that a value may nest. Far more than any command's reply; a Lua script's may be deeper.
pub const MAX_DEPTH: usize = 128;

/// Elements for which room is made before they have been seen.
const MAX_RESERVED: usize = 1024;

/// The parts of a frame, borrowed from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A status.
    Simple(&'a [u8]),
    /// An error, simple or bulk, without its marker.
    Error(&'a [u8]),
    /// An integer.
    Int(i64),
    /// A string.
    Bulk(&'a [u8]),
    /// No value: `$-1`, `*-1` or `_`.
    Nil,
    /// An array.
    Array(Vec<Value<'a>>),
    /// A map, in the order it came.
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// A set, in the order it came.
    Set(Vec<Value<'a>>),
    /// An out-of-band message.
    Push(Vec<Value<'a>>),
    /// A double, as the server wrote it.
    Double(&'a [u8]),
    /// A truth value.
    Bool(bool),
    /// An integer of any size, as the server wrote it.
    BigNumber(&'a [u8]),
    /// A string with a hint on how to show it.
    Verbatim {
        /// Three letters: `txt` or `mkd`.
        format: &'a [u8],
        /// The string.
        text: &'a [u8],
    },
}

/// Why bytes are no complete frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// The frame ends too early.
    #[error("frame is cut short")]
    Truncated,
    /// Something follows the frame.
    #[error("{0} bytes follow the frame")]
    Trailing(usize),
    /// The frame is malformed at this offset.
    #[error("malformed frame at byte {0}")]
    Malformed(usize),
    /// The frame nests deeper than [`MAX_DEPTH`].
    #[error("frame nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Takes a frame apart from its start to its end.
struct Parser<'a> {
    frame: &'a [u8],
    pos: usize,
}

// === impl Value ===

impl<'a> Value<'a> {
    /// Takes one complete frame apart.
    pub fn parse(frame: &'a [u8]) -> Result<Self, ValueError> {
        let mut parser = Parser { frame, pos: 0 };
        let value = parser.value(0)?;
        match frame.len().saturating_sub(parser.pos) {
            0 => Ok(value),
            more => Err(ValueError::Trailing(more)),
        }
    }

    /// Whether it is an error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The bytes of a string, status, error or number that is written as text.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Simple(text) | Self::Error(text) | Self::Bulk(text) => Some(text),
            Self::Double(text) | Self::BigNumber(text) | Self::Verbatim { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The elements of an array, set or push.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }
}

// === impl Parser ===

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, ValueError> {
        loop {
            let start = self.pos;
            let (marker, line) = self.line()?;
            return Ok(match marker {
                b'+' => Value::Simple(line),
                b'-' => Value::Error(line),
                b',' => Value::Double(line),
                b'(' => Value::BigNumber(line),
                b':' => Value::Int(integer(line).ok_or(ValueError::Malformed(start))?),
                b'_' if line.is_empty() => Value::Nil,
                b'#' if line == b"t" => Value::Bool(true),
                b'#' if line == b"f" => Value::Bool(false),
                b'$' | b'*' if line == b"-1" => Value::Nil,
                b'$' => Value::Bulk(self.bulk(start, line)?),
                b'!' => Value::Error(self.bulk(start, line)?),
                b'=' => self.verbatim(start, line)?,
                b'*' => Value::Array(self.items(start, line, depth)?),
                b'~' => Value::Set(self.items(start, line, depth)?),
                b'>' => Value::Push(self.items(start, line, depth)?),
                b'%' => Value::Map(self.pairs(start, line, depth)?),
                b'|' => {
                    self.pairs(start, line, depth)?;
                    continue;
                }
                _ => return Err(ValueError::Malformed(start)),
            });
        }
    }

    /// The type byte and the rest of the line at `pos`, which is passed.
    fn line(&mut self) -> Result<(u8, &'a [u8]), ValueError> {
        let rest = self.frame.get(self.pos..).unwrap_or_default();
        let end = memchr::memchr_iter(b'\r', rest)
            .find(|end| rest.get(end.saturating_add(1)) == Some(&b'\n'))
            .ok_or(ValueError::Truncated)?;
        let (marker, line) =
            rest.get(..end).and_then(|line| line.split_first()).ok_or(ValueError::Malformed(self.pos))?;
        self.pass(end);
        Ok((*marker, line))
    }

    fn bulk(&mut self, start: usize, length: &[u8]) -> Result<&'a [u8], ValueError> {
        let length = count(length).ok_or(ValueError::Malformed(start))?;
        let rest = self.frame.get(self.pos..).unwrap_or_default();
        let (data, behind) = rest.split_at_checked(length).ok_or(ValueError::Truncated)?;
        match behind {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Err(ValueError::Truncated),
            _ => return Err(ValueError::Malformed(self.pos.saturating_add(length))),
        }
        self.pass(length);
        Ok(data)
    }

    /// Goes on behind the line end that follows these bytes.
    fn pass(&mut self, bytes: usize) {
        self.pos = self.pos.saturating_add(bytes).saturating_add(LINE_END);
    }

    fn verbatim(&mut self, start: usize, length: &[u8]) -> Result<Value<'a>, ValueError> {
        match self.bulk(start, length)?.split_at_checked(4) {
            Some(([format @ .., b':'], text)) => Ok(Value::Verbatim { format, text }),
            _ => Err(ValueError::Malformed(start)),
        }
    }

    fn items(&mut self, start: usize, length: &[u8], depth: usize) -> Result<Vec<Value<'a>>, ValueError> {
        let (length, depth) = self.enter(start, length, depth)?;
        let mut items = Vec::with_capacity(length.min(MAX_RESERVED));
        for _ in 0..length {
            items.push(self.value(depth)?);
        }
        Ok(items)
    }

    fn pairs(
        &mut self,
        start: usize,
        length: &[u8],
        depth: usize,
    ) -> Result<Vec<(Value<'a>, Value<'a>)>, ValueError> {
        let (length, depth) = self.enter(start, length, depth)?;
        let mut pairs = Vec::with_capacity(length.min(MAX_RESERVED));
        for _ in 0..length {
            pairs.push((self.value(depth)?, self.value(depth)?));
        }
        Ok(pairs)
    }

    fn enter(&self, start: usize, length: &[u8], depth: usize) -> Result<(usize, usize), ValueError> {
        if depth >= MAX_DEPTH {
            return Err(ValueError::TooDeep);
        }
        Ok((count(length).ok_or(ValueError::Malformed(start))?, depth.saturating_add(1)))
    }
}

fn count(text: &[u8]) -> Option<usize> {
    number::strict_i64(text).and_then(|count| usize::try_from(count).ok())
}

/// An integer reply; unlike a length it may carry zeros in front, or a plus.
fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
