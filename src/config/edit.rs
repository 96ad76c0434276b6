//! Sets a flag in the file of a running proxy: in place, comments kept, whole or not at all.
//!
//! Two editors must not undo each other. Other runs of this code are kept out by a lock on the directory; everybody
//! else is noticed, because the file is read again right before it is replaced. (Between that read and the rename
//! remain some microseconds: no file system offers more.)

mod replace;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use crate::stage::Stage;

use super::diagnostic::LoadError;
use super::flags::{FlagKind, unknown_flag};
use super::load::{self, Loaded};
use super::reload::StageJump;
use replace::{ReplaceError, replace};

/// How long to wait for another run that edits the same directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How often to look whether it has ended.
const LOCK_POLL: Duration = Duration::from_millis(10);
/// How often to start again when somebody else changed the file meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// What [`set_judged_flag`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The instance of the flag.
    pub instance: String,
    /// The stage that the file asked for before.
    pub before: Stage,
    /// The stage that it asks for now.
    pub after: Stage,
    /// Was the file written? Not if the flag had that value already.
    pub written: bool,
}

/// Why [`set_judged_flag`] left the file as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is not valid, before or after the change.
    #[error(transparent)]
    Invalid(#[from] LoadError),
    /// There is no such flag.
    #[error("{0}")]
    UnknownFlag(String),
    /// The change needs to be forced.
    #[error("{0}")]
    Jump(StageJump),
    /// The file does not ask any more for what the step was judged from: what stands there now leads elsewhere.
    #[error("the file was changed meanwhile, it asks for {0} now")]
    Outrun(Stage),
    /// Others kept changing the file.
    #[error("{0}: somebody else is changing the file; try again")]
    Busy(PathBuf),
    /// The file could not be replaced.
    #[error("{path}: {problem}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong, and what helps.
        problem: String,
    },
}

/// What becomes of a forbidden jump of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// It is refused.
    Refused,
    /// The file goes back to the stage that is in effect: for the proxy that is none, and it allows for none.
    WrittenBack,
    /// It is forced: the file says that the running proxy may follow (`allow_stage_jump`).
    Forced,
}

/// Sets the flag with the full name `flag`, if the file still asks for the stage that the step was `judged` from (none:
/// whatever it asks for). Looked at under the lock: two commands that were judged at the same moment make one step, not two
/// of which nobody has judged the second.
pub fn set_judged_flag(
    path: &Path,
    flag: &str,
    value: bool,
    jump: Jump,
    judged: Option<Stage>,
) -> Result<Edited, EditError> {
    // A symbolic link stays: its target is what gets replaced.
    let target =
        path.canonicalize().map_err(|error| io(path, format!("cannot read the configuration: {error}")))?;
    let _lock = lock_directory(&target)?;
    for _ in 0..MAX_ATTEMPTS {
        let (text, _) = load::read_text(path).map_err(|problem| io(path, problem))?;
        let (edited, new_text) = plan(path, &text, flag, value, jump)?;
        if judged.is_some_and(|judged| judged != edited.before) {
            return Err(EditError::Outrun(edited.before));
        }
        if new_text == text {
            return Ok(Edited { written: false, ..edited });
        }
        match replace(&target, &text, &new_text) {
            Ok(()) => return Ok(edited),
            Err(ReplaceError::Changed) => continue,
            Err(ReplaceError::Io(problem)) => return Err(io(&target, problem)),
        }
    }
    Err(EditError::Busy(path.to_owned()))
}

fn io(path: &Path, problem: String) -> EditError {
    EditError::Io { path: path.to_owned(), problem }
}

/// The change and the text of the file after it, which is valid.
fn plan(path: &Path, text: &str, flag: &str, value: bool, rule: Jump) -> Result<(Edited, String), EditError> {
    let before = judge(path, text)?.config;
    let names: Vec<&str> = before.instances.keys().map(String::as_str).collect();
    let (kind, instance) = FlagKind::of_name(flag)
        .filter(|(_, instance)| before.instances.contains_key(*instance))
        .ok_or_else(|| EditError::UnknownFlag(unknown_flag(flag, &names)))?;
    let flags = before.flags(instance);
    let jump =
        StageJump { instance: instance.to_owned(), from: flags.stage(), to: kind.set(flags, value).stage() };
    let forbidden = !jump.from.may_become(jump.to);
    if forbidden && rule == Jump::Refused {
        return Err(EditError::Jump(jump));
    }
    let edited = Edited { instance: jump.instance, before: jump.from, after: jump.to, written: true };
    let allowed = forbidden && rule == Jump::Forced;
    let new_text = apply(text, flag, value, instance, allowed).map_err(|problem| io(path, problem))?;
    let after = judge(path, &new_text)?.config;
    match after.flags(instance).stage() == edited.after {
        true => Ok((edited, new_text)),
        false => {
            Err(io(path, "the edited file would not say what was asked for; it was left alone".to_owned()))
        }
    }
}

fn judge(path: &Path, text: &str) -> Result<Loaded, LoadError> {
    load::parse(path, text, None, &|name| std::env::var(name).ok())
}

fn apply(text: &str, flag: &str, value: bool, instance: &str, jump: bool) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("not TOML: {error}"))?;
    let root = document.as_table_mut();
    if !root.contains_key("feature_flags") {
        let mut table = Table::new();
        table.decor_mut().set_prefix("\n");
        root.insert("feature_flags", Item::Table(table));
    }
    let table = root
        .get_mut("feature_flags")
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| "'feature_flags' is not a section".to_owned())?;
    set_value(table, flag, value.into());
    set_permission(table, instance, jump);
    let edited = document.to_string();
    // The document forgets line ends of two characters.
    let dos = text.contains('\n') && text.matches('\n').count() == text.matches("\r\n").count();
    Ok(if dos { edited.replace('\n', "\r\n") } else { edited })
}

/// Replaces a value and keeps what stands around it: spaces and the comment behind.
fn set_value(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// An instance is in `allow_stage_jump` for as long as its last change was a forced jump.
fn set_permission(table: &mut dyn TableLike, instance: &str, allowed: bool) {
    const KEY: &str = "allow_stage_jump";
    let written = table.get(KEY).and_then(Item::as_array);
    let others = written.into_iter().flatten().filter_map(Value::as_str).filter(|name| *name != instance);
    let names: Vec<String> = others.map(str::to_owned).chain(allowed.then(|| instance.to_owned())).collect();
    let unchanged = written.map_or(0, Array::len) == names.len();
    match names.is_empty() {
        _ if unchanged => {}
        true => drop(table.remove(KEY)),
        false => set_value(table, KEY, Value::Array(names.into_iter().collect())),
    }
}

fn lock_directory(target: &Path) -> Result<File, EditError> {
    let directory = replace::directory_of(target);
    let file = File::open(directory).map_err(|error| io(directory, error.to_string()))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(EditError::Busy(target.to_owned())),
            Err(TryLockError::Error(error)) => {
                return Err(io(directory, format!("cannot be locked: {error}")));
            }
        }
    }
}

#[cfg(test)]
mod tests;
