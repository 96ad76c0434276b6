use super::Access::{Any, Modify, Overwrite, Read, Reduce, Remove, Take};
use super::*;
use crate::command::Table;

/// The keys of a request as `access key`, those of another database with a bang, unlisted ones as a star.
fn of(request: &str) -> Result<String, KeysError> {
    let table = Table::builtin();
    let words: Vec<&str> = request.split(' ').collect();
    let spec = table.spec(table.find(&words[..]).unwrap_or_else(|| panic!("{request}")));
    let mut out = Keys::new();
    keys(spec, &words[..], &mut out)?;
    let first = out.iter().find(|key| !key.other_db).map(|key| words[key.arg as usize].as_bytes());
    assert_eq!(first_key(spec, &words[..]), first, "{request}");
    let mut text: Vec<String> = out
        .iter()
        .map(|key| {
            let access = match key.access {
                Read => "r",
                Reduce => "reduce",
                Modify => "w",
                Any => "any",
                Overwrite => "over",
                Remove => "rm",
                Take => "take",
            };
            format!("{access} {}{}", words[key.arg as usize], if key.other_db { "!" } else { "" })
        })
        .collect();
    text.extend(out.unlisted().then(|| "*".into()));
    Ok(text.join(", "))
}

#[test]
fn keys_and_what_happens_to_them() {
    for (request, expected) in [
        ("ping", ""),
        ("get a", "r a"),
        ("object freq a", "r a"),
        ("memory usage a samples 5", "r a"),
        ("mget a b c", "r a, r b, r c"),
        ("mset a 1 b 2", "over a, over b"),
        ("msetnx a 1 b 2", "w a, w b"),
        ("msetex 2 a 1 b 2 ex 5", "over a, over b"),
        ("msetex 2 a 1 b 2 xx", "w a, w b"),
        ("set a 1", "over a"),
        ("set a 1 px 5", "over a"),
        ("set a 1 nx", "w a"),
        ("setnx a 1", "w a"),
        ("incr a", "w a"),
        ("getex a", "r a"),
        ("getex a ex 5", "w a"),
        ("getdel a", "take a"),
        ("del a b", "rm a, rm b"),
        ("delifeq a x", "reduce a"),
        ("rename a b", "take a, over b"),
        ("renamenx a b", "reduce a, w b"),
        ("copy a b", "r a, w b"),
        ("copy a b replace", "r a, w b"),
        ("copy a b db 3 replace", "r a, w b!"),
        ("move a 3", "reduce a, w a!"),
        ("restore a 0 x", "w a"),
        ("restore a 0 x absttl replace", "over a"),
        ("lpop a", "reduce a"),
        ("lmove a b left left", "reduce a, w b"),
        ("smove a b x", "reduce a, w b"),
        ("blpop a b 0", "reduce a, reduce b"),
        ("lmpop 2 a b left", "reduce a, reduce b"),
        ("blmpop 0 2 a b left", "reduce a, reduce b"),
        ("zunion 2 a b withscores", "r a, r b"),
        ("zinterstore d 2 a b weights 1 2", "over d, r a, r b"),
        ("bitop and d a b", "over d, r a, r b"),
        ("pfcount a", "reduce a"),
        ("pfcount a b", "r a, r b"),
        ("pfmerge d a b", "w d, r a, r b"),
        ("pfmerge d", "w d"),
        ("bitfield a get u8 0", "r a"),
        ("bitfield a set u8 0 1", "w a"),
        ("sort a", "r a"),
        ("sort a by nosort", "r a"),
        ("sort a by w_*", "r a, *"),
        ("sort a get # get v_*->f", "r a, *"),
        ("sort a by store store d limit 0 store asc", "r a, over d"),
        ("sort a store d store e", "r a, over e"),
        ("sort_ro a by w_* store d", "r a, *"),
        ("georadius a 1 2 3 m", "r a"),
        ("georadius a 1 2 3 m store d", "r a, over d"),
        ("georadius a 1 2 3 m storedist d count 1 store e", "r a, over e"),
        ("georadiusbymember a store 3 m", "r a"),
        ("georadiusbymember a x 3 m store d", "r a, over d"),
        ("geosearchstore d a fromlonlat 1 2 byradius 3 m storedist", "over d, r a"),
        ("eval x 2 a b c", "any a, any b"),
        ("eval x 0", ""),
        ("eval_ro x 1 a b", "r a"),
        ("fcall f 1 a b", "any a"),
        ("xread streams a b 0 0", "r a, r b"),
        ("xread count 5 block 0 streams a $", "r a"),
        ("xreadgroup group streams c count 1 streams a >", "reduce a"),
        ("xgroup create a g 0", "w a"),
        ("xinfo stream a", "r a"),
        ("migrate h 1 a 0 1 copy", "reduce a"),
        ("migrate h 1  0 1 keys a b", "reduce a, reduce b"),
        ("watch a b", "r a, r b"),
        ("publish c m", ""),
        ("spublish c m", ""),
        ("ssubscribe c d", ""),
        ("hexpire h 5 fields 1 f", "w h"),
        ("hgetex h fields 1 f", "r h"),
        ("hgetdel h fields 1 f", "reduce h"),
        ("flushall", ""),
    ] {
        assert_eq!(of(request).as_deref(), Ok(expected), "{request}");
    }
}

#[test]
fn key_lists_that_cannot_be_told() {
    use KeysError::{Missing, NotANumber};
    for (request, error) in [
        ("get", Missing),
        ("mget", Missing),
        ("blpop a", Missing),
        ("eval x", Missing),
        ("eval x 3 a b", Missing),
        ("eval x 9223372036854775807 a b", Missing),
        ("eval x -1 a", NotANumber),
        ("eval x two a", NotANumber),
        ("eval x +1 a", NotANumber),
        ("zunionstore d 2 a", Missing),
    ] {
        assert_eq!(of_error(request), error, "{request}");
    }
}

fn of_error(request: &str) -> KeysError {
    let table = Table::builtin();
    let words: Vec<&str> = request.split(' ').collect();
    let mut out = Keys::new();
    let error = keys(table.spec(table.find(&words[..]).unwrap()), &words[..], &mut out).unwrap_err();
    assert!(out.is_empty());
    error
}

#[test]
fn other_databases() {
    let table = Table::builtin();
    let of = |request: &str| {
        let words: Vec<&str> = request.split(' ').collect();
        other_db(table.spec(table.find(&words[..]).unwrap()), &words[..])
    };
    assert_eq!(of("copy a b"), None);
    assert_eq!(of("copy a b replace db 3"), Some(OtherDb::One(3)));
    assert_eq!(of("copy a b db"), None);
    assert_eq!(of("move a 3"), Some(OtherDb::One(3)));
    assert_eq!(of("move a x"), None);
    assert_eq!(of("swapdb 1 2"), Some(OtherDb::Two(1, 2)));
    assert_eq!(of("flushall"), Some(OtherDb::All));
    assert_eq!(of("flushdb"), None);
}
