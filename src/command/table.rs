//! The one table of commands, and how a request finds its row.

use super::keys::always_lone;
use super::spec::row::Row;
use super::{Args, CommandFlags, Find, KeySpec, LiveCommand, Miss, Offered, Overlaid, Spec};
use super::{annotations, builtin, extra, live};

/// A command's place in a [`Table`]. Ids of built-in commands are the same in every table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(u16);

/// What a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A command, or a subcommand. A container alone finds the container.
    Command(CommandId),
    /// A container, and no subcommand of its.
    UnknownSubcommand(CommandId),
    /// Nothing in the table.
    Unknown,
}

/// Commands by name: the built-in ones, and what the stores have beside them.
#[derive(Clone, Debug)]
pub struct Table {
    specs: Vec<Spec>,
    slots: Box<[Slot]>,
    overlaid: usize,
}

/// One place of the hash table.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    parent: u16,
    id: u16,
}

/// No command: the parent of top-level commands, and the id of an empty slot.
const NONE: u16 = u16::MAX;
const EMPTY: Slot = Slot { hash: 0, parent: NONE, id: NONE };

/// Longer names are in no table.
const MAX_NAME: usize = 64;

/// How many commands the stores may add to a table. Redis with all its modules has about 200.
const MAX_OVERLAID: usize = 2048;

/// Slots at first: a power of two. There are always twice as many as rows, so probing stays short.
const FIRST_SLOTS: usize = 1024;

// === impl CommandId ===

impl CommandId {
    /// The number, for arrays with one entry for each command.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

// === impl Table ===

impl Table {
    /// What is known without asking a server.
    pub fn builtin() -> Self {
        let mut table = Self { specs: Vec::new(), slots: vec![EMPTY; FIRST_SLOTS].into(), overlaid: 0 };
        for row in builtin::ROWS.iter().chain(&extra::ROWS) {
            table.add(spec(row));
        }
        table
    }

    /// What a request names, in a few nanoseconds and without allocating.
    #[inline]
    pub fn lookup<A: Args + ?Sized>(&self, args: &A) -> Lookup {
        let Some(id) = args.arg(0).and_then(|name| self.search(NONE, name)) else { return Lookup::Unknown };
        match args.arg(1) {
            Some(sub) if self.spec(id).container => {
                self.search(id.0, sub).map_or(Lookup::UnknownSubcommand(id), Lookup::Command)
            }
            _ => Lookup::Command(id),
        }
    }

    /// The command that a request names, if it is known down to the subcommand.
    #[inline]
    pub fn find<A: Args + ?Sized>(&self, args: &A) -> Option<CommandId> {
        match self.lookup(args) {
            Lookup::Command(id) => Some(id),
            Lookup::UnknownSubcommand(_) | Lookup::Unknown => None,
        }
    }

    /// The command of this name, a subcommand written as Redis does: `client|kill`.
    pub fn by_name(&self, name: &str) -> Option<CommandId> {
        match name.split_once('|') {
            None => self.search(NONE, name.as_bytes()),
            Some((container, sub)) => self.search(self.search(NONE, container.as_bytes())?.0, sub.as_bytes()),
        }
    }

    /// What is known about a command. The id must be of this table or of one that it was cloned from.
    #[inline]
    #[allow(clippy::indexing_slicing)]
    pub fn spec(&self, id: CommandId) -> &Spec {
        &self.specs[id.index()]
    }

    /// All commands with their ids, containers before their own.
    pub fn iter(&self) -> impl Iterator<Item = (CommandId, &Spec)> {
        (0..).map(CommandId).zip(&self.specs)
    }

    /// How many commands there are; every id's index is below.
    pub fn count(&self) -> usize {
        self.specs.len()
    }

    /// Adds what a store's `COMMAND` lists and this table lacks: commands of modules, renamed and newer ones.
    /// What the table has stays as it is, and so do all ids.
    pub fn overlay(&mut self, commands: impl IntoIterator<Item = LiveCommand>) -> Overlaid {
        let mut outcome = Overlaid::default();
        for mut command in commands {
            let own = std::mem::take(&mut command.subcommands);
            let known = self.search(NONE, command.name.as_bytes());
            let parent = known.or_else(|| self.overlay_one(None, command, &mut outcome));
            let Some(parent) = parent else { continue };
            for sub in own {
                if self.search(parent.0, sub.own_name().as_bytes()).is_none() {
                    self.overlay_one(Some(parent), sub, &mut outcome);
                }
            }
        }
        outcome
    }

    /// What a store has of this table, by the reply to its `COMMAND`. To be asked again after an overlay.
    pub fn offered(&self, commands: &[LiveCommand]) -> Offered {
        let mut offered = Offered::nothing(self.count());
        for command in commands {
            let Some(id) = self.search(NONE, command.name.as_bytes()) else { continue };
            offered.set(id, command.arity);
            if command.subcommands.is_empty() {
                // A server before 7.0 tells of none: those of the table pass for its own.
                let prefix = format!("{}|", self.spec(id).name);
                let own = self.iter().filter(|(_, spec)| spec.name.starts_with(&prefix));
                own.for_each(|(sub, spec)| offered.set(sub, spec.arity));
            }
            for sub in &command.subcommands {
                if let Some(sub_id) = self.search(id.0, sub.own_name().as_bytes()) {
                    offered.set(sub_id, sub.arity);
                }
            }
        }
        offered
    }

