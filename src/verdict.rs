//! Is the next stage safe, and the way back? Pure: facts in, every reason that stands in the way out.
//!
//! The rules are those of the rollout: the next stage is safe when nothing is out of sync and nothing has been amiss
//! over the quiet period, or since a complete verification that found no difference.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sequencer::flip::HeldFlip;
use crate::stage::{Stage, StoreId};

/// What has been amiss, each counted since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A read was answered by the secondary after the primary had missed.
    Fallback,
    /// The stores answered differently.
    Difference,
    /// A mirrored write was lost or refused.
    LostWrite,
    /// A read was answered by the default store, the primary being slow.
    Diverted,
    /// A command came that nothing describes.
    Missing,
}

/// How many signs there are.
pub const SIGNS: usize = 5;

/// Since when each sign has been quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quiet {
    counts: [u64; SIGNS],
    since: [u64; SIGNS],
    seen: [bool; SIGNS],
    began: u64,
}

/// The last complete verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How long ago it ended.
    pub age: Duration,
    /// Were the stores equal?
    pub equal: bool,
    /// Why it proves nothing any more.
    pub outdated: Option<&'static str>,
}

/// What is known of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// Its lane is connected.
    pub up: bool,
    /// Bytes queued for it.
    pub lag: u64,
    /// It is behind as a whole.
    pub behind: bool,
    /// Keys that are suspect on it for longer than a copy takes.
    pub suspects: u64,
    /// Keys that could not be copied to it.
    pub stuck: u64,
}

/// What a primary holds before the rollout begins, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its keys when it was last connected to.
    pub keys: u64,
    /// It is made equal to the secondary; else what it holds is taken for an answer.
    pub replaced: bool,
}

/// What the verdict is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The stage in effect; `None` only in tests of the type.
    pub stage: Option<Stage>,
    /// The change of stage that is asked for and held back.
    pub held: Option<HeldFlip>,
    /// Both stores are one.
    pub same_server: bool,
    /// The stores, indexed by store.
    pub stores: [StoreFacts; 2],
    /// The bound of lag.
    pub flip_max_lag: u64,
    /// Why a store may have lost writes, so that an operator must say which one is right.
    pub doubted: Option<String>,
    /// What the primary holds, if it is not empty.
    pub found: Option<Found>,
    /// Undeclared keys may have been written: a walk is owed.
    pub owes_walk: bool,
    /// The backfill that was asked for and is not done: how far it is, in percent.
    pub backfill: Option<u8>,
    /// The setting.
    pub quiet_period: Duration,
    /// How long ago each sign was last seen; `None`: not since the stage began.
    pub signs: [Option<Duration>; SIGNS],
    /// How long the stage has been in effect.
    pub stage_age: Duration,
    /// Names of commands that nothing describes.
    pub missing: Vec<String>,
    /// The last complete verification.
    pub verified: Option<Verified>,
}

/// Why a step is not safe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// In a word, for scripts.
    pub code: String,
    /// In a sentence.
    pub text: String,
}

/// One step to another stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The stage it leads to.
    pub to: String,
    /// Nothing stands in the way.
    pub safe: bool,
    /// All that does.
    pub reasons: Vec<Reason>,
    /// What does not, but should be known before.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The verdict on an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The next stage; none behind `primary_only`.
    pub forward: Option<Step>,
    /// The stage before; none before `secondary_only`.
    pub back: Option<Step>,
    /// What is left of the quiet period in seconds, if a verification does not end it.
    pub quiet_left_seconds: u64,
}

// === impl Sign ===

impl Sign {
    /// All of them, in the order of counts.
    pub const ALL: [Sign; SIGNS] =
        [Sign::Fallback, Sign::Difference, Sign::LostWrite, Sign::Diverted, Sign::Missing];

    fn code(self) -> &'static str {
        match self {
            Sign::Fallback => "fallbacks",
            Sign::Difference => "differences",
            Sign::LostWrite => "lost_writes",
            Sign::Diverted => "diverted_reads",
            Sign::Missing => "method_missing",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Sign::Fallback => "a read fell back to the secondary",
            Sign::Difference => "the stores answered a command differently",
            Sign::LostWrite => "a mirrored write was lost or refused",
            Sign::Diverted => "a read was diverted, the primary being slow,",
            Sign::Missing => "a command that nothing describes came",
        }
    }
}

// === impl Quiet ===

