//! `proxy.toml`, the manual, rendered from the schema.

use std::fmt::Write;

use toml_edit::Value;

use crate::stage::{primary_default_flag, use_both_flag};

use super::schema::{
    AdminConfig, FlagSettings, InstanceConfig, LogConfig, ProcessConfig, StoreTable, TlsTable, UserTable,
};
use super::section::{KeyInfo, Presence, Reload, Section, TABLE};

/// The instance of the manual.
const INSTANCE: &str = "duplicate_jobs";
/// Where the remarks behind the settings start.
const REMARK_COLUMN: usize = 45;
/// Longer settings are broken.
const MAX_LINE: usize = 90;

const INTRO: &str = "\
# multistore: the configuration and its manual.
#
# Every key stands here. A line like #key = value shows a default (an example, where there is \"no default\"):
# remove the # to change it.
# Behind each key: the kind of its value, its least and greatest value, and
#   reloads   a change takes effect at once: the file is watched, and SIGHUP asks for a look
#   restart   a change is named in the log and waits for the next start
# A changed file is taken over as a whole, or, if anything in it is wrong, not at all.
# `multistore check` judges a file; what is wrong is told with line, column and what to write instead.
#
# duration   a whole number and us, ms, s, m, h or d: \"250ms\"
# size       a whole number and b, kb, mb or gb, steps of 1024: \"64kb\"
# switch     true or false
";

const INSTANCES: &str = "\
# One section per pair of stores, as many as needed. NAME is made of a-z, 0-9 and _ (64 at most) and is
# the instance_name of the metrics. Primary is the store to move to, secondary the one in use today; the
# default store is the one whose replies clients get. Sections may be added or removed with a restart.
";

const STORE_TABLES: &str = "\
# Instead of `primary = \"...\"` or `secondary = \"...\"`, a section of its own keeps a password out of this file:
";

const TLS: &str = "\
# Clients speak TLS where this section stands (rediss://127.0.0.1:6380):
";

const USERS: &str = "\
# With auth = \"users\": a section for each of them. The user `default` is the one of AUTH without a name.
";

const FLAGS: &str = "\
# Two flags per instance; both are off where they are not written. The way of a rollout:
#
#   stage                     both stores   primary default
#   secondary_only            false         false
#   dual_secondary_default    true          false
#   dual_primary_default      true          true
#   primary_only              false         true
#
# One stage at a time, in either direction. `multistore feature set NAME true|false` edits them here and refuses jumps.
# All flags reload.
";

/// Titles, each in front of a key of `[instances.NAME]`.
const GROUPS: [(&str, &str); 7] = [
    ("reads", "What is answered and mirrored"),
    ("connect_timeout", "Times"),
    ("lag_max", "Queues and connections of the stores"),
    ("compare_max_bytes", "Comparison"),
    ("max_clients", "Clients"),
    ("max_request", "Limits of the protocol"),
    ("refuse", "Refused commands"),
];

/// The whole file.
pub fn render() -> String {
    let mut out = String::from(INTRO);
    for (name, keys) in
        [("admin", AdminConfig::KEYS), ("log", LogConfig::KEYS), ("process", ProcessConfig::KEYS)]
    {
        out.push('\n');
        section(&mut out, name, keys);
    }
    out.push('\n');
    out.push_str(INSTANCES);
    section(&mut out, &format!("instances.{INSTANCE}"), InstanceConfig::KEYS);
    out.push('\n');
    out.push_str(STORE_TABLES);
    section(&mut out, &format!("instances.{INSTANCE}.primary"), StoreTable::KEYS);
    out.push('\n');
    out.push_str(TLS);
    section(&mut out, &format!("instances.{INSTANCE}.tls"), TlsTable::KEYS);
    out.push('\n');
    out.push_str(USERS);
    section(&mut out, &format!("instances.{INSTANCE}.users.app"), UserTable::KEYS);
    out.push('\n');
    out.push_str(FLAGS);
    section(&mut out, "feature_flags", FlagSettings::KEYS);
    for flag in [use_both_flag(INSTANCE), primary_default_flag(INSTANCE)] {
        push(&mut out, &format!("{flag} = false"));
    }
    out
}

