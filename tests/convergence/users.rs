//! Clients that keep books: counters, queues, streams and locks as applications use them.

use super::agent::{Agent, World};
use super::books::{GROUP, LOCKS, QUEUES, Queue, STREAMS, value_of};
use super::journal::Book;
use super::scenario::Trouble;
use super::support::Value;
use std::sync::Arc;

const UNLOCK: &str =
    "if redis.call('GET',KEYS[1]) == ARGV[1] then return redis.call('DEL',KEYS[1]) else return 0 end";
const COUNT: &str = "redis.call('TIME'); return redis.call('INCRBY',KEYS[1],ARGV[1])";

/// A kind of user.
pub type User = fn(&mut Agent);

/// Everyone who keeps books.
pub const USERS: &[(&str, User)] = &[
    ("count", count),
    ("count", count),
    ("watch", watch),
    ("watch", watch),
    ("lock", lock),
    ("lock", lock),
    ("push", push),
    ("push", push),
    ("pop", pop),
    ("pop", pop),
    ("block", block),
    ("block", block),
    ("add", add),
    ("group", group),
    ("group", group),
];

/// Does it again and again until the run is over.
pub fn live(world: &Arc<World>, name: &str, number: u64, user: User) -> Book {
    let mut agent = Agent::new(world, name, number);
    while world.goes_on() {
        user(&mut agent);
    }
    agent.book
}

// --- counters ---

fn count(agent: &mut Agent) {
    let by = 1 + agent.numbers.below(3) as i64;
    let (name, command) = match agent.numbers.below(9) {
        0 => ("ctr:cold", format!("INCRBY ctr:cold {by}")),
        1 => ("ctr:hot", format!("INCRBY ctr:hot {by}")),
        2 => return count_in_transaction(agent, by),
        3 => ("float:a", format!("INCRBYFLOAT float:a {}", by as f64 / 4.0)),
        4 => ("float:h", format!("HINCRBYFLOAT float:h sum {}", by as f64 / 4.0)),
        5 => {
            let told = agent.world.books.told("ctr:eval");
            let reply = agent.call(&["EVAL", COUNT, "1", "ctr:eval", &by.to_string()]);
            return counted(agent, "ctr:eval", by, told, reply);
        }
        6 => return read(agent, "ctr:cold", "GET ctr:cold"),
        7 => return read(agent, "ctr:hot", "GET ctr:hot"),
        _ => return read(agent, "float:h", "HGET float:h sum"),
    };
    let told = agent.world.books.told(name);
    let reply = agent.words(&command);
    counted(agent, name, by, told, reply);
}

fn counted(agent: &Agent, name: &str, by: i64, told: i64, reply: Option<Value>) {
    let World { books, .. } = &*agent.world;
    match reply {
        None => books.maybe_counted(name, by),
        Some(Value::Error(text)) => unexpected(agent, name, &text),
        Some(Value::Int(value)) => books.counted(name, by, Some(value), told, &agent.world),
        Some(Value::Bulk(text)) => {
            let value = value_of(name, &String::from_utf8_lossy(&text));
            books.counted(name, by, value, told, &agent.world);
        }
        Some(other) => agent.world.wrong(format!("{name}: an increment was answered with {other:?}")),
    }
}

fn read(agent: &mut Agent, name: &'static str, command: &str) {
    let told = agent.world.books.told(name);
    let Some(reply) = agent.words(command) else { return };
    let World { books, .. } = &*agent.world;
    match &reply {
        Value::Error(text) => unexpected(agent, name, text),
        Value::Bulk(text) => match value_of(name, &String::from_utf8_lossy(text)) {
            Some(value) => books.read(name, value, told, &agent.world),
            None => agent.world.wrong(format!("{name} reads {reply:?}")),
        },
        other => agent.world.wrong(format!("{name} reads {other:?} after somebody was told {told}")),
    }
}

/// What a store says may be bad news only while something is wrong.
fn unexpected(agent: &Agent, name: &str, text: &str) {
    let harmless = [
        "OOM",
        "READONLY",
        "LOADING",
        "NOREPLICAS",
        "MISCONF",
        "MULTISTORE",
        "MASTERDOWN",
        "BUSY",
        "EXECABORT",
        "UNBLOCKED",
        "NOPERM",
        "ERR The user executing",
    ];
    let troubled = agent.world.scenario.trouble > Trouble::Flips;
    if !troubled || !harmless.iter().any(|code| text.starts_with(code)) {
        agent.world.wrong(format!("{name}: {text}"));
    }
}

