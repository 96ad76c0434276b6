//! Where a client's request ends: a resumable decoder that judges bytes exactly as Redis 7 does.
//!
//! A request is either an array of bulk strings or an inline command (a line of words). The first byte of a
//! frame decides. The decoder never copies an array's arguments: it gives their places in the caller's buffer.
//! It remembers how far it came, so that a frame costs linear time in whatever chunks it arrives.
//!
//! Redis takes the byte behind a `\r` for granted, whatever it is. Frames with another byte there than `\n` are
//! understood, but marked as not canonical: whoever forwards them encodes them anew.

mod error;
mod head;
mod inline;
#[cfg(test)]
mod tests;

pub use error::ProtocolError;

use head::Head;

use super::number::LINE_END;
use super::{encode, number};

/// Arguments that a client may send before it has authenticated, where a password is required.
pub const UNAUTHENTICATED_MAX_ARGS: i64 = 10;

/// Bytes of one argument that a client may send before it has authenticated, where a password is required.
pub const UNAUTHENTICATED_MAX_BULK: i64 = 16 * 1024;

/// Places for arguments that an idle decoder keeps: enough for the usual commands.
const KEPT_SPANS: usize = 4;

/// Places for arguments that a busy decoder keeps from one frame to the next.
const BUSY_SPANS: usize = 256;

/// How large a request may become.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Bytes of one argument (`proto-max-bulk-len`).
    pub max_bulk: usize,
    /// Arguments of one request, the command's name included.
    pub max_args: usize,
    /// Bytes of an inline request, or of a line that carries a length, without its end.
    pub max_inline: usize,
    /// Bytes of a whole frame. Never more than 4 GiB - 1 count.
    pub max_request: usize,
    /// Whether the far tighter limits for clients apply that have yet to authenticate.
    pub unauthenticated: bool,
}

/// Where an argument stands: offsets from the frame's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

/// One complete request, borrowed from the buffer it arrived in.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// The arguments' places in it.
    pub args: &'a [Span],
}

/// What [`Decoder::decode`] found at the start of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An array of bulk strings: the first `len` bytes, its arguments at [`Decoder::spans`].
    Request {
        /// Bytes of the frame.
        len: usize,
        /// Whether the frame is exactly what an encoder would have written.
        canonical: bool,
    },
    /// An inline command: the first `len` bytes, its words at [`Decoder::inline_args`].
    Inline {
        /// Bytes of the line, its end included.
        len: usize,
    },
    /// An empty array or a blank line: to be swallowed, no reply is owed.
    Nothing {
        /// Bytes to swallow.
        len: usize,
    },
    /// More bytes are needed. The next call must see the same frame start, in whatever buffer.
    Incomplete,
}

/// Finds requests in a growing buffer.
///
/// After an error the stream is lost: the decoder gives the same error again.
#[derive(Debug, Default)]
pub struct Decoder {
    spans: Vec<Span>,
    head: Head,
    inline: Box<[Vec<u8>]>,
    /// Where the first element starts that is not yet understood.
    pos: u32,
    /// Bytes from `pos` on in which no end of a line stands.
    searched: u32,
    args_left: u32,
    /// Length of the argument at `pos`, while its bytes are awaited.
    bulk: u32,
    state: State,
    canonical: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the start of a frame.
    #[default]
    Start,
    /// The next argument's length is not known.
    Length,
    /// The next argument's length is known.
    Bulk,
}

// === impl RequestLimits ===

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            max_bulk: 512 << 20,
            // Redis 7 itself takes 2^31 - 1; every server before it answers more than this with a protocol
            // error and closes the connection, which others may share.
            max_args: 1 << 20,
            max_inline: 64 << 10,
            max_request: 1 << 30,
            unauthenticated: false,
        }
    }
}

impl RequestLimits {
    /// The default limits for a client that must authenticate and has not.
    pub fn unauthenticated() -> Self {
        Self { unauthenticated: true, ..Self::default() }
    }

    /// Offsets are kept in 32 bits, so that places stay small.
    fn frame_bytes(&self) -> usize {
        self.max_request.min(u32::MAX as usize)
    }

    fn line_bytes(&self) -> usize {
        self.max_inline.min(self.frame_bytes())
    }
}

// === impl Span ===

