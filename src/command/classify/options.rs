//! Options that change what a command is, found the way the servers find them.

use crate::command::Args;

/// What SORT's options say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::command) struct Sort {
    /// The argument that names the destination.
    pub store: Option<usize>,
    /// Whether BY or GET read further keys.
    pub patterns: bool,
    /// Whether BY asks for no order.
    pub unordered: bool,
}

/// SORT key [BY pattern] [LIMIT a b] [GET pattern]… [ASC | DESC] [ALPHA] [STORE key]; the last STORE counts.
pub(in crate::command) fn sort<A: Args + ?Sized>(args: &A) -> Sort {
    let star = |at| args.arg(at).is_some_and(|pattern| memchr::memchr(b'*', pattern).is_some());
    let mut sort = Sort::default();
    let mut at = 2;
    while at < args.argc() {
        let next = at.saturating_add(1);
        let words = if args.is(at, "STORE") && next < args.argc() {
            sort.store = Some(next);
            2
        } else if args.is(at, "BY") {
            sort.patterns |= star(next);
            sort.unordered |= !star(next);
            2
        } else if args.is(at, "GET") {
            sort.patterns |= star(next);
            2
        } else if args.is(at, "LIMIT") {
            3
        } else {
            1
        };
        at = at.saturating_add(words);
    }
    sort
}

/// COPY source destination [DB n] [REPLACE]: the argument that numbers the database.
pub(in crate::command) fn copy_db<A: Args + ?Sized>(args: &A) -> Option<usize> {
    let mut db = None;
    let mut at = 3;
    while at < args.argc() {
        let next = at.saturating_add(1);
        if args.is(at, "DB") && next < args.argc() {
            db = Some(next);
            at = next;
        }
        at = at.saturating_add(1);
    }
    db
}

/// GEORADIUS … [STORE key | STOREDIST key]; the last one counts.
pub(in crate::command) fn geo_store<A: Args + ?Sized>(args: &A) -> Option<usize> {
    let mut store = None;
    let mut at = 5usize;
    while at.saturating_add(1) < args.argc() {
        if args.is(at, "STORE") || args.is(at, "STOREDIST") {
            at = at.saturating_add(1);
            store = Some(at);
        }
        at = at.saturating_add(1);
    }
    store
}

/// Whether a BITFIELD does nothing but GET (and set OVERFLOW, which is about what follows).
pub(in crate::command) fn bitfield_reads<A: Args + ?Sized>(args: &A) -> bool {
    let mut at = 2;
    while at < args.argc() {
        at = at.saturating_add(match () {
            () if args.is(at, "GET") => 3,
            () if args.is(at, "OVERFLOW") => 2,
            () => return false,
        });
    }
    true
}

/// Whether HGETEX key … FIELDS n field… has no option.
pub(in crate::command) fn hgetex_reads<A: Args + ?Sized>(args: &A) -> bool {
    args.is(2, "FIELDS")
        && args.int(3).is_some_and(|fields| i64::try_from(args.argc()) == Ok(fields.saturating_add(4)))
}

/// Whether the options of SET from `at` on leave nothing to what was there: expiry times do, conditions, GET and
/// KEEPTTL don't.
pub(in crate::command) fn overwrites<A: Args + ?Sized>(args: &A, mut at: usize) -> bool {
    let expiry = |at| ["EX", "PX", "EXAT", "PXAT"].iter().any(|token| args.is(at, token));
    while at < args.argc() {
        if !expiry(at) {
            return false;
        }
        at = at.saturating_add(2);
    }
    true
}

/// The same of MSETEX, whose options stand behind its keys and values.
pub(in crate::command) fn msetex_overwrites<A: Args + ?Sized>(args: &A) -> bool {
    let pairs = args.int(1).and_then(|pairs| usize::try_from(pairs).ok());
    let options = pairs.and_then(|pairs| pairs.checked_mul(2)?.checked_add(2));
    options.is_some_and(|options| overwrites(args, options))
}

/// The argument behind BLOCK in XREAD and XREADGROUP; the last BLOCK counts.
pub(in crate::command) fn block<A: Args + ?Sized>(args: &A) -> Option<usize> {
    let mut block = None;
    let mut at = 1;
    while at < args.argc() {
        let words = if args.is(at, "BLOCK") {
            block = Some(at.saturating_add(1)).filter(|&at| at < args.argc());
            2
        } else if args.is(at, "COUNT") || args.is(at, "CLAIM") {
            2
        } else if args.is(at, "GROUP") {
            3
        } else if args.is(at, "NOACK") {
            1
        } else {
            break;
        };
        at = at.saturating_add(words);
    }
    block
}
