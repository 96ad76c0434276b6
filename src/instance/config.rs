//! What the configuration means for the sequencer.

use crate::config::InstanceConfig;
use crate::sequencer::{Settings, StoreFace};
use crate::stage::StoreId;

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
        lag_max: config.lag_max.bytes() as u64,
        queue_max: config.queue_max.bytes() as u64,
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
