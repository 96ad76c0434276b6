//! `multistore demo`: the whole rollout on one screen.
//!
//! Two real redis-servers, the old one with data in it, the proxy before them as a process, and
//! workers that behave like Sidekiq with GitLab's duplicate-job locks. The demo edits the flags of
//! a real `proxy.toml` and walks through all four stages and back, shows what an operator would
//! watch, compares both stores at the end, and leaves nothing running.
//!
//! - `world`: servers, file, proxy; gone when dropped;
//! - `workload`: the application; `book`: what it knows and what it was told;
//! - `gauges` and `screen`: the live picture;
//! - `compare` and `report`: the end.

mod book;
mod compare;
pub(crate) mod dice;
mod gauges;
mod http;
mod old_data;
mod process;
mod report;
mod screen;
mod workload;
mod world;

use crate::stage::{Stage, StoreId};
use book::Book;
use compare::Comparison;
use gauges::Gauges;
use report::Report;
use screen::{Place, Screen, say, thousands};
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use workload::Workload;
use world::World;

/// Through all stages, and back.
const WALK: [Stage; 7] = [
    Stage::SecondaryOnly,
    Stage::DualSecondaryDefault,
    Stage::DualPrimaryDefault,
    Stage::PrimaryOnly,
    Stage::DualPrimaryDefault,
    Stage::DualSecondaryDefault,
    Stage::SecondaryOnly,
];

/// Before this step the whole keyspace is copied, and both stores are compared.
const BEFORE_THE_NEW_STORE_ANSWERS: (Stage, Stage) = (Stage::DualSecondaryDefault, Stage::DualPrimaryDefault);

/// Seconds in each stage: for a person, and for a machine.
const DWELL_SECONDS: u64 = 6;
const DWELL_SECONDS_IN_CI: u64 = 3;

/// How often the picture changes on a terminal, and elsewhere.
const REDRAW_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What a shell shows for a process that was interrupted.
const INTERRUPTED: u8 = 130;

/// See the whole rollout on one screen, with two real redis-servers
///
/// Starts the servers, the proxy and a busy application on 127.0.0.1, walks through all stages and back, compares
/// both stores, and leaves nothing running. Exits with 0 if no worker saw an error or a wrong answer.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Seconds in each of the seven stages [default: 6; 3 if CI=true]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub dwell: Option<u64>,

    /// How many workers share the work
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(5..=500))]
    pub workers: u16,

    /// Print a line per second even on a terminal
    #[arg(long)]
    pub plain: bool,
}

// === impl Args ===

impl Args {
    fn dwell(&self) -> Duration {
        let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        let default = if in_ci { DWELL_SECONDS_IN_CI } else { DWELL_SECONDS };
        Duration::from_secs(self.dwell.unwrap_or(default))
    }
}

/// Runs the demo. Success: the walk was completed and no worker saw an error or a wrong answer.
pub fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    match runtime.block_on(unless_interrupted(demo(args))) {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::FAILURE,
        Some(Err(error)) => failed(&error),
        None => {
            eprintln!("interrupted; everything that was started has been ended");
            ExitCode::from(INTERRUPTED)
        }
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("demo: {error}");
    ExitCode::FAILURE
}

/// `None` when a signal came first. What `work` has started ends when it is dropped.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T, String>>) -> Option<Result<T, String>> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else {
        return Some(Err("cannot listen for signals".to_owned()));
    };
    tokio::select! {
        done = work => Some(done),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hangup.recv() => None,
    }
}

async fn demo(args: &Args) -> Result<bool, String> {
    let mut world = World::start().await?;
    let keys = old_data::load(&mut world.direct(StoreId::Secondary).await?).await?;
    let keys = thousands(keys);
    say(&format!("The old store holds {keys} keys; the new one is empty. Nothing leaves 127.0.0.1.\n\n"));

    let book = Arc::new(Book::new(WALK[0]));
    let mut gauges = Gauges::new(&world, &book).await?;
    let workload = Workload::start(usize::from(args.workers), &world.endpoint(), &book);
    let mut walk =
        Walk { world: &mut world, book: &book, gauges: &mut gauges, screen: Screen::new(args.plain) };
    let begun = Instant::now();
    let flips = walk.all(args.dwell()).await?;
    drop(walk);
    let took = begun.elapsed();

    workload.finish().await?;
    let gauges = gauges.picture(&book).await?.now;
    world.end_proxy().await?;
    let mut primary = world.direct(StoreId::Primary).await?;
    let mut secondary = world.direct(StoreId::Secondary).await?;
    let comparison = Comparison::make(&mut primary, &mut secondary).await?;
    let report = Report { book: &book, gauges, comparison, flips, took };
    say(&format!("\n{report}"));
    if !report.is_good() {
        say(&format!("The end of the proxy's log:\n{}\n", world.proxy_log()));
    }
    Ok(report.is_good())
}

/// The operator's part.
struct Walk<'a> {
    world: &'a mut World,
    book: &'a Book,
    gauges: &'a mut Gauges,
    screen: Screen,
}

// === impl Walk ===

impl Walk<'_> {
    /// Walks; returns how long each flip took.
    async fn all(&mut self, dwell: Duration) -> Result<Vec<Duration>, String> {
        let mut flips = Vec::new();
        let mut stage = WALK[0];
        for (at, next) in WALK.into_iter().enumerate() {
            if (stage, next) == BEFORE_THE_NEW_STORE_ANSWERS {
                let line = self.world.prove().await?;
                self.screen.told(&line);
            }
            if next != stage {
                flips.push(self.flip(stage, next).await?);
                stage = next;
            }
            self.watch(stage, at + 1, dwell).await?;
        }
        Ok(flips)
    }

    async fn flip(&mut self, from: Stage, to: Stage) -> Result<Duration, String> {
        self.book.flip_begins(to);
        let (line, took) = self.world.flip(from, to).await?;
        self.book.flip_ended(to);
        self.screen.flipped(&line, to, took);
        Ok(took)
    }

    /// Shows the picture until the time in this stage is over.
    async fn watch(&mut self, stage: Stage, step: usize, dwell: Duration) -> Result<(), String> {
        let end = Instant::now() + dwell;
        let every = if self.screen.redraws() { REDRAW_EVERY } else { LINE_EVERY };
        loop {
            sleep_until((Instant::now() + every).min(end)).await;
            let picture = self.gauges.picture(self.book).await;
            // A process that has ended explains a reading that failed.
            self.world.check()?;
            let picture = picture?;
            let left = end.saturating_duration_since(Instant::now());
            self.screen.show(Place { stage, step, steps: WALK.len(), left }, &picture);
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}