fn section(out: &mut String, name: &str, keys: &[KeyInfo]) {
    let table_form = name.matches('.').count() > 1;
    push(out, &format!("{}[{name}]", if table_form { "#" } else { "" }));
    // A key that is a section has its own place below.
    for (index, key) in keys.iter().filter(|key| key.kind != TABLE).enumerate() {
        if let Some((_, title)) = GROUPS.iter().find(|(first, _)| *first == key.name) {
            push(out, &format!("\n# --- {title} ---"));
        }
        if index > 0 {
            out.push('\n');
        }
        for line in key.doc {
            push(out, &format!("#{line}"));
        }
        // The smallest configuration is what is left when the manual is stripped of its comments.
        let written = !table_form
            && (key.presence == Presence::Required || (name == "admin" && key.presence == Presence::Default));
        setting(out, key, if written { "" } else { "#" });
    }
    if name == "feature_flags" {
        out.push('\n');
    }
}

fn setting(out: &mut String, key: &KeyInfo, comment: &str) {
    let line = format!("{comment}{} = {}", key.name, key.literal);
    let broken = key.literal.parse::<Value>().ok().filter(|_| line.len() > MAX_LINE);
    let last = match broken.as_ref().and_then(Value::as_array) {
        Some(words) => {
            push(out, &format!("{comment}{} = [", key.name));
            let words: Vec<String> = words.iter().map(|word| word.to_string().trim().to_owned()).collect();
            for row in words.chunks(4) {
                push(out, &format!("{comment}{},", row.join(", ")));
            }
            format!("{comment}]")
        }
        None => line,
    };
    push(out, &format!("{last:<REMARK_COLUMN$} # {}", remark(key)));
}

fn remark(key: &KeyInfo) -> String {
    let mut remark = key.kind.to_owned();
    if let Some((low, high)) = key.range {
        // Writing to a string can't fail.
        let _ = write!(remark, ", {low} to {high}");
    }
    match key.presence {
        Presence::Default => {}
        Presence::Optional => remark.push_str("; no default"),
        Presence::Required => remark.push_str("; required"),
    }
    remark.push_str(match key.reload {
        Reload::Reloads => "; reloads",
        Reload::Restart => "; restart",
    });
    remark
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::schema::SECTIONS;
    use super::*;

    const SHIPPED: &str = include_str!("../../proxy.toml");

    /// The manual with every default written out.
    fn uncommented() -> String {
        let mut in_store_table = false;
        let lines = SHIPPED.lines().map(|line| {
            if line.starts_with("#[") || line.starts_with('[') {
                in_store_table = line.starts_with("#[");
            }
            let setting =
                line.strip_prefix('#').filter(|rest| !in_store_table && !rest.starts_with([' ', '#']));
            setting.filter(|rest| !rest.contains("no default")).unwrap_or(line)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_file_is_the_rendered_manual() {
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml"), render()).unwrap();
        } else {
            assert!(SHIPPED == render(), "the schema changed; run: BLESS=1 cargo test --lib config::manual");
        }
    }

    #[test]
    fn it_parses_as_shipped_without_a_warning() {
        let loaded = Config::from_toml("proxy.toml", SHIPPED).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.warnings, []);
        assert_eq!(loaded.config.instances.keys().collect::<Vec<_>>(), [INSTANCE]);
        assert_eq!(loaded.config.instances[INSTANCE].listen.to_string(), "127.0.0.1:6380");
        assert_eq!(loaded.config.admin.listen.to_string(), "127.0.0.1:9180");
    }

    #[test]
    fn the_defaults_it_states_are_those_of_the_code() {
        let text = uncommented();
        assert!(text.contains("\nreads = ") && text.contains("\nrefuse = ["), "{text}");
        let stated = Config::from_toml("proxy.toml", &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(stated.config, Config::from_toml("proxy.toml", SHIPPED).unwrap().config);
    }

    #[test]
    fn every_key_is_mentioned_once_per_section() {
        for (section, keys) in SECTIONS {
            for key in keys.iter().filter(|key| key.kind != TABLE) {
                let mentioned = SHIPPED.lines().filter(|line| {
                    let line = line.trim_start_matches('#');
                    line.strip_prefix(key.name).is_some_and(|rest| rest.starts_with(" = "))
                });
                let sections =
                    SECTIONS.iter().filter(|(_, keys)| keys.iter().any(|other| other.name == key.name));
                assert_eq!(mentioned.count(), sections.count(), "{section}.{}", key.name);
            }
        }
        assert!(GROUPS.iter().all(|(key, _)| InstanceConfig::KEYS.iter().any(|info| info.name == *key)));
    }
}
