//! A store as a setting: a URL, or a table that keeps the password elsewhere.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml_edit::{Item, TableLike};

use super::reader::{Reader, key_span};
use super::schema::StoreTable;
use super::secret::Secret;
use super::section::Section;
use super::store_url::{Endpoint, SentinelUser, StoreConfig, StoreTls};
use super::value::{Setting, text};
use crate::tls::ClientFiles;

/// The longest password file.
const MAX_PASSWORD_FILE: u64 = 4096;
/// The permission bit that lets everybody read.
const OTHERS_READ: u32 = 0o004;

impl Setting for StoreConfig {
    const KIND: &'static str = "URL";

    fn parse(item: &Item) -> Result<Self, String> {
        StoreConfig::parse(text(item, r#"a URL such as "redis://127.0.0.1:7001""#)?)
    }

    fn read(item: &Item, section: &str, key: &str, reader: &mut Reader) -> Option<Self> {
        if let Some(table) = item.as_table_like() {
            return read_table(table, item.span(), &format!("{section}.{key}"), reader);
        }
        match StoreConfig::parse(item.as_str().unwrap_or_default()) {
            Ok(store) => {
                warn_if_readable(&store, item.span(), reader);
                Some(store)
            }
            Err(_) => {
                let problem = <Self as Setting>::parse(item).err().unwrap_or_default();
                reader.error(item.span(), format!("'{key}' in [{section}]: {problem}"));
                None
            }
        }
    }
}

fn read_table(
    table: &dyn TableLike,
    span: Option<Range<usize>>,
    section: &str,
    reader: &mut Reader,
) -> Option<StoreConfig> {
    let written = StoreTable::read(table, span, section, reader)?;
    let at = |key: &str| table.get(key).and_then(|item| key_span(table, key, item));
    let mut store = match StoreConfig::parse(&written.url) {
        Ok(store) => store,
        Err(problem) => {
            reader.error(at("url"), format!("'url' in [{section}]: {problem}"));
            return None;
        }
    };
    warn_if_readable(&store, at("url"), reader);
    check_sources(&written, &store, at("url"), section, reader)?;
    if written.password.is_some() {
        warn_world_readable_config(at("password"), reader);
    }
    store.tls = read_tls(&written, store.tls, &at, section, reader)?;
    store.sentinel = read_sentinel(&written, &store.endpoint, &at, section, reader)?;
    let password = match (&written.password_file, &written.password_env) {
        (Some(path), _) => {
            Some(password_from_file(path, "password_file", at("password_file"), section, reader)?)
        }
        (None, Some(name)) => {
            Some(password_from_env(name, "password_env", at("password_env"), section, reader)?)
        }
        (None, None) => written.password,
    };
    store.username = written.username.or(store.username);
    store.password = password.or(store.password);
    if store.username.is_some() && store.password.is_none() {
        reader.error(
            at("username"),
            format!("'username' in [{section}] needs a password, password_file or password_env"),
        );
        return None;
    }
    Some(store)
}

/// The user and the password of the sentinels, which the URL must name.
fn read_sentinel(
    written: &StoreTable,
    endpoint: &Endpoint,
    at: &dyn Fn(&str) -> Option<Range<usize>>,
    section: &str,
    reader: &mut Reader,
) -> Option<Option<SentinelUser>> {
    const KEYS: [&str; 4] =
        ["sentinel_username", "sentinel_password", "sentinel_password_file", "sentinel_password_env"];
    let given: Vec<&str> = KEYS.into_iter().filter(|key| at(key).is_some()).collect();
    let [first, rest @ ..] = given.as_slice() else { return Some(None) };
    let problem = match (endpoint, *first, rest) {
        (Endpoint::Tcp(_) | Endpoint::Unix(_), ..) => "has no effect: the URL names no sentinels",
        (_, "sentinel_username", []) => {
            "needs sentinel_password, sentinel_password_file or sentinel_password_env"
        }
        (_, "sentinel_username", [_]) | (_, _, []) => "",
        _ => "is one of several passwords of the sentinels; write it once",
    };
    if !problem.is_empty() {
        reader.error(at(first), format!("'{first}' in [{section}] {problem}"));
        return None;
    }
    let password = match (&written.sentinel_password_file, &written.sentinel_password_env) {
        (Some(path), _) => {
            let key = "sentinel_password_file";
            password_from_file(path, key, at(key), section, reader)?
        }
        (None, Some(name)) => {
            let key = "sentinel_password_env";
            password_from_env(name, key, at(key), section, reader)?
        }
        (None, None) => {
            warn_world_readable_config(at("sentinel_password"), reader);
            written.sentinel_password.clone()?
        }
    };
    Some(Some(SentinelUser { name: written.sentinel_username.clone(), password }))
}

/// The settings of TLS, which the URL must ask for. The files are read at once: a wrong one is an error of the file.
fn read_tls(
    written: &StoreTable,
    wanted: Option<StoreTls>,
    at: &dyn Fn(&str) -> Option<Range<usize>>,
    section: &str,
    reader: &mut Reader,
) -> Option<Option<StoreTls>> {
    let StoreTable { tls_ca, tls_server_name, tls_cert, tls_key, tls_min_version, .. } = written;
    if wanted.is_none() {
        let without = ["tls_ca", "tls_server_name", "tls_cert", "tls_key", "tls_min_version"];
        if let Some(key) = without.into_iter().find(|key| at(key).is_some()) {
            reader.error(at(key), format!("'{key}' in [{section}] needs TLS; write the URL with rediss://"));
            return None;
        }
        return Some(None);
    }
    let home = reader.path.parent().unwrap_or(Path::new(""));
    let identity = match (tls_cert, tls_key) {
        (Some(cert), Some(key)) => Some((home.join(cert), home.join(key))),
        (None, None) => None,
        _ => {
            let key = if tls_cert.is_some() { "tls_cert" } else { "tls_key" };
            reader.error(at(key), format!("[{section}]: tls_cert and tls_key belong together"));
            return None;
        }
    };
    let ca = tls_ca.as_ref().map(|path| home.join(path));
    let files = ClientFiles { ca, identity, min_version: *tls_min_version };
    if let Err(problem) = files.load() {
        let key = ["tls_ca", "tls_cert", "url"].into_iter().find(|key| at(key).is_some());
        reader.error(key.and_then(at), format!("TLS of [{section}]: {problem}"));
        return None;
    }
    Some(Some(StoreTls::new(files, tls_server_name.clone())))
}

/// A user or password that is given twice would leave it open which one counts.
fn check_sources(
    written: &StoreTable,
    store: &StoreConfig,
    at: Option<Range<usize>>,
    section: &str,
    reader: &mut Reader,
) -> Option<()> {
    let passwords = [
        store.password.is_some(),
        written.password.is_some(),
        written.password_file.is_some(),
        written.password_env.is_some(),
    ];
    if passwords.into_iter().filter(|given| *given).count() > 1 {
        reader.error(
            at,
            format!("[{section}] has several passwords; write it once: in the URL, password, password_file or password_env"),
        );
        return None;
    }
    if store.username.is_some() && written.username.is_some() {
        reader.error(at, format!("[{section}] has two users; write it once: in the URL or as username"));
        return None;
    }
    Some(())
}

/// Reads a password from a file.
pub fn password_from_file(
    path: &Path,
    key: &str,
    at: Option<Range<usize>>,
    section: &str,
    reader: &mut Reader,
) -> Option<Secret> {
    let path = reader.path.parent().unwrap_or(Path::new("")).join(path);
    match read_password(&path) {
        Ok((password, mode)) => {
            if mode & OTHERS_READ != 0 {
                reader.warning(at, format!("everybody may read {}; write: chmod o-r {0}", path.display()));
            }
            Some(password)
        }
        Err(problem) => {
            reader.error(at, format!("'{key}' in [{section}]: {}: {problem}", path.display()));
            None
        }
    }
}

fn read_password(path: &Path) -> Result<(Secret, u32), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.permissions().mode();
    let mut password = String::new();
    file.take(MAX_PASSWORD_FILE + 1).read_to_string(&mut password).map_err(|error| error.to_string())?;
    if password.len() as u64 > MAX_PASSWORD_FILE {
        return Err(format!("a password has at most {MAX_PASSWORD_FILE} bytes"));
    }
    match password.trim_end_matches(['\r', '\n']) {
        "" => Err("the file is empty".to_owned()),
        password => Ok((Secret::new(password), mode)),
    }
}

/// Reads a password from the environment.
pub fn password_from_env(
    name: &str,
    key: &str,
    at: Option<Range<usize>>,
    section: &str,
    reader: &mut Reader,
) -> Option<Secret> {
    let value = (reader.env)(name).filter(|value| !value.is_empty());
    if value.is_none() {
        reader.error(at, format!("'{key}' in [{section}]: the environment variable '{name}' is not set"));
    }
    value.map(Secret::new)
}

fn warn_if_readable(store: &StoreConfig, at: Option<Range<usize>>, reader: &mut Reader) {
    if store.password.is_some() {
        warn_world_readable_config(at, reader);
    }
}

/// A password stands in the configuration itself: may everybody read it?
pub fn warn_world_readable_config(at: Option<Range<usize>>, reader: &mut Reader) {
    if reader.mode.is_some_and(|mode| mode & OTHERS_READ != 0) {
        let path = reader.path.display();
        reader.warning(
            at,
            format!(
                "a password stands in a file that everybody may read; use password_file, or: chmod o-r {path}"
            ),
        );
    }
}
