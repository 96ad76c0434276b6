//! Conversations that a generator makes up: what COMMAND DOCS allows, often with something wrong in it, in both
//! protocols, inside and outside transactions. The same seed makes the same conversations.
//!
//! `DIFFERENTIAL_SEEDS=1..1001 cargo test --test differential generated` looks further.

use crate::bench::{Bench, prepare};
use crate::grammar::{Grammar, spoil};
use crate::normal::normalised;
use crate::support::*;
use multistore::command::{Kind, Rule, Table};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

const DATA: &str = "SET str hello
    SET num 10
    SET n\\0n nul
    RPUSH list a b c
    RPUSH list2 c d
    SADD set 1 2 3
    SADD set2 2 3 4
    HSET hash f 1 g v
    HSET hash2 a 2.5
    ZADD zset 1 a 2.5 b 3 c
    ZADD zset2 1 b 7 d
    XADD stream 1-1 f v
    XADD stream 2-1 f w
    XGROUP CREATE stream grp 0
    PFADD hll a b
    GEOADD geo 13.361389 38.115556 p 15.087269 37.502669 q";
/// Requests in a conversation.
const REQUESTS: usize = 80;
const SEEDS: Range<u64> = 1..13;
/// Their row in docs/compatibility.md.
const SUITE: &str =
    "conversations of 80 requests made up from `COMMAND DOCS`: as a lone server, byte by byte";
/// From so many seeds on they are shared out, and the result is written down.
const MANY: u64 = 200;
/// How many share them: a conversation waits more than it works.
const AT_ONCE: u64 = 16;
/// How often a conversation is made shorter.
const SHRINKS: usize = 150;
/// How long stores may differ while a conversation is made shorter.
const SHORTLY: Duration = Duration::from_millis(700);

/// Not here: they choose, tell of a server or its memory, or have a test of their own.
const LEFT_OUT: &[&str] = &[
    "randomkey",
    "srandmember",
    "hrandfield",
    "zrandmember",
    "spop",
    "time",
    "dump",
    "memory",
    "function|dump",
    "function|stats",
    "sort",
    "sort_ro",
    "migrate",
    "lolwut",
    "command",
    "xinfo|consumers",
    "xinfo|stream",
    "object|idletime",
    "object|freq",
    "object|encoding",
    "object|refcount",
    "function|kill",
    "script|kill",
    "script|debug",
    "quit",
    "auth",
    "keys",
    "scan",
];
/// Commands about the connection that are.
const CONNECTION: &[&str] = &["ping", "echo", "select", "hello", "reset", "client|setname", "client|getname"];

struct Command {
    words: Vec<Vec<u8>>,
    rule: Rule,
    waits: bool,
    rare: bool,
    grammar: Vec<Grammar>,
}

/// One request, and how its reply is looked at.
#[derive(Clone)]
struct Said {
    words: Vec<Vec<u8>>,
    rule: Rule,
}

fn commands(lone: &RedisServer) -> Vec<Command> {
    let docs = lone.words("COMMAND DOCS");
    let mut found: BTreeMap<String, Vec<Grammar>> = BTreeMap::new();
    for pair in docs.items().chunks_exact(2) {
        found.insert(pair[0].text(), Grammar::of(&pair[1]));
        let subcommands = pair[1].field("subcommands").map_or(&[][..], Value::items);
        for sub in subcommands.chunks_exact(2) {
            found.insert(sub[0].text(), Grammar::of(&sub[1]));
        }
    }
    let table = Table::builtin();
    let wanted = table.iter().map(|(_, spec)| spec).filter(|spec| {
        let top = spec.name.split('|').next().unwrap_or_default();
        let kind = match spec.kind {
            Kind::PubSub | Kind::Monitor | Kind::Admin | Kind::Dangerous | Kind::Takeover => false,
            Kind::Connection => CONNECTION.contains(&&*spec.name),
            _ => true,
        };
        kind && !LEFT_OUT.contains(&top) && !LEFT_OUT.contains(&&*spec.name)
    });
    wanted
        .filter_map(|spec| {
            Some(Command {
                grammar: found.get(&*spec.name)?.clone(),
                words: spec.name.to_uppercase().split('|').map(|word| word.as_bytes().to_vec()).collect(),
                rule: spec.rule,
                waits: spec.kind == Kind::Blocking || spec.name.starts_with("xread"),
                rare: matches!(spec.kind, Kind::KeyspaceWrite | Kind::Transaction | Kind::Connection),
            })
        })
        .collect()
}