impl Span {
    /// Bytes of the argument.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether the argument is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The places of the arguments in a frame that is known to be canonical, such as one that the proxy made.
/// Empty if it is not.
pub fn spans_of(frame: &[u8]) -> Vec<Span> {
    let limits = RequestLimits {
        max_bulk: u32::MAX as usize,
        max_args: u32::MAX as usize,
        ..RequestLimits::default()
    };
    let mut decoder = Decoder::new();
    match decoder.decode(frame, &limits) {
        Ok(Decoded::Request { len, .. }) if len == frame.len() => decoder.spans,
        _ => Vec::new(),
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    /// The argument at `index`, the command's name being 0; empty where there is none.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        self.args.get(index).map_or(&[], |span| self.slice(*span))
    }

    /// How many arguments, the command's name included.
    #[inline]
    pub fn argc(&self) -> usize {
        self.args.len()
    }

    /// The command's name as the client wrote it.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        self.arg(0)
    }

    /// All arguments in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let request = *self;
        self.args.iter().map(move |span| request.slice(*span))
    }

    /// Writes the request as an encoder would: for frames that are not canonical.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode::array_header(out, self.argc());
        self.iter().for_each(|arg| encode::bulk(out, arg));
    }

    #[inline]
    fn slice(&self, span: Span) -> &'a [u8] {
        self.frame.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}

