//! A scan cursor belongs to the store that issued it.
//!
//! Whoever continues a scan reaches that store, also on another connection (drivers pool), also
//! after a flip. Bounded: the oldest cursors are forgotten, and go to the default store.

use std::collections::{HashMap, VecDeque};

use crate::stage::StoreId;

/// Cursors remembered.
const MAX_CURSORS: usize = 16_384;

/// Which store issued which cursor.
#[derive(Debug, Default)]
pub struct Cursors {
    issued: HashMap<u64, StoreId, foldhash::fast::RandomState>,
    order: VecDeque<u64>,
}

// === impl Cursors ===

impl Cursors {
    /// `store` issued `cursor`.
    pub fn issue(&mut self, cursor: u64, store: StoreId) {
        if cursor == 0 || self.issued.insert(cursor, store).is_some() {
            return;
        }
        self.order.push_back(cursor);
        if self.order.len() > MAX_CURSORS
            && let Some(oldest) = self.order.pop_front()
        {
            self.issued.remove(&oldest);
        }
    }

    /// Who issued `cursor`?
    pub fn issuer(&self, cursor: u64) -> Option<StoreId> {
        self.issued.get(&cursor).copied()
    }
}

/// The number in a cursor as a client writes it.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The cursor in the reply to a scan: the first element of its array, a bulk string.
pub fn cursor_in_reply(frame: &[u8]) -> Option<u64> {
    let rest = frame.strip_prefix(b"*2\r\n$")?;
    let end = memchr::memchr(b'\n', rest)?;
    let digits = rest.get(end + 1..)?;
    let end = memchr::memchr(b'\r', digits)?;
    parse_cursor(digits.get(..end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_found_in_replies() {
        assert_eq!(cursor_in_reply(b"*2\r\n$2\r\n42\r\n*0\r\n"), Some(42));
        assert_eq!(cursor_in_reply(b"*2\r\n$1\r\n0\r\n*0\r\n"), Some(0));
        assert_eq!(cursor_in_reply(b"-ERR no\r\n"), None);
    }

    #[test]
    fn the_oldest_cursor_is_forgotten() {
        let mut cursors = Cursors::default();
        for cursor in 1..=MAX_CURSORS as u64 + 1 {
            cursors.issue(cursor, StoreId::Primary);
        }
        assert_eq!(cursors.issuer(1), None);
        assert_eq!(cursors.issuer(2), Some(StoreId::Primary));
    }
}
