//! The command table against a real server: what it lists, what keys it finds, what it says of mistakes.

mod support;

use std::collections::BTreeSet;

use multistore::command::{self, Access, CommandFlags, Keys, LiveCommand, Lookup, Table, errors};
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame as Frame;
use support::{Client, RedisServer};

/// A redis-server of one test alone, and a connection to it.
struct Server {
    client: Client,
    // Held for its end.
    _server: RedisServer,
}

// === impl Server ===

impl Server {
    fn start() -> Self {
        let server = RedisServer::start();
        Self { client: server.client(), _server: server }
    }

    /// The reply's bytes, and what they say.
    fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> (Vec<u8>, Frame) {
        self.client.send(words);
        let reply = self.client.read_raw_reply();
        // Errors need not be UTF-8, which the decoder insists on.
        if reply.starts_with(b"-") {
            return (reply, Frame::Error(String::new()));
        }
        let (frame, _) = decode(&reply).unwrap().unwrap();
        (reply, frame)
    }

    fn error(&mut self, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let (reply, frame) = self.ask(words);
        assert!(matches!(frame, Frame::Error(_)), "{frame:?}");
        reply.strip_prefix(b"-").unwrap().strip_suffix(b"\r\n").unwrap().to_vec()
    }
}

/// All commands and subcommands of the server, flat.
fn live_commands(server: &mut Server) -> Vec<LiveCommand> {
    let (reply, _) = server.ask(&["COMMAND"]);
    let mut flat = Vec::new();
    for mut command in LiveCommand::list(&reply) {
        let own = std::mem::take(&mut command.subcommands);
        flat.push(command);
        flat.extend(own);
    }
    assert!(flat.len() > 300, "only {} commands were read", flat.len());
    flat
}

/// Where servers differ from each other: Valkey gave these one more argument, or one argument less.
const ARITY_DIFFERS: [&str; 4] = ["zrank", "zrevrank", "command|getkeys", "command|getkeysandflags"];

/// Redis 7.0 calls the destination "changed", all others "replaced".
const KEYS_DIFFER: [&str; 1] = ["sinterstore"];

/// Flags that every server sets alike; of the others (`protected`, `may_replicate`, …) some show more than others.
const SAME_EVERYWHERE: [CommandFlags; 5] = [
    CommandFlags::WRITE,
    CommandFlags::READONLY,
    CommandFlags::DENYOOM,
    CommandFlags::ADMIN,
    CommandFlags::PUBSUB,
];

