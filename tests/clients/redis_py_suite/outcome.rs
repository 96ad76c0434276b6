//! What came of a run: read from what pytest printed.

use super::Protocol;
use super::pytest::log_path;
use crate::support::*;
use std::collections::BTreeSet;
use std::path::Path;

/// Stands in the name of the log of a second attempt.
pub const AGAIN: &str = "-again";

/// What came of a run: the tests, by their ids.
#[derive(Clone, Debug)]
pub struct Outcome {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
}

// === impl Outcome ===

impl Outcome {
    /// What the last run has left; none where it did not come to its end.
    pub fn kept(protocol: Protocol, way: Way) -> Option<Outcome> {
        let first = Outcome::of_log(&log_path(protocol, way, ""))?;
        let again = Outcome::of_log(&log_path(protocol, way, AGAIN));
        Some(again.map_or_else(|| first.clone(), |again| first.or(&again)))
    }

    pub fn of_log(path: &Path) -> Option<Outcome> {
        Outcome::read(&String::from_utf8_lossy(&std::fs::read(path).ok()?))
    }

    /// From the last lines that pytest prints: `FAILED id - why`, and `3 failed, 2110 passed, … in 256.32s`.
    fn read(told: &str) -> Option<Outcome> {
        let mut last = told.lines().rev().take(3);
        let ended = last.any(|line| {
            line.contains(" in ") && [" passed", " failed"].iter().any(|word| line.contains(word))
        });
        let named = |words: &[&str]| {
            let ids = told.lines().filter_map(|line| {
                let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
                Some(rest.split(" - ").next().unwrap_or(rest).trim().to_owned())
            });
            ids.collect::<BTreeSet<String>>()
        };
        let failed = named(&["FAILED ", "ERROR "]);
        // A test may pass and fail to clean up behind itself.
        let passed = named(&["PASSED ", "XPASS "]).difference(&failed).cloned().collect();
        ended.then_some(Outcome { passed, failed })
    }

    /// What failed in both attempts has failed.
    pub fn or(&self, again: &Outcome) -> Outcome {
        let mut outcome = self.clone();
        outcome.failed.retain(|test| !again.passed.contains(test));
        outcome.passed.extend(again.passed.iter().cloned());
        outcome
    }

    /// How many passed of how many that were run.
    pub fn cell(&self) -> String {
        format!("{}/{}", self.passed.len(), self.passed.len() + self.failed.len())
    }

    /// Of the tests that this is true of: has any run, and have all passed?
    pub fn all_pass(&self, of: impl Fn(&str) -> bool) -> bool {
        self.passed.iter().any(|test| of(test)) && !self.failed.iter().any(|test| of(test))
    }

    /// What failed here and did not fail directly.
    pub fn failures_beyond<'a>(&'a self, direct: Option<&'a Outcome>) -> impl Iterator<Item = &'a str> {
        let fails_directly = move |test: &str| direct.is_some_and(|direct| direct.failed.contains(test));
        self.failed.iter().map(String::as_str).filter(move |test| !fails_directly(test))
    }
}
