//! What one client's socket has not taken yet, in pieces: what is sent is given back piece by piece, and no
//! piece is ever moved to make room for another.

use std::collections::VecDeque;

/// The largest piece, and what a socket is given at once.
pub const PIECE: usize = 64 * 1024;
/// A capacity that an idle client may keep.
const KEEP: usize = 2048;

/// Unsent bytes, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Pieces that nothing is added to any more.
    full: VecDeque<Vec<u8>>,
    /// The piece that grows.
    open: Vec<u8>,
    /// How much of the first piece has been sent.
    sent: usize,
    /// Bytes that have not.
    len: usize,
}

// === impl Outbox ===

impl Outbox {
    /// Unsent bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is everything sent?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes at the end.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if self.open.len() + bytes.len() <= PIECE {
            self.open.extend_from_slice(bytes);
        } else {
            self.push_pieces(bytes);
        }
    }

    #[cold]
    fn push_pieces(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            if !self.open.is_empty() && self.open.len() + piece.len() > PIECE {
                self.full.push_back(std::mem::take(&mut self.open));
            }
            self.open.extend_from_slice(piece);
        }
    }

    /// What is to be sent next; empty only when everything is sent.
    pub fn front(&self) -> &[u8] {
        self.full.front().unwrap_or(&self.open).get(self.sent..).unwrap_or_default()
    }

    /// The first `n` bytes of [`front`](Self::front) are sent.
    pub fn took(&mut self, n: usize) {
        self.sent += n;
        self.len = self.len.saturating_sub(n);
        if self.full.front().is_some_and(|piece| self.sent >= piece.len()) {
            self.full.pop_front();
            self.sent = 0;
            if self.full.is_empty() {
                self.full = VecDeque::new();
            }
        } else if self.len == 0 {
            self.sent = 0;
            self.open.clear();
            if self.open.capacity() > KEEP {
                self.open = Vec::new();
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            let n = outbox.front().len().min(step);
            assert!(n > 0);
            out.extend_from_slice(&outbox.front()[..n]);
            outbox.took(n);
        }
        assert!(outbox.front().is_empty());
        out
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        for (size, step) in [(1, 1), (1000, 7), (PIECE, 4096), (PIECE + 1, PIECE), (5 * PIECE, 1000)] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for count in [3, 1, size, 2] {
                let piece = &bytes[..count.min(size)];
                outbox.push(piece);
                expected.extend_from_slice(piece);
            }
            assert_eq!(outbox.len(), expected.len());
            assert!(drained(&mut outbox, step) == expected, "{size} by {step}");
            outbox.push(b"again");
            assert_eq!(drained(&mut outbox, 2), b"again");
        }
    }

    #[test]
    fn what_is_sent_is_given_back() {
        let mut outbox = Outbox::default();
        outbox.push(&vec![b'x'; 10 * PIECE]);
        for left in (0..10).rev() {
            assert!(outbox.full.len() <= left + 1);
            outbox.took(PIECE);
        }
        assert!(outbox.is_empty() && outbox.open.capacity() <= KEEP && outbox.full.capacity() == 0);
    }
}
