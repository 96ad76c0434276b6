//! Scripts whose source has passed here.
//!
//! A script is mirrored verbatim only if its source shows that it cannot choose; for the rest, and
//! for EVALSHA of a source that was never seen, the keys are copied.

use std::collections::{HashMap, VecDeque};

use crate::command::Args;
use crate::mirror::Way;
use crate::mirror::script::{ScriptTraits, analyse};

/// Scripts remembered. One that is forgotten is copied instead.
const MAX_SCRIPTS: usize = 4096;

/// What a script does, as far as its source tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptWay {
    /// How it may be mirrored.
    pub way: Way,
    /// It may write keys that it does not declare.
    pub undeclared: bool,
    /// It may give its keys a time to live.
    pub ends: bool,
    /// It declares that it writes nothing.
    pub read_only: bool,
    /// It may write to other databases.
    pub leaves_database: bool,
}

/// Scripts by their SHA-1, as EVALSHA names them.
#[derive(Debug, Default)]
pub struct Scripts {
    known: HashMap<[u8; 40], ScriptWay, foldhash::fast::RandomState>,
    order: VecDeque<[u8; 40]>,
}

// === impl ScriptWay ===

impl ScriptWay {
    /// A script, or a function, of which nothing is known: what it changes is copied, named or not.
    pub const UNKNOWN: ScriptWay = ScriptWay { undeclared: true, ..ScriptWay::plain(Way::Copied) };

    /// No script: its keys tell what it touches.
    pub const fn plain(way: Way) -> ScriptWay {
        ScriptWay { way, undeclared: false, ends: true, read_only: false, leaves_database: false }
    }

    fn of(source: &[u8]) -> ScriptWay {
        let traits: ScriptTraits = analyse(source);
        let verbatim = traits.literal_commands && !traits.may_choose;
        let way = if verbatim { Way::Verbatim } else { Way::Copied };
        let read_only = declares_no_writes(source);
        let leaves_database = traits.leaves_database && !read_only;
        let undeclared = (traits.undeclared_keys_possible || leaves_database) && !read_only;
        ScriptWay { way, undeclared, ends: traits.may_expire, read_only, leaves_database }
    }
}

// === impl Scripts ===

impl Scripts {
    /// What a command that runs or loads a script may do.
    pub fn way<A: Args + ?Sized>(&mut self, name: &str, args: &A) -> ScriptWay {
        match (name, args.arg(1), args.arg(2)) {
            ("eval", Some(source), _) => self.learn(source),
            ("evalsha", Some(sha), _) => self.lookup(sha),
            ("script|load", _, Some(source)) => {
                self.learn(source);
                ScriptWay::plain(Way::Verbatim)
            }
            _ => ScriptWay::UNKNOWN,
        }
    }

    fn learn(&mut self, source: &[u8]) -> ScriptWay {
        let sha = hex(&sha1_smol::Sha1::from(source).digest().bytes());
        if let Some(known) = self.known.get(&sha) {
            return *known;
        }
        let way = ScriptWay::of(source);
        if self.order.len() >= MAX_SCRIPTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(sha, way);
        self.order.push_back(sha);
        way
    }

    fn lookup(&self, sha: &[u8]) -> ScriptWay {
        let Ok(mut sha) = <[u8; 40]>::try_from(sha) else { return ScriptWay::UNKNOWN };
        sha.make_ascii_lowercase();
        self.known.get(&sha).copied().unwrap_or(ScriptWay::UNKNOWN)
    }
}

/// Does the first line say so: `#!lua flags=no-writes`?
fn declares_no_writes(source: &[u8]) -> bool {
    let line = source.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.starts_with(b"#!") && memchr::memmem::find(line, b"no-writes").is_some()
}

fn hex(digest: &[u8; 20]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 40];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_the_name_that_the_server_gives_it() {
        let mut scripts = Scripts::default();
        let source = "return redis.call('SET', KEYS[1], ARGV[1])";
        let sha = sha1_smol::Sha1::from(source).digest().to_string();
        assert_eq!(scripts.way("evalsha", ["EVALSHA", &sha, "1", "k"].as_slice()), ScriptWay::UNKNOWN);
        let told = scripts.way("eval", ["EVAL", source, "1", "k"].as_slice());
        assert_eq!(scripts.way("evalsha", ["EVALSHA", &sha.to_uppercase(), "1", "k"].as_slice()), told);
    }
}
