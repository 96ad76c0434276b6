//! Redis's own test suite, in its mode for external servers: against a lone server, and through the proxy in every
//! stage. Whatever passes directly must pass through the proxy, but for what `exceptions.txt` names with a reason.
//!
//! `scripts/setup-redis-suite` fetches the suite; without it the quick test says so and does nothing, unless
//! `REDIS_SUITE` is set. `make test-redis-suite` runs everything and writes the table into docs/compatibility.md:
//!
//! - `REDIS_SUITE_UNITS=unit/tracking,unit/multi` and `REDIS_SUITE_WAYS=direct,primary_only` narrow a run;
//! - `target/redis-suite/` keeps what the suite printed, and the list of what fails. What a run leaves out is taken from
//!   there, so that the table can be made way by way; it is written when every cell is known.
//!
//! What fails is run once more, and fails when it fails twice: many of the suite's tests are about times, and fail now and
//! then on a busy machine, whoever answers. An exception that is needed no longer is an error as well.
//!
//! Nothing may dial out: the make target runs all of this in a network namespace with nothing but loopback.

#[path = "../support/mod.rs"]
mod support;

mod exceptions;
mod run;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use run::{Outcome, Suite};
use support::{Way, narrowed};

/// How many units run at once.
const WORKERS: usize = 2;

/// Small units that show most of what may break, for every `cargo test`.
const QUICK: &[&str] = &["unit/keyspace", "unit/multi", "unit/pubsub", "unit/tracking", "unit/introspection"];

/// What each unit did, by way.
type Results = BTreeMap<(&'static str, Way), Outcome>;

#[test]
fn quick_units() {
    let Some(suite) = Suite::find() else {
        assert!(
            std::env::var_os("REDIS_SUITE").is_none(),
            "the suite is not there: scripts/setup-redis-suite"
        );
        eprintln!("skipped: scripts/setup-redis-suite fetches Redis's test suite");
        return;
    };
    let ways = [Way::DIRECT, Way::DUAL_PRIMARY_DEFAULT];
    let results = run_all(&suite, QUICK, &ways);
    assert_nothing_new(&suite, &results, |_, _| true);
}

#[test]
#[ignore = "takes long: make test-redis-suite"]
fn every_unit_in_every_stage() {
    let suite = Suite::find().expect("the suite: scripts/setup-redis-suite");
    let units = narrowed("REDIS_SUITE_UNITS", suite.units(), |unit| unit);
    let ways = narrowed("REDIS_SUITE_WAYS", Way::ALL.to_vec(), |way| way.name());
    run_all(&suite, &units, &ways);
    let results = suite.kept();
    table::print(&results);
    if results.len() == suite.units().len() * Way::ALL.len() {
        table::write_docs(&results);
    }
    let is_judged = |unit: &str, way: Way| units.contains(&unit) && ways.contains(&way);
    assert_nothing_new(&suite, &results, is_judged);
    assert_nothing_outdated(&suite, &results);
}

/// Runs every unit in every way.
fn run_all(suite: &Suite, units: &[&'static str], ways: &[Way]) -> Results {
    let work: VecDeque<_> = units.iter().flat_map(|unit| ways.iter().map(|way| (*unit, *way))).collect();
    let work = Mutex::new(work);
    let results = Mutex::new(Results::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some((unit, way)) = work.lock().expect("the queue").pop_front() else { break };
                    let outcome = suite.run_twice(unit, way);
                    eprintln!("{unit} {}: {}", way.name(), outcome.summary());
                    results.lock().expect("the results").insert((unit, way), outcome);
                }
            });
        }
    });
    results.into_inner().expect("the results")
}

/// Fails when an exception is needed no longer: its test passes in every way that it names, or none of that name passes
/// directly.
#[track_caller]
fn assert_nothing_outdated(suite: &Suite, results: &Results) {
    let outdated = suite.exceptions.outdated(results);
    assert!(outdated.is_empty(), "exceptions.txt: no longer needed:\n{}", outdated.join("\n"));
}

/// Fails when a test fails through the proxy that passes directly and is not excepted.
#[track_caller]
fn assert_nothing_new(suite: &Suite, results: &Results, is_judged: impl Fn(&str, Way) -> bool) {
    let mut lines = Vec::new();
    for ((unit, way), outcome) in results {
        let direct = results.get(&(*unit, Way::DIRECT));
        if *way == Way::DIRECT || !is_judged(unit, *way) {
            continue;
        }
        for (test, why) in outcome.failures_beyond(direct) {
            if !suite.exceptions.allow(unit, test, *way) {
                lines.push(format!("{unit} | {test} | {} | {}", way.name(), why.replace('\n', " ")));
            }
        }
    }
    let _ = std::fs::write(run::output_dir().join("failures.txt"), lines.join("\n"));
    assert!(
        lines.is_empty(),
        "{} tests pass directly and fail through the proxy:\n{}",
        lines.len(),
        lines.join("\n")
    );
}
