//! `multistore feature`: the flags of a rollout.

use clap::{ArgAction, Args, Subcommand};

use super::http::AdminArg;
use super::proxy::Proxy;
use super::status::reasons;
use super::{ConfigArg, Exit, complain, say};
use crate::config::edit::{EditError, set_flag};
use crate::config::{self, Config, FlagKind, StageJump};
use crate::stage::{Stage, primary_default_flag, use_both_flag};
use crate::verdict::Step;

/// Show and set the feature flags of a rollout
#[derive(Args)]
pub struct Feature {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    List(List),
    Set(Set),
}

/// Show the flags in the file and the stage of every instance
///
/// What is shown is what the file asks for. What a running proxy does is told by /status of its admin address.
#[derive(Args)]
struct List {
    #[command(flatten)]
    config: ConfigArg,
}

/// Set a flag in the file; a running proxy follows at once
///
/// The file is edited in place: comments stay, and it is replaced as a whole or not at all. The running proxy is asked
/// whether the step is safe; one that is not is refused with exit code 3, and so is a jump from secondary_only to
/// primary_only, or back. If no proxy answers, that is said, and the file is edited.
#[derive(Args)]
struct Set {
    /// The full name of the flag, as `multistore feature list` shows it
    name: String,
    /// true or false
    #[arg(action = ArgAction::Set)]
    value: bool,
    /// Do it although it is not safe; allow the instance to jump, and write that down for the running proxy
    /// (allow_stage_jump)
    ///
    /// secondary_only to primary_only serves a store that lacks what was written before. primary_only to secondary_only
    /// loses every write since.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminArg,
}

// === impl Feature ===

impl Feature {
    /// Runs the chosen action.
    pub fn run(self) -> Exit {
        match self.action {
            Action::List(list) => list.run(),
            Action::Set(set) => set.run(),
        }
    }
}

// === impl List ===

impl List {
    fn run(self) -> Exit {
        match self.config.load() {
            Ok(loaded) => {
                list(&loaded.config);
                Exit::Done
            }
            Err(exit) => exit,
        }
    }
}

fn list(config: &Config) {
    for instance in config.instances.keys() {
        let flags = config.flags(instance);
        say(format_args!("{instance}: {}", flags.stage()));
        let names = [
            (use_both_flag(instance), flags.use_both),
            (primary_default_flag(instance), flags.primary_default),
        ];
        let width = names.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in names {
            say(format_args!("  {name:<width$}  {value}"));
        }
    }
}

// === impl Set ===

impl Set {
    fn run(self) -> Exit {
        if let Some(step) = self.unsafe_step() {
            let what = if self.force { "forced" } else { "refused" };
            complain(format_args!("{what}: {} is not safe now:", step.to));
            reasons(&step).for_each(complain);
            if !self.force {
                complain("wait until the reasons are gone (multistore status), or add --force");
                return Exit::Refused;
            }
        }
        match set_flag(&self.admin.config().config, &self.name, self.value, self.force) {
            Ok(edited) if edited.written => {
                say(format_args!("{}: {} -> {}", edited.instance, edited.before, edited.after));
                say("written; a running proxy follows, or says in /status (held_flip) what it waits for");
                Exit::Done
            }
            Ok(edited) => {
                say(format_args!("{}: {} (the file said so already)", edited.instance, edited.after));
                Exit::Done
            }
            Err(error) => self.report(&error),
        }
    }

    /// The step that this flag asks for, if the running proxy says that it is not safe. What cannot be found out is
    /// said: the file is there without a proxy, too.
    fn unsafe_step(&self) -> Option<Step> {
        let config = config::load(&self.admin.config().config).ok()?.config;
        let (kind, instance) = FlagKind::of_name(&self.name)?;
        if !config.instances.contains_key(instance) {
            return None;
        }
        let stage = config.flags(instance).stage();
        let wanted = kind.set(config.flags(instance), self.value).stage();
        if wanted == stage || !stage.may_become(wanted) {
            // Nothing to judge, or refused whatever the proxy says.
            return None;
        }
        let asked = self.admin.clone().address().ok().map(|address| {
            Proxy::at(address, Some(instance.to_owned()), self.admin.config().clone()).instance()
        });
        let status = match asked? {
            Ok(status) => status,
            Err(problem) => {
                complain(format_args!("{}; whether the step is safe was not checked", problem.text));
                return None;
            }
        };
        // Whoever takes back a change that is not in effect yet changes nothing.
        let steps = [status.verdict.forward, status.verdict.back];
        steps.into_iter().flatten().find(|step| step.to == wanted.name() && !step.safe)
    }

    fn report(&self, error: &EditError) -> Exit {
        match error {
            EditError::Jump(jump) => {
                complain(format_args!("refused: {jump}"));
                complain(self.way_around(jump));
                Exit::Refused
            }
            EditError::Invalid(_) => {
                complain(error);
                complain("the file is not valid, so it was left alone; mend it first");
                Exit::Invalid
            }
            EditError::UnknownFlag(_) => {
                complain(error);
                Exit::Invalid
            }
            EditError::Busy(_) | EditError::Io { .. } => {
                complain(error);
                Exit::Failed
            }
        }
    }

    /// The next flag to set instead: both jumps lead over dual.
    fn way_around(&self, jump: &StageJump) -> String {
        let both = use_both_flag(&jump.instance);
        let config = self.admin.config().config.display();
        let through = match jump.to {
            Stage::PrimaryOnly => Stage::DualSecondaryDefault,
            _ => Stage::DualPrimaryDefault,
        };
        format!(
            "next step, to {through}:\n  multistore feature set {both} true --config {config}\n\
             or, if the data doesn't matter, the same command with --force"
        )
    }
}
