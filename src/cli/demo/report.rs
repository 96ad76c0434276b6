//! What the demo says at its end, good or bad.

use super::book::{Book, Stages, Tally};
use super::compare::{Comparison, Difference, Place};
use super::gauges::Reading;
use super::screen::thousands;
use crate::stage::Stage;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Keys that are shown of those that nothing explains.
const UNEXPLAINED_SHOWN: usize = 5;

/// Everything that the demo has seen.
pub(super) struct Report<'a> {
    pub(super) book: &'a Book,
    pub(super) gauges: Reading,
    pub(super) comparison: Comparison,
    /// How long each flip took.
    pub(super) flips: Vec<Duration>,
    pub(super) took: Duration,
}

/// Why the stores differ in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// It was in the old store before, and nobody has written it while both were served.
    NeverMirrored,
    /// It was written in `secondary_only`: the new store was not told.
    OldStoreAlone,
    /// It was written in `primary_only`: the old store was not told.
    NewStoreAlone,
    /// Both, in turn.
    EachAlone,
    /// None of these: it was only written while both were served.
    Unexplained,
}

// === impl Report ===

impl Report<'_> {
    /// Did every worker get the right answer, each time?
    pub(super) fn is_good(&self) -> bool {
        let tally = self.book.tally();
        tally.errors == 0 && tally.wrong == 0 && tally.not_fetched() == 0
    }

    fn causes(&self) -> BTreeMap<Cause, Vec<(&Place, Difference)>> {
        let mut causes: BTreeMap<Cause, Vec<(&Place, Difference)>> = BTreeMap::new();
        for (place, difference) in &self.comparison.different {
            let cause = cause(self.book.stages_of(&place.1), *difference);
            causes.entry(cause).or_default().push((place, *difference));
        }
        causes
    }
}

fn cause(written: Option<Stages>, difference: Difference) -> Cause {
    let Some(stages) = written else {
        return if difference == Difference::OnlySecondary {
            Cause::NeverMirrored
        } else {
            Cause::Unexplained
        };
    };
    match (stages.has(Stage::SecondaryOnly), stages.has(Stage::PrimaryOnly)) {
        (true, true) => Cause::EachAlone,
        (true, false) => Cause::OldStoreAlone,
        (false, true) => Cause::NewStoreAlone,
        (false, false) => Cause::Unexplained,
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = self.book.tally();
        let slowest = self.flips.iter().max().copied().unwrap_or_default();
        writeln!(
            f,
            "The walk    {} flips of a flag in {} s under load; the slowest took {} ms\n            from the file to /status.",
            self.flips.len(),
            self.took.as_secs(),
            slowest.as_millis()
        )?;
        write!(f, "{}", answers(&tally))?;
        writeln!(
            f,
            "Counters    read_fallback {}, pipelined_diff_error {}, method_missing {}.",
            thousands(self.gauges.fallbacks),
            thousands(self.gauges.diffs),
            thousands(self.gauges.missing)
        )?;
        write!(f, "{}", self.stores())?;
        let verdict = if self.is_good() { "no worker saw an error or a wrong answer" } else { "see above" };
        writeln!(f, "{}  {verdict}.", if self.is_good() { "PASSED" } else { "FAILED" })
    }
}

impl Report<'_> {
    fn stores(&self) -> String {
        let (equal, different) = (self.comparison.equal, self.comparison.different.len());
        let mut out = format!(
            "Stores      {} keys are the same in both stores, {} differ{}\n",
            thousands(equal as u64),
            thousands(different as u64),
            if different == 0 { "." } else { ":" }
        );
        let causes = self.causes();
        for (cause, keys) in &causes {
            // A String takes everything: the result says nothing.
            let _ = writeln!(out, "  {:>9}  {cause}", thousands(keys.len() as u64));
        }
        for ((db, key), difference) in
            causes.get(&Cause::Unexplained).into_iter().flatten().take(UNEXPLAINED_SHOWN)
        {
            let _ = writeln!(out, "             db {db} \"{}\": {difference}", key.escape_ascii());
        }
        out
    }
}

fn answers(tally: &Tally) -> String {
    let mut out = format!(
        "Answers     {} requests, {} errors, {} wrong answers.\n",
        thousands(tally.requests),
        thousands(tally.errors),
        thousands(tally.wrong)
    );
    for sample in &tally.samples {
        let _ = writeln!(out, "              {sample}");
    }
    let _ = writeln!(
        out,
        "Jobs        {} enqueued, {} fetched exactly once, {} lost;\n            {} duplicates dropped.",
        thousands(tally.enqueued),
        thousands(tally.fetched),
        thousands(tally.not_fetched()),
        thousands(tally.duplicates)
    );
    let _ = writeln!(
        out,
        "Leases      {} refused because another worker held them.",
        thousands(tally.refused_leases)
    );
    if tally.cold_reads > 0 {
        let _ = writeln!(
            out,
            "Cold reads  {} reads of old data found nothing: it was not on the new store\n            \
             when the old one was left, and who leaves a store leaves its data.",
            thousands(tally.cold_reads)
        );
    }
    out
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::NeverMirrored => "were in the old store before and have not been written since",
            Cause::OldStoreAlone => "were written in secondary_only, where the new store is not told",
            Cause::NewStoreAlone => "were written in primary_only, where the old store is not told",
            Cause::EachAlone => "were written in secondary_only and in primary_only",
            Cause::Unexplained => "have no such reason",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Difference::OnlySecondary => "only the old store has it",
            Difference::OnlyPrimary => "only the new store has it",
            Difference::Value => "the values differ",
            Difference::Expiry => "the expiry times differ",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_explained_by_where_the_key_was_written() {
        let both = Stages::only(Stage::DualSecondaryDefault);
        assert_eq!(cause(None, Difference::OnlySecondary), Cause::NeverMirrored);
        assert_eq!(cause(None, Difference::Value), Cause::Unexplained);
        assert_eq!(cause(Some(both), Difference::Value), Cause::Unexplained);
        assert_eq!(cause(Some(both.and(Stage::SecondaryOnly)), Difference::Value), Cause::OldStoreAlone);
        assert_eq!(cause(Some(both.and(Stage::PrimaryOnly)), Difference::Value), Cause::NewStoreAlone);
        let each = Stages::only(Stage::SecondaryOnly).and(Stage::PrimaryOnly);
        assert_eq!(cause(Some(each), Difference::Expiry), Cause::EachAlone);
    }
}
