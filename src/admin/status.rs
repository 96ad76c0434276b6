//! What `/status` shows. The same types read it back, for `multistore status`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backfill::BackfillStatus;
use super::verification::VerificationStatus;
use crate::logging::cut;
use crate::metrics::InstanceMetrics;
use crate::stage::Flags;
use crate::verdict::Verdict;

/// How many samples of differing replies are shown per instance.
pub const MAX_DIFF_SAMPLES: usize = 32;

/// How many bytes of each text in a sample are shown.
pub const MAX_SAMPLE_BYTES: usize = 256;

/// Asks the running proxy for its state. The answer may come from other tasks; the caller limits the wait.
pub type StatusSource = Arc<dyn Fn() -> SnapshotFuture + Send + Sync>;

/// The pending answer of a [`StatusSource`].
pub type SnapshotFuture = Pin<Box<dyn Future<Output = Snapshot> + Send>>;

/// What the running proxy knows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The configuration in effect.
    pub config: ConfigStatus,
    /// The process is ending: no longer ready.
    pub draining: bool,
    /// All instances, in the order of the configuration.
    pub instances: Vec<InstanceStatus>,
}

/// The body of `/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of this program.
    pub version: String,
    /// Time since the start.
    pub uptime_seconds: u64,
    /// The process is ending.
    pub draining: bool,
    /// The configuration in effect.
    pub config: ConfigStatus,
    /// All instances, in the order of the configuration.
    pub instances: Vec<InstanceStatus>,
}

/// The configuration in effect.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub path: String,
    /// The last reload, if there was one since the start.
    pub last_reload: Option<ReloadStatus>,
}

/// A reload of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When, as Unix time.
    pub at_unix_ms: u64,
    /// `applied`, `unchanged` or `invalid`.
    pub outcome: String,
    /// Why it was not applied.
    pub error: Option<String>,
    /// Changed settings that wait for a restart.
    pub restart_needed_for: Vec<String>,
}

/// One instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `secondary_only`, `dual_secondary_default`, `dual_primary_default` or `primary_only`.
    pub stage: String,
    /// The flags in effect.
    pub flags: FlagStatus,
    /// `primary` or `secondary`: whose replies clients get.
    pub default_store: String,
    /// Where clients connect to.
    pub listen: String,
    /// Are clients being accepted there?
    pub listening: bool,
    /// The read policy.
    pub reads: String,
    /// What a reply to a mirrored write waits for.
    pub ack: String,
    /// Both stores.
    pub stores: StoresStatus,
    /// Both stores are one server and database: dual is treated as off.
    pub same_server: bool,
    /// Clients connected now.
    pub clients: u64,
    /// What is being worked on: all 0 when nobody asks for anything.
    #[serde(default)]
    pub under_way: UnderWay,
    /// The counters on which a flip is decided, since the start.
    pub counters: CounterStatus,
    /// The latest differing replies, cut, and redacted by setting.
    pub diff_samples: Vec<DiffSample>,
    /// Why a configured change of stage is not applied yet.
    pub held_flip: Option<String>,
    /// What is known to be in sync.
    pub sync: SyncStatus,
    /// How far the backfill is.
    pub backfill: BackfillStatus,
    /// What the last verification found.
    pub verification: VerificationStatus,
    /// Is the next stage safe, and the way back?
    pub verdict: Verdict,
    /// Names of commands that nothing describes: the first few.
    pub missing_commands: Vec<String>,
}

/// What an instance works on at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Requests, effects and copies that a store has yet to answer.
    pub operations: u64,
    /// Requests and fences that wait behind a fence.
    pub held: u64,
    /// Clients that wait in a blocking command while both stores are in use.
    pub parked: u64,
    /// Keys that somebody has to himself, or waits for.
    pub fenced_keys: u64,
    /// Connections that serve one client.
    pub dedicated: u64,
}

/// What is known to be in sync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Of keys that are not listed: `in_sync`, `unknown`, `suspect_on_primary` or `suspect_on_secondary`.
    pub untouched_keys: String,
    /// The store that is being repaired as a whole: `primary` or `secondary`.
    pub behind_as_a_whole: Option<String>,
    /// The repair of a whole store that is under way.
    #[serde(default)]
    pub repair: Option<RepairStatus>,
    /// Keys that scripts may have changed without declaring them: `settled`, `being_heard`, or `walk_owed`, where the
    /// stores are to be walked for them.
    #[serde(default)]
    pub undeclared_keys: String,
    /// The stores that tell which keys change, so that undeclared ones are known.
    #[serde(default)]
    pub listens_to: Vec<String>,
    /// Keys that are listed as suspect on a store.
    pub suspects: u64,
    /// Since when the oldest of them waits.
    pub oldest_suspect_seconds: u64,
    /// Keys that are being copied now.
    pub copies_under_way: u64,
    /// Keys copied since the start.
    pub copies_done: u64,
    /// Attempts to copy that failed.
    pub copies_failed: u64,
    /// Keys above `copy_max_bytes` that could not be copied by pieces.
    pub copies_too_large: u64,
    /// Keys that the other store cannot hold.
    #[serde(default)]
    pub copies_unsupported: u64,
    /// Repair cannot go on by itself: why, and what to do.
    pub operator_must_name_source: Option<String>,
}

