//! Lua's words.

/// One word of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a keyword.
    Name(&'a [u8]),
    /// A string without escapes.
    Text(&'a [u8]),
    /// A string with escapes, or a number.
    Other,
    /// `==`, `~=`, `<=`, `>=`, `..` and `...`
    Operator,
    /// Anything else.
    Symbol(u8),
}

struct Lexer<'a> {
    rest: &'a [u8],
}

/// The words of a source, without comments. `None`: it is no Lua.
pub(super) fn tokens(source: &[u8]) -> Option<Vec<Token<'_>>> {
    let mut lexer = Lexer { rest: source };
    if source.starts_with(b"#!") {
        lexer.skip_line();
    }
    let mut tokens = Vec::new();
    while let Some(byte) = lexer.rest.first().copied() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => lexer.advance(1),
            b'-' if lexer.rest.starts_with(b"--") => {
                lexer.advance(2);
                if lexer.long()?.is_none() {
                    lexer.skip_line();
                }
            }
            b'[' => match lexer.long()? {
                Some(text) => tokens.push(Token::Text(text)),
                None => {
                    lexer.advance(1);
                    tokens.push(Token::Symbol(b'['));
                }
            },
            b'"' | b'\'' => tokens.push(lexer.quoted(byte)?),
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => tokens.push(Token::Name(lexer.word())),
            b'0'..=b'9' => {
                lexer.number();
                tokens.push(Token::Other);
            }
            b'.' if lexer.rest.get(1).is_some_and(u8::is_ascii_digit) => {
                lexer.number();
                tokens.push(Token::Other);
            }
            _ => tokens.push(lexer.symbol(byte)),
        }
    }
    Some(tokens)
}

// === impl Lexer ===

impl<'a> Lexer<'a> {
    fn advance(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn skip_line(&mut self) {
        let end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
        self.advance(end);
    }

    /// A string or comment in long brackets, if one begins here.
    fn long(&mut self) -> Option<Option<&'a [u8]>> {
        let Some(inner) = self.rest.strip_prefix(b"[") else { return Some(None) };
        let level = inner.iter().take_while(|byte| **byte == b'=').count();
        let Some(text) = inner.get(level..).and_then(|text| text.strip_prefix(b"[")) else {
            return Some(None);
        };
        let mut end = vec![b']'];
        end.resize(level + 1, b'=');
        end.push(b']');
        let length = memchr::memmem::find(text, &end)?;
        self.advance(2 + level + length + end.len());
        let text = text.get(..length)?;
        // A line end right behind the opening is not part of the string.
        Some(Some(text.strip_prefix(b"\r\n").or(text.strip_prefix(b"\n")).unwrap_or(text)))
    }

    fn quoted(&mut self, quote: u8) -> Option<Token<'a>> {
        let mut escaped = false;
        let mut at = 1;
        loop {
            match self.rest.get(at)? {
                b'\\' => {
                    escaped = true;
                    at += 2;
                }
                b'\n' => return None,
                byte if *byte == quote => break,
                _ => at += 1,
            }
        }
        let text = self.rest.get(1..at)?;
        self.advance(at + 1);
        Some(if escaped { Token::Other } else { Token::Text(text) })
    }

    fn word(&mut self) -> &'a [u8] {
        let part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        let length = self.rest.iter().take_while(part).count();
        let word = self.rest.get(..length).unwrap_or_default();
        self.advance(length);
        word
    }

    /// Digits, letters and dots; a sign belongs to it behind an exponent, or makes a word of its own, which is the
    /// same to us. Two dots are an operator, which Lua would not take here.
    fn number(&mut self) {
        let part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'.';
        let length = self.rest.iter().take_while(part).count();
        self.advance(length.max(1));
    }

    fn symbol(&mut self, byte: u8) -> Token<'a> {
        for operator in [&b"..."[..], b"..", b"==", b"~=", b"<=", b">="] {
            if self.rest.starts_with(operator) {
                self.advance(operator.len());
                return Token::Operator;
            }
        }
        self.advance(1);
        Token::Symbol(byte)
    }
}
