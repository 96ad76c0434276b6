//! `multistore feature`: the flags of a rollout.

mod follow;

use clap::{ArgAction, Args, Subcommand};

use super::http::AdminArg;
use super::proxy::Proxy;
use super::status::{notes, reasons};
use super::{ConfigArg, Exit, complain, say};
use crate::config::edit::{EditError, Jump, set_judged_flag};
use crate::config::{self, Config, FlagKind, StageJump};
use crate::stage::{Flags, Stage, primary_default_flag, use_both_flag};
pub use follow::Before;

/// How often a step is judged anew because somebody else has changed the file meanwhile.
const MAX_JUDGEMENTS: usize = 5;

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
/// primary_only, or back, and any change while the file asks for another stage than the one in effect, unless it writes
/// that one back. If no proxy answers, that is said, and the file is edited.
///
/// It returns when the proxy has taken the file over. Exit codes: 0 the stage is in effect, or the change is held back,
/// which is said, and made when the reason is gone; 3 refused, by this command or by the proxy; 1 the proxy does not
/// follow within 10 s, or the file cannot be written; 2 wrong arguments, or the file is not valid.
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
        for _ in 1..MAX_JUDGEMENTS {
            if let Some(exit) = self.judge_and_set(true) {
                return exit;
            }
        }
        self.judge_and_set(false).unwrap_or(Exit::Failed)
    }

    /// One attempt. None: the file was changed meanwhile, and `again` allows for another one.
    fn judge_and_set(&self, again: bool) -> Option<Exit> {
        let before = self.ask();
        let mut back = false;
        if let Some((before, flags)) = &before {
            let wanted = self.wanted(*flags);
            // Whoever writes back what is in effect changes nothing: that must always work.
            back = before.is_in(wanted);
            if !back && let Some(against) = against(before, *flags, wanted) {
                let what = if self.force { "forced" } else { "refused" };
                complain(format_args!("{what}: {}", against.what));
                if let Some(lost) = before.lost_by(wanted) {
                    complain(lost);
                }
                if !self.force {
                    complain(format_args!("{}, or add --force", against.advice));
                    return Some(Exit::Refused);
                }
            }
        }
        if let Some((before, flags)) = &before {
            let step = before.instance.verdict.forward.as_ref();
            let step = step.filter(|step| step.to == self.wanted(*flags).name());
            step.into_iter().flat_map(notes).for_each(complain);
        }
        let judged = before.as_ref().map(|(_, flags)| flags.stage());
        let jump = match (back, self.force) {
            (true, _) => Jump::WrittenBack,
            (false, true) => Jump::Forced,
            (false, false) => Jump::Refused,
        };
        match set_judged_flag(&self.admin.config().config, &self.name, self.value, jump, judged) {
            Ok(edited) => {
                let said = match edited.written {
                    true => format!("{} -> {}", edited.before, edited.after),
                    false => format!("{} (the file said so already)", edited.after),
                };
                say(format_args!("{}: {said}", edited.instance));
                Some(match before {
                    Some((before, _)) => before.follow(&edited),
                    None => {
                        say("a proxy that runs follows, or says in /status (held_flip) what it waits for");
                        Exit::Done
                    }
                })
            }
            Err(EditError::Outrun(_)) if again => None,
            Err(error) => Some(self.report(&error)),
        }
    }

    /// The running proxy, and the flags in the file. What cannot be found out is said: the file is there without a proxy,
    /// too.
    fn ask(&self) -> Option<(Before, Flags)> {
        let config = config::load(&self.admin.config().config).ok()?.config;
        let (_, instance) = FlagKind::of_name(&self.name)?;
        if !config.instances.contains_key(instance) {
            return None;
        }
        let address = self.admin.clone().address().ok()?;
        let proxy = Proxy::at(address, Some(instance.to_owned()), self.admin.config().clone());
        let flags = config.flags(instance);
        match Before::ask(proxy) {
            Ok(before) => Some((before, flags)),
            Err(problem) => {
                // A jump is refused whatever a proxy would say.
                if self.force || flags.stage().may_become(self.wanted(flags)) {
                    complain(format_args!("{}; whether the step is safe was not checked", problem.text));
                }
                None
            }
        }
    }

    /// The stage that the file asks for with this flag set.
    fn wanted(&self, flags: Flags) -> Stage {
        FlagKind::of_name(&self.name).map_or(flags, |(kind, _)| kind.set(flags, self.value)).stage()
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
            EditError::Outrun(_) | EditError::Busy(_) | EditError::Io { .. } => {
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

/// What stands against a change.
struct Against {
    what: String,
    advice: String,
}

/// What stands against it that a file with these flags asks for `wanted`. The proxy has judged the steps from the stage in
/// effect: they are this one only where the file asks for that stage.
fn against(before: &Before, flags: Flags, wanted: Stage) -> Option<Against> {
    let stage = flags.stage();
    if wanted == stage || !stage.may_become(wanted) {
        // Nothing to judge, or refused whatever the proxy says.
        return None;
    }
    if let Some([what, advice]) = before.difference(flags) {
        return Some(Against { what, advice });
    }
    let verdict = &before.instance.verdict;
    let steps = [&verdict.forward, &verdict.back];
    let step = steps.into_iter().flatten().find(|step| step.to == wanted.name() && !step.safe)?;
    let why: Vec<String> = reasons(step).collect();
    Some(Against {
        what: format!("{} is not safe now:\n{}", step.to, why.join("\n")),
        advice: "wait until the reasons are gone (multistore status)".to_owned(),
    })
}
