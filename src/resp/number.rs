//! The numbers that frames carry, read with Redis's own strictness.

/// Bytes of `\r\n`.
pub(super) const LINE_END: usize = 2;

/// Digits of the longest length that [`quick_line`] takes: ten digits never overflow a `usize` of 64 bits.
const QUICK_DIGITS: usize = 10;

/// Where a line's marker and end stand, its first byte being the lowest, and what they are but for the marker.
const ONE_DIGIT: (u64, u64) = (0xffff_00ff, 0x0a0d_0000);
const TWO_DIGITS: (u64, u64) = (0xff_ff00_00ff, 0x0a_0d00_0000);

/// Longest text of an `i64`: 19 digits and a sign.
const I64_TEXT: usize = 20;

/// An integer as Redis's `string2ll` accepts it: no blanks, no plus, no leading zeros, no `-0`, no overflow.
pub(super) fn strict_i64(text: &[u8]) -> Option<i64> {
    if text == b"0" {
        return Some(0);
    }
    if text.len() > I64_TEXT {
        return None;
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    // Summed as a negative number, whose range is the larger one.
    let sum = digits.iter().try_fold(0i64, |sum, byte| {
        let digit = digit(*byte)?;
        sum.checked_mul(10)?.checked_sub(i64::from(digit))
    })?;
    if negative { Some(sum) } else { sum.checked_neg() }
}

/// Reads `<marker><length>\r\n` at `at` if it stands there whole, exactly as an encoder writes it.
///
/// Gives the length and the offset behind the line. `None` says nothing about why: the careful path decides.
// Offsets end within `buf`, and ten digits within a `usize`: nothing can wrap, and this is what every request and reply
// passes.
#[allow(clippy::arithmetic_side_effects)]
#[inline(always)]
pub(super) fn quick_line(buf: &[u8], at: usize, marker: u8) -> Option<(usize, usize)> {
    let line = buf.get(at..)?;
    if let Some(start) = line.first_chunk::<8>() {
        // Most lengths have one digit or two: all of the line but they is looked at at once.
        let start = u64::from_le_bytes(*start);
        let first = digit((start >> 8) as u8);
        if start & ONE_DIGIT.0 == ONE_DIGIT.1 | u64::from(marker)
            && let Some(ones) = first
        {
            return Some((usize::from(ones), at + 4));
        }
        if start & TWO_DIGITS.0 == TWO_DIGITS.1 | u64::from(marker)
            && let (Some(tens @ 1..), Some(ones)) = (first, digit((start >> 16) as u8))
        {
            return Some((usize::from(tens) * 10 + usize::from(ones), at + 5));
        }
    }
    let [first, lead, rest @ ..] = line else { return None };
    if *first != marker {
        return None;
    }
    let mut value = usize::from(digit(*lead)?);
    let mut rest = rest;
    for used in 1..=QUICK_DIGITS {
        match rest {
            [b'\r', b'\n', ..] => return Some((value, at + used + 3)),
            [byte, tail @ ..] if value != 0 => {
                value = value * 10 + usize::from(digit(*byte)?);
                rest = tail;
            }
            _ => return None,
        }
    }
    None
}

#[inline(always)]
fn digit(byte: u8) -> Option<u8> {
    let value = byte.wrapping_sub(b'0');
    (value <= 9).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_as_string2ll() {
        for (text, value) in [
            ("0", 0),
            ("1", 1),
            ("-1", -1),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(strict_i64(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            "-01",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999",
        ] {
            assert_eq!(strict_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn quick_lines_are_canonical_ones_only() {
        assert_eq!(quick_line(b"x$3\r\nabc", 1, b'$'), Some((3, 5)));
        assert_eq!(quick_line(b"$0\r\n", 0, b'$'), Some((0, 4)));
        assert_eq!(quick_line(b"$120\r\n", 0, b'$'), Some((120, 6)));
        assert_eq!(quick_line(b"$9999999999\r\n", 0, b'$'), Some((9_999_999_999, 13)));
        for line in [
            "",
            "$",
            "$3",
            "$3\r",
            "$3\rx",
            "*3\r\n",
            "$03\r\n",
            "$-1\r\n",
            "$\r\n",
            "$3x\r\n",
            "$99999999999\r\n",
        ] {
            assert_eq!(quick_line(line.as_bytes(), 0, b'$'), None, "{line:?}");
        }
        assert_eq!(quick_line(b"$3\r\n", 9, b'$'), None);
    }
}
