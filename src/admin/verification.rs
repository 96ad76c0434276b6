//! What a verification has found, as `POST /verify?action=report` answers and `multistore verify --json` prints.

use serde::{Deserialize, Serialize};

/// One verification: under way, or the last one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The instance.
    pub instance: String,
    /// `none` (there was none since the start), `running`, `done` or `failed`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Do both stores hold the same, as far as it looked? Not known while it runs.
    pub equal: Option<bool>,
    /// What was asked for: `everything`, `N keys` or `P%`.
    pub sample: String,
    /// Every key of both stores was compared.
    pub complete: bool,
    /// The stage in which it ran.
    pub stage: String,
    /// When it began, as Unix time.
    pub began_at_unix_ms: u64,
    /// How long it took, or has taken so far.
    pub took_ms: u64,
    /// Keys that there are, in both directions.
    pub keys_expected: u64,
    /// Keys that were looked at, in both directions.
    pub keys_seen: u64,
    /// Keys whose values were compared.
    pub keys_compared: u64,
    /// As many of them by type, their payloads being different.
    pub compared_by_type: u64,
    /// As many of them by pieces, being large.
    pub compared_by_pieces: u64,
    /// Databases in which either store has keys.
    pub databases: Vec<u32>,
    /// Are the functions the same? `None`: a store does not tell, or has none.
    pub functions_equal: Option<bool>,
    /// Keys that differed at first and were asked again.
    pub asked_again: u64,
    /// Keys that were handed to repair and then were the same.
    pub repaired: u64,
    /// Keys that differ.
    pub differing: u64,
    /// As many of them only the primary has.
    pub only_primary: u64,
    /// As many of them only the secondary has.
    pub only_secondary: u64,
    /// Which ones: the first [`MAX_DIFFERENCES`].
    pub differences: Vec<VerifyDifference>,
    /// How many requests each store had been sent when it ended: primary, secondary.
    pub position: [u64; 2],
}

/// A key in which the stores differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyDifference {
    /// The database.
    pub database: u32,
    /// The key; what is not printable is escaped as in `\x00`.
    pub key: String,
    /// In a word: `missing_on_primary`, `missing_on_secondary`, `type`, `value`, `expiry`, `payload`, `refused`.
    pub why: String,
    /// In a sentence.
    pub text: String,
}

/// How many differing keys are listed.
pub const MAX_DIFFERENCES: usize = 1000;

/// What `/status` tells of the verification: no keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerificationStatus {
    /// `none`, `running`, `done` or `failed`.
    pub state: String,
    /// How far it is, 0 to 1.
    pub progress: f64,
    /// Keys compared.
    pub keys_compared: u64,
    /// Keys that differ, as far as this one has found.
    pub differing: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// The last complete one.
    pub last_complete: Option<LastVerification>,
}

/// The last verification that compared everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerification {
    /// When it ended, as Unix time.
    pub at_unix_ms: u64,
    /// Its age.
    pub age_seconds: u64,
    /// Were the stores equal?
    pub equal: bool,
    /// Keys that differed.
    #[serde(default)]
    pub differing: u64,
    /// Does it still prove that they are? If not, why.
    pub outdated: Option<String>,
}
