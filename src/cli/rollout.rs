//! `multistore rollout`: walks the stages by itself, as the verdict allows.

use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::feature::Before;
use super::proxy::{Problem, Proxy, ProxyArg};
use super::status::{notes, reasons};
use super::{Exit, backfill, complain, say, verify};
use crate::admin::InstanceStatus;
use crate::admin::orders::BACKFILL;
use crate::config::edit::{Jump, set_judged_flag};
use crate::config::{self, parse_duration};
use crate::stage::{Stage, primary_default_flag, use_both_flag};
use crate::verdict::Step;

/// How often the proxy is asked while something is awaited.
const LOOK: Duration = Duration::from_millis(100);
/// How often the stores are compared before a step, when something was amiss behind each comparison.
const VERIFICATIONS: u32 = 3;

/// Walk the stages by itself, as far as the verdict allows
///
/// Sets one flag at a time in proxy.toml and changes nothing else there. Before the default store changes, and before a
/// store is left, it copies the whole keyspace (multistore backfill), compares both stores (multistore verify), and asks
/// for the verdict. Where a step is not safe it stops, says why, and leaves everything as it is. Run again, it goes on
/// from where the instance is; with an earlier stage as its aim it goes back, one stage at a time. Where an operator must
/// say which store is right, and where the file asks for another stage than the one in effect, it stops at once.
///
/// Exit codes: 0 the stage is reached, 3 the next step is not safe, 4 the stores differ, 1 it failed, 2 wrong arguments.
#[derive(Args)]
pub struct Rollout {
    /// The stage to reach
    #[arg(long, value_name = "STAGE", value_parser = PossibleValuesParser::new(Stage::ALL.map(Stage::name)))]
    to: String,
    /// Hand keys in which the stores differ to repair (see multistore verify --repair)
    #[arg(long)]
    repair: bool,
    /// How long to wait for what passes by itself: a store that lags, is down or is being repaired
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    patience: Duration,
    #[command(flatten)]
    proxy: ProxyArg,
}

/// Why a rollout stops.
enum Stop {
    Problem(Problem),
    NotSafe(Step),
    Different,
}

// === impl Stop ===

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Stop {
        Stop::Problem(problem)
    }
}

// === impl Rollout ===

impl Rollout {
    /// Walks.
    pub fn run(self) -> Exit {
        let proxy = match self.proxy.proxy() {
            Ok(proxy) => proxy,
            Err(exit) => return exit,
        };
        let Some(aim) = Stage::ALL.into_iter().find(|stage| stage.name() == self.to) else {
            return Exit::Invalid;
        };
        let walk = Walk { proxy: &proxy, repair: self.repair, patience: self.patience };
        match walk.to(aim) {
            Ok(name) => {
                say(format_args!("{name}: {aim} is reached"));
                Exit::Done
            }
            Err(Stop::Problem(problem)) => problem.tell(),
            Err(Stop::NotSafe(step)) => {
                complain(format_args!("stopped: {} is not safe:", step.to));
                reasons(&step).for_each(complain);
                complain("nothing was changed; run it again when the reasons are gone");
                Exit::Refused
            }
            Err(Stop::Different) => {
                complain(
                    "stopped: the stores differ; the stage was not changed (--repair makes the other store equal)",
                );
                Exit::Different
            }
        }
    }
}

struct Walk<'a> {
    proxy: &'a Proxy,
    repair: bool,
    patience: Duration,
}

// === impl Walk ===

