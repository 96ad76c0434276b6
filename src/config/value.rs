//! How one value of the file becomes a Rust value.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml_edit::{Item, Value};

use super::address::{HostPort, Listen};
use super::reader::Reader;
use super::secret::Secret;
use super::units::{ByteSize, parse_duration, parse_size};

/// A type that a key may have.
pub trait Setting: Sized {
    /// The kind of value, as the manual names it.
    const KIND: &'static str;

    /// The value, or what is wrong with it and what to write instead.
    fn parse(item: &Item) -> Result<Self, String>;

    /// The value, with everything wrong reported to `reader`.
    fn read(item: &Item, section: &str, key: &str, reader: &mut Reader) -> Option<Self> {
        match Self::parse(item) {
            Ok(value) => Some(value),
            Err(problem) => {
                reader.error(item.span(), format!("'{key}' in [{section}]: {problem}"));
                None
            }
        }
    }

    /// The value of an optional key that is not there; `None` makes the key required.
    fn absent() -> Option<Self> {
        None
    }

    /// The size of the value, for a key with a range.
    fn magnitude(&self) -> Option<u128> {
        None
    }
}

/// The text of a string item.
pub fn text<'a>(item: &'a Item, instead: &str) -> Result<&'a str, String> {
    item.as_str().ok_or_else(|| wrong_type(item, instead))
}

fn wrong_type(item: &Item, instead: &str) -> String {
    let found = item.type_name();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("this is {article} {found}; write {instead}")
}

impl Setting for bool {
    const KIND: &'static str = "switch";

    fn parse(item: &Item) -> Result<Self, String> {
        item.as_bool().ok_or_else(|| wrong_type(item, "true or false, without quotes"))
    }
}

impl Setting for usize {
    const KIND: &'static str = "count";

    fn parse(item: &Item) -> Result<Self, String> {
        let number = item.as_integer().ok_or_else(|| wrong_type(item, "a whole number, without quotes"))?;
        usize::try_from(number).map_err(|_| format!("{number} is negative; write a whole number"))
    }

    fn magnitude(&self) -> Option<u128> {
        Some(*self as u128)
    }
}

impl Setting for Duration {
    const KIND: &'static str = "duration";

