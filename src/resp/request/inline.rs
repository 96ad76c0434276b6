//! The words of an inline command, split as redis-cli and the server itself split them.

/// Reads one argument after another from a line.
struct Words<'a> {
    rest: &'a [u8],
}

/// The words of `line`, or `None` if a quote stays open or something other than a blank follows a closing one.
///
/// Between double quotes `\n \r \t \b \a` and `\xHH` are escapes, between single ones only `\'` is. Quotes may
/// open within a word.
pub(super) fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Words { rest: line };
    let mut args = Vec::new();
    while words.skip_blanks() {
        args.push(words.word()?);
    }
    Some(args)
}

// === impl Words ===

impl Words<'_> {
    /// Whether a word follows.
    fn skip_blanks(&mut self) -> bool {
        let blanks = self.rest.iter().take_while(|byte| is_space(**byte)).count();
        self.advance(blanks);
        !self.rest.is_empty()
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn word(&mut self) -> Option<Vec<u8>> {
        let mut word = Vec::new();
        while let [byte, rest @ ..] = self.rest {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => break,
                b'"' => {
                    self.rest = rest;
                    self.double_quoted(&mut word)?;
                    break;
                }
                b'\'' => {
                    self.rest = rest;
                    self.single_quoted(&mut word)?;
                    break;
                }
                other => {
                    word.push(*other);
                    self.rest = rest;
                }
            }
        }
        Some(word)
    }

    fn double_quoted(&mut self, word: &mut Vec<u8>) -> Option<()> {
        loop {
            let (byte, used) = match self.rest {
                [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    (hex(*high) << 4 | hex(*low), 4)
                }
                [b'\\', escaped, ..] => (unescape(*escaped), 2),
                [b'"', ..] => return self.close(),
                [other, ..] => (*other, 1),
                [] => return None,
            };
            word.push(byte);
            self.advance(used);
        }
    }

    fn single_quoted(&mut self, word: &mut Vec<u8>) -> Option<()> {
        loop {
            let (byte, used) = match self.rest {
                [b'\\', b'\'', ..] => (b'\'', 2),
                [b'\'', ..] => return self.close(),
                [other, ..] => (*other, 1),
                [] => return None,
            };
            word.push(byte);
            self.advance(used);
        }
    }

    /// A closing quote ends its word: a blank must follow, or the end.
    fn close(&mut self) -> Option<()> {
        self.advance(1);
        self.rest.first().is_none_or(|byte| is_space(*byte)).then_some(())
    }
}

/// C's `isspace`: vertical tab and form feed separate words, though neither ends an unquoted one.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit.wrapping_sub(b'0'),
        b'a'..=b'f' => digit.wrapping_sub(b'a' - 10),
        b'A'..=b'F' => digit.wrapping_sub(b'A' - 10),
        _ => 0,
    }
}
