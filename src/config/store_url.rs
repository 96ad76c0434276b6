//! The address of a store: `redis://user:password@host:port/db` or `unix:///path?db=N`.
//!
//! No message of this module quotes the URL: it may hold a password.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use super::address::{HostPort, socket_path};
use super::secret::Secret;
use super::value::TlsVersion;
use crate::tls::{ClientFiles, Kept};

/// The port of a Redis server, when a URL has none.
pub const DEFAULT_REDIS_PORT: u16 = 6379;

/// The port of a sentinel, when a URL has none.
const DEFAULT_SENTINEL_PORT: u16 = 26379;
/// The most sentinels of one store.
const MAX_SENTINELS: usize = 32;

/// How to reach a store and who to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The ACL user; `None` is the store's default user.
    pub username: Option<String>,
    /// The password; `None` sends no AUTH.
    pub password: Option<Secret>,
    /// The one database that the instance shows; `None` passes all of them through.
    pub database: Option<u32>,
    /// How TLS is spoken to it; `None`: not at all.
    pub tls: Option<StoreTls>,
    /// Who to be at its sentinels; `None` sends no AUTH.
    pub sentinel: Option<SentinelUser>,
}

/// Who to be at sentinels: users and passwords of their own, not those of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelUser {
    /// The ACL user; `None` is the default user.
    pub name: Option<String>,
    /// The password.
    pub password: Secret,
}

/// How TLS is spoken to a store.
#[derive(Clone, Debug)]
pub struct StoreTls {
    /// Certificates and keys.
    pub files: ClientFiles,
    /// The name that the store's certificate must bear, and that is sent as SNI; `None`: the host of the URL.
    pub server_name: Option<String>,
    kept: Arc<Kept<ClientFiles, ClientConfig>>,
}

/// Where a store listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(HostPort),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// Whatever the sentinels say.
    Sentinel(SentinelAddress),
}

/// A master that sentinels watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SentinelAddress {
    /// The sentinels; one that answers is enough.
    pub sentinels: Vec<HostPort>,
    /// The name of the master.
    pub master: String,
}

// === impl StoreTls ===

impl StoreTls {
    /// Trusts these files.
    pub fn new(files: ClientFiles, server_name: Option<String>) -> StoreTls {
        StoreTls { files, server_name, kept: Arc::default() }
    }

    /// What a handshake needs. The files are read again when they have changed.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.kept.get(&self.files, || self.files.load())
    }
}

impl Default for StoreTls {
    /// The CAs of the system, the host's own name.
    fn default() -> StoreTls {
        StoreTls::new(ClientFiles { ca: None, identity: None, min_version: TlsVersion::V12 }, None)
    }
}

impl PartialEq for StoreTls {
    fn eq(&self, other: &StoreTls) -> bool {
        self.files == other.files && self.server_name == other.server_name
    }
}

impl Eq for StoreTls {}

// === impl StoreConfig ===

impl StoreConfig {
    /// Parses a URL.
    pub fn parse(url: &str) -> Result<StoreConfig, String> {
        match url.split_once("://") {
            Some(("redis", rest)) => parse_redis(rest),
            Some(("redis+sentinel", rest)) => parse_sentinel(rest),
            Some(("rediss+sentinel", rest)) => {
                parse_sentinel(rest).map(|store| StoreConfig { tls: Some(StoreTls::default()), ..store })
            }
            Some(("rediss", rest)) => {
                parse_redis(rest).map(|store| StoreConfig { tls: Some(StoreTls::default()), ..store })
            }
            Some(("unix" | "redis+unix", rest)) => parse_unix(rest),
            Some((scheme, _)) => Err(format!(
                "unknown scheme '{scheme}'; write 'redis://host:port', 'rediss://host:port' for TLS, \
                 'redis+sentinel://host:port,host:port/master', or 'unix:///path'"
            )),
            None => Err("this is not a URL; write 'redis://host:port' or 'unix:///path'".to_owned()),
        }
    }

    /// Same server (by name) and same database?
    pub fn same_place(&self, other: &StoreConfig) -> bool {
        self.endpoint == other.endpoint && self.database == other.database
    }
}

