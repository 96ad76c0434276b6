//! The state file: what must be known after a crash.
//!
//! For each instance: the stage that it was in, which store may be behind, and whether the process
//! stopped cleanly. Written, and synced to disk, before it matters: a stage is recorded before it
//! takes effect, and a clean stop only after both stores have answered everything. A start that
//! finds no clean stop knows that either store may have got a write that the other has not.
//!
//! What would not make a start believe anything else is written soon, by somebody who may wait for the disk: the other
//! store comes and goes, and clients are not to notice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::sequencer::hash_key;
use crate::sequencer::knowledge::{Knowledge, Suspect, Sync};
use crate::stage::{Stage, StoreId};
use crate::store::handshake::Identity;
use crate::store::recognise::Place;

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
    /// All keys were in sync but what was under way.
    pub in_sync: bool,
    /// The store that came back as another server, until an operator has named the one that is right.
    #[serde(default)]
    pub doubted: Option<String>,
    /// The run_ids of primary and secondary when they were last seen; empty: never.
    #[serde(default)]
    pub servers: [String; 2],
    /// The histories of their data (replication ids) then.
    #[serde(default)]
    pub histories: [String; 2],
    /// Where they were then, by their URLs.
    #[serde(default)]
    pub places: [Place; 2],
    /// Keys in which the default store was behind the other one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<SuspectEntry>,
    /// The backfill that was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillEntry>,
}

/// A key in which the default store is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectEntry {
    /// The instance's database.
    pub db: u32,
    /// The key's bytes, two hexadecimal digits each: a key need not be text.
    pub key: String,
    /// The store that is behind.
    pub behind: String,
}

/// A backfill that was ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillEntry {
    /// It was started by hand.
    pub started: bool,
    /// It rests.
    pub paused: bool,
    /// Where it was at a clean stop.
    pub place: Option<PlaceEntry>,
}

/// Where a backfill was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceEntry {
    /// The run_ids of primary and secondary: to other servers a cursor means nothing.
    pub servers: [String; 2],
    /// The database that was being walked.
    pub database: Option<u32>,
    /// Where to go on in it.
    pub cursor: String,
    /// The databases that were done.
    pub done: Vec<u32>,
    /// Keys passed.
    pub seen: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    instances: BTreeMap<String, Entry>,
}

/// The state file of a process.
#[derive(Debug)]
pub struct StateFile {
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    kept: Mutex<Kept>,
    /// Whoever writes.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    instances: BTreeMap<String, Entry>,
    /// The file is behind, and somebody has been told to bring it up to date.
    behind: bool,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on disk, or will be: somebody has been told.
    Done,
    /// The caller is to see to it that [`StateFile::catch_up`] is called soon.
    Later,
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
            servers: Default::default(),
            histories: Default::default(),
            places: Default::default(),
            suspects: Vec::new(),
            backfill: None,
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

    /// Lists the keys in which the default store was behind.
    pub fn list_suspects(&self, known: &mut Knowledge) {
        for suspect in &self.suspects {
            if let Some((key, behind)) = suspect.read() {
                known.doubt(hash_key(suspect.db, &key), suspect.db, &key, behind, 0);
            }
        }
    }

    /// The servers whose return as others would have to be noticed: writes were mirrored between them, or one was left
    /// behind and will be made equal to the other.
    pub fn paired(&self) -> [Identity; 2] {
        let paired = self.stage().is_some_and(Stage::is_dual) || self.behind().is_some();
        if !paired {
            return Default::default();
        }
        let of = |store: StoreId| Identity {
            run_id: store.pick(&self.servers).clone(),
            replication_id: store.pick(&self.histories).clone(),
            place: store.pick(&self.places).clone(),
            ..Identity::default()
        };
        StoreId::ALL.map(of)
    }

    /// Would a start that finds this believe the same as one that finds `next`? Of another server in the place of the
    /// store that does not count it would learn that it may be behind, which it assumes anyway.
    fn tells_as_much_as(&self, next: &Entry) -> bool {
        let Some(stage) = self.stage().filter(|stage| stage.is_dual()) else { return self == next };
        let counts = stage.default_store();
        let told = |entry: &Entry| Entry {
            behind: None,
            in_sync: false,
            servers: Default::default(),
            histories: Default::default(),
            ..entry.clone()
        };
        !self.clean
            && told(self) == told(next)
            && counts.pick(&self.servers) == counts.pick(&next.servers)
            && counts.pick(&self.histories) == counts.pick(&next.histories)
            && Stage::ALL.into_iter().all(|now| self.believed(now) == next.believed(now))
    }