impl Quiet {
    /// Begins at `now` with these counts.
    pub fn new(now: u64, counts: [u64; SIGNS]) -> Quiet {
        Quiet { counts, since: [now; SIGNS], seen: [false; SIGNS], began: now }
    }

    /// Takes the counts at `now`.
    pub fn observe(&mut self, now: u64, counts: [u64; SIGNS]) {
        let places = self.counts.iter_mut().zip(&mut self.since).zip(&mut self.seen);
        for (((known, since), seen), count) in places.zip(counts) {
            if *known != count {
                *known = count;
                *since = now;
                *seen = true;
            }
        }
    }

    /// How long ago each sign was last seen, at `now`.
    pub fn ages(&self, now: u64) -> [Option<Duration>; SIGNS] {
        let mut ages = [None; SIGNS];
        for ((age, since), seen) in ages.iter_mut().zip(self.since).zip(self.seen) {
            *age = seen.then(|| Duration::from_micros(now.saturating_sub(since)));
        }
        ages
    }

    /// How long it has been watched, at `now`.
    pub fn age(&self, now: u64) -> Duration {
        Duration::from_micros(now.saturating_sub(self.began))
    }
}

// === impl Found ===

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = if self.keys == 1 { "1 key".to_owned() } else { format!("{} keys", self.keys) };
        write!(f, "the primary is not empty, it held {keys} when it was connected to: ")?;
        f.write_str(if self.replaced {
            "once both stores are in use it is made equal to the secondary, and what only the primary has is deleted"
        } else {
            "once both stores are in use they answer reads (but with primary_content = \"untrusted\"), and what nobody writes \
             stays; empty it first, or be sure of what it holds"
        })
    }
}

// === impl Facts ===

impl Facts {
    fn store(&self, store: StoreId) -> StoreFacts {
        let [primary, secondary] = self.stores;
        match store {
            StoreId::Primary => primary,
            StoreId::Secondary => secondary,
        }
    }

    /// The verification that proves the stores equal now, if there is one: nothing was amiss behind it.
    fn proof(&self) -> Option<&Verified> {
        let verified =
            self.verified.as_ref().filter(|verified| verified.equal && verified.outdated.is_none())?;
        let later =
            |sign: &Sign| *sign != Sign::Missing && self.age_of(*sign).is_some_and(|age| age < verified.age);
        (!Sign::ALL.iter().any(later)).then_some(verified)
    }

    fn age_of(&self, sign: Sign) -> Option<Duration> {
        Sign::ALL.iter().zip(self.signs).find(|(known, _)| **known == sign).and_then(|(_, age)| age)
    }

    /// What is left of the quiet period.
    fn quiet_left(&self) -> Duration {
        let last = self.signs.iter().flatten().copied().min().unwrap_or(self.stage_age);
        self.quiet_period.saturating_sub(last.min(self.stage_age))
    }
}

/// Judges.
pub fn judge(facts: &Facts) -> Verdict {
    let Some(stage) = facts.stage else { return Verdict::default() };
    let at = Stage::ALL.iter().position(|known| *known == stage).unwrap_or(0);
    let forward = Stage::ALL.get(at + 1).map(|to| step(facts, stage, *to, true));
    let back = at.checked_sub(1).and_then(|at| Stage::ALL.get(at)).map(|to| step(facts, stage, *to, false));
    let quiet_left =
        if stage.is_dual() && facts.proof().is_none() { facts.quiet_left() } else { Duration::ZERO };
    Verdict { forward, back, quiet_left_seconds: quiet_left.as_secs() }
}

fn step(facts: &Facts, from: Stage, to: Stage, forward: bool) -> Step {
    let mut against = Against(Vec::new());
    against.states(facts, from, to);
    if from.is_dual() {
        against.doubts(facts, to.default_store());
        if forward || to.default_store() != from.default_store() {
            against.differences(facts);
        }
        if forward {
            against.unfinished(facts);
            against.signs(facts);
        }
    } else {
        against.source(facts);
        // Entering dual needs both.
        StoreId::ALL.iter().for_each(|store| against.down(facts, *store));
    }
    let begins = from == Stage::SecondaryOnly && !facts.same_server;
    let notes = facts.found.filter(|_| begins).map(|found| found.to_string()).into_iter().collect();
    Step { to: to.name().to_owned(), safe: against.0.is_empty(), reasons: against.0, notes }
}