/// The address without user and password.
impl fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls.is_some() { "s" } else { "" };
        match (&self.endpoint, self.database) {
            (Endpoint::Tcp(address), None) => write!(f, "redis{s}://{address}"),
            (Endpoint::Tcp(address), Some(db)) => write!(f, "redis{s}://{address}/{db}"),
            (Endpoint::Sentinel(address), None) => write!(f, "redis{s}+sentinel://{address}"),
            (Endpoint::Sentinel(address), Some(db)) => write!(f, "redis{s}+sentinel://{address}/{db}"),
            (Endpoint::Unix(path), None) => write!(f, "unix://{}", path.display()),
            (Endpoint::Unix(path), Some(db)) => write!(f, "unix://{}?db={db}", path.display()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Sentinel(address) => write!(f, "sentinel://{address}"),
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn parse_redis(rest: &str) -> Result<StoreConfig, String> {
    if rest.contains(['?', '#']) {
        return Err(
            "a redis:// URL ends with its database; nothing stands after '?' or '#' (in a password, \
                    write '%3F' and '%23')"
                .to_owned(),
        );
    }
    // The last '@' ends the credentials, so that a password may hold one; the path starts behind it.
    let (credentials, place) = split_credentials(rest);
    let (address, database) = match place.split_once('/') {
        Some((address, "")) => (address, None),
        Some((address, database)) => (address, Some(parse_database(database)?)),
        None => (place, None),
    };
    let endpoint = Endpoint::Tcp(HostPort::parse(address, Some(DEFAULT_REDIS_PORT)).map_err(|message| {
        // With a stray '@' or '/' the text taken for the host may be a piece of a password.
        if credentials.is_some() { "the host or port after the '@' is not valid".to_owned() } else { message }
    })?);
    let (username, password) = parse_credentials(credentials)?;
    Ok(StoreConfig { endpoint, username, password, database, tls: None, sentinel: None })
}

impl fmt::Display for SentinelAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentinels: Vec<String> = self.sentinels.iter().map(HostPort::to_string).collect();
        write!(f, "{}/{}", sentinels.join(","), self.master)
    }
}

/// `[user:password@]host[:port][,host[:port]]/master[/db]`; user and password are those of the store.
fn parse_sentinel(rest: &str) -> Result<StoreConfig, String> {
    let form = "write 'redis+sentinel://host:port,host:port/master', with '/db' behind it if wanted";
    if rest.contains(['?', '#']) {
        return Err(format!("nothing stands after '?' or '#'; {form}"));
    }
    let (credentials, place) = split_credentials(rest);
    let (hosts, name) =
        place.split_once('/').ok_or_else(|| format!("the name of the master is missing; {form}"))?;
    let (master, database) = match name.split_once('/') {
        Some((master, database)) => (master, Some(parse_database(database)?)),
        None => (name, None),
    };
    let master = decode(master)?;
    if master.is_empty() {
        return Err(format!("the name of the master is missing; {form}"));
    }
    let hosts: Vec<&str> = hosts.split(',').collect();
    if hosts.len() > MAX_SENTINELS {
        return Err(format!("at most {MAX_SENTINELS} sentinels can be named"));
    }
    let sentinels = hosts.into_iter().map(|host| HostPort::parse(host, Some(DEFAULT_SENTINEL_PORT)));
    let sentinels = sentinels
        .collect::<Result<_, _>>()
        .map_err(|_| format!("a sentinel's address is not valid; {form}"))?;
    let endpoint = Endpoint::Sentinel(SentinelAddress { sentinels, master });
    let (username, password) = parse_credentials(credentials)?;
    Ok(StoreConfig { endpoint, username, password, database, tls: None, sentinel: None })
}

fn parse_unix(rest: &str) -> Result<StoreConfig, String> {
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (credentials, path) = split_credentials(rest);
    let path = decode(path)?;
    let database = match query.map(|query| query.strip_prefix("db=")) {
        None => None,
        Some(Some(database)) => Some(parse_database(database)?),
        Some(None) => return Err("only '?db=N' may follow the path of a unix:// URL".to_owned()),
    };
    let (username, password) = parse_credentials(credentials)?;
    let endpoint = Endpoint::Unix(socket_path(&path)?);
    Ok(StoreConfig { endpoint, username, password, database, tls: None, sentinel: None })
}

fn split_credentials(rest: &str) -> (Option<&str>, &str) {
    rest.rsplit_once('@').map_or((None, rest), |(credentials, place)| (Some(credentials), place))
}

