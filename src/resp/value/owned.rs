//! A frame's parts as a value of its own, for code that asks a server something and reads the answer.

use super::{Value, ValueError};
use std::borrow::Cow;

/// The same shape as [`Value`], with its own memory.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// A status.
    Simple(Vec<u8>),
    /// An error, simple or bulk, without its marker.
    Error(Vec<u8>),
    /// An integer.
    Int(i64),
    /// A string.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
    /// An array.
    Array(Vec<OwnedValue>),
    /// A map, in the order it came.
    Map(Vec<(OwnedValue, OwnedValue)>),
    /// A set, in the order it came.
    Set(Vec<OwnedValue>),
    /// An out-of-band message.
    Push(Vec<OwnedValue>),
    /// A double, as the server wrote it.
    Double(Vec<u8>),
    /// A truth value.
    Bool(bool),
    /// An integer of any size, as the server wrote it.
    BigNumber(Vec<u8>),
    /// A string with a hint on how to show it.
    Verbatim {
        /// Three letters: `txt` or `mkd`.
        format: Vec<u8>,
        /// The string.
        text: Vec<u8>,
    },
}

// === impl OwnedValue ===

impl OwnedValue {
    /// Takes one complete frame apart.
    pub fn parse(frame: &[u8]) -> Result<Self, ValueError> {
        Value::parse(frame).map(Self::from)
    }

    /// Whether it is an error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// Whether it is the status `OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text == b"OK")
    }

    /// Whether there is no value.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The text of an error reply.
    pub fn error_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Error(text) => Some(String::from_utf8_lossy(text)),
            _ => None,
        }
    }

    /// The bytes of a string, status, error or number that is written as text.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) | Self::Error(text) | Self::Bulk(text) => Some(text),
            Self::Double(text) | Self::BigNumber(text) | Self::Verbatim { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The bytes as text, if they are UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// An integer, also one that came as text.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Error(_) => None,
            other => other.as_str()?.parse().ok(),
        }
    }

    /// The elements of an array, set or push.
    pub fn as_array(&self) -> Option<&[OwnedValue]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// The elements of an array, set or push, handed over.
    pub fn into_array(self) -> Option<Vec<OwnedValue>> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// The first value under `key` in a map, or in an array that holds keys and values in turn.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&OwnedValue> {
        let key = Some(key.as_ref());
        match self {
            Self::Map(pairs) => pairs.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, value)| value),
            Self::Array(items) => {
                items.as_chunks().0.iter().find(|[name, _]| name.as_bytes() == key).map(|[_, value]| value)
            }
            _ => None,
        }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        let all = |items: Vec<Value<'_>>| items.into_iter().map(Self::from).collect();
        match value {
            Value::Simple(text) => Self::Simple(text.to_vec()),
            Value::Error(text) => Self::Error(text.to_vec()),
            Value::Int(value) => Self::Int(value),
            Value::Bulk(text) => Self::Bulk(text.to_vec()),
            Value::Nil => Self::Nil,
            Value::Array(items) => Self::Array(all(items)),
            Value::Map(pairs) => {
                Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
            }
            Value::Set(items) => Self::Set(all(items)),
            Value::Push(items) => Self::Push(all(items)),
            Value::Double(text) => Self::Double(text.to_vec()),
            Value::Bool(value) => Self::Bool(value),
            Value::BigNumber(text) => Self::BigNumber(text.to_vec()),
            Value::Verbatim { format, text } => {
                Self::Verbatim { format: format.to_vec(), text: text.to_vec() }
            }
        }
    }
}
