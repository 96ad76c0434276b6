//! What follows from a seed.

use super::support::{Numbers, Stage};
use std::fmt;
use std::time::Duration;

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Nothing, and the stage stays.
    None,
    /// The stage walks.
    Flips,
    /// Also: the connections to a store are cut.
    Cuts,
    /// Also: the other store stops for a while, or is killed and comes back with or without its data.
    OtherStore,
    /// Also: the default store stops for a while, or is killed and comes back with its data.
    DefaultStore,
    /// Also: a store refuses writes for a while.
    Refusals,
    /// Also: the proxy is killed, or stopped, and started again.
    Proxy,
    /// Also: the default store comes back without its data, and an operator says which store counts. What was lost,
    /// or is given up then, stands in the clients' books: only the stores are compared.
    LostDefault,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub trouble: Trouble,
    pub start: Stage,
    /// Lines of the instance's table.
    pub settings: Vec<&'static str>,
    /// How long the clients go on.
    pub traffic: Duration,
    /// Clients that do anything.
    pub chaotic: usize,
    /// Keys per type that they share: few make hot keys.
    pub keys: usize,
    /// Keys are moved between databases, which makes everything doubtful.
    pub moves: bool,
    /// Scripts write keys that they did not declare.
    pub undeclared: bool,
    /// An operator who must say which store counts names the other one.
    pub trusts_other: bool,
}

/// Kinds that seeds choose from.
const ENABLED: &[Trouble] = &[
    Trouble::None,
    Trouble::Flips,
    Trouble::Flips,
    Trouble::Cuts,
    Trouble::OtherStore,
    Trouble::OtherStore,
    Trouble::DefaultStore,
    Trouble::Refusals,
    Trouble::Proxy,
];

// === impl Trouble ===

impl Trouble {
    pub const ALL: [Trouble; 8] = [
        Trouble::None,
        Trouble::Flips,
        Trouble::Cuts,
        Trouble::OtherStore,
        Trouble::DefaultStore,
        Trouble::Refusals,
        Trouble::Proxy,
        Trouble::LostDefault,
    ];
}

// === impl Scenario ===

impl Scenario {
    pub fn from_seed(seed: u64) -> Scenario {
        let mut numbers = Numbers(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let drawn = numbers.pick(ENABLED);
        let start = numbers.pick(&[
            Stage::SecondaryOnly,
            Stage::DualSecondaryDefault,
            Stage::DualSecondaryDefault,
            Stage::DualPrimaryDefault,
            Stage::PrimaryOnly,
        ]);
        let forced = from_env("CONVERGENCE_TROUBLE").and_then(|number| Trouble::ALL.get(number as usize));
        let trouble = forced.copied().unwrap_or(drawn);
        // What was added later has numbers of its own, so that the seeds before it stay what they were.
        let mut added = Numbers(seed.wrapping_mul(0xa076_1d64_78bd_642f));
        let trouble = if forced.is_none() && added.below(12) == 0 { Trouble::LostDefault } else { trouble };
        let mut settings = Vec::new();
        if trouble > Trouble::Cuts {
            // Stores that stop for longer cost their clients an answer; what queues up meanwhile is given up.
            settings.extend((added.below(3) == 0).then_some("reply_timeout = \"500ms\""));
            settings.extend((added.below(4) == 0).then_some("lag_max = \"64kb\""));
            settings.extend((added.below(6) == 0).then_some("on_lag = \"block\""));
        }
        match numbers.below(6) {
            0 => settings.push("reads = \"default\""),
            1 => settings.push("reads = \"compare\""),
            _ => {}
        }
        if numbers.below(4) == 0 {
            settings.push("ack = \"both\"");
        }
        let start = match (trouble, start) {
            // Without a walk there would be one store all the time.
            (Trouble::None, Stage::SecondaryOnly) => Stage::DualSecondaryDefault,
            (Trouble::None, Stage::PrimaryOnly) => Stage::DualPrimaryDefault,
            (_, start) => start,
        };
        if start == Stage::DualPrimaryDefault {
            settings.retain(|line: &&str| !line.starts_with("reads"));
        }
        let chaotic = 3 + numbers.below(6);
        let keys = numbers.pick(&[1, 2, 4, 8]);
        let millis = from_env("CONVERGENCE_MILLIS").unwrap_or(1500);
        Scenario {
            seed,
            trouble,
            start,
            settings,
            traffic: Duration::from_millis(millis),
            chaotic,
            keys,
            moves: numbers.below(4) == 0,
            undeclared: from_env("CONVERGENCE_UNDECLARED").is_some_and(|number| number > 0),
            trusts_other: added.below(2) == 0,
        }
    }

    /// Can what the clients were told be held against the stores at the end?
    pub fn keeps_books(&self) -> bool {
        self.trouble != Trouble::LostDefault
    }

    /// Are reads looked up on the secondary while the primary is cold? Else it must not be the default store.
    pub fn looks_up(&self) -> bool {
        !self.settings.iter().any(|line| line.starts_with("reads"))
    }

    /// A generator for one part of the run.
    pub fn numbers(&self, part: u64) -> Numbers {
        let mut numbers = Numbers(self.seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        numbers.next();
        numbers
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { trouble, start, settings, chaotic, keys, moves, undeclared, .. } = self;
        write!(
            f,
            "trouble {trouble:?}, from {start}, {chaotic} chaotic clients, {keys} keys per type, {settings:?}"
        )?;
        f.write_str(if *moves { ", moves" } else { "" })?;
        f.write_str(if *undeclared { ", undeclared keys" } else { "" })
    }
}

/// A number from the environment.
pub fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}