// === impl Decoder ===

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges the frame at the start of `buf`.
    ///
    /// After anything but [`Decoded::Incomplete`] the caller drops `len` bytes before it asks again.
    #[inline]
    pub fn decode(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Decoded, ProtocolError> {
        if self.state == State::Start {
            if let Some(len) = self.whole(buf, limits) {
                // An earlier call may have searched the first bytes of this frame: the next one is unsearched.
                self.searched = 0;
                return Ok(Decoded::Request { len, canonical: true });
            }
            match buf.first() {
                Some(b'*') => {}
                Some(_) => return self.inline(buf, limits),
                None => {
                    self.rest();
                    return Ok(Decoded::Incomplete);
                }
            }
            match self.count(buf, limits)? {
                None => return Ok(Decoded::Incomplete),
                Some(0) => return Ok(Decoded::Nothing { len: self.finish(self.pos as usize) }),
                Some(count) => self.begin(count),
            }
        }
        self.arguments(buf, limits)
    }

    /// The arguments' places, after [`Decoded::Request`] and until the next call.
    #[inline]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The words, after [`Decoded::Inline`] and until the next call.
    pub fn inline_args(&self) -> &[Vec<u8>] {
        &self.inline
    }

    /// How many bytes from its start the incomplete frame has at the least, once an argument's length is known.
    ///
    /// The client has only announced them: reserve in steps, or for clients that are trusted.
    pub fn needed(&self) -> Option<usize> {
        (self.state == State::Bulk).then(|| self.bulk_end().saturating_add(LINE_END))
    }

    /// What the places of arguments take, beside the buffer: of tiny ones more than they have bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self.spans.capacity() {
            // A few are kept by every client.
            ..=BUSY_SPANS => 0,
            many => many.saturating_mul(size_of::<Span>()),
        }
    }

    /// Gives back the memory that a request with many arguments took. For a client that falls idle.
    pub fn rest(&mut self) {
        if self.state == State::Start {
            self.inline = Box::default();
            self.spans.clear();
            self.spans.shrink_to(KEPT_SPANS);
        }
    }

    /// A canonical frame that is all there and within the limits: what most frames are. `None` says nothing about
    /// why: the careful path decides.
    #[inline]
    fn whole(&mut self, buf: &[u8], limits: &RequestLimits) -> Option<usize> {
        if limits.unauthenticated {
            return None;
        }
        match self.head.find(buf) {
            Some((count, name)) if name.len() <= limits.max_bulk => {
                self.forget_spans();
                self.spans.push(name);
                self.rest_of_whole(buf, count, head::behind(name), limits)
            }
            _ => self.unlike(buf, limits),
        }
    }

    /// The same for a frame that does not begin as the last one did.
    fn unlike(&mut self, buf: &[u8], limits: &RequestLimits) -> Option<usize> {
        let (count, at) = number::quick_line(buf, 0, b'*')?;
        if count == 0 || count > BUSY_SPANS {
            return None;
        }
        self.forget_spans();
        let len = self.rest_of_whole(buf, count, at, limits)?;
        self.head.remember(buf, &self.spans);
        Some(len)
    }

    /// The arguments from `at` on that are not known yet.
    #[inline(always)]
    fn rest_of_whole(
        &mut self,
        buf: &[u8],
        count: usize,
        mut at: usize,
        limits: &RequestLimits,
    ) -> Option<usize> {
        for _ in self.spans.len()..count {
            let (length, start) = number::quick_line(buf, at, b'$')?;
            let end = start.checked_add(length)?;
            at = end.checked_add(2)?;
            if length > limits.max_bulk || buf.get(end..at)? != b"\r\n" {
                return None;
            }
            self.spans.push(Span { start: start as u32, end: end as u32 });
        }
        (count <= limits.max_args && at <= limits.frame_bytes()).then_some(at)
    }

    #[inline]
    fn forget_spans(&mut self) {
        self.spans.clear();
        if self.spans.capacity() > BUSY_SPANS {
            self.spans.shrink_to(KEPT_SPANS);
        }
    }

    /// Where the argument at `pos` ends.
    #[inline]
    fn bulk_end(&self) -> usize {
        (self.pos as usize).saturating_add(self.bulk as usize)
    }

    fn begin(&mut self, count: u32) {
        self.forget_spans();
        self.args_left = count;
        self.state = State::Length;
    }

    /// Back to the start of the next frame; gives the length of the one that ends.
    #[inline]
    fn finish(&mut self, len: usize) -> usize {
        self.pos = 0;
        self.searched = 0;
        self.state = State::Start;
        len
    }

    /// Reads the arguments that are there.
    #[inline]
    fn arguments(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Decoded, ProtocolError> {
        let max_frame = limits.frame_bytes();
        while self.args_left > 0 {
            if self.state == State::Length && !self.length(buf, limits)? {
                return Ok(Decoded::Incomplete);
            }
            let start = self.pos as usize;
            let end = self.bulk_end();
            let next = end.saturating_add(LINE_END);
            if next > max_frame {
                return Err(ProtocolError::TooBigRequest);
            }
            match buf.get(end..next) {
                None => return Ok(Decoded::Incomplete),
                Some(line_end) => self.canonical &= line_end == b"\r\n",
            }
            self.spans.push(Span { start: start as u32, end: end as u32 });
            self.pos = next as u32;
            self.args_left = self.args_left.saturating_sub(1);
            self.state = State::Length;
        }
        let len = self.finish(self.pos as usize);
        Ok(Decoded::Request { len, canonical: self.canonical })
    }

    /// Reads the line with an array's count. `None`: it is not yet there. 0: there is nothing in it.
    #[inline]
    fn count(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Option<u32>, ProtocolError> {
        if let Some((count, next)) = number::quick_line(buf, 0, b'*') {
            let count = judge_count(count as i64, limits)?;
            self.canonical = true;
            self.pos = next as u32;
            self.searched = 0;
            return Ok(Some(count));
        }
        self.careful_count(buf, limits)
    }

    #[cold]
    fn careful_count(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Option<u32>, ProtocolError> {
        let Some((line, canonical)) = self.line(buf, limits, ProtocolError::TooBigMbulkCount)? else {
            return Ok(None);
        };
        let count =
            line.get(1..).and_then(number::strict_i64).ok_or(ProtocolError::InvalidMultibulkLength)?;
        let count = judge_count(count, limits)?;
        self.canonical = canonical;
        self.pos = line.len().saturating_add(LINE_END) as u32;
        self.searched = 0;
        Ok(Some(count))
    }

    /// Reads the line with an argument's length. `false`: it is not yet there.
    #[inline]
    fn length(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<bool, ProtocolError> {
        if let Some((length, next)) = number::quick_line(buf, self.pos as usize, b'$') {
            self.bulk = judge_length(length as i64, limits)?;
            return self.begin_bulk(next, limits);
        }
        self.careful_length(buf, limits)
    }

    #[cold]
    fn careful_length(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<bool, ProtocolError> {
        let Some((line, canonical)) = self.line(buf, limits, ProtocolError::TooBigBulkCount)? else {
            return Ok(false);
        };
        let digits = match line {
            [b'$', digits @ ..] => digits,
            // An empty line: what stands where the `$` should is its end.
            other => return Err(ProtocolError::ExpectedDollar(other.first().copied().unwrap_or(b'\r'))),
        };
        let length = number::strict_i64(digits).ok_or(ProtocolError::InvalidBulkLength)?;
        self.bulk = judge_length(length, limits)?;
        self.canonical &= canonical;
        let start = (self.pos as usize).saturating_add(line.len()).saturating_add(LINE_END);
        self.begin_bulk(start, limits)
    }

    #[inline]
    fn begin_bulk(&mut self, start: usize, limits: &RequestLimits) -> Result<bool, ProtocolError> {
        if start > limits.frame_bytes() {
            return Err(ProtocolError::TooBigRequest);
        }
        self.pos = start as u32;
        self.searched = 0;
        self.state = State::Bulk;
        Ok(true)
    }

    /// The line at `pos` without its end, and whether it ends in `\r\n`, once both bytes of the end are there.
    fn line<'a>(
        &mut self,
        buf: &'a [u8],
        limits: &RequestLimits,
        endless: ProtocolError,
    ) -> Result<Option<(&'a [u8], bool)>, ProtocolError> {
        let rest = buf.get(self.pos as usize..).unwrap_or_default();
        let Some(length) = self.line_end(rest, b'\r', limits.line_bytes(), endless)? else {
            return Ok(None);
        };
        match rest.get(length.saturating_add(1)) {
            None => Ok(None),
            Some(second) => Ok(rest.get(..length).map(|line| (line, *second == b'\n'))),
        }
    }

    /// The offset of `end` in `rest`, searched only where it was not searched before.
    ///
    /// Redis searches as C does: a NUL hides everything behind it, and the line never ends.
    fn line_end(
        &mut self,
        rest: &[u8],
        end: u8,
        max_line: usize,
        endless: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched as usize;
        let found = memchr::memchr2(end, 0, rest.get(from..).unwrap_or_default())
            .map(|offset| from.saturating_add(offset));
        let ends = found.is_some_and(|offset| rest.get(offset) == Some(&end));
        let length = if ends { found.unwrap_or_default() } else { rest.len() };
        if length > max_line {
            return Err(endless);
        }
        self.searched = found.unwrap_or(rest.len()) as u32;
        Ok(ends.then_some(length))
    }

    #[cold]
    fn inline(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Decoded, ProtocolError> {
        let Some(end) = self.line_end(buf, b'\n', limits.line_bytes(), ProtocolError::TooBigInline)? else {
            return Ok(Decoded::Incomplete);
        };
        let line = buf.get(..end).unwrap_or_default();
        let words = inline::split(line.strip_suffix(b"\r").unwrap_or(line));
        self.inline = words.ok_or(ProtocolError::UnbalancedQuotes)?.into_boxed_slice();
        let len = self.finish(end.saturating_add(1));
        if self.inline.is_empty() { Ok(Decoded::Nothing { len }) } else { Ok(Decoded::Inline { len }) }
    }
}

#[inline]
fn judge_count(count: i64, limits: &RequestLimits) -> Result<u32, ProtocolError> {
    if count > limits.max_args.min(u32::MAX as usize) as i64 {
        return Err(ProtocolError::InvalidMultibulkLength);
    }
    if limits.unauthenticated && count > UNAUTHENTICATED_MAX_ARGS {
        return Err(ProtocolError::UnauthenticatedMultibulkLength);
    }
    Ok(count.max(0) as u32)
}

#[inline]
fn judge_length(length: i64, limits: &RequestLimits) -> Result<u32, ProtocolError> {
    if length < 0 || length > limits.max_bulk.min(u32::MAX as usize) as i64 {
        return Err(ProtocolError::InvalidBulkLength);
    }
    if limits.unauthenticated && length > UNAUTHENTICATED_MAX_BULK {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    Ok(length as u32)
}

impl crate::command::Args for Request<'_> {
    #[inline]
    fn argc(&self) -> usize {
        self.args.len()
    }

    #[inline]
    fn arg(&self, index: usize) -> Option<&[u8]> {
        self.args.get(index).map(|span| self.slice(*span))
    }
}
