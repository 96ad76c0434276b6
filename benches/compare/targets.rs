//! What is to hold, and whether it does.

use std::fmt;

use super::measure::{Cell, Measured, Sample};
use super::peers::Peer;
use super::work::Work;

/// A target, and what was measured.
#[derive(Clone, Debug)]
pub struct Judged {
    pub what: String,
    pub load: String,
    pub limit: Limit,
    pub measured: f64,
}

/// What a measured value is held against.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A target that a cell tells about: `of` compares the first peer with the second.
pub struct Target {
    what: &'static str,
    pub cell: Cell,
    peer: Peer,
    to: Peer,
    of: fn(&Measured, Peer, Peer) -> Option<f64>,
    limit: Limit,
}

const fn cell(work: Work, clients: usize, pipeline: usize, value: usize) -> Cell {
    Cell { work, clients, pipeline, value }
}

pub const SET_1: Cell = cell(Work::Set, 1, 1, 16);
pub const SET_50: Cell = cell(Work::Set, 50, 1, 16);
pub const SET_500: Cell = cell(Work::Set, 500, 1, 16);
pub const SET_16: Cell = cell(Work::Set, 50, 16, 16);
pub const SET_64: Cell = cell(Work::Set, 50, 64, 16);
pub const SET_4K: Cell = cell(Work::Set, 50, 1, 4096);
pub const GET_50: Cell = cell(Work::Get, 50, 1, 16);

const MIRRORED: &str = "CPU, SET, mirrored, against twemproxy not mirroring";
const SINGLE: &str = "CPU, SET, one store in use, against twemproxy";
const WHOLE: &str = "CPU of the proxy and both stores, SET, mirrored, against direct";

pub const OF_CELLS: &[Target] = &[
    cpu(MIRRORED, SET_50, Peer::DualSecondary, Peer::Nutcracker, 0.95),
    cpu("CPU, SET, mirrored, against Envoy mirroring", SET_50, Peer::DualSecondary, Peer::EnvoyMirror, 0.65),
    cpu("CPU, SET, mirrored, against the floor", SET_50, Peer::DualSecondary, Peer::Floor, 1.15),
    cpu(MIRRORED, SET_500, Peer::DualSecondary, Peer::Nutcracker, 1.0),
    cpu(MIRRORED, SET_16, Peer::DualSecondary, Peer::Nutcracker, 0.6),
    cpu(MIRRORED, SET_64, Peer::DualSecondary, Peer::Nutcracker, 0.25),
    rate("requests per second, SET, mirrored, against direct", SET_64, Peer::Direct, 0.6),
    cpu("CPU, GET, looked up, against twemproxy", GET_50, Peer::DualSecondary, Peer::Nutcracker, 0.9),
    cpu(SINGLE, SET_50, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    cpu(SINGLE, SET_500, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    cpu(SINGLE, SET_16, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    cpu(SINGLE, SET_64, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    cpu("CPU, GET, one store in use, against twemproxy", GET_50, Peer::SecondaryOnly, Peer::Nutcracker, 0.85),
    rate("requests per second, SET, mirrored, against twemproxy", SET_50, Peer::Nutcracker, 0.9),
    Target {
        what: "median latency added to direct, SET, mirrored, against what Envoy mirroring adds",
        cell: SET_1,
        peer: Peer::DualSecondary,
        to: Peer::EnvoyMirror,
        of: |measured, peer, to| measured.added(peer, to, Peer::Direct, |sample| sample.p50),
        limit: Limit::AtMost(0.75),
    },
    whole(SET_50, 2.1),
    whole(SET_500, 1.6),
    cpu(
        "CPU, SET of 4 KiB, mirrored, against Envoy mirroring",
        SET_4K,
        Peer::DualSecondary,
        Peer::EnvoyMirror,
        0.62,
    ),
];

const fn cpu(what: &'static str, cell: Cell, peer: Peer, to: Peer, limit: f64) -> Target {
    let of = |measured: &Measured, peer, to| measured.ratio(peer, to, |sample| sample.proxy);
    Target { what, cell, peer, to, of, limit: Limit::AtMost(limit) }
}

const fn rate(what: &'static str, cell: Cell, to: Peer, limit: f64) -> Target {
    let of = |measured: &Measured, peer, to| measured.ratio(peer, to, |sample| sample.per_second);
    Target { what, cell, peer: Peer::DualSecondary, to, of, limit: Limit::AtLeast(limit) }
}

const fn whole(cell: Cell, limit: f64) -> Target {
    let of = |measured: &Measured, peer, to| measured.ratio(peer, to, Sample::whole);
    Target { what: WHOLE, cell, peer: Peer::DualSecondary, to: Peer::Direct, of, limit: Limit::AtMost(limit) }
}

// === impl Target ===

impl Target {
    pub fn judge(&self, measured: &Measured) -> Option<Judged> {
        let value = (self.of)(measured, self.peer, self.to)?;
        Some(Judged { what: self.what.into(), load: self.cell.name(), limit: self.limit, measured: value })
    }
}

// === impl Judged ===

impl Judged {
    pub fn at_most(what: &str, load: &str, limit: f64, measured: f64) -> Judged {
        Judged { what: what.into(), load: load.into(), limit: Limit::AtMost(limit), measured }
    }

    fn holds(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.measured <= limit,
            Limit::AtLeast(limit) => self.measured >= limit,
        }
    }
}

impl fmt::Display for Judged {
    /// A row of the table of targets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, limit) = match self.limit {
            Limit::AtMost(limit) => ("≤", limit),
            Limit::AtLeast(limit) => ("≥", limit),
        };
        // Counts are whole numbers, ratios are not.
        let digits = if limit.fract() == 0.0 && (limit == 0.0 || limit >= 100.0) { 0 } else { 2 };
        write!(
            f,
            "| {} | {} | {sign} {limit:.digits$} | {:.digits$} | {} |",
            self.what,
            self.load,
            self.measured,
            if self.holds() { "holds" } else { "**missed**" }
        )
    }
}
