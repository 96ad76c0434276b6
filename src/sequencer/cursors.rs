//! A scan cursor belongs to the store that issued it.
//!
//! Whoever continues a scan reaches that store, also on another connection (drivers pool), also
//! after a flip. Bounded: the oldest cursors are forgotten, and go to the default store.

use std::collections::{HashMap, VecDeque};

use crate::stage::StoreId;

/// Entries remembered: two for each cursor.
const MAX_CURSORS: usize = 16_384;

/// What a cursor is a cursor of. Tables of one size hand out the same numbers, so that the number
/// alone tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scan {
    /// The hash of the key, or what stands for the keyspace of a database.
    pub of: u64,
    /// Who scans. While two clients scan the same thing at two stores (a flip lies between them),
    /// each goes on where it began.
    pub client: u64,
}

/// Whose cursor: one client's, or anybody's who goes on with it on another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Client(u64),
    Anybody,
}

type Issued = (u64, u64, Whose);

/// Which store issued which cursor.
#[derive(Debug, Default)]
pub struct Cursors {
    issued: HashMap<Issued, StoreId, foldhash::fast::RandomState>,
    order: VecDeque<Issued>,
}

// === impl Cursors ===

impl Cursors {
    /// `store` issued `cursor` to this scan.
    pub fn issue(&mut self, scan: Scan, cursor: u64, store: StoreId) {
        if cursor == 0 {
            return;
        }
        for whose in [Whose::Client(scan.client), Whose::Anybody] {
            self.note((scan.of, cursor, whose), store);
        }
    }

    fn note(&mut self, issued: Issued, store: StoreId) {
        if self.issued.insert(issued, store).is_some() {
            return;
        }
        self.order.push_back(issued);
        if self.order.len() > MAX_CURSORS
            && let Some(oldest) = self.order.pop_front()
        {
            self.issued.remove(&oldest);
        }
    }

    /// Who issued `cursor` to this scan?
    pub fn issuer(&self, scan: Scan, cursor: u64) -> Option<StoreId> {
        let own = self.issued.get(&(scan.of, cursor, Whose::Client(scan.client)));
        own.or_else(|| self.issued.get(&(scan.of, cursor, Whose::Anybody))).copied()
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
        let scan = Scan { of: 7, client: 1 };
        let mut cursors = Cursors::default();
        for cursor in 1..=(MAX_CURSORS / 2) as u64 + 1 {
            cursors.issue(scan, cursor, StoreId::Primary);
        }
        assert_eq!(cursors.issuer(scan, 1), None);
        assert_eq!(cursors.issuer(scan, 2), Some(StoreId::Primary));
        assert_eq!(cursors.order.len(), MAX_CURSORS);
    }

    #[test]
    fn equal_cursors_of_different_things_and_clients_are_told_apart() {
        let mut cursors = Cursors::default();
        cursors.issue(Scan { of: 1, client: 1 }, 42, StoreId::Primary);
        cursors.issue(Scan { of: 2, client: 1 }, 42, StoreId::Secondary);
        cursors.issue(Scan { of: 1, client: 2 }, 42, StoreId::Secondary);
        assert_eq!(cursors.issuer(Scan { of: 1, client: 1 }, 42), Some(StoreId::Primary));
        assert_eq!(cursors.issuer(Scan { of: 2, client: 1 }, 42), Some(StoreId::Secondary));
        assert_eq!(
            cursors.issuer(Scan { of: 2, client: 9 }, 42),
            Some(StoreId::Secondary),
            "another connection"
        );
        assert_eq!(cursors.issuer(Scan { of: 3, client: 1 }, 42), None);
    }
}
