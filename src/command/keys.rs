//! Which keys a request names, and what it does to each.

// How many keys there are, the client says, and a store where they stand: nothing may wrap.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use super::classify::options;
use super::{Args, Begin, CommandFlags, Find, KeyFlags, KeySpec, Kind, LoneKey, Shape, Spec};

/// What a command does to one of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads it.
    Read,
    /// Changes it and adds nothing: pops, removals from within, group state. May leave it empty, thus removed.
    Reduce,
    /// Changes it; what it was before matters, if only to whether anything happens.
    Modify,
    /// Does what it likes with it: scripts.
    Any,
    /// Replaces it, whatever it was.
    Overwrite,
    /// Removes it, whatever it was.
    Remove,
    /// Removes it and hands its value on: GETDEL, the source of RENAME.
    Take,
}

/// One key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which argument it is.
    pub arg: u32,
    /// What the command does to it.
    pub access: Access,
    /// It lies in the database that [`other_db`] tells, not in the connection's.
    pub other_db: bool,
}

/// The keys of one request: a buffer to be used again. As long as a request has words at most.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    list: Vec<Key>,
    unlisted: bool,
}

/// Why the keys cannot be told. The store will refuse such a request, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The number of keys is no number, or negative.
    #[error("the number of keys is not a number")]
    NotANumber,
    /// There are fewer words than the keys need.
    #[error("keys are missing")]
    Missing,
}

/// Databases that a request touches beside the connection's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherDb {
    /// MOVE, COPY … DB.
    One(i64),
    /// SWAPDB.
    Two(i64, i64),
    /// FLUSHALL.
    All,
}

// === impl Access ===

impl Access {
    /// Whether the key may be changed.
    #[inline]
    pub fn writes(self) -> bool {
        self != Self::Read
    }

    /// Whether the outcome for the data depends on what the key held: it must be in sync beforehand.
    #[inline]
    pub fn depends(self) -> bool {
        !matches!(self, Self::Overwrite | Self::Remove)
    }

    /// Whether the key is known afterwards without having been known before. (What it now holds may come from
    /// keys that the command [depends](Self::depends) on.)
    #[inline]
    pub fn settles(self) -> bool {
        matches!(self, Self::Overwrite | Self::Remove | Self::Take)
    }

    /// Whether the key may be gone afterwards, as such commands mean it.
    #[inline]
    pub fn may_remove(self) -> bool {
        matches!(self, Self::Any | Self::Reduce | Self::Remove | Self::Take)
    }

    /// Whether the key may hold more afterwards, so that whoever waits for it should look.
    #[inline]
    pub fn fills(self) -> bool {
        matches!(self, Self::Any | Self::Modify | Self::Overwrite)
    }

    /// What the flags of a key specification mean.
    fn of(flags: KeyFlags) -> Self {
        let conditional = flags.has(KeyFlags::INSERT);
        match () {
            () if flags.has(KeyFlags::OW) && !conditional => Self::Overwrite,
            () if flags.has(KeyFlags::OW) => Self::Modify,
            () if flags.has(KeyFlags::RM) && !flags.has(KeyFlags::ACCESS) => Self::Remove,
            () if flags.has(KeyFlags::RM) => Self::Reduce,
            () if flags.has(KeyFlags::RW) && flags.has(KeyFlags::INSERT.with(KeyFlags::UPDATE)) => {
                Self::Modify
            }
            () if flags.has(KeyFlags::RW) => Self::Reduce,
            () if flags.has(KeyFlags::RO) => Self::Read,
            // A module that says nothing.
            () => Self::Modify,
        }
    }
}

// === impl Keys ===

impl Keys {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// The keys in the order of the command's specification, duplicates included.
    #[inline]
    pub fn as_slice(&self) -> &[Key] {
        &self.list
    }

    /// The keys.
    pub fn iter(&self) -> std::slice::Iter<'_, Key> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the command touches keys beside these, that only the store knows: SORT BY and GET, modules.
    #[inline]
    pub fn unlisted(&self) -> bool {
        self.unlisted
    }

    /// Whether any key is written.
    pub fn any_written(&self) -> bool {
        self.list.iter().any(|key| key.access.writes())
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.list.clear();
        self.unlisted = false;
    }
}

