//! What a command may be given, from the server's own COMMAND DOCS, and words made up from that.

use crate::support::*;

/// One argument, or several that belong together.
#[derive(Clone, Debug)]
pub struct Grammar {
    kind: String,
    name: String,
    token: Option<String>,
    optional: bool,
    multiple: bool,
    parts: Vec<Grammar>,
}

/// Keys of every type, and one that is missing.
const KEYS: &[&str] = &[
    "str", "num", "list", "list2", "set", "set2", "hash", "hash2", "zset", "zset2", "stream", "stream",
    "geo", "hll", "missing", "n\0n",
];
const INTEGERS: &[&str] =
    &["0", "1", "2", "3", "10", "-1", "-2", "100", "5", "9223372036854775807", "-9223372036854775808"];
const DOUBLES: &[&str] = &["1", "2.5", "-3", "0", "1e3", "inf", "-inf", "13.361389", "38.115556", "0.1"];
const WORDS: &[&str] =
    &["a", "b", "c", "f", "g", "1", "2", "3", "v", "p", "q", "hello", "", "a b", "x\r\ny", "3.0e2"];
const NONSENSE: &[&str] =
    &["", "x", "-1", "nan", "99999999999999999999", "1.5", "\0", "\r\n", "*", "COUNT", "é"];
const BOUNDS: &[&str] =
    &["0", "1-1", "2-1", "$", ">", "-", "+", "5-5", "[a", "(b", "(1", "-inf", "+inf", "3", "(1-1"];
const INDEXES: &[&str] = &["0", "1", "2", "15", "16", "-1"];
/// Times far from now: nothing ends while a conversation runs.
const TIMES: &[&str] = &["1900000000", "1900000000000", "4102444800000"];
const SPANS: &[&str] = &["100000", "2000000", "0", "-1"];
const SCRIPTS: &[&str] = &[
    "return 1",
    "return {1,'a',{2,{3}},false,nil,4}",
    "return redis.call('get',KEYS[1])",
    "return redis.call('incr',KEYS[1])",
    "return redis.pcall('incr',KEYS[1])",
    "return redis.call('nosuch')",
    "return redis.error_reply('MINE of my own')",
    "return redis.error_reply('\\255\\254 beyond UTF-8')",
    "return redis.status_reply('FINE')",
    "return {err='TWO\\r\\nlines'}",
    "return {ok='line\\nend'}",
    "return {double=3.25}",
    "redis.setresp(3) return {double=1e300*1e300}",
    "redis.setresp(3) return {map={a=1}}",
    "redis.setresp(3) return {set={a=true}}",
    "redis.setresp(3) return {big_number='1234567890123456789012345678901234567890'}",
    "redis.setresp(3) return {verbatim_string={format='txt',string='as it is'}}",
    "redis.setresp(3) return redis.call('hgetall','hash')",
    "redis.setresp(3) return {true,false}",
    "return true",
    "error('from Lua')",
    "this is no Lua",
    "return ARGV",
    "return KEYS",
    "return 3.99",
    "return string.rep('x',40000)",
];
const DIGESTS: &[&str] =
    &["e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0000000000000000000000000000000000000000", "no digest"];
const LIBRARIES: &[&str] = &[
    "#!lua name=lib\nredis.register_function('fun', function(keys,args) return args end)",
    "#!lua name=lib2\nredis.register_function{function_name='ro', callback=function(keys,args) return redis.call('get',keys[1]) end, flags={'no-writes'}}",
    "#!lua name=bad\nnonsense(",
    "no shebang",
];
const FUNCTIONS: &[&str] = &["fun", "ro", "nosuch", "lib"];

// === impl Grammar ===

impl Grammar {
    /// The arguments in one entry of COMMAND DOCS.
    pub fn of(docs: &Value) -> Vec<Grammar> {
        docs.field("arguments")
            .map_or_else(Vec::new, |list| list.items().iter().map(Grammar::parse).collect())
    }

