//! What a store's own `COMMAND` tells, and how a table takes it in.

use super::keys::always_lone;
use super::spec::arity_ok;
use super::{Begin, CommandFlags, CommandId, Find, KeyFlags, KeySpec, Kind, Miss, Shape, Spec, annotations};

mod reply;

/// One command as `COMMAND` lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveCommand {
    /// The name; of a subcommand with (`client|kill`) or without its container.
    pub name: String,
    /// Words in a request; negative: at least so many.
    pub arity: i32,
    /// The names of its flags.
    pub flags: Vec<String>,
    /// The first argument that is a key, 0 for none.
    pub first: i32,
    /// The last argument that is a key, counted from the end if negative.
    pub last: i32,
    /// Distance of two keys.
    pub step: i32,
    /// Key specifications; servers before 7.0 have none and leave it to `first`, `last`, `step`.
    pub key_specs: Vec<KeySpec>,
    /// Its subcommands; theirs are ignored.
    pub subcommands: Vec<LiveCommand>,
}

/// What came of an overlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlaid {
    /// Commands and subcommands that the table now has.
    pub added: usize,
    /// Commands left out because the table is full or their names cannot be.
    pub dropped: usize,
}

/// What one store has of a table, and with how many words: servers differ (ZRANK takes two arguments or three).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Arities by id; 0 for what the store doesn't have.
    arities: Box<[i32]>,
}

/// More key specifications than any command has; the rest are left out.
const MAX_KEY_SPECS: usize = 16;

// === impl LiveCommand ===

impl LiveCommand {
    /// The name without its container.
    pub(super) fn own_name(&self) -> &str {
        self.name.split_once('|').map_or(&self.name, |(_, name)| name)
    }
}

// === impl Offered ===

impl Offered {
    pub(super) fn nothing(count: usize) -> Self {
        Self { arities: vec![0; count].into() }
    }

    pub(super) fn set(&mut self, id: CommandId, arity: i32) {
        if let Some(slot) = self.arities.get_mut(id.index()) {
            *slot = arity;
        }
    }

    /// Whether the store has this command.
    pub fn has(&self, id: CommandId) -> bool {
        self.arity(id) != 0
    }

    /// Whether the store would run a request of so many words, the name included.
    pub fn arity_ok(&self, id: CommandId, argc: usize) -> bool {
        self.has(id) && arity_ok(self.arity(id), argc)
    }

    fn arity(&self, id: CommandId) -> i32 {
        self.arities.get(id.index()).copied().unwrap_or_default()
    }
}

/// The row of a command that only a store knows.
pub(super) fn spec(container: Option<&str>, command: LiveCommand) -> Spec {
    let own = command.own_name().to_ascii_lowercase();
    let name = match container {
        Some(container) => format!("{container}|{own}"),
        None => own,
    };
    let flags = CommandFlags::from_names(command.flags.iter().map(String::as_str));
    let keys = match command.key_specs.is_empty() {
        true => legacy(&command, flags),
        false => command.key_specs.iter().take(MAX_KEY_SPECS).copied().collect(),
    };
    let kind = match annotations::kind(&name, flags) {
        Kind::Write if keys.is_empty() => Kind::KeyspaceWrite,
        Kind::Read if keys.is_empty() => Kind::KeyspaceRead,
        kind => kind,
    };
    // A module's read of a key that isn't there answers nil by custom.
    let miss = if kind == Kind::Read && !keys.is_empty() { Miss::Nil } else { Miss::Never };
    Spec {
        arity: command.arity,
        flags,
        lone_key: always_lone(&keys, Shape::Plain),
        keys: keys.into(),
        kind,
        miss: annotations::miss(&name).unwrap_or(miss),
        rule: annotations::rule(&name, kind),
        shape: Shape::Plain,
        container: false,
        name: name.into(),
    }
}

/// Key positions from first, last and step. Movable ones are unknown beside those.
fn legacy(command: &LiveCommand, flags: CommandFlags) -> Vec<KeySpec> {
    let access = if flags.has(CommandFlags::READONLY) {
        KeyFlags::RO.with(KeyFlags::ACCESS)
    } else {
        KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE)
    };
    let mut keys = Vec::new();
    if let (Ok(first @ 1..), Ok(last), Ok(step @ 1..)) =
        (u16::try_from(command.first), i16::try_from(command.last), u16::try_from(command.step))
    {
        // `last` is counted from the start of the request there, from the first key here.
        let last = if last >= 0 { last.saturating_sub_unsigned(first).max(0) } else { last };
        keys.push(KeySpec {
            flags: access,
            begin: Begin::Index(first),
            find: Find::Range { last, step, limit: 0 },
        });
    }
    if flags.has(CommandFlags::MOVABLE_KEYS) {
        keys.push(KeySpec { flags: access, begin: Begin::Unknown, find: Find::Unknown });
    }
    keys
}
