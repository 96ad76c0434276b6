//! Effects against real servers: what a command did on one server, its derived effect does on another that held the
//! same, whatever the arguments, in both protocol versions. Also: every writing command of the server at hand is in
//! the table of ways.

mod support;

use multistore::command::{Access, Keys, LiveCommand, Table, keys};
use multistore::mirror::by_type::{Type, read_whole, rebuild};
use multistore::mirror::{
    Derivation, Dialect, Effect, Extra, Part, Recipe, Way, companions, derive, derive_exec, exec_companions,
    way,
};
use std::collections::BTreeMap;
use support::{Client, RedisServer, Value, assert_exactly_same, encode};

/// Random commands for each seed.
const STEPS: usize = 350;

/// A server where commands run, and one that only gets their effects.
struct World {
    _servers: [RedisServer; 2],
    first: Client,
    second: Client,
    table: Table,
    dialect: Dialect,
    /// Which derivations have led to commands, and how often.
    seen: BTreeMap<String, u32>,
}

/// A generator of which every run can be repeated.
struct Random(u64);

// === impl Random ===

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

// === impl World ===

impl World {
    fn new(protocol: &str) -> World {
        // Small nodes here, large ones there: approximate trimming differs at once.
        let small = ["--stream-node-max-entries", "3", "--set-max-intset-entries", "2"];
        let servers = [RedisServer::start_with(&small), RedisServer::start_other(&[])];
        let table = Table::builtin();
        let offered = servers.each_ref().map(|server| {
            let mut client = server.client();
            client.send(&["COMMAND"]);
            table.offered(&LiveCommand::list(&client.read_raw_reply()))
        });
        let dialect = Dialect::new(&table, &offered[0], &offered[1]);
        let [mut first, second] = servers.each_ref().map(RedisServer::client);
        first.call(&["HELLO", protocol]);
        World { _servers: servers, first, second, table, dialect, seen: BTreeMap::new() }
    }

    /// Runs a command on the first server and its effect on the second.
    #[track_caller]
    fn run(&mut self, words: &[Vec<u8>]) {
        let shown = show(words);
        let Some(id) = self.table.find(words) else { panic!("not in the table: {shown}") };
        let way = way(self.table.spec(id), words);
        let mut sent = encode(words);
        let more = match way {
            Way::Derived(derivation) => companions(derivation, words, self.dialect, &mut sent),
            _ => 0,
        };
        self.first.send_raw(&sent);
        let reply = self.first.read_raw_reply();
        let more: Vec<Vec<u8>> = (0..more).map(|_| self.first.read_raw_reply()).collect();
        let more: Vec<&[u8]> = more.iter().map(Vec::as_slice).collect();
        let effect = match way {
            Way::Nothing => Effect::Nothing,
            Way::Verbatim if reply.starts_with(b"-") => Effect::Nothing,
            Way::Verbatim => Effect::Frames { bytes: encode(words), replies: 1 },
            Way::Copied => Effect::Copy,
            Way::Derived(derivation) => {
                let effect =
                    derive(derivation, words, &reply, Extra { replies: &more, dialect: self.dialect });
                self.count(derivation, &effect);
                effect
            }
        };
        match effect {
            Effect::Nothing => {}
            Effect::Copy => self.copy(words),
            Effect::Frames { bytes, replies } => {
                self.second.send_raw(&bytes);
                for _ in 0..replies {
                    let answer = self.second.read_reply();
                    assert!(!answer.is_error(), "{shown} made {}: {answer:?}", bytes.escape_ascii());
                }
            }
        }
    }

    fn count(&mut self, derivation: Derivation, effect: &Effect) {
        let what = match effect {
            Effect::Nothing => "nothing",
            Effect::Frames { .. } => "frames",
            Effect::Copy => "copy",
        };
        *self.seen.entry(format!("{derivation:?} {what}")).or_default() += 1;
    }

    /// Copies every key that these words write.
    fn copy(&mut self, words: &[Vec<u8>]) {
        let Some(id) = self.table.find(words) else { return };
        let mut named = Keys::new();
        keys(self.table.spec(id), words, &mut named).expect("keys");
        for key in named.iter().filter(|key| key.access != Access::Read) {
            let name = &words[key.arg as usize];
            let payload = self.first.call(&[b"DUMP".as_slice(), name]);
            let left = self.first.call(&[b"PTTL".as_slice(), name]).int().max(0).to_string();
            self.second.call(&[b"DEL".as_slice(), name]);
            if !payload.is_nil() {
                let words = [b"RESTORE".as_slice(), name, left.as_bytes(), payload.bytes()];
                // Of another version, it is refused.
                if self.second.call(&words) != Value::ok() {
                    self.copy_by_type(name);
                }
            }
        }
    }

