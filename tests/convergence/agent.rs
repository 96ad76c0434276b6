//! One client of a run: connects again when it was cut, keeps a journal, notices what must not be.

use super::books::Books;
use super::journal::{Book, Journal, Line};
use super::scenario::{Scenario, Trouble};
use super::support::{Client, Numbers, Value, encode, poll_for};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What all clients of a run share.
pub struct World {
    pub scenario: Scenario,
    pub port: u16,
    pub journal: Journal,
    pub books: Books,
    pub stop: AtomicBool,
}

/// A client.
pub struct Agent {
    pub world: Arc<World>,
    pub numbers: Numbers,
    pub book: Book,
    client: Option<Client>,
    resp3: bool,
    db: u32,
}

/// How long a client tries to connect again.
const RECONNECT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(20);

// === impl World ===

impl World {
    /// What a client was told disagrees with what somebody was told before.
    pub fn wrong(&self, text: String) {
        if self.scenario.keeps_books() {
            self.journal.complain(text);
        }
    }

    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

// === impl Agent ===

impl Agent {
    pub fn new(world: &Arc<World>, name: &str, number: u64) -> Agent {
        let mut numbers = world.scenario.numbers(number + 100);
        let resp3 = numbers.below(2) == 0;
        let book =
            Book { client: format!("{name}{number}{}", if resp3 { "/3" } else { "" }), lines: Vec::new() };
        Agent { world: world.clone(), numbers, book, client: None, resp3, db: 0 }
    }

    pub fn name(&self) -> &str {
        &self.book.client
    }

    /// The database that requests go to from here on. False: it stays what it was.
    pub fn select(&mut self, db: u32) -> bool {
        if db != self.db && self.call(&["SELECT", &db.to_string()]) == Some(Value::ok()) {
            self.db = db;
        }
        self.db == db
    }

    /// One request; `None` when nobody knows what became of it.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Option<Value> {
        let command = args.iter().map(|arg| arg.as_ref().to_vec()).collect();
        self.batch(vec![command]).pop().flatten()
    }

    pub fn words(&mut self, line: &str) -> Option<Value> {
        self.call(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Requests sent in one write.
    pub fn batch(&mut self, commands: Vec<Vec<Vec<u8>>>) -> Vec<Option<Value>> {
        let from = self.world.journal.now();
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        let mut replies = Vec::with_capacity(commands.len());
        let mut broken = None;
        match self.connected() {
            Some(client) => {
                broken = client.try_send_raw(&bytes).err();
                while broken.is_none() && replies.len() < commands.len() {
                    match client.try_read_reply() {
                        Ok(reply) => replies.push(Some(reply)),
                        Err(error) => broken = Some(error),
                    }
                }
            }
            None => self.world.journal.complain(format!("{}: the proxy takes no clients", self.name())),
        }
        if let Some(error) = broken {
            self.client = None;
            if self.world.scenario.trouble < Trouble::Proxy {
                let text = format!("{}: connection lost: {error} after {:?}", self.name(), show(&commands));
                self.world.journal.complain(text);
            }
        }
        replies.resize(commands.len(), None);
        let to = self.world.journal.now();
        for (command, reply) in commands.into_iter().zip(&mut replies) {
            self.judge(&command, reply);
            let (reply, db) = (reply.clone(), self.db);
            self.book.lines.push(Line { from, to, db, command, reply });
        }
        replies
    }

    /// What the proxy says itself is bad news, and is bad while nothing is wrong.
    fn judge(&mut self, command: &[Vec<u8>], reply: &mut Option<Value>) {
        let Some(Value::Error(text)) = reply else { return };
        if !text.starts_with("MULTISTORE") {
            return;
        }
        if self.world.scenario.trouble <= Trouble::Flips {
            let said =
                format!("{}: {:?} => {text}", self.name(), show(std::slice::from_ref(&command.to_vec())));
            self.world.journal.complain(said);
        }
        if !text.contains("was not sent") {
            *reply = None;
        }
    }

    fn connected(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            let (port, resp3, db) = (self.world.port, self.resp3, self.db);
            self.client = poll_for(RECONNECT, || connect(port, resp3, db));
        }
        self.client.as_mut()
    }
}

fn connect(port: u16, resp3: bool, db: u32) -> Option<Client> {
    let mut client = Client::try_connect(port).ok()?.with_patience(PATIENCE);
    if resp3 && client.try_call(&["HELLO", "3"]).ok()?.is_error() {
        return None;
    }
    (client.try_call(&["SELECT", &db.to_string()]).ok()? == Value::ok()).then_some(client)
}

fn show(commands: &[Vec<Vec<u8>>]) -> Vec<String> {
    let words = |command: &Vec<Vec<u8>>| {
        command.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    };
    commands.iter().map(words).collect()
}
