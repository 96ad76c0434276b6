//! What can be told about a script from its source, without running it.
//!
//! Every answer errs on the side of doubt: a script that could do something else than it seems to gets all the doubt
//! there is, and costs a copy of its keys instead of a wrong value.

mod calls;
mod lexer;
mod names;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::command::{CommandFlags, Kind, Spec, Table};
use crate::mirror::choose::StreamAdd;
use crate::mirror::{Recipe, Way};
use calls::Call;
use lexer::Token;
use names::Names;

/// Longer sources are not looked at.
const MAX_SOURCE: usize = 256 * 1024;

/// What a script, or a library of functions, may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScriptTraits {
    /// All commands are named by literals, so that the other answers hold.
    pub literal_commands: bool,
    /// Its outcome may depend on more than its arguments and the values of keys: on time, chance, on the order in
    /// which a server keeps things, or on how it writes numbers.
    pub may_choose: bool,
    /// It may use keys that the caller doesn't declare.
    pub undeclared_keys_possible: bool,
    /// It may write.
    pub writes: bool,
    /// It may give a key a time to live.
    pub may_expire: bool,
    /// It names commands that reach other databases than the caller's. The one answer that does not err on the side of
    /// doubt: of a source that is not known it is not supposed.
    pub leaves_database: bool,
}

/// What a source says about a script. Commands that are not built in are all doubt.
pub fn analyse(source: &[u8]) -> ScriptTraits {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::builtin);
    if source.len() > MAX_SOURCE {
        return ScriptTraits::DOUBTFUL;
    }
    match lexer::tokens(source) {
        Some(tokens) => {
            let leaves_database = tokens.iter().any(leaves);
            let traits =
                Analysis { table: &TABLE, names: Names::find(&tokens), tokens }.run(is_library(source));
            ScriptTraits { leaves_database, ..traits }
        }
        None => ScriptTraits::DOUBTFUL,
    }
}

// === impl ScriptTraits ===

impl ScriptTraits {
    /// What is said of a script whose source is not known.
    pub const DOUBTFUL: ScriptTraits = ScriptTraits {
        literal_commands: false,
        may_choose: true,
        undeclared_keys_possible: true,
        writes: true,
        may_expire: true,
        leaves_database: false,
    };

    /// Nothing speaks against it.
    const CLEAR: ScriptTraits = ScriptTraits {
        literal_commands: true,
        may_choose: false,
        undeclared_keys_possible: false,
        writes: false,
        may_expire: false,
        leaves_database: false,
    };

    /// How a call of the script is mirrored whose declared keys are in sync; a verbatim one also needs the database
    /// to be in sync if there may be undeclared keys.
    pub fn way(self) -> Way {
        match self {
            Self { writes: false, .. } => Way::Nothing,
            Self { literal_commands: true, may_choose: false, .. } => Way::Verbatim,
            _ => Way::Copied,
        }
    }
}

/// Reads whose replies are the same wherever the same data is.
const EXACT_READS: [&str; 43] = [
    "bitcount",
    "bitfield_ro",
    "bitpos",
    "echo",
    "exists",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hlen",
    "hmget",
    "hstrlen",
    "lcs",
    "lindex",
    "llen",
    "lpos",
    "lrange",
    "mget",
    "ping",
    "scard",
    "sintercard",
    "sismember",
    "smismember",
    "strlen",
    "substr",
    "touch",
    "type",
    "xlen",
    "xrange",
    "xread",
    "xrevrange",
    "zcard",
    "zcount",
    "zintercard",
    "zlexcount",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrank",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
];

/// Commands that may give a key a time to live.
const EXPIRING: [&str; 13] = [
    "copy",
    "expire",
    "expireat",
    "getex",
    "msetex",
    "pexpire",
    "pexpireat",
    "psetex",
    "rename",
    "renamenx",
    "restore",
    "set",
    "setex",
];

/// Members of `redis` that neither run commands nor tell about the server.
const HARMLESS: [&[u8]; 15] = [
    b"error_reply",
    b"log",
    b"register_function",
    b"replicate_commands",
    b"set_repl",
    b"setresp",
    b"sha1hex",
    b"status_reply",
    b"LOG_DEBUG",
    b"LOG_NOTICE",
    b"LOG_VERBOSE",
    b"LOG_WARNING",
    b"REPL_ALL",
    b"REPL_AOF",
    b"REPL_SLAVE",
];

/// Ways to code that is not in the source, or to a table of everything.
const DYNAMIC: [&[u8]; 13] = [
    b"_ENV",
    b"_G",
    b"debug",
    b"dofile",
    b"getfenv",
    b"getmetatable",
    b"load",
    b"loadfile",
    b"loadstring",
    b"module",
    b"rawset",
    b"require",
    b"setfenv",
];

/// Words of commands that reach other databases: `SELECT 1`, `MOVE key 1`, `COPY a b DB 1`, `SWAPDB 0 1`.
const LEAVING: [&[u8]; 4] = [b"db", b"move", b"select", b"swapdb"];

/// What tells about the machine, or goes through tables in an order of its own.
const CHOOSING: [&[u8]; 7] = [b"collectgarbage", b"gcinfo", b"io", b"newproxy", b"next", b"os", b"pairs"];

struct Analysis<'a> {
    table: &'a Table,
    tokens: Vec<Token<'a>>,
    names: Names<'a>,
}

