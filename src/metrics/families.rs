//! The declarations: name, labels and help of every family, in one place.
//!
//! A family that is declared here is registered, listed in [`FAMILIES`] and demanded in `docs/metrics.md`.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::latency::LatencyVec;

/// What a family counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until the process ends.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size; its name gets the suffixes `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// The declaration of one family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The full name.
    pub name: &'static str,
    /// What it counts in.
    pub kind: Kind,
    /// The names of its labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// The text after `# HELP`.
    pub help: &'static str,
}

/// A family type that can be made from its declaration.
trait Declared: Sized + Clone + prometheus::core::Collector + 'static {
    const KIND: Kind;
    fn declare(family: &Family) -> prometheus::Result<Self>;
}

impl Declared for IntCounterVec {
    const KIND: Kind = Kind::Counter;
    fn declare(family: &Family) -> prometheus::Result<Self> {
        IntCounterVec::new(Opts::new(family.name, family.help), family.labels)
    }
}

impl Declared for IntGaugeVec {
    const KIND: Kind = Kind::Gauge;
    fn declare(family: &Family) -> prometheus::Result<Self> {
        IntGaugeVec::new(Opts::new(family.name, family.help), family.labels)
    }
}

impl Declared for LatencyVec {
    const KIND: Kind = Kind::Histogram;
    fn declare(family: &Family) -> prometheus::Result<Self> {
        LatencyVec::new(family.name, family.help, family.labels)
    }
}

/// From one list: the struct of families, the list of declarations, the registration.
macro_rules! families {
    ($($field:ident: $type:ident, $name:literal [$($label:literal),*] $help:literal;)+) => {
        /// One handle per family.
        pub(super) struct Families {
            $(pub(super) $field: $type,)+
        }

        /// Every family that this crate declares.
        pub const FAMILIES: &[Family] = &[
            $(Family {
                name: $name,
                kind: <$type as Declared>::KIND,
                labels: &[$($label),*],
                help: $help,
            },)+
        ];

        impl Families {
            /// Makes every family and registers it.
            pub(super) fn register(registry: &Registry) -> prometheus::Result<Families> {
                let mut declarations = FAMILIES.iter();
                Ok(Families { $($field: declare_next::<$type>(&mut declarations, registry)?,)+ })
            }
        }
    };
}

