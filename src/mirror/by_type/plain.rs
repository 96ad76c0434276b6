//! Strings, lists, sets, hashes and sorted sets, whole or page by page.

use super::pieces::Pieces;
use super::{CopyError, Frames, PAGE_BYTES, Page, Type};
use crate::mirror::Dialect;
use crate::resp::value::Value;

/// The most elements of a page: the server looks at each while others wait.
const MAX_PAGE: u32 = 4096;
/// A page has at most so many times the elements of the one before.
const PAGE_GROWTH: u32 = 4;

/// How far a value has been read.
#[derive(Debug)]
pub(super) struct Plain {
    kind: Type,
    page: Page,
    /// Bytes or elements that have been read.
    offset: u64,
    /// Where SSCAN and its kin go on.
    cursor: Vec<u8>,
    /// Fields and values of a hash whose expiry is asked next.
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Nothing is left but the expiry of those.
    last: bool,
}

// === impl Plain ===

impl Plain {
    pub(super) fn new(kind: Type, page: Page) -> Self {
        Self { kind, page, offset: 0, cursor: b"0".to_vec(), fields: Vec::new(), last: false }
    }

    pub(super) fn next_read(&self, key: &[u8], frames: &mut Frames) {
        if !self.fields.is_empty() {
            let count = self.fields.len().to_string();
            let names: Vec<&[u8]> = self.fields.iter().map(|(name, _)| name.as_slice()).collect();
            frames.joined(&[b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()], &names, &[]);
            return;
        }
        match (self.page, self.kind) {
            (Page::Whole, Type::String) => frames.command(&[b"GET", key]),
            (Page::Whole, Type::List) => frames.command(&[b"LRANGE", key, b"0", b"-1"]),
            (Page::Whole, Type::Set) => frames.command(&[b"SMEMBERS", key]),
            (Page::Whole, Type::Hash) => frames.command(&[b"HGETALL", key]),
            (Page::Whole, _) => frames.command(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
            (Page::Elements(_), Type::String) => self.range(b"GETRANGE", key, PAGE_BYTES, frames),
            (Page::Elements(count), Type::List) => self.range(b"LRANGE", key, count.max(1).into(), frames),
            (Page::Elements(count), kind) => {
                let name: &[u8] = match kind {
                    Type::Set => b"SSCAN",
                    Type::Hash => b"HSCAN",
                    _ => b"ZSCAN",
                };
                frames.command(&[name, key, &self.cursor, b"COUNT", count.max(1).to_string().as_bytes()]);
            }
        }
    }

    fn range(&self, name: &[u8], key: &[u8], count: u64, frames: &mut Frames) {
        let (first, last) = (self.offset.to_string(), (self.offset + count - 1).to_string());
        frames.command(&[name, key, first.as_bytes(), last.as_bytes()]);
    }

    /// Whether everything has been read.
    pub(super) fn take(
        &mut self,
        key: &[u8],
        reply: &Value<'_>,
        dialect: Dialect,
        pieces: &mut Pieces,
    ) -> Result<bool, CopyError> {
        if !self.fields.is_empty() {
            self.take_expiry(key, reply, dialect, pieces)?;
            return Ok(self.last);
        }
        let elements = match (self.page, self.kind) {
            (_, Type::String) => return self.take_string(key, reply, pieces),
            (Page::Elements(_), Type::Set | Type::Hash | Type::SortedSet) => {
                let [cursor, elements] = reply.as_array().ok_or(CopyError::Unreadable)? else {
                    return Err(CopyError::Unreadable);
                };
                self.cursor = cursor.as_bytes().ok_or(CopyError::Unreadable)?.to_vec();
                self.last = self.cursor == b"0";
                elements
            }
            _ => {
                self.last = self.page == Page::Whole;
                reply
            }
        };
        let words = flat(elements).ok_or(CopyError::Unreadable)?;
        self.fit_page(&words);
        match self.kind {
            Type::List => {
                pieces.spread(&[b"RPUSH", key], &words, 1);
                self.offset += words.len() as u64;
                self.last |= words.is_empty();
            }
            Type::Set => pieces.spread(&[b"SADD", key], &words, 1),
            Type::Hash if dialect.has_field_expiry => {
                let pairs = words.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.get(1)));
                self.fields = pairs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                return Ok(self.last && self.fields.is_empty());
            }
            Type::Hash => pieces.spread(&[b"HSET", key], &words, 2),
            _ => {
                // Members come before their scores, ZADD wants them behind.
                let turned: Vec<&[u8]> =
                    words.chunks_exact(2).flat_map(|pair| pair.iter().rev().copied()).collect();
                pieces.spread(&[b"ZADD", key], &turned, 2);
            }
        }
        Ok(self.last)
    }

    /// The next page has as many elements as fill it, if they are as large as these.
    fn fit_page(&mut self, words: &[&[u8]]) {
        let Page::Elements(count) = self.page else { return };
        let bytes = words.iter().map(|word| word.len() as u64).sum::<u64>().max(1);
        let fitting = u64::from(count) * PAGE_BYTES / bytes;
        let most = count.saturating_mul(PAGE_GROWTH).clamp(1, MAX_PAGE);
        self.page = Page::Elements(u32::try_from(fitting).unwrap_or(MAX_PAGE).clamp(1, most));
    }

    fn take_string(&mut self, key: &[u8], reply: &Value<'_>, pieces: &mut Pieces) -> Result<bool, CopyError> {
        let part = match reply {
            Value::Nil => return Ok(true),
            Value::Bulk(part) => *part,
            _ => return Err(CopyError::Unreadable),
        };
        let first = self.offset == 0;
        self.offset += part.len() as u64;
        if first && part.is_empty() && self.page != Page::Whole {
            // A key that isn't there reads as empty, too.
            self.page = Page::Whole;
            return Ok(false);
        }
        let done = self.page == Page::Whole || (part.len() as u64) < PAGE_BYTES;
        if first {
            pieces.frames().command(&[b"SET", key, part]);
        } else if !part.is_empty() {
            pieces.frames().command(&[b"APPEND", key, part]);
        }
        pieces.cut();
        Ok(done)
    }

    /// The expiry of the fields that were read.
    fn take_expiry(
        &mut self,
        key: &[u8],
        reply: &Value<'_>,
        dialect: Dialect,
        pieces: &mut Pieces,
    ) -> Result<(), CopyError> {
        let fields = std::mem::take(&mut self.fields);
        let times = match reply {
            // The key is gone.
            Value::Nil => return Ok(()),
            Value::Array(times) if times.len() == fields.len() => times,
            _ => return Err(CopyError::Unreadable),
        };
        let mut words: Vec<&[u8]> = Vec::new();
        let mut expiring: Vec<(i64, &[u8])> = Vec::new();
        for ((name, value), time) in fields.iter().zip(times) {
            match time {
                // It has expired since.
                Value::Int(-2) => continue,
                Value::Int(-1) => {}
                Value::Int(time) if dialect.takes_field_expiry => expiring.push((*time, name)),
                Value::Int(_) => return Err(CopyError::FieldsExpire),
                _ => return Err(CopyError::Unreadable),
            }
            words.extend_from_slice(&[name, value]);
        }
        pieces.spread(&[b"HSET", key], &words, 2);
        expiring.sort_unstable();
        for chunk in expiring.chunk_by(|one, two| one.0 == two.0) {
            let time = chunk.first().map(|(time, _)| time.to_string()).unwrap_or_default();
            for names in chunk.chunks(super::pieces::COMMAND_WORDS) {
                let count = names.len().to_string();
                let names: Vec<&[u8]> = names.iter().map(|(_, name)| *name).collect();
                let head = [b"HPEXPIREAT", key, time.as_bytes(), b"FIELDS", count.as_bytes()];
                pieces.frames().joined(&head, &names, &[]);
                pieces.cut();
            }
        }
        Ok(())
    }
}

/// The words of an array, set or map, with pairs taken apart.
fn flat<'a>(reply: &Value<'a>) -> Option<Vec<&'a [u8]>> {
    match reply {
        Value::Map(pairs) => {
            let words = pairs.iter().flat_map(|(name, value)| [name, value]);
            words.map(Value::as_bytes).collect()
        }
        Value::Array(items) | Value::Set(items) => {
            // RESP3 has members and scores in pairs.
            let nested = items.iter().any(|item| matches!(item, Value::Array(_)));
            if nested {
                let pairs = items.iter().map(|pair| pair.as_array()).collect::<Option<Vec<_>>>()?;
                pairs.into_iter().flatten().map(Value::as_bytes).collect()
            } else {
                items.iter().map(Value::as_bytes).collect()
            }
        }
        _ => None,
    }
}