/// How far the repair of a whole store is: a walk over the keyspaces of both stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Keys that it has passed.
    pub keys_passed: u64,
    /// Keys that both stores had when it began.
    pub keys_expected: u64,
}

/// The two flags, under the first part of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagStatus {
    /// `use_primary_and_secondary_stores_for_<instance>`
    pub use_primary_and_secondary_stores: bool,
    /// `use_primary_store_as_default_for_<instance>`
    pub use_primary_store_as_default: bool,
}

/// Both stores of an instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoresStatus {
    /// The store being migrated to.
    pub primary: StoreStatus,
    /// The store being migrated from.
    pub secondary: StoreStatus,
}

/// One store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Host and port or path, and database: no user, no password.
    pub address: String,
    /// Connected and answering.
    pub up: bool,
    /// The server's version, once known.
    pub version: Option<String>,
    /// The server's run id, once known.
    pub run_id: Option<String>,
    /// The latest round trip.
    pub latency_us: Option<u64>,
    /// Bytes queued and not answered yet.
    pub queue_bytes: u64,
    /// Commands that await a reply.
    pub depth: u64,
    /// The latest failure.
    pub last_error: Option<String>,
}

/// The counters on which a flip is decided, summed over commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterStatus {
    /// Reads answered by the secondary after the primary missed or failed.
    pub read_fallback: u64,
    /// Pipelines and transactions with differing replies.
    pub pipelined_diff_error: u64,
    /// Commands that nothing describes.
    pub method_missing: u64,
    /// Standalone mirrored commands with differing replies.
    pub command_diff: u64,
    /// Writes that the other store refused or lost.
    pub mirror_write_failures: u64,
    /// Mirrored writes never sent.
    pub dropped_writes: u64,
}

/// One pair of replies that differed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSample {
    /// The command's name.
    pub command: String,
    /// The first key, escaped.
    pub key: String,
    /// The primary's reply.
    pub primary: String,
    /// The secondary's reply.
    pub secondary: String,
    /// When, as Unix time.
    pub at_unix_ms: u64,
}

// === impl InstanceStatus ===

impl InstanceStatus {
    /// Are both stores in use?
    pub fn is_dual(&self) -> bool {
        self.stage.starts_with("dual")
    }

    /// The store that is down although both are in use: what it holds cannot be known.
    pub fn down_while_dual(&self) -> Option<&'static str> {
        let stores = [("primary", &self.stores.primary), ("secondary", &self.stores.secondary)];
        stores.into_iter().find(|(_, store)| self.is_dual() && !store.up).map(|(name, _)| name)
    }

    /// The store whose replies clients get.
    pub fn default_store(&self) -> &StoreStatus {
        match self.default_store.as_str() {
            "primary" => &self.stores.primary,
            _ => &self.stores.secondary,
        }
    }

    /// Why this instance cannot serve clients now.
    pub fn obstacle(&self) -> Option<String> {
        if !self.listening {
            return Some(format!("{}: not listening on {}", self.name, self.listen));
        }
        let store = self.default_store();
        if store.up {
            return None;
        }
        let because = store.last_error.as_deref().unwrap_or("not connected yet");
        Some(format!(
            "{}: the default store ({}, {}) is down: {because}",
            self.name, self.default_store, store.address
        ))
    }

    /// Holds the samples to their bounds, whoever made them: the latest remain.
    pub(super) fn bounded(mut self) -> InstanceStatus {
        let excess = self.diff_samples.len().saturating_sub(MAX_DIFF_SAMPLES);
        self.diff_samples.drain(..excess);
        for sample in &mut self.diff_samples {
            for text in [&mut sample.command, &mut sample.key, &mut sample.primary, &mut sample.secondary] {
                text.truncate(cut(text, MAX_SAMPLE_BYTES).len());
            }
        }
        self
    }
}

// === impl FlagStatus ===

impl From<Flags> for FlagStatus {
    fn from(flags: Flags) -> FlagStatus {
        FlagStatus {
            use_primary_and_secondary_stores: flags.use_both,
            use_primary_store_as_default: flags.primary_default,
        }
    }
}

// === impl CounterStatus ===

impl From<&InstanceMetrics> for CounterStatus {
    fn from(metrics: &InstanceMetrics) -> CounterStatus {
        CounterStatus {
            read_fallback: metrics.read_fallback.total(),
            pipelined_diff_error: metrics.pipelined_diff.get() + metrics.multi_diff.get(),
            method_missing: metrics.method_missing.total(),
            command_diff: metrics.command_diff.total(),
            mirror_write_failures: metrics.stores().map(|store| store.mirror_write_failures.get()).sum(),
            dropped_writes: metrics.stores().map(|store| store.dropped_writes.get()).sum(),
        }
    }
}