impl Walk<'_> {
    /// The name of the instance.
    fn to(&self, aim: Stage) -> Result<String, Stop> {
        loop {
            let instance = self.proxy.instance()?;
            let stage = stage_of(&instance)?;
            if stage == aim {
                return Ok(instance.name);
            }
            let forward = place(aim) > place(stage);
            if stage.is_dual() && forward {
                self.fill()?;
            }
            let from_single = !stage.is_dual();
            let leaves_answering_store = forward || stage == Stage::DualPrimaryDefault;
            let next = match (from_single, leaves_answering_store) {
                (false, true) => self.proven(forward)?,
                _ => self.safe(forward)?,
            };
            self.step(&instance.name, stage, next)?;
        }
    }

    /// Copies the whole keyspace, unless everything is known to be in sync.
    fn fill(&self) -> Result<(), Stop> {
        let sync = self.proxy.instance()?.sync;
        if sync.untouched_keys == "in_sync" {
            return Ok(());
        }
        say("copying the whole keyspace");
        self.proxy.order(BACKFILL, &[("action", "start")])?;
        let status = backfill::wait_for(self.proxy)?;
        say(format_args!("backfill: {}", backfill::line(&status)));
        Ok(())
    }

    /// Compares the stores, and waits until the step is safe.
    fn proven(&self, forward: bool) -> Result<Stage, Stop> {
        let mut last = None;
        for _ in 0..VERIFICATIONS {
            self.settled(forward)?;
            let report = verify::run(self.proxy, None, self.repair)?;
            match verify::show(&report, false) {
                Exit::Done => {}
                Exit::Different => return Err(Stop::Different),
                exit => {
                    return Err(Problem { exit, text: "the stores could not be compared".to_owned() }.into());
                }
            }
            match self.safe(forward) {
                Err(Stop::NotSafe(step)) => last = Some(step),
                outcome => return outcome,
            }
        }
        Err(last.map_or_else(
            || Problem { exit: Exit::Failed, text: "there is no such step".to_owned() }.into(),
            Stop::NotSafe,
        ))
    }

    /// Waits until nothing is being repaired any more that the comparison would only find different.
    fn settled(&self, forward: bool) -> Result<(), Stop> {
        self.until(forward, |step| !step.reasons.iter().any(|reason| passes(&reason.code))).map(drop)
    }

    /// Waits until the step is safe, if what stands in its way passes by itself.
    fn safe(&self, forward: bool) -> Result<Stage, Stop> {
        self.until(forward, |step| step.safe)
    }

    fn until(&self, forward: bool, enough: impl Fn(&Step) -> bool) -> Result<Stage, Stop> {
        let deadline = Instant::now() + self.patience;
        loop {
            let instance = self.proxy.instance()?;
            let verdict = &instance.verdict;
            let Some(step) = (if forward { verdict.forward.clone() } else { verdict.back.clone() }) else {
                return Err(Problem { exit: Exit::Failed, text: "there is no such step".to_owned() }.into());
            };
            self.proxy.goes_on(&instance)?;
            if enough(&step) {
                notes(&step).for_each(complain);
                let to = Stage::ALL.into_iter().find(|stage| stage.name() == step.to);
                return to.ok_or_else(|| unknown(&step.to).into());
            }
            let waits = step.reasons.iter().any(|reason| passes(&reason.code));
            if !waits || Instant::now() >= deadline {
                return Err(Stop::NotSafe(step));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The file must ask for what is in effect: else one flag more asks for a stage that nobody has judged.
    fn file_agrees(&self, stage: Stage) -> Result<(), Stop> {
        let Ok(loaded) = config::load(&self.proxy.config().config) else { return Ok(()) };
        let before = Before::ask(self.proxy.clone())?;
        match before.difference(loaded.config.flags(&before.instance.name)) {
            Some([what, advice]) if before.is_in(stage) => {
                Err(Problem { exit: Exit::Refused, text: format!("stopped: {what}\n{advice}") }.into())
            }
            _ => Ok(()),
        }
    }

    /// Sets the flag that leads to the next stage, and waits until it is in effect.
    fn step(&self, name: &str, from: Stage, to: Stage) -> Result<(), Stop> {
        let path = &self.proxy.config().config;
        self.file_agrees(from)?;
        let (flag, value) = if from.is_dual() == to.is_dual() {
            (primary_default_flag(name), to.flags().primary_default)
        } else {
            (use_both_flag(name), to.flags().use_both)
        };
        set_judged_flag(path, &flag, value, Jump::Refused, Some(from)).map_err(|error| Problem {
            exit: Exit::Failed,
            text: format!("{flag} could not be set: {error}"),
        })?;
        say(format_args!("{name}: {from} -> {to} ({flag} = {value})"));
        let deadline = Instant::now() + self.patience;
        loop {
            let instance = self.proxy.instance()?;
            if stage_of(&instance)? == to {
                return Ok(());
            }
            self.proxy.goes_on(&instance)?;
            if Instant::now() >= deadline {
                let why =
                    instance.held_flip.unwrap_or_else(|| "the proxy does not follow the file".to_owned());
                return Err(
                    Problem { exit: Exit::Failed, text: format!("{to} is not in effect: {why}") }.into()
                );
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Does this reason pass by itself, as a rule?
fn passes(code: &str) -> bool {
    ["store_down", "held_flip", "behind", "suspect_keys", "lag", "backfill", "undeclared_keys"]
        .contains(&code)
}

fn place(stage: Stage) -> usize {
    Stage::ALL.iter().position(|known| *known == stage).unwrap_or_default()
}

fn stage_of(instance: &InstanceStatus) -> Result<Stage, Problem> {
    Stage::ALL
        .into_iter()
        .find(|stage| stage.name() == instance.stage)
        .ok_or_else(|| unknown(&instance.stage))
}

fn unknown(stage: &str) -> Problem {
    Problem { exit: Exit::Failed, text: format!("the proxy is in a stage that is not known here: {stage}") }
}