    fn parse(item: &Item) -> Result<Self, String> {
        if let Some(number) = item.as_integer() {
            return Err(format!(r#"{number} has no unit; write "{number}s" or "{number}ms""#));
        }
        parse_duration(text(item, r#"a duration such as "250ms" or "5s""#)?)
    }

    fn magnitude(&self) -> Option<u128> {
        Some(self.as_nanos())
    }
}

impl Setting for ByteSize {
    const KIND: &'static str = "size";

    fn parse(item: &Item) -> Result<Self, String> {
        if let Some(number) = item.as_integer() {
            return Err(format!(r#"{number} has no unit; write "{number}b", "{number}kb" or "{number}mb""#));
        }
        parse_size(text(item, r#"a size such as "64kb" or "1gb""#)?)
    }

    fn magnitude(&self) -> Option<u128> {
        Some(self.bytes() as u128)
    }
}

impl Setting for Listen {
    const KIND: &'static str = "address";

    fn parse(item: &Item) -> Result<Self, String> {
        Listen::parse(text(item, r#""127.0.0.1:6380" or "unix:///path""#)?)
    }
}

impl Setting for HostPort {
    const KIND: &'static str = "address";

    fn parse(item: &Item) -> Result<Self, String> {
        HostPort::parse_admin(text(item, r#""127.0.0.1:9180""#)?)
    }
}

impl Setting for String {
    const KIND: &'static str = "text";

    fn parse(item: &Item) -> Result<Self, String> {
        non_empty(text(item, "a text in quotes")?)
    }
}

impl Setting for Secret {
    const KIND: &'static str = "text";

    fn parse(item: &Item) -> Result<Self, String> {
        non_empty(text(item, "the password in quotes")?).map(Secret::new)
    }
}

impl Setting for PathBuf {
    const KIND: &'static str = "path";

    fn parse(item: &Item) -> Result<Self, String> {
        non_empty(text(item, "a path in quotes")?).map(PathBuf::from)
    }
}

fn non_empty(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("this is empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: &'static str = T::KIND;

    fn parse(item: &Item) -> Result<Self, String> {
        T::parse(item).map(Some)
    }

    fn read(item: &Item, section: &str, key: &str, reader: &mut Reader) -> Option<Self> {
        T::read(item, section, key, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// The permissions of a socket file, written in octal: `"0660"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Setting for FileMode {
    const KIND: &'static str = "octal mode";

    fn parse(item: &Item) -> Result<Self, String> {
        let instead = r#"an octal mode in quotes, such as "0660""#;
        let text = text(item, instead)?;
        let octal = matches!(text.len(), 3..=4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o777 => Ok(FileMode(mode)),
            _ => Err(format!("{text:?} is not a mode; write {instead}")),
        }
    }
}

/// A set of words: command names, instance names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(BTreeSet<String>);

/// The longest word.
const MAX_WORD: usize = 128;

// === impl Words ===

impl Words {
    /// Is `word`, in lower case, one of them?
    pub fn contains(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Setting for Words {
    const KIND: &'static str = "list";

    fn parse(item: &Item) -> Result<Self, String> {
        let instead = r#"a list such as ["shutdown", "cluster|reset"]"#;
        let array = item.as_array().ok_or_else(|| wrong_type(item, instead))?;
        array.iter().map(word).collect::<Result<_, _>>().map(Words)
    }
}

fn word(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("a list of texts holds {value}; write it in quotes"))?;
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '|');
    match !text.is_empty() && text.len() <= MAX_WORD && text.chars().all(valid) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("{text:?} is not a name; write 'command' or 'command|subcommand'")),
    }
}

/// A type whose values are a few words.
macro_rules! choice {
    ($(#[doc = $about:literal])+ pub enum $Name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name { $($(#[doc = $doc])+ $variant,)+ }

        impl $Name {
            /// The word in `proxy.toml`.
            pub fn name(self) -> &'static str {
                match self { $($Name::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Setting for $Name {
            const KIND: &'static str = concat!("one of" $(, " ", $word)+);

            fn parse(item: &Item) -> Result<Self, String> {
                let words = [$($word),+];
                let instead = words.map(|word| format!("{word:?}")).join(" or ");
                match text(item, &instead)? {
                    $($word => Ok($Name::$variant),)+
                    other => Err(format!("{other:?} is unknown; write {instead}")),
                }
            }
        }
    };
}

choice! {
    /// How reads are answered while dual.
    pub enum Reads {
        /// The primary first; on a miss or an error the secondary.
        Fallback = "fallback",
        /// The default store alone.
        Default = "default",
        /// Both stores, compared; the default store's reply.
        Compare = "compare",
    }
}

choice! {
    /// Whose answer a writing client waits for.
    pub enum Ack {
        /// The default store's.
        Default = "default",
        /// Both stores'.
        Both = "both",
    }
}

choice! {
    /// Who checks the passwords of clients.
    pub enum Auth {
        /// Nobody.
        None = "none",
        /// The default store.
        Passthrough = "passthrough",
        /// The proxy.
        Users = "users",
    }
}

choice! {
    /// What happens when the other store lags too far behind.
    pub enum OnLag {
        /// Its queued keys are given up and repaired later.
        Repair = "repair",
        /// Clients are slowed down.
        Block = "block",
    }
}

choice! {
    /// What a start without a state file believes about the data on the primary.
    pub enum PrimaryContent {
        /// It may be served.
        Trusted = "trusted",
        /// It is behind until verified.
        Untrusted = "untrusted",
    }
}

choice! {
    /// Who must show a certificate to a listener.
    pub enum ClientCert {
        /// Nobody.
        None = "none",
        /// Nobody; but a certificate that is shown must be valid.
        Optional = "optional",
        /// Every client.
        Required = "required",
    }
}

choice! {
    /// The oldest version of TLS that is spoken.
    pub enum TlsVersion {
        /// TLS 1.2 and later.
        V12 = "1.2",
        /// TLS 1.3 alone.
        V13 = "1.3",
    }
}

choice! {
    /// How log lines look.
    pub enum LogFormat {
        /// For people.
        Human = "human",
        /// One JSON object per line.
        Json = "json",
    }
}

choice! {
    /// The least important lines that are logged.
    pub enum LogLevel {
        /// Only errors.
        Error = "error",
        /// And warnings.
        Warn = "warn",
        /// And what an operator wants to know.
        Info = "info",
        /// And what a developer wants to know.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: Setting>(toml: &str) -> Result<T, String> {
        T::parse(&Item::Value(toml.parse::<Value>().unwrap()))
    }

    #[test]
    fn wrong_types_say_what_to_write() {
        for (message, part) in [
            (parse::<bool>("\"true\"").unwrap_err(), "without quotes"),
            (parse::<usize>("\"5\"").unwrap_err(), "this is a string"),
            (parse::<usize>("-5").unwrap_err(), "negative"),
            (parse::<usize>("1.5").unwrap_err(), "this is a float"),
            (parse::<Duration>("5").unwrap_err(), r#"write "5s" or "5ms""#),
            (parse::<Duration>("[]").unwrap_err(), "this is an array"),
            (parse::<ByteSize>("64").unwrap_err(), r#""64kb""#),
            (parse::<Reads>("\"both\"").unwrap_err(), r#"write "fallback" or "default" or "compare""#),
            (parse::<FileMode>("\"9\"").unwrap_err(), "0660"),
            (parse::<FileMode>("\"1777\"").unwrap_err(), "0660"),
            (parse::<Words>("[1]").unwrap_err(), "in quotes"),
            (parse::<Words>("[\"a b\"]").unwrap_err(), "not a name"),
            (parse::<String>("\"\"").unwrap_err(), "empty"),
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn words_are_lower_case() {
        let words: Words = parse("[\"SHUTDOWN\", \"Cluster|Reset\"]").unwrap();
        assert!(words.contains("shutdown") && words.contains("cluster|reset"));
        assert_eq!(words.iter().count(), 2);
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse::<FileMode>("\"0660\""), Ok(FileMode(0o660)));
        assert_eq!(parse::<FileMode>("\"777\""), Ok(FileMode(0o777)));
    }
}
