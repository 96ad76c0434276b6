//! The words of a request, wherever they lie.

/// A request's words: the command's name first.
pub trait Args {
    /// How many words there are, the name included.
    fn argc(&self) -> usize;

    /// The word at `index`, if there is one.
    fn arg(&self, index: usize) -> Option<&[u8]>;

    /// Whether the word at `index` is this token, in any case.
    #[inline]
    fn is(&self, index: usize, token: &str) -> bool {
        self.arg(index).is_some_and(|arg| arg.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Where a token first stands at or behind `from`.
    fn position(&self, from: usize, token: &str) -> Option<usize> {
        (from..self.argc()).find(|&index| self.is(index, token))
    }

    /// The word at `index` as the decimal integer that Redis would read.
    fn int(&self, index: usize) -> Option<i64> {
        parse_int(self.arg(index)?)
    }
}

impl<T: AsRef<[u8]>> Args for [T] {
    #[inline]
    fn argc(&self) -> usize {
        self.len()
    }

    #[inline]
    fn arg(&self, index: usize) -> Option<&[u8]> {
        self.get(index).map(AsRef::as_ref)
    }
}

/// As strict as Redis: no blanks, no plus sign, no leading zeros, no `-0`.
fn parse_int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let leading_zero = digits.first() == Some(&b'0') && text.len() > 1;
    if leading_zero || !digits.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (text, value) in
            [("0", Some(0)), ("-1", Some(-1)), ("9223372036854775807", Some(i64::MAX)), ("12", Some(12))]
        {
            assert_eq!(parse_int(text.as_bytes()), value, "{text}");
        }
        for text in ["", "-", "+1", " 1", "1 ", "01", "-0", "00", "1.0", "9223372036854775808", "1a"] {
            assert_eq!(parse_int(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn tokens_are_found_in_any_case() {
        let args = ["SET", "k", "v", "Ex", "1"];
        assert!(args[..].is(3, "EX"));
        assert!(!args[..].is(9, "EX"));
        assert_eq!(args[..].position(2, "ex"), Some(3));
        assert_eq!(args[..].position(4, "ex"), None);
    }
}
