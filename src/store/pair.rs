//! Do the two URLs of an instance lead to one store?

use crate::config::{InstanceConfig, StoreConfig};

/// Where they lead: by run_id and database, not by name. A write must never be applied twice to one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// To one database of one server.
    Same,
    /// To one server, but to different databases of it.
    OneServer,
    /// To different servers.
    Different,
    /// A store has not answered, or does not tell which server it is.
    Unknown,
}

// === impl Pair ===

impl Pair {
    /// Judges by what primary and secondary have told.
    pub fn judge(instance: &InstanceConfig, run_ids: [Option<&str>; 2]) -> Pair {
        let [one, other] = run_ids.map(|run_id| run_id.filter(|run_id| !run_id.is_empty()));
        if one.is_none() || other.is_none() {
            return Pair::Unknown;
        }
        if one != other {
            return Pair::Different;
        }
        let database = |store: &StoreConfig| store.database.unwrap_or(0);
        match database(&instance.primary) == database(&instance.secondary) {
            true => Pair::Same,
            false => Pair::OneServer,
        }
    }
}
