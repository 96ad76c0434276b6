//! The shape of the schema: one table of the file is one struct, one key is one field.

use std::ops::Range;

use toml_edit::TableLike;

use super::reader::Reader;

/// What the schema knows about a key, besides its type.
#[derive(Clone, Copy, Debug)]
pub struct KeyInfo {
    /// The key.
    pub name: &'static str,
    /// What it does, for the operator; a line each.
    pub doc: &'static [&'static str],
    /// May it be left out?
    pub presence: Presence,
    /// The default as written in the file; an example where there is none.
    pub literal: &'static str,
    /// The least and the greatest value.
    pub range: Option<(&'static str, &'static str)>,
    /// What kind of value it has.
    pub kind: &'static str,
    /// Does a changed value take effect in the running process?
    pub reload: Reload,
}

/// The kind of a key that is a table of its own.
pub const TABLE: &str = "section";

/// May a key be left out?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Yes: it has a default.
    Default,
    /// Yes, and then there is no value.
    Optional,
    /// No.
    Required,
}

/// When does a changed value take effect?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// At once.
    Reloads,
    /// At the next start.
    Restart,
}

/// One table of the file.
pub trait Section: Sized {
    /// Its keys, in the order of the manual.
    const KEYS: &'static [KeyInfo];

    /// Reads the known keys; `None` when something is wrong, which is reported.
    fn read_known(table: &dyn TableLike, section: &str, reader: &mut Reader) -> Option<Self>;

    /// The restart-only keys whose values differ.
    fn restart_only_changes(&self, new: &Self) -> Vec<&'static str>;

    /// Takes the restart-only values of `running`.
    fn keep_restart_only(&mut self, running: &Self);

    /// Reads the table; unknown and missing keys are errors.
    fn read(
        table: &dyn TableLike,
        span: Option<Range<usize>>,
        section: &str,
        reader: &mut Reader,
    ) -> Option<Self> {
        reader.unknown(table, section, Self::KEYS, &super::schema::home_of);
        reader.missing(table, span, section, Self::KEYS);
        Self::read_known(table, section, reader)
    }
}

/// Declares a table: `key: Type = default(value) from low to high, Reloads;`, or `optional(example)`, `required(example)`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $Name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident : $ty:ty = $presence:ident($($literal:tt)+) $(from $low:literal to $high:literal)?, $reload:ident;
            )+
        }
    ) => {
        $(#[doc = $about])+
        // The text is the manual's: its brackets are those of addresses and tables.
        #[allow(rustdoc::broken_intra_doc_links)]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $($(#[doc = $doc])+ pub $key: $ty,)+
        }

        impl $crate::config::section::Section for $Name {
            const KEYS: &'static [$crate::config::section::KeyInfo] = &[$($crate::config::section::KeyInfo {
                name: stringify!($key),
                doc: &[$($doc),+],
                presence: $crate::config::section::section!(@presence $presence),
                literal: stringify!($($literal)+),
                range: $crate::config::section::section!(@range $($low $high)?),
                kind: <$ty as $crate::config::value::Setting>::KIND,
                reload: $crate::config::section::Reload::$reload,
            },)+];

            fn read_known(
                table: &dyn toml_edit::TableLike,
                section: &str,
                reader: &mut $crate::config::reader::Reader,
            ) -> Option<Self> {
                let mut keys = Self::KEYS.iter();
                $(let $key = keys.next().and_then(|key| reader.field::<$ty>(table, section, key));)+
                Some($Name { $($key: $key?,)+ })
            }

            fn restart_only_changes(&self, new: &Self) -> Vec<&'static str> {
                let differs = [$(self.$key != new.$key),+];
                Self::KEYS
                    .iter()
                    .zip(differs)
                    .filter(|(key, differs)| *differs && key.reload == $crate::config::section::Reload::Restart)
                    .map(|(key, _)| key.name)
                    .collect()
            }

            fn keep_restart_only(&mut self, running: &Self) {
                $(if $crate::config::section::Reload::$reload == $crate::config::section::Reload::Restart {
                    self.$key.clone_from(&running.$key);
                })+
            }
        }
    };
    (@presence default) => { $crate::config::section::Presence::Default };
    (@presence optional) => { $crate::config::section::Presence::Optional };
    (@presence required) => { $crate::config::section::Presence::Required };
    (@range $low:literal $high:literal) => { Some((stringify!($low), stringify!($high))) };
    (@range) => { None };
}

pub(crate) use section;
