//! What a new configuration changes in a running process.

use std::fmt;

use crate::stage::Stage;

use super::Config;
use super::section::Section;

/// A change of stage that needs to be forced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageJump {
    /// The instance.
    pub instance: String,
    /// Its stage.
    pub from: Stage,
    /// The stage it may not become.
    pub to: Stage,
}

/// What becomes of a new configuration.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The new values, but the running process's where they need a restart.
    pub config: Config,
    /// Changed keys that need a restart, such as `instances.cache.listen`.
    pub restart_only: Vec<String>,
}

// === impl StageJump ===

impl fmt::Display for StageJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StageJump { instance, from, to } = self;
        let why = match to {
            Stage::PrimaryOnly => "the primary lacks what was written before",
            _ => "every write since would be lost",
        };
        write!(f, "instance '{instance}' can't go from {from} to {to} at once: {why}; go one stage at a time")
    }
}

// === impl Config ===

impl Config {
    /// The keys that differ and need a restart. Whole instances, when they were added or removed.
    pub fn restart_only_changes(old: &Config, new: &Config) -> Vec<String> {
        let mut changed = Vec::new();
        let mut add = |section: &str, keys: Vec<&str>| {
            changed.extend(keys.iter().map(|key| format!("{section}.{key}")))
        };
        add("admin", old.admin.restart_only_changes(&new.admin));
        add("log", old.log.restart_only_changes(&new.log));
        add("process", old.process.restart_only_changes(&new.process));
        for (name, instance) in &old.instances {
            if let Some(next) = new.instances.get(name) {
                add(&format!("instances.{name}"), instance.restart_only_changes(next));
            }
        }
        let lacks = |config: &Config, name: &str| !config.instances.contains_key(name);
        let removed = old.instances.keys().filter(|name| lacks(new, name));
        changed.extend(removed.map(|name| format!("instances.{name} (removed)")));
        let added = new.instances.keys().filter(|name| lacks(old, name));
        changed.extend(added.map(|name| format!("instances.{name} (added)")));
        changed
    }

    /// `new` as far as this process can take it over; the jumps that forbid it, otherwise.
    pub fn reloaded(&self, mut new: Config) -> Result<Reloaded, Vec<StageJump>> {
        let jumps = self.jumps(&new);
        if !jumps.is_empty() {
            return Err(jumps);
        }
        let restart_only = Config::restart_only_changes(self, &new);
        new.keep_restart_only(self);
        Ok(Reloaded { config: new, restart_only })
    }

    fn jumps(&self, new: &Config) -> Vec<StageJump> {
        let shared = self.instances.keys().filter(|name| new.instances.contains_key(*name));
        shared
            .map(|name| StageJump {
                instance: name.clone(),
                from: self.flags(name).stage(),
                to: new.flags(name).stage(),
            })
            .filter(|jump| !jump.from.may_become(jump.to) && !new.allow_stage_jump.contains(&jump.instance))
            .collect()
    }

    fn keep_restart_only(&mut self, running: &Config) {
        self.admin.keep_restart_only(&running.admin);
        self.log.keep_restart_only(&running.log);
        self.process.keep_restart_only(&running.process);
        self.instances.retain(|name, _| running.instances.contains_key(name));
        for (name, instance) in &running.instances {
            match self.instances.get_mut(name) {
                Some(new) => new.keep_restart_only(instance),
                None => {
                    self.instances.insert(name.clone(), instance.clone());
                    self.flags.insert(name.clone(), running.flags(name));
                }
            }
        }
        self.flags.retain(|name, _| running.instances.contains_key(name));
        self.allow_stage_jump.retain(|name| running.instances.contains_key(name));
    }
}