    fn copy_by_type(&mut self, key: &[u8]) {
        let kind = self.first.call(&[b"TYPE".as_slice(), key]).text();
        let kind = Type::parse(kind.as_bytes()).expect("a type");
        self.first.send_raw(&read_whole(kind, key));
        let reply = self.first.read_raw_reply();
        let left = u64::try_from(self.first.call(&[b"PTTL".as_slice(), key]).int()).ok();
        for piece in rebuild(kind, key, &reply, left, self.dialect).expect("a value") {
            self.second.send_raw(&piece.bytes);
            self.second.read_replies(piece.replies as usize);
        }
    }

    fn words(&mut self, line: &str) {
        self.run(&split(line));
    }

    #[track_caller]
    fn assert_equal(&mut self, when: &str) {
        assert_exactly_same(&mut self.first, &mut self.second, when);
    }

    #[track_caller]
    fn assert_seen(&self, wanted: &[&str]) {
        for wanted in wanted {
            assert!(self.seen.contains_key(*wanted), "never {wanted}: {:?}", self.seen);
        }
    }
}

fn split(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn show(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_writing_command_of_the_server_is_known() {
    let server = RedisServer::start();
    let mut client = server.client();
    client.send(&["COMMAND"]);
    let table = Table::builtin();
    let mut missing = Vec::new();
    let mut writes = 0;
    for mut command in LiveCommand::list(&client.read_raw_reply()) {
        let own = std::mem::take(&mut command.subcommands);
        for one in std::iter::once(command).chain(own) {
            // What modules write, nobody knows: it is copied.
            let flagged = |wanted: &str| one.flags.iter().any(|flag| flag == wanted);
            if flagged("write") && !flagged("module") {
                writes += 1;
                // Old servers give a container the flags of what it contains.
                let container = table.by_name(&one.name).is_some_and(|id| table.spec(id).container);
                missing.extend((Recipe::by_name(&one.name).is_none() && !container).then_some(one.name));
            }
        }
    }
    assert!(writes > 90, "only {writes} commands write");
    assert!(missing.is_empty(), "how are these mirrored? {missing:?}");
}

#[test]
fn popped_members_and_float_sums() {
    for protocol in ["2", "3"] {
        let mut world = World::new(protocol);
        let mut random = Random(41);
        for step in 0..STEPS {
            let line = scalar(&mut random);
            world.words(&line);
            world.assert_equal(&format!("RESP{protocol}, step {step}: {line}"));
        }
        world.assert_seen(&["Spop frames", "Spop nothing", "IncrByFloat frames", "HIncrByFloat frames"]);
        world.assert_seen(&["IncrByFloat nothing", "HIncrByFloat nothing"]);
    }
}

fn scalar(random: &mut Random) -> String {
    let key = random.pick(&["a", "b", "c"]);
    let number = random.pick(&["0.1", "-3.7e5", "1e-7", "100000000.25", "5", "nonsense"]);
    let (one, two) = (random.below(30), random.below(8));
    match random.below(14) {
        0..4 => format!("SADD s{key} {} {one} m{two}", random.below(30)),
        4 => format!("SPOP s{key}"),
        5..7 => format!("SPOP s{key} {two}"),
        7 => format!("SPOP s{key} {}", random.pick(&["0", "1000", "-1", "x"])),
        8..10 => format!("INCRBYFLOAT f{key} {number}"),
        10 => format!("PEXPIRE f{key} 100000"),
        11 => format!("DEL {}{key}", random.pick(&["s", "f", "h"])),
        12 => format!("HINCRBYFLOAT h{key} field{two} {number}"),
        _ => format!("HINCRBYFLOAT {}{key} field {number}", random.pick(&["h", "s"])),
    }
}

#[test]
fn a_set_popped_whole_in_one_go_takes_several_commands() {
    let mut world = World::new("3");
    let members = (0..25_000).map(|member| member.to_string().into_bytes());
    let add: Vec<Vec<u8>> = split("SADD big").into_iter().chain(members).collect();
    world.run(&add);
    world.words("SADD big left");
    world.words("SPOP big 25000");
    world.assert_equal("all but one");
    world.words("SPOP big");
    world.assert_equal("all");
}

#[test]
fn entries_with_ids_of_the_servers_choice_and_trimming_as_it_sees_fit() {
    for protocol in ["2", "3"] {
        let mut world = World::new(protocol);
        let mut random = Random(42);
        for step in 0..STEPS {
            let line = entry(&mut random, step);
            world.words(&line);
            world.assert_equal(&format!("RESP{protocol}, step {step}: {line}"));
        }
        world.assert_seen(&[
            "XaddAuto frames",
            "XaddAuto nothing",
            "XaddApprox frames",
            "XaddApprox nothing",
        ]);
        world.assert_seen(&["XtrimApprox frames", "XtrimApprox nothing"]);
    }
}

fn entry(random: &mut Random, step: usize) -> String {
    let key = random.pick(&["a", "b", "c"]);
    let make = if random.one_in(4) { "NOMKSTREAM " } else { "" };
    let id = match random.below(4) {
        0 => "*".to_owned(),
        1 => format!("{}-*", step / 10 + 1),
        2 => format!("{}-{}", step / 10 + 1, random.below(20)),
        _ => random.pick(&["*", "5-*", "nonsense"]).to_owned(),
    };
    let sign = random.pick(&["~ ", "~ ", "= ", ""]);
    let limit =
        if sign == "~ " && random.one_in(3) { format!(" LIMIT {}", random.below(8)) } else { String::new() };
    let trim = match random.below(2) {
        0 => format!("MAXLEN {sign}{}{limit}", random.below(9)),
        _ => format!("MINID {sign}{}{limit}", random.below(step as u64 / 10 + 2)),
    };
    match random.below(12) {
        0..4 => format!("XADD {key} {make}{id} f v"),
        4..8 => format!("XADD {key} {make}{trim} {id} f v g w"),
        8..10 => format!("XTRIM {key} {trim}"),
        10 => format!("XDEL {key} {}-{}", random.below(5), random.below(20)),
        _ => random
            .pick(&["DEL a", "EXPIRE b 1000", "SET c string", "DEL c", "XGROUP CREATE b g 0"])
            .to_owned(),
    }
}

#[test]
fn consumer_groups_stand_where_they_stood() {
    for (protocol, seed) in [("2", 43), ("3", 44)] {
        let mut world = World::new(protocol);
        let mut random = Random(seed);
        let mut time = 0;
        for step in 0..STEPS * 2 {
            let line = group(&mut random, &mut time);
            world.words(&line);
            world.assert_equal(&format!("RESP{protocol}, step {step}: {line}"));
        }
        world.assert_seen(&["XReadGroup frames", "XReadGroup nothing", "XClaim frames", "XAutoClaim frames"]);
    }
}

fn group(random: &mut Random, time: &mut u64) -> String {
    let key = random.pick(&["a", "b"]);
    let group = random.pick(&["g", "h"]);
    let consumer = random.pick(&["one", "two", "three"]);
    let below = *time + 1;
    let ids = |random: &mut Random| {
        let count = 1 + random.below(4);
        (0..count).map(|_| format!(" {}", random.below(below))).collect::<String>()
    };
    match random.below(26) {
        0..6 => {
            *time += 1;
            format!("XADD {key} {time}-0 f v")
        }
        6 => format!("XDEL {key}{}", ids(random)),
        7 => format!("XTRIM {key} MAXLEN {} {}", random.pick(&["~", "="]), random.below(10)),
        8 => format!("XGROUP CREATE {key} {group} {} MKSTREAM", random.pick(&["0", "$"])),
        9 => format!("XGROUP SETID {key} {group} {}", random.below(below)),
        10 => format!("XACK {key} {group}{}", ids(random)),
        11 if random.one_in(3) => format!("XGROUP DELCONSUMER {key} {group} {consumer}"),
        11 if random.one_in(4) => format!("DEL {key}"),
        11..17 => {
            let count =
                if random.one_in(2) { format!(" COUNT {}", 1 + random.below(3)) } else { String::new() };
            let no_ack = if random.one_in(4) { " NOACK" } else { "" };
            let id = if random.one_in(4) { random.below(below).to_string() } else { ">".to_owned() };
            let streams = match random.below(3) {
                0 => format!("a b {id} >"),
                _ => format!("{key} {id}"),
            };
            format!("XREADGROUP GROUP {group} {consumer}{count}{no_ack} STREAMS {streams}")
        }
        17..22 => {
            let idle = if random.one_in(4) { "100000" } else { "0" };
            let mut line = format!("XCLAIM {key} {group} {consumer} {idle}{}", ids(random));
            for (option, chances) in
                [(" FORCE", 3), (" JUSTID", 3), (" RETRYCOUNT 7", 5), (" IDLE 50000", 6), (" LASTID 3-0", 9)]
            {
                if random.one_in(chances) {
                    line.push_str(option);
                }
            }
            line
        }
        _ => {
            let idle = if random.one_in(4) { "100000" } else { "0" };
            let just = if random.one_in(3) { " JUSTID" } else { "" };
            format!(
                "XAUTOCLAIM {key} {group} {consumer} {idle} {} COUNT {}{just}",
                random.below(below),
                1 + random.below(5)
            )
        }
    }
}

#[test]
fn transactions_as_a_whole() {
    for (protocol, seed) in [("2", 45), ("3", 46)] {
        let mut world = World::new(protocol);
        let mut random = Random(seed);
        let mut time = 0;
        for step in 0..STEPS / 2 {
            let count = 1 + random.below(6) as usize;
            let parts: Vec<String> = (0..count).map(|_| queued(&mut random, &mut time, step)).collect();
            exec(&mut world, &parts);
            world.assert_equal(&format!("RESP{protocol}, step {step}: {parts:?}"));
        }
        world.assert_seen(&["exec nothing", "exec frames", "exec copies", "exec lengths"]);
    }
}

fn queued(random: &mut Random, time: &mut u64, step: usize) -> String {
    match random.below(16) {
        0..4 => scalar(random),
        4..8 => entry(random, step).replace("XADD ", "XADD s").replace("XTRIM ", "XTRIM s"),
        8..12 => group(random, time).replace("a b ", "a a "),
        12 => "GET fa".to_owned(),
        13 => format!("RENAME s{} sa", random.pick(&["a", "b", "c"])),
        14 => "EVAL redis.call('SET',KEYS[1],redis.call('TIME')[2]) 1 random".to_owned(),
        _ => random
            .pick(&[
                "EVAL redis.call('INCR',KEYS[1]);redis.call('NONSENSE') 1 failing",
                "COPY random copied REPLACE",
                "FLUSHDB",
                "SORT numbers STORE sorted",
            ])
            .to_owned(),
    }
}

#[track_caller]
fn exec(world: &mut World, lines: &[String]) {
    let commands: Vec<Vec<Vec<u8>>> = lines.iter().map(|line| split(line)).collect();
    let table = world.table.clone();
    let parts: Vec<Part<'_, [Vec<u8>]>> = commands
        .iter()
        .map(|words| {
            let spec = table.spec(table.find(&words[..]).expect("a command"));
            Part { spec, args: &words[..], way: way(spec, &words[..]) }
        })
        .collect();
    let mut sent = encode(&["MULTI"]);
    commands.iter().for_each(|words| sent.extend(encode(words)));
    sent.extend(encode(&["EXEC"]));
    let more = exec_companions(&parts, world.dialect, &mut sent);
    world.first.send_raw(&sent);
    let queued = world.first.read_replies(commands.len() + 1);
    assert!(queued.iter().all(|reply| !reply.is_error()), "{lines:?}: {queued:?}");
    let reply = world.first.read_raw_reply();
    let more: Vec<Vec<u8>> = (0..more).map(|_| world.first.read_raw_reply()).collect();
    let more: Vec<&[u8]> = more.iter().map(Vec::as_slice).collect();
    let outcome = derive_exec(&parts, &reply, Extra { replies: &more, dialect: world.dialect });
    let mut note = |what: &str| *world.seen.entry(format!("exec {what}")).or_default() += 1;
    if !more.is_empty() {
        note("lengths");
    }
    if !outcome.copy.is_empty() {
        note("copies");
    }
    match outcome.effect {
        Effect::Nothing => note("nothing"),
        Effect::Copy => panic!("nothing told of {lines:?}: {}", reply.escape_ascii()),
        Effect::Frames { bytes, replies } => {
            note("frames");
            world.second.send_raw(&bytes);
            let answers = world.second.read_replies(replies as usize);
            assert!(answers.iter().all(|answer| !answer.is_error()), "{lines:?}: {answers:?}");
            let done = answers.last().expect("a reply").items();
            let copied = !outcome.copy.is_empty();
            assert!(copied || done.iter().all(|answer| !answer.is_error()), "{lines:?}: {done:?}");
        }
    }
    for at in outcome.copy {
        world.copy(&commands[at]);
    }
}

#[test]
fn an_aborted_transaction_has_no_effect() {
    let world = World::new("2");
    let table = &world.table;
    let words = split("SET k v");
    let spec = table.spec(table.find(&words[..]).expect("SET"));
    let parts = [Part { spec, args: &words[..], way: Way::Verbatim }];
    for reply in ["*-1\r\n", "_\r\n", "-EXECABORT Transaction discarded\r\n"] {
        let outcome = derive_exec(&parts, reply.as_bytes(), Extra::default());
        assert_eq!((outcome.effect, outcome.copy), (Effect::Nothing, Vec::new()), "{reply:?}");
    }
}
