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

/// HINCRBYFLOAT: a field's own expiry is kept where the other store knows how. Where fields expire on both, and HSET
/// would take that away (Redis 7.4), the hash is copied.
pub(super) fn hash_incr_by_float<A: Args + ?Sized>(
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
    frames: &mut Frames,
) -> Option<()> {
    let (key, field, sum) = (args.arg(1)?, args.arg(2)?, reply.as_bytes()?);
    let dialect = extra.dialect;
    if dialect.has_field_expiry && dialect.takes_field_expiry && !dialect.hsetex {
        return None;
    }
    if dialect.hsetex {
        frames.command(&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1", field, sum]);
    } else {
        frames.command(&[b"HSET", key, field, sum]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, Effect, Extra, derive};
    use crate::mirror::Derivation;

    #[test]
    fn a_field_keeps_its_expiry_or_the_hash_is_copied() {
        let args = ["HINCRBYFLOAT", "hash", "field", "0.5"];
        let old = Dialect::default();
        let expiring = Dialect { has_field_expiry: true, takes_field_expiry: true, ..old };
        for (dialect, expected) in [
            (old, Some("HSET")),
            (Dialect { has_field_expiry: true, ..old }, Some("HSET")),
            (Dialect { takes_field_expiry: true, ..old }, Some("HSET")),
            (expiring, None),
            (Dialect { hsetex: true, ..expiring }, Some("HSETEX")),
        ] {
            let extra = Extra { replies: &[], dialect };
            let verb = match derive(Derivation::HIncrByFloat, args.as_slice(), b"$3\r\n1.5\r\n", extra) {
                Effect::Frames { bytes, .. } => Some(String::from_utf8_lossy(&bytes).into_owned()),
                _ => None,
            };
            let verb = verb.as_deref().and_then(|frame| frame.split("\r\n").nth(2));
            assert_eq!(verb, expected, "{dialect:?}");
        }
    }
}
