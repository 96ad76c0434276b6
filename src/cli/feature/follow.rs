//! What the file asks for and what the running proxy does: before a flag is written, and after it.

use std::time::{Duration, Instant};

use super::super::proxy::{Problem, Proxy};
use super::super::status::refusal;
use super::super::{Exit, complain, say};
use crate::admin::{InstanceStatus, ReloadStatus};
use crate::config::edit::Edited;
use crate::stage::{Flags, Stage, primary_default_flag, use_both_flag};

/// How long the proxy may take to take the file over: it looks every 5 s where the file system tells no events.
const TAKEN_OVER: Duration = Duration::from_secs(10);
/// A change that only waits for what is under way is over sooner; one that is held back longer is told.
const HELD: Duration = Duration::from_secs(1);
/// How often the proxy is asked meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// The proxy before the file is written.
pub struct Before {
    pub proxy: Proxy,
    pub instance: InstanceStatus,
    /// The last time that it looked at the file.
    pub reload: Option<ReloadStatus>,
}

/// What has become of a change.
enum Outcome {
    InEffect,
    Refused(String),
    Held(String),
    Pending(&'static str),
}

// === impl Before ===

impl Before {
    /// Asks the proxy.
    pub fn ask(proxy: Proxy) -> Result<Before, Problem> {
        let status = proxy.status()?;
        let reload = status.config.last_reload.clone();
        let instance = proxy.chosen(status.instances)?;
        Ok(Before { proxy, instance, reload })
    }

    /// The flags in effect. (Where both stores are one server, they ask for more than what is done.)
    fn flags(&self) -> Flags {
        let flags = self.instance.flags;
        Flags {
            use_both: flags.use_primary_and_secondary_stores,
            primary_default: flags.use_primary_store_as_default,
        }
    }

    /// Is `stage` in effect?
    pub fn is_in(&self, stage: Stage) -> bool {
        self.flags().stage() == stage
    }

    /// What is wrong if the file, which asks for `file`, asks for something else than what is in effect, and what to do.
    pub fn difference(&self, file: Flags) -> Option<[String; 2]> {
        if self.is_in(file.stage()) {
            return None;
        }
        let (asked, name) = (file.stage(), &self.instance.name);
        let why = match (&self.instance.held_flip, self.reload.as_ref().and_then(refusal)) {
            (_, Some(error)) => format!("the proxy refuses the file:\n{error}"),
            (Some(held), None) => format!("the change is held back: {held}"),
            (None, None) => "the proxy has not taken the file over yet".to_owned(),
        };
        let effect = self.flags();
        let flags = [
            (use_both_flag(name), file.use_both, effect.use_both),
            (primary_default_flag(name), file.primary_default, effect.primary_default),
        ];
        let back: Vec<_> = flags.into_iter().filter(|(_, asked, effect)| asked != effect).collect();
        let config = self.proxy.config().config.display();
        let back = match back.as_slice() {
            [(flag, _, effect)] => format!("  multistore feature set {flag} {effect} --config {config}"),
            // One alone would ask for a third stage.
            both => both.iter().fold(format!("  in {config}, in one edit:"), |text, (flag, _, effect)| {
                format!("{text}\n    {flag} = {effect}")
            }),
        };
        Some([
            format!("the file asks for {asked}, in effect is {}: {why}", effect.stage()),
            format!(
                "wait until the proxy follows (multistore status), or write back what is in effect:\n{back}"
            ),
        ])
    }

    /// What is lost if this is forced while nobody has said which store is right.
    pub fn lost_by(&self, wanted: Stage) -> Option<String> {
        self.instance.sync.operator_must_name_source.as_ref()?;
        let (next, name) = (wanted.default_store(), &self.instance.name);
        Some(match wanted.is_dual() {
            true => format!(
                "{name}: the proxy holds this back, forced or not, until you say which store is right"
            ),
            false => format!(
                "{name}: what the {next} store may have lost, and only the {} store still has, is not found any more from that \
                 moment on; say first which store is right",
                next.other()
            ),
        })
    }

    /// Waits until the proxy has taken over what was written, and tells what has become of it.
    pub fn follow(&self, edited: &Edited) -> Exit {
        let began = Instant::now();
        loop {
            let outcome = Before::ask(self.proxy.clone()).map(|now| self.outcome(&now, edited));
            match outcome {
                Ok(Outcome::InEffect) => {
                    say(format_args!("{} is in effect", edited.after));
                    return Exit::Done;
                }
                Ok(Outcome::Refused(error)) => {
                    complain(format_args!(
                        "the proxy refuses the file; {} stays in effect:\n{error}",
                        self.flags().stage()
                    ));
                    return Exit::Refused;
                }
                Ok(Outcome::Held(why)) if began.elapsed() > HELD => {
                    say(format_args!("not in effect yet, the change is held back: {why}"));
                    say("the proxy makes it by itself when the reason is gone (multistore status)");
                    return Exit::Done;
                }
                Ok(Outcome::Pending(why)) if began.elapsed() > TAKEN_OVER => {
                    complain(format_args!(
                        "{} is not in effect after {} s: {why}",
                        edited.after,
                        TAKEN_OVER.as_secs()
                    ));
                    return Exit::Failed;
                }
                Err(problem) if began.elapsed() > TAKEN_OVER => return problem.tell(),
                Ok(Outcome::Held(_) | Outcome::Pending(_)) | Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    fn outcome(&self, now: &Before, edited: &Edited) -> Outcome {
        let looked = |before: &Before| before.reload.as_ref().map(|reload| reload.at_unix_ms);
        if edited.written && looked(self) == looked(now) {
            return Outcome::Pending(
                "the proxy has not taken the file over; does it follow this one (multistore status)?",
            );
        }
        let reached = now.is_in(edited.after) && now.instance.held_flip.is_none();
        match (now.reload.as_ref().and_then(refusal), &now.instance.held_flip) {
            (Some(error), _) if edited.written || !reached => Outcome::Refused(error.to_owned()),
            _ if reached => Outcome::InEffect,
            // What is held may still be what was asked for before.
            (_, Some(held)) if held.starts_with(edited.after.name()) => Outcome::Held(held.clone()),
            _ => Outcome::Pending("the proxy is still busy with it"),
        }
    }
}
