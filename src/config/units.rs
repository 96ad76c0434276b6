//! Durations and sizes: a number and its unit, in one string.

use std::fmt;
use std::time::Duration;

/// A number of bytes, written `"64kb"`, `"512mb"`, `"1gb"`; a kilobyte is 1024 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(usize);

const BYTE_UNITS: [(&str, u64); 4] = [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("b", 1)];

const TIME_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

// === impl ByteSize ===

impl ByteSize {
    /// A size of `bytes`.
    pub const fn new(bytes: usize) -> ByteSize {
        ByteSize(bytes)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_with(&BYTE_UNITS, self.0 as u64, "b"))
    }
}

/// Parses `"64kb"`.
pub fn parse_size(text: &str) -> Result<ByteSize, String> {
    let bytes = parse_with(&BYTE_UNITS, text, r#""64kb", "512mb" or "1gb""#)?;
    usize::try_from(bytes).map(ByteSize).map_err(|_| too_large(text))
}

/// Parses `"250ms"`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_with(&TIME_UNITS, text, r#""250ms", "5s" or "6h""#).map(Duration::from_nanos)
}

/// Writes a duration the way [`parse_duration`] reads it.
pub fn format_duration(duration: Duration) -> String {
    format_with(&TIME_UNITS, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), "s")
}

fn parse_with(units: &[(&str, u64)], text: &str, examples: &str) -> Result<u64, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let names = || units.iter().rev().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if number.is_empty() {
        return Err(format!(
            "{text:?} doesn't start with a number; write a whole number and a unit, such as {examples}"
        ));
    }
    if unit.trim().is_empty() {
        return Err(format!("{text:?} has no unit; write one of {}, such as {examples}", names()));
    }
    if unit.starts_with('.') {
        return Err(format!("{text:?} is not a whole number; use a smaller unit ({})", names()));
    }
    let unit = unit.trim().to_ascii_lowercase();
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "{text:?} has the unknown unit '{unit}'; write one of {}, such as {examples}",
            names()
        ));
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or_else(|| too_large(text))
}

fn too_large(text: &str) -> String {
    format!("{text:?} is too large")
}

fn format_with(units: &[(&str, u64)], value: u64, zero_unit: &str) -> String {
    let fitting = units.iter().find(|(_, factor)| value != 0 && value % factor == 0);
    match fitting {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => format!("{value}{zero_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0b", 0), ("1b", 1), ("64kb", 65536), ("64KB", 65536), ("64 kb", 65536), ("1gb", 1 << 30)]
        {
            assert_eq!(parse_size(text), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!(ByteSize(65536).to_string(), "64kb");
        assert_eq!(ByteSize(1000).to_string(), "1000b");
        assert_eq!(ByteSize(0).to_string(), "0b");
    }

    #[test]
    fn durations() {
        for (text, millis) in [("0s", 0), ("250ms", 250), ("5s", 5000), ("2m", 120_000), ("6h", 21_600_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(
                parse_duration(&format_duration(Duration::from_millis(millis))).unwrap().as_millis(),
                millis as u128
            );
        }
        assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, part) in [
            ("5", "has no unit"),
            ("", "doesn't start with a number"),
            ("-5s", "doesn't start with a number"),
            ("1.5s", "use a smaller unit"),
            ("5 parsecs", "unknown unit 'parsecs'"),
            ("5sec", "write one of us, ms, s, m, h, d"),
            ("99999999999999999999s", "too large"),
            ("999999999999d", "too large"),
        ] {
            let message = parse_duration(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(parse_size("1tb").unwrap_err().contains("write one of b, kb, mb, gb"));
    }
}