    /// What to begin with, where the configuration asks for stage `now`.
    pub fn believed(&self, now: Stage) -> Believed {
        let before = self.stage().unwrap_or(now);
        let interrupted = before.is_dual() && !self.clean;
        let turns = !before.is_dual() && before.default_store() != now.default_store();
        // A change of stage that nobody has seen through is one like any other, and may have to wait.
        let stage = if interrupted || turns { before } else { now };
        let left = before.is_dual() && !stage.is_dual();
        let cold = before.default_store() == StoreId::Primary && !self.in_sync;
        let base = match self.behind() {
            Some(behind) => Sync::Suspect(behind),
            None if left || stage == Stage::PrimaryOnly => Sync::Suspect(stage.default_store().other()),
            None if interrupted && !cold => Sync::Suspect(before.default_store().other()),
            None if before.is_dual() && self.clean && self.in_sync => Sync::InSync,
            None => Sync::Unknown,
        };
        Believed { stage, base, stale: interrupted && base == Sync::Unknown }
    }
}

// === impl SuspectEntry ===

impl SuspectEntry {
    /// What is written of a suspect.
    pub fn of(suspect: &Suspect) -> SuspectEntry {
        let key = suspect.key.iter().map(|byte| format!("{byte:02x}")).collect();
        SuspectEntry { db: suspect.db, key, behind: suspect.behind.name().to_owned() }
    }

    /// The key, and the store that is behind in it.
    pub fn read(&self) -> Option<(Vec<u8>, StoreId)> {
        let digits: Option<Vec<u8>> = self
            .key
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let key =
            digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        Some((key, store(Some(&self.behind))?))
    }
}

