//! `multistore check`: judges a configuration.

mod probe;

use clap::Args;

use super::{ConfigArg, Exit, complain, say};
use crate::config::Config;
use crate::stage::{Stage, StoreId};

/// Judge a configuration without serving it
///
/// Every error is told with file, line and column; warnings don't fail the check. Exits with 0 if the file may be used,
/// with 2 if not, with 1 if --connect was given and a store doesn't answer.
#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// Also connect to every store, log in, PING, and count its keys
    #[arg(long)]
    connect: bool,
}

// === impl Check ===

impl Check {
    /// Prints the verdict.
    pub fn run(self) -> Exit {
        let loaded = match self.config.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let path = self.config.config.display();
        match loaded.warnings.len() {
            0 => say(format_args!("{path}: valid")),
            warnings => {
                say(format_args!("{path}: valid, {warnings} warning{}", if warnings == 1 { "" } else { "s" }))
            }
        }
        describe(&loaded.config);
        if self.connect { connect(&loaded.config) } else { Exit::Done }
    }
}

fn describe(config: &Config) {
    say(format_args!("  admin on {}", config.admin.listen));
    for (name, instance) in &config.instances {
        say(format_args!("  {name} on {}: {}", instance.listen, config.flags(name).stage()));
        say(format_args!("    primary   {}", instance.primary));
        say(format_args!("    secondary {}", instance.secondary));
    }
}

fn connect(config: &Config) -> Exit {
    let mut exit = Exit::Done;
    for (name, instance) in &config.instances {
        for id in StoreId::ALL {
            match probe::probe(instance.store(id), instance.connect_timeout, instance.reply_timeout) {
                Ok(keys) => {
                    say(format_args!("  {name}: {id} answers{}", holding(keys)));
                    warn_of_keys(config, name, id, keys);
                }
                Err(problem) => {
                    complain(format_args!("  {name}: {id} ({}): {problem}", instance.store(id)));
                    exit = Exit::Failed;
                }
            }
        }
    }
    exit
}

fn holding(keys: Option<u64>) -> String {
    match keys {
        None => String::new(),
        Some(1) => ", and holds 1 key".to_owned(),
        Some(keys) => format!(", and holds {keys} keys"),
    }
}

/// Before a rollout begins the new store should be empty: what it holds is taken for an answer in the first stage with both.
fn warn_of_keys(config: &Config, instance: &str, store: StoreId, keys: Option<u64>) {
    let begins = store == StoreId::Primary && config.flags(instance).stage() == Stage::SecondaryOnly;
    if begins && keys.is_some_and(|keys| keys > 0) {
        complain(format_args!(
            "  {instance}: warning: the primary is not empty. In dual_secondary_default reads are answered by it where it \
             has the key, unless primary_content = \"untrusted\": empty it before you begin, or be sure of what it holds"
        ));
    }
}
