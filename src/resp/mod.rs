//! The Redis protocol: frames found (never copied), and frames made.
//!
//! - [`request`]: where a client's request ends, as Redis 7 would judge it;
//! - [`reply`]: where a store's reply ends, RESP2 and RESP3;
//! - [`value`]: what is inside one complete frame;
//! - [`encode`]: the proxy's own frames.
//!
//! Boundaries are found over raw bytes, in linear time whatever the chunks in which they arrive, and every
//! length, count and depth has a limit. Nothing in here does I/O.

// Lengths, counts and positions come from the network: none may wrap.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod encode;
mod number;
pub mod reply;
pub mod request;
pub mod value;

/// The protocol version that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2 = 2,
    /// RESP3, after `HELLO 3`.
    Resp3 = 3,
}
