//! What the configuration means for the sequencer.

use crate::config::{InstanceConfig, PrimaryContent};
use crate::sequencer::knowledge::Sync;
use crate::sequencer::{Settings, StoreFace};
use crate::stage::{Stage, StoreId};
use crate::state::Entry;

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

/// What a start knows of the stores' contents.
pub(super) fn first_knowledge(
    name: &str,
    config: &InstanceConfig,
    stage: Stage,
    entry: Option<&Entry>,
) -> Sync {
    let base = match entry {
        Some(entry) => entry.knowledge(stage),
        // What is written in this stage goes past the secondary.
        None if stage == Stage::PrimaryOnly => Sync::Suspect(StoreId::Secondary),
        None if config.primary_content == PrimaryContent::Untrusted => Sync::Suspect(StoreId::Primary),
        None => Sync::Unknown,
    };
    if let (Sync::Suspect(store), true) = (base, entry.is_some()) {
        tracing::warn!(instance = %name, store = %store, "the state file says that this store may be behind");
    }
    base
}
