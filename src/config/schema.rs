//! The schema: every key, its type, default, range, meaning, and whether it reloads. The one place.
//!
//! `proxy.toml` at the root of the repository is rendered from here (see `manual`), so the comments speak to operators.

use std::path::PathBuf;
use std::time::Duration;

use crate::stage::StoreId;

use super::address::{HostPort, Listen};
use super::secret::Secret;
use super::section::{KeyInfo, Section, section};
use super::store_url::StoreConfig;
use super::units::ByteSize;
use super::users::{AclWords, Users};
use super::value::{
    Ack, Auth, ClientCert, FileMode, LogFormat, LogLevel, OnLag, PrimaryContent, Reads, TlsVersion, Words,
};
use crate::tls::ServerFiles;

section! {
    /// `[admin]`: the HTTP server for operators and monitoring.
    pub struct AdminConfig {
        /// Where /metrics, /livez, /readyz and /status answer, and where a repair is ordered from this machine.
        listen: HostPort = default("127.0.0.1:9180"), Restart;
        /// Ask for `Authorization: Bearer TOKEN` everywhere but at /livez and /readyz.
        token: Option<Secret> = optional("secret"), Restart;
        /// A file that holds the token; a line break at its end doesn't count.
        token_file: Option<PathBuf> = optional("/run/secrets/multistore-admin"), Restart;
        /// An environment variable that holds the token.
        token_env: Option<String> = optional("MULTISTORE_ADMIN_TOKEN"), Restart;
    }
}

section! {
    /// `[log]`: log lines go to standard error.
    pub struct LogConfig {
        /// "human" for people, "json" for one JSON object per line.
        format: LogFormat = default("human"), Restart;
        /// The least important lines that are logged: "error", "warn", "info", "debug" or "trace".
        level: LogLevel = default("info"), Reloads;
    }
}

section! {
    /// `[process]`: the process as a whole.
    pub struct ProcessConfig {
        /// Worker threads. One serves more than one Redis store can.
        threads: usize = default(1) from 1 to 64, Restart;
        /// How long a stopping process waits for its clients' replies. A second signal ends it at once.
        drain_timeout: Duration = default("10s") from "0s" to "1h", Reloads;
        /// The same for a process that another one replaces (SIGUSR2): new clients wait meanwhile.
        upgrade_timeout: Duration = default("2s") from "0s" to "1h", Reloads;
        /// Where the history of stages and the knowledge which store may be behind is kept. Not written: beside this
        /// file, named like it with .state at its end. A relative path starts at the directory of this file.
        state_file: Option<PathBuf> = optional("/var/lib/multistore/proxy.state"), Restart;
    }
}

