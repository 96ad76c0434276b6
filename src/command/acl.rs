//! What a user may do, in Redis's ACL words: `+get -@dangerous ~cached:* &news`. Pure.
//!
//! Rules about commands count from left to right, the last one that fits decides, and without one nothing is allowed.
//! Of the categories those are known that follow from what the command table knows; another one is an error, and not
//! silently nothing.

use super::{Args, CommandFlags, Keys, Kind, Spec, glob};

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    commands: Vec<Rule>,
    keys: Vec<KeyPattern>,
    channels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    All,
    Category(Category),
    /// A command with its subcommands, or one subcommand.
    Command(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    read: bool,
    write: bool,
    pattern: String,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The command is not allowed.
    Command,
    /// A key is not.
    Key,
    /// A channel is not.
    Channel,
    /// The rules of the user cannot be applied to what a script does.
    Script,
}

/// Declares the categories with their names.
macro_rules! categories {
    ($($name:ident = $word:literal,)+) => {
        /// A category of commands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Category { $(
            #[doc = $word]
            $name,
        )+ }

        impl Category {
            /// All of them.
            pub const ALL: &'static [Category] = &[$(Category::$name),+];

            /// Its name, without the `@`.
            pub fn name(self) -> &'static str {
                match self { $(Category::$name => $word,)+ }
            }
        }
    };
}

categories! {
    Read = "read",
    Write = "write",
    Admin = "admin",
    Dangerous = "dangerous",
    Fast = "fast",
    Slow = "slow",
    Blocking = "blocking",
    PubSub = "pubsub",
    Transaction = "transaction",
}

/// For administrators, although the flag does not say so.
const ADMIN: [&str; 2] = ["role", "lastsave"];
/// Dangerous beside what is for administrators.
const DANGEROUS: [&str; 10] = [
    "flushall",
    "flushdb",
    "info",
    "keys",
    "restore",
    "restore-asking",
    "migrate",
    "sort",
    "sort_ro",
    "swapdb",
];

// === impl Category ===

impl Category {
    /// Does a command belong to it?
    pub fn has(self, spec: &Spec) -> bool {
        let flag = |flag| spec.flags.has(flag);
        match self {
            Category::Read => flag(CommandFlags::READONLY) && !matches!(spec.kind, Kind::ScriptRead),
            Category::Write => flag(CommandFlags::WRITE),
            Category::Admin => flag(CommandFlags::ADMIN) || ADMIN.contains(&&*spec.name),
            Category::Dangerous => Category::Admin.has(spec) || DANGEROUS.contains(&&*spec.name),
            Category::Fast => flag(CommandFlags::FAST),
            Category::Slow => !flag(CommandFlags::FAST),
            Category::Blocking => flag(CommandFlags::BLOCKING),
            Category::PubSub => flag(CommandFlags::PUBSUB),
            Category::Transaction => spec.kind == Kind::Transaction,
        }
    }
}

// === impl Acl ===