#[test]
fn every_live_command_is_in_the_table_as_the_server_describes_it() {
    let mut server = Server::start();
    let table = Table::builtin();
    let mut wrong = Vec::new();
    for live in live_commands(&mut server) {
        let Some(id) = table.by_name(&live.name) else {
            wrong.push(format!("{} is missing", live.name));
            continue;
        };
        let spec = table.spec(id);
        if spec.arity != live.arity && !ARITY_DIFFERS.contains(&&*live.name) {
            wrong.push(format!("{}: arity {} there, {} here", live.name, live.arity, spec.arity));
        }
        let names = |flags: CommandFlags| -> BTreeSet<_> {
            SAME_EVERYWHERE
                .into_iter()
                .filter(|flag| flags.has(*flag))
                .flat_map(CommandFlags::names)
                .collect()
        };
        let there = names(CommandFlags::from_names(live.flags.iter().map(String::as_str)));
        let here = names(spec.flags);
        if here != there {
            wrong.push(format!("{}: flags {there:?} there, {here:?} here", live.name));
        }
        if *spec.keys != live.key_specs[..] && !KEYS_DIFFER.contains(&&*live.name) {
            wrong.push(format!("{}: keys {:?} there, {:?} here", live.name, live.key_specs, spec.keys));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_overlay_by_a_known_server_adds_nothing() {
    let mut server = Server::start();
    let mut table = Table::builtin();
    let (reply, _) = server.ask(&["COMMAND"]);
    assert_eq!(table.overlay(LiveCommand::list(&reply)), command::Overlaid::default());
}

#[test]
fn what_a_store_offers_decides_about_arity_and_existence() {
    let mut server = Server::start();
    let table = Table::builtin();
    let (reply, _) = server.ask(&["COMMAND"]);
    let offered = table.offered(&LiveCommand::list(&reply));
    for live in live_commands(&mut server) {
        let id = table.by_name(&live.name).unwrap();
        assert!(offered.arity_ok(id, live.arity.unsigned_abs() as usize), "{}", live.name);
        assert!(!offered.arity_ok(id, live.arity.unsigned_abs() as usize - 1), "{}", live.name);
    }
    let newer = table.by_name("delifeq").unwrap();
    let (reply, _) = server.ask(&["COMMAND", "INFO", "delifeq"]);
    assert_eq!(offered.has(newer), !LiveCommand::list(&reply).is_empty());
    assert!(offered.has(table.by_name("client|kill").unwrap()));
}

#[test]
fn keys_are_those_that_the_server_finds() {
    let mut server = Server::start();
    let table = Table::builtin();
    for request in KEYED {
        let words: Vec<&str> = request.split(' ').collect();
        let mut ask = vec!["COMMAND", "GETKEYSANDFLAGS"];
        ask.extend(&words);
        let (_, reply) = server.ask(&ask);
        let Frame::Array(entries) = reply else { panic!("{request}: {reply:?}") };
        let there: Vec<(String, bool)> = entries.iter().map(key_and_write).collect();

        let spec = table.spec(table.find(&words[..]).unwrap());
        let mut keys = Keys::new();
        command::keys(spec, &words[..], &mut keys).unwrap();
        let mut here: Vec<(String, bool)> =
            keys.iter().map(|key| (words[key.arg as usize].to_owned(), key.access != Access::Read)).collect();
        if EFFECT_DIFFERS.contains(request) {
            here.iter_mut().zip(&there).for_each(|(here, there)| here.1 = there.1);
        }
        assert_eq!(here, there, "{request}");
    }
}

/// A key in the reply to COMMAND GETKEYSANDFLAGS, and whether it is written.
fn key_and_write(entry: &Frame) -> (String, bool) {
    let Frame::Array(parts) = entry else { panic!("{entry:?}") };
    let text = |frame: &Frame| match frame {
        Frame::BulkString(text) | Frame::SimpleString(text) => String::from_utf8(text.clone()).unwrap(),
        frame => panic!("{frame:?}"),
    };
    let Frame::Array(flags) = &parts[1] else { panic!("{entry:?}") };
    (text(&parts[0]), flags.iter().any(|flag| ["RW", "OW", "RM"].contains(&text(flag).as_str())))
}

const KEYED: &[&str] = &[
    "get a",
    "object freq a",
    "memory usage a",
    "mget a b c",
    "mset a 1 b 2",
    "msetnx a 1 b 2",
    "set a 1 ex 5",
    "set a 1 get",
    "del a b",
    "rename a b",
    "copy a b db 0 replace",
    "restore a 0 x replace",
    "lcs a b",
    "blpop a b 0",
    "lmove a b left right",
    "lmpop 2 a b left",
    "blmpop 0 2 a b left",
    "bzmpop 0 1 a min",
    "zunion 2 a b weights 1 2",
    "zinterstore d 2 a b",
    "zdiffstore d 1 a",
    "sintercard 2 a b limit 1",
    "zrangestore d a 0 -1",
    "bitop and d a b",
    "bitfield a get u8 0",
    "bitfield a overflow sat get u8 0 set u8 0 1",
    "bitfield_ro a get u8 0",
    "pfmerge d a b",
    "pfcount a",
    "sort a",
    "sort a by w_* get v_* limit 0 1 store d",
    "sort a store d store e",
    "sort a get store",
    "sort_ro a by w_*",
    "georadius a 1 2 3 m store d",
    "georadius a 1 2 3 m storedist d",
    "georadiusbymember a store 3 m",
    "georadiusbymember a x 3 m store d",
    "geosearchstore d a fromlonlat 1 2 byradius 3 m",
    "eval x 2 a b c",
    "evalsha_ro x 1 a b",
    "fcall f 1 a b",
    "xread count 1 block 0 streams a b 0 0",
    "xread streams streams 0",
    "xreadgroup group streams c streams a >",
    "xgroup create a g 0",
    "xinfo stream a full",
    "xadd a * f v",
    "xautoclaim a g c 0 0",
    "migrate h 1 a 0 1",
    "migrate h 1  0 1 copy keys a b",
    "watch a b",
    "expire a 5",
    "getex a ex 5",
    "spop a",
    "zadd a 1 m",
];

/// XREADGROUP changes the group, which the server doesn't count as changing the key.
const EFFECT_DIFFERS: &[&str] = &["xreadgroup group streams c streams a >"];

#[test]
fn mistakes_are_told_as_the_server_tells_them() {
    let mut server = Server::start();
    let table = Table::builtin();
    let (long, longer) = ("x".repeat(100), "y".repeat(300));
    let requests: &[&[&[u8]]] = &[
        &[b"foo"],
        &[b"FOO", b"a", b"b"],
        &[b"foo", b""],
        &[b"fo\r\no", b"a\nb", b"c\r\n"],
        &[b"fo\0o", b"a\0b", b"c"],
        &[b"\xff\xfe", b"\xff", b"\x80"],
        &[b"foo", long.as_bytes(), b"abcdefghijklmnopqrstuvwxyzabcdefgh", b"c"],
        &[b"foo", long.as_bytes(), b"abcdefghijklmnopqrstuv", b"c"],
        &[b"foo", long.as_bytes(), b"abcdefghijklmnopqrstuvw", b"c"],
        &[longer.as_bytes(), longer.as_bytes(), b"c"],
        &[b"client", b"kil", b"x"],
        &[b"ConFig", b"a\r\nb"],
        &[b"object", b""],
        &[b"xgroup", longer.as_bytes()],
        &[b"get"],
        &[b"GET", b"a", b"b"],
        &[b"client"],
        &[b"client", b"kill"],
        &[b"xgroup", b"create", b"a"],
        &[b"object", b"freq", b"a", b"b"],
        &[b"eval", b"x"],
    ];
    for request in requests {
        let here = match table.lookup(*request) {
            Lookup::Unknown => errors::unknown_command_error(*request),
            Lookup::UnknownSubcommand(container) => {
                errors::unknown_subcommand_error(table.spec(container), *request)
            }
            Lookup::Command(id) => {
                assert!(!table.spec(id).arity_ok(request.len()));
                errors::wrong_arity_error(table.spec(id))
            }
        };
        let there = server.error(request);
        assert_eq!(String::from_utf8_lossy(&here), String::from_utf8_lossy(&there));
        assert_eq!(here, there);
    }
}
