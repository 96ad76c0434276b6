//! The handles of one instance.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use super::commands::{CommandCounters, LabelOrder};
use super::families::Families;
use super::labels::{
    ClientErrorKind, ClientMemory, CopyOutcome, Direction, PerLabel, RejectReason, RequestKind, SkipReason,
    StoreErrorKind,
};
use super::latency::Latency;
use crate::stage::{Flags, STORES, Stage, StoreId, primary_default_flag, use_both_flag};

/// Everything that is counted for one instance. What each one means stands in [`super::families`].
pub struct InstanceMetrics {
    /// Reads answered by the secondary after the primary missed or failed, by command.
    pub read_fallback: CommandCounters,
    /// Pipelines with differing replies.
    pub pipelined_diff: IntCounter,
    /// Transactions with differing replies.
    pub multi_diff: IntCounter,
    /// Commands that nothing describes: `other`, as they are not in the table.
    pub method_missing: CommandCounters,

    /// Commands received.
    pub requests: PerLabel<RequestKind, IntCounter>,
    /// Time from a complete command to its complete reply.
    pub request_duration: PerLabel<RequestKind, Arc<Latency>>,
    /// Client connections open now.
    pub connections: IntGauge,
    /// Client connections accepted.
    pub connections_accepted: IntCounter,
    /// Client connections closed at once.
    pub connections_rejected: PerLabel<RejectReason, IntCounter>,
    /// Client connections that waited to be taken.
    pub connections_delayed: IntCounter,
    /// Certificates that could not be read.
    pub tls_reload_failures: IntCounter,
    /// Clients that went wrong.
    pub client_errors: PerLabel<ClientErrorKind, IntCounter>,
    /// Bytes received from clients.
    pub client_bytes_received: IntCounter,
    /// Bytes sent to clients.
    pub client_bytes_sent: IntCounter,
    /// What the requests and the unread replies of all clients take.
    pub client_memory: PerLabel<ClientMemory, IntGauge>,
    /// Clients waiting in a blocking command inside the proxy.
    pub parked_clients: IntGauge,
    /// Connections to the default store that serve one client each.
    pub dedicated_connections: IntGauge,

    /// Replies that were compared.
    pub comparisons: IntCounter,
    /// Replies that were not compared.
    pub comparisons_skipped: PerLabel<SkipReason, IntCounter>,
    /// Standalone mirrored commands with differing replies, by command.
    pub command_diff: CommandCounters,
    /// Reads sent to the default store because the primary was slow.
    pub reads_diverted: IntCounter,
    /// Changes of stage that were applied.
    pub flips: IntCounter,
    /// Keys listed as suspect.
    pub suspects: IntGauge,
    /// Age of the oldest of them in seconds.
    pub oldest_suspect: IntGauge,
    /// Keys copied, by outcome.
    pub copies: PerLabel<CopyOutcome, IntCounter>,
    /// 1 while a change of stage is held back.
    pub flip_held: IntGauge,
    /// Keys that the backfill has passed.
    pub backfill_keys: IntGauge,
    /// Unix time of the last complete verification.
    pub verification_time: IntGauge,
    /// Keys that the last verification found to differ.
    pub verification_differences: IntGauge,
    /// 1 if the step is safe: forward, back.
    pub verdict_safe: PerLabel<Direction, IntGauge>,

    stores: [StoreMetrics; STORES],
    stages: Vec<(Stage, IntGauge)>,
    use_both: IntGauge,
    primary_default: IntGauge,
}

/// Everything that is counted for one store of an instance.
pub struct StoreMetrics {
    /// 1 if the lane is connected and answering.
    pub up: IntGauge,
    /// Commands sent to the store.
    pub commands: IntCounter,
    /// Failures of the store or of a connection to it.
    pub errors: PerLabel<StoreErrorKind, IntCounter>,
    /// Commands in the lane that await a reply.
    pub lane_depth: IntGauge,
    /// Bytes queued for the store and not answered yet.
    pub lane_queue_bytes: IntGauge,
    /// Writes that the default store took and this store refused or lost.
    pub mirror_write_failures: IntCounter,
    /// Mirrored writes never sent to this store.
    pub dropped_writes: IntCounter,
    /// 1 while the store is behind as a whole.
    pub suspect: IntGauge,
    /// 1 while the store may have lost writes, and an operator must say which store is right.
    pub in_doubt: IntGauge,
}

// === impl InstanceMetrics ===

