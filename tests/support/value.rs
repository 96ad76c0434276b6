//! Replies as owned values, and a reader that keeps the bytes they came as.
//!
//! Written apart from the proxy's own parser on purpose: it is the witness, not the accused.

use std::fmt;
use std::io::{self, Read};

/// Any reply of RESP2 or RESP3.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// `$-1`, `*-1` and `_`: use the raw reply where the difference matters.
    Nil,
    /// `+OK`
    Simple(String),
    /// `-ERR …`, without the minus
    Error(String),
    /// `:1`
    Int(i64),
    /// `$3 foo`
    Bulk(Vec<u8>),
    /// `*2 …`
    Array(Vec<Value>),
    /// `,1.5`, as written
    Double(String),
    /// `#t`
    Bool(bool),
    /// `(123…`, as written
    BigNumber(String),
    /// `=7 txt:foo`
    Verbatim(String, Vec<u8>),
    /// `%1 …`
    Map(Vec<(Value, Value)>),
    /// `~2 …`
    Set(Vec<Value>),
    /// `>2 …`
    Push(Vec<Value>),
    /// `|1 …` and the value that follows it
    Attribute(Vec<(Value, Value)>, Box<Value>),
}

// === impl Value ===

impl Value {
    /// `+OK`
    pub fn ok() -> Value {
        Value::simple("OK")
    }

    /// A simple string.
    pub fn simple(text: &str) -> Value {
        Value::Simple(text.to_owned())
    }

    /// A bulk string.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    /// An array of bulk strings.
    pub fn bulks(items: &[&str]) -> Value {
        Value::Array(items.iter().map(Value::bulk).collect())
    }

    /// Is it an error reply?
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// Is it nil of any shape?
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// The error's text; panics when it is not an error.
    #[track_caller]
    pub fn error(&self) -> &str {
        match self {
            Value::Error(text) => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// The integer; panics when it is not one.
    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// The bytes of any string; panics when it is not a string.
    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(bytes) | Value::Verbatim(_, bytes) => bytes,
            Value::Simple(text) | Value::Double(text) | Value::BigNumber(text) => text.as_bytes(),
            other => panic!("not a string: {other:?}"),
        }
    }

    /// The text of any string, with bytes that are not UTF-8 replaced.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The elements of an array, set or push; panics otherwise.
    #[track_caller]
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    /// Looks a field up in a map, or in a flat array of fields and values.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Map(pairs) => pairs.iter().find(|(key, _)| key.is_text(name)).map(|(_, value)| value),
            Value::Array(items) => {
                items.chunks_exact(2).find(|pair| pair[0].is_text(name)).map(|pair| &pair[1])
            }
            _ => None,
        }
    }

    fn is_text(&self, text: &str) -> bool {
        match self {
            Value::Bulk(bytes) => bytes == text.as_bytes(),
            Value::Simple(simple) => simple == text,
            _ => false,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::bulk(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Value::Array(items)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Simple(text) => write!(f, "+{text}"),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Int(number) => write!(f, ":{number}"),
            Value::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Double(text) => write!(f, ",{text}"),
            Value::Bool(value) => write!(f, "#{value}"),
            Value::BigNumber(text) => write!(f, "({text}"),
            Value::Verbatim(kind, bytes) => write!(f, "={kind}:\"{}\"", bytes.escape_ascii()),
            Value::Map(pairs) => {
                f.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish()
            }
            Value::Set(items) => f.debug_set().entries(items).finish(),
            Value::Push(items) => f.write_str(">").and_then(|()| f.debug_list().entries(items).finish()),
            Value::Attribute(pairs, value) => write!(f, "|{pairs:?} {value:?}"),
        }
    }
}

/// Flat fields and values, or a map, as pairs in the order of their fields.
pub fn pairs_sorted(value: &Value) -> Vec<(Value, Value)> {
    let mut pairs = match value {
        Value::Map(pairs) => pairs.clone(),
        other => other.items().chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
    };
    pairs.sort_by_key(|(field, _)| field.bytes().to_vec());
    pairs
}

/// One command as an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads replies, one at a time, from anything that can be read.
pub struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the next unread byte stands in `buffer`.
    at: usize,
}

/// How much is asked of the source at once.
const CHUNK: usize = 64 * 1024;

