//! Reads tables key by key and collects everything that is wrong with them.

use std::ops::Range;
use std::path::Path;

use toml_edit::{Item, TableLike, Value};

use super::diagnostic::{Diagnostic, LoadError, Severity};
use super::section::{KeyInfo, Presence};
use super::suggest::did_you_mean;
use super::value::Setting;

/// Looks up environment variables.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One file while it is read.
pub struct Reader<'a> {
    /// The file, as the operator named it.
    pub path: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// The permission bits of the file, when it is one.
    pub mode: Option<u32>,
    /// For `password_env`.
    pub env: Environment<'a>,
    diagnostics: Vec<Diagnostic>,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// A reader that has found nothing yet.
    pub fn new(path: &'a Path, text: &'a str, mode: Option<u32>, env: Environment<'a>) -> Reader<'a> {
        Reader { path, text, mode, env, diagnostics: Vec::new() }
    }

    /// Reports an error.
    pub fn error(&mut self, span: Option<Range<usize>>, message: String) {
        self.diagnostics.push(Diagnostic::error(self.path, self.text, span, message));
    }

    /// Reports a warning.
    pub fn warning(&mut self, span: Option<Range<usize>>, message: String) {
        let error = Diagnostic::error(self.path, self.text, span, message);
        self.diagnostics.push(Diagnostic { severity: Severity::Warning, ..error });
    }

    /// Ends the reading: the warnings, or every error.
    pub fn finish(mut self) -> Result<Vec<Diagnostic>, LoadError> {
        self.diagnostics.sort_by_key(|diagnostic| diagnostic.at);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            self.diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
        if errors.is_empty() { Ok(warnings) } else { Err(LoadError { diagnostics: errors }) }
    }

    /// The value of one key, its default where it is not written; `None` when something is wrong, which is reported.
    pub fn field<T: Setting>(&mut self, table: &dyn TableLike, section: &str, key: &KeyInfo) -> Option<T> {
        let Some(item) = table.get(key.name).filter(|item| !item.is_none()) else {
            return self.unwritten(key);
        };
        let value = T::read(item, section, key.name, self)?;
        self.check_range(item, section, key, &value)?;
        Some(value)
    }

    fn unwritten<T: Setting>(&mut self, key: &KeyInfo) -> Option<T> {
        match key.presence {
            Presence::Default => parse_literal(key.literal),
            Presence::Optional | Presence::Required => T::absent(),
        }
    }

    fn check_range<T: Setting>(
        &mut self,
        item: &Item,
        section: &str,
        key: &KeyInfo,
        value: &T,
    ) -> Option<()> {
        let Some((low, high)) = key.range else { return Some(()) };
        let bound = |literal| parse_literal::<T>(literal).and_then(|bound| bound.magnitude());
        if (bound(low)?..=bound(high)?).contains(&value.magnitude()?) {
            return Some(());
        }
        self.error(item.span(), format!("'{}' in [{section}]: write a value from {low} to {high}", key.name));
        None
    }

    /// Reports the required keys that `table` lacks, at its header.
    pub fn missing(
        &mut self,
        table: &dyn TableLike,
        span: Option<Range<usize>>,
        section: &str,
        keys: &[KeyInfo],
    ) {
        let required = keys.iter().filter(|key| matches!(key.presence, Presence::Required));
        for key in required.filter(|key| !table.contains_key(key.name)) {
            self.error(
                span.clone(),
                format!("[{section}] lacks '{}'; write {} = {}", key.name, key.name, key.literal),
            );
        }
    }

    /// Reports the keys of `table` that `keys` don't name.
    pub fn unknown(
        &mut self,
        table: &dyn TableLike,
        section: &str,
        keys: &[KeyInfo],
        home_of: &dyn Fn(&str) -> Option<&'static str>,
    ) {
        for (name, item) in table.iter().filter(|(name, _)| keys.iter().all(|key| key.name != *name)) {
            let mut hint = did_you_mean(name, keys.iter().map(|key| key.name));
            if let Some(home) = home_of(name) {
                hint = format!("; it belongs in [{home}]");
            }
            self.error(key_span(table, name, item), format!("unknown key '{name}' in [{section}]{hint}"));
        }
    }

    /// `item` as a table; anything else is reported.
    pub fn table<'t>(&mut self, item: &'t Item, name: &str) -> Option<&'t dyn TableLike> {
        let table = item.as_table_like();
        if table.is_none() {
            self.error(item.span(), format!("'{name}' is a section; write [{name}] on a line of its own"));
        }
        table
    }
}

/// Where a key stands: the key itself, or what it holds.
pub fn key_span(table: &dyn TableLike, name: &str, item: &Item) -> Option<Range<usize>> {
    table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| item.span())
}

/// A value of the schema. A test parses them all.
pub fn parse_literal<T: Setting>(literal: &str) -> Option<T> {
    literal.parse::<Value>().ok().and_then(|value| T::parse(&Item::Value(value)).ok())
}
