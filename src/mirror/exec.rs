//! A transaction as a whole.
//!
//! The other store gets MULTI, the effects of the commands, and EXEC. What the default store's EXEC did not do, the
//! other store does not get. What cannot be told from the replies is copied by key afterwards, and so is everything
//! that a later command of the transaction made of such a key.

use std::collections::HashSet;

use super::effects::{Dialect, Effect, Extra, Frames, derive_value};
use super::{Derivation, Recipe, Way};
use crate::command::{Args, Keys, Kind, Spec, keys};
use crate::resp::value::Value;

/// One command of a transaction, as it was queued.
#[derive(Debug)]
pub struct Part<'a, A: ?Sized> {
    /// What it is.
    pub spec: &'a Spec,
    /// Its words.
    pub args: &'a A,
    /// How it may be mirrored, with what is known of its keys considered: [`way`](super::way) made into
    /// [`Way::Copied`] where a verbatim command depends on a key that is not in sync.
    pub way: Way,
}

/// What becomes of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecEffect {
    /// [`Effect::Copy`]: nothing can be told, all keys of all parts are copied.
    pub effect: Effect,
    /// Indexes of the parts whose written keys must be copied beside the effect.
    pub copy: Vec<usize>,
}

/// Follows a transaction part by part.
struct Walk {
    frames: Frames,
    copy: Vec<usize>,
    /// Keys that the effect leaves behind on the other store, whatever their database.
    behind: HashSet<Vec<u8>>,
    /// Keys are behind that nobody can name.
    all_behind: bool,
}

