//! The state file: what must be known after a crash.
//!
//! For each instance: the stage that it was in, which store may be behind, and whether the process
//! stopped cleanly. Written, and synced to disk, before it matters: a stage is recorded before it
//! takes effect, and a clean stop only after both stores have answered everything. A start that
//! finds no clean stop knows that either store may have got a write that the other has not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::sequencer::knowledge::Sync;
use crate::stage::{Stage, StoreId};

/// The file's layout. A newer one is not guessed at.
const VERSION: u32 = 1;

/// What is recorded of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The stage, by name.
    pub stage: String,
    /// The store that may be behind as a whole: `primary` or `secondary`.
    pub behind: Option<String>,
    /// Nothing was under way and nothing suspect when the process stopped.
    pub clean: bool,
    /// All keys were in sync at that moment.
    pub in_sync: bool,
    /// The store that came back as another server, until an operator has named the one that is right.
    #[serde(default)]
    pub doubted: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    instances: BTreeMap<String, Entry>,
}

/// The state file of a process.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    instances: Mutex<BTreeMap<String, Entry>>,
}

// === impl Entry ===

impl Entry {
    /// What is recorded while an instance runs.
    pub fn running(stage: Stage, behind: Option<StoreId>) -> Entry {
        Entry {
            stage: stage.name().to_owned(),
            behind: behind.map(|store| store.name().to_owned()),
            clean: false,
            in_sync: false,
            doubted: None,
        }
    }

    fn stage(&self) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.name() == self.stage)
    }

    fn behind(&self) -> Option<StoreId> {
        store(self.behind.as_deref())
    }

    /// The store that may have lost writes, until an operator has named the one that is right.
    pub fn doubted(&self) -> Option<StoreId> {
        store(self.doubted.as_deref())
    }

    /// What is known of the stores' contents when the process starts in stage `now`.
    pub fn knowledge(&self, now: Stage) -> Sync {
        let before = self.stage().unwrap_or(now);
        if before.is_dual() && !now.is_dual() {
            return Sync::Suspect(now.default_store().other());
        }
        if let Some(behind) = self.behind() {
            return Sync::Suspect(behind);
        }
        match (before.is_dual(), self.clean, self.in_sync) {
            (true, false, _) => Sync::Suspect(before.default_store().other()),
            (true, true, true) => Sync::InSync,
            _ => Sync::Unknown,
        }
    }
}

fn store(name: Option<&str>) -> Option<StoreId> {
    StoreId::ALL.into_iter().find(|store| name == Some(store.name()))
}

// === impl StateFile ===

impl StateFile {
    /// Reads the file. One that is not there is an empty one; one that cannot be read is an error:
    /// it may say that a store is behind.
    pub fn open(path: &Path) -> io::Result<StateFile> {
        let instances = match fs::read(path) {
            Ok(bytes) => parse(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(StateFile { path: path.to_owned(), instances: Mutex::new(instances) })
    }

    /// What is recorded of `instance`.
    pub fn get(&self, instance: &str) -> Option<Entry> {
        self.lock().get(instance).cloned()
    }

    /// Records, and returns when it is on disk.
    pub fn set(&self, instance: &str, entry: Entry) -> io::Result<()> {
        let mut instances = self.lock();
        if instances.get(instance) == Some(&entry) {
            return Ok(());
        }
        instances.insert(instance.to_owned(), entry);
        self.write(&instances)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, instances: &BTreeMap<String, Entry>) -> io::Result<()> {
        let content = Content { version: VERSION, instances: instances.clone() };
        let text = serde_json::to_vec_pretty(&content)?;
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn parse(bytes: &[u8]) -> io::Result<BTreeMap<String, Entry>> {
    let content: Content = serde_json::from_slice(bytes)
        .map_err(|error| io::Error::other(format!("it is damaged ({error}); see docs/operations.md")))?;
    if content.version != VERSION {
        return Err(io::Error::other(format!("its version is {}, not {VERSION}", content.version)));
    }
    Ok(content.instances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_believes() {
        use super::Sync::{InSync, Suspect, Unknown};
        use Stage::{DualPrimaryDefault, DualSecondaryDefault, PrimaryOnly, SecondaryOnly};
        use StoreId::{Primary, Secondary};
        let entry = |stage: Stage, clean, in_sync| Entry { clean, in_sync, ..Entry::running(stage, None) };
        for (entry, now, expected) in [
            (entry(DualSecondaryDefault, false, false), DualSecondaryDefault, Suspect(Primary)),
            (entry(DualSecondaryDefault, true, false), DualSecondaryDefault, Unknown),
            (entry(DualPrimaryDefault, true, true), DualPrimaryDefault, InSync),
            (entry(DualPrimaryDefault, false, false), DualPrimaryDefault, Suspect(Secondary)),
            (entry(DualPrimaryDefault, true, true), PrimaryOnly, Suspect(Secondary)),
            (entry(SecondaryOnly, false, false), DualSecondaryDefault, Unknown),
            (Entry::running(PrimaryOnly, Some(Secondary)), DualPrimaryDefault, Suspect(Secondary)),
        ] {
            assert_eq!(entry.knowledge(now), expected, "{entry:?} → {now}");
        }
    }

    #[test]
    fn it_survives_the_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("proxy.state");
        let state = StateFile::open(&path).expect("none yet");
        assert_eq!(state.get("a"), None);
        let entry = Entry::running(Stage::DualSecondaryDefault, Some(StoreId::Primary));
        state.set("a", entry.clone()).expect("written");
        assert_eq!(StateFile::open(&path).expect("read").get("a"), Some(entry));
        fs::write(&path, "{").expect("damaged");
        assert!(StateFile::open(&path).is_err());
    }
}
