//! The reply to `COMMAND`, read in RESP2.

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame as Frame;

use super::LiveCommand;
use crate::command::{Begin, Find, KeyFlags, KeySpec, Word};

// === impl LiveCommand ===

impl LiveCommand {
    /// The commands in a complete RESP2 reply to `COMMAND` or `COMMAND INFO`; what doesn't look like one is left
    /// out. The caller has bounded the reply's depth and size.
    pub fn list(reply: &[u8]) -> Vec<LiveCommand> {
        match decode(reply) {
            Ok(Some((Frame::Array(entries), _))) => {
                entries.iter().filter_map(|entry| command(entry, true)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// name, arity, flags, first, last, step, and from 7.0 on categories, tips, key specifications, subcommands.
fn command(entry: &Frame, top: bool) -> Option<LiveCommand> {
    let entry = array(Some(entry))?;
    let int = |at| integer(entry.get(at)).and_then(|int| i32::try_from(int).ok()).unwrap_or_default();
    let subs = array(entry.get(9)).filter(|_| top).unwrap_or_default();
    Some(LiveCommand {
        name: text(entry.first())?.to_owned(),
        arity: int(1),
        flags: texts(entry.get(2)).map(str::to_owned).collect(),
        first: int(3),
        last: int(4),
        step: int(5),
        key_specs: array(entry.get(8)).unwrap_or_default().iter().filter_map(key_spec).collect(),
        subcommands: subs.iter().filter_map(|sub| command(sub, false)).collect(),
    })
}

fn key_spec(entry: &Frame) -> Option<KeySpec> {
    let entry = array(Some(entry))?;
    Some(KeySpec {
        flags: KeyFlags::from_names(texts(field(entry, "flags"))),
        begin: begin(array(field(entry, "begin_search"))?).unwrap_or(Begin::Unknown),
        find: find(array(field(entry, "find_keys"))?).unwrap_or(Find::Unknown),
    })
}

fn begin(entry: &[Frame]) -> Option<Begin> {
    let spec = array(field(entry, "spec"))?;
    Some(match text(field(entry, "type"))? {
        "index" => Begin::Index(number(spec, "index")?),
        "keyword" => {
            let word = Word::new(text(field(spec, "keyword"))?)?;
            Begin::Keyword { word, from: number(spec, "startfrom")? }
        }
        _ => return None,
    })
}

fn find(entry: &[Frame]) -> Option<Find> {
    let spec = array(field(entry, "spec"))?;
    Some(match text(field(entry, "type"))? {
        "range" => Find::Range {
            last: number(spec, "lastkey")?,
            step: number(spec, "keystep")?,
            limit: number(spec, "limit")?,
        },
        "keynum" => Find::KeyNum {
            number: number(spec, "keynumidx")?,
            first: number(spec, "firstkey")?,
            step: number(spec, "keystep")?,
        },
        _ => return None,
    })
}

/// The value behind a name in a flat list of names and values.
fn field<'a>(list: &'a [Frame], name: &str) -> Option<&'a Frame> {
    let pair = list.chunks_exact(2).find(|pair| text(pair.first()) == Some(name))?;
    pair.get(1)
}

fn number<T: TryFrom<i64>>(list: &[Frame], name: &str) -> Option<T> {
    integer(field(list, name)).and_then(|int| T::try_from(int).ok())
}

fn array(frame: Option<&Frame>) -> Option<&[Frame]> {
    match frame {
        Some(Frame::Array(list)) => Some(list),
        _ => None,
    }
}

fn integer(frame: Option<&Frame>) -> Option<i64> {
    match frame {
        Some(Frame::Integer(int)) => Some(*int),
        _ => None,
    }
}

fn text(frame: Option<&Frame>) -> Option<&str> {
    match frame {
        Some(Frame::BulkString(text) | Frame::SimpleString(text)) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

fn texts(frame: Option<&Frame>) -> impl Iterator<Item = &str> {
    array(frame).unwrap_or_default().iter().filter_map(|frame| text(Some(frame)))
}