/// Puts reads into `out` that [`derive_exec`] needs beside the reply, to be sent to the default store right behind
/// EXEC. Returns how many there are.
pub fn exec_companions<A: Args + ?Sized>(parts: &[Part<'_, A>], dialect: Dialect, out: &mut Vec<u8>) -> u32 {
    let mut frames = Frames::default();
    for key in trimmed(parts) {
        frames.command(&[b"XLEN", key]);
    }
    for (key, _) in read_groups(parts, dialect) {
        frames.command(&[b"XINFO", b"GROUPS", key]);
    }
    out.extend_from_slice(&frames.bytes);
    frames.replies
}

/// What the other store gets for a transaction to which the default store's EXEC answered `reply`. `extra` has the
/// replies to what [`exec_companions`] asked.
pub fn derive_exec<A: Args + ?Sized>(parts: &[Part<'_, A>], reply: &[u8], extra: Extra<'_>) -> ExecEffect {
    let everything = || ExecEffect { effect: Effect::Copy, copy: Vec::new() };
    let Ok(reply) = Value::parse(reply) else { return everything() };
    if reply == Value::Nil || reply.is_error() {
        return ExecEffect { effect: Effect::Nothing, copy: Vec::new() };
    }
    let Some(replies) = reply.as_array().filter(|replies| replies.len() == parts.len()) else {
        return everything();
    };
    let trimmed = trimmed(parts);
    let lengths: Vec<(&[u8], _)> = trimmed
        .iter()
        .zip(extra.replies)
        .filter_map(|(key, reply)| Some((*key, super::effects::length(reply)?)))
        .collect();
    let known: HashSet<&[u8]> = lengths.iter().map(|(key, _)| *key).collect();
    let mut walk =
        Walk { frames: Frames::default(), copy: Vec::new(), behind: HashSet::new(), all_behind: false };
    for (at, (part, reply)) in parts.iter().zip(replies).enumerate() {
        let known = part.args.arg(1).is_some_and(|key| known.contains(key));
        walk.step(at, part, reply, known, extra.dialect);
    }
    for (key, length) in &lengths {
        super::effects::trim_to(key, length, &mut walk.frames);
    }
    let positions = extra.replies.get(trimmed.len()..).unwrap_or_default();
    for ((key, group), reply) in read_groups(parts, extra.dialect).iter().zip(positions) {
        super::effects::set_position(key, group, reply, &mut walk.frames);
    }
    walk.finish()
}

// === impl Walk ===

impl Walk {
    fn step<A: Args + ?Sized>(
        &mut self,
        at: usize,
        part: &Part<'_, A>,
        reply: &Value<'_>,
        length_known: bool,
        dialect: Dialect,
    ) {
        let selects = part.spec.kind == Kind::Connection && part.spec.name == "select";
        if reply.is_error() && part.way == Way::Nothing {
            return;
        }
        if reply.is_error() {
            // Only what runs code may have written before it failed.
            if part.spec.kind == Kind::Script || Recipe::by_name(&part.spec.name).is_none() {
                self.leave_behind(at, part);
            }
            return;
        }
        match part.way {
            _ if selects => self.verbatim(part),
            Way::Nothing => {}
            Way::Copied => self.leave_behind(at, part),
            Way::Verbatim => {
                self.verbatim(part);
                if self.touches_behind(part) {
                    self.leave_behind(at, part);
                }
            }
            Way::Derived(derivation) => {
                if !self.derived(derivation, part, reply, length_known, dialect) || self.touches_behind(part)
                {
                    self.leave_behind(at, part);
                }
            }
        }
    }

    fn verbatim<A: Args + ?Sized>(&mut self, part: &Part<'_, A>) {
        let words: Vec<&[u8]> = (0..part.args.argc()).filter_map(|at| part.args.arg(at)).collect();
        self.frames.command(&words);
    }

    /// False: the key must be copied.
    fn derived<A: Args + ?Sized>(
        &mut self,
        derivation: Derivation,
        part: &Part<'_, A>,
        reply: &Value<'_>,
        length_known: bool,
        dialect: Dialect,
    ) -> bool {
        match derivation {
            // The trimming follows at the end.
            Derivation::XtrimApprox if length_known => return true,
            Derivation::XaddApprox if length_known => {
                return *reply == Value::Nil
                    || super::effects::add_untrimmed(part.args, reply, &[], &mut self.frames).is_some();
            }
            _ => {}
        }
        match derive_value(derivation, part.args, reply, Extra { replies: &[], dialect }) {
            Effect::Nothing => true,
            Effect::Copy => false,
            Effect::Frames { bytes, replies } => {
                self.frames.bytes.extend_from_slice(&bytes);
                self.frames.replies += replies;
                true
            }
        }
    }

    /// Whether anything that this part reads or writes is not on the other store what it is on the default store.
    fn touches_behind<A: Args + ?Sized>(&self, part: &Part<'_, A>) -> bool {
        if self.behind.is_empty() && !self.all_behind {
            return false;
        }
        if matches!(part.spec.kind, Kind::KeyspaceWrite | Kind::ServerWrite | Kind::Publish) {
            return false;
        }
        let mut named = Keys::new();
        if keys(part.spec, part.args, &mut named).is_err() || named.unlisted() || self.all_behind {
            return true;
        }
        named.iter().filter_map(|key| part.args.arg(key.arg as usize)).any(|key| self.behind.contains(key))
    }

    /// What this part has written is copied.
    fn leave_behind<A: Args + ?Sized>(&mut self, at: usize, part: &Part<'_, A>) {
        if self.copy.last() != Some(&at) {
            self.copy.push(at);
        }
        let mut named = Keys::new();
        if keys(part.spec, part.args, &mut named).is_err() || named.unlisted() {
            self.all_behind = true;
        }
        let written = named.iter().filter(|key| key.access.writes());
        self.behind.extend(written.filter_map(|key| part.args.arg(key.arg as usize)).map(<[u8]>::to_vec));
    }

    fn finish(self) -> ExecEffect {
        let effect = match self.frames.replies {
            0 => Effect::Nothing,
            _ => {
                let mut whole = Frames::default();
                whole.command(&[b"MULTI"]);
                whole.bytes.extend_from_slice(&self.frames.bytes);
                whole.replies += self.frames.replies;
                whole.command(&[b"EXEC"]);
                whole.into_effect()
            }
        };
        ExecEffect { effect, copy: self.copy }
    }
}

/// Streams that are trimmed approximately and touched by nothing but XADD and XTRIM: then it is enough to trim them
/// once, at the end, to the length that they have at the end.
fn trimmed<'a, A: Args + ?Sized>(parts: &[Part<'a, A>]) -> Vec<&'a [u8]> {
    let approximate = |part: &&Part<'a, A>| {
        matches!(part.way, Way::Derived(Derivation::XaddApprox | Derivation::XtrimApprox))
    };
    let streams: Vec<&[u8]> = parts.iter().filter(approximate).filter_map(|part| part.args.arg(1)).collect();
    if streams.is_empty() {
        return streams;
    }
    // Neither may cost more than one look at each part: a transaction may have a million.
    let mut touched = HashSet::new();
    if !parts.iter().all(|part| lists_what_it_touches(part, &mut touched)) {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    streams.into_iter().filter(|key| !touched.contains(key) && seen.insert(*key)).collect()
}

/// Groups that were read from: how far they are afterwards is set once, at the end.
fn read_groups<'a, A: Args + ?Sized>(parts: &[Part<'a, A>], dialect: Dialect) -> Vec<(&'a [u8], &'a [u8])> {
    let selects = parts.iter().any(|part| part.spec.name == "select");
    if selects || !dialect.entries_read {
        return Vec::new();
    }
    let reads = parts.iter().filter(|part| part.way == Way::Derived(Derivation::XReadGroup));
    let mut seen = HashSet::new();
    let groups = reads.flat_map(|part| super::effects::read_new_from(part.args));
    groups.filter(|group| seen.insert(*group)).collect()
}

/// Lists the keys that a part other than XADD and XTRIM may change. False: it may change any stream.
fn lists_what_it_touches<'a, A: Args + ?Sized>(part: &Part<'a, A>, touched: &mut HashSet<&'a [u8]>) -> bool {
    if matches!(&*part.spec.name, "xadd" | "xtrim") {
        return part.way != Way::Copied;
    }
    if part.way == Way::Nothing && part.spec.name != "select" {
        return true;
    }
    let mut named = Keys::new();
    let listed = keys(part.spec, part.args, &mut named).is_ok() && !named.unlisted();
    let flushes = matches!(part.spec.kind, Kind::KeyspaceWrite | Kind::Script | Kind::Connection);
    touched.extend(named.iter().filter_map(|key| part.args.arg(key.arg as usize)));
    listed && !flushes
}
