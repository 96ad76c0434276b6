//! What `/status` tells of a backfill.

use serde::{Deserialize, Serialize};

/// How far a backfill is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackfillStatus {
    /// `off`, `waiting` (see `reason`), `running`, `paused` or `done`.
    pub state: String,
    /// What it waits for.
    pub reason: Option<String>,
    /// The database that is being walked.
    pub database: Option<u32>,
    /// Keys of the default store that it has passed.
    pub keys_seen: u64,
    /// Keys that there are, as counted when it began.
    pub keys_expected: u64,
    /// Keys copied since the proxy was started, whatever for.
    pub keys_copied: u64,
    /// How far it is, 0 to 1.
    pub progress: f64,
    /// Keys passed per second, lately.
    pub keys_per_second: f64,
    /// Bytes copied per second, lately.
    pub bytes_per_second: f64,
    /// How long the rest will take at this rate.
    pub seconds_left: Option<u64>,
}