/// Registers the next declaration. The struct and the list come from one macro, so their order agrees.
fn declare_next<T: Declared>(
    declarations: &mut std::slice::Iter<'static, Family>,
    registry: &Registry,
) -> prometheus::Result<T> {
    let family =
        declarations.next().ok_or_else(|| prometheus::Error::Msg("a family without declaration".into()))?;
    let made = T::declare(family)?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

families! {
    // The three that operators of GitLab's MultiStore already know.
    read_fallback: IntCounterVec, "gitlab_redis_multi_store_read_fallback_total" ["command", "instance_name"]
        "Reads answered by the secondary store after the primary missed or failed";
    pipelined_diff: IntCounterVec, "gitlab_redis_multi_store_pipelined_diff_error_total" ["command", "instance_name"]
        "Pipelines and transactions to which the two stores replied differently";
    method_missing: IntCounterVec, "gitlab_redis_multi_store_method_missing_total" ["command", "instance_name"]
        "Commands that neither the built-in table nor the stores describe, sent to the default store alone";

    // Clients.
    requests: IntCounterVec, "multistore_requests_total" ["instance_name", "kind"]
        "Commands received from clients";
    request_duration: LatencyVec, "multistore_request_duration_seconds" ["instance_name", "kind"]
        "Time from a complete command to its complete reply";
    connections: IntGaugeVec, "multistore_connections" ["instance_name"]
        "Client connections open now";
    connections_accepted: IntCounterVec, "multistore_connections_total" ["instance_name"]
        "Client connections accepted";
    connections_rejected: IntCounterVec, "multistore_connections_rejected_total" ["instance_name", "reason"]
        "Client connections closed at once";
    connections_delayed: IntCounterVec, "multistore_connections_delayed_total" ["instance_name"]
        "Client connections that waited because of max_connection_rate";
    tls_reload_failures: IntCounterVec, "multistore_tls_reload_failures_total" ["instance_name"]
        "Changed certificates of the listener that could not be read";
    client_errors: IntCounterVec, "multistore_client_errors_total" ["instance_name", "kind"]
        "Client connections that the proxy ended or lost, and requests that it refused";
    client_bytes_received: IntCounterVec, "multistore_client_received_bytes_total" ["instance_name"]
        "Bytes received from clients";
    client_bytes_sent: IntCounterVec, "multistore_client_sent_bytes_total" ["instance_name"]
        "Bytes sent to clients";
    client_memory: IntGaugeVec, "multistore_client_memory_bytes" ["instance_name", "kind"]
        "Requests that are not complete or wait, and unread replies, of all clients together";
    parked_clients: IntGaugeVec, "multistore_parked_clients" ["instance_name"]
        "Clients waiting in a blocking command inside the proxy";
    dedicated_connections: IntGaugeVec, "multistore_dedicated_connections" ["instance_name"]
        "Connections to the default store that serve one client each";

    // Stores.
    store_up: IntGaugeVec, "multistore_store_up" ["instance_name", "store"]
        "1 if the store's lane is connected and answering";
    store_commands: IntCounterVec, "multistore_store_commands_total" ["instance_name", "store"]
        "Commands sent to the store";
    store_errors: IntCounterVec, "multistore_store_errors_total" ["instance_name", "store", "kind"]
        "Failures of a store or of a connection to it";
    lane_depth: IntGaugeVec, "multistore_lane_depth" ["instance_name", "store"]
        "Commands in the store's lane that await a reply";
    lane_queue_bytes: IntGaugeVec, "multistore_lane_queue_bytes" ["instance_name", "store"]
        "Bytes queued for the store and not answered yet: how far it lags";

    // Mirroring.
    mirror_write_failures: IntCounterVec, "multistore_mirror_write_failures_total" ["instance_name", "store"]
        "Writes that the default store took and this, the other store, refused or lost";
    dropped_writes: IntCounterVec, "multistore_dropped_writes_total" ["instance_name", "store"]
        "Mirrored writes never sent to this store, because it was down or too far behind";
    comparisons: IntCounterVec, "multistore_comparisons_total" ["instance_name"]
        "Replies of the two stores that were compared";
    comparisons_skipped: IntCounterVec, "multistore_comparisons_skipped_total" ["instance_name", "reason"]
        "Mirrored commands whose replies were not compared";
    command_diff: IntCounterVec, "multistore_command_diff_total" ["instance_name", "command"]
        "Standalone mirrored commands to which the two stores replied differently";
    reads_diverted: IntCounterVec, "multistore_reads_diverted_total" ["instance_name"]
        "Reads that went to the default store because the primary's lane was silent or behind";

    // The rollout.
    stage: IntGaugeVec, "multistore_stage" ["instance_name", "stage"]
        "1 for the stage the instance is in, 0 for the others";
    feature_flag: IntGaugeVec, "multistore_feature_flag" ["flag"]
        "1 if the feature flag is in effect";
    flips: IntCounterVec, "multistore_flips_total" ["instance_name"]
        "Changes of stage that were applied";
    flip_held: IntGaugeVec, "multistore_flip_held" ["instance_name"]
        "1 while a configured change of stage is held back";

    // What is in sync.
    suspects: IntGaugeVec, "multistore_suspect_keys" ["instance_name"]
        "Keys that are listed as suspect on a store and wait to be copied";
    oldest_suspect: IntGaugeVec, "multistore_oldest_suspect_seconds" ["instance_name"]
        "Age of the oldest suspect key";
    store_suspect: IntGaugeVec, "multistore_store_suspect" ["instance_name", "store"]
        "1 while a store is behind as a whole and is being repaired";
    source_in_doubt: IntGaugeVec, "multistore_source_in_doubt" ["instance_name", "store"]
        "1 while a store may have lost writes that the other one has, and an operator must name the one that is right";
    copies: IntCounterVec, "multistore_copies_total" ["instance_name", "outcome"]
        "Keys copied from the store that is right to the one that is behind, by outcome";

    // Backfill, verification, verdict.
    backfill_keys: IntGaugeVec, "multistore_backfill_keys" ["instance_name"]
        "Keys of the default store that the backfill has passed";
    verification_time: IntGaugeVec, "multistore_verification_timestamp_seconds" ["instance_name"]
        "Unix time of the end of the last complete verification, 0 if there was none";
    verification_differences: IntGaugeVec, "multistore_verification_differing_keys" ["instance_name"]
        "Keys that the last verification found to differ";
    verdict_safe: IntGaugeVec, "multistore_verdict_safe" ["instance_name", "direction"]
        "1 if nothing stands in the way of the next stage (forward) or of the one before (back)";

    // The process.
    config_reloads: IntCounterVec, "multistore_config_reloads_total" ["outcome"]
        "Reloads of the configuration file";
    config_last_reload_success: IntGaugeVec, "multistore_config_last_reload_success" []
        "1 if the configuration file as it stands was accepted";
    config_last_reload_timestamp: IntGaugeVec, "multistore_config_last_reload_success_timestamp_seconds" []
        "Unix time of the last accepted load of the configuration file";
    restarts: IntCounterVec, "multistore_restarts_total" ["instance_name"]
        "Times that an instance began anew because a panic had left its state in doubt";
    panics: IntCounterVec, "multistore_panics_total" []
        "Panics caught";
    build_info: IntGaugeVec, "multistore_build_info" ["version"]
        "Always 1; the label says what runs";
}