section! {
    /// `[instances.NAME]`: a pair of stores behind one listener.
    pub struct InstanceConfig {
        /// Where clients connect: "host:port", or "unix:///path".
        listen: Listen = required("127.0.0.1:6380"), Restart;
        /// The permissions of the socket file, if `listen` is a path.
        unix_mode: FileMode = default("0660"), Restart;
        /// Clients speak TLS: a section of its own, below.
        tls: Option<ServerFiles> = optional({ cert = "cert.pem", key = "key.pem" }), Reloads;
        /// The store to move to: "redis://[user[:password]@]host[:port][/db]", or "unix://[user:password@]/path[?db=N]".
        /// With rediss:// in the place of redis:// the proxy speaks TLS to it. "redis+sentinel://host:port,host:port/master"
        /// asks sentinels where the master is, and follows it.
        /// In a password, write %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #, %25 for %.
        /// Without a database all databases pass through; with one, the instance shows that one as its database 0.
        primary: StoreConfig = required("redis://127.0.0.1:7001"), Restart;
        /// The store in use today.
        secondary: StoreConfig = required("redis://127.0.0.1:7002"), Restart;

        /// How reads are answered while both stores are in use:
        ///   "fallback"  the primary; on a miss or an error, the secondary
        ///   "default"   the default store alone
        ///   "compare"   both, compared; the client gets the default store's reply
        reads: Reads = default("fallback"), Reloads;
        /// Whose answer a writing client waits for: "default" store, or "both". The reply is the default store's.
        ack: Ack = default("default"), Reloads;
        /// Copy keys that only one store has when they are touched. false: cold keys fill by time alone.
        hydrate: bool = default(true), Reloads;
        /// Copy the whole keyspace of the default store to the other one while both are in use. false: only what is touched
        /// is copied, until `multistore backfill start` or `multistore rollout` asks for the rest.
        backfill: bool = default(false), Reloads;
        /// How long nothing may have been amiss before the next stage counts as safe. A complete verification that finds
        /// no difference makes it so at once.
        quiet_period: Duration = default("6h") from "0s" to "30d", Reloads;
        /// When the other store lags by more than lag_max: "repair" gives up its queue and copies those keys later,
        /// "block" slows the clients down.
        on_lag: OnLag = default("repair"), Reloads;
        /// Passwords of clients:
        ///   "none"         asks for none; `listen` must then be a loopback address or a socket file, or see unprotected
        ///   "passthrough"  lets the default store check them; it admits whom no ACL rule restricts, as commands run as
        ///                  the proxy's own user
        ///   "users"        the proxy checks them: sections of their own, below
        auth: Auth = default("none"), Restart;
        /// The users of the proxy: sections of their own, below.
        users: Users = optional({ app = { password_env = "APP_PASSWORD" } }), Reloads;
        /// Whoever reaches `listen` may do anything to the data. Needed where it is reached from other machines and
        /// neither a password nor a client certificate is asked for.
        unprotected: bool = default(false), Restart;
        /// What a first start believes about the data on the primary: "trusted" serves it, "untrusted" verifies it first.
        primary_content: PrimaryContent = default("trusted"), Restart;

        /// How long connecting to a store may take.
        connect_timeout: Duration = default("2s") from "10ms" to "5m", Reloads;
        /// How long a client waits for a store's reply before it gets an error. Blocking commands add their own time.
        reply_timeout: Duration = default("5s") from "10ms" to "1h", Reloads;
        /// A store that has not sent a byte for this long, while replies are owed, is connected to anew.
        lane_timeout: Duration = default("30s") from "100ms" to "1h", Reloads;
        /// The wait before a lost store is tried again; doubles up to reconnect_max, with jitter.
        reconnect_min: Duration = default("50ms") from "1ms" to "1m", Reloads;
        /// The longest wait before a lost store is tried again.
        reconnect_max: Duration = default("2s") from "1ms" to "10m", Reloads;
        /// While the secondary is the default: a primary that is silent or behind for longer answers no reads.
        read_patience: Duration = default("5ms") from "0s" to "1m", Reloads;
        /// Clients that are blocked while both stores are in use are tried again this often, for the sake of writers
        /// that don't pass here.
        blocking_poll: Duration = default("100ms") from "1ms" to "1m", Reloads;

        /// What may be queued for the other store before on_lag decides. Of this and the next key: each request counts for
        /// 256 bytes more than it has.
        lag_max: ByteSize = default("256mb") from "64kb" to "64gb", Reloads;
        /// What may be queued for the default store before requests are refused.
        queue_max: ByteSize = default("256mb") from "64kb" to "64gb", Reloads;
        /// A change of the default store waits until the store to come lags by no more than this.
        flip_max_lag: ByteSize = default("1mb") from "0b" to "64gb", Reloads;
        /// Requests above this travel on connections of their own, so that they hold nobody up; keys above it are copied by
        /// pieces.
        heavy_bytes: ByteSize = default("256kb") from "1kb" to "1gb", Reloads;
        /// What has no pieces (streams, types of modules) is copied in one go up to this size; what is larger is reported.
        copy_max_bytes: ByteSize = default("16mb") from "1kb" to "512mb", Reloads;
        /// Keys that backfill and verification may take up per second. 0: no limit.
        background_keys: usize = default(0) from 0 to 10000000, Reloads;
        /// Bytes of values that backfill may copy per second. "0b": no limit.
        background_bytes: ByteSize = default("0b") from "0b" to "64gb", Reloads;
        /// Backfill and verification do less at once while the default store takes longer than this to answer. "0s": never
        /// mind.
        background_latency: Duration = default("5ms") from "0s" to "1m", Reloads;
        /// Connections to the default store for what can't share one: blocking commands, subscribers, WATCH, MONITOR.
        dedicated_max: usize = default(10000) from 1 to 1000000, Reloads;
        /// How many of them are kept open while unused.
        dedicated_idle: usize = default(16) from 0 to 10000, Reloads;

        /// Replies above this are not compared.
        compare_max_bytes: ByteSize = default("1mb") from "0b" to "1gb", Reloads;
        /// Times to live that differ by no more than this are equal.
        ttl_tolerance: Duration = default("1s") from "0s" to "1h", Reloads;
        /// Show keys and replies in samples of differences. Otherwise their sizes and a short hash stand in their place.
        log_values: bool = default(false), Reloads;

        /// Clients connected at once; further ones get an error.
        max_clients: usize = default(10000) from 1 to 1000000, Reloads;
        /// Clients connected at once from one address; further ones get an error. 0: no limit of its own.
        max_clients_per_address: usize = default(0) from 0 to 1000000, Reloads;
        /// New clients taken per second; further ones wait in the system's queue. 0: no limit.
        max_connection_rate: usize = default(0) from 0 to 1000000, Reloads;
        /// How long a client may take for its TLS handshake and, where a password is asked for, until it has given it.
        handshake_timeout: Duration = default("10s") from "100ms" to "5m", Reloads;
        /// The delay after a wrong password. It doubles with each other wrong one from the same address, up to
        /// auth_delay_max; after a few, all passwords from there wait for their turn, or are refused unchecked. "0s":
        /// no delays.
        auth_delay: Duration = default("50ms") from "0s" to "1m", Reloads;
        /// The longest such delay.
        auth_delay_max: Duration = default("5s") from "0s" to "1h", Reloads;
        /// Clients that send nothing for this long are closed. "0s": never.
        client_idle_timeout: Duration = default("0s") from "0s" to "30d", Reloads;
        /// A client with more unread replies than this is closed.
        client_output_max: ByteSize = default("1gb") from "64kb" to "64gb", Reloads;
        /// From a client with more unread replies than this no further requests are read, unless it has read nothing for half a
        /// second: it may have to send all its requests first.
        client_output_soft: ByteSize = default("1mb") from "1kb" to "64gb", Reloads;
        /// When the unread replies of all clients together take more than this, those with the most are closed.
        clients_output_total: ByteSize = default("2gb") from "1mb" to "1024gb", Reloads;
        /// The same for the requests of all clients: those that are not complete, and those that wait.
        clients_query_total: ByteSize = default("2gb") from "1mb" to "1024gb", Reloads;
        /// From a client with this many unanswered commands no further requests are read.
        client_pipeline_max: usize = default(10000) from 1 to 1000000, Reloads;

        /// The largest request. The limits of this group close the client as Redis would.
        max_request: ByteSize = default("1gb") from "64kb" to "4095mb", Reloads;
        /// The longest argument of a request (proto-max-bulk-len of Redis).
        max_bulk: ByteSize = default("512mb") from "1kb" to "4095mb", Reloads;
        /// The most arguments of a request.
        max_args: usize = default(1048576) from 16 to 2147483647, Reloads;
        /// The longest inline request, and the longest line that announces a length.
        max_inline: ByteSize = default("64kb") from "64b" to "1gb", Reloads;
        /// The largest reply of a store. The limits of this and the next key drop the store's connection.
        max_reply: ByteSize = default("1gb") from "64kb" to "64gb", Reloads;
        /// The deepest nesting of a reply.
        reply_depth: usize = default(10000) from 7 to 10000, Reloads;
        /// Commands that are refused, as "command" or "command|subcommand": those that would change a store behind the
        /// proxy's back. Writing the key replaces the whole list.
        refuse: Words = default([
            "shutdown", "replicaof", "slaveof", "failover", "migrate", "module|load", "module|loadex", "module|unload",
            "cluster|addslots", "cluster|addslotsrange", "cluster|bumpepoch", "cluster|cancelslotmigrations",
            "cluster|delslots", "cluster|delslotsrange", "cluster|failover", "cluster|flushslot", "cluster|flushslots",
            "cluster|forget", "cluster|meet", "cluster|migrateslots", "cluster|replicate", "cluster|reset",
            "cluster|saveconfig", "cluster|set-config-epoch", "cluster|setslot"
        ]), Reloads;
    }
}