impl InstanceMetrics {
    pub(super) fn new(
        families: &Families,
        name: &str,
        commands: &[&'static str],
        is_read: impl Fn(usize) -> bool,
    ) -> InstanceMetrics {
        let names: Arc<[&'static str]> = commands.into();
        let by_command = |family, order, from_the_start: &dyn Fn(usize) -> bool| {
            CommandCounters::new(family, order, name, names.clone(), from_the_start)
        };
        let metrics = InstanceMetrics {
            read_fallback: by_command(&families.read_fallback, LabelOrder::CommandFirst, &is_read),
            pipelined_diff: families.pipelined_diff.with_label_values(&["pipelined", name]),
            multi_diff: families.pipelined_diff.with_label_values(&["multi", name]),
            method_missing: by_command(&families.method_missing, LabelOrder::CommandFirst, &|_| false),
            requests: PerLabel::new(|kind| families.requests.with_label_values(&[name, kind])),
            request_duration: PerLabel::new(|kind| {
                families.request_duration.with_label_values(&[name, kind])
            }),
            connections: families.connections.with_label_values(&[name]),
            connections_accepted: families.connections_accepted.with_label_values(&[name]),
            connections_rejected: PerLabel::new(|reason| {
                families.connections_rejected.with_label_values(&[name, reason])
            }),
            connections_delayed: families.connections_delayed.with_label_values(&[name]),
            tls_reload_failures: families.tls_reload_failures.with_label_values(&[name]),
            client_errors: PerLabel::new(|kind| families.client_errors.with_label_values(&[name, kind])),
            client_bytes_received: families.client_bytes_received.with_label_values(&[name]),
            client_bytes_sent: families.client_bytes_sent.with_label_values(&[name]),
            client_memory: PerLabel::new(|kind| families.client_memory.with_label_values(&[name, kind])),
            parked_clients: families.parked_clients.with_label_values(&[name]),
            dedicated_connections: families.dedicated_connections.with_label_values(&[name]),
            comparisons: families.comparisons.with_label_values(&[name]),
            comparisons_skipped: PerLabel::new(|reason| {
                families.comparisons_skipped.with_label_values(&[name, reason])
            }),
            command_diff: by_command(&families.command_diff, LabelOrder::InstanceFirst, &|_| true),
            reads_diverted: families.reads_diverted.with_label_values(&[name]),
            flips: families.flips.with_label_values(&[name]),
            suspects: families.suspects.with_label_values(&[name]),
            oldest_suspect: families.oldest_suspect.with_label_values(&[name]),
            copies: PerLabel::new(|outcome| families.copies.with_label_values(&[name, outcome])),
            flip_held: families.flip_held.with_label_values(&[name]),
            backfill_keys: families.backfill_keys.with_label_values(&[name]),
            verification_time: families.verification_time.with_label_values(&[name]),
            verification_differences: families.verification_differences.with_label_values(&[name]),
            verdict_safe: PerLabel::new(|direction| {
                families.verdict_safe.with_label_values(&[name, direction])
            }),
            stores: StoreId::ALL.map(|store| StoreMetrics::new(families, name, store)),
            stages: Stage::ALL
                .map(|stage| (stage, families.stage.with_label_values(&[name, stage.name()])))
                .into(),
            use_both: families.feature_flag.with_label_values(&[&use_both_flag(name)]),
            primary_default: families.feature_flag.with_label_values(&[&primary_default_flag(name)]),
        };
        metrics.set_flags(Flags::default());
        metrics
    }

    /// The handles of one of the two stores.
    pub fn store(&self, store: StoreId) -> &StoreMetrics {
        let [primary, secondary] = &self.stores;
        match store {
            StoreId::Primary => primary,
            StoreId::Secondary => secondary,
        }
    }

    /// The handles of both stores.
    pub fn stores(&self) -> impl Iterator<Item = &StoreMetrics> {
        self.stores.iter()
    }

    /// Shows the flags that are in effect and the stage that they make.
    pub fn set_flags(&self, flags: Flags) {
        self.use_both.set(i64::from(flags.use_both));
        self.primary_default.set(i64::from(flags.primary_default));
        for (stage, gauge) in &self.stages {
            gauge.set(i64::from(*stage == flags.stage()));
        }
    }
}

// === impl StoreMetrics ===

impl StoreMetrics {
    fn new(families: &Families, instance: &str, store: StoreId) -> StoreMetrics {
        let labels = [instance, store.name()];
        StoreMetrics {
            up: families.store_up.with_label_values(&labels),
            commands: families.store_commands.with_label_values(&labels),
            errors: PerLabel::new(|kind| {
                families.store_errors.with_label_values(&[instance, store.name(), kind])
            }),
            lane_depth: families.lane_depth.with_label_values(&labels),
            lane_queue_bytes: families.lane_queue_bytes.with_label_values(&labels),
            mirror_write_failures: families.mirror_write_failures.with_label_values(&labels),
            dropped_writes: families.dropped_writes.with_label_values(&labels),
            suspect: families.store_suspect.with_label_values(&labels),
            in_doubt: families.source_in_doubt.with_label_values(&labels),
        }
    }
}
