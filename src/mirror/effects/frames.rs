//! Commands, one behind the other.

use super::Effect;
use crate::resp::encode;

/// Commands and their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::mirror) struct Frames {
    /// One command behind the other.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub replies: u32,
}

// === impl Frames ===

impl Frames {
    /// Appends a command.
    pub(in crate::mirror) fn command(&mut self, words: &[&[u8]]) {
        encode::command(&mut self.bytes, words);
        self.replies += 1;
    }

    /// Appends a command made of three parts.
    pub(in crate::mirror) fn joined(&mut self, head: &[&[u8]], middle: &[&[u8]], tail: &[&[u8]]) {
        encode::array_header(&mut self.bytes, head.len() + middle.len() + tail.len());
        for word in head.iter().chain(middle).chain(tail) {
            encode::bulk(&mut self.bytes, word);
        }
        self.replies += 1;
    }

    /// Appends a command for each chunk of `words`.
    pub(in crate::mirror) fn chunked(&mut self, head: &[&[u8]], words: &[&[u8]], tail: &[&[u8]]) {
        for chunk in words.chunks(super::MAX_WORDS) {
            self.joined(head, chunk, tail);
        }
    }

    /// The effect that they are.
    pub(in crate::mirror) fn into_effect(self) -> Effect {
        match self.replies {
            0 => Effect::Nothing,
            replies => Effect::Frames { bytes: self.bytes, replies },
        }
    }
}
