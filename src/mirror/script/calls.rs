//! Calls of `redis.call`: their arguments, as far as the source shows them.

use super::lexer::Token;

/// What an argument that is no literal is in [`Call::words`]: no option, no number, and no command has such a name.
const UNKNOWN: &[u8] = b"\0";

/// One call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The words of each argument; the first one is the command's name.
    pub(super) args: Vec<&'a [Token<'a>]>,
}

// === impl Call ===

impl<'a> Call<'a> {
    /// Reads the arguments behind `redis.call`. `None`: the command is not named by a literal.
    pub(super) fn parse(tokens: &'a [Token<'a>], at: usize) -> Option<Self> {
        let args = match tokens.get(at)? {
            // redis.call 'PING'
            Token::Text(_) => vec![tokens.get(at..=at)?],
            Token::Symbol(b'(') => split(tokens.get(at + 1..)?)?,
            _ => return None,
        };
        match args.first()? {
            [Token::Text(_)] => Some(Self { args }),
            _ => None,
        }
    }

    /// The command as it will be sent, with something else where the source doesn't show it.
    pub(super) fn words(&self) -> Vec<&'a [u8]> {
        let word = |arg: &&'a [Token<'a>]| match **arg {
            [Token::Text(text)] => text,
            _ => UNKNOWN,
        };
        self.args.iter().map(word).collect()
    }

    /// Does it have this many words and no more, whatever a function in it returns?
    pub(super) fn is_plain(&self, words: usize) -> bool {
        let returns_many = |arg: &&[Token<'_>]| arg.last() == Some(&Token::Symbol(b')'));
        self.args.len() == words && !self.args.last().is_some_and(returns_many)
    }

    pub(super) fn is_literal(&self, at: usize) -> bool {
        matches!(self.args.get(at), Some([Token::Text(_)]))
    }
}

/// Arguments up to the closing parenthesis, split at the commas that no bracket holds.
fn split<'a>(tokens: &'a [Token<'a>]) -> Option<Vec<&'a [Token<'a>]>> {
    let (mut depth, mut start, mut args) = (0usize, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Symbol(b')') if depth == 0 => {
                args.push(tokens.get(start..at)?);
                return Some(args);
            }
            Token::Symbol(b',') if depth == 0 => {
                args.push(tokens.get(start..at)?);
                start = at + 1;
            }
            Token::Symbol(b'(' | b'[' | b'{') => depth += 1,
            Token::Symbol(b')' | b']' | b'}') => depth = depth.checked_sub(1)?,
            // A function's body has commas of its own.
            Token::Name(b"function") => return None,
            _ => {}
        }
    }
    None
}
