//! `multistore status`: one screen about the rollout.

use std::time::Duration;

use clap::Args;

use super::backfill;
use super::progress::{bytes, thousands};
use super::proxy::{Proxy, ProxyArg};
use super::{Exit, complain, say};
use crate::admin::verification::VerificationStatus;
use crate::admin::{ConfigStatus, InstanceStatus, ReloadStatus, Status as Reported, StoreStatus};
use crate::config::{self, Config};
use crate::verdict::{Step, span};

/// How often --watch looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Show where the rollout is, and whether the next step is safe
///
/// Stage, stores, counters, what is in sync, how far backfill and verification are, and the verdict: every reason that
/// stands in the way of the next stage, and of going back.
///
/// Exit codes, for scripts: 0 the next stage is safe, or there is none; 3 it is not safe; 1 the proxy did not answer.
#[derive(Args)]
pub struct Status {
    /// Look again every second, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print what /status says, as JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    #[command(flatten)]
    proxy: ProxyArg,
}

// === impl Status ===

impl Status {
    /// Shows it once, or until interrupted.
    pub fn run(self) -> Exit {
        let proxy = match self.proxy.proxy() {
            Ok(proxy) => proxy,
            Err(exit) => return exit,
        };
        loop {
            let shown = show(&proxy, self.json, self.watch);
            if !self.watch {
                return shown;
            }
            std::thread::sleep(WATCH_EVERY);
        }
    }
}

fn show(proxy: &Proxy, json: bool, clear: bool) -> Exit {
    let status = match proxy.status() {
        Ok(status) => status,
        Err(problem) => return problem.tell(),
    };
    let wanted = match proxy.names_instance() {
        true => match proxy.instance() {
            Ok(instance) => vec![instance],
            Err(problem) => return problem.tell(),
        },
        false => status.instances.clone(),
    };
    let safe = wanted.iter().all(|instance| instance.verdict.forward.as_ref().is_none_or(|step| step.safe));
    if json {
        match serde_json::to_string_pretty(&Reported { instances: wanted, ..status }) {
            Ok(text) => say(text),
            Err(error) => complain(error),
        }
    } else {
        // The file may belong to another machine: then it is not compared.
        let file = config::load(&proxy.config().config).ok().map(|loaded| loaded.config);
        let screens: Vec<String> = wanted.iter().map(|instance| screen(instance, file.as_ref())).collect();
        let clear = if clear { "\x1b[2J\x1b[H" } else { "" };
        let pending = not_in_effect(&status.config).unwrap_or_default();
        say(format_args!("{clear}{pending}{}", screens.join("\n")));
    }
    if safe { Exit::Done } else { Exit::Refused }
}

/// The file was changed, and the change, or a part of it, is not in effect.
fn not_in_effect(config: &ConfigStatus) -> Option<String> {
    let reload = config.last_reload.as_ref()?;
    let Some(error) = refusal(reload) else {
        let waiting = &reload.restart_needed_for;
        return (!waiting.is_empty()).then(|| {
            format!("{}: changed, and waits for a restart: {}\n\n", config.path, waiting.join(", "))
        });
    };
    Some(format!("{} was changed and refused; what was in effect stays so:\n{error}\n\n", config.path))
}

/// Why the file was refused at this look, if it was.
pub fn refusal(reload: &ReloadStatus) -> Option<&str> {
    (reload.outcome == "invalid").then(|| reload.error.as_deref().unwrap_or_default().trim_end())
}

/// One instance on one screen.
fn screen(instance: &InstanceStatus, file: Option<&Config>) -> String {
    let mut lines = vec![format!(
        "{}: {}; clients get the {} store's replies; {} clients on {}",
        instance.name, instance.stage, instance.default_store, instance.clients, instance.listen
    )];
    let mut add = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
    if let Some(text) = file.and_then(|file| file_differs(instance, file)) {
        add("flags", text);
    }
    if let Some(held) = &instance.held_flip {
        add("held", held.clone());
    }
    add("primary", store(&instance.stores.primary));
    add("secondary", store(&instance.stores.secondary));
    let counters = &instance.counters;
    add(
        "counters",
        format!(
            "read_fallback {}, pipelined_diff_error {}, command_diff {}, method_missing {}, lost writes {}",
            counters.read_fallback,
            counters.pipelined_diff_error,
            counters.command_diff,
            counters.method_missing,
            counters.mirror_write_failures
        ),
    );
    if !instance.missing_commands.is_empty() {
        add("missing", instance.missing_commands.join(", "));
    }
    add("in sync", in_sync(instance));
    add("backfill", backfill::of(instance));
    add("verified", verified(&instance.verification));
    let verdict = &instance.verdict;
    for (name, step) in [("next", &verdict.forward), ("back", &verdict.back)] {
        match step {
            Some(step) => lines.extend(verdict_lines(name, step)),
            None => lines.push(format!("  {name:<10} none")),
        }
    }
    lines.join("\n") + "\n"
}