fn parse_credentials(credentials: Option<&str>) -> Result<(Option<String>, Option<Secret>), String> {
    let Some(credentials) = credentials else { return Ok((None, None)) };
    let Some((user, password)) = credentials.split_once(':') else {
        return Err(
            "a user needs a password: write 'redis://USER:PASSWORD@host', or 'redis://:PASSWORD@host' for a \
                    password alone"
                .to_owned(),
        );
    };
    let user = decode(user)?;
    let password = decode(password)?;
    let user = (!user.is_empty()).then_some(user);
    match (user, password.is_empty()) {
        (Some(_), true) => Err("the password after the user is empty".to_owned()),
        (None, true) => Ok((None, None)),
        (user, false) => Ok((user, Some(Secret::new(password)))),
    }
}

fn parse_database(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "the database is not a number; write 'redis://host:port/2'".to_owned())
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => {
                return Err("'%' is not followed by two hexadecimal digits; write '%25' for a '%'".to_owned());
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "the decoded user, password or path is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> StoreConfig {
        StoreConfig::parse(url).unwrap_or_else(|message| panic!("{url}: {message}"))
    }

    #[test]
    fn addresses() {
        for (url, shown) in [
            ("redis://127.0.0.1:7001", "redis://127.0.0.1:7001"),
            ("redis://host", "redis://host:6379"),
            ("redis://host/", "redis://host:6379"),
            ("rediss://host/3", "rediss://host:6379/3"),
            ("redis://host/2", "redis://host:6379/2"),
            ("redis://[::1]:7001/0", "redis://[::1]:7001/0"),
            ("redis+sentinel://u:p@a,b:1/m", "redis+sentinel://a:26379,b:1/m"),
            ("rediss+sentinel://[::1]:2/my/3", "rediss+sentinel://[::1]:2/my/3"),
            ("redis://:pw@host:1/3", "redis://host:1/3"),
            ("unix:///run/r.sock", "unix:///run/r.sock"),
            ("unix:///run/r.sock?db=4", "unix:///run/r.sock?db=4"),
            ("unix://u:p@/run/r%20x.sock", "unix:///run/r x.sock"),
        ] {
            assert_eq!(parse(url).to_string(), shown);
        }
    }

    #[test]
    fn credentials() {
        let both = parse("redis://bob:p%40ss:w%3Fo%2Frd@host");
        assert_eq!(both.username.as_deref(), Some("bob"));
        assert_eq!(both.password.as_ref().map(Secret::expose), Some("p@ss:w?o/rd"));
        let alone = parse("redis://:a@b@host");
        assert_eq!((alone.username, alone.password.as_ref().map(Secret::expose)), (None, Some("a@b")));
        let unix = parse("unix://u:p@/x");
        assert_eq!(
            (unix.username.as_deref(), unix.password.as_ref().map(Secret::expose)),
            (Some("u"), Some("p"))
        );
    }

    #[test]
    fn mistakes_say_what_to_write_and_never_the_password() {
        for (url, part) in [
            ("127.0.0.1:7001", "not a URL"),
            ("http://x", "unknown scheme 'http'"),
            ("redis://", "host is missing"),
            ("redis://:hunter2@", "after the '@'"),
            ("redis://hunter2@host", "redis://:PASSWORD@host"),
            ("redis://bob:@host", "empty"),
            ("redis://:hunter2@host/x", "not a number"),
            ("redis://:hunter2@host:1/2/3", "not a number"),
            ("redis://:hunter2%4@host", "%25"),
            ("redis://:hunter2%ff@host", "not UTF-8"),
            ("redis://host?db=1", "nothing stands after"),
            ("redis+sentinel://:hunter2@a:1", "name of the master"),
            ("redis+sentinel://a:1/", "name of the master"),
            ("redis+sentinel://:hunter2@a:x/m", "not valid"),
            ("unix://run/x", "three slashes"),
            ("unix:///x?hunter2", "only '?db=N'"),
        ] {
            let message = StoreConfig::parse(url).unwrap_err();
            assert!(message.contains(part), "{url}: {message}");
            assert!(!message.contains("hunter2"), "{url}: {message}");
        }
        assert!(!format!("{:?}", parse("redis://:hunter2@host")).contains("hunter2"));
    }

    #[test]
    fn same_place_ignores_the_user() {
        assert!(parse("redis://a:b@host:1").same_place(&parse("redis://host:1")));
        assert!(!parse("redis://host:1/1").same_place(&parse("redis://host:1")));
    }
}
