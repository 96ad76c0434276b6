//! What one request does, its arguments considered.

// Options are found by counting words that a client has sent: nothing may wrap.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use super::keys::walk;
use super::{Args, CommandFlags, Keys, Kind, Miss, Rule, Shape, Spec};

pub(super) mod options;

/// What one request does to a store, and what its reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The kind, with arguments considered: SORT without STORE is a read, XREAD without BLOCK doesn't wait.
    pub kind: Kind,
    /// Whether data may change: writes, scripts that may write, blocking pops.
    pub writes: bool,
    /// Whether the server may keep the client waiting.
    pub blocks: bool,
    /// Which reply is a miss.
    pub miss: Miss,
    /// How two replies are compared.
    pub rule: Rule,
}

/// Where a request says how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// Which argument.
    pub arg: usize,
    /// How the argument is to be read.
    pub unit: TimeoutUnit,
}

/// How a timeout is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutUnit {
    /// Seconds, with a fraction.
    Seconds,
    /// Whole milliseconds.
    Millis,
}

/// What this request does.
#[inline]
pub fn classify<A: Args + ?Sized>(spec: &Spec, args: &A) -> Effect {
    if matches!(spec.shape, Shape::Plain | Shape::Set) {
        return effect(spec, spec.kind, spec.miss, spec.rule);
    }
    shaped(spec, args)
}

/// Whether every key that this write touches is known afterwards without having been known before: SET without
/// a condition, DEL, the destination of SUNIONSTORE. What a destination then holds comes from keys that must be in
/// sync themselves; [`Access::depends`](super::Access::depends) tells which.
pub fn sets_whole_value<A: Args + ?Sized>(spec: &Spec, args: &A) -> bool {
    if matches!(spec.shape, Shape::FlushAll | Shape::FlushDb) {
        return true;
    }
    let (mut writes, mut settles) = (false, true);
    let listed = walk(spec, args, &mut |key| {
        writes |= key.access.writes();
        settles &= key.access.settles() || !key.access.writes();
    });
    listed.is_ok() && writes && settles
}

/// Whether a request with these keys may put something where others wait for it: a list, a sorted set, a stream.
pub fn can_fill(spec: &Spec, keys: &Keys) -> bool {
    if matches!(spec.kind, Kind::Script) || spec.shape == Shape::SwapDb {
        return true;
    }
    // What SORT reads by patterns is not listed, but what it writes is.
    keys.iter().any(|key| key.access.fills())
        || (keys.unlisted() && spec.shape == Shape::Plain && spec.flags.has(CommandFlags::WRITE))
}

/// Where this request says how long it waits, if it does.
pub fn timeout<A: Args + ?Sized>(spec: &Spec, args: &A) -> Option<Timeout> {
    let last = args.argc().checked_sub(1)?;
    let (arg, unit) = match spec.shape {
        Shape::TimeoutLast => (last, TimeoutUnit::Seconds),
        Shape::TimeoutFirst => (1, TimeoutUnit::Seconds),
        Shape::Wait => (last, TimeoutUnit::Millis),
        Shape::XRead | Shape::XReadGroup => (options::block(args)?, TimeoutUnit::Millis),
        _ => return None,
    };
    Some(Timeout { arg, unit })
}

#[inline]
fn effect(spec: &Spec, kind: Kind, miss: Miss, rule: Rule) -> Effect {
    let writes = match kind {
        Kind::Write | Kind::KeyspaceWrite | Kind::ServerWrite | Kind::Script => true,
        Kind::Blocking | Kind::Dangerous => spec.flags.has(CommandFlags::WRITE),
        _ => false,
    };
    let miss = if writes { Miss::Never } else { miss };
    Effect { kind, writes, blocks: kind == Kind::Blocking, miss, rule }
}

fn shaped<A: Args + ?Sized>(spec: &Spec, args: &A) -> Effect {
    let (kind, miss, rule) = (spec.kind, spec.miss, spec.rule);
    let as_read = |reads: bool| if reads { Kind::Read } else { Kind::Write };
    match spec.shape {
        Shape::Sort => sort(spec, args),
        Shape::GeoRadius if options::geo_store(args).is_some() => {
            effect(spec, Kind::Write, miss, Rule::Exact)
        }
        Shape::GeoRadius => effect(spec, Kind::Read, miss, with_scores(args)),
        Shape::WithScores => effect(spec, kind, miss, with_scores(args)),
        Shape::Bitfield => effect(spec, as_read(options::bitfield_reads(args)), miss, rule),
        Shape::GetEx => effect(spec, as_read(args.argc() == 2), miss, rule),
        Shape::HGetEx => effect(spec, as_read(options::hgetex_reads(args)), miss, rule),
        Shape::PfCount if args.argc() > 2 => effect(spec, Kind::Read, Miss::Never, rule),
        Shape::SeveralKeys if args.argc() > 2 => effect(spec, kind, Miss::Never, rule),
        Shape::XRead => xread(spec, args),
        Shape::XReadGroup if options::block(args).is_none() => effect(spec, Kind::Write, miss, rule),
        Shape::Scan if args.arg(2) != Some(b"0") => effect(spec, kind, Miss::Never, rule),
        Shape::ZAdd if args.position(2, "INCR").is_some() => effect(spec, kind, miss, Rule::Numbers),
        Shape::XPending if args.argc() > 3 => effect(spec, kind, miss, Rule::Ignore),
        _ => effect(spec, kind, miss, rule),
    }
}

fn sort<A: Args + ?Sized>(spec: &Spec, args: &A) -> Effect {
    let options = options::sort(args);
    if options.store.is_some() && spec.flags.has(CommandFlags::WRITE) {
        return effect(spec, Kind::Write, Miss::Never, Rule::Exact);
    }
    let miss = if options.patterns { Miss::Never } else { spec.miss };
    let rule = if options.unordered { Rule::Multiset } else { Rule::Exact };
    effect(spec, Kind::Read, miss, rule)
}

fn xread<A: Args + ?Sized>(spec: &Spec, args: &A) -> Effect {
    let kind = if options::block(args).is_some() { Kind::Blocking } else { Kind::Read };
    // STREAMS, one key, one id.
    let one = args.argc().checked_sub(3).is_some_and(|at| args.is(at, "STREAMS"));
    effect(spec, kind, if one { spec.miss } else { Miss::Never }, spec.rule)
}

/// Numbers are in the reply only if asked for. (A member of such a name makes the comparison milder, no more.)
fn with_scores<A: Args + ?Sized>(args: &A) -> Rule {
    let asks = |arg: &[u8]| {
        arg.len() >= 8 && arg.first_chunk::<4>().is_some_and(|start| start.eq_ignore_ascii_case(b"with"))
    };
    let any = (2..args.argc()).any(|at| args.arg(at).is_some_and(asks));
    if any { Rule::Numbers } else { Rule::Exact }
}

#[cfg(test)]
mod tests;
