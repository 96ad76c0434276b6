//! Bytes from the network, made fit for a log line.

use std::fmt;

/// How many bytes of foreign origin a log line shows.
pub const MAX_SHOWN_BYTES: usize = 128;

/// Shows bytes as text: what is not printable ASCII as an escape, at most [`MAX_SHOWN_BYTES`] of them.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

/// Shows text whole, with only the control characters escaped, in a way that JSON understands too.
pub(super) struct ControlEscaped<'a>(pub(super) &'a str);

/// The longest beginning of `text` that has at most `max` bytes and ends between characters.
pub fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

// === impl Escaped ===

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..MAX_SHOWN_BYTES).unwrap_or(self.0);
        write!(f, "{}", shown.escape_ascii())?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            rest => write!(f, "… ({rest} more bytes)"),
        }
    }
}

// === impl ControlEscaped ===

impl fmt::Display for ControlEscaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}
