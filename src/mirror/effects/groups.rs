//! Consumer groups: entries delivered and claimed.
//!
//! What was delivered is claimed on the other store. Its consumer group then stands where the default store's does:
//! position, owners, delivery counts. How many entries a group has read follows from ENTRIESREAD, where both stores
//! know it.

use std::collections::HashSet;

use super::{Dialect, Extra, Frames};
use crate::command::Args;
use crate::mirror::choose::parse_id;
use crate::resp::value::Value;

/// So long has nothing been idle: claims nothing, but lets go of what is pending and gone from the stream.
const NEVER_IDLE: &[u8] = b"9223372036854775807";

/// So many ids of an XCLAIM are asked about, one by one.
const MAX_ASKED: usize = 100;

/// What XREADGROUP's arguments say.
struct Read<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    no_ack: bool,
    /// Each stream with the id behind which it is read.
    streams: Vec<(&'a [u8], &'a [u8])>,
}

/// A consumer, with its stream and group.
#[derive(Clone, Copy)]
struct Consumer<'a> {
    key: &'a [u8],
    group: &'a [u8],
    name: &'a [u8],
}

/// What XCLAIM's arguments say.
struct Claim<'a> {
    ids: Vec<&'a [u8]>,
    /// Options that say something about the entries, with their values.
    options: Vec<&'a [u8]>,
    last_id: Option<&'a [u8]>,
}

/// What a store says of one group.
struct Position<'a> {
    last_id: &'a [u8],
    entries_read: i64,
}

/// What can follow an XREADGROUP: how far the groups are.
pub(super) fn companions<A: Args + ?Sized>(args: &A, frames: &mut Frames) {
    for (key, _) in read_new_from(args) {
        frames.command(&[b"XINFO", b"GROUPS", key]);
    }
}

/// The streams from which an XREADGROUP takes new entries, each with the group.
pub(in crate::mirror) fn read_new_from<A: Args + ?Sized>(args: &A) -> Vec<(&[u8], &[u8])> {
    let Some(read) = Read::parse(args) else { return Vec::new() };
    read.streams.into_iter().filter(|(_, id)| is_new(id)).map(|(key, _)| (key, read.group)).collect()
}

/// Sets a group's position to what XINFO GROUPS said of it.
pub(in crate::mirror) fn set_position(key: &[u8], group: &[u8], info: &[u8], frames: &mut Frames) {
    if let Ok(info) = Value::parse(info)
        && let Some(position) = Position::find(&info, group)
    {
        position.set(key, group, frames);
    }
}

/// XREADGROUP.
pub(super) fn read<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    let read = Read::parse(args)?;
    let mut served = by_stream(reply)?.into_iter().peekable();
    let mut positions = extra.replies.iter();
    for (key, id) in &read.streams {
        let consumer = Consumer { key, group: read.group, name: read.consumer };
        let position = if is_new(id) { positions.next() } else { None };
        match served.next_if(|(served, _)| served == key) {
            None if extra.dialect.eager_consumers => consumer.create(frames),
            None => {}
            Some((_, entries)) if !is_new(id) => consumer.read_history(entries, frames)?,
            Some((_, entries)) => {
                let info = position.and_then(|reply| Value::parse(reply).ok());
                let position = info.as_ref().and_then(|info| Position::find(info, read.group));
                consumer.read_new(entries, read.no_ack, position, extra.dialect, frames)?;
            }
        }
    }
    // Something was answered that nobody asked for.
    if served.next().is_some() { None } else { Some(()) }
}

/// What can follow an XCLAIM: whether each of the ids is pending.
pub(super) fn claim_companions<A: Args + ?Sized>(args: &A, frames: &mut Frames) {
    let (Some(claim), Some(consumer)) = (Claim::parse(args), Consumer::of(args)) else { return };
    if claim.ids.len() <= MAX_ASKED {
        for id in claim.ids {
            frames.command(&[b"XPENDING", consumer.key, consumer.group, id, id, b"1"]);
        }
    }
}

/// XCLAIM.
pub(super) fn claim<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    let claim = Claim::parse(args)?;
    let consumer = Consumer::of(args)?;
    let claimed = ids(reply.as_array()?)?;
    let mut options = claim.options.clone();
    options.push(b"FORCE");
    options.extend(claim.last_id());
    frames.chunked(&consumer.claim(b"0"), &claimed, &options);
    if claimed.is_empty() && extra.dialect.eager_consumers {
        consumer.create(frames);
    }
    let claimed = claimed.iter().map(|id| parse_id(id)).collect::<Option<HashSet<_>>>()?;
    in_vain(&claim, consumer, &claimed, extra, frames)
}