fn count_in_transaction(agent: &mut Agent, by: i64) {
    let by_text = by.to_string();
    let told = agent.world.books.told("ctr:multi");
    let commands =
        [vec!["MULTI"], vec!["INCRBY", "ctr:multi", &by_text], vec!["SPOP", "scratch:set"], vec!["EXEC"]];
    let reply = transaction(agent, &commands[..]);
    let increment = reply.map(|reply| match reply {
        Value::Array(items) => items.into_iter().next().unwrap_or(Value::Nil),
        other => other,
    });
    counted(agent, "ctr:multi", by, told, increment);
}

/// The reply of EXEC. Half of the clients wait for each reply before.
fn transaction(agent: &mut Agent, commands: &[Vec<&str>]) -> Option<Value> {
    let owned = |command: &Vec<&str>| command.iter().map(|word| word.as_bytes().to_vec()).collect();
    if agent.numbers.below(2) == 0 {
        let commands = commands.iter().map(owned).collect();
        return agent.batch(commands).pop().flatten();
    }
    let mut last = None;
    for command in commands {
        last = agent.call(command);
        match &last {
            // The connection is new: what was queued is forgotten.
            None => return None,
            Some(Value::Error(_)) if command[0] == "MULTI" => return last,
            _ => {}
        }
    }
    last
}

fn watch(agent: &mut Agent) {
    let told = agent.world.books.told("ctr:watch");
    if agent.words("WATCH ctr:watch").is_none_or(|reply| reply.is_error()) {
        return;
    }
    let value = match agent.words("GET ctr:watch") {
        Some(Value::Bulk(text)) => value_of("ctr:watch", &String::from_utf8_lossy(&text)),
        Some(Value::Error(_)) | None => {
            agent.words("UNWATCH");
            return;
        }
        _ => None,
    };
    let Some(value) = value else {
        agent.world.wrong("ctr:watch is no number".to_owned());
        return;
    };
    agent.world.books.read("ctr:watch", value, told, &agent.world);
    let next = (value + 1).to_string();
    let commands = [vec!["MULTI"], vec!["SET", "ctr:watch", &next], vec!["EXEC"]];
    let reply = transaction(agent, &commands[..]);
    let World { books, .. } = &*agent.world;
    match reply {
        None => books.maybe_counted("ctr:watch", 1),
        Some(Value::Nil) => {}
        Some(Value::Error(text)) => {
            unexpected(agent, "ctr:watch", &text);
        }
        Some(_) => books.counted("ctr:watch", 1, Some(value + 1), told, &agent.world),
    }
}

fn lock(agent: &mut Agent) {
    let name = agent.numbers.pick(LOCKS);
    let token = agent.numbers.next().to_string();
    let granted = match agent.numbers.below(3) {
        0 => agent.call(&["SET", name, &token, "NX", "PX", "60000"]).map(|reply| reply == Value::ok()),
        1 => agent.call(&["SET", name, &token, "EX", "60", "NX"]).map(|reply| reply == Value::ok()),
        _ => agent.call(&["SETNX", name, &token]).map(|reply| reply == Value::Int(1)),
    };
    if granted != Some(true) {
        return;
    }
    let world = agent.world.clone();
    world.books.locked(name, &world);
    match agent.call(&["GET", name]) {
        Some(Value::Bulk(found)) if found != token.as_bytes() => {
            let found = String::from_utf8_lossy(&found).into_owned();
            world.wrong(format!("{name}: the holder {token} reads {found}"));
        }
        Some(Value::Nil) => world.wrong(format!("{name}: the holder {token} reads nothing")),
        _ => {}
    }
    world.books.unlocked(name);
    // The script may have run though its reply is lost; then running it again does nothing.
    while world.goes_on() {
        match agent.call(&["EVAL", UNLOCK, "1", name, &token]) {
            Some(Value::Int(1)) => return,
            Some(Value::Int(0)) => {
                if world.scenario.trouble <= Trouble::Flips {
                    world.wrong(format!("{name}: {token} was not there any more to be released"));
                }
                return;
            }
            _ => {}
        }
    }
}

