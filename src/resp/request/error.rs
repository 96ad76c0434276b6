//! What a client is told whose bytes are no request.

use crate::resp::encode;
use std::fmt;

/// Why a client's bytes are no request. The texts are Redis's own; the connection ends after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The count of an array is no number or above the limit.
    InvalidMultibulkLength,
    /// More arguments than a client may send that has yet to authenticate.
    UnauthenticatedMultibulkLength,
    /// The line with the count of an array does not end.
    TooBigMbulkCount,
    /// The line with the length of an argument does not end.
    TooBigBulkCount,
    /// Something else stands where an argument must start.
    ExpectedDollar(u8),
    /// The length of an argument is no number or out of bounds.
    InvalidBulkLength,
    /// A longer argument than a client may send that has yet to authenticate.
    UnauthenticatedBulkLength,
    /// An inline command does not end.
    TooBigInline,
    /// An inline command opens a quote and never closes it, or goes on right behind one.
    UnbalancedQuotes,
    /// The frame outgrows [`RequestLimits::max_request`](super::RequestLimits::max_request). Redis closes such a connection without a word.
    TooBigRequest,
}

// === impl ProtocolError ===

impl ProtocolError {
    /// The text of the error reply, without marker and line end. Bytes, since it may quote what the client sent.
    pub fn text(&self) -> Vec<u8> {
        let mut text = b"ERR Protocol error: ".to_vec();
        match self {
            Self::ExpectedDollar(got) => {
                text.extend_from_slice(b"expected '$', got '");
                text.push(if matches!(got, b'\r' | b'\n') { b' ' } else { *got });
                text.push(b'\'');
            }
            other => text.extend_from_slice(other.phrase().as_bytes()),
        }
        text
    }

    /// Appends the error reply.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode::error(out, self.text());
    }

    fn phrase(&self) -> &'static str {
        match self {
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::TooBigMbulkCount => "too big mbulk count string",
            Self::TooBigBulkCount => "too big bulk count string",
            Self::ExpectedDollar(_) => "expected '$'",
            Self::InvalidBulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::TooBigInline => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::TooBigRequest => "too big request",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl std::error::Error for ProtocolError {}
