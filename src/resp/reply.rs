//! Where a store's reply ends: a resumable boundary scanner for RESP2 and RESP3.
//!
//! The scanner keeps its own stack, so that depth costs bytes and never the thread's stack, and its own place,
//! so that a byte is looked at once. What it has passed, the caller may send on and drop before the reply is
//! complete: a reply of any size streams through a small buffer.
//!
//! Streamed types, whose length is not known at their start, are refused: no server sends them.

#[cfg(test)]
mod tests;

use super::{encode, number};
use thiserror::Error;

/// Bytes within which a line must end that carries a number or less.
const MAX_SHORT_LINE: usize = 32;

/// What a missing key's value looks like, in RESP2.
const NIL: &[u8] = b"$-1\r\n";

/// Levels of nesting for which an idle scanner keeps room.
const KEPT_LEVELS: usize = 8;

/// How large a reply may become.
#[derive(Clone, Debug)]
pub struct ReplyLimits {
    /// Levels of arrays, maps, sets, pushes and attributes. A level costs the scanner 16 bytes.
    pub max_depth: usize,
    /// Bytes of one string, be it bulk, status or error.
    pub max_bulk: u64,
    /// Elements of one array, set or push; keys and values of one map or attribute.
    pub max_elements: u64,
    /// Bytes of a whole reply, its attributes included.
    pub max_reply: u64,
}

/// What [`ReplyScanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The frame ends behind the first `len` bytes of the buffer.
    Complete {
        /// Bytes of the frame that still stand in the buffer.
        len: usize,
        /// Whether it is an out-of-band message, not a reply to a command.
        push: bool,
    },
    /// More bytes are needed.
    Incomplete,
}

/// Why bytes from a store are no reply. The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// No reply starts with this byte.
    #[error("reply starts with unknown type byte 0x{0:02x}")]
    UnknownType(u8),
    /// A length is no number or out of bounds.
    #[error("invalid length or number in a reply of type {:?}", char::from(*.0))]
    InvalidNumber(u8),
    /// A null or a truth value with another content than they can have.
    #[error("malformed reply of type {:?}", char::from(*.0))]
    Malformed(u8),
    /// A string is not followed by a line end.
    #[error("string in reply does not end where its length says")]
    MissingLineEnd,
    /// A streamed type.
    #[error("streamed RESP3 types are not supported")]
    Streamed,
    /// Beyond [`ReplyLimits::max_depth`].
    #[error("reply nests deeper than {0} levels")]
    TooDeep(usize),
    /// Beyond [`ReplyLimits::max_bulk`].
    #[error("string in reply exceeds {0} bytes")]
    TooLong(u64),
    /// Beyond [`ReplyLimits::max_elements`].
    #[error("aggregate in reply exceeds {0} elements")]
    TooManyElements(u64),
    /// Beyond [`ReplyLimits::max_reply`].
    #[error("reply exceeds {0} bytes")]
    TooBig(u64),
}

/// Finds replies in a buffer that grows at its end and may shrink at its start.
#[derive(Debug, Default)]
pub struct ReplyScanner {
    stack: Vec<Level>,
    phase: Phase,
    /// Everything before it is understood and belongs to the frame in progress.
    pos: usize,
    /// Bytes of the frame in progress that the caller has dropped from the buffer.
    forgotten: u64,
    /// Whether the frame in progress is an out-of-band message.
    push: bool,
    /// Bytes and elements looked at, to prove that the time is linear.
    #[cfg(test)]
    steps: u64,
}

/// An aggregate whose elements are being counted.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// At least 1: an aggregate leaves the stack with its last element.
    left: u64,
    /// An attribute is no value: the value that it describes follows it.
    attribute: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// A type byte comes next.
    #[default]
    Head,
    /// Within a line of text of which `seen` bytes have passed.
    Text { seen: u64 },
    /// Within a string of which `left` bytes are to come.
    Bulk { left: u64 },
    /// At the line end behind a string.
    BulkEnd,
}

/// What became of one step.
enum Step {
    /// The bytes for it are not all there.
    Wait,
    /// A value has begun, or an attribute has passed.
    On,
    /// A value is complete.
    Value,
}

// === impl ReplyLimits ===