// --- queues ---

fn push(agent: &mut Agent) {
    let queue: &Queue = &QUEUES[agent.numbers.below(QUEUES.len())];
    // Several at once: of them, a client that waits takes the first, and a store must not hand it a second one.
    let elements: Vec<String> = (0..1 + agent.numbers.below(3))
        .map(|_| format!("{}-{}", agent.name().replace('/', "."), agent.numbers.next()))
        .collect();
    let (verb, key) = (agent.numbers.pick(&["LPUSH", "RPUSH"]), agent.numbers.pick(&["q:jobs", "q:more"]));
    let command: Vec<String> = match queue.name {
        "list" => [vec![verb.to_owned(), key.to_owned()], elements.clone()].concat(),
        "zset" => {
            let scored = elements.iter().flat_map(|one| [agent.numbers.below(100).to_string(), one.clone()]);
            ["ZADD".to_owned(), queue.first.to_owned()].into_iter().chain(scored).collect()
        }
        _ => [vec!["SADD".to_owned(), queue.first.to_owned()], elements.clone()].concat(),
    };
    let reply = agent.call(&command);
    let sure = match reply {
        None => false,
        Some(Value::Int(_)) => true,
        Some(Value::Error(text)) => return unexpected(agent, queue.name, &text),
        Some(other) => return agent.world.wrong(format!("{}: push => {other:?}", queue.name)),
    };
    elements.iter().for_each(|element| agent.world.books.pushed(queue.name, element, sure));
}

fn pop(agent: &mut Agent) {
    let (queue, command, most) = match agent.numbers.below(13) {
        0 => ("list", "LPOP q:jobs", 1),
        1 => ("list", "RPOP q:more 2", 2),
        2 => ("zset", "ZPOPMIN zq:jobs", 1),
        3 => ("set", "SPOP sq:jobs", 1),
        4 => ("list", "LPOP q:done", 1),
        5 => ("list", "LMPOP 3 q:jobs q:more q:side LEFT COUNT 2", 2),
        6 => ("zset", "ZMPOP 1 zq:jobs MAX COUNT 2", 2),
        7 => ("set", "SPOP sq:jobs 2", 2),
        8 => ("list", "EVAL return(redis.call('RPOP',KEYS[1])) 1 q:jobs", 1),
        9 => return pop_in_transaction(agent),
        10 => return moved(agent, "RENAMENX q:more q:side"),
        11 => return moved(agent, "RENAMENX q:side q:more"),
        _ => return moved(agent, "LMOVE q:jobs q:done LEFT RIGHT"),
    };
    let reply = agent.words(command);
    took(agent, queue, reply, most);
}

/// With a member of a set beside it, which makes the whole an effect.
fn pop_in_transaction(agent: &mut Agent) {
    let commands = [vec!["MULTI"], vec!["RPOP", "q:jobs"], vec!["SRANDMEMBER", "scratch:set"], vec!["EXEC"]];
    let watches = agent.numbers.below(3) == 0;
    if watches && agent.words("WATCH q:jobs").is_none_or(|reply| reply.is_error()) {
        return;
    }
    let reply = transaction(agent, &commands[..]);
    let first = reply.map(|reply| match reply {
        Value::Array(items) => items.into_iter().next().unwrap_or(Value::Nil),
        other => other,
    });
    took(agent, "list", first, 1);
}

fn block(agent: &mut Agent) {
    let (queue, command, most) = match agent.numbers.below(7) {
        0 => ("list", "BLPOP q:jobs q:more 0.05", 1),
        1 => ("list", "BRPOP q:more 0.1", 1),
        2 => ("zset", "BZPOPMIN zq:jobs 0.05", 1),
        3 => ("list", "BLMPOP 0.05 2 q:more q:done RIGHT COUNT 2", 2),
        6 => ("zset", "BZMPOP 0.05 1 zq:jobs MIN COUNT 2", 2),
        4 => return moved(agent, "BLMOVE q:jobs q:done RIGHT LEFT 0.05"),
        _ => return moved(agent, "BRPOPLPUSH q:more q:done 0.05"),
    };
    let reply = agent.words(command);
    took(agent, queue, reply, most);
}

