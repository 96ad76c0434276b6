//! Where a verification writes down what it finds, and where it is asked about it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Broken;
use super::batch::{Found, How};
use crate::admin::verification::{MAX_DIFFERENCES, VerificationStatus, VerifyDifference, VerifyReport};
use crate::instance::{Instance, Proof};
use crate::logging::cut;
use crate::mirror::verify::{Judgement, Why};
use crate::pace::Pace;
use crate::sequencer::hash_key;
use crate::stage::StoreId;

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// Every key of both stores.
    Everything,
    /// About so many keys, chosen at random.
    Keys(u64),
    /// Each key with this probability, in percent.
    Percent(f64),
}

/// What becomes of keys that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// They are told.
    Nothing,
    /// They are handed to repair: the default store is right.
    Everything,
    /// They are, but for keys that only the other store has.
    ButSurplus,
}

/// Bytes of a key that are shown.
const MAX_SHOWN_KEY: usize = 256;
/// Bytes of differing keys that are kept to be asked again; what comes beyond counts at once.
const MAX_SUSPICION_BYTES: usize = 32 << 20;

/// A key that differed when it was last looked at.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub db: u32,
    pub key: Box<[u8]>,
    pub why: Why,
}

/// The verification of an instance: the one under way, and what the last one found.
#[derive(Debug, Default)]
pub struct Desk {
    current: RefCell<Option<Handle>>,
    last: RefCell<Option<Remembered>>,
}

/// A complete verification that has ended.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// When.
    pub at: SystemTime,
    /// Were the stores equal?
    pub equal: bool,
    /// Keys that differed.
    pub differing: u64,
    /// What was known of the instance at that moment.
    pub proof: Proof,
}

/// One verification.
#[derive(Clone, Debug)]
pub struct Handle(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    report: VerifyReport,
    began: Instant,
    sample: Sample,
    mend: Mend,
    /// Keys are looked at whose hash, mixed with this, is below the share.
    salt: u64,
    share: f64,
    pace: Pace,
    suspicions: Vec<Suspicion>,
    suspicion_bytes: usize,
    /// Keys that differ beyond what is kept.
    beyond: u64,
    ended: Option<Remembered>,
}

// === impl Suspicion ===

impl Suspicion {
    pub fn hash(&self) -> u64 {
        hash_key(self.db, &self.key)
    }
}

// === impl Sample ===

