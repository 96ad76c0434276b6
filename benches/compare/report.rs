//! What was measured, as a table for people, a file for programs, and pictures.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::measure::{Cell, Measured, Sample};
use super::peers::Peer;
use super::plot;
use super::targets::{self, GET_50, Judged, SET_16, SET_50, SET_64};

/// What is written between these lines of a page is made anew each time.
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// Everything that a run of the bench has found.
#[derive(Default)]
pub struct Report {
    pub cells: Vec<Measured>,
    pub tables: Vec<Table>,
    /// What is on record of instructions per request.
    pub recorded: Vec<Judged>,
    /// What could not be measured, and why.
    pub left_out: Vec<String>,
}

/// A further table.
pub struct Table {
    pub heading: String,
    /// The first of them names the columns.
    pub rows: Vec<Vec<String>>,
    /// The targets that it tells about.
    pub judged: Vec<Judged>,
}

// === impl Report ===

impl Report {
    /// Notes, and says at once, what cannot be measured.
    pub fn leave_out(&mut self, why: String) {
        println!("left out: {why}");
        self.left_out.push(why);
    }

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
        let mut out = format!("\n{how}\n");
        if !self.left_out.is_empty() {
            let _ = writeln!(out, "\nLeft out: {}.", self.left_out.join("; "));
        }
        out += "\n### Targets\n\n";
        out += "| what | load | target | measured | |\n|---|---|---|---|---|\n";
        for judged in self.judged() {
            let _ = writeln!(out, "{judged}");
        }
        if !self.cells.is_empty() {
            self.grids(&mut out);
        }
        for table in &self.tables {
            let _ = writeln!(out, "\n### {}\n", table.heading);
            for (at, row) in table.rows.iter().enumerate() {
                let _ = writeln!(out, "| {} |", row.join(" | "));
                if at == 0 {
                    let _ = writeln!(out, "|{}", "---|".repeat(row.len()));
                }
            }
        }
        out + "\n"
    }

    /// What the cells tell, one table for each quantity.
    fn grids(&self, out: &mut String) {
        self.grid(
            out,
            "CPU of the proxy in µs per request (± half the distance of the quartiles)",
            |cell, peer| {
                let (cpu, spread) = (cell.median(peer, |s| s.proxy)?, cell.spread(peer, |s| s.proxy)?);
                (peer != Peer::Direct).then(|| format!("{cpu:.2} ± {spread:.0} %"))
            },
        );
        self.grid(out, "Requests per second, in thousands", |cell, peer| {
            Some(format!("{:.1}", cell.median(peer, |s| s.per_second)? / 1e3))
        });
        self.grid(out, "Latency of a batch in µs: p50 / p99 / p99.9", |cell, peer| {
            let at = |value: fn(&Sample) -> f64| cell.median(peer, value);
            Some(format!("{:.0} / {:.0} / {:.0}", at(|s| s.p50)?, at(|s| s.p99)?, at(|s| s.p999)?))
        });
        self.grid(out, "CPU of the two stores together in µs per request", |cell, peer| {
            Some(format!("{:.2}", cell.median(peer, |s| s.primary + s.secondary)?))
        });
        self.grid(out, "Memory of the proxy in MiB, behind the run", |cell, peer| {
            let memory = cell.median(peer, |s| s.memory)?;
            (peer != Peer::Direct).then(|| format!("{:.0}", memory / 1024.0))
        });
    }

    /// Every target that this run can tell about.
    fn judged(&self) -> Vec<Judged> {
        let of_cells = targets::OF_CELLS.iter().filter_map(|target| target.judge(self.of(&target.cell)?));
        let of_tables = self.tables.iter().flat_map(|table| table.judged.iter().cloned());
        of_cells.chain(self.recorded.iter().cloned()).chain(of_tables).collect()
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