/// Ids that were claimed in vain may have been let go of, since their entries are gone.
fn in_vain(
    claim: &Claim<'_>,
    consumer: Consumer<'_>,
    claimed: &HashSet<(u64, u64)>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    let in_vain = |id: &&[u8]| parse_id(id).is_some_and(|id| !claimed.contains(&id));
    let rest: Vec<&[u8]> = claim.ids.iter().copied().filter(in_vain).collect();
    let moves_group = claimed.is_empty() && claim.last_id.is_some();
    if rest.is_empty() || !(extra.dialect.drops_gone || moves_group) {
        return Some(());
    }
    if !extra.dialect.asks_pending() {
        let options: Vec<&[u8]> = [b"JUSTID".as_slice()].into_iter().chain(claim.last_id()).collect();
        frames.chunked(&consumer.claim(NEVER_IDLE), &rest, &options);
        return Some(());
    }
    if moves_group || extra.replies.len() != claim.ids.len() {
        return None;
    }
    let mut gone = Vec::new();
    for (id, reply) in claim.ids.iter().zip(extra.replies) {
        if Value::parse(reply).ok()?.as_array()?.is_empty() {
            gone.push(*id);
        }
    }
    frames.chunked(&[b"XACK", consumer.key, consumer.group], &gone, &[]);
    Some(())
}

/// XAUTOCLAIM.
pub(super) fn auto_claim<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    let consumer = Consumer::of(args)?;
    let parts = reply.as_array()?;
    let claimed = ids(parts.get(1)?.as_array()?)?;
    // Behind the start, options follow: COUNT n, JUSTID.
    let just_id = args.position(6, "JUSTID").is_some();
    let options: &[&[u8]] = if just_id { &[b"FORCE", b"JUSTID"] } else { &[b"FORCE"] };
    let gone = parts.get(2).map_or(Some(Vec::new()), |gone| ids(gone.as_array()?))?;
    frames.chunked(&consumer.claim(b"0"), &claimed, options);
    frames.chunked(&[b"XACK", consumer.key, consumer.group], &gone, &[]);
    if claimed.is_empty() && extra.dialect.eager_consumers {
        consumer.create(frames);
    }
    Some(())
}

// === impl Read ===

impl<'a> Read<'a> {
    fn parse<A: Args + ?Sized>(args: &'a A) -> Option<Self> {
        let (mut owner, mut no_ack, mut at) = (None, false, 1);
        while !args.is(at, "STREAMS") {
            at += match () {
                () if args.is(at, "GROUP") => {
                    owner = Some((args.arg(at + 1)?, args.arg(at + 2)?));
                    3
                }
                () if args.is(at, "COUNT") || args.is(at, "BLOCK") => 2,
                () if args.is(at, "NOACK") => {
                    no_ack = true;
                    1
                }
                // CLAIM: entries that others held are in the reply, too.
                () => return None,
            };
        }
        let first = at + 1;
        let count = args.argc().checked_sub(first)? / 2;
        let streams: Vec<_> = (first..first + count)
            .map(|at| Some((args.arg(at)?, args.arg(at + count)?)))
            .collect::<Option<_>>()?;
        // Which of two equal keys the reply means cannot be told.
        let mut seen = HashSet::new();
        let twice = !streams.iter().all(|(key, _)| seen.insert(*key));
        let (group, consumer) = owner.filter(|_| !twice)?;
        Some(Self { group, consumer, no_ack, streams })
    }
}

// === impl Consumer ===

impl<'a> Consumer<'a> {
    /// Of XCLAIM and XAUTOCLAIM.
    fn of<A: Args + ?Sized>(args: &'a A) -> Option<Self> {
        Some(Self { key: args.arg(1)?, group: args.arg(2)?, name: args.arg(3)? })
    }

    /// The start of an XCLAIM.
    fn claim(self, idle: &'a [u8]) -> [&'a [u8]; 5] {
        [b"XCLAIM", self.key, self.group, self.name, idle]
    }

    fn create(self, frames: &mut Frames) {
        frames.command(&[b"XGROUP", b"CREATECONSUMER", self.key, self.group, self.name]);
    }

