//! Appending frames to a buffer.

use super::Proto;

#[cfg(test)]
mod tests;

/// The reply `OK`.
pub const OK: &[u8] = b"+OK\r\n";

/// The reply to a command inside of MULTI.
pub const QUEUED: &[u8] = b"+QUEUED\r\n";

/// A command, as a canonical array of bulk strings.
pub fn command<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    array_header(out, args.len());
    args.iter().for_each(|arg| bulk(out, arg.as_ref()));
}

/// A status. Line ends in it become blanks.
pub fn simple(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    line(out, b'+', text.as_ref());
}

/// An error; `text` starts with its code, as in `ERR no such key`. Line ends in it become blanks.
pub fn error(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    line(out, b'-', text.as_ref());
}

/// A bulk string.
#[inline]
pub fn bulk(out: &mut Vec<u8>, data: impl AsRef<[u8]>) {
    let data = data.as_ref();
    header(out, b'$', data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// An integer.
pub fn int(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The start of an array of `len` elements.
pub fn array_header(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len);
}

/// The start of a map of `pairs` pairs; in RESP2 an array of twice as many elements.
pub fn map_header(out: &mut Vec<u8>, pairs: usize, proto: Proto) {
    match proto {
        Proto::Resp2 => array_header(out, pairs.saturating_mul(2)),
        Proto::Resp3 => header(out, b'%', pairs),
    }
}

/// The start of a set of `len` elements; in RESP2 an array.
pub fn set_header(out: &mut Vec<u8>, len: usize, proto: Proto) {
    header(out, if proto == Proto::Resp3 { b'~' } else { b'*' }, len);
}

/// The start of an out-of-band message of `len` elements; in RESP2 an array.
pub fn push_header(out: &mut Vec<u8>, len: usize, proto: Proto) {
    header(out, if proto == Proto::Resp3 { b'>' } else { b'*' }, len);
}

/// No value, where a string could have been.
pub fn nil(out: &mut Vec<u8>, proto: Proto) {
    out.extend_from_slice(if proto == Proto::Resp3 { b"_\r\n" } else { b"$-1\r\n" });
}

/// No value, where an array could have been.
pub fn nil_array(out: &mut Vec<u8>, proto: Proto) {
    out.extend_from_slice(if proto == Proto::Resp3 { b"_\r\n" } else { b"*-1\r\n" });
}

/// A truth value; in RESP2 the integer 1 or 0.
pub fn bool(out: &mut Vec<u8>, value: bool, proto: Proto) {
    match proto {
        Proto::Resp2 => int(out, i64::from(value)),
        Proto::Resp3 => line(out, b'#', if value { b"t" } else { b"f" }),
    }
}

/// A double; in RESP2 a bulk string.
pub fn double(out: &mut Vec<u8>, value: f64, proto: Proto) {
    let text = match value {
        v if v.is_nan() => "nan".to_owned(),
        v if v.is_infinite() => if v > 0.0 { "inf" } else { "-inf" }.to_owned(),
        v => v.to_string(),
    };
    match proto {
        Proto::Resp2 => bulk(out, text),
        Proto::Resp3 => line(out, b',', text.as_bytes()),
    }
}

#[inline]
fn header(out: &mut Vec<u8>, marker: u8, len: usize) {
    out.push(marker);
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A line must not end early: everything behind would be taken for further replies.
fn line(out: &mut Vec<u8>, marker: u8, text: &[u8]) {
    out.push(marker);
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}