fn conversation(seed: u64, commands: &[Command]) -> Vec<Said> {
    let dice = &mut Numbers(seed);
    let mut said = Vec::new();
    if seed.is_multiple_of(2) {
        said.push(Said { words: vec![b"HELLO".to_vec(), b"3".to_vec()], rule: Rule::Exact });
    }
    while said.len() < REQUESTS {
        let command = &commands[dice.below(commands.len())];
        if command.rare && dice.below(4) > 0 {
            continue;
        }
        let mut words = command.words.clone();
        command.grammar.iter().for_each(|argument| argument.write(dice, &mut words));
        if dice.below(4) == 0 {
            spoil(dice, &mut words, command.waits);
        }
        said.push(Said { words, rule: command.rule });
    }
    said.push(Said { words: vec![b"DISCARD".to_vec()], rule: Rule::Exact });
    said
}

/// What came of each request: the bytes, or where they may differ, their meaning.
fn replies(port: u16, said: &[Said], stepped: bool) -> Vec<String> {
    prepare(port, DATA);
    let mut client = Client::connect(port);
    if !stepped {
        let bytes: Vec<u8> = said.iter().flat_map(|said| encode(&said.words)).collect();
        client.send_raw(&bytes);
    }
    said.iter()
        .map(|said| {
            if stepped {
                client.send(&said.words);
            }
            match client.try_read_raw_reply() {
                Ok(raw) => seen(&raw, said.rule),
                Err(error) => format!("none: {error}"),
            }
        })
        .collect()
}

fn seen(raw: &[u8], rule: Rule) -> String {
    let raw = without_ids(&normalised(raw));
    let text = raw.escape_ascii().to_string();
    match rule {
        Rule::Exact | Rule::Numbers => text,
        Rule::Tolerance(_) if raw.starts_with(b":") && !raw.starts_with(b":-") => ":TIME".to_owned(),
        Rule::Tolerance(_) => text,
        Rule::Multiset | Rule::PairsMultiset | Rule::ScanPage | Rule::ScanPairsPage | Rule::Ignore => {
            let mut lines: Vec<&[u8]> = raw.split(|byte| *byte == b'\n').collect();
            lines[1..].sort_unstable();
            lines.join(&b'\n').escape_ascii().to_string()
        }
    }
}

