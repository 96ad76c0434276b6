//! What the sequencer must know of a write to mirror it. Pure.

use crate::command::{Args, Effect, Kind, Spec};
use crate::sequencer::fence::Footprint;
use crate::sequencer::scripts::ScriptWay;
use crate::sequencer::{Expiry, Scope};

/// What a command does to the keyspace as a whole.
#[inline]
pub fn scope(spec: &Spec, effect: &Effect, footprint: &Footprint, told: ScriptWay) -> Scope {
    match (effect.kind, &*spec.name) {
        (Kind::KeyspaceWrite, "flushall") => Scope::FlushAll,
        (Kind::KeyspaceWrite, "flushdb") => Scope::FlushDb,
        (Kind::KeyspaceWrite, "swapdb") => Scope::Swap,
        (Kind::ServerWrite, name) if name.starts_with("function|") => Scope::Functions,
        (Kind::Script, _) if told.leaves_database => Scope::Anywhere,
        (Kind::Script, _) if told.undeclared || *footprint == Footprint::Everything => Scope::Undeclared,
        _ if effect.writes && *footprint == Footprint::Everything => Scope::Unlisted,
        _ => Scope::Keys,
    }
}

/// The wider of two scopes: what a transaction does that contains both.
pub fn wider(a: Scope, b: Scope) -> Scope {
    match (a, b) {
        (Scope::Keys, other) | (other, Scope::Keys) => other,
        (Scope::Anywhere, _) | (_, Scope::Anywhere) => Scope::Anywhere,
        (a, b) if a == b => a,
        _ => Scope::Unlisted,
    }
}

/// What a write makes of its keys' times to live. `told`: of a script, what its source says.
pub fn expiry<A: Args + ?Sized>(spec: &Spec, args: &A, told: ScriptWay) -> Expiry {
    match &*spec.name {
        "expire" | "setex" => life(args, 2, SECOND),
        "pexpire" | "psetex" => life(args, 2, MILLI),
        "set" if args.argc() > 3 => option(args, 3),
        "getex" => option(args, 2),
        "expireat" | "pexpireat" => Expiry::At,
        "restore" if args.int(2) == Some(0) => Expiry::Keeps,
        "restore" if args.position(4, "ABSTTL").is_some() => Expiry::At,
        "restore" => life(args, 2, MILLI),
        "rename" | "renamenx" | "copy" => Expiry::Carried,
        "msetex" => Expiry::Untold,
        "hexpire" | "hpexpire" | "hexpireat" | "hpexpireat" => Expiry::Fields,
        "hgetex" | "hsetex"
            if ["EX", "PX", "EXAT", "PXAT"].iter().any(|word| args.position(2, word).is_some()) =>
        {
            Expiry::Fields
        }
        "eval" | "evalsha" if !told.ends => Expiry::Keeps,
        "eval" | "evalsha" | "fcall" => Expiry::Untold,
        _ => Expiry::Keeps,
    }
}

const SECOND: u64 = 1_000_000;
const MILLI: u64 = 1_000;

/// EX, PX, EXAT, PXAT, as SET and GETEX take them.
fn option<A: Args + ?Sized>(args: &A, from: usize) -> Expiry {
    for (word, unit) in [("EX", SECOND), ("PX", MILLI)] {
        if let Some(at) = args.position(from, word) {
            return life(args, at + 1, unit);
        }
    }
    let absolute = ["EXAT", "PXAT"].iter().any(|word| args.position(from, word).is_some());
    if absolute { Expiry::At } else { Expiry::Keeps }
}

/// What is no number is refused; what is negative ends the key at once.
fn life<A: Args + ?Sized>(args: &A, at: usize, unit: u64) -> Expiry {
    args.int(at)
        .map_or(Expiry::Untold, |life| Expiry::In(u64::try_from(life).unwrap_or(0).saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Table;

    #[test]
    fn what_commands_make_of_times_to_live() {
        use Expiry::{At, Carried, In, Keeps};
        let table = Table::builtin();
        for (line, expected) in [
            ("SET a b", Keeps),
            ("SET a b EX 10", In(10_000_000)),
            ("SET a b NX px 10", In(10_000)),
            ("SET a b EXAT 10", At),
            ("SET a b KEEPTTL", Keeps),
            ("SETEX a 3 b", In(3_000_000)),
            ("GETEX a PX 7", In(7_000)),
            ("GETEX a PERSIST", Keeps),
            ("EXPIRE a 10", In(10_000_000)),
            ("EXPIRE a -1", In(0)),
            ("EXPIREAT a 10", At),
            ("RESTORE a 0 x", Keeps),
            ("RESTORE a 5 x", In(5_000)),
            ("RESTORE a 5 x ABSTTL", At),
            ("RENAME a b", Carried),
            ("INCR a", Keeps),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let id = table.find(words.as_slice()).expect("a known command");
            assert_eq!(expiry(table.spec(id), words.as_slice(), ScriptWay::UNKNOWN), expected, "{line}");
        }
    }
}
