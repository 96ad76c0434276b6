//! Counters by command, addressed by the command's index in the command table.

use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntCounterVec};

/// The label value of every command that is not in the table.
pub const OTHER: &str = "other";

/// One counter per command of the table and one for all others.
///
/// A counter that was not made at the start is made when first used; from then on counting is one
/// atomic load and one atomic add.
pub struct CommandCounters {
    family: IntCounterVec,
    order: LabelOrder,
    instance: String,
    names: Arc<[&'static str]>,
    counters: Box<[OnceLock<IntCounter>]>,
    other: IntCounter,
}

/// Which label comes first. GitLab's families name the command first.
#[derive(Clone, Copy)]
pub(super) enum LabelOrder {
    CommandFirst,
    InstanceFirst,
}

// === impl LabelOrder ===

impl LabelOrder {
    fn resolve(self, family: &IntCounterVec, command: &str, instance: &str) -> IntCounter {
        match self {
            LabelOrder::CommandFirst => family.with_label_values(&[command, instance]),
            LabelOrder::InstanceFirst => family.with_label_values(&[instance, command]),
        }
    }
}

// === impl CommandCounters ===

impl CommandCounters {
    pub(super) fn new(
        family: &IntCounterVec,
        order: LabelOrder,
        instance: &str,
        names: Arc<[&'static str]>,
        from_the_start: impl Fn(usize) -> bool,
    ) -> CommandCounters {
        let counters = CommandCounters {
            family: family.clone(),
            order,
            instance: instance.to_owned(),
            counters: names.iter().map(|_| OnceLock::new()).collect(),
            names,
            other: order.resolve(family, OTHER, instance),
        };
        for command in (0..counters.names.len()).filter(|command| from_the_start(*command)) {
            counters.counter(command);
        }
        counters
    }

    /// Counts one for the command with this index; an index beyond the table counts as `other`.
    pub fn inc(&self, command: usize) {
        self.counter(command).inc();
    }

    /// Counts one for a command that is not in the table.
    pub fn inc_other(&self) {
        self.other.inc();
    }

    /// The count of the command with this index.
    pub fn get(&self, command: usize) -> u64 {
        let made = self.counters.get(command).map(|counter| counter.get().map_or(0, IntCounter::get));
        made.unwrap_or_else(|| self.other.get())
    }

    /// The sum over all commands.
    pub fn total(&self) -> u64 {
        let made = self.counters.iter().filter_map(OnceLock::get);
        made.map(IntCounter::get).sum::<u64>() + self.other.get()
    }

    fn counter(&self, command: usize) -> &IntCounter {
        match (self.counters.get(command), self.names.get(command)) {
            (Some(counter), Some(name)) => {
                counter.get_or_init(|| self.order.resolve(&self.family, name, &self.instance))
            }
            _ => &self.other,
        }
    }
}
