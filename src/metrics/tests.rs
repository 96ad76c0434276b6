use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::families::{FAMILIES, Kind};
use super::labels::Closed;
use super::*;
use crate::stage::{Flags, Stage, StoreId};

const COMMANDS: &[&str] = &["get", "set", "hget"];
const GET: usize = 0;
const SET: usize = 1;

fn is_read(command: usize) -> bool {
    command != SET
}

fn instance(metrics: &Metrics) -> Arc<InstanceMetrics> {
    metrics.instance("duplicate_jobs", COMMANDS, is_read)
}

/// The text as series → value; every line that is not understood fails the test.
fn series(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.render().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect(line);
            (series.to_owned(), value.parse().expect(line))
        })
        .collect()
}

#[test]
fn the_three_known_counters_have_their_exact_names() {
    let metrics = Metrics::new().unwrap();
    let handles = instance(&metrics);
    handles.read_fallback.inc(GET);
    handles.pipelined_diff.inc();
    handles.multi_diff.inc_by(2);
    handles.method_missing.inc_other();
    let series = series(&metrics);
    let prefix = "gitlab_redis_multi_store";
    let labels = |command| format!(r#"{{command="{command}",instance_name="duplicate_jobs"}}"#);
    let value = |name, command| series[&format!("{prefix}_{name}{}", labels(command))];
    assert_eq!(value("read_fallback_total", "get"), 1.0);
    assert_eq!(value("pipelined_diff_error_total", "pipelined"), 1.0);
    assert_eq!(value("pipelined_diff_error_total", "multi"), 2.0);
    assert_eq!(value("method_missing_total", "other"), 1.0);
}

#[test]
fn every_declared_family_has_series_with_value_0_from_the_start() {
    let metrics = Metrics::new().unwrap();
    instance(&metrics);
    let series = series(&metrics);
    for family in FAMILIES {
        let name = match family.kind {
            Kind::Histogram => format!("{}_count", family.name),
            _ => family.name.to_owned(),
        };
        let own: Vec<_> = series.iter().filter(|(key, _)| key.split('{').next() == Some(&name)).collect();
        assert!(!own.is_empty(), "{name} has no series");
        let shows_state = family.kind == Kind::Gauge;
        assert!(shows_state || own.iter().all(|(_, value)| **value == 0.0), "{own:?}");
    }
}

#[test]
fn reads_have_a_fallback_series_from_the_start_and_writes_none() {
    let metrics = Metrics::new().unwrap();
    instance(&metrics);
    let text = metrics.render().unwrap();
    let fallback = |command| format!(r#"read_fallback_total{{command="{command}""#);
    assert!(text.contains(&fallback("get")) && text.contains(&fallback("hget")));
    assert!(text.contains(&fallback("other")) && !text.contains(&fallback("set")));
}

#[test]
fn every_command_has_a_diff_series_from_the_start() {
    let metrics = Metrics::new().unwrap();
    instance(&metrics);
    let series = series(&metrics);
    for command in COMMANDS.iter().chain(&["other"]) {
        let labels = format!(r#"{{command="{command}",instance_name="duplicate_jobs"}}"#);
        assert_eq!(series[&format!("multistore_command_diff_total{labels}")], 0.0);
    }
}

#[test]
fn an_index_beyond_the_table_counts_as_other() {
    let metrics = Metrics::new().unwrap();
    let handles = instance(&metrics);
    handles.command_diff.inc(SET);
    handles.command_diff.inc(COMMANDS.len());
    assert_eq!((handles.command_diff.get(SET), handles.command_diff.get(usize::MAX)), (1, 1));
    assert_eq!(handles.command_diff.total(), 2);
    let series = series(&metrics);
    assert_eq!(
        series[r#"multistore_command_diff_total{command="other",instance_name="duplicate_jobs"}"#],
        1.0
    );
}

#[test]
fn instances_do_not_share_series_and_a_second_handle_does() {
    let metrics = Metrics::new().unwrap();
    let (first, again) = (instance(&metrics), instance(&metrics));
    let other = metrics.instance("cache", COMMANDS, is_read);
    first.requests[RequestKind::Read].inc();
    first.request_duration[RequestKind::Read].observe(1000);
    assert_eq!(again.requests[RequestKind::Read].get(), 1);
    assert_eq!(again.request_duration[RequestKind::Read].count(), 1);
    assert_eq!(other.requests[RequestKind::Read].get(), 0);
}

#[test]
fn labels_stand_at_the_value_they_name() {
    let metrics = Metrics::new().unwrap();
    let handles = instance(&metrics);
    for (position, kind) in StoreErrorKind::ALL.iter().enumerate() {
        assert_eq!(kind.index(), position);
        handles.store(StoreId::Secondary).errors[*kind].inc();
        let series = series(&metrics);
        let labels =
            |store| format!(r#"{{instance_name="duplicate_jobs",kind="{}",store="{store}"}}"#, kind.name());
        assert_eq!(series[&format!("multistore_store_errors_total{}", labels("secondary"))], 1.0);
        assert_eq!(series[&format!("multistore_store_errors_total{}", labels("primary"))], 0.0);
    }
}

#[test]
fn exactly_one_stage_is_shown_with_its_flags() {
    let metrics = Metrics::new().unwrap();
    let handles = instance(&metrics);
    for stage in Stage::ALL {
        handles.set_flags(stage.flags());
        let series = series(&metrics);
        let shown: Vec<_> = series
            .iter()
            .filter(|(key, value)| key.starts_with("multistore_stage{") && **value == 1.0)
            .map(|(key, _)| key.clone())
            .collect();
        assert_eq!(shown, [format!(r#"multistore_stage{{instance_name="duplicate_jobs",stage="{stage}"}}"#)]);
        let flag =
            |name: &str| series[&format!(r#"multistore_feature_flag{{flag="{name}_for_duplicate_jobs"}}"#)];
        let Flags { use_both, primary_default } = stage.flags();
        assert_eq!(flag("use_primary_and_secondary_stores"), f64::from(u8::from(use_both)));
        assert_eq!(flag("use_primary_store_as_default"), f64::from(u8::from(primary_default)));
    }
}

#[test]
fn buckets_are_cumulative_and_their_bounds_inclusive() {
    let metrics = Metrics::new().unwrap();
    let handles = instance(&metrics);
    let latency = &handles.request_duration[RequestKind::Write];
    for micros in [50, 51, 100, 10_000_000, 10_000_001] {
        latency.observe(micros);
    }
    latency.observe(0);
    let series = series(&metrics);
    let bucket = |le: &str| {
        let labels = format!(r#"{{instance_name="duplicate_jobs",kind="write",le="{le}"}}"#);
        series[&format!("multistore_request_duration_seconds_bucket{labels}")]
    };
    assert_eq!((bucket("0.00005"), bucket("0.0001"), bucket("5")), (2.0, 4.0, 4.0));
    assert_eq!((bucket("10"), bucket("+Inf")), (5.0, 6.0));
    let sum =
        series[r#"multistore_request_duration_seconds_sum{instance_name="duplicate_jobs",kind="write"}"#];
    assert!((sum - 20.000_202).abs() < 1e-9, "{sum}");
}

#[test]
fn a_rejected_reload_shows_until_one_is_accepted() {
    let metrics = Metrics::new().unwrap();
    let success = || series(&metrics)["multistore_config_last_reload_success"];
    let time = || series(&metrics)["multistore_config_last_reload_success_timestamp_seconds"];
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(success(), 1.0);
    metrics.config_reloaded(ReloadOutcome::Applied, at(100));
    metrics.config_reloaded(ReloadOutcome::Invalid, at(200));
    assert_eq!((success(), time()), (0.0, 100.0));
    metrics.config_reloaded(ReloadOutcome::Unchanged, at(300));
    assert_eq!((success(), time()), (1.0, 300.0));
    let series = series(&metrics);
    for outcome in ["applied", "unchanged", "invalid"] {
        assert_eq!(series[&format!(r#"multistore_config_reloads_total{{outcome="{outcome}"}}"#)], 1.0);
    }
}

/// `(name, type, labels)` of each row of the tables in `docs/metrics.md`.
fn documented() -> BTreeSet<(String, String, Vec<String>)> {
    let quoted =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        match cells[..] {
            ["", name, kind, labels, _, _, ""] => {
                let mut labels = quoted(labels);
                labels.sort();
                Some((quoted(name).remove(0), kind.to_owned(), labels))
            }
            _ => None,
        }
    })
    .collect()
}

/// The same of what is really there, the crate's process metrics included.
fn exposed() -> BTreeSet<(String, String, Vec<String>)> {
    let metrics = Metrics::new().unwrap();
    instance(&metrics);
    let gathered = metrics.registry.gather();
    let families = gathered.iter().map(|family| {
        let labels = family.get_metric()[0].get_label().iter().map(|label| label.name().to_owned());
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        (family.name().to_owned(), kind, labels.collect::<BTreeSet<_>>().into_iter().collect())
    });
    families.collect()
}

#[test]
fn documentation_and_metrics_agree() {
    let (documented, exposed) = (documented(), exposed());
    let missing: Vec<_> = exposed.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&exposed).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:#?}");
    assert!(stale.is_empty(), "in docs/metrics.md only: {stale:#?}");
}

/// The closed sets of label values; a new value must be explained.
#[test]
fn every_label_value_is_documented() {
    let docs = include_str!("../../docs/metrics.md");
    fn names<L: Closed>() -> impl Iterator<Item = &'static str> {
        L::ALL.iter().map(|label| label.name())
    }
    let stages = Stage::ALL.iter().map(|stage| stage.name());
    let all = names::<RequestKind>()
        .chain(names::<RejectReason>())
        .chain(names::<ClientErrorKind>())
        .chain(names::<StoreErrorKind>())
        .chain(names::<SkipReason>())
        .chain(names::<ReloadOutcome>())
        .chain(stages);
    for name in all {
        assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
    }
}
