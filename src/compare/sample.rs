//! The last differences between the stores, for an operator to look at.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::SystemTime;

use super::digest::hash;
use super::reader::{Reader, Token};

/// At most this many samples are kept, whatever the setting says.
pub const MAX_SAMPLES: usize = 1_000;
/// At most this many bytes of a key or reply are shown.
pub const MAX_SHOWN_BYTES: usize = 256;
/// A longer first word of an error is no code.
const MAX_CODE_BYTES: usize = 32;

/// One difference. All texts are printable ASCII, bounded, and redacted unless values may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffSample {
    /// The command's name.
    pub command: String,
    /// The command's first key, if it has one.
    pub key: Option<String>,
    /// What the primary answered.
    pub primary: String,
    /// What the secondary answered.
    pub secondary: String,
    /// When the difference was seen.
    pub at: SystemTime,
}

/// The last samples; older ones make room for newer ones.
#[derive(Debug)]
pub struct Samples {
    ring: VecDeque<DiffSample>,
    capacity: usize,
    log_values: bool,
    recorded: u64,
}

// === impl Samples ===

impl Samples {
    /// Room for `capacity` samples (at most [`MAX_SAMPLES`]), redacted unless `log_values`.
    pub fn new(capacity: usize, log_values: bool) -> Self {
        Samples { ring: VecDeque::new(), capacity: capacity.min(MAX_SAMPLES), log_values, recorded: 0 }
    }

    /// Changes whether values may be shown. Samples already taken stay as they are.
    pub fn set_log_values(&mut self, log_values: bool) {
        self.log_values = log_values;
    }

    /// Keeps what is needed of one difference: two raw replies to `command`.
    pub fn record(
        &mut self,
        command: &str,
        key: Option<&[u8]>,
        primary: &[u8],
        secondary: &[u8],
        at: SystemTime,
    ) {
        let shown = [self.show_reply(primary), self.show_reply(secondary)];
        self.record_shown(command, key, shown, at);
    }

    /// Keeps one difference between replies, primary's and secondary's, of which only a description is at hand.
    pub fn record_shown(
        &mut self,
        command: &str,
        key: Option<&[u8]>,
        [primary, secondary]: [String; 2],
        at: SystemTime,
    ) {
        self.recorded = self.recorded.saturating_add(1);
        if self.capacity == 0 {
            return;
        }
        if self.ring.len() >= self.capacity {
            self.ring.pop_front();
        }
        let command = escaped(command.as_bytes());
        let key = key.map(|key| self.show_key(key));
        self.ring.push_back(DiffSample { command, key, primary, secondary, at });
    }

    /// The samples, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &DiffSample> {
        self.ring.iter()
    }

    /// How many differences were recorded since the start, the forgotten ones included.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    fn show_key(&self, key: &[u8]) -> String {
        if self.log_values { escaped(key) } else { redacted("key", "bytes", key.len(), key) }
    }

    fn show_reply(&self, reply: &[u8]) -> String {
        if self.log_values { escaped(reply) } else { redacted_reply(reply) }
    }
}

/// The type and size of a reply, and a hash that tells whether two are equal; of an error its code.
fn redacted_reply(reply: &[u8]) -> String {
    let mut reader = Reader::new(reply);
    match reader.token() {
        None => redacted("malformed", "bytes", reply.len(), reply),
        Some(Token::Nil) => "nil".to_owned(),
        Some(Token::Int(n)) => {
            let text = n.to_string();
            redacted("integer", "bytes", text.len(), text.as_bytes())
        }
        Some(Token::Text(text)) => redacted(text_name(reply), "bytes", text.len(), text),
        Some(Token::Double(text)) => redacted("double", "bytes", text.len(), text),
        Some(Token::Error(text)) => redacted_error(text),
        Some(Token::List(list)) if list.map => redacted("map", "pairs", list.items / 2, reply),
        Some(Token::List(list)) => redacted("array", "elements", list.items, reply),
    }
}

fn text_name(reply: &[u8]) -> &'static str {
    if reply.first() == Some(&b'+') { "status" } else { "bulk" }
}

/// Scripts choose their own errors, so a first word that does not look like a code is not shown.
fn redacted_error(text: &[u8]) -> String {
    let code = Token::error_code(text);
    let is_code_byte = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    if !code.is_empty() && code.len() <= MAX_CODE_BYTES && code.iter().all(is_code_byte) {
        format!("error({})", code.escape_ascii())
    } else {
        redacted("error", "bytes", text.len(), text)
    }
}

fn redacted(kind: &str, unit: &str, size: usize, bytes: &[u8]) -> String {
    // Half of the hash is enough to see what is equal to what.
    format!("{kind}({size} {unit}, #{:08x})", hash(bytes) >> 32)
}

fn escaped(bytes: &[u8]) -> String {
    let shown = bytes.get(..MAX_SHOWN_BYTES).unwrap_or(bytes);
    let mut out = shown.escape_ascii().to_string();
    let cut = bytes.len() - shown.len();
    if cut > 0 {
        // Writing to a string cannot fail.
        let _ = write!(out, "... (+{cut} bytes)");
    }
    out
}
