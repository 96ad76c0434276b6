//! A walk over the bytes of a reply, value by value, that sees RESP2 and RESP3 shapes of one value alike.

use memchr::memchr;

/// One step of a walk: a value without children, or the head of one with children, which follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// `$-1`, `*-1`, `_`.
    Nil,
    /// An integer or a boolean (`#t` is 1: what RESP2 has for it).
    Int(i64),
    /// A simple, bulk or verbatim string (without its format) or a big number.
    Text(&'a [u8]),
    /// The text of a RESP3 double.
    Double(&'a [u8]),
    /// The text of an error, simple or bulk.
    Error(&'a [u8]),
    /// The head of an array, set, push or map.
    List(List),
}

/// The head of a value with children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// How many values follow; two for each pair of a map. A claim of the sender, unchecked.
    pub items: usize,
    /// Is it a RESP3 map?
    pub map: bool,
}

/// What stands at the start of a value, attributes included.
enum Head<'a> {
    Token(Token<'a>),
    /// `|n`: 2n values of metadata that precede the value itself.
    Attribute(usize),
}

/// Reads a reply from left to right. `None` means malformed or at the end.
///
/// Attributes are dropped wherever they stand. Streamed RESP3 values (`$?`, `*?`) count as malformed: no
/// store sends them.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

// === impl Token ===

impl<'a> Token<'a> {
    /// The code of an error: its first word.
    pub fn error_code(text: &'a [u8]) -> &'a [u8] {
        text.split(|b| b.is_ascii_whitespace()).next().unwrap_or(text)
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// A walk over `reply`.
    pub fn new(reply: &'a [u8]) -> Self {
        Reader { rest: reply }
    }

    /// Has everything been read?
    pub fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value, or the head of one.
    pub fn token(&mut self) -> Option<Token<'a>> {
        self.drop_attributes()?;
        match self.head()? {
            Head::Token(token) => Some(token),
            Head::Attribute(_) => None,
        }
    }

    /// The raw bytes of the next `count` values with all their children; leading attributes are left out.
    pub fn values(&mut self, count: usize) -> Option<&'a [u8]> {
        self.drop_attributes()?;
        let start = self.rest;
        self.skip(count)?;
        start.get(..start.len() - self.rest.len())
    }

    /// Passes over `count` values with all their children.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        let mut pending = count;
        while pending > 0 {
            let more = match self.head()? {
                // The value that the attribute describes is still to come.
                Head::Attribute(items) => items.checked_add(1)?,
                Head::Token(Token::List(list)) => list.items,
                Head::Token(_) => 0,
            };
            pending = (pending - 1).checked_add(more)?;
        }
        Some(())
    }

    fn drop_attributes(&mut self) -> Option<()> {
        while self.rest.first() == Some(&b'|') {
            if let Head::Attribute(items) = self.head()? {
                self.skip(items)?;
            }
        }
        Some(())
    }

    fn head(&mut self) -> Option<Head<'a>> {
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        let line = self.line()?;
        let token = match kind {
            b'$' => self.blob(line)?.map_or(Token::Nil, Token::Text),
            b':' => Token::Int(integer(line)?),
            b'+' | b'(' => Token::Text(line),
            b'-' => Token::Error(line),
            b'*' | b'~' | b'>' => list(line, 1)?,
            b'%' => list(line, 2)?,
            b'|' => return Some(Head::Attribute(length(line)??.checked_mul(2)?)),
            b'_' => line.is_empty().then_some(Token::Nil)?,
            b'#' => Token::Int(boolean(line)?),
            b',' => Token::Double(line),
            b'=' => Token::Text(self.blob(line)??.get(VERBATIM_FORMAT_BYTES..)?),
            b'!' => Token::Error(self.blob(line)??),
            _ => return None,
        };
        Some(Head::Token(token))
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\r', self.rest)?;
        let (line, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(line)
    }

    /// The bytes that a length line announces; `Some(None)` is RESP2's nil.
    fn blob(&mut self, line: &[u8]) -> Option<Option<&'a [u8]>> {
        let Some(len) = length(line)? else { return Some(None) };
        let (blob, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(Some(blob))
    }
}

/// `txt:` before the text of a verbatim string.
const VERBATIM_FORMAT_BYTES: usize = 4;

fn list(line: &[u8], items_per_entry: usize) -> Option<Token<'static>> {
    let Some(entries) = length(line)? else { return Some(Token::Nil) };
    Some(Token::List(List { items: entries.checked_mul(items_per_entry)?, map: items_per_entry == 2 }))
}

/// A length; `Some(None)` is -1.
fn length(line: &[u8]) -> Option<Option<usize>> {
    match integer(line)? {
        -1 => Some(None),
        len => usize::try_from(len).ok().map(Some),
    }
}

fn integer(line: &[u8]) -> Option<i64> {
    // Most are one digit: counts, lengths, 0 and 1.
    if let [digit @ b'0'..=b'9'] = line {
        return Some(i64::from(digit - b'0'));
    }
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn boolean(line: &[u8]) -> Option<i64> {
    match line {
        b"t" => Some(1),
        b"f" => Some(0),
        _ => None,
    }
}
