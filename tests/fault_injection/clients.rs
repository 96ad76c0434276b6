//! Clients that know what they must be told: their own counter, their own values, tokens that nobody else sends.

use super::books::{Books, Counter, LIST, SET};
use super::support::{Astray, Client, Numbers, Value, encode, is_timeout, poll_for};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the clients of a run share.
pub struct World {
    pub port: u16,
    pub seed: u64,
    pub books: Books,
    pub astray: Arc<Astray>,
    pub stop: AtomicBool,
    /// How often, in percent of its rounds, a client leaves and comes back.
    pub churn: usize,
    /// What a client does between two rounds.
    pub pause: Duration,
}

/// Values larger than what the proxy sends on in pieces, and than what passes its lanes.
const LARGE: [usize; 4] = [1_000, 40_000, 150_000, 400_000];
const PATIENCE: Duration = Duration::from_secs(20);
const RECONNECT: Duration = Duration::from_secs(30);
/// Keys that all clients write without knowing what they hold.
const SHARED: usize = 4;

/// What became of a request.
enum Outcome {
    /// This is the reply to it.
    Sure(Value),
    /// It may have run, or not; what was answered says nothing.
    Unknown,
    /// It did not run.
    Refused,
}

struct Person<'a> {
    world: &'a World,
    name: String,
    numbers: Numbers,
    client: Option<Client>,
    resp3: bool,
    counter: Counter,
    /// What its own value may be: what was acknowledged last, and what may have come after it.
    value: Vec<Value>,
    large: Vec<Value>,
    serial: u64,
}

/// One client, until it is told to stop.
pub fn live(world: &World, number: u64) {
    let numbers = Numbers(world.seed.wrapping_mul(0x9e37_79b9).wrapping_add(number * 7919));
    let mut person = Person {
        world,
        name: format!("client{number}"),
        numbers,
        client: None,
        resp3: number.is_multiple_of(2),
        counter: Counter::default(),
        value: vec![Value::Nil],
        large: vec![Value::Nil],
        serial: 0,
    };
    while !world.stop.load(Ordering::Relaxed) {
        person.act();
        if person.numbers.below(100) < world.churn {
            person.client = None;
        }
        std::thread::sleep(world.pause);
    }
    world.books.close(&person.own("counter"), person.counter);
}

// === impl Person ===

