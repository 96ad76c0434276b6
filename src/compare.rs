//! Are two replies the same answer? Is a reply a miss?
//!
//! Pure: raw reply frames in, a verdict out. Both protocol versions are understood, also one of each, and
//! no reply, however deep, long or broken, can overflow the stack or panic: everything here is a walk
//! over the bytes with [`Reader`], never a recursion over a tree.
//!
//! - [`equal`], [`equal_exec`]: the rules of comparison ([`Rule`]);
//! - [`is_miss`], [`is_error`]: does the other store have to be asked? ([`Miss`]);
//! - [`merge_mget`]: one MGET reply made of both stores' replies;
//! - [`Samples`]: the last differences, cut and redacted;
//! - [`Digest`]: replies too large to keep.

mod digest;
mod equal;
mod merge;
mod miss;
mod multiset;
mod number;
mod reader;
mod sample;

pub use crate::command::{Miss, Rule, Tick};
pub use digest::Digest;
pub use equal::{Verdict, equal, equal_exec};
pub use merge::{Merged, Prefer, merge_mget};
pub use miss::{is_error, is_miss};
pub use reader::{List, Reader, Token};
pub use sample::{DiffSample, MAX_SAMPLES, MAX_SHOWN_BYTES, Samples};

#[cfg(test)]
mod tests;