fn file_differs(instance: &InstanceStatus, file: &Config) -> Option<String> {
    if !file.instances.contains_key(&instance.name) {
        return None;
    }
    let asked = file.flags(&instance.name).stage();
    (asked.name() != instance.stage)
        .then(|| format!("the file asks for {asked}; in effect is {}", instance.stage))
}

fn store(store: &StoreStatus) -> String {
    let state = match (&store.last_error, store.up) {
        (_, true) => "up".to_owned(),
        (Some(error), false) => format!("DOWN: {error}"),
        (None, false) => "DOWN".to_owned(),
    };
    let version = store.version.as_deref().unwrap_or("?");
    let latency =
        store.latency_us.map(|micros| format!(", {:.1} ms", micros as f64 / 1000.0)).unwrap_or_default();
    format!(
        "{} {state}, version {version}{latency}, {} queued",
        store.address,
        bytes(store.queue_bytes as f64)
    )
}

fn in_sync(instance: &InstanceStatus) -> String {
    let sync = &instance.sync;
    if let Some(why) = &sync.operator_must_name_source {
        return why.clone();
    }
    let down =
        instance.down_while_dual().map(|store| format!("unknown: the {store} store is down; last known: "));
    let untouched = match sync.untouched_keys.as_str() {
        "in_sync" => "everything but what is listed".to_owned(),
        "unknown" => "what was touched; of the rest nothing is known".to_owned(),
        other => format!("the {} store is behind as a whole", other.trim_start_matches("suspect_on_")),
    };
    let walk = sync.repair.map(|walk| {
        let percent = walk.keys_passed.min(walk.keys_expected) * 100 / walk.keys_expected.max(1);
        format!(" (repair under way, {percent}%: {} keys passed)", thousands(walk.keys_passed))
    });
    let untouched = down.unwrap_or_default() + &untouched + &walk.unwrap_or_default();
    let mut text = format!("{untouched}; {} keys listed as out of sync", thousands(sync.suspects));
    if sync.suspects > 0 {
        text += &format!(", the oldest for {}", span(Duration::from_secs(sync.oldest_suspect_seconds)));
    }
    if sync.copies_too_large > 0 {
        text += &format!(", {} above copy_max_bytes", thousands(sync.copies_too_large));
    }
    text
}

fn verified(status: &VerificationStatus) -> String {
    let now = match status.state.as_str() {
        "running" => format!("under way, {:.0}%; ", status.progress * 100.0),
        "failed" => format!("the last one was not finished ({}); ", status.error.as_deref().unwrap_or("?")),
        _ => String::new(),
    };
    match &status.last_complete {
        None => now + "never completely since the start",
        Some(last) => {
            // What the last complete one found: the one under way, or one that failed, has counts of its own.
            let found = match (last.equal, last.differing) {
                (true, _) => "equal".to_owned(),
                (false, 0) => "the functions DIFFER".to_owned(),
                (false, keys) => format!("{} keys DIFFER", thousands(keys)),
            };
            let outdated =
                last.outdated.as_deref().map(|why| format!(" (outdated: {why})")).unwrap_or_default();
            format!("{now}{} ago: {found}{outdated}", span(Duration::from_secs(last.age_seconds)))
        }
    }
}

fn verdict_lines(name: &str, step: &Step) -> Vec<String> {
    let judgement = if step.safe { "safe" } else { "NOT SAFE" };
    let mut lines = vec![format!("  {name:<10} {}: {judgement}", step.to)];
    lines.extend(reasons(step).chain(notes(step)).map(|line| format!("             {line}")));
    lines
}

/// What should be known before a step that nothing else stands against, one line each.
pub fn notes(step: &Step) -> impl Iterator<Item = String> {
    step.notes.iter().map(|note| format!("note: {note}"))
}

/// What stands in the way of a step, one line each.
pub fn reasons(step: &Step) -> impl Iterator<Item = String> {
    step.reasons.iter().map(|reason| format!("- {}", reason.text))
}

#[cfg(test)]
mod tests {
    use super::verified;
    use crate::admin::verification::{LastVerification, VerificationStatus};

    #[test]
    fn a_new_verification_does_not_change_what_the_last_one_found() {
        let last = LastVerification { age_seconds: 9, differing: 3, ..LastVerification::default() };
        let mut status = VerificationStatus {
            state: "running".to_owned(),
            progress: 0.02,
            last_complete: Some(last),
            ..VerificationStatus::default()
        };
        let running = verified(&status);
        assert!(
            running.starts_with("under way, 2%; ") && running.ends_with(" ago: 3 keys DIFFER"),
            "{running}"
        );
        status.last_complete = Some(LastVerification::default());
        assert!(verified(&status).ends_with(" ago: the functions DIFFER"));
    }
}
