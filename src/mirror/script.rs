//! What can be told about a Lua script from its source. Conservative: what is not understood counts
//! as choosing and as touching any key.
//!
//! The source is looked at word by word, not run. Comments and strings are told apart, so that a
//! command's name counts only where it is the first argument of a call.

#[cfg(test)]
mod tests;

/// What can be told about a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptTraits {
    /// Every command that it calls stands in the source as a literal.
    pub literal_commands: bool,
    /// Its outcome may differ between two stores that hold the same: time, chance, the order of a set.
    pub may_choose: bool,
    /// It may touch keys other than `KEYS[…]`.
    pub undeclared_keys_possible: bool,
}

/// A longer source is not looked at.
const MAX_SOURCE: usize = 256 * 1024;

/// Commands whose reply or effect is a store's own choice.
const CHOOSING: [&str; 32] = [
    "TIME",
    "RANDOMKEY",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "SPOP",
    "SMEMBERS",
    "SUNION",
    "SINTER",
    "SDIFF",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "KEYS",
    "SCAN",
    "SSCAN",
    "HSCAN",
    "ZSCAN",
    "SORT",
    "SORT_RO",
    "XADD",
    "XTRIM",
    "XREADGROUP",
    "XCLAIM",
    "XAUTOCLAIM",
    "INCRBYFLOAT",
    "HINCRBYFLOAT",
    "INFO",
    "DBSIZE",
    "TTL",
    "PTTL",
    "OBJECT",
];

/// Names that make the outcome, or what is called, a matter of chance or of computation.
const OPAQUE: [&str; 12] = [
    "random",
    "randomseed",
    "os",
    "loadstring",
    "load",
    "dofile",
    "getfenv",
    "setfenv",
    "rawget",
    "_G",
    "cmsgpack",
    "setmetatable",
];

/// Commands with keys behind the first argument, or elsewhere.
const SEVERAL_KEYS: [&str; 50] = [
    "BITOP",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "COPY",
    "DEL",
    "EVAL",
    "EVALSHA",
    "EXISTS",
    "FCALL",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEOSEARCHSTORE",
    "LCS",
    "LMOVE",
    "LMPOP",
    "MGET",
    "MIGRATE",
    "MSET",
    "MSETNX",
    "PFCOUNT",
    "PFMERGE",
    "RENAME",
    "RENAMENX",
    "RPOPLPUSH",
    "SDIFFSTORE",
    "SINTERCARD",
    "SINTERSTORE",
    "SMOVE",
    "SORT",
    "SUNIONSTORE",
    "TOUCH",
    "UNLINK",
    "XREAD",
    "ZDIFF",
    "ZDIFFSTORE",
    "ZINTER",
    "ZINTERCARD",
    "ZINTERSTORE",
    "ZMPOP",
    "ZRANGESTORE",
    "ZUNION",
    "ZUNIONSTORE",
    "FLUSHALL",
    "FLUSHDB",
];

/// One word of Lua.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word<'a> {
    Name(&'a str),
    Text(&'a str),
    Mark(char),
}

/// Looks at a source.
pub fn analyse(source: &[u8]) -> ScriptTraits {
    let opaque = ScriptTraits { literal_commands: false, may_choose: true, undeclared_keys_possible: true };
    let Ok(source) = std::str::from_utf8(source) else { return opaque };
    if source.len() > MAX_SOURCE {
        return opaque;
    }
    let Some(words) = words(source) else { return opaque };
    let calls = calls(&words);
    let literal_commands = calls.iter().all(|call| call.command.is_some());
    let chooses = |call: &Call<'_>| {
        call.command.is_some_and(|name| CHOOSING.iter().any(|known| known.eq_ignore_ascii_case(name)))
    };
    let opaque_name = words.iter().any(|word| matches!(word, Word::Name(name) if OPAQUE.contains(name)));
    ScriptTraits {
        literal_commands: literal_commands && !aliases(&words),
        may_choose: opaque_name || calls.iter().any(chooses),
        undeclared_keys_possible: aliases(&words) || calls.iter().any(|call| !call.declared),
    }
}