section! {
    /// `[instances.NAME.primary]`, `[instances.NAME.secondary]`: a store whose password should not stand in its URL.
    pub struct StoreTable {
        /// The URL.
        url: String = required("redis://127.0.0.1:7001"), Restart;
        /// The ACL user, in whose name the commands of all clients run: let it have every key and every command, also
        /// CLIENT TRACKING, which tells the proxy what scripts change, and CLIENT KILL, with which it ends its own
        /// connections that were lost.
        username: Option<String> = optional("multistore"), Restart;
        /// The password. One of the following two keeps it out of this file.
        password: Option<Secret> = optional("secret"), Restart;
        /// A file that holds the password; a line break at its end doesn't count. A relative path starts at the
        /// directory of this file.
        password_file: Option<PathBuf> = optional("/run/secrets/redis"), Restart;
        /// An environment variable that holds the password.
        password_env: Option<String> = optional("REDIS_PASSWORD"), Restart;
        /// For sentinels that ask for a password: the ACL user there, if it is not the default one.
        sentinel_username: Option<String> = optional("multistore"), Restart;
        /// The password of the sentinels, which is not that of the store. One of the following two keeps it out of this
        /// file.
        sentinel_password: Option<Secret> = optional("secret"), Restart;
        /// A file that holds it.
        sentinel_password_file: Option<PathBuf> = optional("/run/secrets/sentinel"), Restart;
        /// An environment variable that holds it.
        sentinel_password_env: Option<String> = optional("SENTINEL_PASSWORD"), Restart;
        /// For rediss:// URLs: the CAs that may vouch for the store; PEM. Not written: those of the system.
        tls_ca: Option<PathBuf> = optional("/etc/multistore/redis-ca.pem"), Restart;
        /// The name that the store's certificate must bear, and that is sent as SNI. Not written: the URL's host.
        tls_server_name: Option<String> = optional("redis.example.com"), Restart;
        /// The certificate that the proxy shows to the store; PEM. Changed files count from the next connection on.
        tls_cert: Option<PathBuf> = optional("/etc/multistore/proxy.pem"), Restart;
        /// Its private key; PEM.
        tls_key: Option<PathBuf> = optional("/etc/multistore/proxy.key"), Restart;
        /// The oldest version that is spoken.
        tls_min_version: TlsVersion = default("1.2"), Restart;
    }
}

