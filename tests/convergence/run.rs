//! One run: two servers, a proxy, clients, trouble, and the reckoning.

use super::agent::World;
use super::books::{self, Books, COUNTED_BEFORE, COUNTERS, FLOATS, GROUP, QUEUES, STREAMS};
use super::journal::{Book, Journal, elements, mentions, tail};
use super::scenario::{Scenario, from_env};
use super::support::{Client, Dump, INSTANCE, Pair, RedisServer, Stage, differences, dump, poll_for};
use super::wreck::operate;
use super::{chaos, trouble, users};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the stores may take to become equal.
const CONVERGES: Duration = Duration::from_secs(20);
/// Differing keys whose story is told.
const STORIES: usize = 4;
const TAIL: u64 = 25;

pub fn run(scenario: &Scenario) {
    // What a server has answered it still has when it was killed: the file has it, though not yet the disk.
    let start = || RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "no"]);
    let (primary, secondary) = (start(), start());
    preload(if scenario.start == Stage::PrimaryOnly { &primary } else { &secondary }, scenario);
    let mut pair = Pair::over(primary, secondary, scenario.start, &scenario.settings);
    let world = Arc::new(World {
        scenario: scenario.clone(),
        port: pair.proxy.port(),
        journal: Journal::new(),
        books: Books::new(),
        stop: AtomicBool::new(false),
    });
    let (stage, books) = traffic(&world, &mut pair);
    let differing = settle(&world, &pair, stage);
    report(&world, &pair, stage, &books, differing);
}

/// What the store in use holds before the proxy comes: the other one is cold.
fn preload(store: &RedisServer, scenario: &Scenario) {
    let before = COUNTED_BEFORE.to_string();
    for name in COUNTERS {
        store.call(&["SET", name, &before]);
    }
    let quarters = (COUNTED_BEFORE / 4).to_string();
    store.call(&["SET", FLOATS[0], &quarters]);
    store.call(&["HSET", FLOATS[1], "sum", &quarters, "other", "1"]);
    for queue in QUEUES {
        for element in books::queued_before(queue) {
            match queue.name {
                "list" => store.call(&["RPUSH", queue.first, &element]),
                "zset" => store.call(&["ZADD", queue.first, "5", &element]),
                _ => store.call(&["SADD", queue.first, &element]),
            };
        }
    }
    for stream in STREAMS {
        store.call(&["XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM"]);
    }
    for number in 0..scenario.keys {
        store.words(&format!("SET s:{number} cold EX 100"));
        store.words(&format!("SET n:{number} 7"));
        store.words(&format!("RPUSH l:{number} m1 m2 m3"));
        store.words(&format!("HSET h:{number} m1 v1 n 5"));
        store.words(&format!("SADD t:{number} m1 m2 m3 m4"));
        store.words(&format!("ZADD z:{number} 1 m1 2 m2"));
        store.words(&format!("XADD x:{number} 1-1 f v"));
    }
    store.words("SADD scratch:set a b c d e f g h");
}

fn traffic(world: &Arc<World>, pair: &mut Pair) -> (Stage, Vec<Book>) {
    let end = Instant::now() + world.scenario.traffic;
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for number in 0..world.scenario.chaotic {
            clients.push(scope.spawn(move || chaos::live(world, number as u64)));
        }
        for (number, (name, user)) in users::USERS.iter().enumerate() {
            clients.push(scope.spawn(move || users::live(world, name, 1000 + number as u64, *user)));
        }
        let walked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trouble::walk(world, pair, end)));
        world.stop.store(true, Ordering::Relaxed);
        let books = clients.into_iter().filter_map(|client| match client.join() {
            Ok(book) => Some(book),
            Err(_) => {
                world.journal.complain("a client panicked".to_owned());
                None
            }
        });
        let books = books.collect();
        match walked {
            Ok(stage) => (stage, books),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Waits until both stores hold the same. Returns what differs when they don't.
fn settle(world: &World, pair: &Pair, stage: Stage) -> Vec<String> {
    world.journal.event("--- traffic is over".to_owned());
    let (mut told, mut state) = (Vec::new(), String::new());
    let equal = poll_for(CONVERGES, || {
        operate(world, pair, stage);
        let sync = pair.proxy.instance_status(INSTANCE)["sync"].clone();
        if sync["untouched_keys"] == "unknown" {
            // They are copied when somebody needs them.
            touch(pair);
        }
        state = sync.to_string();
        told = differences(&dump(&pair.primary), &dump(&pair.secondary));
        told.is_empty().then_some(())
    });
    let took = if equal.is_some() { "equal" } else { "NOT equal" };
    world.journal.event(format!("--- {took}: {state}"));
    told
}

/// A write to every key that changes nothing.
fn touch(pair: &Pair) {
    let mut found = BTreeSet::new();
    for store in [&pair.primary, &pair.secondary] {
        let mut client = store.client();
        for db in 0..3 {
            client.call(&["SELECT", &db.to_string()]);
            let keys = client.call(&["KEYS", "*"]);
            found.extend(keys.items().iter().map(|key| (db, key.bytes().to_vec())));
        }
    }
    let mut client: Client = pair.client();
    let mut selected = 0;
    for (db, key) in found {
        if db != selected {
            client.call(&["SELECT", &db.to_string()]);
            selected = db;
        }
        client.call(&[b"PEXPIREAT".as_slice(), &key, b"99999999999999", b"XX", b"LT"]);
    }
}

fn report(world: &World, pair: &Pair, stage: Stage, books: &[Book], differing: Vec<String>) {
    let store: Dump = dump(pair.default_store(stage));
    let wrong = if world.scenario.keeps_books() { world.books.audit(&store) } else { Vec::new() };
    let complaints = world.journal.complaints();
    let requests: usize = books.iter().map(|book| book.lines.len()).sum();
    let unknown = books.iter().flat_map(|book| &book.lines).filter(|line| line.reply.is_none()).count();
    println!(
        "  {requests} requests, {unknown} of unknown outcome, {} keys at the end, {} differ, {} books wrong, {} complaints",
        store.len(),
        differing.len(),
        wrong.len(),
        complaints.len()
    );
    if differing.is_empty() && wrong.is_empty() && complaints.is_empty() {
        return;
    }
    let count = from_env("CONVERGENCE_TAIL").unwrap_or(TAIL) as usize;
    let events = world.journal.events();
    if let Ok(words) = std::env::var("CONVERGENCE_STORY") {
        mentions(books, &events, &words.split_whitespace().collect::<Vec<_>>())
            .iter()
            .for_each(|line| println!("      {line}"));
    }
    for complaint in &complaints {
        println!("  complaint: {complaint}");
        mentions(books, &events, &elements(complaint)).iter().for_each(|line| println!("      {line}"));
    }
    for (key, what) in &wrong {
        println!("  book: {what}");
        tail(books, &events, 0, key.as_bytes(), count).iter().for_each(|line| println!("      {line}"));
    }
    for (at, difference) in differing.iter().enumerate() {
        println!("  {}", cut(difference));
        if let Some((db, key)) = named(difference).filter(|_| at < STORIES) {
            tail(books, &events, db, key.as_bytes(), count).iter().for_each(|line| println!("      {line}"));
        }
    }
    panic!("seed {}: the stores or the books do not agree", world.scenario.seed);
}

/// Database and key of a difference as it is told.
fn named(difference: &str) -> Option<(u32, &str)> {
    let rest = difference.strip_prefix("db ")?;
    let (db, rest) = rest.split_once(" key \"")?;
    Some((db.parse().ok()?, rest.split_once('"')?.0))
}

fn cut(text: &str) -> String {
    const MOST: usize = 700;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
