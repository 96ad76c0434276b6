//! redis-py's own test suite: what passes against a server passes through the proxy, in every stage and both protocols,
//! but for what `suites/exceptions.txt` names with a reason.
//!
//! `make test-redis-py` fetches the suite (it comes with the source package), runs everything, and writes the rows of
//! docs/compatibility.md:
//!
//! - `REDIS_PY_WAYS=direct,primary_only` and `REDIS_PY_PROTOCOLS=2` narrow a run;
//! - `target/redis-py-suite/` keeps what pytest printed. What a run leaves out is taken from there.
//!
//! What fails is run once more by itself, and fails when it fails twice: many tests are about times.

mod exceptions;
mod outcome;
mod pytest;

use crate::support::*;
use exceptions::Exceptions;
use outcome::Outcome;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

/// How many runs at once: the suite waits more than it works.
const WORKERS: usize = 4;

const PROTOCOLS: [Protocol; 2] = [Protocol("2"), Protocol("3")];

/// The version of RESP that the suite's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Protocol(&'static str);

/// What came of each run.
type Results = BTreeMap<(Protocol, Way), Outcome>;

#[test]
#[ignore = "takes long: make test-redis-py"]
fn suite_of_redis_py() {
    let exceptions = Exceptions::read();
    let ways = narrowed("REDIS_PY_WAYS", Way::ALL.to_vec(), |way| way.name());
    let protocols = narrowed("REDIS_PY_PROTOCOLS", PROTOCOLS.to_vec(), |protocol| protocol.0);
    // What fails directly must be known before it fails through the proxy.
    let (direct, proxied): (Vec<Way>, Vec<Way>) = ways.iter().partition(|way| **way == Way::DIRECT);
    run_all(&exceptions, &protocols, &direct);
    run_all(&exceptions, &protocols, &proxied);
    let results = kept();
    write_docs(&results);
    assert_nothing_new(&exceptions, &results, &protocols, &ways);
    let outdated = exceptions.outdated(&results);
    assert!(outdated.is_empty(), "exceptions.txt: no longer needed:\n{}", outdated.join("\n"));
}

fn run_all(exceptions: &Exceptions, protocols: &[Protocol], ways: &[Way]) {
    let work: VecDeque<_> =
        ways.iter().flat_map(|way| protocols.iter().map(|protocol| (*protocol, *way))).collect();
    let work = Mutex::new(work);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some((protocol, way)) = work.lock().expect("the queue").pop_front() else { break };
                    let outcome = run_twice(exceptions, protocol, way);
                    eprintln!("RESP{} {}: {}", protocol.0, way.name(), outcome.cell());
                }
            });
        }
    });
}

/// Runs the suite, and once more what failed and should not have.
fn run_twice(exceptions: &Exceptions, protocol: Protocol, way: Way) -> Outcome {
    let served = way.start();
    let first = pytest::run_whole(served.port(), protocol, way);
    let direct = if way == Way::DIRECT { Some(first.clone()) } else { Outcome::kept(protocol, Way::DIRECT) };
    let beyond = first.failures_beyond(direct.as_ref());
    let unexpected: Vec<&str> = beyond.filter(|test| !exceptions.allow(test, protocol, way)).collect();
    let outcome = if unexpected.is_empty() {
        first
    } else {
        let again = pytest::run_again(served.port(), protocol, way, &unexpected);
        first.or(&again)
    };
    let _ = std::fs::write(pytest::log_path(protocol, way, "-proxy"), served.log());
    outcome
}

/// What the last runs have left.
fn kept() -> Results {
    let all = PROTOCOLS.iter().flat_map(|protocol| Way::ALL.iter().map(|way| (*protocol, *way)));
    all.filter_map(|(protocol, way)| Some(((protocol, way), Outcome::kept(protocol, way)?))).collect()
}

fn write_docs(results: &Results) {
    for protocol in PROTOCOLS {
        let cells: Vec<(&str, String)> = results
            .iter()
            .filter(|((of, _), _)| *of == protocol)
            .map(|((_, way), outcome)| (way.name(), outcome.cell()))
            .collect();
        write_result(&format!("redis-py's own, RESP{}", protocol.0), &cells);
    }
}

/// Fails when a test fails through the proxy that passes directly and is not excepted.
#[track_caller]
fn assert_nothing_new(exceptions: &Exceptions, results: &Results, protocols: &[Protocol], ways: &[Way]) {
    let mut lines = Vec::new();
    for ((protocol, way), outcome) in results {
        if *way == Way::DIRECT || !ways.contains(way) || !protocols.contains(protocol) {
            continue;
        }
        let direct = results.get(&(*protocol, Way::DIRECT));
        let unexpected =
            outcome.failures_beyond(direct).filter(|test| !exceptions.allow(test, *protocol, *way));
        lines.extend(unexpected.map(|test| format!("RESP{} {}: {test}", protocol.0, way.name())));
    }
    assert!(
        lines.is_empty(),
        "{} tests pass directly and fail through the proxy (target/redis-py-suite has the logs):\n{}",
        lines.len(),
        lines.join("\n")
    );
}