section! {
    /// `[instances.NAME.tls]`: clients speak TLS.
    pub struct TlsTable {
        /// The certificate, and behind it those that lead to its CA; PEM. Changed files are taken over at once: a
        /// renewal needs no restart. Relative paths start at the directory of this file.
        cert: PathBuf = required("/etc/multistore/cert.pem"), Reloads;
        /// Its private key; PEM.
        key: PathBuf = required("/etc/multistore/key.pem"), Reloads;
        /// The CAs of clients' certificates; PEM.
        client_ca: Option<PathBuf> = optional("/etc/multistore/client-ca.pem"), Reloads;
        /// Clients show a certificate: "none" is asked for one, "optional" if they have one, "required" all of them.
        client_cert: ClientCert = default("none"), Reloads;
        /// The oldest version that is spoken.
        min_version: TlsVersion = default("1.2"), Reloads;
    }
}

section! {
    /// `[instances.NAME.users.USER]`: who may connect, with `auth = "users"`.
    pub struct UserTable {
        /// The password. One of the following three keeps it out of this file.
        password: Option<Secret> = optional("secret"), Reloads;
        /// Its SHA-256, 64 hexadecimal digits: `echo -n PASSWORD | sha256sum`.
        password_sha256: Option<Secret> = optional("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"), Reloads;
        /// A file that holds the password; a line break at its end doesn't count.
        password_file: Option<PathBuf> = optional("/run/secrets/app"), Reloads;
        /// An environment variable that holds the password.
        password_env: Option<String> = optional("APP_PASSWORD"), Reloads;
        /// What the user may do, in Redis's ACL words: +command, +command|subcommand, +@category and the same with -;
        /// ~pattern, %R~pattern, %W~pattern for keys; &pattern for channels. The last rule that fits a command decides.
        /// A user who may not do everything runs no scripts. A changed user is disconnected.
        acl: AclWords = default(["+@all", "~*", "&*"]), Reloads;
    }
}

section! {
    /// What stands in `[feature_flags]` besides the flags.
    pub struct FlagSettings {
        /// Instances that may jump between secondary_only and primary_only, which is refused otherwise: a cold store would
        /// be served, or every write since would be lost. `multistore feature set --force` writes it; remove it after.
        allow_stage_jump: Words = default([]), Reloads;
    }
}

/// Every table with fixed keys, under the name that messages and the manual use.
pub const SECTIONS: [(&str, &[KeyInfo]); 8] = [
    ("admin", AdminConfig::KEYS),
    ("log", LogConfig::KEYS),
    ("process", ProcessConfig::KEYS),
    ("instances.NAME", InstanceConfig::KEYS),
    ("instances.NAME.primary", StoreTable::KEYS),
    ("instances.NAME.tls", TlsTable::KEYS),
    ("instances.NAME.users.USER", UserTable::KEYS),
    ("feature_flags", FlagSettings::KEYS),
];

/// The table that `key` belongs to, if exactly one has it.
pub fn home_of(key: &str) -> Option<&'static str> {
    let mut homes = SECTIONS.iter().filter(|(_, keys)| keys.iter().any(|info| info.name == key));
    match (homes.next(), homes.next()) {
        (Some((home, _)), None) => Some(home),
        _ => None,
    }
}

// === impl InstanceConfig ===

impl InstanceConfig {
    /// One of the two stores.
    pub fn store(&self, id: StoreId) -> &StoreConfig {
        match id {
            StoreId::Primary => &self.primary,
            StoreId::Secondary => &self.secondary,
        }
    }

    /// Where one URL names a database, the instance shows one of the other store, too.
    pub fn shows_one_database(&self) -> bool {
        StoreId::ALL.iter().any(|id| self.store(*id).database.is_some())
    }

    /// The database of a store that the instance shows; none: all of them.
    pub fn shown_database(&self, id: StoreId) -> Option<u32> {
        self.store(id).database.or(self.shows_one_database().then_some(0))
    }
}