    fn overlay_one(
        &mut self,
        parent: Option<CommandId>,
        command: LiveCommand,
        outcome: &mut Overlaid,
    ) -> Option<CommandId> {
        let own = command.own_name();
        let named = !own.is_empty() && own.len() <= MAX_NAME && !own.contains('|');
        if !named || self.overlaid >= MAX_OVERLAID {
            outcome.dropped += 1;
            return None;
        }
        let prefix = parent.map(|id| self.spec(id).name.to_string());
        self.overlaid += 1;
        outcome.added += 1;
        let id = self.add(live::spec(prefix.as_deref(), command));
        if let Some(container) = parent.and_then(|id| self.specs.get_mut(id.index())) {
            container.container = true;
        }
        Some(id)
    }

    /// Appends a row. The number of rows is bounded by the built-in ones and `MAX_OVERLAID`.
    fn add(&mut self, spec: Spec) -> CommandId {
        let id = CommandId(self.specs.len() as u16);
        let parent = spec.name.split_once('|').and_then(|(parent, _)| self.by_name(parent));
        if let Some(container) = parent.and_then(|parent| self.specs.get_mut(parent.index())) {
            container.container = true;
        }
        let parent = parent.map_or(NONE, |parent| parent.0);
        let hash = hash(parent, spec.own_name().as_bytes());
        self.specs.push(spec);
        if self.specs.len() * 2 > self.slots.len() {
            self.grow();
        }
        place(&mut self.slots, Slot { hash, parent, id: id.0 });
        id
    }

    fn grow(&mut self) {
        let mut slots = vec![EMPTY; self.slots.len() * 2].into_boxed_slice();
        for slot in self.slots.iter().filter(|slot| slot.id != NONE) {
            place(&mut slots, *slot);
        }
        self.slots = slots;
    }

    #[inline]
    fn search(&self, parent: u16, name: &[u8]) -> Option<CommandId> {
        if name.len() > MAX_NAME {
            return None;
        }
        let hash = hash(parent, name);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.id == NONE {
                return None;
            }
            if slot.hash == hash && slot.parent == parent && self.has_name(slot, name) {
                return Some(CommandId(slot.id));
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn has_name(&self, slot: &Slot, name: &[u8]) -> bool {
        let Some(spec) = self.specs.get(slot.id as usize) else { return false };
        let full = spec.name.as_bytes();
        let own = full.len().checked_sub(name.len()).and_then(|start| full.get(start..));
        let whole = match slot.parent {
            NONE => full.len() == name.len(),
            _ => full.len() > name.len() && full.get(full.len() - name.len() - 1) == Some(&b'|'),
        };
        whole && own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::builtin()
    }
}

/// Puts an entry into the first free slot behind its hash. Half of the slots are free.
#[allow(clippy::indexing_slicing)]
fn place(slots: &mut [Slot], entry: Slot) {
    let mask = slots.len() - 1;
    let mut at = entry.hash as usize & mask;
    while slots[at].id != NONE {
        at = (at + 1) & mask;
    }
    slots[at] = entry;
}

/// A row with what `annotations` knows about it.
fn spec(row: &Row) -> Spec {
    let mut flags = row.flags;
    if movable(row.keys) {
        flags = flags.with(CommandFlags::MOVABLE_KEYS);
    }
    let kind = annotations::kind(row.name, flags);
    let shape = annotations::shape(row.name);
    Spec {
        name: row.name.into(),
        arity: row.arity,
        flags,
        keys: row.keys.into(),
        kind,
        miss: annotations::miss(row.name).unwrap_or(Miss::Never),
        rule: annotations::rule(row.name, kind),
        shape,
        container: false,
        lone_key: always_lone(row.keys, shape),
    }
}

/// Whether keys stand elsewhere than at fixed distances.
fn movable(keys: &[KeySpec]) -> bool {
    keys.iter().any(|key| !matches!((key.begin, key.find), (super::Begin::Index(_), Find::Range { .. })))
}

/// Folds case away (exactly for letters; [`Table::has_name`] decides) and mixes. Middles of long names are left
/// out: names in the table differ elsewhere, or share a slot.
#[inline]
fn hash(parent: u16, name: &[u8]) -> u32 {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xc2b2_ae3d_27d4_eb4f;
    let (low, high) = ends(name);
    let seed = ((parent as u64) << 8 | name.len() as u64).wrapping_mul(B);
    let mixed = ((low | FOLD) ^ seed).wrapping_mul(A) ^ (high | FOLD).rotate_left(29).wrapping_mul(B);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(A);
    (mixed >> 32) as u32
}

/// Up to 8 bytes from the start and up to 8 from the end; all of a name of up to 16 bytes.
#[inline]
fn ends(name: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        return (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64);
    }
    let word = name.iter().fold(0, |word, &byte| word << 8 | byte as u64);
    (word, 0)
}

#[cfg(test)]
mod tests;