impl Default for ReplyLimits {
    fn default() -> Self {
        // A Lua script's reply nests about 7,700 levels deep before the server itself gives up.
        Self { max_depth: 8192, max_bulk: 1 << 30, max_elements: u64::from(u32::MAX), max_reply: 64 << 30 }
    }
}

// === impl ReplyScanner ===

impl ReplyScanner {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for the end of the frame at the start of `buf`.
    ///
    /// After [`Scanned::Complete`] the caller drops `len` bytes before it asks again. After
    /// [`Scanned::Incomplete`] the buffer keeps what it holds, save for what is [forgotten](Self::forget).
    #[inline(always)]
    pub fn scan(&mut self, buf: &[u8], limits: &ReplyLimits) -> Result<Scanned, ReplyError> {
        if self.is_idle()
            && let Some(len) = small(buf, limits)
        {
            return Ok(Scanned::Complete { len, push: false });
        }
        self.resume(buf, limits)
    }

    /// How many of the buffer's `buf_len` bytes surely belong to the incomplete frame.
    ///
    /// Within a string that is everything up to its end, including what arrived since the last call.
    pub fn certain(&self, buf_len: usize) -> usize {
        let ahead = match self.phase {
            Phase::Bulk { left } => usize::try_from(left).unwrap_or(usize::MAX),
            _ => 0,
        };
        self.pos.saturating_add(ahead).min(buf_len)
    }

    /// The caller dropped the first `bytes` bytes of the buffer, at most as many as are
    /// [certain](Self::certain).
    pub fn forget(&mut self, bytes: usize) {
        let ahead = bytes.saturating_sub(self.pos) as u64;
        if let Phase::Bulk { left } = &mut self.phase {
            *left = left.saturating_sub(ahead);
        }
        self.pos = self.pos.saturating_sub(bytes);
        self.forgotten = self.forgotten.saturating_add(bytes as u64);
    }

