//! What was measured, as a table for people, a file for programs, and pictures.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::measure::{Cell, Measured, Sample};
use super::peers::Peer;
use super::plot;
use super::work::Work;

/// What is written between these lines of a page is made anew each time.
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// Everything that a run of the bench has found.
#[derive(Default)]
pub struct Report {
    pub cells: Vec<Measured>,
    /// Further tables: a heading, then rows, the first of which names the columns.
    pub tables: Vec<(String, Vec<Vec<String>>)>,
}

/// A ratio that is to hold.
struct Target {
    what: &'static str,
    cell: Cell,
    peer: Peer,
    to: Peer,
    of: fn(&Sample) -> f64,
    /// What the ratio must not exceed, or (`more`) must reach.
    limit: f64,
    more: bool,
}

const fn cell(work: Work, clients: usize, pipeline: usize, value: usize) -> Cell {
    Cell { work, clients, pipeline, value }
}

const fn cpu(what: &'static str, cell: Cell, peer: Peer, to: Peer, limit: f64) -> Target {
    Target { what, cell, peer, to, of: |sample| sample.proxy, limit, more: false }
}

const fn rate(what: &'static str, cell: Cell, peer: Peer, to: Peer, limit: f64) -> Target {
    Target { what, cell, peer, to, of: |sample| sample.per_second, limit, more: true }
}

const SET_50: Cell = cell(Work::Set, 50, 1, 16);
const SET_500: Cell = cell(Work::Set, 500, 1, 16);
const SET_16: Cell = cell(Work::Set, 50, 16, 16);
const SET_64: Cell = cell(Work::Set, 50, 64, 16);
const SET_4K: Cell = cell(Work::Set, 50, 1, 4096);
const GET_50: Cell = cell(Work::Get, 50, 1, 16);