// === impl Reader ===

impl<R: Read> Reader<R> {
    /// A reader with nothing read yet.
    pub fn new(source: R) -> Reader<R> {
        Reader { source, buffer: Vec::new(), at: 0 }
    }

    /// What it reads from.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// Bytes that have come and were not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// The next value with the exact bytes that it came as.
    ///
    /// A failure in the middle of a value keeps its bytes: a later call starts at its first byte.
    pub fn read(&mut self) -> io::Result<(Value, Vec<u8>)> {
        self.buffer.drain(..self.at);
        self.at = 0;
        match self.value() {
            Ok(value) => Ok((value, self.buffer[..self.at].to_vec())),
            Err(error) => {
                self.at = 0;
                Err(error)
            }
        }
    }

    fn value(&mut self) -> io::Result<Value> {
        let line = self.line()?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Err(garbage("an empty line", &line));
        };
        match kind {
            "+" => Ok(Value::Simple(rest.to_owned())),
            "-" => Ok(Value::Error(rest.to_owned())),
            ":" => number(rest).map(Value::Int),
            "$" => Ok(self.blob(number(rest)?)?.map_or(Value::Nil, Value::Bulk)),
            "*" => Ok(self.list(number(rest)?)?.map_or(Value::Nil, Value::Array)),
            "_" => Ok(Value::Nil),
            "," => Ok(Value::Double(rest.to_owned())),
            "#" => Ok(Value::Bool(rest == "t")),
            "(" => Ok(Value::BigNumber(rest.to_owned())),
            "!" => {
                let text = self.blob(number(rest)?)?.unwrap_or_default();
                Ok(Value::Error(String::from_utf8_lossy(&text).into_owned()))
            }
            "=" => self.verbatim(number(rest)?),
            "%" => self.pairs(number(rest)?).map(Value::Map),
            "~" => Ok(Value::Set(self.list(number(rest)?)?.unwrap_or_default())),
            ">" => Ok(Value::Push(self.list(number(rest)?)?.unwrap_or_default())),
            "|" => {
                let pairs = self.pairs(number(rest)?)?;
                Ok(Value::Attribute(pairs, Box::new(self.value()?)))
            }
            _ => Err(garbage("an unknown type", &line)),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let start = self.at;
        let mut looked = start;
        loop {
            if let Some(found) = self.buffer[looked..].windows(2).position(|pair| pair == b"\r\n") {
                let end = looked + found;
                self.at = end + 2;
                return Ok(String::from_utf8_lossy(&self.buffer[start..end]).into_owned());
            }
            looked = self.buffer.len().saturating_sub(1).max(start);
            self.more()?;
        }
    }

    fn blob(&mut self, length: i64) -> io::Result<Option<Vec<u8>>> {
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        while self.buffer.len() < self.at + length + 2 {
            self.more()?;
        }
        let bytes = self.buffer[self.at..self.at + length].to_vec();
        self.at += length + 2;
        if &self.buffer[self.at - 2..self.at] != b"\r\n" {
            return Err(garbage("a blob without its end", &String::from_utf8_lossy(&bytes)));
        }
        Ok(Some(bytes))
    }

    fn list(&mut self, length: i64) -> io::Result<Option<Vec<Value>>> {
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        (0..length).map(|_| self.value()).collect::<io::Result<_>>().map(Some)
    }

    fn pairs(&mut self, length: i64) -> io::Result<Vec<(Value, Value)>> {
        (0..length).map(|_| Ok((self.value()?, self.value()?))).collect()
    }

    fn verbatim(&mut self, length: i64) -> io::Result<Value> {
        let bytes = self.blob(length)?.unwrap_or_default();
        let Some((kind, text)) = bytes.split_at_checked(4) else {
            return Err(garbage("a verbatim string without its format", &String::from_utf8_lossy(&bytes)));
        };
        Ok(Value::Verbatim(String::from_utf8_lossy(&kind[..3]).into_owned(), text.to_vec()))
    }

    fn more(&mut self) -> io::Result<()> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let result = self.source.read(&mut self.buffer[filled..]);
        self.buffer.truncate(filled + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the other side")),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| garbage("not a number", text))
}

fn garbage(what: &str, line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {}", line.escape_debug()))
}