    /// Whether nothing of a frame has passed. A few bytes of one may stand in the buffer all the same.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.pos == 0 && self.forgotten == 0 && self.phase == Phase::Head && self.stack.is_empty()
    }

    /// Whether the frame in progress is known to be an out-of-band message.
    pub fn in_push(&self) -> bool {
        self.push
    }

    fn resume(&mut self, buf: &[u8], limits: &ReplyLimits) -> Result<Scanned, ReplyError> {
        loop {
            let step = match self.phase {
                Phase::Head => self.head(buf, limits)?,
                Phase::Text { seen } => self.text(buf, seen, limits)?,
                Phase::Bulk { left } => self.bulk(buf, left),
                Phase::BulkEnd => self.bulk_end(buf)?,
            };
            if self.forgotten.saturating_add(self.pos as u64) > limits.max_reply {
                return Err(ReplyError::TooBig(limits.max_reply));
            }
            match step {
                Step::Wait => return Ok(Scanned::Incomplete),
                Step::On => {}
                Step::Value if self.value_ends_frame() => return Ok(self.finish()),
                Step::Value => {}
            }
        }
    }

    /// The next `bytes` are understood.
    #[inline(always)]
    fn pass(&mut self, bytes: usize) {
        self.pos = self.pos.saturating_add(bytes);
    }

    /// Counts a complete value, and every aggregate that it completes. Whether the frame ends with it.
    fn value_ends_frame(&mut self) -> bool {
        self.phase = Phase::Head;
        while let Some(level) = self.stack.last_mut() {
            level.left = level.left.saturating_sub(1);
            if level.left > 0 {
                return false;
            }
            let attribute = level.attribute;
            self.stack.pop();
            if attribute {
                return false;
            }
        }
        true
    }

    fn finish(&mut self) -> Scanned {
        let complete = Scanned::Complete { len: self.pos, push: self.push };
        self.pos = 0;
        self.forgotten = 0;
        self.push = false;
        self.stack.shrink_to(KEPT_LEVELS);
        complete
    }

    fn head(&mut self, buf: &[u8], limits: &ReplyLimits) -> Result<Step, ReplyError> {
        self.count_steps(1);
        let Some(marker) = buf.get(self.pos).copied() else { return Ok(Step::Wait) };
        match marker {
            b'+' | b'-' | b',' | b'(' => {
                self.pass(1);
                self.phase = Phase::Text { seen: 0 };
                Ok(Step::On)
            }
            b'$' | b'!' | b'=' => self.string(buf, marker, limits),
            b'*' | b'~' | b'>' | b'%' | b'|' => self.aggregate(buf, marker, limits),
            b':' | b'_' | b'#' => self.short(buf, marker),
            b';' | b'.' => Err(ReplyError::Streamed),
            other => Err(ReplyError::UnknownType(other)),
        }
    }

    /// A value that is a short line: an integer, a null, a truth value.
    fn short(&mut self, buf: &[u8], marker: u8) -> Result<Step, ReplyError> {
        let Some(line) = self.short_line(buf, marker)? else { return Ok(Step::Wait) };
        let sound = match marker {
            b':' => is_integer(line),
            b'_' => line.is_empty(),
            _ => matches!(line, b"t" | b"f"),
        };
        if !sound {
            return Err(if marker == b':' {
                ReplyError::InvalidNumber(marker)
            } else {
                ReplyError::Malformed(marker)
            });
        }
        self.pass(line.len().saturating_add(3));
        Ok(Step::Value)
    }

    fn string(&mut self, buf: &[u8], marker: u8, limits: &ReplyLimits) -> Result<Step, ReplyError> {
        match self.length(buf, marker)? {
            Length::Unknown => Ok(Step::Wait),
            Length::Nil => Ok(Step::Value),
            Length::Known(length) if length > limits.max_bulk => Err(ReplyError::TooLong(limits.max_bulk)),
            Length::Known(length) => {
                let total = self.forgotten.saturating_add(self.pos as u64).saturating_add(length);
                if total > limits.max_reply {
                    return Err(ReplyError::TooBig(limits.max_reply));
                }
                self.phase = Phase::Bulk { left: length };
                Ok(Step::On)
            }
        }
    }

    fn aggregate(&mut self, buf: &[u8], marker: u8, limits: &ReplyLimits) -> Result<Step, ReplyError> {
        let outermost = self.stack.is_empty();
        let elements = match self.length(buf, marker)? {
            Length::Unknown => return Ok(Step::Wait),
            Length::Nil => 0,
            Length::Known(pairs) if matches!(marker, b'%' | b'|') => pairs.saturating_mul(2),
            Length::Known(elements) => elements,
        };
        if elements > limits.max_elements {
            return Err(ReplyError::TooManyElements(limits.max_elements));
        }
        self.push |= outermost && marker == b'>';
        let attribute = marker == b'|';
        if elements == 0 {
            return Ok(if attribute { Step::On } else { Step::Value });
        }
        if self.stack.len() >= limits.max_depth {
            return Err(ReplyError::TooDeep(limits.max_depth));
        }
        self.stack.push(Level { left: elements, attribute });
        Ok(Step::On)
    }

    /// Reads the line that gives a string's or an aggregate's length, and passes it.
    fn length(&mut self, buf: &[u8], marker: u8) -> Result<Length, ReplyError> {
        if let Some((length, next)) = number::quick_line(buf, self.pos, marker) {
            self.pos = next;
            return Ok(Length::Known(length as u64));
        }
        let Some(line) = self.short_line(buf, marker)? else { return Ok(Length::Unknown) };
        let length = match line {
            b"-1" if matches!(marker, b'$' | b'*') => Length::Nil,
            b"?" => return Err(ReplyError::Streamed),
            digits => number::strict_i64(digits)
                .and_then(|length| u64::try_from(length).ok())
                .map(Length::Known)
                .ok_or(ReplyError::InvalidNumber(marker))?,
        };
        self.pass(line.len().saturating_add(3));
        Ok(length)
    }

    /// The short line at `pos` without its type byte and its end, once it is all there.
    fn short_line<'a>(&mut self, buf: &'a [u8], marker: u8) -> Result<Option<&'a [u8]>, ReplyError> {
        let rest = buf.get(self.pos.saturating_add(1)..).unwrap_or_default();
        let window = rest.get(..MAX_SHORT_LINE).unwrap_or(rest);
        let end = memchr::memchr(b'\r', window);
        match end.map(|end| (end, rest.get(end.saturating_add(1)))) {
            Some((end, Some(b'\n'))) => Ok(rest.get(..end)),
            Some((_, Some(_))) => Err(ReplyError::InvalidNumber(marker)),
            None if window.len() == MAX_SHORT_LINE => Err(ReplyError::InvalidNumber(marker)),
            Some((_, None)) | None => Ok(None),
        }
    }

    /// A line of text ends with `\r\n`; either byte alone belongs to it.
    fn text(&mut self, buf: &[u8], seen: u64, limits: &ReplyLimits) -> Result<Step, ReplyError> {
        let rest = buf.get(self.pos..).unwrap_or_default();
        let (passed, step) = match line_end(rest) {
            Some(length) => (length, Step::Value),
            // A last `\r` may be the first half of the end.
            None => (rest.strip_suffix(b"\r").unwrap_or(rest).len(), Step::Wait),
        };
        self.count_steps((passed as u64).saturating_add(1));
        let seen = seen.saturating_add(passed as u64);
        if seen > limits.max_bulk {
            return Err(ReplyError::TooLong(limits.max_bulk));
        }
        self.pass(passed.saturating_add(if matches!(step, Step::Value) { 2 } else { 0 }));
        self.phase = Phase::Text { seen };
        Ok(step)
    }

    fn bulk(&mut self, buf: &[u8], left: u64) -> Step {
        self.count_steps(1);
        let there = buf.len().saturating_sub(self.pos);
        let passed = usize::try_from(left).map_or(there, |left| left.min(there));
        self.pass(passed);
        let left = left.saturating_sub(passed as u64);
        if left > 0 {
            self.phase = Phase::Bulk { left };
            return Step::Wait;
        }
        self.phase = Phase::BulkEnd;
        Step::On
    }

    fn bulk_end(&mut self, buf: &[u8]) -> Result<Step, ReplyError> {
        match buf.get(self.pos..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {
                self.pass(2);
                Ok(Step::Value)
            }
            [] | [b'\r'] => Ok(Step::Wait),
            _ => Err(ReplyError::MissingLineEnd),
        }
    }

    #[cfg(test)]
    fn count_steps(&mut self, steps: u64) {
        self.steps = self.steps.saturating_add(steps);
    }

    #[cfg(not(test))]
    #[inline(always)]
    fn count_steps(&mut self, _steps: u64) {}
}