/// Notes what a pop took: the element stands in another place with every command.
fn took(agent: &Agent, queue: &'static str, reply: Option<Value>, most: usize) {
    let World { books, .. } = &*agent.world;
    match reply {
        None => books.maybe_popped(queue, most),
        Some(Value::Error(text)) => unexpected(agent, queue, &text),
        Some(reply) => {
            let mut strings = Vec::new();
            flatten(&reply, &mut strings);
            let elements = strings.iter().filter(|text| text.contains('-') && text.parse::<f64>().is_err());
            elements.for_each(|element| books.popped(queue, element, &agent.world));
        }
    }
}

fn flatten(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Bulk(bytes) => into.push(String::from_utf8_lossy(bytes).into_owned()),
        Value::Array(items) | Value::Set(items) => items.iter().for_each(|item| flatten(item, into)),
        _ => {}
    }
}

/// From one key of a queue to another: in every case the element is in one of them.
fn moved(agent: &mut Agent, command: &str) {
    match agent.words(command) {
        Some(Value::Error(text)) if text.starts_with("ERR no such key") => {}
        Some(Value::Error(text)) => unexpected(agent, "list", &text),
        _ => {}
    }
}

// --- streams ---

fn add(agent: &mut Agent) {
    let stream = agent.numbers.pick(STREAMS);
    let number = agent.numbers.next();
    let payload = format!("{}-{number}", agent.name());
    let reply = if agent.numbers.below(5) == 0 {
        let commands = [vec!["MULTI"], vec!["XADD", stream, "*", "payload", &payload], vec!["EXEC"]];
        transaction(agent, &commands[..]).map(|reply| match reply {
            Value::Array(items) => items.into_iter().next().unwrap_or(Value::Nil),
            other => other,
        })
    } else {
        agent.call(&["XADD", stream, "*", "payload", &payload])
    };
    let World { books, .. } = &*agent.world;
    match reply {
        None => books.added(stream, None, &payload, &agent.world),
        Some(Value::Bulk(id)) => {
            books.added(stream, Some(&String::from_utf8_lossy(&id)), &payload, &agent.world);
        }
        Some(Value::Error(text)) => unexpected(agent, stream, &text),
        Some(other) => agent.world.wrong(format!("{stream}: XADD => {other:?}")),
    }
}

fn group(agent: &mut Agent) {
    let stream = agent.numbers.pick(STREAMS);
    let consumer = agent.name().replace('/', ".");
    match agent.numbers.below(6) {
        0 => {
            agent.words(&format!("XAUTOCLAIM {stream} {GROUP} {consumer} 20 0 COUNT 3"));
        }
        1 => {
            agent.words(&format!("XREADGROUP GROUP {GROUP} {consumer} COUNT 2 STREAMS {stream} 0"));
        }
        block => {
            let wait = if block == 2 { "BLOCK 30 " } else { "" };
            let reply =
                agent.words(&format!("XREADGROUP GROUP {GROUP} {consumer} COUNT 3 {wait}STREAMS {stream} >"));
            let ids = reply.map(|reply| delivered(agent, stream, &reply)).unwrap_or_default();
            acknowledge(agent, stream, &ids);
        }
    }
}

fn delivered(agent: &Agent, stream: &str, reply: &Value) -> Vec<String> {
    if let Value::Error(text) = reply {
        unexpected(agent, stream, text);
    }
    let entries = match reply {
        Value::Map(streams) => streams.first().map(|(_, entries)| entries),
        Value::Array(streams) => streams.first().map(|stream| &stream.items()[1]),
        _ => None,
    };
    let ids: Vec<String> = entries
        .into_iter()
        .flat_map(|entries| entries.items().iter().map(|entry| entry.items()[0].text()))
        .collect();
    ids.iter().for_each(|id| agent.world.books.delivered(stream, id, &agent.world));
    ids
}

fn acknowledge(agent: &mut Agent, stream: &str, ids: &[String]) {
    for id in ids {
        if agent.numbers.below(4) == 0 {
            continue;
        }
        match agent.words(&format!("XACK {stream} {GROUP} {id}")) {
            Some(Value::Int(count)) => agent.world.books.acked(stream, id, count, &agent.world),
            Some(Value::Error(text)) => unexpected(agent, stream, &text),
            _ => agent.world.books.maybe_acked(stream, id),
        }
    }
}