    /// Entries that nobody had got before.
    fn read_new(
        self,
        entries: &[Value<'_>],
        no_ack: bool,
        position: Option<Position<'_>>,
        dialect: Dialect,
        frames: &mut Frames,
    ) -> Option<()> {
        let ids = ids(entries)?;
        let Some(last) = ids.last().copied() else {
            self.create(frames);
            return Some(());
        };
        if no_ack {
            self.create(frames);
        } else {
            let tail = [b"RETRYCOUNT", b"1".as_slice(), b"FORCE", b"JUSTID", b"LASTID", last];
            frames.chunked(&self.claim(b"0"), &ids, &tail);
        }
        match position {
            Some(at) if dialect.entries_read => {
                let read = at.entries_read.to_string();
                let words =
                    [b"XGROUP", b"SETID".as_slice(), self.key, self.group, at.last_id, b"ENTRIESREAD"];
                frames.joined(&words, &[read.as_bytes()], &[]);
            }
            _ if no_ack => frames.command(&[b"XGROUP", b"SETID", self.key, self.group, last]),
            _ => {}
        }
        Some(())
    }

    /// Entries that this consumer holds, once more: each counts as delivered once more, unless it is gone.
    fn read_history(self, entries: &[Value<'_>], frames: &mut Frames) -> Option<()> {
        let mut there = Vec::new();
        for entry in entries {
            let [id, fields] = entry.as_array()? else { return None };
            if *fields != Value::Nil {
                there.push(id.as_bytes()?);
            }
        }
        if there.is_empty() {
            self.create(frames);
        }
        frames.chunked(&self.claim(b"0"), &there, &[]);
        Some(())
    }
}

// === impl Claim ===

impl<'a> Claim<'a> {
    fn parse<A: Args + ?Sized>(args: &'a A) -> Option<Self> {
        let words = (5..args.argc()).map_while(|at| args.arg(at));
        let ids: Vec<&[u8]> = words.take_while(|id| parse_id(id).is_some()).collect();
        let mut at = 5 + ids.len();
        let mut claim = Self { ids, options: Vec::new(), last_id: None };
        while let Some(option) = args.arg(at) {
            if args.is(at, "LASTID") {
                claim.last_id = Some(args.arg(at + 1)?);
                at += 2;
            } else if args.is(at, "JUSTID") {
                claim.options.push(option);
                at += 1;
            } else if args.is(at, "FORCE") {
                at += 1;
            } else {
                claim.options.extend_from_slice(&[option, args.arg(at + 1)?]);
                at += 2;
            }
        }
        Some(claim)
    }

    /// LASTID with its id, if it was given.
    fn last_id(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.last_id.into_iter().flat_map(|last_id| [b"LASTID".as_slice(), last_id])
    }
}

// === impl Position ===

impl<'a> Position<'a> {
    /// What XINFO GROUPS says of this group.
    fn find(info: &Value<'a>, group: &[u8]) -> Option<Self> {
        let found = info.as_array()?.iter().find(|one| field(one, b"name") == Some(&Value::Bulk(group)))?;
        let entries_read = match field(found, b"entries-read")? {
            Value::Int(read) => *read,
            // Not known: to servers that is -1.
            _ => -1,
        };
        Some(Self { last_id: field(found, b"last-delivered-id")?.as_bytes()?, entries_read })
    }

    fn set(&self, key: &[u8], group: &[u8], frames: &mut Frames) {
        let read = self.entries_read.to_string();
        frames.command(&[b"XGROUP", b"SETID", key, group, self.last_id, b"ENTRIESREAD", read.as_bytes()]);
    }
}

/// A field of a map, or of an array of fields and values.
pub(in crate::mirror) fn field<'v, 'a>(map: &'v Value<'a>, name: &[u8]) -> Option<&'v Value<'a>> {
    match map {
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| key.as_bytes() == Some(name)).map(|(_, value)| value)
        }
        Value::Array(items) => {
            let mut pairs = items.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.get(1)));
            pairs.find(|(key, _)| key.as_bytes() == Some(name)).map(|(_, value)| value)
        }
        _ => None,
    }
}

/// The entries of each stream in a reply.
fn by_stream<'v, 'a>(reply: &'v Value<'a>) -> Option<Vec<(&'a [u8], &'v [Value<'a>])>> {
    match reply {
        Value::Nil => Some(Vec::new()),
        Value::Map(pairs) => {
            pairs.iter().map(|(key, entries)| Some((key.as_bytes()?, entries.as_array()?))).collect()
        }
        Value::Array(streams) => {
            let pair = |stream: &'v Value<'a>| match stream.as_array()? {
                [key, entries] => Some((key.as_bytes()?, entries.as_array()?)),
                _ => None,
            };
            streams.iter().map(pair).collect()
        }
        _ => None,
    }
}

/// The ids of entries, or ids alone. Old servers have nil for a claimed entry that is gone, which names no id.
fn ids<'a>(entries: &[Value<'a>]) -> Option<Vec<&'a [u8]>> {
    let id = |entry: &Value<'a>| match entry {
        Value::Array(parts) => parts.first()?.as_bytes(),
        id => id.as_bytes(),
    };
    entries.iter().map(id).collect()
}

/// Whether XREADGROUP gives new entries behind this id: `>`, or the greatest id, which servers take for it.
fn is_new(id: &[u8]) -> bool {
    id == b">" || parse_id(id) == Some((u64::MAX, u64::MAX))
}
