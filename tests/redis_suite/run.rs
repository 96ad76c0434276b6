//! One unit of the suite, run and read.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::Results;
use crate::exceptions::Exceptions;
use crate::support::{Way, kill_now, wait_with_deadline};

/// How long a unit may take.
const DEADLINE: Duration = Duration::from_secs(1800);
/// Seconds without progress after which the suite gives a unit up.
const STUCK: &str = "300";
/// Stands for what a unit did not come to.
const NO_END: &str = "the unit did not end";
/// Stands in the name of the log of a second attempt.
const AGAIN: &str = "-again";
/// What needs a replica is told to dial one.
const TAGS: &str = "-needs:repl -large-memory";
/// Units that start servers of their own, or have nothing for an external one.
const LEFT_OUT: &[&str] =
    &["unit/printver", "unit/cluster", "unit/tls", "unit/shutdown", "unit/oom-score-adj"];

/// Where the suite is.
pub struct Suite {
    source: PathBuf,
    /// What may fail through the proxy.
    pub exceptions: Exceptions,
}

/// What a unit did: per test, in how many of its appearances it passed and how it failed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Names of passed tests, with the number of times.
    pub passed: BTreeMap<String, usize>,
    /// Names and messages of failed ones.
    pub failed: Vec<(String, String)>,
    /// Tests that don't run against external servers.
    pub skipped: usize,
}

/// Where everything is kept that the suite prints.
pub fn output_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/redis-suite");
    std::fs::create_dir_all(&dir).expect("make target/redis-suite");
    dir
}

/// Where a run of a unit prints.
fn log_path(unit: &str, way: Way, attempt: &str) -> PathBuf {
    let name = format!("{unit}-{}{attempt}.log", way.name()).replace('/', "-");
    output_dir().join(name)
}

/// A file beside this one.
fn ours(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redis_suite").join(name)
}

// === impl Suite ===

impl Suite {
    /// The suite, if it has been fetched.
    pub fn find() -> Option<Suite> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/redis-suite/source");
        source.join("runtest").exists().then(|| Suite { source, exceptions: Exceptions::read() })
    }

    /// All units that have something for an external server.
    pub fn units(&self) -> Vec<&'static str> {
        let helper = std::fs::read_to_string(self.source.join("tests/test_helper.tcl")).expect("the suite");
        let list = helper.split("set ::all_tests {").nth(1).and_then(|rest| rest.split('}').next());
        let names = list.expect("the list of units").split_whitespace();
        let wanted =
            |name: &&str| name.starts_with("unit/") && !LEFT_OUT.iter().any(|left| name.starts_with(left));
        names.filter(wanted).map(|name| &*Box::leak(name.to_owned().into_boxed_str())).collect()
    }

    /// What the last runs of all units have left, in whatever ways.
    pub fn kept(&self) -> Results {
        let units = self.units();
        let all = units.iter().flat_map(|unit| Way::ALL.iter().map(|way| (*unit, *way)));
        all.filter_map(|(unit, way)| Some(((unit, way), Outcome::kept(unit, way)?))).collect()
    }

    /// Runs one unit, and once more if something fails that should not.
    pub fn run_twice(&self, unit: &str, way: Way) -> Outcome {
        let _ = std::fs::remove_file(log_path(unit, way, AGAIN));
        let first = self.run(unit, way, "");
        let direct = if way == Way::DIRECT { None } else { Outcome::kept(unit, Way::DIRECT) };
        let fails = first.failures_beyond(direct.as_ref());
        if fails.iter().all(|(test, _)| self.exceptions.allow(unit, test, way)) {
            return first;
        }
        let again = self.run(unit, way, AGAIN);
        first.or(&again)
    }

    /// Runs one unit to its end.
    fn run(&self, unit: &str, way: Way, attempt: &str) -> Outcome {
        static NEXT_BASE: AtomicU16 = AtomicU16::new(0);
        let target = way.start();
        let base = 21_111 + NEXT_BASE.fetch_add(1, Ordering::Relaxed) % 100 * 40;
        let path = log_path(unit, way, attempt);
        let log = File::create(&path).expect("create a log");
        let not_run = if way == Way::DIRECT { Vec::new() } else { self.exceptions.not_run(unit) };
        let stores: Vec<String> = target.stores().iter().map(u16::to_string).collect();
        let mut command = Command::new("tclsh");
        if !stores.is_empty() {
            command.env("REDIS_SUITE_STORES", stores.join(" "));
        }
        let mut child = command
            .current_dir(&self.source)
            .arg("tests/test_helper.tcl")
            .args(["--host", "127.0.0.1", "--port", &target.port().to_string()])
            .args(["--baseport", &base.to_string(), "--single", unit, "--tags", TAGS])
            .args(["--durable", "--dont-clean", "--timeout", STUCK, "--skipfile"])
            .arg(ours("skip.txt"))
            .args(not_run.iter().flat_map(|name| ["--skiptest", name]))
            .env("REDIS_SUITE_OVERLAY", ours("overlay.tcl"))
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("share the log"))
            .stdout(log)
            .spawn()
            .expect("start tclsh");
        if wait_with_deadline(&mut child, DEADLINE).is_none() {
            kill_now(&mut child);
        }
        let _ = std::fs::write(path.with_extension("proxy.log"), target.log());
        Outcome::of_log(&path).expect("read the log")
    }
}

