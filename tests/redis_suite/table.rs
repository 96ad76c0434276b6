//! The table: unit × way → passed of how many.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::Results;
use crate::run::Outcome;
use crate::support::{Way, write_result, write_table};

/// Its row in the table of results.
const SUITE: &str = "Redis's own (Tcl), 7.0";

/// Shows it.
pub fn print(results: &Results) {
    println!("{}", table(results));
}

/// Puts it into docs/compatibility.md.
pub fn write_docs(results: &Results) {
    write_table("compatibility.md", "redis-suite", &table(results));
    let cells = Way::ALL.map(|way| {
        let outcomes = results.iter().filter(|((_, of), _)| *of == way).map(|(_, outcome)| outcome);
        let (passed, all) =
            outcomes.fold((0, 0), |sum, outcome| (sum.0 + outcome.count(), sum.1 + of_how_many(outcome)));
        (way.name(), format!("{passed}/{all}"))
    });
    write_result(SUITE, &cells);
}

/// What has not been run yet is a dash.
fn table(results: &Results) -> String {
    let mut out = String::from("| unit |");
    for way in Way::ALL {
        let _ = write!(out, " {} |", way.name());
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(Way::ALL.len()));
    out.push('\n');
    let units: BTreeSet<&str> = results.keys().map(|(unit, _)| *unit).collect();
    let mut sums = [(0, 0); Way::ALL.len()];
    // Units without a test for an external server have nothing to show.
    for unit in units.into_iter().filter(|unit| has_tests(results, unit)) {
        let _ = write!(out, "| {unit} |");
        for (way, sum) in Way::ALL.iter().zip(&mut sums) {
            let Some(outcome) = results.get(&(unit, *way)) else {
                out.push_str(" – |");
                continue;
            };
            let (passed, all) = (outcome.count(), of_how_many(outcome));
            *sum = (sum.0 + passed, sum.1 + all);
            let _ = write!(out, " {passed}/{all} |");
        }
        out.push('\n');
    }
    out.push_str("| **all** |");
    for (passed, all) in sums {
        let _ = write!(out, " **{passed}/{all}** |");
    }
    out.push('\n');
    out
}

fn has_tests(results: &Results, unit: &str) -> bool {
    results.iter().any(|((name, _), outcome)| *name == unit && of_how_many(outcome) > 0)
}

fn of_how_many(outcome: &Outcome) -> usize {
    outcome.count() + outcome.failed.len()
}
