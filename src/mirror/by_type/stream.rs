//! A stream with its groups, from XINFO STREAM … FULL.
//!
//! What is pending may be gone from the stream, and only existing entries can be claimed: such entries are added for
//! the time of the copy and deleted at the end.

use std::collections::BTreeMap;

use super::pieces::Pieces;
use crate::mirror::Dialect;
use crate::mirror::choose::parse_id;
use crate::mirror::effects::field;
use crate::resp::value::Value;

type Id = (u64, u64);

/// Entries in order, each with its id and fields; none: it is pending and gone.
type Entries<'v, 'a> = BTreeMap<Id, Option<(&'a [u8], &'v Value<'a>)>>;

/// The field of an entry that stands for one that is gone.
const STAND_IN: &[u8] = b"-";

/// One pending entry.
struct Pending<'a> {
    id: &'a [u8],
    consumer: &'a [u8],
    delivered: i64,
    count: i64,
}

pub(super) fn rebuild(key: &[u8], info: &Value<'_>, dialect: Dialect, pieces: &mut Pieces) -> Option<()> {
    if let Value::Error(text) = info {
        // Gone meanwhile: then nothing is to be made.
        return text.ends_with(b"no such key").then_some(());
    }
    let groups = field(info, b"groups")?.as_array()?;
    let pending = groups.iter().map(pending).collect::<Option<Vec<_>>>()?;
    let mut entries = Entries::new();
    for one in pending.iter().flatten() {
        entries.insert(parse_id(one.id)?, None);
    }
    for entry in field(info, b"entries")?.as_array()? {
        let [id, fields] = entry.as_array()? else { return None };
        let id = id.as_bytes()?;
        entries.insert(parse_id(id)?, Some((id, fields)));
    }
    make(key, &entries, pieces)?;
    for (group, pending) in groups.iter().zip(&pending) {
        make_group(key, group, pending, dialect, pieces)?;
    }
    remove_stand_ins(key, &entries, pieces);
    set_id(key, info, dialect, pieces)
}

/// The entries. A stream without any is made by a group that lives shortly.
fn make(key: &[u8], entries: &BTreeMap<Id, Option<(&[u8], &Value<'_>)>>, pieces: &mut Pieces) -> Option<()> {
    if entries.is_empty() {
        pieces.frames().command(&[b"XGROUP", b"CREATE", key, b"-", b"0", b"MKSTREAM"]);
        pieces.frames().command(&[b"XGROUP", b"DESTROY", key, b"-"]);
    }
    for (id, entry) in entries {
        match entry {
            None => {
                let id = written(*id);
                pieces.frames().command(&[b"XADD", key, id.as_bytes(), STAND_IN, STAND_IN]);
            }
            Some((id, fields)) => {
                let fields: Vec<&[u8]> =
                    fields.as_array()?.iter().map(Value::as_bytes).collect::<Option<_>>()?;
                pieces.frames().joined(&[b"XADD", key, id], &fields, &[]);
            }
        }
        pieces.cut();
    }
    Some(())
}

/// Entries that are gone before all others were trimmed, as far as anybody can tell: a stream remembers the last one
/// that was deleted, and that must not change.
fn remove_stand_ins(key: &[u8], entries: &Entries<'_, '_>, pieces: &mut Pieces) {
    if entries.values().all(Option::is_some) {
        return;
    }
    let Some((first, _)) = entries.iter().find(|(_, entry)| entry.is_some()) else {
        pieces.frames().command(&[b"XTRIM", key, b"MAXLEN", b"=", b"0"]);
        return;
    };
    pieces.frames().command(&[b"XTRIM", key, b"MINID", b"=", written(*first).as_bytes()]);
    let deleted = entries.range(first..).filter(|(_, entry)| entry.is_none());
    let deleted: Vec<String> = deleted.map(|(id, _)| written(*id)).collect();
    let deleted: Vec<&[u8]> = deleted.iter().map(String::as_bytes).collect();
    pieces.spread(&[b"XDEL", key], &deleted, 1);
}

fn make_group(
    key: &[u8],
    group: &Value<'_>,
    pending: &[Pending<'_>],
    dialect: Dialect,
    pieces: &mut Pieces,
) -> Option<()> {
    let name = field(group, b"name")?.as_bytes()?;
    let last_id = field(group, b"last-delivered-id")?.as_bytes()?;
    let mut words = vec![b"XGROUP", b"CREATE".as_slice(), key, name, last_id];
    let read = match field(group, b"entries-read") {
        Some(Value::Int(read)) if dialect.entries_read => Some(read.to_string()),
        _ => None,
    };
    if let Some(read) = &read {
        words.extend_from_slice(&[b"ENTRIESREAD", read.as_bytes()]);
    }
    pieces.frames().command(&words);
    for consumer in field(group, b"consumers")?.as_array()? {
        let consumer = field(consumer, b"name")?.as_bytes()?;
        pieces.frames().command(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]);
        pieces.cut();
    }
    for one in pending {
        let (time, count) = (one.delivered.to_string(), one.count.to_string());
        pieces.frames().command(&[
            b"XCLAIM",
            key,
            name,
            one.consumer,
            b"0",
            one.id,
            b"TIME",
            time.as_bytes(),
            b"RETRYCOUNT",
            count.as_bytes(),
            b"FORCE",
            b"JUSTID",
        ]);
        pieces.cut();
    }
    Some(())
}

/// Where the stream stands: what it has had in all its life.
fn set_id(key: &[u8], info: &Value<'_>, dialect: Dialect, pieces: &mut Pieces) -> Option<()> {
    let last_id = field(info, b"last-generated-id")?.as_bytes()?;
    let added = match field(info, b"entries-added") {
        Some(Value::Int(added)) => Some(added.to_string()),
        _ => None,
    };
    let deleted = field(info, b"max-deleted-entry-id").and_then(Value::as_bytes);
    let mut words = vec![b"XSETID".as_slice(), key, last_id];
    if let (Some(added), Some(deleted), true) = (&added, deleted, dialect.entries_read) {
        words.extend_from_slice(&[b"ENTRIESADDED", added.as_bytes(), b"MAXDELETEDID", deleted]);
    }
    pieces.frames().command(&words);
    pieces.cut();
    Some(())
}

/// What is pending in a group: `[id, consumer, time, count]` each.
fn pending<'a>(group: &Value<'a>) -> Option<Vec<Pending<'a>>> {
    // `pending` in some versions.
    let list = field(group, b"pel").or_else(|| field(group, b"pending"))?.as_array()?;
    let one = |entry: &Value<'a>| match entry.as_array()? {
        [id, consumer, Value::Int(delivered), Value::Int(count)] => Some(Pending {
            id: id.as_bytes()?,
            consumer: consumer.as_bytes()?,
            delivered: *delivered,
            count: *count,
        }),
        _ => None,
    };
    list.iter().map(one).collect()
}

fn written((time, sequence): Id) -> String {
    format!("{time}-{sequence}")
}
