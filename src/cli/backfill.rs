//! `multistore backfill`: the whole keyspace of the default store, copied to the other one.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::progress::{Progress, bytes, thousands};
use super::proxy::{Problem, Proxy, ProxyArg};
use super::{Exit, complain, say};
use crate::admin::InstanceStatus;
use crate::admin::backfill::BackfillStatus;
use crate::admin::orders::BACKFILL;
use crate::instance::backfill::Action;
use crate::verdict::span;

/// How often the proxy is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Copy every key of the default store to the other one, while clients go on
///
/// Without it only keys that are touched come over. What clients write meanwhile is never overwritten. It goes on after
/// a store was away, and after the proxy was restarted. background_keys, background_bytes and background_latency in
/// proxy.toml hold it back; `backfill = true` there starts it by itself.
#[derive(Args)]
pub struct Backfill {
    #[command(subcommand)]
    action: What,
}

#[derive(Subcommand)]
enum What {
    /// Begin, or go on
    Start(Waiting),
    /// Rest where it is
    Pause(ProxyArg),
    /// Go on where it rested
    Resume(Waiting),
    /// Show how far it is
    Status(Showing),
}

#[derive(Args)]
struct Waiting {
    /// Stay until it is done, with a progress bar; exit code 3 if an operator must say first which store is right
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    proxy: ProxyArg,
}

#[derive(Args)]
struct Showing {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    proxy: ProxyArg,
}

// === impl Backfill ===

impl Backfill {
    /// Runs the chosen action.
    pub fn run(self) -> Exit {
        match self.action {
            What::Start(Waiting { wait, proxy }) => order(proxy, Action::Start, wait),
            What::Resume(Waiting { wait, proxy }) => order(proxy, Action::Resume, wait),
            What::Pause(proxy) => order(proxy, Action::Pause, false),
            What::Status(Showing { json, proxy }) => status(proxy, json),
        }
    }
}

fn order(proxy: ProxyArg, action: Action, wait: bool) -> Exit {
    let proxy = match proxy.proxy() {
        Ok(proxy) => proxy,
        Err(exit) => return exit,
    };
    match proxy.order(BACKFILL, &[("action", action.name())]) {
        Ok(answer) => say(answer.trim_end()),
        Err(problem) => return problem.tell(),
    }
    let single = matches!(proxy.instance(), Ok(instance) if !instance.is_dual());
    if single && action != Action::Pause {
        complain("it begins when both stores are in use: turn the first flag on");
        return if wait { Exit::Failed } else { Exit::Done };
    }
    if !wait {
        return Exit::Done;
    }
    match wait_for(&proxy) {
        Ok(status) if status.state == "done" => {
            say(format_args!("backfill: done, {} keys", thousands(status.keys_seen)));
            Exit::Done
        }
        Ok(status) => {
            say(line(&status));
            Exit::Failed
        }
        Err(problem) => problem.tell(),
    }
}

/// Waits until it is done, or does not go on by itself.
pub fn wait_for(proxy: &Proxy) -> Result<BackfillStatus, Problem> {
    let mut progress = Progress::new();
    loop {
        let instance = proxy.instance()?;
        match instance.backfill.state.as_str() {
            // An order is taken up within a moment.
            "running" | "waiting" | "off" => proxy.goes_on(&instance)?,
            _ => return Ok(instance.backfill),
        }
        let status = instance.backfill;
        progress.show("backfill", status.progress, &detail(&status));
        std::thread::sleep(LOOK);
    }
}

fn status(proxy: ProxyArg, json: bool) -> Exit {
    let instance = proxy.proxy().map(|proxy| proxy.instance());
    let instance = match instance {
        Ok(Ok(instance)) => instance,
        Ok(Err(problem)) => return problem.tell(),
        Err(exit) => return exit,
    };
    match serde_json::to_string_pretty(&instance.backfill) {
        Ok(text) if json => say(text),
        _ => say(of(&instance)),
    }
    Exit::Done
}

/// The backfill of an instance in a line.
pub fn of(instance: &InstanceStatus) -> String {
    let status = &instance.backfill;
    match (instance.stage.as_str(), status.state.as_str(), instance.down_while_dual()) {
        ("secondary_only", "waiting" | "done", _) => {
            "not begun: it runs once both stores are in use (the first flag)".to_owned()
        }
        ("primary_only", "waiting" | "done", _) => {
            "none: one store is in use, there is nothing to fill".to_owned()
        }
        (_, "done", Some(store)) => format!("done before; the {store} store is down"),
        _ => line(status),
    }
}

/// A backfill in a line.
pub fn line(status: &BackfillStatus) -> String {
    let because = status.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match status.state.as_str() {
        "off" => "off: only keys that are touched come over".to_owned(),
        "done" => "done: everything is in sync but what is listed".to_owned(),
        state if status.reason.is_some() => format!("{state}{because}, {:.0}%", status.progress * 100.0),
        state => format!("{state}, {:.0}%, {}", status.progress * 100.0, detail(status)),
    }
}

/// How far it is, in some words.
pub fn detail(status: &BackfillStatus) -> String {
    if let Some(reason) = &status.reason {
        return reason.clone();
    }
    let mut text = format!("{} of {} keys", thousands(status.keys_seen), thousands(status.keys_expected));
    if status.keys_per_second > 0.0 {
        text += &format!(
            ", {} keys/s, {}/s",
            thousands(status.keys_per_second as u64),
            bytes(status.bytes_per_second)
        );
    }
    if let Some(left) = status.seconds_left {
        text += &format!(", {} left", span(Duration::from_secs(left)));
    }
    text
}