impl Acl {
    /// Reads words, or says which one is wrong and what to write instead.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Acl, String> {
        let mut acl = Acl::default();
        for word in words {
            acl.add(word)?;
        }
        Ok(acl)
    }

    fn add(&mut self, word: &str) -> Result<(), String> {
        let all = |allow| Rule { allow, what: What::All };
        match word {
            "allcommands" => self.commands.push(all(true)),
            "nocommands" => self.commands.push(all(false)),
            "allkeys" => return self.add("~*"),
            "allchannels" => return self.add("&*"),
            _ => match word.split_at_checked(1) {
                Some(("+", what)) => self.commands.push(Rule { allow: true, what: What::parse(what)? }),
                Some(("-", what)) => self.commands.push(Rule { allow: false, what: What::parse(what)? }),
                Some(("~", pattern)) => self.keys.push(key_pattern(true, true, pattern)?),
                Some(("%", rest)) => match rest.split_once('~') {
                    Some(("R" | "r", pattern)) => self.keys.push(key_pattern(true, false, pattern)?),
                    Some(("W" | "w", pattern)) => self.keys.push(key_pattern(false, true, pattern)?),
                    Some(("RW" | "rw" | "WR" | "wr", pattern)) => {
                        self.keys.push(key_pattern(true, true, pattern)?);
                    }
                    _ => return Err(format!("'{word}' is no ACL word; write '%R~pattern' or '%W~pattern'")),
                },
                Some(("&", pattern)) if !pattern.is_empty() => self.channels.push(pattern.to_owned()),
                _ => {
                    return Err(format!(
                        "'{word}' is no ACL word that is known here; write +command, -command, +@category, \
                         ~key-pattern, %R~key-pattern or &channel-pattern"
                    ));
                }
            },
        }
        Ok(())
    }

    /// Is everything allowed?
    pub fn allows_everything(&self) -> bool {
        let every = |pattern: &str| pattern == "*";
        self.commands.last().is_some_and(|rule| rule.allow && rule.what == What::All)
            && self.keys.iter().any(|key| key.read && key.write && every(&key.pattern))
            && self.channels.iter().any(|channel| every(channel))
    }

    /// Why a request is denied, if it is. `keys`: those of its arguments; `None`: they cannot be told.
    pub fn denies<A: Args + ?Sized>(&self, spec: &Spec, args: &A, keys: Option<&Keys>) -> Option<Denied> {
        if self.allows_everything() {
            return None;
        }
        if !self.allows_command(spec) {
            return Some(Denied::Command);
        }
        if matches!(spec.kind, Kind::Script | Kind::ScriptRead) {
            return Some(Denied::Script);
        }
        if !self.allows_keys(args, keys) {
            return Some(Denied::Key);
        }
        (!self.allows_channels(spec, args)).then_some(Denied::Channel)
    }

    /// May a command of this name be run, whatever its arguments?
    pub fn allows_command(&self, spec: &Spec) -> bool {
        self.commands.iter().rev().find(|rule| rule.what.fits(spec)).is_some_and(|rule| rule.allow)
    }

    fn allows_keys<A: Args + ?Sized>(&self, args: &A, keys: Option<&Keys>) -> bool {
        let may = |read: bool, write: bool, key: &[u8]| {
            let fits = |pattern: &&KeyPattern| glob::matches(pattern.pattern.as_bytes(), key);
            let mut fitting = self.keys.iter().filter(fits).peekable();
            fitting.peek().is_some()
                && fitting.fold((!read, !write), |(r, w), key| (r || key.read, w || key.write))
                    == (true, true)
        };
        let Some(keys) = keys else { return may(true, true, b"*") && self.has_all_keys() };
        (!keys.unlisted() || self.has_all_keys())
            && keys.iter().all(|key| {
                let read = !key.access.writes() || key.access.depends();
                may(read, key.access.writes(), args.arg(key.arg as usize).unwrap_or_default())
            })
    }

    fn has_all_keys(&self) -> bool {
        self.keys.iter().any(|key| key.read && key.write && key.pattern == "*")
    }

    fn allows_channels<A: Args + ?Sized>(&self, spec: &Spec, args: &A) -> bool {
        let patterns = match &*spec.name {
            "publish" | "spublish" => return self.allows_channel(args.arg(1).unwrap_or_default(), false),
            "subscribe" | "ssubscribe" => false,
            "psubscribe" => true,
            _ => return true,
        };
        (1..args.argc()).all(|at| self.allows_channel(args.arg(at).unwrap_or_default(), patterns))
    }

    /// A pattern must be allowed word for word: what it would match cannot be foreseen.
    fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.channels.iter().any(|allowed| match is_pattern {
            _ if allowed == "*" => true,
            true => allowed.as_bytes() == channel,
            false => glob::matches(allowed.as_bytes(), channel),
        })
    }
}

fn key_pattern(read: bool, write: bool, pattern: &str) -> Result<KeyPattern, String> {
    match pattern.is_empty() {
        true => Err("a key pattern is empty; write '~*' for every key".to_owned()),
        false => Ok(KeyPattern { read, write, pattern: pattern.to_owned() }),
    }
}

// === impl What ===

