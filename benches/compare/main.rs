//! `make bench`: the proxy beside its peers, before the same two stores, in turns.
//!
//! Absolute numbers of a shared machine mean little; ratios of runs that follow each other do. So every
//! round runs each target once, and what is compared is the median of the rounds' ratios.

mod calls;
mod floor;
mod instructions;
mod load;
mod measure;
mod neighbours;
mod order;
mod peers;
mod plot;
#[path = "../../tests/support/ports.rs"]
mod ports;
mod process;
mod relay;
mod report;
mod scale;
mod targets;
mod traps;
mod work;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};

use measure::{Cell, Loaded, Measured, Rounds, Sample, measure};
use peers::{Peer, Stores, Target};
use report::{Report, Table};
use work::Work;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    /// Given by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// The usual loads, the traps and how cost grows; the page is written.
    Quick,
    /// All loads: clients {1, 50, 500} × pipeline {1, 16, 64} × value {16 B, 4 KiB} × work.
    Full,
    /// One load and every table, each measured once: does all of it work here? The page on record stays as it is.
    Smoke,
    /// One of the tables alone: order, calls, trouble, neighbours, clients, connections, instances.
    Table { name: String },
    /// A few cells, ratios on the screen.
    Cells(Cells),
    /// User instructions per request, held against the record.
    Instructions {
        /// Replaces the record.
        #[arg(long)]
        record: bool,
    },
    /// Where the instructions of one of these cases go, by function.
    Profile {
        case: String,
        /// With what the functions call.
        #[arg(long)]
        inclusive: bool,
    },
    /// A relay that takes its time.
    #[command(hide = true)]
    Relay { listen: SocketAddr, to: SocketAddr, millis: u64 },
    /// The bare mirror, in a process of its own.
    #[command(hide = true)]
    Floor { listen: SocketAddr, store: SocketAddr, mirror: SocketAddr },
}

#[derive(clap::Args)]
struct Cells {
    /// Cells: work:clients:pipeline:bytes.
    #[arg(long, value_delimiter = ',', value_parser = cell, default_value = "set:50:1:16")]
    cells: Vec<Cell>,
    /// Who is compared. The first is what the others are divided by.
    #[arg(long, value_delimiter = ',', default_value = "nutcracker,dual-secondary")]
    targets: Vec<Peer>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of a run.
    #[arg(long, default_value_t = 1000)]
    millis: u64,
}

fn cell(text: &str) -> Result<Cell, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [work, clients, pipeline, value] = parts[..] else {
        return Err("work:clients:pipeline:bytes".into());
    };
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
    Ok(Cell {
        work: Work::from_str(work, true)?,
        clients: number(clients)?,
        pipeline: number(pipeline)?,
        value: number(value)?,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    process::allow_files();
    match Cli::parse().what {
        Some(What::Floor { listen, store, mirror }) => Ok(floor::run(listen, [store, mirror])?),
        Some(What::Relay { listen, to, millis }) => {
            Ok(relay::run(listen, to, Duration::from_millis(millis))?)
        }
        Some(What::Cells(cells)) => cells.run(),
        Some(What::Instructions { record }) => instructions::run(&benches().join("instructions.txt"), record),
        Some(What::Profile { case, inclusive }) => instructions::profile(&case, inclusive),
        Some(What::Quick) => Bench { cells: usual(), ..Bench::of_record(3) }.run(),
        Some(What::Full) => Bench { cells: all(), ..Bench::of_record(5) }.run(),
        Some(What::Smoke) => smoke(),
        Some(What::Table { name }) => Bench { only: Some(&name), into: None, ..Bench::of_record(3) }.run(),
        // What `cargo test --benches` runs.
        None => Ok(()),
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn benches() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches")
}

/// The loads that the targets are about, and one of each work.
fn usual() -> Vec<Cell> {
    let cell = |work, clients, pipeline, value| Cell { work, clients, pipeline, value };
    vec![
        cell(Work::Set, 1, 1, 16),
        cell(Work::Set, 50, 1, 16),
        cell(Work::Set, 500, 1, 16),
        cell(Work::Set, 50, 16, 16),
        cell(Work::Set, 50, 64, 16),
        cell(Work::Set, 50, 1, 4096),
        cell(Work::Get, 1, 1, 16),
        cell(Work::Get, 50, 1, 16),
        cell(Work::Get, 50, 16, 16),
        cell(Work::Incr, 50, 1, 16),
        cell(Work::Sidekiq, 50, 1, 16),
        cell(Work::Multi, 50, 1, 16),
    ]
}

fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for work in Work::ALL {
        let values: &[usize] = if work.has_value() { &[16, 4096] } else { &[16] };
        for value in values.iter().copied() {
            for clients in [1, 50, 500] {
                cells.extend([1, 16, 64].map(|pipeline| Cell { work, clients, pipeline, value }));
            }
        }
    }
    cells
}

/// Does everything work that the bench is made of? Fails if anything would be left out.
fn smoke() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-smoke");
    fs::create_dir_all(&dir)?;
    fs::copy(benches().join("README.md"), dir.join("README.md"))?;
    println!("written to {}", dir.display());
    let once = Rounds { least: 1, most: 1 };
    let cells = vec![targets::SET_50];
    Bench { only: None, cells, rounds: once, time: millis(200), into: Some(dir), whole: true }.run()
}

