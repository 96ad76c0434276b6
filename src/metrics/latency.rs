//! A histogram of durations with fixed buckets.
//!
//! The crate's own histogram costs several atomic read-modify-writes and a float compare-exchange loop;
//! this one costs a search in a small array and two relaxed adds. Readers may see a count without its
//! sum for an instant, as with any set of independent counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// Upper bounds of the buckets, in nanoseconds; a last bucket takes the rest.
pub const BOUNDS_NANOS: [u64; 17] = [
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

const NANOS_PER_SECOND: f64 = 1e9;

/// One histogram.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS_NANOS.len() + 1],
    sum_nanos: AtomicU64,
}

// === impl Latency ===

impl Latency {
    /// Counts one duration, in microseconds.
    pub fn observe(&self, micros: u64) {
        self.observe_many(micros, 1);
    }

    /// Counts so many equal durations.
    pub fn observe_many(&self, micros: u64, times: u64) {
        let nanos = micros.saturating_mul(1000);
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(times, Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(nanos.saturating_mul(times), Ordering::Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn to_histogram(&self) -> Histogram {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_NANOS.len());
        for (bound, count) in BOUNDS_NANOS.iter().zip(&self.buckets) {
            cumulative += count.load(Ordering::Relaxed);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / NANOS_PER_SECOND);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let rest = self.buckets.last().map_or(0, |count| count.load(Ordering::Relaxed));
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative + rest);
        histogram.set_sample_sum(self.sum_nanos.load(Ordering::Relaxed) as f64 / NANOS_PER_SECOND);
        histogram
    }
}

/// A family of histograms.
#[derive(Clone)]
pub(super) struct LatencyVec {
    desc: Arc<Desc>,
    children: Arc<Mutex<Vec<Child>>>,
}

struct Child {
    values: Vec<String>,
    latency: Arc<Latency>,
}

// === impl LatencyVec ===

impl LatencyVec {
    pub(super) fn new(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<LatencyVec> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())?;
        Ok(LatencyVec { desc: Arc::new(desc), children: Arc::default() })
    }

    /// The histogram of these label values, made on first use.
    pub(super) fn with_label_values(&self, values: &[&str]) -> Arc<Latency> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = children.iter().find(|child| child.values == values) {
            return child.latency.clone();
        }
        let latency = Arc::<Latency>::default();
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        children.push(Child { values, latency: latency.clone() });
        latency
    }

    fn to_metric(&self, child: &Child) -> Metric {
        let pairs = self.desc.variable_labels.iter().zip(&child.values);
        let labels = pairs.map(|(name, value)| label_pair(name, value)).collect();
        let mut metric = Metric::from_label(labels);
        metric.set_histogram(child.latency.to_histogram());
        metric
    }
}

impl Collector for LatencyVec {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(children.iter().map(|child| self.to_metric(child)).collect());
        vec![family]
    }
}

fn label_pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
