//! Replies too large to keep are compared by length and hash.

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use foldhash::quality::RandomState;

/// The hash is fed in blocks of this size, so that it does not depend on how the bytes arrived.
const BLOCK_BYTES: usize = 256;

/// The length and hash of a stream of bytes, whatever its pieces. Good within this process only.
#[derive(Clone)]
pub struct Digest {
    hasher: <RandomState as BuildHasher>::Hasher,
    block: [u8; BLOCK_BYTES],
    filled: usize,
    len: u64,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").field("len", &self.len).finish_non_exhaustive()
    }
}

// === impl Digest ===

impl Digest {
    /// The digest of nothing yet.
    pub fn new() -> Self {
        Digest { hasher: hash_state().build_hasher(), block: [0; BLOCK_BYTES], filled: 0, len: 0 }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if self.filled > 0 {
            bytes = self.fill(bytes);
        }
        let blocks = bytes.chunks_exact(BLOCK_BYTES);
        let tail = blocks.remainder();
        // Nothing is left to hash here while the block is still partly filled.
        blocks.for_each(|block| self.hasher.write(block));
        self.fill(tail);
    }

    /// The number of bytes and their hash.
    pub fn finish(&self) -> (u64, u64) {
        let mut hasher = self.hasher.clone();
        hasher.write(self.block.get(..self.filled).unwrap_or_default());
        (self.len, hasher.finish())
    }

    /// Moves bytes into the block, hashes the block once it is full, and returns what did not fit.
    fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = self.block.get_mut(self.filled..).unwrap_or_default();
        let (head, rest) = bytes.split_at(bytes.len().min(room.len()));
        room.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        self.filled += head.len();
        if self.filled == BLOCK_BYTES {
            self.hasher.write(&self.block);
            self.filled = 0;
        }
        rest
    }
}

impl Default for Digest {
    fn default() -> Self {
        Digest::new()
    }
}

/// The seed of this process: digests of different runs say nothing about each other.
fn hash_state() -> &'static RandomState {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(RandomState::default)
}

/// The hash of a value that is kept for showing, not for comparing.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut digest = Digest::new();
    digest.update(bytes);
    digest.finish().1
}
