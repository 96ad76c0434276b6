//! What goes on beside the clients, and what an operator may order and ask about it: backfill, verification, verdict.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::verify::{Mend, Sample};
use super::{Instance, backfill, verify, walk};
use crate::admin::orders::{VerifyOrder, What};
use crate::admin::verification::{LastVerification, VerificationStatus, VerifyReport};
use crate::metrics::{Direction, InstanceMetrics};
use crate::pace::{Limits, Pace};
use crate::sequencer::knowledge::Sync;
use crate::stage::{Stage, StoreId};
use crate::state::BackfillEntry;
use crate::verdict::{self, Facts, Found, Quiet, SIGNS, StoreFacts, Verdict, Verified};

/// How often the verdict is looked at for the metrics, and the signs for how quiet it is.
const LOOK: Duration = Duration::from_millis(250);
/// The longest pause between two looks, and the part of the time that they may take beyond it: each passes over all
/// keys that are in doubt, and clients are not to notice.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const PART_OF_TIME: u32 = 500;
/// A key that is suspect for less is one whose copy is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// Names of commands that nothing describes: so many are kept, and so many bytes of each.
const MAX_MISSING: usize = 20;
const MAX_MISSING_BYTES: usize = 40;

/// What goes on in the background of an instance.
#[derive(Debug)]
pub(super) struct Background {
    backfill: backfill::Desk,
    verify: verify::Desk,
    quiet: RefCell<(Option<Stage>, Quiet)>,
    missing: RefCell<Vec<String>>,
    /// How far the repair of a whole store is; none: none is under way.
    pub(super) repair: Cell<Option<walk::Progress>>,
}

/// What was known of an instance when a verification ended. As long as it is unchanged, the verification counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Requests that each store had been sent.
    pub position: [u64; 2],
    spread: u64,
    flips: u64,
}

// === impl Proof ===

impl Proof {
    /// Why what was proven then proves nothing now.
    pub fn outdated(&self, now: &Proof) -> Option<&'static str> {
        if self.flips != now.flips {
            return Some("the stage has changed since");
        }
        (self.spread != now.spread).then_some("a store has fallen behind as a whole since")
    }
}

// === impl Background ===

impl Background {
    pub(super) fn new(recorded: Option<BackfillEntry>, metrics: &InstanceMetrics) -> Background {
        Background {
            backfill: backfill::Desk::recorded(recorded.as_ref()),
            verify: verify::Desk::default(),
            quiet: RefCell::new((None, Quiet::new(0, signs(metrics)))),
            missing: RefCell::default(),
            repair: Cell::default(),
        }
    }
}

/// The counters behind the signs, in the order of [`verdict::Sign::ALL`].
fn signs(metrics: &InstanceMetrics) -> [u64; SIGNS] {
    let lost =
        metrics.stores().map(|store| store.mirror_write_failures.get() + store.dropped_writes.get()).sum();
    [
        metrics.read_fallback.total(),
        metrics.pipelined_diff.get() + metrics.multi_diff.get() + metrics.command_diff.total(),
        lost,
        metrics.reads_diverted.get(),
        metrics.method_missing.total(),
    ]
}

/// Keeps an eye on the signs and shows the verdict in the metrics, until dropped.
pub async fn watch(instance: Rc<Instance>) {
    let mut pause = LOOK;
    loop {
        sleep(pause).await;
        let begin = Instant::now();
        instance.observe();
        pause = (begin.elapsed() * PART_OF_TIME).clamp(LOOK, LONGEST_PAUSE);
    }
}

// === impl Instance ===

impl Instance {
    /// The backfill.
    pub fn backfill(&self) -> &backfill::Desk {
        &self.background.backfill
    }

    /// The last verification, or the one under way.
    pub fn verification(&self) -> VerifyReport {
        self.background.verify.report(self)
    }

    /// How fast backfill and verification may go.
    pub fn background_limits(&self) -> Limits {
        let config = self.config_ref();
        Limits {
            keys: config.background_keys as u64,
            bytes: config.background_bytes.bytes() as u64,
            latency: config.background_latency,
        }
    }

    /// A pace that begins now.
    pub fn pace(&self) -> Pace {
        Pace::new(self.background_limits(), self.micros())
    }

    /// What a verification that ends now can be held to.
    pub fn proof(&self) -> Proof {
        let core = self.core();
        let position = StoreId::ALL.map(|store| core.lane(store).appended());
        Proof { position, spread: core.spread(), flips: core.flips() }
    }

    /// A client has sent a command that nothing describes.
    pub fn note_missing(&self, name: &[u8]) {
        let name = name.get(..name.len().min(MAX_MISSING_BYTES)).unwrap_or_default();
        let name = name.to_ascii_lowercase().escape_ascii().to_string();
        let mut missing = self.background.missing.borrow_mut();
        if missing.len() < MAX_MISSING && !missing.contains(&name) {
            missing.push(name);
        }
    }

    /// Takes an operator's order. The answer is for people, or JSON where a report was asked for.
    pub fn operate(self: &Rc<Self>, what: What) -> Result<String, String> {
        match what {
            What::Repair { from } => self.repair_from(from),
            What::Backfill(action) => self.order_backfill(action),
            What::Verify(VerifyOrder::Start { sample, repair }) => {
                self.begin_verification(sample, if repair { Mend::Everything } else { Mend::Nothing })
            }
            What::Verify(VerifyOrder::Report) => {
                serde_json::to_string_pretty(&self.verification()).map_err(|error| error.to_string())
            }
        }
    }