/// One `redis.call` or `redis.pcall`.
struct Call<'a> {
    /// The command, where it is a literal.
    command: Option<&'a str>,
    /// Its first key is an element of KEYS, and nothing else.
    declared: bool,
}

fn calls<'a>(words: &[Word<'a>]) -> Vec<Call<'a>> {
    let mut calls = Vec::new();
    for (at, window) in words.windows(4).enumerate() {
        let is_call = matches!(
            window,
            [Word::Name("redis" | "server"), Word::Mark('.'), Word::Name("call" | "pcall"), _]
        );
        if !is_call {
            continue;
        }
        // `redis.call(…)`, or `redis.call 'PING'`.
        let first = if window[3] == Word::Mark('(') { at + 4 } else { at + 3 };
        let command = match words.get(first) {
            Some(Word::Text(name)) => Some(*name),
            _ => None,
        };
        let several =
            command.is_none_or(|name| SEVERAL_KEYS.iter().any(|known| known.eq_ignore_ascii_case(name)));
        calls.push(Call { command, declared: declares(words.get(first + 1..).unwrap_or_default(), several) });
    }
    calls
}

/// Behind the command: are its keys elements of KEYS? Of a command with one key the first argument
/// is looked at, of others all.
fn declares(words: &[Word<'_>], several: bool) -> bool {
    match words {
        [Word::Mark(')'), ..] => true,
        [
            Word::Mark(','),
            Word::Name("KEYS"),
            Word::Mark('['),
            Word::Name(_),
            Word::Mark(']'),
            Word::Mark(end @ (',' | ')')),
            ..,
        ] => *end == ')' || !several || declares(words.get(5..).unwrap_or_default(), several),
        _ => false,
    }
}

/// Is `redis`, or one of its functions, given another name, or reached by a computed one?
fn aliases(words: &[Word<'_>]) -> bool {
    let is_redis = |word: &Word<'_>| matches!(word, Word::Name("redis" | "server"));
    words.iter().enumerate().filter(|(_, word)| is_redis(word)).any(|(at, _)| {
        let called = matches!(words.get(at + 3), Some(Word::Mark('(') | Word::Text(_)));
        match (words.get(at + 1), words.get(at + 2)) {
            (Some(Word::Mark('.')), Some(Word::Name("call" | "pcall"))) => !called,
            (Some(Word::Mark('.')), Some(Word::Name(_))) => false,
            _ => true,
        }
    })
}

/// The words of a source without its comments. `None`: something in it is not understood.
fn words(source: &str) -> Option<Vec<Word<'_>>> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = match long_bracket(comment) {
                Some((_, after)) => after,
                None => comment.split_once('\n').map_or("", |(_, after)| after),
            };
        } else if let Some((text, after)) = long_bracket(rest) {
            words.push(Word::Text(text));
            rest = after;
        } else if first == '"' || first == '\'' {
            let end = quoted_end(rest, first)?;
            words.push(Word::Text(rest.get(1..end)?));
            rest = rest.get(end + 1..)?;
        } else if first.is_ascii_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push(Word::Name(rest.get(..end)?));
            rest = rest.get(end..)?;
        } else {
            if !first.is_whitespace() {
                words.push(Word::Mark(first));
            }
            rest = rest.get(first.len_utf8()..)?;
        }
    }
    Some(words)
}

/// Where a quoted string ends. One with escapes is not taken apart: `None` for an escaped name is
/// safe, since the text then matches no command.
fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return None,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// `[[ … ]]`, `[==[ … ]==]`: the text, and what follows.
fn long_bracket(text: &str) -> Option<(&str, &str)> {
    let level = text.strip_prefix('[')?.bytes().take_while(|byte| *byte == b'=').count();
    let body = text.get(level + 1..)?.strip_prefix('[')?;
    let close = format!("]{}]", "=".repeat(level));
    body.split_once(close.as_str())
}