/// What a start believes of the stores' contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Believed {
    /// The stage to begin in.
    pub stage: Stage,
    /// What is known of all keys.
    pub base: Sync,
    /// The secondary may be behind in whatever a cold primary has.
    pub stale: bool,
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
        let kept = Mutex::new(Kept { instances, behind: false });
        Ok(StateFile { path: Some(path.to_owned()), kept, writing: Mutex::default() })
    }

    /// Keeps nothing beyond the process.
    pub fn nowhere() -> StateFile {
        StateFile { path: None, kept: Mutex::default(), writing: Mutex::default() }
    }

    /// What is recorded of `instance`.
    pub fn get(&self, instance: &str) -> Option<Entry> {
        self.lock().instances.get(instance).cloned()
    }

    /// Records. What matters to a start is on disk when this returns.
    pub fn set(&self, instance: &str, entry: Entry) -> io::Result<Written> {
        let mut kept = self.lock();
        let before = kept.instances.insert(instance.to_owned(), entry);
        let now = kept.instances.get(instance);
        if before.as_ref() == now {
            return Ok(Written::Done);
        }
        if before.zip(now).is_some_and(|(before, now)| before.tells_as_much_as(now)) {
            let told = std::mem::replace(&mut kept.behind, true);
            return Ok(if told { Written::Done } else { Written::Later });
        }
        drop(kept);
        self.write()?;
        Ok(Written::Done)
    }

    /// Writes what could wait.
    pub fn catch_up(&self) -> io::Result<()> {
        if self.lock().behind { self.write() } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the newest that there is. One after the other; nobody who records waits for it but who must.
    fn write(&self) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = {
            let mut kept = self.lock();
            kept.behind = false;
            kept.instances.clone()
        };
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&Content { version: VERSION, instances })?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
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
        for (entry, now, base) in [
            (entry(DualSecondaryDefault, false, false), DualSecondaryDefault, Suspect(Primary)),
            (entry(DualSecondaryDefault, true, false), DualSecondaryDefault, Unknown),
            (entry(DualPrimaryDefault, true, true), DualPrimaryDefault, InSync),
            (entry(DualPrimaryDefault, false, true), DualPrimaryDefault, Suspect(Secondary)),
            (entry(DualPrimaryDefault, true, true), PrimaryOnly, Suspect(Secondary)),
            (entry(SecondaryOnly, false, false), DualSecondaryDefault, Unknown),
            (Entry::running(PrimaryOnly, Some(Secondary)), DualPrimaryDefault, Suspect(Secondary)),
            (Entry::running(DualPrimaryDefault, Some(Primary)), DualPrimaryDefault, Suspect(Primary)),
        ] {
            let believed = entry.believed(now);
            assert_eq!(believed, Believed { stage: now, base, stale: false }, "{entry:?} → {now}");
        }
    }

    #[test]
    fn a_crash_does_not_disown_what_only_the_secondary_has() {
        let cold = Entry::running(Stage::DualPrimaryDefault, None);
        let stage = Stage::DualPrimaryDefault;
        assert_eq!(cold.believed(stage), Believed { stage, base: Sync::Unknown, stale: true });
    }

    #[test]
    fn a_flip_that_was_not_seen_through_begins_anew() {
        for now in Stage::ALL {
            let crashed = Entry::running(Stage::DualSecondaryDefault, None);
            let stage = Stage::DualSecondaryDefault;
            let base = Sync::Suspect(StoreId::Primary);
            assert_eq!(crashed.believed(now), Believed { stage, base, stale: false }, "{now}");
        }
        // Nor does the store change that counts because nobody was there when the file said so.
        for now in [Stage::DualPrimaryDefault, Stage::PrimaryOnly] {
            let behind = Some(StoreId::Primary);
            let entry = Entry { clean: true, ..Entry::running(Stage::SecondaryOnly, behind) };
            let (stage, base) = (Stage::SecondaryOnly, Sync::Suspect(StoreId::Primary));
            assert_eq!(entry.believed(now), Believed { stage, base, stale: false }, "{now}");
        }
    }

    #[test]
    fn a_key_need_not_be_text() {
        let key: Box<[u8]> = [0, 7, 255, b'k'].into();
        let behind = StoreId::Primary;
        let suspect = Suspect {
            db: 3,
            key: key.clone(),
            behind,
            since: 0,
            not_before: 0,
            attempts: 0,
            cold: false,
            undecided: false,
            given_up: false,
        };
        let entry = SuspectEntry::of(&suspect);
        assert_eq!(entry.read(), Some((key.to_vec(), behind)));
        assert_eq!(SuspectEntry { key: "xy".to_owned(), ..entry }.read(), None);
    }

    #[test]
    fn it_survives_the_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("proxy.state");
        let state = StateFile::open(&path).expect("none yet");
        assert_eq!(state.get("a"), None);
        let entry = Entry::running(Stage::DualSecondaryDefault, Some(StoreId::Primary));
        assert_eq!(state.set("a", entry.clone()).expect("written"), Written::Done);
        assert_eq!(StateFile::open(&path).expect("read").get("a"), Some(entry));
        fs::write(&path, "{").expect("damaged");
        assert!(StateFile::open(&path).is_err());
    }

    #[test]
    fn only_what_a_start_would_guess_anyway_is_written_later() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("proxy.state");
        let state = StateFile::open(&path).expect("none yet");
        let on_disk = || StateFile::open(&path).expect("read").get("a");
        let dual = |behind| Entry::running(Stage::DualSecondaryDefault, behind);
        let is_written = |entry: Entry, written| {
            assert_eq!(state.set("a", entry.clone()).expect("written"), written, "{entry:?}");
        };
        is_written(dual(None), Written::Done);
        // The store that does not count is behind, and another server: as after any crash.
        let servers = ["another".to_owned(), String::new()];
        let behind = Entry { servers, ..dual(Some(StoreId::Primary)) };
        is_written(behind.clone(), Written::Later);
        is_written(Entry { in_sync: true, behind: None, ..behind.clone() }, Written::Done);
        is_written(behind.clone(), Written::Done);
        assert_eq!(on_disk(), Some(dual(None)));
        state.catch_up().expect("written");
        assert_eq!(on_disk(), Some(behind.clone()));
        // What nobody would guess.
        let counts = ["another".to_owned(), "new".to_owned()];
        for entry in [
            Entry { servers: counts, ..behind.clone() },
            dual(Some(StoreId::Secondary)),
            Entry { doubted: Some("secondary".to_owned()), ..dual(None) },
            Entry::running(Stage::DualPrimaryDefault, None),
            // A cold primary has not what only the secondary has.
            Entry::running(Stage::DualPrimaryDefault, Some(StoreId::Secondary)),
            Entry { clean: true, ..Entry::running(Stage::DualPrimaryDefault, Some(StoreId::Secondary)) },
            Entry::running(Stage::DualPrimaryDefault, Some(StoreId::Secondary)),
            Entry::running(Stage::PrimaryOnly, Some(StoreId::Secondary)),
        ] {
            is_written(entry.clone(), Written::Done);
            assert_eq!(on_disk(), Some(entry));
        }
    }
}
