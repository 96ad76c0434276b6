//! Members popped, sums of floats.

use super::{Extra, Frames};
use crate::command::Args;
use crate::resp::value::Value;

/// SPOP: the members that it returned leave the other store's set, too.
pub(super) fn spop<A: Args + ?Sized>(args: &A, reply: &Value<'_>, frames: &mut Frames) -> Option<()> {
    let key = args.arg(1)?;
    match reply {
        Value::Nil => {}
        Value::Array(items) | Value::Set(items) => {
            let members: Vec<&[u8]> = items.iter().map(Value::as_bytes).collect::<Option<_>>()?;
            frames.chunked(&[b"SREM", key], &members, &[]);
        }
        one => frames.command(&[b"SREM", key, one.as_bytes()?]),
    }
    Some(())
}

/// INCRBYFLOAT: servers on other processors round otherwise.
pub(super) fn incr_by_float<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    frames: &mut Frames,
) -> Option<()> {
    frames.command(&[b"SET", args.arg(1)?, reply.as_bytes()?, b"KEEPTTL"]);
    Some(())
}

/// HINCRBYFLOAT: a field's own expiry is kept where the other store knows how.
pub(super) fn hash_incr_by_float<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    let (key, field, sum) = (args.arg(1)?, args.arg(2)?, reply.as_bytes()?);
    if extra.dialect.hsetex {
        frames.command(&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1", field, sum]);
    } else {
        frames.command(&[b"HSET", key, field, sum]);
    }
    Some(())
}
