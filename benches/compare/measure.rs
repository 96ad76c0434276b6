//! Cells of the table: one load, all targets, in turns.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::load::{self, Outcome, Plan};
use super::peers::{Peer, Stores, Target};
use super::work::{KEYS, Maker, Work};

/// One load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub work: Work,
    pub clients: usize,
    pub pipeline: usize,
    pub value: usize,
}

/// One run of one target.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub per_second: f64,
    /// CPU microseconds per request of the proxy, the primary, the secondary.
    pub proxy: f64,
    pub primary: f64,
    pub secondary: f64,
    /// Latency of a batch in microseconds.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// KiB of the proxy at the end.
    pub memory: f64,
}

/// All runs of all targets under one load. A target that answers with errors is not there.
pub struct Measured {
    pub cell: Cell,
    pub samples: Vec<(Peer, Vec<Sample>)>,
}

/// How often every target runs under one load: `least` times, and on until their CPU is steady, or `most` times.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    pub least: usize,
    pub most: usize,
}

/// Which targets and keys have their first values.
#[derive(Default)]
pub struct Loaded(BTreeMap<String, ()>);

// === impl Sample ===

impl Sample {
    /// CPU microseconds per request of everybody.
    pub fn whole(&self) -> f64 {
        self.proxy + self.primary + self.secondary
    }
}

// === impl Cell ===

impl Cell {
    pub fn name(&self) -> String {
        let value = if self.work.has_value() { format!(", {} B", self.value) } else { String::new() };
        format!("{}, {} clients, P={}{value}", self.work.name(), self.clients, self.pipeline)
    }

    fn plan(&self, peer: Peer, time: Duration) -> Plan {
        Plan {
            clients: self.clients,
            pipeline: self.pipeline,
            work: self.work,
            value: self.value,
            time,
            requests: None,
            prefix: format!("{peer:?}:{}", self.value),
        }
    }
}

// === impl Measured ===

impl Measured {
    /// The median of a value over a target's runs.
    pub fn median(&self, peer: Peer, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let (_, samples) = self.samples.iter().find(|(known, _)| *known == peer)?;
        median(samples.iter().map(value).collect())
    }

    /// The median of the ratios of two targets' runs in the same turn.
    pub fn ratio(&self, peer: Peer, to: Peer, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let of = |wanted: Peer| self.samples.iter().find(|(known, _)| *known == wanted);
        let pairs = of(peer)?.1.iter().zip(&of(to)?.1);
        median(pairs.map(|(a, b)| value(a) / value(b)).filter(|ratio| ratio.is_finite()).collect())
    }

    /// The median of the ratios of what two targets add to a third one in the same turn.
    pub fn added(&self, peer: Peer, to: Peer, from: Peer, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let of = |wanted: Peer| self.samples.iter().find(|(known, _)| *known == wanted);
        let turns = of(peer)?.1.iter().zip(&of(to)?.1).zip(&of(from)?.1);
        let ratios = turns.map(|((a, b), from)| (value(a) - value(from)) / (value(b) - value(from)));
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// Half the distance between the quartiles, in percent of the median.
    pub fn spread(&self, peer: Peer, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let (_, samples) = self.samples.iter().find(|(known, _)| *known == peer)?;
        spread(samples.iter().map(value).collect())
    }
}

fn spread(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |part: f64| values[(last as f64 * part).round() as usize];
    Some(100.0 * (at(0.75) - at(0.25)) / 2.0 / at(0.5))
}

pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

/// Spread of a target's CPU, in percent, at which further runs would tell little.
const STEADY: f64 = 4.0;
/// Who takes so many times longer than a run is to take is run once: a batch of his outlasts it by far.
const SLOW: u32 = 5;

/// Measures one cell: turns in which every target runs once, each turn in another order. A target that answers with
/// errors, or not at all, falls out.
pub fn measure(
    stores: &Stores,
    targets: &[Target],
    cell: Cell,
    rounds: Rounds,
    time: Duration,
    loaded: &mut Loaded,
) -> io::Result<Measured> {
    let mut running = Vec::new();
    for target in targets {
        loaded.load(target, &cell)?;
        // Warm, and a look whether it can.
        let outcome = load::run(target.addr, &cell.plan(target.peer, time / 4));
        if let Ok(Outcome { errors: 0, elapsed, .. }) = outcome {
            let most = if elapsed > time * SLOW { 1 } else { rounds.most };
            running.push(Running { target, most, runs: Vec::new() });
        }
    }
    for round in 0..rounds.most {
        if round >= rounds.least && running.iter().all(Running::is_settled) {
            break;
        }
        let first = round % running.len().max(1);
        let (last, first) = running.split_at_mut(first);
        for each in first.iter_mut().chain(last).filter(|each| each.runs.len() < each.most) {
            match run(stores, each.target, &cell, time) {
                Ok(sample) => each.runs.push(sample),
                Err(error) => {
                    println!("{}: {} falls out: {error}", cell.name(), each.target.peer.name());
                    each.most = 0;
                }
            }
        }
        running.retain(|each| each.most > 0);
    }
    let samples = running.into_iter().map(|running| (running.target.peer, running.runs)).collect();
    Ok(Measured { cell, samples })
}

/// A target that is being measured.
struct Running<'a> {
    target: &'a Target,
    /// How often it is run; 0: it has fallen out.
    most: usize,
    runs: Vec<Sample>,
}

// === impl Running ===

impl Running<'_> {
    /// Would further runs tell little?
    fn is_settled(&self) -> bool {
        let direct = self.target.process.is_none();
        let value = |sample: &Sample| if direct { sample.per_second } else { sample.proxy };
        self.runs.len() >= self.most
            || spread(self.runs.iter().map(value).collect()).is_some_and(|spread| spread <= STEADY)
    }
}

fn run(stores: &Stores, target: &Target, cell: &Cell, time: Duration) -> io::Result<Sample> {
    let cpu = || {
        let proxy = target.process.as_ref().map_or(Duration::ZERO, |process| process.cpu());
        [proxy, stores.primary.0.cpu(), stores.secondary.0.cpu()]
    };
    let before = cpu();
    let outcome = load::run(target.addr, &cell.plan(target.peer, time))?;
    let after = cpu();
    let used = |at: usize| (after[at] - before[at]).as_secs_f64() * 1e6 / outcome.requests as f64;
    let Outcome { requests, elapsed, latency, .. } = &outcome;
    let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Sample {
        per_second: *requests as f64 / elapsed.as_secs_f64(),
        proxy: used(0),
        primary: used(1),
        secondary: used(2),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        memory: target.process.as_ref().map_or(0.0, |process| process.memory() as f64),
    })
}

// === impl Loaded ===

impl Loaded {
    fn load(&mut self, target: &Target, cell: &Cell) -> io::Result<()> {
        let plan = cell.plan(target.peer, Duration::ZERO);
        if self.0.insert(plan.prefix.clone(), ()).is_some() {
            return Ok(());
        }
        let maker = Maker::new(Work::Set, &plan.prefix, cell.value, 1);
        load::send_all(target.addr, &maker.preload(), 2 * KEYS)
    }
}