/// Everything that lands on the page.
struct Bench<'a> {
    /// Only this table, and on the screen.
    only: Option<&'a str>,
    cells: Vec<Cell>,
    rounds: Rounds,
    time: Duration,
    /// Where the page is.
    into: Option<PathBuf>,
    /// Is it an error if something is left out?
    whole: bool,
}

// === impl Bench ===

impl<'a> Bench<'a> {
    /// One whose numbers are kept: every load in up to `most` rounds.
    fn of_record(most: usize) -> Bench<'a> {
        let rounds = Rounds { least: 3, most };
        let (time, into) = (millis(400), Some(benches()));
        Bench { only: None, cells: Vec::new(), rounds, time, into, whole: false }
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        let stores = Stores::start()?;
        let mut report = Report::default();
        if !self.cells.is_empty() {
            self.measure_cells(&stores, &mut report)?;
        }
        self.make_tables(&stores, &mut report);
        if self.only.is_none() {
            report.recorded = instructions::judged(&benches().join("instructions.txt"));
        }
        let (Rounds { least, most }, millis) = (self.rounds, self.time.as_millis());
        let minutes = begin.elapsed().as_secs_f64() / 60.0;
        let how =
            format!("{}; {least} to {most} rounds of {millis} ms each, {minutes:.0} minutes.", machine());
        if let Some(dir) = &self.into {
            report.write(dir, &how)?;
        }
        println!("{}", report.markdown(&how));
        match self.whole && !report.left_out.is_empty() {
            true => Err(format!("left out: {}", report.left_out.join("; ")).into()),
            false => Ok(()),
        }
    }

    fn measure_cells(&self, stores: &Stores, report: &mut Report) -> Result<(), Box<dyn Error>> {
        let targets = start(stores, &Peer::ALL, &mut report.left_out)?;
        let mut loaded = Loaded::default();
        for cell in &self.cells {
            match measure(stores, &targets, *cell, self.rounds, self.time, &mut loaded) {
                Ok(measured) => {
                    show(&measured, Peer::Nutcracker);
                    report.cells.push(measured);
                }
                Err(error) => report.leave_out(format!("{}: {error}", cell.name())),
            }
        }
        Ok(())
    }

    fn make_tables(&self, stores: &Stores, report: &mut Report) {
        let (rounds, long) = (self.rounds.least, self.time * 3);
        type Make<'a> = (&'a str, &'a dyn Fn() -> std::io::Result<Table>);
        let tables: [Make<'_>; 7] = [
            ("order", &|| order::race(stores)),
            ("calls", &|| calls::calls(stores)),
            ("trouble", &|| traps::trouble(2 * rounds + 1, self.time)),
            ("neighbours", &|| neighbours::neighbours(stores, rounds, long)),
            ("clients", &|| scale::clients(stores, rounds, self.time)),
            ("connections", &|| scale::connections(stores, rounds)),
            ("instances", &|| scale::instances(stores, long)),
        ];
        for (name, table) in tables.into_iter().filter(|(name, _)| self.only.is_none_or(|only| only == *name))
        {
            let begin = Instant::now();
            match table() {
                Ok(table) => report.tables.push(table),
                Err(error) => report.leave_out(format!("table {name}: {error}")),
            }
            println!("{name}: {:.0} s", begin.elapsed().as_secs_f64());
        }
    }
}

fn start(stores: &Stores, peers: &[Peer], left_out: &mut Vec<String>) -> Result<Vec<Target>, Box<dyn Error>> {
    let mut targets = Vec::new();
    for peer in peers {
        match stores.target(*peer) {
            Ok(Some(target)) => targets.push(target),
            Ok(None) => left_out.push(format!("{} is not installed", peer.name())),
            Err(error) => left_out.push(error.to_string()),
        }
    }
    left_out.iter().for_each(|why| println!("left out: {why}"));
    Ok(targets)
}

/// What it was measured on.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores ({}), Linux {}, load of the machine at the end {}",
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default()
    )
}

// === impl Cells ===

impl Cells {
    fn run(&self) -> Result<(), Box<dyn Error>> {
        let stores = Stores::start()?;
        let targets = start(&stores, &self.targets, &mut Vec::new())?;
        let mut loaded = Loaded::default();
        let rounds = Rounds { least: self.rounds, most: self.rounds };
        for cell in &self.cells {
            let time = Duration::from_millis(self.millis);
            let measured = measure(&stores, &targets, *cell, rounds, time, &mut loaded)?;
            show(&measured, self.targets[0]);
        }
        Ok(())
    }
}

/// One line for each peer; `to` is what their CPU is divided by.
fn show(measured: &Measured, to: Peer) {
    println!("{}", measured.cell.name());
    for (peer, _) in &measured.samples {
        let median = |value: fn(&Sample) -> f64| measured.median(*peer, value).unwrap_or(f64::NAN);
        let ratio = measured.ratio(*peer, to, |s| s.proxy).unwrap_or(f64::NAN);
        let spread = measured.spread(*peer, |s| s.proxy).unwrap_or(f64::NAN);
        println!(
            "  {:34} {:9.0}/s  cpu {:6.2} us (±{spread:2.0} %) x{ratio:.2}  stores {:5.2} {:5.2}  p50 {:6.0} p99 {:6.0} us  {:6.0} KiB",
            peer.name(),
            median(|s| s.per_second),
            median(|s| s.proxy),
            median(|s| s.primary),
            median(|s| s.secondary),
            median(|s| s.p50),
            median(|s| s.p99),
            median(|s| s.memory),
        );
    }
}