impl<'a> IntoIterator for &'a Keys {
    type Item = &'a Key;
    type IntoIter = std::slice::Iter<'a, Key>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The only key of a command with these specifications, if every request has it at the same place.
pub(super) fn always_lone(keys: &[KeySpec], shape: Shape) -> Option<LoneKey> {
    if matches!(shape, Shape::Sort | Shape::GeoRadius | Shape::Migrate | Shape::Move) {
        return None;
    }
    match keys {
        [KeySpec { flags, begin: Begin::Index(arg), find: Find::Range { last: 0, .. } }]
            if !flags.has(KeyFlags::NOT_KEY) =>
        {
            Some(LoneKey { arg: *arg, access: Access::of(*flags) })
        }
        _ => None,
    }
}

/// The only key of a request, if its command always has one at the same place.
#[inline]
pub fn lone_key<A: Args + ?Sized>(spec: &Spec, args: &A) -> Option<Key> {
    let LoneKey { arg, access } = spec.lone_key.filter(|key| usize::from(key.arg) < args.argc())?;
    Some(Key { arg: u32::from(arg), access: softened(spec, access, args), other_db: false })
}

/// Puts the keys of a request into `out`, which is emptied first. After an error `out` is empty.
pub fn keys<A: Args + ?Sized>(spec: &Spec, args: &A, out: &mut Keys) -> Result<(), KeysError> {
    out.clear();
    if spec.lone_key.is_some() {
        out.list.push(lone_key(spec, args).ok_or(KeysError::Missing)?);
        return Ok(());
    }
    let list = &mut out.list;
    match walk(spec, args, &mut |key| list.push(key)) {
        Ok(unlisted) => out.unlisted = unlisted,
        Err(error) => {
            out.clear();
            return Err(error);
        }
    }
    Ok(())
}

/// The first key of a request, without looking for the others.
#[inline]
pub fn first_key<'a, A: Args + ?Sized>(spec: &Spec, args: &'a A) -> Option<&'a [u8]> {
    if spec.shape == Shape::Migrate && args.arg(3) == Some(b"") {
        return run(spec.keys.last()?, args).ok()??.next().and_then(|at| args.arg(at));
    }
    let spec = spec.keys.iter().find(|key| !key.flags.has(KeyFlags::NOT_KEY))?;
    if let (Begin::Index(at), Find::Range { .. }) = (spec.begin, spec.find) {
        return args.arg(at as usize);
    }
    run(spec, args).ok()??.next().and_then(|at| args.arg(at))
}

/// The databases that a request touches beside the connection's own. What the store cannot read is `None`.
pub fn other_db<A: Args + ?Sized>(spec: &Spec, args: &A) -> Option<OtherDb> {
    match spec.shape {
        Shape::Move => args.int(2).map(OtherDb::One),
        Shape::Copy => options::copy_db(args).and_then(|at| args.int(at)).map(OtherDb::One),
        Shape::SwapDb => Some(OtherDb::Two(args.int(1)?, args.int(2)?)),
        Shape::FlushAll => Some(OtherDb::All),
        _ => None,
    }
}

/// Calls `each` for every key and says whether there are keys beside them.
pub(super) fn walk<A: Args + ?Sized>(
    spec: &Spec,
    args: &A,
    each: &mut impl FnMut(Key),
) -> Result<bool, KeysError> {
    match spec.shape {
        Shape::Sort => return sort(spec, args, each),
        Shape::GeoRadius => return geo_radius(args, each),
        Shape::Migrate => return migrate(spec, args, each),
        _ => {}
    }
    let (mut unlisted, mut first) = (false, None);
    for key_spec in spec.keys.iter().filter(|key| !key.flags.has(KeyFlags::NOT_KEY)) {
        let found = match run(key_spec, args) {
            // PFMERGE without a source.
            Err(KeysError::Missing)
                if first.is_some() && spec.arity_ok(args.argc()) && begins_at_the_end(key_spec, args) =>
            {
                continue;
            }
            found => found?,
        };
        let Some(run) = found else {
            unlisted |= key_spec.begin == Begin::Unknown || key_spec.find == Find::Unknown;
            continue;
        };
        first.get_or_insert(run.first);
        let access = softened(spec, Access::of(key_spec.flags), args);
        let other_db = spec.shape == Shape::Copy && run.first == 2 && options::copy_db(args).is_some();
        for arg in run {
            each(Key { arg: arg as u32, access, other_db });
        }
    }
    if spec.shape == Shape::Move {
        each(Key { arg: 1, access: Access::Modify, other_db: true });
    }
    Ok(unlisted)
}

/// Would its keys begin where the request ends?
fn begins_at_the_end<A: Args + ?Sized>(spec: &KeySpec, args: &A) -> bool {
    matches!(spec.begin, Begin::Index(at) if at as usize == args.argc())
}

/// What the arguments make of an access that the specification tells.
#[inline]
fn softened<A: Args + ?Sized>(spec: &Spec, access: Access, args: &A) -> Access {
    match (spec.shape, access) {
        (Shape::Set, _) if options::overwrites(args, 3) => Access::Overwrite,
        (Shape::MSetEx, _) if !options::msetex_overwrites(args) => Access::Modify,
        (Shape::Restore, _) if args.position(4, "REPLACE").is_none() => Access::Modify,
        // Even with REPLACE: where there is nothing to copy, the target stays what it was.
        (Shape::Copy, Access::Overwrite) => Access::Modify,
        (Shape::Bitfield, _) if options::bitfield_reads(args) => Access::Read,
        (Shape::GetEx, _) if args.argc() == 2 => Access::Read,
        (Shape::HGetEx, _) if options::hgetex_reads(args) => Access::Read,
        (Shape::PfCount, _) if args.argc() > 2 => Access::Read,
        (Shape::XReadGroup | Shape::Move, _) => Access::Reduce,
        (Shape::GetDel, _) | (Shape::Rename, Access::Reduce) => Access::Take,
        (_, Access::Modify | Access::Reduce) if spec.kind == Kind::Script => Access::Any,
        _ if spec.kind == Kind::Read || spec.kind == Kind::ScriptRead => Access::Read,
        _ => access,
    }
}

