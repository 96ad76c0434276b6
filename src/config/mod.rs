//! `proxy.toml`: schema, validation with positions, flags, watching, editing.
//!
//! The schema is one place, `schema.rs`; the struct of a table, its defaults, the messages about it and the manual
//! (`proxy.toml` at the root of the repository) all come from there. A file is judged as a whole: [`load`] returns a
//! complete [`Config`] or every error. `watch` hands complete snapshots over; `edit` flips a flag in the file.

mod address;
mod admin_token;
mod diagnostic;
pub mod edit;
mod flags;
mod load;
pub mod manual;
mod reader;
mod reload;
mod schema;
mod secret;
mod section;
mod store_table;
mod store_url;
mod suggest;
mod tls_table;
mod units;
mod users;
mod validate;
mod value;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
pub use std::time::Duration;

pub use address::{HostPort, Listen};
pub use admin_token::admin_token;
pub use diagnostic::{Diagnostic, LoadError, Position, Severity};
pub use flags::FlagKind;
pub use load::{Loaded, MAX_FILE_BYTES, MAX_INSTANCE_NAME, admin_listen, load};
pub use reload::{Reloaded, StageJump};
pub use schema::{AdminConfig, InstanceConfig, LogConfig, ProcessConfig};
pub use secret::Secret;
pub use store_url::{DEFAULT_REDIS_PORT, Endpoint, SentinelAddress, SentinelUser, StoreConfig, StoreTls};
pub use units::{ByteSize, format_duration, parse_duration};
pub use users::{PasswordDigest, User, Users};
pub use value::{
    Ack, Auth, ClientCert, FileMode, LogFormat, LogLevel, OnLag, PrimaryContent, Reads, TlsVersion, Words,
};

use crate::stage::Flags;

/// A whole, validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it comes from, as the operator named it.
    pub path: PathBuf,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[process]`
    pub process: ProcessConfig,
    /// `[instances.*]`; never empty.
    pub instances: BTreeMap<String, InstanceConfig>,
    /// The flags of every instance.
    pub flags: BTreeMap<String, Flags>,
    /// The instances that may make the two forbidden jumps.
    pub allow_stage_jump: BTreeSet<String>,
}

// === impl Config ===

impl Config {
    /// Validates `text` as if it were the content of `path`; for tests and tools.
    pub fn from_toml(path: impl AsRef<Path>, text: &str) -> Result<Loaded, LoadError> {
        load::parse(path.as_ref(), text, None, &|name| std::env::var(name).ok())
    }

    /// The flags of `instance`; off for one that is unknown.
    pub fn flags(&self, instance: &str) -> Flags {
        self.flags.get(instance).copied().unwrap_or_default()
    }

    /// Where the state file is: as set, or beside the configuration.
    pub fn state_file(&self) -> PathBuf {
        match &self.process.state_file {
            Some(path) => self.path.parent().unwrap_or(Path::new("")).join(path),
            None => self.path.with_extension("state"),
        }
    }
}

#[cfg(test)]
mod tests;
