//! User instructions of the whole proxy per request, counted by valgrind: they don't depend on the
//! machine's mood, so CI can hold a change against what is on record.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::load::{self, Plan};
use super::peers::{self, Peer, Stores};
use super::process::{Process, free_port};
use super::targets::Judged;
use super::work::{KEYS, Maker, Work};

/// How much more than on record is still the same.
const TOLERANCE: f64 = 1.05;
/// Requests of the shorter and the longer run: what the start costs is in both.
const RUNS: [u64; 2] = [8_000, 24_000];
const CLIENTS: usize = 50;

const CASES: [(&str, Peer, Work, usize); 7] = [
    ("set_mirrored", Peer::DualSecondary, Work::Set, 1),
    ("set_mirrored_pipelined", Peer::DualSecondary, Work::Set, 16),
    ("get_looked_up", Peer::DualSecondary, Work::Get, 1),
    ("set_single", Peer::SecondaryOnly, Work::Set, 1),
    ("set_single_pipelined", Peer::SecondaryOnly, Work::Set, 16),
    ("set_primary_only", Peer::PrimaryOnly, Work::Set, 1),
    ("set_primary_only_pipelined", Peer::PrimaryOnly, Work::Set, 16),
];

/// Counts, and holds against the record, or replaces it.
pub fn run(record: &Path, replace: bool) -> Result<(), Box<dyn Error>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: instructions are not counted");
        return Ok(());
    }
    let known = recorded(record);
    let mut counted = BTreeMap::new();
    let mut risen = Vec::new();
    for (name, peer, work, pipeline) in CASES {
        let [short, long] = RUNS.map(|requests| count(peer, work, pipeline, requests));
        let each = (long? - short?) / (RUNS[1] - RUNS[0]);
        let before = known.get(name).copied();
        println!("{name:30} {each:6} instructions per request, on record: {}", before.unwrap_or(0));
        if before.is_some_and(|before| each as f64 > before as f64 * TOLERANCE) {
            risen.push(name);
        }
        counted.insert(name, each);
    }
    if replace {
        let lines = counted.iter().map(|(name, count)| format!("{name} = {count}\n"));
        fs::write(record, lines.collect::<String>())?;
    } else if !risen.is_empty() {
        return Err(format!(
            "more instructions per request than on record: {}; if they are worth it, record them (make instructions-record)",
            risen.join(", ")
        )
        .into());
    }
    Ok(())
}

/// What is on record, against its targets.
pub fn judged(record: &Path) -> Vec<Judged> {
    let known = recorded(record);
    let judge = |(case, load, limit): (&str, &str, f64)| {
        let what = "user instructions per request, mirrored, on record";
        Some(Judged::at_most(what, load, limit, *known.get(case)? as f64))
    };
    let targets = [
        ("set_mirrored", "SET, 50 clients, P=1, 16 B", 4000.0),
        ("set_mirrored_pipelined", "SET, 50 clients, P=16, 16 B", 1500.0),
    ];
    targets.into_iter().filter_map(judge).collect()
}

fn recorded(record: &Path) -> BTreeMap<String, u64> {
    fs::read_to_string(record).unwrap_or_default().lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<(String, u64)> {
    let (name, count) = line.split_once(" = ")?;
    Some((name.to_owned(), count.parse().ok()?))
}

/// Where the instructions of one case go: callgrind's own list of functions, what they call included or not.
pub fn profile(case: &str, inclusive: bool) -> Result<(), Box<dyn Error>> {
    let known = CASES.iter().find(|(name, ..)| *name == case);
    let (_, peer, work, pipeline) = known.ok_or_else(|| format!("{case} is none of the recorded cases"))?;
    let stores = Stores::start()?;
    let out = stores.dir().join("callgrind.out");
    let total = serve(&stores, &out, *peer, *work, *pipeline, RUNS[1])?;
    println!("{total} instructions, of which {} requests had their share", RUNS[1]);
    let mut annotate = Command::new("callgrind_annotate");
    annotate.arg(if inclusive { "--inclusive=yes" } else { "--inclusive=no" }).args(["--auto=no"]).arg(&out);
    annotate.status()?;
    Ok(())
}

/// All instructions of a proxy that serves so many requests.
fn count(peer: Peer, work: Work, pipeline: usize, requests: u64) -> Result<u64, Box<dyn Error>> {
    let stores = Stores::start()?;
    let out = stores.dir().join("callgrind.out");
    serve(&stores, &out, peer, work, pipeline, requests)
}

fn serve(
    stores: &Stores,
    out: &Path,
    peer: Peer,
    work: Work,
    pipeline: usize,
    requests: u64,
) -> Result<u64, Box<dyn Error>> {
    let addr = free_port();
    let proxy = peers::multistore(stores.dir(), &[addr], peer, stores.addresses())?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())]);
    command.arg(proxy.get_program()).args(proxy.get_args());
    let mut process = Process::start("valgrind", &mut command, stores.dir())?;
    process.answers(addr)?;
    load::send_all(addr, &Maker::new(Work::Set, "i", 16, 1).preload(), 2 * KEYS)?;
    let plan = Plan {
        clients: CLIENTS,
        pipeline,
        work,
        value: 16,
        time: Duration::from_secs(600),
        requests: Some(requests),
        prefix: "i".into(),
    };
    load::run(addr, &plan)?;
    process.end()?;
    let text = fs::read_to_string(out)?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    Ok(total.and_then(|total| total.trim().parse().ok()).ok_or_else(|| io::Error::other("no totals"))?)
}
