//! From the text of a file to a validated [`Config`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml_edit::{Document, Item, Table, TableLike};

use super::address::HostPort;
use super::admin_token;
use super::diagnostic::{Diagnostic, LoadError};
use super::reader::{Environment, Reader, key_span, parse_literal};
use super::schema::{AdminConfig, InstanceConfig, LogConfig, ProcessConfig, home_of};
use super::section::Section;
use super::suggest::did_you_mean;
use super::{Config, flags, validate};

/// The largest configuration file.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// The longest name of an instance.
pub const MAX_INSTANCE_NAME: usize = 64;

const TABLES: [&str; 5] = ["admin", "log", "process", "instances", "feature_flags"];

/// A configuration and what the operator should look at.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Findings that don't refuse it.
    pub warnings: Vec<Diagnostic>,
}

/// Loads and validates a file.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let (text, mode) = read_text(path).map_err(|problem| LoadError::whole(path, problem))?;
    parse(path, &text, Some(mode), &|name| std::env::var(name).ok())
}

/// The admin address in a file that need not be valid otherwise: a running proxy goes on with its last valid one.
pub fn admin_listen(path: &Path) -> Result<HostPort, LoadError> {
    let (text, _) = read_text(path).map_err(|problem| LoadError::whole(path, problem))?;
    let written = match Document::parse(text.as_str()) {
        Ok(document) => document
            .get("admin")
            .and_then(|admin| admin.get("listen"))
            .and_then(Item::as_str)
            .map(str::to_owned),
        Err(_) => scan_admin_listen(&text),
    };
    let default =
        AdminConfig::KEYS.iter().find(|key| key.name == "listen").and_then(|key| parse_literal(key.literal));
    written
        .and_then(|written| HostPort::parse_admin(&written).ok())
        .or(default)
        .ok_or_else(|| LoadError::whole(path, "no admin address".to_owned()))
}

/// Finds `listen = "…"` under `[admin]` in a text that is not TOML as a whole.
fn scan_admin_listen(text: &str) -> Option<String> {
    let section =
        text.lines().skip_while(|line| line.split('#').next().map(str::trim) != Some("[admin]")).skip(1);
    let mut keys = section.take_while(|line| !line.trim_start().starts_with('['));
    keys.find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.split_once('"')?.0;
        (key.trim() == "listen").then(|| value.to_owned())
    })
}

/// The text of a file and its permission bits.
pub fn read_text(path: &Path) -> Result<(String, u32), String> {
    let unreadable = |error: std::io::Error| format!("cannot read the configuration: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is larger than {MAX_FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())?;
    Ok((text, metadata.permissions().mode()))
}

/// Validates `text` as the content of the file `path`, which has the permission bits `mode`.
pub fn parse(path: &Path, text: &str, mode: Option<u32>, env: Environment) -> Result<Loaded, LoadError> {
    let mut reader = Reader::new(path, text, mode, env);
    let config = match Document::parse(text) {
        Ok(document) => read_config(document.as_table(), &mut reader),
        Err(error) => {
            let hint = error.span().map_or("", |span| switch_hint(text, span.start));
            let message = error.message().trim().replace('\n', "; ");
            reader.error(error.span(), format!("not TOML: {message}{hint}"));
            None
        }
    };
    let warnings = reader.finish()?;
    match config {
        Some(config) => Ok(Loaded { config, warnings }),
        None => Err(LoadError::whole(path, "the file could not be understood".to_owned())),
    }
}

/// Other files know other words for a switch.
fn switch_hint(text: &str, at: usize) -> &'static str {
    let word: String =
        text.get(at..).unwrap_or_default().chars().take_while(char::is_ascii_alphabetic).collect();
    match word.to_ascii_lowercase().as_str() {
        "yes" | "no" | "on" | "off" | "true" | "false" => "; a flag or switch is written true or false",
        _ => "",
    }
}

