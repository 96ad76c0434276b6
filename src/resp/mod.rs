//! The Redis protocol: frames found (never copied), and frames made.

/// The protocol version that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2 = 2,
    /// RESP3, after `HELLO 3`.
    Resp3 = 3,
}
