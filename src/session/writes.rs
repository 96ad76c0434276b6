//! What the sequencer must know of a write to mirror it. Pure.

use crate::command::{Args, Effect, Kind, Spec};
use crate::sequencer::Scope;
use crate::sequencer::fence::Footprint;

/// What a command does to the keyspace as a whole.
pub fn scope(spec: &Spec, effect: &Effect, footprint: &Footprint, undeclared: bool) -> Scope {
    match (effect.kind, &*spec.name) {
        (Kind::KeyspaceWrite, "flushall") => Scope::FlushAll,
        (Kind::KeyspaceWrite, "flushdb") => Scope::FlushDb,
        (Kind::KeyspaceWrite, "swapdb") => Scope::Swap,
        (Kind::ServerWrite, name) if name.starts_with("function|") => Scope::Functions,
        (Kind::Script, _) if undeclared || *footprint == Footprint::Everything => Scope::Undeclared,
        _ if effect.writes && *footprint == Footprint::Everything => Scope::Unlisted,
        _ => Scope::Keys,
    }
}

/// The wider of two scopes: what a transaction does that contains both.
pub fn wider(a: Scope, b: Scope) -> Scope {
    match (a, b) {
        (Scope::Keys, other) | (other, Scope::Keys) => other,
        (a, b) if a == b => a,
        _ => Scope::Unlisted,
    }
}

/// Does a write set a time to live that counts from the moment at which it runs?
pub fn is_relative<A: Args + ?Sized>(spec: &Spec, args: &A) -> bool {
    let option = |from: usize| ["EX", "PX"].iter().any(|word| args.position(from, word).is_some());
    match &*spec.name {
        "expire" | "pexpire" | "setex" | "psetex" | "hexpire" | "hpexpire" | "eval" | "evalsha" | "fcall" => {
            true
        }
        "set" => args.argc() > 3 && option(3),
        "getex" | "hgetex" | "hsetex" | "msetex" => option(2),
        "restore" => args.int(2) != Some(0) && args.position(4, "ABSTTL").is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Table;

    #[test]
    fn relative_times_are_recognised() {
        let table = Table::builtin();
        for (line, expected) in [
            ("SET a b", false),
            ("SET a b EX 10", true),
            ("SET a b NX px 10", true),
            ("SET a b EXAT 10", false),
            ("EXPIRE a 10", true),
            ("EXPIREAT a 10", false),
            ("RESTORE a 0 x", false),
            ("RESTORE a 5 x", true),
            ("RESTORE a 5 x ABSTTL", false),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let id = table.find(words.as_slice()).expect("a known command");
            assert_eq!(is_relative(table.spec(id), words.as_slice()), expected, "{line}");
        }
    }
}
