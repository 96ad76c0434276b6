//! Entries added and trimmed.

use super::{Extra, Frames};
use crate::command::Args;
use crate::mirror::choose::StreamAdd;
use crate::resp::value::Value;

/// XADD with an automatic id: the id that was made takes its place, everything else stays.
pub(super) fn add<A: Args + ?Sized>(args: &A, reply: &Value<'_>, frames: &mut Frames) -> Option<()> {
    if *reply == Value::Nil {
        return Some(());
    }
    let id_at = StreamAdd::parse(args)?.id_at;
    let mut words = words(args, 0, args.argc())?;
    *words.get_mut(id_at)? = reply.as_bytes()?;
    frames.command(&words);
    Some(())
}

/// XADD with approximate trimming: trims exactly to the length that the default store's stream has now.
pub(super) fn add_trimming<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    if *reply == Value::Nil {
        return Some(());
    }
    let length = length(extra.replies.first()?)?;
    add_untrimmed(args, reply, &[b"MAXLEN", b"=", length.as_bytes()], frames)
}

/// XADD with these options instead of those that it has.
pub(in crate::mirror) fn add_untrimmed<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    options: &[&[u8]],
    frames: &mut Frames,
) -> Option<()> {
    let fields_at = StreamAdd::parse(args)?.id_at + 1;
    let fields = words(args, fields_at, args.argc())?;
    let mut head: Vec<&[u8]> = vec![b"XADD", args.arg(1)?];
    head.extend_from_slice(options);
    head.push(reply.as_bytes()?);
    frames.joined(&head, &fields, &[]);
    Some(())
}

/// XTRIM with `~`.
pub(super) fn trim<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    if *reply == Value::Int(0) {
        return Some(());
    }
    let length = length(extra.replies.first()?)?;
    trim_to(args.arg(1)?, &length, frames);
    Some(())
}

/// XTRIM to this length.
pub(in crate::mirror) fn trim_to(key: &[u8], length: &str, frames: &mut Frames) {
    frames.command(&[b"XTRIM", key, b"MAXLEN", b"=", length.as_bytes()]);
}

/// What XLEN answered.
pub(in crate::mirror) fn length(reply: &[u8]) -> Option<String> {
    match Value::parse(reply).ok()? {
        Value::Int(length) if length >= 0 => Some(length.to_string()),
        _ => None,
    }
}

fn words<A: Args + ?Sized>(args: &A, from: usize, to: usize) -> Option<Vec<&[u8]>> {
    (from..to).map(|at| args.arg(at)).collect()
}