    fn order_backfill(&self, action: backfill::Action) -> Result<String, String> {
        if !self.config_ref().hydrate {
            return Err(format!("{} has hydrate = false: nothing is copied", self.name));
        }
        self.backfill().order(action);
        let recorded = self.core().to_record();
        self.write_state(recorded, false);
        tracing::info!(instance = %self.name, "backfill: {}, on request", action.name());
        Ok(format!("{}: backfill: {}", self.name, action.name()))
    }

    /// Begins to compare both stores.
    pub fn begin_verification(self: &Rc<Self>, sample: Sample, mend: Mend) -> Result<String, String> {
        let stage = self.core().stage();
        if !stage.is_dual() {
            return Err(format!(
                "{} is in {stage}: what both stores hold is compared while both are in use (multistore compare takes \
                 two stores without a proxy)",
                self.name
            ));
        }
        if mend != Mend::Nothing && !self.config_ref().hydrate {
            return Err(format!("{} has hydrate = false: nothing is repaired", self.name));
        }
        let handle = self.background.verify.begin(self, sample, mend)?;
        tracing::info!(instance = %self.name, sample = %sample, repair = mend != Mend::Nothing, "verification begins");
        spawn_local(verify::run(self.clone(), handle));
        Ok(format!("{}: verifying {sample}", self.name))
    }

    /// What `/status` tells of the verification.
    pub fn verification_status(&self) -> VerificationStatus {
        let last = self.background.verify.last();
        let last_complete = last.map(|last| LastVerification {
            at_unix_ms: last.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            age_seconds: SystemTime::now().duration_since(last.at).unwrap_or_default().as_secs(),
            equal: last.equal,
            differing: last.differing,
            outdated: last.proof.outdated(&self.proof()).map(str::to_owned),
        });
        VerificationStatus { last_complete, ..self.background.verify.status(self) }
    }

    /// Is the next stage safe, and the way back?
    pub fn verdict(&self) -> Verdict {
        self.watch_signs();
        verdict::judge(&self.facts_of_verdict())
    }

    fn facts_of_verdict(&self) -> Facts {
        let config = self.config();
        let last = self.background.verify.last();
        let proof = self.proof();
        let core = self.core();
        let now = self.micros();
        let (_, quiet) = *self.background.quiet.borrow();
        let backfill = self.backfill().status(0);
        let unfinished = self.backfill().is_wanted(config.backfill) && backfill.state != "done";
        Facts {
            stage: Some(core.stage()),
            held: core.held_flip(),
            same_server: core.same_server(),
            stores: StoreId::ALL.map(|store| StoreFacts {
                up: core.lane(store).is_up(),
                lag: core.lane(store).queued_bytes(),
                behind: core.behind_as_a_whole() == Some(store),
                suspects: core.suspects_behind(store, ON_ITS_WAY.as_micros() as u64),
                stuck: core.stuck_behind(store),
            }),
            flip_max_lag: config.flip_max_lag.bytes() as u64,
            doubted: self.source_in_doubt(),
            found: self.found_on_primary(),
            owes_walk: core.owes_walk(),
            backfill: (unfinished && core.stage().is_dual()).then_some((backfill.progress * 100.0) as u8),
            quiet_period: config.quiet_period,
            signs: quiet.ages(now),
            stage_age: quiet.age(now),
            missing: self.missing(),
            verified: last.map(|last| Verified {
                age: SystemTime::now().duration_since(last.at).unwrap_or_default(),
                equal: last.equal,
                outdated: last.proof.outdated(&proof),
            }),
        }
    }

    fn found_on_primary(&self) -> Option<Found> {
        let keys =
            self.with_facts(StoreId::Primary, |facts| facts.identity.as_ref().map(|found| found.keys))?;
        let replaced =
            self.config_ref().hydrate && self.core().sync_base() == Sync::Suspect(StoreId::Primary);
        (keys > 0).then_some(Found { keys, replaced })
    }

    /// Names of commands that nothing describes.
    pub fn missing(&self) -> Vec<String> {
        self.background.missing.borrow().clone()
    }

    /// Takes note of what has been amiss up to now.
    fn watch_signs(&self) {
        let (now, stage) = (self.micros(), self.core().stage());
        let mut watched = self.background.quiet.borrow_mut();
        if watched.0 == Some(stage) {
            watched.1.observe(now, signs(&self.metrics));
        } else {
            // A stage has its own quiet period.
            *watched = (Some(stage), Quiet::new(now, signs(&self.metrics)));
        }
    }

    fn observe(&self) {
        let verdict = self.verdict();
        let safe = |step: &Option<verdict::Step>| i64::from(step.as_ref().is_some_and(|step| step.safe));
        self.metrics.verdict_safe[Direction::Forward].set(safe(&verdict.forward));
        self.metrics.verdict_safe[Direction::Back].set(safe(&verdict.back));
        for store in StoreId::ALL {
            let doubted = self.core().doubted_source() == Some(store);
            let stranger = self.with_facts(store, |facts| facts.stranger.is_some());
            self.metrics.store(store).in_doubt.set(i64::from(doubted || stranger));
        }
        let (_, age) = self.core().suspects();
        self.metrics.oldest_suspect.set((age / 1_000_000) as i64);
        if let Some(last) = self.background.verify.last() {
            let seconds = last.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            self.metrics.verification_time.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
        let differing = self.background.verify.differing();
        self.metrics.verification_differences.set(i64::try_from(differing).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::Proof;

    #[test]
    fn a_proof_holds_until_the_stage_or_a_store_changes() {
        let then = Proof { position: [5, 5], spread: 1, flips: 2 };
        assert_eq!(then.outdated(&Proof { position: [9, 8], ..then.clone() }), None);
        assert!(then.outdated(&Proof { spread: 2, ..then.clone() }).is_some());
        assert!(then.outdated(&Proof { flips: 3, ..then.clone() }).is_some());
    }
}