impl What {
    fn parse(text: &str) -> Result<What, String> {
        let lower = text.to_ascii_lowercase();
        let Some(name) = lower.strip_prefix('@') else {
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '|');
            return match !lower.is_empty() && lower.chars().all(valid) {
                true => Ok(What::Command(lower)),
                false => Err(format!("'{text}' is not the name of a command")),
            };
        };
        if name == "all" {
            return Ok(What::All);
        }
        let known = Category::ALL.iter().find(|category| category.name() == name);
        known.map(|category| What::Category(*category)).ok_or_else(|| {
            let names: Vec<_> =
                Category::ALL.iter().map(|category| format!("@{}", category.name())).collect();
            format!(
                "the category '@{name}' is not known here; write @all, {}, or single commands",
                names.join(", ")
            )
        })
    }

    fn fits(&self, spec: &Spec) -> bool {
        match self {
            What::All => true,
            What::Category(category) => category.has(spec),
            What::Command(name) => {
                spec.name == *name
                    || spec.name.split_once('|').is_some_and(|(container, _)| container == name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Table, keys};

    fn denied(words: &str, request: &str) -> Option<Denied> {
        let table = Table::builtin();
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let crate::command::Lookup::Command(id) = table.lookup(args.as_slice()) else { panic!("{request}") };
        let mut found = Keys::new();
        let listed = keys(table.spec(id), args.as_slice(), &mut found).is_ok();
        let acl = Acl::parse(words.split(' ')).unwrap_or_else(|problem| panic!("{problem}"));
        acl.denies(table.spec(id), args.as_slice(), listed.then_some(&found))
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        for (words, request, expected) in [
            ("+@all ~* &*", "GET a", None),
            ("~*", "GET a", Some(Denied::Command)),
            ("+@all -get ~*", "GET a", Some(Denied::Command)),
            ("-@all +get ~*", "GET a", None),
            ("+@read ~*", "SET a 1", Some(Denied::Command)),
            ("+@write ~*", "SET a 1", None),
            ("+@all -@dangerous ~*", "KEYS *", Some(Denied::Command)),
            ("+@all -@dangerous ~*", "CONFIG GET x", Some(Denied::Command)),
            ("+config ~*", "CONFIG GET x", None),
            ("+config|get ~*", "CONFIG GET x", None),
            ("+config|get ~*", "CONFIG SET x y", Some(Denied::Command)),
            ("+@all -config|set ~*", "CONFIG SET x y", Some(Denied::Command)),
            ("allcommands allkeys", "FLUSHALL", None),
            ("+@all nocommands +ping", "FLUSHALL", Some(Denied::Command)),
        ] {
            assert_eq!(denied(words, request), expected, "{words}: {request}");
        }
    }

    #[test]
    fn every_key_must_be_allowed_for_what_is_done_to_it() {
        for (words, request, expected) in [
            ("+@all ~a:*", "GET a:1", None),
            ("+@all ~a:*", "GET b:1", Some(Denied::Key)),
            ("+@all ~a:* ~b:*", "MGET a:1 b:1", None),
            ("+@all ~a:*", "MGET a:1 b:1", Some(Denied::Key)),
            ("+@all %R~a:*", "GET a:1", None),
            ("+@all %R~a:*", "SET a:1 x", Some(Denied::Key)),
            ("+@all %W~a:*", "SET a:1 x", None),
            ("+@all %W~a:*", "GET a:1", Some(Denied::Key)),
            ("+@all %R~a:* %W~a:*", "APPEND a:1 x", None),
            ("+@all %W~a:*", "COPY a:1 a:2", Some(Denied::Key)),
            ("+@all ~a:*", "PING", None),
            ("+@all ~a:*", "PFMERGE a:1", None),
            ("+@all ~a:*", "PFMERGE b:1", Some(Denied::Key)),
            ("+@all", "GET a", Some(Denied::Key)),
        ] {
            assert_eq!(denied(words, request), expected, "{words}: {request}");
        }
    }

    #[test]
    fn channels_and_scripts() {
        for (words, request, expected) in [
            ("+@all &news:*", "PUBLISH news:1 x", None),
            ("+@all &news:*", "PUBLISH other x", Some(Denied::Channel)),
            ("+@all &news:*", "SUBSCRIBE news:1 other", Some(Denied::Channel)),
            ("+@all &news:*", "PSUBSCRIBE news:*", None),
            ("+@all &news:*", "PSUBSCRIBE news:1", Some(Denied::Channel)),
            ("+@all ~*", "PUBLISH news:1 x", Some(Denied::Channel)),
            // What a script does is done as the proxy's own user.
            ("+@all ~*", "EVAL x 0", Some(Denied::Script)),
            ("+@all -eval ~* &*", "EVAL x 0", Some(Denied::Command)),
            ("+@all ~* &*", "EVAL x 0", None),
        ] {
            assert_eq!(denied(words, request), expected, "{words}: {request}");
        }
    }

    #[test]
    fn wrong_words_say_what_to_write() {
        for (word, part) in [
            ("get", "no ACL word"),
            ("", "no ACL word"),
            ("+@string", "@read"),
            ("+", "not the name"),
            ("+a b", "not the name"),
            ("~", "'~*'"),
            ("%X~a", "%R~"),
            (">password", "no ACL word"),
        ] {
            let problem = Acl::parse([word]).unwrap_err();
            assert!(problem.contains(part), "{word}: {problem}");
        }
    }
}
