//! Commands in pieces of bounded size.

use crate::mirror::effects::Frames;

/// A piece ends behind the command with which it has so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// A command ends behind the element with which it has so many.
pub(super) const COMMAND_WORDS: usize = 512;

/// Commands that are sent in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// One command behind the other.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub replies: u32,
}

/// Commands, cut into pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    done: Vec<Piece>,
    current: Frames,
}

// === impl Pieces ===

impl Pieces {
    /// Where a command is appended; [`cut`](Self::cut) follows.
    pub(super) fn frames(&mut self) -> &mut Frames {
        &mut self.current
    }

    /// Ends the piece if it is big enough.
    pub(super) fn cut(&mut self) {
        if self.current.bytes.len() >= PIECE_BYTES {
            self.finish();
        }
    }

    /// Commands of this head with all of `words`, which belong together by `group`.
    pub(super) fn spread(&mut self, head: &[&[u8]], words: &[&[u8]], group: usize) {
        let mut rest = words;
        while !rest.is_empty() {
            let mut bytes = 0;
            let mut taken = 0;
            while taken < rest.len() && taken < COMMAND_WORDS && bytes < PIECE_BYTES {
                let next = rest.get(taken..).unwrap_or_default();
                bytes += next.iter().take(group).map(|word| word.len()).sum::<usize>();
                taken += group;
            }
            let (now, later) = rest.split_at(taken.min(rest.len()));
            self.current.joined(head, now, &[]);
            self.cut();
            rest = later;
        }
    }

    /// Ends the piece, whatever its size.
    pub(super) fn finish(&mut self) {
        let Frames { bytes, replies } = std::mem::take(&mut self.current);
        if replies > 0 {
            self.done.push(Piece { bytes, replies });
        }
    }

    /// The pieces that are complete.
    pub(super) fn ready(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.done)
    }
}
