//! Doubles as servers print them.

/// A longer text is no number: Redis prints at most this many bytes (`MAX_LONG_DOUBLE_CHARS`).
const MAX_NUMBER_BYTES: usize = 5 * 1024;

/// Are two texts the same number, however printed (`0.1`, `0.10000000000000001`, `1e-1`)?
///
/// Only what a server may print for a double counts as a number, so that `007` is not 7; and two plain
/// integers must be equal digit by digit, since member names may be longer than a double is exact.
pub(super) fn same_number(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    match (Number::parse(a), Number::parse(b)) {
        (Some(a), Some(b)) => a.same(b),
        _ => false,
    }
}

#[derive(Clone, Copy)]
struct Number {
    value: f64,
    integer: bool,
}

// === impl Number ===

impl Number {
    fn same(self, other: Number) -> bool {
        if self.integer && other.integer {
            return false;
        }
        self.value == other.value || (self.value.is_nan() && other.value.is_nan())
    }

    fn parse(text: &[u8]) -> Option<Number> {
        if text.len() > MAX_NUMBER_BYTES {
            return None;
        }
        let unsigned = text.strip_prefix(b"-").unwrap_or(text);
        let integer = match unsigned {
            b"inf" | b"nan" => false,
            _ => shape(unsigned)? && text != b"-0",
        };
        let value = std::str::from_utf8(text).ok()?.parse().ok()?;
        Some(Number { value, integer })
    }
}

/// Is it `digits[.digits][e[sign]digits]` without needless zeros in front? `Some(true)`: digits alone.
fn shape(text: &[u8]) -> Option<bool> {
    let (digits, rest) = digits(text)?;
    if digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    let after_fraction = match rest.strip_prefix(b".") {
        Some(fraction) => self::digits(fraction)?.1,
        None => rest,
    };
    let end = match after_fraction {
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => self::digits(exponent)?.1,
        other => other,
    };
    end.is_empty().then_some(rest.is_empty())
}

/// Splits off at least one leading digit.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 { None } else { text.split_at_checked(len) }
}
