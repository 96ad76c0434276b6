//! `multistore check`: judges a configuration.

mod probe;

use clap::Args;

use self::probe::Answered;
use super::{ConfigArg, Exit, complain, say};
use crate::config::{Config, StoreConfig};
use crate::stage::{Stage, StoreId};
use crate::store::pair::Pair;

/// Judge a configuration without serving it
///
/// Every error is told with file, line and column; warnings don't fail the check. Exits with 0 if the file may be used,
/// with 2 if not, or if --connect shows that both URLs of an instance lead to one store, with 1 if --connect was given and a
/// store doesn't answer.
#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// Also connect to every store, log in, PING, ask which server it is, and count its keys
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
        let found = StoreId::ALL.map(|id| {
            let database = instance.shown_database(id);
            let store = StoreConfig { database, ..instance.store(id).clone() };
            let probed = probe::probe(&store, instance.connect_timeout, instance.reply_timeout);
            match &probed {
                Ok(answered) => {
                    say(format_args!("  {name}: {id} answers{}", holding(answered.keys, database)));
                }
                Err(problem) => complain(format_args!("  {name}: {id} ({}): {problem}", instance.store(id))),
            }
            probed.ok()
        });
        let run_ids = found.each_ref().map(|store| store.as_ref().map(|answered| answered.run_id.as_str()));
        let [primary, _] = &found;
        match Pair::judge(instance, run_ids) {
            Pair::Same => {
                let [run_id, _] = run_ids.map(Option::unwrap_or_default);
                complain(format_args!(
                    "  {name}: error: primary ({}) and secondary ({}) are the same server (run_id {run_id}) and database: \
                     nothing would be migrated, and emptying one empties the other. Correct the URL that is wrong",
                    instance.primary, instance.secondary
                ));
                exit = Exit::Invalid;
            }
            pair => warn_of_keys(config, name, pair, primary.as_ref()),
        }
        if exit == Exit::Done && found.iter().any(Option::is_none) {
            exit = Exit::Failed;
        }
    }
    exit
}

/// How many keys, and where: what is not said to be of one database is of all.
fn holding(keys: Option<u64>, database: Option<u32>) -> String {
    let keys = match keys {
        None => return String::new(),
        Some(1) => "1 key".to_owned(),
        Some(keys) => format!("{keys} keys"),
    };
    match database {
        None => format!(", and holds {keys}, all databases together"),
        Some(database) => format!(", and holds {keys} in database {database}"),
    }
}

/// Before a rollout begins the new store should be empty: what it holds is taken for an answer in the first stage with
/// both. Nobody is told to empty what may be the store in use.
fn warn_of_keys(config: &Config, instance: &str, pair: Pair, primary: Option<&Answered>) {
    let begins = config.flags(instance).stage() == Stage::SecondaryOnly;
    if !begins || primary.and_then(|answered| answered.keys).is_none_or(|keys| keys == 0) {
        return;
    }
    let advice = match pair {
        Pair::Different => "empty it before you begin, or be sure of what it holds",
        Pair::Same | Pair::OneServer => {
            "be sure of what it holds; the secondary is another database of the same server, which FLUSHALL would empty, too"
        }
        Pair::Unknown => {
            "be sure of what it holds; whether it is another server than the secondary could not be found out, so do not \
             empty it before you know"
        }
    };
    complain(format_args!(
        "  {instance}: warning: the primary is not empty. In dual_secondary_default reads are answered by it where it has \
         the key, unless primary_content = \"untrusted\": {advice}"
    ));
}