/// What stands against a step.
struct Against(Vec<Reason>);

// === impl Against ===

impl Against {
    fn add(&mut self, code: &str, text: impl fmt::Display) {
        self.0.push(Reason { code: code.to_owned(), text: text.to_string() });
    }

    fn states(&mut self, facts: &Facts, from: Stage, to: Stage) {
        if facts.same_server {
            self.add("same_server", "primary and secondary are the same server and database");
        }
        match &facts.held {
            Some(held) if held.wanted == to => {
                self.add("held_flip", format_args!("it is asked for already, and held back: {}", held.reason));
            }
            Some(held) => self.add(
                "held_flip",
                format_args!(
                    "the file asks for {}, which is held back: write {from} back first (multistore feature set)",
                    held.wanted
                ),
            ),
            None => {}
        }
    }

    fn down(&mut self, facts: &Facts, store: StoreId) {
        if !facts.store(store).up {
            self.add("store_down", format_args!("the {store} store is down"));
        }
    }

    /// Is it known which store is right?
    fn source(&mut self, facts: &Facts) {
        if let Some(why) = &facts.doubted {
            self.add("source_in_doubt", format_args!("{why}: multistore repair --from says which is right"));
        }
    }

    /// Does the store that will answer hold what it should?
    fn doubts(&mut self, facts: &Facts, next: StoreId) {
        self.down(facts, next);
        self.source(facts);
        let store = facts.store(next);
        if store.behind {
            self.add("behind", format_args!("the {next} store is behind as a whole and is being repaired"));
        }
        if store.suspects > 0 {
            self.add(
                "suspect_keys",
                format_args!("{} keys are out of sync on the {next} store", store.suspects),
            );
        }
        if store.stuck > 0 {
            self.add(
                "stuck_keys",
                format_args!("{} keys could not be copied to the {next} store", store.stuck),
            );
        }
        if store.lag > facts.flip_max_lag {
            self.add("lag", format_args!("the {next} store lags by {} bytes (flip_max_lag)", store.lag));
        }
    }

    /// Do the stores differ? Who goes back to the store that answers anyway loses nothing by it.
    fn differences(&mut self, facts: &Facts) {
        let differs =
            facts.verified.as_ref().filter(|verified| !verified.equal && verified.outdated.is_none());
        if let Some(verified) = differs {
            self.add(
                "verification",
                format_args!(
                    "the last complete verification, {} ago, found differences (multistore verify --repair mends them)",
                    span(verified.age)
                ),
            );
        }
    }

    fn unfinished(&mut self, facts: &Facts) {
        if let Some(percent) = facts.backfill {
            self.add("backfill", format_args!("the backfill is not done ({percent}%)"));
        }
        if facts.owes_walk {
            self.add(
                "undeclared_keys",
                "a script may have written keys that it did not declare: a walk is owed",
            );
        }
    }

    /// Was anything amiss lately?
    fn signs(&mut self, facts: &Facts) {
        let quiet = facts.quiet_period;
        let recent = |age: Option<Duration>| age.filter(|age| *age < quiet);
        if let Some(age) = recent(facts.age_of(Sign::Missing)) {
            let names = facts.missing.join(", ");
            self.add(
                Sign::Missing.code(),
                format_args!(
                    "{} {} ago, and the other store did not get it: {names}",
                    Sign::Missing.what(),
                    span(age)
                ),
            );
        }
        if facts.proof().is_some() {
            return;
        }
        let before = self.0.len();
        for sign in Sign::ALL.into_iter().filter(|sign| *sign != Sign::Missing) {
            if let Some(age) = recent(facts.age_of(sign)) {
                self.add(sign.code(), format_args!("{} {} ago", sign.what(), span(age)));
            }
        }
        let left = facts.quiet_left();
        if !left.is_zero() {
            let why = match &facts.verified {
                Some(Verified { outdated: Some(why), .. }) => format!(" (the last one is outdated: {why})"),
                Some(Verified { equal: true, .. }) if self.0.len() > before => {
                    " (something was amiss since the last one)".to_owned()
                }
                _ => String::new(),
            };
            self.add(
                "quiet_period",
                format_args!(
                    "the quiet period ends in {}, or at once when a complete verification finds no difference{why}",
                    span(left)
                ),
            );
        }
    }
}

/// `5 h 3 min`, `12 min`, `7 s`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, _) => format!("{minutes} min"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
