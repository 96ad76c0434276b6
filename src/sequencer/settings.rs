//! What the sequencer is told of an instance's configuration.

use std::time::Duration;

use crate::config::{Ack, OnLag, Reads};

/// The settings of an instance that the sequencer obeys. All of them can change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Are keys copied that only one store has?
    pub hydrate: bool,
    /// Read policy.
    pub reads: Reads,
    /// Acknowledgement of writes.
    pub ack: Ack,
    /// Lag policy.
    pub on_lag: OnLag,
    /// How long a client waits for a store.
    pub reply_timeout: Duration,
    /// How long the primary may be silent before lone reads go to the default store.
    pub read_patience: Duration,
    /// How often parked clients are tried again for writers that don't pass here.
    pub blocking_poll: Duration,
    /// Bytes queued for the other store above which `on_lag` applies.
    pub lag_max: u64,
    /// Bytes queued for a store above which it does not become the default.
    pub flip_max_lag: u64,
    /// Bytes queued for the default store above which requests are refused.
    pub queue_max: u64,
    /// Larger keys are copied by pieces.
    pub heavy_bytes: u64,
    /// Larger keys that have no pieces are not copied but reported.
    pub copy_max_bytes: u64,
    /// Larger replies are compared by their hash.
    pub compare_max_bytes: usize,
    /// How far apart two expiry times may be.
    pub ttl_tolerance: Duration,
    /// Bytes of unread replies above which a client is closed.
    pub client_output_max: usize,
    /// Are values shown in samples of differences?
    pub log_values: bool,
}

/// What the sequencer must know of a store.
#[derive(Clone, Debug)]
pub struct StoreFace {
    /// How it is called in errors: `secondary store 127.0.0.1:7002`.
    pub name: String,
    /// The database that the instance shows as its database 0.
    pub base_db: u32,
}