impl Sample {
    /// `all`, a number of keys, or a percentage: `5000`, `2.5%`.
    pub fn parse(text: &str) -> Result<Sample, String> {
        let wrong = || format!("{text:?} is neither a number of keys nor a percentage such as 5%");
        match text.strip_suffix('%') {
            _ if text == "all" => Ok(Sample::Everything),
            Some(number) => match number.parse::<f64>() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Sample::Percent(percent)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(keys) if keys > 0 => Ok(Sample::Keys(keys)),
                _ => Err(wrong()),
            },
        }
    }

    /// The probability with which a key is looked at, where there are so many.
    fn share(self, keys: u64) -> f64 {
        match self {
            Sample::Everything => 1.0,
            Sample::Percent(percent) => percent / 100.0,
            Sample::Keys(wanted) => wanted as f64 / (keys.max(1) as f64),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sample::Everything => f.write_str("everything"),
            Sample::Keys(keys) => write!(f, "{keys} keys"),
            Sample::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

// === impl Desk ===

impl Desk {
    /// Begins a verification, unless one is under way.
    pub fn begin(&self, instance: &Instance, sample: Sample, mend: Mend) -> Result<Handle, String> {
        let mut current = self.current.borrow_mut();
        if let Some(handle) = &*current {
            let state = handle.0.borrow();
            if state.report.state == "running" {
                return Err(format!("a verification of {} is under way", instance.name));
            }
            if let Some(ended) = &state.ended {
                *self.last.borrow_mut() = Some(ended.clone());
            }
        }
        let handle = Handle::new(instance, sample, mend);
        *current = Some(handle.clone());
        Ok(handle)
    }

    /// The last verification, or the one under way.
    pub fn report(&self, instance: &Instance) -> VerifyReport {
        match &*self.current.borrow() {
            Some(handle) => handle.report(),
            None => VerifyReport {
                instance: instance.name.clone(),
                state: "none".to_owned(),
                ..VerifyReport::default()
            },
        }
    }

    /// Keys that differ, as far as is known.
    pub fn differing(&self) -> u64 {
        self.current.borrow().as_ref().map_or(0, Handle::differing)
    }

    /// The last complete verification.
    pub fn last(&self) -> Option<Remembered> {
        let current = self.current.borrow();
        let ended = current.as_ref().and_then(|handle| handle.0.borrow().ended.clone());
        ended.or_else(|| self.last.borrow().clone())
    }

    /// What `/status` tells of the one under way, or the last one.
    pub fn status(&self, instance: &Instance) -> VerificationStatus {
        let report = self.report(instance);
        let progress = match report.state.as_str() {
            "none" => 0.0,
            "running" => (report.keys_seen as f64 / report.keys_expected.max(1) as f64).min(1.0),
            _ => 1.0,
        };
        VerificationStatus {
            state: report.state,
            progress,
            keys_compared: report.keys_compared,
            differing: report.differing,
            error: report.error,
            last_complete: None,
        }
    }
}

// === impl Handle ===

impl Handle {
    fn new(instance: &Instance, sample: Sample, mend: Mend) -> Handle {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let report = VerifyReport {
            instance: instance.name.clone(),
            state: "running".to_owned(),
            sample: sample.to_string(),
            stage: instance.core().stage().name().to_owned(),
            began_at_unix_ms: now.as_millis() as u64,
            ..VerifyReport::default()
        };
        Handle(Rc::new(RefCell::new(State {
            report,
            began: Instant::now(),
            sample,
            mend,
            salt: instance.random().to_bits(),
            share: 1.0,
            pace: instance.pace(),
            suspicions: Vec::new(),
            suspicion_bytes: 0,
            beyond: 0,
            ended: None,
        })))
    }

    fn differing(&self) -> u64 {
        let state = self.0.borrow();
        match state.report.state.as_str() {
            "running" => state.suspicions.len() as u64 + state.beyond,
            _ => state.report.differing,
        }
    }

    pub(super) fn report(&self) -> VerifyReport {
        let state = self.0.borrow();
        let mut report = state.report.clone();
        if report.state == "running" {
            report.took_ms = state.began.elapsed().as_millis() as u64;
            report.differing = state.suspicions.len() as u64 + state.beyond;
        }
        report
    }

    pub(super) fn begins(&self, keys: u64, databases: &BTreeSet<u32>) {
        let mut state = self.0.borrow_mut();
        state.report.keys_expected = keys;
        state.report.databases = databases.iter().copied().collect();
        // Both stores are walked, and each key is looked for once.
        state.share = state.sample.share(keys / 2);
    }

    pub(super) fn functions(&self, equal: Option<bool>) {
        self.0.borrow_mut().report.functions_equal = equal;
    }

    pub(super) fn mends(&self) -> Mend {
        self.0.borrow().mend
    }

    /// Takes suspicions back that nothing is done about.
    pub(super) fn keep(&self, suspicions: Vec<Suspicion>) {
        suspicions.into_iter().for_each(|one| self.suspects(one.db, one.key, one.why));
    }

    /// Does the key with this hash belong to the sample? The same on both stores.
    pub(super) fn samples(&self, hash: u64) -> bool {
        let state = self.0.borrow();
        let mixed = (hash ^ state.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
        state.share >= 1.0 || (mixed as f64) < state.share * (1_u64 << 53) as f64
    }

    pub(super) fn seen(&self, keys: usize) {
        self.0.borrow_mut().report.keys_seen += keys as u64;
    }

    /// Is the number of keys reached that was asked for?
    pub(super) fn has_enough(&self) -> bool {
        let state = self.0.borrow();
        matches!(state.sample, Sample::Keys(keys) if state.report.keys_compared >= keys.saturating_mul(2))
    }

    pub(super) fn window(&self) -> usize {
        self.0.borrow().pace.window()
    }

    pub(super) fn spend(&self, instance: &Instance, keys: usize) -> Duration {
        let mut state = self.0.borrow_mut();
        state.pace.set_limits(instance.background_limits());
        state.pace.spend(instance.micros(), keys as u64, 0)
    }

    pub(super) fn heard(&self, instance: &Instance, latency: Duration) {
        self.0.borrow_mut().pace.heard(instance.micros(), latency);
    }

    /// Takes down what a first look has shown.
    pub(super) fn looked(&self, db: u32, keys: &[Box<[u8]>], found: Vec<Found>) {
        for (key, found) in keys.iter().zip(found) {
            {
                let mut state = self.0.borrow_mut();
                state.report.keys_compared += u64::from(found.judgement != Judgement::Gone);
                state.report.compared_by_type += u64::from(found.how == How::ByType);
                state.report.compared_by_pieces += u64::from(found.how == How::ByPieces);
            }
            if let Judgement::Differ(why) = found.judgement {
                self.suspects(db, key.clone(), why);
            }
        }
    }

    /// Takes down what a further look has shown.
    pub(super) fn looked_again(&self, db: u32, keys: &[Box<[u8]>], found: Vec<Found>) {
        self.0.borrow_mut().report.asked_again += keys.len() as u64;
        for (key, found) in keys.iter().zip(found) {
            if let Judgement::Differ(why) = found.judgement {
                self.suspects(db, key.clone(), why);
            }
        }
    }

    pub(super) fn suspects(&self, db: u32, key: Box<[u8]>, why: Why) {
        let mut state = self.0.borrow_mut();
        if state.suspicion_bytes >= MAX_SUSPICION_BYTES {
            state.beyond += 1;
            return;
        }
        state.suspicion_bytes += key.len() + size_of::<Suspicion>();
        state.suspicions.push(Suspicion { db, key, why });
    }

    pub(super) fn has_suspicions(&self) -> bool {
        !self.0.borrow().suspicions.is_empty()
    }

    pub(super) fn take_suspicions(&self) -> Vec<Suspicion> {
        let mut state = self.0.borrow_mut();
        state.suspicion_bytes = 0;
        std::mem::take(&mut state.suspicions)
    }

    /// Of `before` keys that were handed to repair those are left that are listed.
    pub(super) fn repaired(&self, before: usize) {
        let mut state = self.0.borrow_mut();
        state.report.repaired = (before - state.suspicions.len().min(before)) as u64;
    }

    /// The end, good or bad. `proof`: what was known of the instance when it ended.
    pub(super) fn end(&self, outcome: Result<(), Broken>, proof: Option<Proof>) {
        let mut state = self.0.borrow_mut();
        let suspicions = std::mem::take(&mut state.suspicions);
        let beyond = state.beyond;
        let everything = state.sample == Sample::Everything;
        let took = state.began.elapsed();
        let report = &mut state.report;
        report.took_ms = took.as_millis() as u64;
        report.differing = suspicions.len() as u64 + beyond;
        let lacked_by = |store| suspicions.iter().filter(|one| one.why == Why::Missing(store)).count() as u64;
        report.only_primary = lacked_by(StoreId::Secondary);
        report.only_secondary = lacked_by(StoreId::Primary);
        report.differences = suspicions.iter().take(MAX_DIFFERENCES).map(listed).collect();
        match outcome {
            Ok(()) => {
                let equal = report.differing == 0 && report.functions_equal != Some(false);
                report.state = "done".to_owned();
                report.equal = Some(equal);
                report.complete = everything;
                report.position = proof.as_ref().map_or([0, 0], |proof| proof.position);
                let proof = proof.filter(|_| everything);
                let differing = report.differing;
                state.ended =
                    proof.map(|proof| Remembered { at: SystemTime::now(), equal, differing, proof });
            }
            Err(broken) => {
                report.state = "failed".to_owned();
                report.error = Some(broken.to_string());
            }
        }
    }
}

fn listed(suspicion: &Suspicion) -> VerifyDifference {
    VerifyDifference {
        database: suspicion.db,
        key: cut(&suspicion.key.escape_ascii().to_string(), MAX_SHOWN_KEY).to_owned(),
        why: suspicion.why.code().to_owned(),
        text: suspicion.why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn a_sample_is_a_number_or_a_share() {
        assert_eq!(Sample::parse("all"), Ok(Sample::Everything));
        assert_eq!(Sample::parse("5000"), Ok(Sample::Keys(5000)));
        assert_eq!(Sample::parse("2.5%"), Ok(Sample::Percent(2.5)));
        for wrong in ["", "0", "0%", "101%", "-1", "NaN%", "x"] {
            assert!(Sample::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Sample::Keys(50).share(200), 0.25);
    }
}