impl Person<'_> {
    fn act(&mut self) {
        match self.numbers.below(16) {
            0..=2 => self.echo(),
            3..=5 => self.count(&[]),
            6 => self.count_by_script(),
            7..=8 => self.write_and_read("value"),
            9 => self.write_and_read("large"),
            10..=11 => self.push(),
            12..=13 => self.pop(),
            14 => self.watch(),
            _ => self.share(),
        }
    }

    fn own(&self, what: &str) -> String {
        format!("{what}:{}", self.name)
    }

    fn token(&mut self) -> String {
        self.serial += 1;
        format!("{}-{}", self.name, self.serial)
    }

    // --- what it does ---

    fn echo(&mut self) {
        let count = 1 + self.numbers.below(6);
        let tokens: Vec<String> = (0..count).map(|_| self.token()).collect();
        let outcomes = self.batch(tokens.iter().map(|token| words(&["ECHO", token])).collect());
        for (token, outcome) in tokens.iter().zip(outcomes) {
            if let Outcome::Sure(reply) = outcome {
                self.expect(&reply, reply == token.as_str().into(), &format!("ECHO {token}"));
            }
        }
    }

    /// Adds one to its counter, now and then inside a transaction between things that show whose reply it is.
    fn count(&mut self, before: &[Vec<Vec<u8>>]) {
        let (key, token) = (self.own("counter"), self.token());
        if before.is_empty() && self.numbers.below(2) == 0 {
            let outcome = self.call(words(&["INCR", &key]));
            return self.counted(outcome, false, |reply| Some(reply.clone()));
        }
        let mut commands = before.to_vec();
        commands.push(words(&["MULTI"]));
        commands.extend([words(&["INCR", &key]), words(&["ECHO", &token]), words(&["EXEC"])]);
        let mut outcomes = self.batch(commands);
        let Some(exec) = outcomes.pop() else { return };
        // EXEC that was not sent, or refused, has run nothing; one that answers nil had lost its watched key.
        self.counted(exec, !before.is_empty(), |reply| match reply {
            Value::Array(items) if items.len() == 2 && items[1] == token.as_str().into() => {
                Some(items[0].clone())
            }
            _ => None,
        });
    }

    fn watch(&mut self) {
        let key = self.own("value");
        self.count(&[words(&["WATCH", &key]), words(&["GET", &key])]);
    }

    fn count_by_script(&mut self) {
        let (key, token) = (self.own("counter"), self.token());
        let script = "return {redis.call('INCR', KEYS[1]), ARGV[1]}";
        let outcome = self.call(words(&["EVAL", script, "1", &key, &token]));
        self.counted(outcome, false, |reply| match reply {
            Value::Array(items) if items.len() == 2 && items[1] == token.as_str().into() => {
                Some(items[0].clone())
            }
            _ => None,
        });
    }

    /// Notes the next number, where `number` finds it in the reply.
    fn counted(&mut self, outcome: Outcome, watched: bool, number: impl Fn(&Value) -> Option<Value>) {
        match outcome {
            Outcome::Refused => {}
            Outcome::Unknown => self.counter.maybe += 1,
            // Nobody else writes what it watches, but the keys may have moved to the other store.
            Outcome::Sure(Value::Nil) if watched => {}
            Outcome::Sure(reply) => {
                let Counter { sure, maybe } = self.counter;
                let fits = match number(&reply) {
                    Some(Value::Int(value)) if (sure + 1..=sure + maybe + 1).contains(&value) => {
                        self.counter = Counter { sure: value, maybe: 0 };
                        true
                    }
                    _ => false,
                };
                self.expect(&reply, fits, &format!("counting, at {sure} + {maybe}"));
            }
        }
    }

    /// Writes a value that nobody else has, and reads what it has written.
    fn write_and_read(&mut self, what: &str) {
        let key = self.own(what);
        let mut token = self.token();
        if what == "large" {
            let size = self.numbers.pick(&LARGE);
            token = token.repeat(size / token.len() + 1);
        }
        let expiry: &[&str] = if self.numbers.below(4) == 0 { &["EX", "1000"] } else { &[] };
        let set = [&["SET", &key, &token], expiry].concat();
        let mut commands = vec![words(&["GET", &key]), words(&set), words(&["GET", &key])];
        let from = self.numbers.below(3);
        let mut outcomes = self.batch(commands.split_off(from)).into_iter();
        if from == 0
            && let Some(Outcome::Sure(reply)) = outcomes.next()
        {
            self.expect_value(what, &reply);
        }
        if from <= 1 {
            match outcomes.next() {
                Some(Outcome::Sure(reply)) => {
                    self.expect(&reply, reply == Value::ok(), "SET");
                    *self.values(what) = vec![Value::bulk(&token)];
                }
                Some(Outcome::Unknown) => self.values(what).push(Value::bulk(&token)),
                Some(Outcome::Refused) | None => {}
            }
        }
        if let Some(Outcome::Sure(reply)) = outcomes.next() {
            self.expect_value(what, &reply);
        }
    }

    fn values(&mut self, what: &str) -> &mut Vec<Value> {
        if what == "large" { &mut self.large } else { &mut self.value }
    }

    fn expect_value(&mut self, what: &str, reply: &Value) {
        let fits = self.values(what).contains(reply);
        let short = |value: &Value| {
            let text = format!("{value:?}");
            text.chars().take(60).collect::<String>()
        };
        if !fits {
            let known: Vec<String> = self.values(what).iter().map(short).collect();
            let text =
                format!("{}: its {what} is {}, and should be one of {known:?}", self.name, short(reply));
            self.world.books.complain(text);
        }
    }

    fn push(&mut self) {
        let queue = self.numbers.pick(&[LIST, SET]);
        let elements: Vec<String> = (0..1 + self.numbers.below(3)).map(|_| self.token()).collect();
        let mut command = vec![if queue == LIST { "RPUSH" } else { "SADD" }, queue];
        command.extend(elements.iter().map(String::as_str));
        let sure = match self.call(words(&command)) {
            Outcome::Refused => return,
            Outcome::Unknown => false,
            Outcome::Sure(reply) => {
                self.expect(&reply, matches!(reply, Value::Int(1..)), "a push");
                true
            }
        };
        elements.iter().for_each(|element| self.world.books.pushed(queue, element, sure));
    }

    fn pop(&mut self) {
        let (queue, command, most): (_, &[&str], _) = match self.numbers.below(6) {
            0 => (LIST, &["LPOP", LIST], 1),
            1 => (LIST, &["RPOP", LIST, "8"], 8),
            2 => (LIST, &["BLPOP", LIST, "0.05"], 1),
            3 => (LIST, &["BRPOP", LIST, "0.02"], 1),
            4 => (SET, &["SPOP", SET], 1),
            _ => (SET, &["SPOP", SET, "5"], 5),
        };
        match self.call(words(command)) {
            Outcome::Refused => {}
            Outcome::Unknown => self.world.books.maybe_popped(queue, most),
            Outcome::Sure(reply) => {
                let mut elements = Vec::new();
                flatten(&reply, &mut elements);
                let fits = elements.iter().all(|element| element.starts_with("client") || element == queue);
                self.expect(&reply, fits, &command.join(" "));
                let popped = elements.iter().filter(|element| *element != queue);
                popped.for_each(|element| self.world.books.popped(queue, element));
            }
        }
    }

    /// Keys of every type that everybody writes: nobody knows what they hold, but both stores must agree.
    fn share(&mut self) {
        let number = self.numbers.below(SHARED).to_string();
        let member = format!("m{}", self.numbers.below(6));
        let commands: Vec<Vec<&str>> = vec![
            vec!["HSET", "h", &member, "v"],
            vec!["HINCRBY", "h", "n", "1"],
            vec!["ZINCRBY", "z", "0.5", &member],
            vec!["XADD", "x", "MAXLEN", "40", "*", "f", &member],
            vec!["INCRBYFLOAT", "f", "0.25"],
            vec!["SET", "s", &member, "EX", "100"],
            vec!["APPEND", "s", "."],
            vec!["SADD", "t", &member],
            vec!["SPOP", "t"],
            vec!["DEL", "h"],
            vec!["EXPIRE", "z", "500"],
            vec!["SETNX", "s", "new"],
            vec!["LPUSH", "l", &member],
            vec!["LTRIM", "l", "0", "20"],
            vec!["SET", "brief", &member, "PX", "300"],
            vec!["MSET", "s", "1", "s2", "2"],
        ];
        let chosen: Vec<Vec<Vec<u8>>> = (0..1 + self.numbers.below(4))
            .map(|_| {
                let command = &commands[self.numbers.below(commands.len())];
                let key = format!("shared:{}:{number}", command[1]);
                let args =
                    command.iter().enumerate().map(|(at, word)| if at == 1 { key.as_str() } else { word });
                args.map(|word| word.as_bytes().to_vec()).collect()
            })
            .collect();
        self.batch(chosen);
    }

    // --- how it speaks ---

    fn expect(&self, reply: &Value, fits: bool, to: &str) {
        if !fits {
            self.world.books.complain(format!("{}: {to} was answered with {reply:?}", self.name));
        }
    }

    fn call(&mut self, command: Vec<Vec<u8>>) -> Outcome {
        self.batch(vec![command]).pop().unwrap_or(Outcome::Unknown)
    }

    /// Commands in one write, and what became of each.
    fn batch(&mut self, commands: Vec<Vec<Vec<u8>>>) -> Vec<Outcome> {
        let stamp = self.world.astray.stamp();
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        let mut outcomes = Vec::with_capacity(commands.len());
        match self.connected().map(|client| exchange(client, &bytes, commands.len(), &mut outcomes)) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.client = None;
                if is_timeout(&error) {
                    self.world.books.complain(format!("{}: no reply in time", self.name));
                }
            }
            None => self.world.books.complain(format!("{}: the proxy takes no clients", self.name)),
        }
        let astray = self.world.astray.since(stamp);
        outcomes.resize_with(commands.len(), || Outcome::Unknown);
        for outcome in &mut outcomes {
            if astray {
                *outcome = Outcome::Unknown;
            }
            self.world.books.note(matches!(outcome, Outcome::Sure(_)));
        }
        if astray {
            // What it has received does not tell where the next reply begins.
            self.client = None;
        }
        outcomes
    }

    fn connected(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            let (port, resp3) = (self.world.port, self.resp3);
            self.client = poll_for(RECONNECT, || {
                let mut client = Client::try_connect(port).ok()?.with_patience(PATIENCE);
                // A store that seems to know RESP2 alone makes its clients go on in that.
                let greets = !resp3 || client.try_call(&["HELLO", "3"]).is_ok();
                greets.then_some(client)
            });
        }
        self.client.as_mut()
    }
}

fn exchange(client: &mut Client, bytes: &[u8], count: usize, outcomes: &mut Vec<Outcome>) -> io::Result<()> {
    client.try_send_raw(bytes)?;
    while outcomes.len() < count {
        outcomes.push(judge(client.try_read_reply()?));
    }
    Ok(())
}

/// What the proxy says itself tells whether the command has left it.
fn judge(reply: Value) -> Outcome {
    let Value::Error(text) = &reply else { return Outcome::Sure(reply) };
    match text {
        text if text.contains("was not sent") || text.starts_with("LOADING") => Outcome::Refused,
        text if text.starts_with("MULTISTORE") => Outcome::Unknown,
        // The first commands of a transaction were refused, and so is what depends on them.
        text if text.starts_with("EXECABORT") || text.contains("without MULTI") => Outcome::Unknown,
        text if text.starts_with("UNBLOCKED") => Outcome::Unknown,
        _ => Outcome::Sure(reply),
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn flatten(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Bulk(bytes) => into.push(String::from_utf8_lossy(bytes).into_owned()),
        Value::Array(items) | Value::Set(items) => items.iter().for_each(|item| flatten(item, into)),
        _ => {}
    }
}