/// Automatic ids of stream entries are times of 13 digits.
fn without_ids(raw: &[u8]) -> Vec<u8> {
    let mut out = raw.to_vec();
    for at in 0..out.len().saturating_sub(13) {
        let digits = out[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 13 && out[at] == b'1' && out.get(at + 13) == Some(&b'-') {
            out[at..at + 13].fill(b'T');
        }
    }
    out
}

fn shown(said: &[Said]) -> String {
    said.iter()
        .map(|said| said.words.join(&b' ').escape_ascii().to_string())
        .collect::<Vec<_>>()
        .join("\n    ")
}

/// What `DIFFERENTIAL_SEEDS` says.
pub fn seeds_or(usual: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("DIFFERENTIAL_SEEDS") else { return usual };
    let number =
        |part: Option<&str>| part.and_then(|part| part.parse().ok()).expect("DIFFERENTIAL_SEEDS=1..100");
    let mut parts = text.split("..");
    number(parts.next())..number(parts.next())
}

/// What is wrong with a conversation, if anything: an answer, or what it leaves behind.
fn fault(bench: &Bench, stage: Stage, said: &[Said], stepped: bool, patience: Duration) -> Option<String> {
    let expected = replies(bench.lone.port(), said, stepped);
    let found = replies(bench.pair.proxy.port(), said, stepped);
    let at = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    match at {
        Some(at) => Some(format!(
            "request {at}: {}\n  alone: {:.600}\n  proxy: {:.600}",
            shown(&said[at..=at]),
            expected[at],
            found[at]
        )),
        None if stage.is_dual() => bench.pair.unequal_for(patience),
        None => None,
    }
}

/// The shortest conversation found that shows a fault of this kind.
fn shrunk(mut said: Vec<Said>, fails: impl Fn(&[Said]) -> bool) -> Vec<Said> {
    let mut size = said.len() / 2;
    let mut tries = 0;
    while size > 0 {
        let mut at = 0;
        while at < said.len() && tries < SHRINKS {
            tries += 1;
            let mut less = said.clone();
            less.drain(at..(at + size).min(said.len()));
            if fails(&less) {
                said = less;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    said
}

/// What differs in each stage, in their order, and how many conversations were held there.
type Tallies = [Tally; Stage::ALL.len()];

#[derive(Default)]
struct Tally {
    held: usize,
    differing: Vec<String>,
}

/// Holds the conversations of these seeds in every stage, between servers of their own.
fn hold_all(seeds: Range<u64>) -> Tallies {
    let mut bench = Bench::start();
    let commands = commands(&bench.lone);
    assert!(commands.len() > 150, "only {} commands", commands.len());
    let mut tallies = Tallies::default();
    bench.in_each_stage(|bench, stage| {
        let tally = tally_of(&mut tallies, stage);
        for (seed, stepped) in seeds.clone().flat_map(|seed| [(seed, false), (seed, true)]) {
            tally.held += 1;
            let said = conversation(seed, &commands);
            let Some(what) = fault(bench, stage, &said, stepped, SOON) else { continue };
            let way = if stepped { "stepped" } else { "whole" };
            eprintln!("{stage}, seed {seed}, {way}: {what}");
            let short = shrunk(said, |less| fault(bench, stage, less, stepped, SHORTLY).is_some());
            let what = fault(bench, stage, &short, stepped, SHORTLY).unwrap_or(what);
            let told = format!("{stage}, seed {seed}, {way}:\n    {}\n  {what}", shown(&short));
            tally.differing.push(told);
        }
    });
    tallies
}

fn tally_of(tallies: &mut Tallies, stage: Stage) -> &mut Tally {
    let at = Stage::ALL.iter().position(|of| *of == stage).expect("one of all stages");
    &mut tallies[at]
}

/// Puts the row into docs/compatibility.md.
fn write_docs(tallies: &Tallies) {
    let names = Stage::ALL.map(|stage| stage.to_string());
    let cells: Vec<(&str, String)> = names
        .iter()
        .zip(tallies)
        .map(|(name, tally)| {
            (name.as_str(), format!("{}/{}", tally.held - tally.differing.len(), tally.held))
        })
        .collect();
    write_result(SUITE, &cells);
}

#[test]
fn generated_conversations() {
    let seeds = seeds_or(SEEDS);
    let count = seeds.end - seeds.start;
    let share = count.div_ceil(if count < MANY { 1 } else { AT_ONCE });
    let mut tallies = Tallies::default();
    std::thread::scope(|scope| {
        let shares = seeds.clone().step_by(usize::try_from(share).expect("a count"));
        let benches: Vec<_> = shares
            .map(|start| {
                let seeds = start..(start + share).min(seeds.end);
                scope.spawn(|| hold_all(seeds))
            })
            .collect();
        for bench in benches {
            for (sum, tally) in tallies.iter_mut().zip(bench.join().expect("a bench")) {
                sum.held += tally.held;
                sum.differing.extend(tally.differing);
            }
        }
    });
    if count >= MANY {
        write_docs(&tallies);
    }
    let mut differing: Vec<String> = tallies.into_iter().flat_map(|tally| tally.differing).collect();
    let count = differing.len();
    differing.truncate(20);
    assert!(count == 0, "{count} differ:\n\n{}", differing.join("\n\n"));
}
