//! Every name, label and help text of `/metrics`, once, and the handles that the hot path adds to.
//!
//! - [`families`]: the declarations;
//! - [`labels`]: the closed sets of label values;
//! - [`instance`]: the handles of one instance, resolved beforehand, so that counting is one atomic add;
//! - [`commands`]: counters by command, by index into the command table;
//! - [`latency`]: the histogram.
//!
//! Label values are names from the configuration, from the command table or from [`labels`]:
//! never a key, never free text, so the number of series has a bound that no client can move.
//! Every metric is described in `docs/metrics.md`; a test holds the two together.

pub mod commands;
pub mod families;
pub mod instance;
pub mod labels;
pub mod latency;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};

pub use commands::CommandCounters;
pub use instance::{InstanceMetrics, StoreMetrics};
pub use labels::{
    ClientErrorKind, ClientMemory, CopyOutcome, Direction, RejectReason, ReloadOutcome, RequestKind,
    SkipReason, StoreErrorKind,
};
pub use latency::Latency;

use families::Families;
use labels::PerLabel;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const UNLABELLED: &[&str] = &[];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    families: Families,
    config_reloads: PerLabel<ReloadOutcome, IntCounter>,
    last_reload_success: IntGauge,
    last_reload_timestamp: IntGauge,
    panics: IntCounter,
}

/// Why the metrics could not be set up: a name declared twice, or one that is no Prometheus name.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

// === impl Metrics ===

impl Metrics {
    /// Registers every family and the series that belong to no instance. The configuration counts as loaded now.
    pub fn new() -> Result<Arc<Metrics>, MetricsError> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Metrics {
            config_reloads: PerLabel::new(|outcome| families.config_reloads.with_label_values(&[outcome])),
            last_reload_success: families.config_last_reload_success.with_label_values(UNLABELLED),
            last_reload_timestamp: families.config_last_reload_timestamp.with_label_values(UNLABELLED),
            panics: families.panics.with_label_values(UNLABELLED),
            registry,
            families,
        };
        metrics.config_accepted(SystemTime::now());
        Ok(Arc::new(metrics))
    }

    /// The handles of one instance; from here on all its series exist.
    ///
    /// `commands` are the names of the command table in its order: counters by command are addressed by
    /// that index. `is_read` tells which of them may fall back. The same name twice gives the same series.
    pub fn instance(
        &self,
        name: &str,
        commands: &[&'static str],
        is_read: impl Fn(usize) -> bool,
    ) -> Arc<InstanceMetrics> {
        // The series exists from the start.
        let _ = self.restarts(name);
        Arc::new(InstanceMetrics::new(&self.families, name, commands, is_read))
    }

    /// Counts a reload. The gauges of the last reload follow: an invalid or refused file is a failure,
    /// an unchanged one a success. The load at the start is no reload.
    pub fn config_reloaded(&self, outcome: ReloadOutcome, now: SystemTime) {
        self.config_reloads[outcome].inc();
        match outcome {
            ReloadOutcome::Applied | ReloadOutcome::Unchanged => self.config_accepted(now),
            ReloadOutcome::Invalid => self.last_reload_success.set(0),
        }
    }

    /// Panics that were caught (a task that died, or seen by a panic hook).
    pub fn panics(&self) -> &IntCounter {
        &self.panics
    }

    /// How often an instance had to begin anew after a panic.
    pub fn restarts(&self, instance: &str) -> IntCounter {
        self.families.restarts.with_label_values(&[instance])
    }

    fn config_accepted(&self, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        self.last_reload_success.set(1);
        self.last_reload_timestamp.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// The Prometheus text of everything.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}
