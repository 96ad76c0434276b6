//! Is a reply a miss?

use super::Miss;
use super::multiset::{Page, is_zero};
use super::reader::{Reader, Token};

/// Is the reply an error?
pub fn is_error(reply: &[u8]) -> bool {
    match reply.first() {
        Some(b'-' | b'!') => true,
        Some(b'|') => matches!(Reader::new(reply).token(), Some(Token::Error(_))),
        _ => false,
    }
}

/// Does this store not have what was asked for? An error is a miss of every kind but [`Miss::Never`]; a
/// malformed reply is none.
///
/// `asked_cursor` is the cursor that a scan was asked to go on from.
pub fn is_miss(miss: Miss, reply: &[u8], asked_cursor: Option<&[u8]>) -> bool {
    miss != Miss::Never && (is_error(reply) || found_nothing(miss, reply, asked_cursor) == Some(true))
}

fn found_nothing(miss: Miss, reply: &[u8], asked_cursor: Option<&[u8]>) -> Option<bool> {
    if miss == Miss::ScanEmpty {
        return first_page_empty(reply, asked_cursor);
    }
    if miss == Miss::Nil && matches!(reply, [b'$', b'0'..=b'9', ..]) {
        // The usual hit: not worth to be read.
        return Some(false);
    }
    let mut reader = Reader::new(reply);
    let token = reader.token()?;
    let nothing = match miss {
        Miss::Never | Miss::OnlyError | Miss::ScanEmpty => false,
        Miss::Nil => token == Token::Nil,
        Miss::EmptyString => matches!(token, Token::Nil | Token::Text(b"")),
        Miss::Zero => token == Token::Int(0),
        Miss::ZeroOrMinusOne => matches!(token, Token::Int(0 | -1)),
        Miss::TypeNone => token == Token::Text(b"none"),
        Miss::Empty => matches!(token, Token::Nil) || matches!(token, Token::List(list) if list.items == 0),
        Miss::AllNil => token == Token::Nil || all(&mut reader, token, Token::Nil)?,
        Miss::AllZero => all(&mut reader, token, Token::Int(0))?,
        Miss::AnyNil => token == Token::Nil || any(&mut reader, token, Token::Nil)?,
        // Alone, or one per field as HTTL has it.
        Miss::MinusTwo => token == Token::Int(-2) || all(&mut reader, token, Token::Int(-2))?,
    };
    Some(nothing && reader.at_end())
}

fn first_page_empty(reply: &[u8], asked_cursor: Option<&[u8]>) -> Option<bool> {
    if !asked_cursor.is_some_and(is_zero) {
        return Some(false);
    }
    let page = Page::parse(reply)?;
    let empty = matches!(Reader::new(page.elements).token()?, Token::List(list) if list.items == 0);
    Some(page.last && empty)
}

fn all(reader: &mut Reader<'_>, head: Token<'_>, wanted: Token<'_>) -> Option<bool> {
    let Token::List(list) = head else { return Some(false) };
    for _ in 0..list.items {
        if reader.token()? != wanted {
            return Some(false);
        }
    }
    Some(true)
}

fn any(reader: &mut Reader<'_>, head: Token<'_>, wanted: Token<'_>) -> Option<bool> {
    let Token::List(list) = head else { return Some(false) };
    let mut found = false;
    for _ in 0..list.items {
        let value = reader.values(1)?;
        found |= Reader::new(value).token()? == wanted;
    }
    Some(found)
}