// === impl Analysis ===

impl<'a> Analysis<'a> {
    fn run(&self, library: bool) -> ScriptTraits {
        let mut traits = ScriptTraits::CLEAR;
        // What a library keeps from call to call, two servers keep apart.
        traits.may_choose |= library && self.names.outer_locals;
        traits.undeclared_keys_possible |= !self.names.keys_untouched;
        for (at, token) in self.tokens.iter().enumerate() {
            let Token::Name(name) = *token else { continue };
            let member = self.is_access(at, 1);
            match name {
                _ if member => self.member(at, name, &mut traits),
                b"redis" | b"server" => self.redis(at, &mut traits),
                _ if DYNAMIC.contains(&name) => traits = ScriptTraits::DOUBTFUL,
                _ if CHOOSING.contains(&name) => traits.may_choose = true,
                b"math" => traits.may_choose |= !self.harmless_math(at),
                b"tostring" => {
                    traits.may_choose |= !self.is_symbol(at + 1, b'(') || self.makes_object(at + 2)
                }
                _ => {}
            }
        }
        traits
    }

    fn is_symbol(&self, at: usize, symbol: u8) -> bool {
        self.tokens.get(at) == Some(&Token::Symbol(symbol))
    }

    /// The token so many before `at`.
    fn before(&self, at: usize, back: usize) -> Option<Token<'a>> {
        self.tokens.get(at.checked_sub(back)?).copied()
    }

    /// Does the token so many before `at` reach into what stands before it?
    fn is_access(&self, at: usize, back: usize) -> bool {
        matches!(self.before(at, back), Some(Token::Symbol(b'.' | b':')))
    }

    /// `x.call` of something that is not known to be `redis`; `cjson.encode`.
    fn member(&self, at: usize, name: &[u8], traits: &mut ScriptTraits) {
        let owner = self.before(at, 2);
        let nested = self.is_access(at, 3);
        let of_redis = !nested && matches!(owner, Some(Token::Name(b"redis" | b"server")));
        match name {
            b"call" | b"pcall" if !of_redis => *traits = ScriptTraits::DOUBTFUL,
            // Fields come out in the order in which the table keeps them.
            b"encode" | b"pack" => traits.may_choose = true,
            _ => {}
        }
    }

    fn harmless_math(&self, at: usize) -> bool {
        match (self.tokens.get(at + 1), self.tokens.get(at + 2)) {
            (Some(Token::Symbol(b'.')), Some(Token::Name(function))) => {
                !matches!(*function, b"random" | b"randomseed")
            }
            _ => false,
        }
    }

    /// Their text is an address.
    fn makes_object(&self, at: usize) -> bool {
        matches!(self.tokens.get(at), Some(Token::Symbol(b'{') | Token::Name(b"function")))
    }

    fn redis(&self, at: usize, traits: &mut ScriptTraits) {
        let member = match (self.tokens.get(at + 1), self.tokens.get(at + 2)) {
            (Some(Token::Symbol(b'.')), Some(Token::Name(member))) => *member,
            _ => {
                *traits = ScriptTraits::DOUBTFUL;
                return;
            }
        };
        match member {
            b"call" | b"pcall" => match Call::parse(&self.tokens, at + 3) {
                Some(call) => self.call(&call, traits),
                None => *traits = ScriptTraits::DOUBTFUL,
            },
            _ if HARMLESS.contains(&member) && !self.is_symbol(at + 3, b'=') => {}
            _ => traits.may_choose = true,
        }
    }

    fn call(&self, call: &Call<'_>, traits: &mut ScriptTraits) {
        let words = call.words();
        let Some(id) = self.table.find(&words[..]) else {
            *traits = ScriptTraits::DOUBTFUL;
            return;
        };
        let spec = self.table.spec(id);
        traits.writes |=
            spec.flags.has(CommandFlags::WRITE) || !matches!(spec.kind, Kind::Read | Kind::Connection);
        traits.may_choose |= !exact(spec, call, &words);
        traits.may_expire |= EXPIRING.contains(&&*spec.name) && !(*spec.name == *"set" && call.is_plain(3));
        traits.undeclared_keys_possible |= !self.names.declared(spec, call, &words);
    }
}

/// Whether a command does and answers the same wherever the same data is.
fn exact(spec: &Spec, call: &Call<'_>, words: &[&[u8]]) -> bool {
    if EXACT_READS.binary_search(&&*spec.name).is_ok() {
        return true;
    }
    match Recipe::by_name(&spec.name) {
        Some(Recipe::Verbatim) => true,
        Some(Recipe::Xadd) => {
            let literal = |add: StreamAdd| (2..=add.id_at).all(|at| call.is_literal(at));
            StreamAdd::parse(words).is_some_and(literal) && Recipe::Xadd.way(spec, words) == Way::Verbatim
        }
        Some(Recipe::Xtrim) => {
            call.is_literal(2) && call.is_literal(3) && Recipe::Xtrim.way(spec, words) == Way::Verbatim
        }
        _ => false,
    }
}

fn leaves(token: &Token<'_>) -> bool {
    matches!(token, Token::Text(text) if LEAVING.iter().any(|word| text.eq_ignore_ascii_case(word)))
}

/// A library of functions says its name in its first line.
fn is_library(source: &[u8]) -> bool {
    let line = source.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.starts_with(b"#!") && memchr::memmem::find(line, b"name=").is_some()
}
