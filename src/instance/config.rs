//! What the configuration means for the sequencer.

use crate::config::{InstanceConfig, PrimaryContent};
use crate::sequencer::knowledge::{Knowledge, Limits, Sync};
use crate::sequencer::{Settings, StoreFace};
use crate::stage::{Stage, StoreId};
use crate::state::{Believed, Entry};

/// The settings that the sequencer obeys.
pub(super) fn settings(config: &InstanceConfig) -> Settings {
    Settings {
        hydrate: config.hydrate,
        reads: config.reads,
        ack: config.ack,
        on_lag: config.on_lag,
        reply_timeout: config.reply_timeout,
        read_patience: config.read_patience,
        blocking_poll: config.blocking_poll,
        flip_max_lag: config.flip_max_lag.bytes() as u64,
        lag_max: config.lag_max.bytes() as u64,
        queue_max: config.queue_max.bytes() as u64,
        heavy_bytes: config.heavy_bytes.bytes() as u64,
        copy_max_bytes: config.copy_max_bytes.bytes() as u64,
        compare_max_bytes: config.compare_max_bytes.bytes(),
        ttl_tolerance: config.ttl_tolerance,
        client_output_max: config.client_output_max.bytes(),
        log_values: config.log_values,
    }
}

/// How the stores are called, and where their database 0 is.
pub(super) fn faces(config: &InstanceConfig) -> [StoreFace; 2] {
    StoreId::ALL.map(|store| {
        let address = config.store(store);
        StoreFace {
            name: format!("{store} store {}", address.endpoint),
            base_db: address.database.unwrap_or(0),
        }
    })
}

/// The stage to begin in, and what is known of the stores' contents.
pub(super) fn beginning(
    name: &str,
    config: &InstanceConfig,
    stage: Stage,
    entry: Option<&Entry>,
) -> (Stage, Knowledge) {
    let base = match entry {
        Some(entry) => {
            let (stage, mut known) = believe(name, entry.believed(stage));
            entry.list_suspects(&mut known);
            return (stage, known);
        }
        // What is written in this stage goes past the secondary.
        None if stage == Stage::PrimaryOnly => Sync::Suspect(StoreId::Secondary),
        None if config.primary_content == PrimaryContent::Untrusted => Sync::Suspect(StoreId::Primary),
        None => Sync::Unknown,
    };
    (stage, Knowledge::new(base, Limits::default()))
}

fn believe(name: &str, believed: Believed) -> (Stage, Knowledge) {
    let Believed { stage, base, stale } = believed;
    let behind = match base {
        Sync::Suspect(store) => Some(store),
        Sync::InSync | Sync::Unknown => stale.then_some(StoreId::Secondary),
    };
    if let Some(store) = behind {
        tracing::warn!(instance = %name, store = %store, "the state file says that this store may be behind");
    }
    match stale {
        true => (stage, Knowledge::cold_and_stale(Limits::default())),
        false => (stage, Knowledge::new(base, Limits::default())),
    }
}