fn sort<A: Args + ?Sized>(spec: &Spec, args: &A, each: &mut impl FnMut(Key)) -> Result<bool, KeysError> {
    if args.argc() < 2 {
        return Err(KeysError::Missing);
    }
    let options = options::sort(args);
    each(Key { arg: 1, access: Access::Read, other_db: false });
    if let Some(store) = options.store.filter(|_| spec.flags.has(CommandFlags::WRITE)) {
        each(Key { arg: store as u32, access: Access::Overwrite, other_db: false });
    }
    Ok(options.patterns)
}

fn geo_radius<A: Args + ?Sized>(args: &A, each: &mut impl FnMut(Key)) -> Result<bool, KeysError> {
    if args.argc() < 2 {
        return Err(KeysError::Missing);
    }
    each(Key { arg: 1, access: Access::Read, other_db: false });
    if let Some(store) = options::geo_store(args) {
        each(Key { arg: store as u32, access: Access::Overwrite, other_db: false });
    }
    Ok(false)
}

fn migrate<A: Args + ?Sized>(spec: &Spec, args: &A, each: &mut impl FnMut(Key)) -> Result<bool, KeysError> {
    let single = args.arg(3).is_some_and(|key| !key.is_empty());
    let spec = if single { spec.keys.first() } else { spec.keys.last() };
    for arg in spec.map_or(Ok(None), |spec| run(spec, args))?.into_iter().flatten() {
        each(Key { arg: arg as u32, access: Access::Reduce, other_db: false });
    }
    Ok(false)
}

/// Keys at equal distances; all of them lie within the request.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: usize,
    count: usize,
    step: usize,
}

impl Iterator for Run {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.count = self.count.checked_sub(1)?;
        let at = self.first;
        self.first = at.saturating_add(self.step);
        Some(at)
    }
}

/// The keys of one specification. `None`: it doesn't apply, or only the store could tell.
fn run<A: Args + ?Sized>(spec: &KeySpec, args: &A) -> Result<Option<Run>, KeysError> {
    let begin = match spec.begin {
        Begin::Index(at) => at as usize,
        Begin::Keyword { word, from } => match behind_keyword(word.as_bytes(), from, args) {
            Some(at) => at,
            None => return Ok(None),
        },
        Begin::Unknown => return Ok(None),
    };
    match spec.find {
        Find::Range { last, step, limit } => range(begin, last, step, limit, args.argc()).map(Some),
        Find::KeyNum { number, first, step } => counted(begin, number, first, step, args).map(Some),
        Find::Unknown => Ok(None),
    }
}

/// Where the word behind a keyword stands. The keyword itself is never the last word.
fn behind_keyword<A: Args + ?Sized>(keyword: &[u8], from: i16, args: &A) -> Option<usize> {
    let is_keyword = |&at: &usize| args.arg(at).is_some_and(|arg| arg.eq_ignore_ascii_case(keyword));
    let end = args.argc().checked_sub(1)?;
    let found = match usize::try_from(from) {
        Ok(from) => (from..end).find(is_keyword),
        Err(_) => {
            let from = args.argc().checked_sub(from.unsigned_abs() as usize)?;
            (1..=from.min(end.checked_sub(1)?)).rev().find(is_keyword)
        }
    };
    found.map(|at| at.saturating_add(1))
}

fn range(first: usize, last: i16, step: u16, limit: u16, argc: usize) -> Result<Run, KeysError> {
    let step = step.max(1) as usize;
    let back = last.unsigned_abs() as usize;
    let last = match (last >= 0, limit) {
        (true, _) => first.checked_add(back),
        (false, 0 | 1) => argc.checked_sub(back),
        (false, limit) => {
            let part = argc.saturating_sub(first).checked_div(limit as usize);
            part.and_then(|part| first.checked_add(part)?.checked_sub(back))
        }
    };
    match last {
        Some(last) if first <= last && last < argc => {
            let count = last.saturating_sub(first).saturating_add(1).div_ceil(step);
            Ok(Run { first, count, step })
        }
        _ => Err(KeysError::Missing),
    }
}

fn counted<A: Args + ?Sized>(
    begin: usize,
    number: u16,
    first: u16,
    step: u16,
    args: &A,
) -> Result<Run, KeysError> {
    let number = begin.saturating_add(number as usize);
    if number >= args.argc() {
        return Err(KeysError::Missing);
    }
    let count =
        args.int(number).and_then(|count| usize::try_from(count).ok()).ok_or(KeysError::NotANumber)?;
    let (first, step) = (begin.saturating_add(first as usize), step.max(1) as usize);
    let room = args.argc().saturating_sub(first).div_ceil(step);
    if count > room { Err(KeysError::Missing) } else { Ok(Run { first, count, step }) }
}

#[cfg(test)]
mod tests;