fn read_config(root: &Table, reader: &mut Reader) -> Option<Config> {
    unknown_tables(root, reader);
    let admin = read_table::<AdminConfig>(root, "admin", reader)
        .and_then(|mut admin| admin_token::resolve(root, &mut admin, reader).map(|()| admin));
    let log = read_table::<LogConfig>(root, "log", reader);
    let process = read_table::<ProcessConfig>(root, "process", reader);
    let instances = read_instances(root, reader);
    let names: Vec<&str> = instances.iter().map(|(name, _)| name.as_str()).collect();
    let flags = flags::read(root, &names, reader);
    validate::all(root, admin.as_ref(), &instances, reader);

    let (flags, allow_stage_jump) = flags?;
    let instances: Option<BTreeMap<_, _>> =
        instances.into_iter().map(|(name, instance)| Some((name, instance?))).collect();
    Some(Config {
        path: reader.path.to_owned(),
        admin: admin?,
        log: log?,
        process: process?,
        instances: instances?,
        flags,
        allow_stage_jump,
    })
}

fn unknown_tables(root: &Table, reader: &mut Reader) {
    for (name, item) in root.iter().filter(|(name, _)| !TABLES.contains(name)) {
        let span = key_span(root, name, item);
        let hint = match home_of(name) {
            Some(home) => format!("; it belongs in [{home}]"),
            None => match did_you_mean(name, TABLES) {
                hint if hint.is_empty() => {
                    format!("; a file has {}", TABLES.map(|table| format!("[{table}]")).join(", "))
                }
                hint => hint,
            },
        };
        let what = if item.is_table_like() { "section" } else { "key" };
        reader.error(span, format!("unknown {what} '{name}'{hint}"));
    }
}

fn read_table<S: Section>(root: &Table, name: &str, reader: &mut Reader) -> Option<S> {
    let nothing = Table::new();
    let (table, span) = match root.get(name) {
        Some(item) => (reader.table(item, name)?, item.span()),
        None => (&nothing as &dyn TableLike, None),
    };
    S::read(table, span, name, reader)
}

/// Every instance that is written, `None` where something is wrong with it.
fn read_instances(root: &Table, reader: &mut Reader) -> Vec<(String, Option<InstanceConfig>)> {
    let Some(table) = root.get("instances").and_then(Item::as_table_like).filter(|table| !table.is_empty())
    else {
        let span = root.get("instances").and_then(Item::span);
        reader
            .error(span, "no instance; write [instances.NAME] with listen, primary and secondary".to_owned());
        return Vec::new();
    };
    let mut instances = Vec::new();
    for (name, item) in table.iter() {
        instances.push((name.to_owned(), read_instance(table, name, item, reader)));
    }
    instances
}

fn read_instance(
    parent: &dyn TableLike,
    name: &str,
    item: &Item,
    reader: &mut Reader,
) -> Option<InstanceConfig> {
    let section = format!("instances.{name}");
    let Some(table) = item.as_table_like() else {
        let hint = match InstanceConfig::KEYS.iter().any(|key| key.name == name) {
            true => "; it belongs in [instances.NAME]".to_owned(),
            false => format!("; write [{section}] on a line of its own"),
        };
        reader
            .error(key_span(parent, name, item), format!("'{name}' in [instances] is not an instance{hint}"));
        return None;
    };
    let span = item.span().or_else(|| key_span(parent, name, item));
    let named = check_name(name).map_err(|problem| reader.error(key_span(parent, name, item), problem)).ok();
    let instance = InstanceConfig::read(table, span, &section, reader);
    named.and(instance)
}

fn check_name(name: &str) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(valid) {
        return Err(format!("'{name}' can't be the name of an instance; write a-z, 0-9 and _ only"));
    }
    if name.len() > MAX_INSTANCE_NAME {
        return Err(format!(
            "'{name}' is too long for an instance; write at most {MAX_INSTANCE_NAME} characters"
        ));
    }
    Ok(())
}
