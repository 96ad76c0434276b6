//! Arguments that leave a choice to the store, found the way the servers find them.

use super::{Derivation, Way};
use crate::command::Args;

/// What XADD's arguments say: `XADD key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [MAXLEN | MINID …] id field value …`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mirror) struct StreamAdd {
    /// NOMKSTREAM was given.
    pub no_make: bool,
    /// How the stream is trimmed.
    pub trim: Trim,
    /// Which argument is the id.
    pub id_at: usize,
    /// Who makes the id.
    pub id: Id,
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::mirror) struct Trim {
    /// As far as the store sees fit.
    pub approximate: bool,
    /// DELREF or ACKED: what consumer groups hold counts.
    pub by_references: bool,
}

/// Who makes an entry's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mirror) enum Id {
    /// The store, wholly or in part.
    Automatic,
    /// The client.
    Given,
    /// It is no id: a syntax error, or an option of a newer server.
    Unknown,
}

// === impl StreamAdd ===

impl StreamAdd {
    /// Reads the arguments. `None`: there is no id.
    pub(in crate::mirror) fn parse<A: Args + ?Sized>(args: &A) -> Option<Self> {
        let mut no_make = false;
        let mut trim = Trim::default();
        let mut at = 2;
        loop {
            let word = args.arg(at)?;
            if args.is(at, "NOMKSTREAM") {
                no_make = true;
                at += 1;
            } else {
                match trim_option(args, at, &mut trim) {
                    0 => return Some(Self { no_make, trim, id_at: at, id: id(word) }),
                    words => at += words,
                }
            }
        }
    }
}

pub(super) fn xadd_way<A: Args + ?Sized>(args: &A) -> Way {
    let Some(add) = StreamAdd::parse(args) else { return Way::Copied };
    match (add.id, add.trim.approximate) {
        (Id::Unknown, _) => Way::Copied,
        (_, true) if add.trim.by_references => Way::Copied,
        (_, true) => Way::Derived(Derivation::XaddApprox),
        (Id::Automatic, false) => Way::Derived(Derivation::XaddAuto),
        (Id::Given, false) => Way::Verbatim,
    }
}

pub(super) fn xtrim_way<A: Args + ?Sized>(args: &A) -> Way {
    let mut trim = Trim::default();
    let mut at = 2;
    while at < args.argc() {
        match trim_option(args, at, &mut trim) {
            0 => return Way::Copied,
            words => at += words,
        }
    }
    match (trim.approximate, trim.by_references) {
        (true, true) => Way::Copied,
        (true, false) => Way::Derived(Derivation::XtrimApprox),
        (false, _) => Way::Verbatim,
    }
}

/// SORT with STORE: a locale, other keys, or an unordered source may decide.
pub(super) fn sort_way<A: Args + ?Sized>(args: &A) -> Way {
    let mut at = 2;
    while at < args.argc() {
        let plain_get = args.is(at, "GET") && args.arg(at + 1) == Some(b"#");
        at += match () {
            () if plain_get || args.is(at, "STORE") => 2,
            () if args.is(at, "LIMIT") => 3,
            () if args.is(at, "ASC") || args.is(at, "DESC") => 1,
            () => return Way::Copied,
        };
    }
    Way::Verbatim
}

/// Members of those names make it a copy, which is never wrong.
pub(super) fn geo_way<A: Args + ?Sized>(args: &A) -> Way {
    let chosen = ["ANY", "STOREDIST"].iter().any(|token| args.position(2, token).is_some());
    if chosen { Way::Copied } else { Way::Verbatim }
}

/// How many words the trimming option at `at` has; 0: there is none.
fn trim_option<A: Args + ?Sized>(args: &A, at: usize, trim: &mut Trim) -> usize {
    if args.is(at, "DELREF") || args.is(at, "ACKED") {
        trim.by_references = true;
        return 1;
    }
    if args.is(at, "KEEPREF") {
        return 1;
    }
    if args.is(at, "LIMIT") {
        return 2;
    }
    if !(args.is(at, "MAXLEN") || args.is(at, "MINID")) {
        return 0;
    }
    match args.arg(at + 1) {
        Some(b"~") => {
            trim.approximate = true;
            3
        }
        Some(b"=") => 3,
        _ => 2,
    }
}

fn id(word: &[u8]) -> Id {
    let number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let (time, sequence) = match memchr::memchr(b'-', word).and_then(|at| word.split_at_checked(at)) {
        Some((time, rest)) => (time, rest.get(1..)),
        None => (word, None),
    };
    match sequence {
        None if time == b"*" => Id::Automatic,
        None if number(time) => Id::Given,
        Some(b"*") if number(time) => Id::Automatic,
        Some(sequence) if number(time) && number(sequence) => Id::Given,
        _ => Id::Unknown,
    }
}

/// An id of a stream's entry as servers read it strictly: `ms` alone means `ms-0`.
pub(in crate::mirror) fn parse_id(text: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?;
    match text.split_once('-') {
        Some((time, sequence)) => Some((number(time)?, number(sequence)?)),
        None => Some((number(text)?, 0)),
    }
}
