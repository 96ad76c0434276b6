//! `multistore copy`: from one store to another, without a running proxy.

use clap::Args;
use tokio::time::sleep;

use super::compare::shown;
use super::progress::{Progress, thousands};
use super::{Exit, backfill, complain, offline, say, verify};
use crate::admin::verification::VerifyReport;
use crate::instance::Instance;
use crate::instance::backfill::Action;
use crate::instance::verify::{Mend, Sample};

/// Copy every key of one store to another, without a running proxy
///
/// All databases, every type, functions; expiry times are kept. Keys that are there already are replaced, others there are
/// left alone. Where the other server refuses the payloads of the first (it is older) keys are copied by their type. A
/// URL with a database copies from, or to, that one alone.
///
/// No proxy keeps the two in one order here: what is written to the first store behind the copy of its key is missed. A
/// second pass compares both stores and copies what differs then. For a store in use, put the proxy before it and use
/// `multistore backfill`.
///
/// Exit codes: 0 everything is there, 4 some keys differ in the end, 1 it failed, 2 wrong arguments.
#[derive(Args)]
pub struct Copy {
    /// The store to copy from: redis://[user[:password]@]host[:port][/db]
    #[arg(value_name = "FROM")]
    from: String,
    /// The store to copy to
    #[arg(value_name = "TO")]
    to: String,
}

// === impl Copy ===

impl Copy {
    /// Copies, and looks again.
    pub fn run(self) -> Exit {
        say(format_args!("from {} (secondary) to {} (primary)", shown(&self.from), shown(&self.to)));
        complain(
            "note: what is written to either store meanwhile may be missed; a second pass copies what differs then",
        );
        let copied = offline::with_stores(&self.to, &self.from, async |instance| {
            fill(instance).await?;
            offline::compared(instance, Sample::Everything, Mend::ButSurplus).await
        });
        match copied {
            Ok(report) => tell(&report),
            Err(exit) => exit,
        }
    }
}

async fn fill(instance: &Instance) -> Result<(), Exit> {
    instance.backfill().order(Action::Start);
    let mut progress = Progress::new();
    loop {
        sleep(offline::LOOK).await;
        let status = instance.backfill().status(0);
        match status.state.as_str() {
            "done" => {
                progress.end();
                say(format_args!("copied: {} keys", thousands(status.keys_seen)));
                return Ok(());
            }
            "running" => progress.show("copying", status.progress, &backfill::detail(&status)),
            _ => progress.show("waiting", status.progress, status.reason.as_deref().unwrap_or_default()),
        }
    }
}

/// Keys that only the store has that was copied to are no failure.
fn tell(report: &VerifyReport) -> Exit {
    let surplus = report.only_primary;
    if report.repaired > 0 {
        say(format_args!(
            "second pass: {} keys had changed and were copied again",
            thousands(report.repaired)
        ));
    }
    if report.differing == surplus && report.state == "done" && surplus > 0 {
        say(format_args!(
            "everything is there; {} keys are only in the store that was copied to",
            thousands(surplus)
        ));
        return Exit::Done;
    }
    verify::show(report, false)
}
