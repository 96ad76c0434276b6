//! What `/status` shows of an instance.

use std::time::UNIX_EPOCH;

use super::Instance;
use crate::admin::{
    CounterStatus, DiffSample, FlagStatus, InstanceStatus, RepairStatus, StoreStatus, StoresStatus,
    SyncStatus, UnderWay,
};
use crate::sequencer::knowledge::Sync;
use crate::stage::StoreId;

// === impl Instance ===

impl Instance {
    /// The instance as it is now.
    pub fn status(&self) -> InstanceStatus {
        let config = self.config();
        let core = self.core();
        let stage = core.stage();
        InstanceStatus {
            name: self.name.clone(),
            stage: stage.name().to_owned(),
            flags: FlagStatus::from(core.flags()),
            default_store: stage.default_store().name().to_owned(),
            listen: config.listen.to_string(),
            listening: self.listening.get(),
            reads: config.reads.name().to_owned(),
            ack: config.ack.name().to_owned(),
            stores: StoresStatus {
                primary: self.store_status(StoreId::Primary),
                secondary: self.store_status(StoreId::Secondary),
            },
            same_server: core.same_server(),
            clients: self.client_count() as u64,
            under_way: self.under_way(),
            counters: CounterStatus::from(&*self.metrics),
            diff_samples: core.samples.iter().map(sample).collect(),
            held_flip: core.held_flip().map(|held| format!("{}: {}", held.wanted, held.reason)),
            sync: self.sync_status(),
            backfill: self.backfill().status(core.copy_counts().done),
            verification: self.verification_status(),
            verdict: self.verdict(),
            missing_commands: self.missing(),
        }
    }

    fn under_way(&self) -> UnderWay {
        let core = self.core();
        UnderWay {
            operations: core.operations() as u64,
            held: core.held() as u64,
            parked: core.parked() as u64,
            fenced_keys: core.fenced_keys() as u64,
            dedicated: self.metrics.dedicated_connections.get().unsigned_abs(),
        }
    }

    fn sync_status(&self) -> SyncStatus {
        let core = self.core();
        let (suspects, age) = core.suspects();
        let counts = core.copy_counts();
        SyncStatus {
            untouched_keys: match core.sync_base() {
                Sync::InSync => "in_sync".to_owned(),
                Sync::Unknown => "unknown".to_owned(),
                Sync::Suspect(store) => format!("suspect_on_{store}"),
            },
            behind_as_a_whole: core.behind_as_a_whole().map(|store| store.name().to_owned()),
            repair: self
                .background
                .repair
                .get()
                .map(|walk| RepairStatus { keys_passed: walk.seen, keys_expected: walk.expected }),
            undeclared_keys: match (core.owes_walk(), core.is_deaf()) {
                (true, _) => "walk_owed",
                (false, true) => "being_heard",
                (false, false) => "settled",
            }
            .to_owned(),
            listens_to: StoreId::ALL
                .iter()
                .filter(|store| core.is_ear_open(**store))
                .map(|store| store.name().to_owned())
                .collect(),
            suspects: suspects as u64,
            oldest_suspect_seconds: age / 1_000_000,
            copies_under_way: core.copies_under_way() as u64,
            copies_done: counts.done,
            copies_failed: counts.failed,
            copies_too_large: counts.too_large,
            copies_unsupported: counts.unsupported,
            operator_must_name_source: self.source_in_doubt().map(|why| {
                format!(
                    "{why}: say which store is right, multistore repair --from primary or --from secondary"
                )
            }),
        }
    }

    fn store_status(&self, store: StoreId) -> StoreStatus {
        let core = self.core();
        let lane = core.lane(store);
        let facts = self.facts(store);
        let identity = facts.identity.as_ref();
        StoreStatus {
            address: self.config().store(store).to_string(),
            up: lane.is_up(),
            version: identity.map(|identity| identity.version.clone()),
            run_id: identity.map(|identity| identity.run_id.clone()),
            latency_us: lane.round_trip(),
            queue_bytes: lane.queued_bytes(),
            depth: lane.depth() as u64,
            last_error: facts.last_error.filter(|_| !lane.is_up()),
        }
    }
}

fn sample(sample: &crate::compare::DiffSample) -> DiffSample {
    let at = sample.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    DiffSample {
        command: sample.command.clone(),
        key: sample.key.clone().unwrap_or_default(),
        primary: sample.primary.clone(),
        secondary: sample.secondary.clone(),
        at_unix_ms: at.as_millis() as u64,
    }
}
