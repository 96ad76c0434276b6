//! `[feature_flags]`: two flags per instance, under their full names.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{Item, Table, TableLike};

use crate::stage::{Flags, primary_default_flag, use_both_flag};

use super::reader::{Reader, key_span};
use super::schema::FlagSettings;
use super::section::Section;
use super::suggest::{did_you_mean, nearest};
use super::value::Setting;

/// Which of the two flags a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    /// Both stores are in use.
    UseBoth,
    /// The primary is the default store.
    PrimaryDefault,
}

// === impl FlagKind ===

impl FlagKind {
    /// The flag and the instance that a full name means.
    pub fn of_name(name: &str) -> Option<(FlagKind, &str)> {
        let both = use_both_flag("");
        let default = primary_default_flag("");
        let of_both = name.strip_prefix(both.as_str()).map(|instance| (FlagKind::UseBoth, instance));
        of_both.or_else(|| {
            name.strip_prefix(default.as_str()).map(|instance| (FlagKind::PrimaryDefault, instance))
        })
    }

    /// `flags` with this one set to `value`.
    pub fn set(self, flags: Flags, value: bool) -> Flags {
        match self {
            FlagKind::UseBoth => Flags { use_both: value, ..flags },
            FlagKind::PrimaryDefault => Flags { primary_default: value, ..flags },
        }
    }
}

/// The full names of all flags of `instances`.
pub fn names<'a>(instances: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    instances
        .into_iter()
        .flat_map(|instance| [use_both_flag(instance), primary_default_flag(instance)])
        .collect()
}

/// The sentence for a name that is no flag of `instances`.
pub fn unknown_flag(name: &str, instances: &[&str]) -> String {
    match FlagKind::of_name(name) {
        Some((_, instance)) => {
            let hint = match nearest(instance, instances.iter().copied()) {
                Some(meant) => {
                    format!("; did you mean '{}{meant}'?", name.strip_suffix(instance).unwrap_or(name))
                }
                None => format!("; the instances are: {}", instances.join(", ")),
            };
            format!("flag '{name}' names the unknown instance '{instance}'{hint}")
        }
        None => {
            let names = names(instances.iter().copied());
            let hint = match did_you_mean(name, names.iter().map(String::as_str)) {
                hint if hint.is_empty() => {
                    format!(
                        "; the flags of an instance are {} and {}",
                        use_both_flag("NAME"),
                        primary_default_flag("NAME")
                    )
                }
                hint => hint,
            };
            format!("unknown flag '{name}'{hint}")
        }
    }
}

/// Reads the flags of every instance, and the instances that may jump.
pub fn read(
    root: &Table,
    instances: &[&str],
    reader: &mut Reader,
) -> Option<(BTreeMap<String, Flags>, BTreeSet<String>)> {
    let nothing = Table::new();
    let table = match root.get("feature_flags") {
        Some(item) => reader.table(item, "feature_flags")?,
        None => &nothing as &dyn TableLike,
    };
    let mut flags: BTreeMap<String, Flags> =
        instances.iter().map(|name| ((*name).to_owned(), Flags::default())).collect();
    for (name, item) in
        table.iter().filter(|(name, _)| FlagSettings::KEYS.iter().all(|key| key.name != *name))
    {
        read_flag(table, name, item, instances, &mut flags, reader);
    }
    let settings = FlagSettings::read_known(table, "feature_flags", reader)?;
    let at = table.get("allow_stage_jump").and_then(Item::span);
    for name in settings.allow_stage_jump.iter().filter(|name| !instances.contains(name)) {
        let hint = did_you_mean(name, instances.iter().copied());
        reader.error(
            at.clone(),
            format!("'allow_stage_jump' in [feature_flags]: unknown instance '{name}'{hint}"),
        );
    }
    if !settings.allow_stage_jump.is_empty() {
        reader.warning(
            at,
            "allow_stage_jump lets an instance jump to a store that lacks data; remove it when done".into(),
        );
    }
    Some((flags, settings.allow_stage_jump.iter().map(str::to_owned).collect()))
}

fn read_flag(
    table: &dyn TableLike,
    name: &str,
    item: &Item,
    instances: &[&str],
    flags: &mut BTreeMap<String, Flags>,
    reader: &mut Reader,
) {
    let known = FlagKind::of_name(name).and_then(|(kind, instance)| Some((kind, flags.get_mut(instance)?)));
    let Some((kind, flags)) = known else {
        reader.error(key_span(table, name, item), unknown_flag(name, instances));
        return;
    };
    if let Some(value) = <bool as Setting>::read(item, "feature_flags", name, reader) {
        *flags = kind.set(*flags, value);
    }
}
