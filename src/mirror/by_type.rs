//! A key's value read from one server, and made anew on another with the commands of its type: for payloads that
//! the other server refuses, and for values too big to be moved in one go.
//!
//! Pure: a [`Copier`] says what to read, takes the reply, and gives commands in pieces of bounded size, until nothing
//! is left to read. Nothing may write to the key meanwhile, or the copy has to begin again. Until the last piece has
//! been sent the key is incomplete.

mod pieces;
mod plain;
mod stream;

pub use pieces::Piece;

use super::effects::{Dialect, Frames};
use crate::resp::value::Value;
use pieces::Pieces;
use plain::Plain;

/// Bytes of a page, as far as elements allow.
const PAGE_BYTES: u64 = 256 * 1024;

/// The first page has so many elements: nobody knows yet how large they are.
pub const FIRST_PAGE: u32 = 2;

/// The types whose values can be read and written with commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Strings, bitmaps and HyperLogLogs.
    String,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Hashes, with fields that expire.
    Hash,
    /// Sorted sets.
    SortedSet,
    /// Streams with their consumer groups and what is pending.
    Stream,
}

/// How much is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// All at once: what was read is the value at one point.
    Whole,
    /// About so many elements first, then as many as make a page of bounded size. (Streams are always read whole.)
    Elements(u32),
}

/// Why a value cannot be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The store's answer is no value of this type: the key was replaced meanwhile, or the store refused.
    #[error("the store's answer is no value of that type")]
    Unreadable,
    /// The hash has fields that expire, and the other store knows no such thing.
    #[error("fields of the hash expire, which the other store cannot hold")]
    FieldsExpire,
}

/// Copies one key.
#[derive(Debug)]
pub struct Copier {
    key: Vec<u8>,
    /// The name that the copy gets.
    into: Vec<u8>,
    dialect: Dialect,
    pieces: Pieces,
    work: Work,
}

/// What is being read.
#[derive(Debug)]
enum Work {
    Plain(Plain),
    Stream,
    Done,
}

// === impl Type ===

impl Type {
    /// What TYPE answered. `None`: no key, or a module's.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"string" => Self::String,
            b"list" => Self::List,
            b"set" => Self::Set,
            b"hash" => Self::Hash,
            b"zset" => Self::SortedSet,
            b"stream" => Self::Stream,
            _ => return None,
        })
    }
}

// === impl Copier ===

impl Copier {
    /// Starts with nothing read. `key` is read and made anew as `into`. In `dialect`, the default store is the one that
    /// is read, the other one gets the copy.
    pub fn new(kind: Type, key: &[u8], into: &[u8], page: Page, dialect: Dialect) -> Self {
        let mut pieces = Pieces::default();
        pieces.frames().command(&[b"UNLINK", into]);
        let work = match kind {
            Type::Stream => Work::Stream,
            kind => Work::Plain(Plain::new(kind, page)),
        };
        Self { key: key.to_vec(), into: into.to_vec(), dialect, pieces, work }
    }

    /// The next command for the store that is read. `None`: everything has been read.
    pub fn next_read(&self) -> Option<Vec<u8>> {
        let mut frames = Frames::default();
        match &self.work {
            Work::Plain(plain) => plain.next_read(&self.key, &mut frames),
            Work::Stream => frames.command(&[b"XINFO", b"STREAM", &self.key, b"FULL", b"COUNT", b"0"]),
            Work::Done => return None,
        }
        Some(frames.bytes)
    }

    /// Takes the reply to what [`next_read`](Self::next_read) gave.
    pub fn take(&mut self, reply: &[u8]) -> Result<(), CopyError> {
        let reply = Value::parse(reply).map_err(|_| CopyError::Unreadable)?;
        let done = match &mut self.work {
            Work::Plain(plain) => plain.take(&self.into, &reply, self.dialect, &mut self.pieces)?,
            Work::Stream => {
                stream::rebuild(&self.into, &reply, self.dialect, &mut self.pieces)
                    .ok_or(CopyError::Unreadable)?;
                true
            }
            Work::Done => true,
        };
        if done {
            self.work = Work::Done;
        }
        Ok(())
    }

    /// Commands for the store that gets the copy, as far as they are known and not taken yet.
    pub fn pieces(&mut self) -> Vec<Piece> {
        if matches!(self.work, Work::Done) {
            self.pieces.finish();
        }
        self.pieces.ready()
    }

    /// The last command: the time to live that is left, in milliseconds; `None`: it doesn't expire.
    pub fn expiry(&self, left: Option<u64>) -> Option<Piece> {
        let left = left?.to_string();
        let mut frames = Frames::default();
        frames.command(&[b"PEXPIRE", &self.into, left.as_bytes()]);
        Some(Piece { bytes: frames.bytes, replies: frames.replies })
    }
}

/// The one read that shows a whole value of this type.
pub fn read_whole(kind: Type, key: &[u8]) -> Vec<u8> {
    Copier::new(kind, key, key, Page::Whole, Dialect::default()).next_read().unwrap_or_default()
}

/// The commands that make a value anew of the reply to [`read_whole`]. Hashes whose fields may expire need a
/// [`Copier`].
pub fn rebuild(
    kind: Type,
    key: &[u8],
    reply: &[u8],
    left: Option<u64>,
    dialect: Dialect,
) -> Result<Vec<Piece>, CopyError> {
    let dialect = Dialect { has_field_expiry: false, ..dialect };
    let mut copier = Copier::new(kind, key, key, Page::Whole, dialect);
    copier.take(reply)?;
    let mut pieces = copier.pieces();
    pieces.extend(copier.expiry(left));
    Ok(pieces)
}