/// The length that a string or an aggregate announces.
enum Length {
    /// The line is not all there.
    Unknown,
    /// RESP2's way to say that there is no value.
    Nil,
    /// Bytes, elements or pairs.
    Known(u64),
}

/// The length of a small frame that is all there: what most replies are.
#[inline(always)]
fn small(buf: &[u8], limits: &ReplyLimits) -> Option<usize> {
    // What nearly all writes are answered.
    if buf.starts_with(encode::OK) { Some(encode::OK.len()) } else { small_value(buf, limits) }
}

// The ends of lines that are added to lie within `buf`.
#[allow(clippy::arithmetic_side_effects)]
fn small_value(buf: &[u8], limits: &ReplyLimits) -> Option<usize> {
    let len = match buf.first()? {
        b'+' => line_end(buf)? + 2,
        b':' => {
            let end = line_end(buf.get(..MAX_SHORT_LINE).unwrap_or(buf))?;
            is_integer(buf.get(1..end)?).then_some(end + 2)?
        }
        b'$' if buf.starts_with(NIL) => NIL.len(),
        b'$' => {
            let (length, start) = number::quick_line(buf, 0, b'$')?;
            let end = start.checked_add(length)?;
            let len = end.checked_add(2)?;
            (buf.get(end..len)? == b"\r\n" && length as u64 <= limits.max_bulk).then_some(len)?
        }
        _ => return None,
    };
    (len as u64 <= limits.max_bulk.min(limits.max_reply)).then_some(len)
}

/// The offset of the first `\r\n`.
// What was found lies within `text`.
#[allow(clippy::arithmetic_side_effects)]
#[inline]
fn line_end(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\r', text).find(|end| text.get(end + 1) == Some(&b'\n'))
}

/// Digits, with a sign at most.
#[inline]
fn is_integer(text: &[u8]) -> bool {
    let digits = match text {
        [b'-' | b'+', digits @ ..] => digits,
        digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
