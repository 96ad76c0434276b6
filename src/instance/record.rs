//! What must be known after a crash goes to the state file.

use std::io;

use tokio::runtime::Handle;

use crate::sequencer::Recorded;
use crate::sequencer::knowledge::Sync;
use crate::stage::StoreId;
use crate::state::{Entry, SuspectEntry, Written};

use super::Instance;

/// Keys suspect on the default store that are recorded.
const MAX_SUSPECTS: usize = 1_000;

// === impl Instance ===

impl Instance {
    /// Records what has changed since it was last recorded, if that must survive a crash. Comes before any
    /// request leaves, and before any reply.
    pub fn record(&self) {
        let now = self.core().to_record();
        if self.recorded.replace(Some(now)) != Some(now) {
            self.write_state(now, false);
        }
    }

    /// Records a clean stop, if it is one: both stores have answered everything, nothing is suspect.
    pub fn record_stop(&self) {
        let core = self.core();
        let idle =
            StoreId::ALL.iter().all(|store| core.lane(*store).is_up() && core.lane(*store).depth() == 0);
        let (suspects, _) = core.suspects();
        let now = core.to_record();
        let walks = core.is_deaf() || now.base == Sync::Unknown && core.behind_as_a_whole().is_some();
        let clean = idle && suspects == 0 && !walks;
        drop(core);
        self.write_state(now, clean);
    }

    fn suspects_to_record(&self) -> Vec<SuspectEntry> {
        let core = self.core();
        let mut suspects: Vec<SuspectEntry> =
            core.suspects_on_default().take(MAX_SUSPECTS).map(SuspectEntry::of).collect();
        if suspects.len() == MAX_SUSPECTS {
            tracing::warn!(instance = %self.name, "more keys than {MAX_SUSPECTS} are suspect on the default store: after a \
                crash the others would be taken from it");
        }
        suspects.sort_by(|a, b| (a.db, &a.key).cmp(&(b.db, &b.key)));
        suspects
    }

    pub(super) fn write_state(&self, now: Recorded, clean: bool) {
        if self.has_failed() {
            return;
        }
        let behind = match now.base {
            Sync::Suspect(store) => Some(store),
            Sync::InSync | Sync::Unknown => None,
        };
        let entry = Entry {
            clean,
            in_sync: now.base == Sync::InSync,
            doubted: now.doubted.map(|store| store.name().to_owned()),
            servers: self.servers.borrow().each_ref().map(|server| server.run_id.clone()),
            histories: self.servers.borrow().each_ref().map(|server| server.replication_id.clone()),
            places: self.servers.borrow().each_ref().map(|server| server.place.clone()),
            suspects: self.suspects_to_record(),
            backfill: self.backfill().to_record(clean),
            ..Entry::running(now.stage, behind)
        };
        match self.state.set(&self.name, entry) {
            Ok(Written::Done) => {}
            Ok(Written::Later) => self.write_later(),
            Err(error) => not_written(&self.name, &error),
        }
    }

    /// Writes what is recorded where nobody waits for the disk.
    fn write_later(&self) {
        let (state, name) = (self.state.clone(), self.name.clone());
        let catch_up = move || state.catch_up().unwrap_or_else(|error| not_written(&name, &error));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(catch_up)),
            Err(_) => catch_up(),
        }
    }
}

fn not_written(instance: &str, error: &io::Error) {
    tracing::error!(instance = %instance,
        "the state file cannot be written ({error}): after a crash nobody would know which store is behind");
}
