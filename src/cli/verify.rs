//! `multistore verify`: do both stores hold the same?

use std::time::Duration;

use clap::Args;

use super::progress::{Progress, thousands};
use super::proxy::{Problem, Proxy, ProxyArg};
use super::{Exit, complain, say};
use crate::admin::orders::VERIFY;
use crate::admin::verification::VerifyReport;
use crate::instance::verify::Sample;

/// How often the proxy is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// Differing keys that are printed for people; --json has more.
const SHOWN: usize = 50;

/// Compare both stores, key by key, while clients go on
///
/// Both stores are asked at the same point of the order of commands, so that what differs, differs, however many clients
/// write meanwhile. Walks both keyspaces: types, values (unordered things as sets), expiry times (within ttl_tolerance),
/// streams with their groups, functions. Large values are compared by pieces. A key that differs is asked again before it
/// counts.
///
/// A complete verification that finds no difference ends the quiet period: the verdict (multistore status) takes it for
/// proof until the stage changes or a store falls behind.
///
/// Exit codes: 0 equal, 4 different, 1 it could not be found out, 2 wrong arguments.
#[derive(Args)]
pub struct Verify {
    /// Compare only so many keys (5000), or this share of them (5%), chosen at random
    #[arg(long, value_name = "N|P%", value_parser = |text: &str| Sample::parse(text).map(|_| text.to_owned()))]
    sample: Option<String>,
    /// Hand the keys that differ to repair, wait for it, and compare them again
    ///
    /// The default store is right: keys that only the other one has are deleted there.
    #[arg(long)]
    repair: bool,
    /// Print the report as JSON: up to 1000 differing keys
    #[arg(long)]
    json: bool,
    /// Do not begin one: print what the last one found, or the one under way has found so far
    #[arg(long, conflicts_with_all = ["sample", "repair"])]
    last: bool,
    #[command(flatten)]
    proxy: ProxyArg,
}

// === impl Verify ===

impl Verify {
    /// Runs one, or shows the last.
    pub fn run(self) -> Exit {
        let proxy = match self.proxy.proxy() {
            Ok(proxy) => proxy,
            Err(exit) => return exit,
        };
        if self.last {
            return show_last(&proxy, self.json);
        }
        match run(&proxy, self.sample.as_deref(), self.repair) {
            Ok(report) => show(&report, self.json),
            Err(problem) => problem.tell(),
        }
    }
}

/// The last report, and whether it still says something: one that is outdated proves nothing.
fn show_last(proxy: &Proxy, json: bool) -> Exit {
    let (report, status) = match proxy.verification().and_then(|report| Ok((report, proxy.instance()?))) {
        Ok(told) => told,
        Err(problem) => return problem.tell(),
    };
    let exit = show(&report, json);
    match status.verification.last_complete.and_then(|last| last.outdated) {
        Some(why) => {
            complain(format_args!("this verification is outdated: {why}"));
            if exit == Exit::Done { Exit::Failed } else { exit }
        }
        None => exit,
    }
}

/// Runs a verification to its end.
pub fn run(proxy: &Proxy, sample: Option<&str>, repair: bool) -> Result<VerifyReport, Problem> {
    let repair = repair.to_string();
    let mut words = vec![("action", "start"), ("repair", repair.as_str())];
    words.extend(sample.map(|sample| ("sample", sample)));
    proxy.order(VERIFY, &words)?;
    let mut progress = Progress::new();
    loop {
        std::thread::sleep(LOOK);
        let report = proxy.verification()?;
        if report.state != "running" {
            return Ok(report);
        }
        let share = report.keys_seen as f64 / report.keys_expected.max(1) as f64;
        let detail = format!(
            "{} keys compared, {} to be asked again",
            thousands(report.keys_compared),
            thousands(report.differing)
        );
        progress.show("verifying", share, &detail);
    }
}

/// Prints a report; how the command ends because of it.
pub fn show(report: &VerifyReport, json: bool) -> Exit {
    if json {
        match serde_json::to_string_pretty(report) {
            Ok(text) => say(text),
            Err(error) => complain(error),
        }
    } else {
        tell(report);
    }
    match (report.state.as_str(), report.equal) {
        ("done", Some(true)) => Exit::Done,
        ("done", _) => Exit::Different,
        _ => Exit::Failed,
    }
}

fn tell(report: &VerifyReport) {
    let name = &report.instance;
    match report.state.as_str() {
        "none" => return say(format_args!("{name}: nothing has been verified since the proxy was started")),
        "failed" => {
            let why = report.error.as_deref().unwrap_or("unknown");
            return say(format_args!("{name}: the verification was not finished: {why}"));
        }
        "running" => say(format_args!("{name}: a verification is under way")),
        _ => {}
    }
    let seconds = report.took_ms as f64 / 1000.0;
    say(format_args!(
        "{name}: {} compared in {seconds:.1} s ({}; {} by type, {} by pieces), databases {:?}",
        thousands(report.keys_compared),
        if report.complete { "every key of both stores" } else { &report.sample },
        thousands(report.compared_by_type),
        thousands(report.compared_by_pieces),
        report.databases,
    ));
    match report.functions_equal {
        Some(true) => say("functions: the same"),
        Some(false) => say("functions: DIFFERENT (multistore repair copies them with everything else)"),
        None => say("functions: not compared, a store does not list them"),
    }
    if report.repaired > 0 {
        say(format_args!("repaired: {} keys", thousands(report.repaired)));
    }
    if report.differing == 0 {
        say("keys: the same in both stores");
        return;
    }
    say(format_args!("keys: {} DIFFER", thousands(report.differing)));
    for one in report.differences.iter().take(SHOWN) {
        say(format_args!("  db {} \"{}\": {}", one.database, one.key, one.text));
    }
    let listed = report.differences.len().min(SHOWN) as u64;
    if report.differing > listed {
        say(format_args!("  … and {} more (--json lists up to 1000)", thousands(report.differing - listed)));
    }
}