const TARGETS: &[Target] = &[
    cpu(
        "CPU, SET, mirrored, against twemproxy not mirroring",
        SET_50,
        Peer::DualSecondary,
        Peer::Nutcracker,
        0.95,
    ),
    cpu("CPU, SET, mirrored, against Envoy mirroring", SET_50, Peer::DualSecondary, Peer::EnvoyMirror, 0.65),
    cpu("CPU, SET, mirrored, against the floor", SET_50, Peer::DualSecondary, Peer::Floor, 1.15),
    cpu(
        "CPU, SET, mirrored, against twemproxy not mirroring",
        SET_500,
        Peer::DualSecondary,
        Peer::Nutcracker,
        1.0,
    ),
    cpu(
        "CPU, SET, mirrored, against twemproxy not mirroring",
        SET_16,
        Peer::DualSecondary,
        Peer::Nutcracker,
        0.6,
    ),
    cpu(
        "CPU, SET, mirrored, against twemproxy not mirroring",
        SET_64,
        Peer::DualSecondary,
        Peer::Nutcracker,
        0.25,
    ),
    rate(
        "requests per second, SET, mirrored, against direct",
        SET_64,
        Peer::DualSecondary,
        Peer::Direct,
        0.6,
    ),
    cpu(
        "CPU, GET, both stores in use, against twemproxy",
        GET_50,
        Peer::DualSecondary,
        Peer::Nutcracker,
        0.9,
    ),
    cpu("CPU, SET, one store in use, against twemproxy", SET_50, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    cpu("CPU, SET, one store in use, against twemproxy", SET_16, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    cpu("CPU, SET, one store in use, against twemproxy", SET_64, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    cpu("CPU, GET, one store in use, against twemproxy", GET_50, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    rate(
        "requests per second, SET, mirrored, against twemproxy",
        SET_50,
        Peer::DualSecondary,
        Peer::Nutcracker,
        0.9,
    ),
    cpu(
        "CPU, SET of 4 KiB, mirrored, against Envoy mirroring",
        SET_4K,
        Peer::DualSecondary,
        Peer::EnvoyMirror,
        0.62,
    ),
];

// === impl Report ===

impl Report {
    /// Writes the page, the numbers and the pictures into `dir`.
    pub fn write(&self, dir: &Path, how: &str) -> io::Result<()> {
        let page = dir.join("README.md");
        let text = fs::read_to_string(&page)?;
        let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
            return Err(io::Error::other("benches/README.md has no place for the numbers"));
        };
        let text = format!("{}{}{}", &text[..begin + BEGIN.len()], self.markdown(how), &text[end..]);
        fs::write(&page, text)?;
        fs::write(dir.join("results.csv"), self.csv())?;
        for cell in [SET_50, SET_16, SET_64, GET_50] {
            if let Some(measured) = self.of(&cell) {
                let name = format!("{:?}-{}-{}.svg", cell.work, cell.clients, cell.pipeline).to_lowercase();
                fs::create_dir_all(dir.join("plots"))?;
                fs::write(dir.join("plots").join(name), plot::bars(measured))?;
            }
        }
        Ok(())
    }

    fn of(&self, cell: &Cell) -> Option<&Measured> {
        self.cells.iter().find(|measured| measured.cell == *cell)
    }

    /// The tables.
    pub fn markdown(&self, how: &str) -> String {
        let mut out = format!("\n{how}\n\n### Targets\n\n");
        out += "| what | load | target | measured | |\n|---|---|---|---|---|\n";
        for target in TARGETS {
            let ratio = self.of(&target.cell).and_then(|cell| cell.ratio(target.peer, target.to, target.of));
            let Some(ratio) = ratio else { continue };
            let holds = if target.more { ratio >= target.limit } else { ratio <= target.limit };
            let sign = if target.more { "≥" } else { "≤" };
            let _ = writeln!(
                out,
                "| {} | {} | {sign} {:.2} | {ratio:.2} | {} |",
                target.what,
                target.cell.name(),
                target.limit,
                if holds { "holds" } else { "**missed**" }
            );
        }
        self.grid(
            &mut out,
            "CPU of the proxy in µs per request (± half the distance of the quartiles)",
            |cell, peer| {
                let (cpu, spread) = (cell.median(peer, |s| s.proxy)?, cell.spread(peer, |s| s.proxy)?);
                (peer != Peer::Direct).then(|| format!("{cpu:.2} ± {spread:.0} %"))
            },
        );
        self.grid(&mut out, "Requests per second, in thousands", |cell, peer| {
            Some(format!("{:.1}", cell.median(peer, |s| s.per_second)? / 1e3))
        });
        self.grid(&mut out, "Latency of a batch in µs: p50 / p99 / p99.9", |cell, peer| {
            let at = |value: fn(&Sample) -> f64| cell.median(peer, value);
            Some(format!("{:.0} / {:.0} / {:.0}", at(|s| s.p50)?, at(|s| s.p99)?, at(|s| s.p999)?))
        });
        self.grid(&mut out, "CPU of the two stores together in µs per request", |cell, peer| {
            Some(format!("{:.2}", cell.median(peer, |s| s.primary + s.secondary)?))
        });
        for (heading, rows) in &self.tables {
            let _ = writeln!(out, "\n### {heading}\n");
            for (at, row) in rows.iter().enumerate() {
                let _ = writeln!(out, "| {} |", row.join(" | "));
                if at == 0 {
                    let _ = writeln!(out, "|{}", "---|".repeat(row.len()));
                }
            }
        }
        out + "\n"
    }

    fn grid(&self, out: &mut String, heading: &str, value: impl Fn(&Measured, Peer) -> Option<String>) {
        let mut peers: Vec<Peer> = Vec::new();
        for (peer, _) in self.cells.iter().flat_map(|cell| &cell.samples) {
            if !peers.contains(peer) {
                peers.push(*peer);
            }
        }
        let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
        let _ = writeln!(
            out,
            "\n### {heading}\n\n| | {} |\n|---|{}",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for cell in &self.cells {
            let values = peers.iter().map(|peer| value(cell, *peer).unwrap_or_else(|| "–".into()));
            let _ = writeln!(out, "| {} | {} |", cell.cell.name(), values.collect::<Vec<_>>().join(" | "));
        }
    }

    fn csv(&self) -> String {
        let mut out =
            "work,clients,pipeline,value,peer,run,per_second,proxy_us,primary_us,secondary_us,p50_us,p99_us,\
                       p999_us,proxy_kib\n"
                .to_owned();
        for measured in &self.cells {
            let Cell { work, clients, pipeline, value } = measured.cell;
            for (peer, samples) in &measured.samples {
                for (run, s) in samples.iter().enumerate() {
                    let _ = writeln!(
                        out,
                        "{work:?},{clients},{pipeline},{value},{peer:?},{run},{:.0},{:.3},{:.3},{:.3},{:.1},{:.1},{:.1},{:.0}",
                        s.per_second, s.proxy, s.primary, s.secondary, s.p50, s.p99, s.p999, s.memory
                    );
                }
            }
        }
        out
    }
}