// === impl Outcome ===

impl Outcome {
    /// What the last run of a unit has left.
    fn kept(unit: &str, way: Way) -> Option<Outcome> {
        let first = Outcome::of_log(&log_path(unit, way, ""))?;
        let again = Outcome::of_log(&log_path(unit, way, AGAIN));
        Some(again.map_or_else(|| first.clone(), |again| first.or(&again)))
    }

    fn of_log(path: &Path) -> Option<Outcome> {
        let text = std::fs::read(path).ok()?;
        Some(Outcome::read(&String::from_utf8_lossy(&text)))
    }

    /// What failed in both attempts has failed. One that did not end says nothing about what it did not reach.
    fn or(&self, again: &Outcome) -> Outcome {
        let passed_again = |name: &String| {
            again.passed.contains_key(name) && again.failed.iter().all(|(failed, _)| failed != name)
        };
        let ended_again = again.failed.iter().all(|(name, _)| name != NO_END);
        let ended = self.failed.iter().all(|(name, _)| name != NO_END);
        if !ended && ended_again {
            return again.clone();
        }
        let mut outcome = self.clone();
        outcome.failed.retain(|(name, _)| !passed_again(name));
        for (name, _) in self.failed.iter().filter(|(name, _)| passed_again(name)) {
            *outcome.passed.entry(name.clone()).or_default() += 1;
        }
        outcome
    }

    /// Reads what the suite prints.
    fn read(text: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let mut ended = false;
        let mut in_error = false;
        for line in text.lines().map(without_colours) {
            let marked = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
            match marked {
                Some(("ok", rest)) => {
                    let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
                    *outcome.passed.entry(name.to_owned()).or_default() += 1;
                }
                Some(("err" | "exception" | "TIMEOUT", rest)) => {
                    let name = rest.rsplit_once(" in tests/").map_or(rest, |(name, _)| name);
                    outcome.failed.push((name.to_owned(), String::new()));
                }
                Some(("skip" | "ignore", _)) => outcome.skipped += 1,
                None if in_error && !line.is_empty() => {
                    if let Some((_, why)) = outcome.failed.last_mut() {
                        why.push_str(&line);
                        why.push('\n');
                    }
                    continue;
                }
                _ => {}
            }
            in_error = matches!(marked, Some(("err" | "exception" | "TIMEOUT", _)));
            ended |= line.contains("The End");
        }
        if !ended {
            outcome.failed.push((NO_END.to_owned(), String::new()));
        }
        outcome
    }

    /// One line.
    pub fn summary(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.count(), self.failed.len(), self.skipped)
    }

    /// How many tests passed.
    pub fn count(&self) -> usize {
        self.passed.values().sum()
    }

    /// What failed here and did not fail directly.
    pub fn failures_beyond<'a>(&'a self, direct: Option<&'a Outcome>) -> Vec<(&'a str, &'a str)> {
        let fails_directly =
            |name: &str| direct.is_some_and(|direct| direct.failed.iter().any(|(failed, _)| failed == name));
        let failed = self.failed.iter().filter(|(name, _)| !fails_directly(name));
        failed.map(|(name, why)| (&**name, &**why)).collect()
    }
}

fn without_colours(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}