    fn parse(value: &Value) -> Grammar {
        let text = |name: &str| value.field(name).map(Value::text);
        let flags = value.field("flags").map_or(&[][..], Value::items);
        let flag = |name: &str| flags.iter().any(|flag| flag.text().starts_with(name));
        Grammar {
            kind: text("type").unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            token: text("token"),
            optional: flag("optional"),
            multiple: flag("multiple"),
            parts: Grammar::of(value),
        }
    }

    /// Appends words that a server may take.
    pub fn write(&self, dice: &mut Numbers, out: &mut Vec<Vec<u8>>) {
        if self.optional && dice.below(3) > 0 {
            return;
        }
        let times = if self.multiple { 1 + dice.below(3) } else { 1 };
        for _ in 0..times {
            out.extend(self.token.clone().map(String::into_bytes));
            self.write_value(dice, out);
        }
    }

    fn write_value(&self, dice: &mut Numbers, out: &mut Vec<Vec<u8>>) {
        if let Some(from) = self.words() {
            out.push(dice.pick(from).as_bytes().to_vec());
            return;
        }
        match self.kind.as_str() {
            "pure-token" => {}
            "oneof" => {
                let at = dice.below(self.parts.len().max(1));
                if let Some(part) = self.parts.get(at) {
                    Grammar { optional: false, ..part.clone() }.write(dice, out);
                }
            }
            _ => self.parts.iter().for_each(|part| part.write(dice, out)),
        }
    }

    /// Where the argument is one word: those that it may be.
    fn words(&self) -> Option<&'static [&'static str]> {
        let (name, token) = (self.name.as_str(), self.token.as_deref().unwrap_or_default());
        Some(match self.kind.as_str() {
            "key" => KEYS,
            "pattern" => &["s*", "*x*", "str", "[l-m]*t", "nothing*"],
            "unix-time" => TIMES,
            "double" if name.contains("timeout") => &["0.001"],
            "double" => DOUBLES,
            "integer" if token == "BLOCK" || name.contains("timeout") => &["1"],
            "integer" if name == "numkeys" => &["1", "2", "1", "2", "3", "0"],
            "integer" if name.contains("idle") => &["0", "99999999"],
            "integer" if name.contains("milliseconds") || name.contains("seconds") => SPANS,
            "integer" if name == "protover" => &["2", "3", "3", "4"],
            "integer" if name.contains("index") || name.contains("db") => INDEXES,
            "integer" if name == "offset" => &["0", "1", "7", "100", "-1", "-3", "4294967296"],
            "integer" => INTEGERS,
            "string" if name == "script" => SCRIPTS,
            "string" if name == "sha1" => DIGESTS,
            "string" if name == "function-code" => LIBRARIES,
            "string" if name == "function" || name.contains("library") => FUNCTIONS,
            "string" if ["id", "start", "end", "stop", "min", "max"].contains(&name) => BOUNDS,
            "string" if name == "group" => &["grp", "grp", "other"],
            "string" if name.contains("timeout") => &["0.001"],
            "string" => WORDS,
            _ => return None,
        })
    }
}

/// Makes something wrong. Words are put in only where a server cannot take one for a time to wait.
pub fn spoil(dice: &mut Numbers, words: &mut Vec<Vec<u8>>, waits: bool) {
    let at = dice.below(words.len());
    match dice.below(if waits { 3 } else { 6 }) {
        0 => words.truncate(at.max(1)),
        1 if at > 0 => drop(words.remove(at)),
        1 | 2 => words[at].make_ascii_lowercase(),
        3 => words.push(dice.pick(WORDS).as_bytes().to_vec()),
        4 => words.insert(at.max(1), dice.pick(NONSENSE).as_bytes().to_vec()),
        _ if at > 0 => words[at] = dice.pick(NONSENSE).as_bytes().to_vec(),
        _ => words.push(Vec::new()),
    }
}
