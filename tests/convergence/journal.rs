//! What was asked and answered, to be read when something went wrong.

use super::support::Value;
use std::sync::Mutex;
use std::time::Instant;

/// The journal of a run.
pub struct Journal {
    began: Instant,
    events: Mutex<Vec<String>>,
    complaints: Mutex<Vec<String>>,
}

/// One request of one client. Kept by the client itself until the end.
pub struct Line {
    pub from: u64,
    pub to: u64,
    pub db: u32,
    pub command: Vec<Vec<u8>>,
    pub reply: Option<Value>,
}

/// All requests of one client.
pub struct Book {
    pub client: String,
    pub lines: Vec<Line>,
}

/// Complaints kept; more of the same add nothing.
const MOST_COMPLAINTS: usize = 20;
const LONGEST_REPLY: usize = 300;
/// A word of a complaint that is longer is an element of a queue or a stream.
const SHORTEST_ELEMENT: usize = 14;

// === impl Journal ===

impl Journal {
    pub fn new() -> Journal {
        Journal { began: Instant::now(), events: Mutex::default(), complaints: Mutex::default() }
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Something that the run itself did.
    pub fn event(&self, text: String) {
        let line = format!("{:>9} {text}", self.now());
        lock(&self.events).push(line);
    }

    pub fn events(&self) -> Vec<String> {
        lock(&self.events).clone()
    }

    /// A promise was broken.
    pub fn complain(&self, text: String) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() < MOST_COMPLAINTS {
            complaints.push(format!("{:>9} {text}", self.now()));
        }
    }

    pub fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }
}

/// The last `count` requests that name `key`, of all clients, by the time at which they ended.
pub fn tail(books: &[Book], events: &[String], db: u32, key: &[u8], count: usize) -> Vec<String> {
    let mut found: Vec<(u64, String)> = Vec::new();
    for book in books {
        let named = book.lines.iter().filter(|line| {
            (line.db == db || line.command.first().is_some_and(|name| name.eq_ignore_ascii_case(b"copy")))
                && (line.command.iter().any(|word| word == key)
                    || line
                        .command
                        .first()
                        .is_some_and(|name| name.to_ascii_uppercase().starts_with(b"FLUSH")))
        });
        found.extend(named.map(|line| (line.to, line.show(&book.client))));
    }
    found.extend(times(events));
    found.sort();
    let skip = found.len().saturating_sub(count);
    found.into_iter().skip(skip).map(|(_, line)| line).collect()
}

/// The elements that a complaint names.
pub fn elements(complaint: &str) -> Vec<&str> {
    complaint.split_whitespace().filter(|word| word.len() > SHORTEST_ELEMENT).collect()
}

/// The requests that mention one of these words, and what the run did between them.
pub fn mentions(books: &[Book], events: &[String], elements: &[&str]) -> Vec<String> {
    let mut found: Vec<(u64, String)> = Vec::new();
    for book in books {
        let shown = book.lines.iter().map(|line| (line.to, line.show(&book.client)));
        found.extend(shown.filter(|(_, text)| elements.iter().any(|element| text.contains(element))));
    }
    if found.is_empty() {
        return Vec::new();
    }
    found.extend(times(events));
    found.sort();
    found.into_iter().map(|(_, line)| line).collect()
}

fn times(events: &[String]) -> Vec<(u64, String)> {
    let timed = events.iter().filter_map(|event| {
        let at: u64 = event.split_whitespace().next()?.parse().ok()?;
        Some((at, format!("           {event}")))
    });
    timed.collect()
}

// === impl Line ===

impl Line {
    fn show(&self, client: &str) -> String {
        let Line { from, to, command, reply, .. } = self;
        let words: Vec<String> = command.iter().map(|word| word.escape_ascii().to_string()).collect();
        let mut reply = reply.as_ref().map_or("NO REPLY".to_owned(), |reply| format!("{reply:?}"));
        if reply.len() > LONGEST_REPLY {
            reply.truncate((0..=LONGEST_REPLY).rev().find(|at| reply.is_char_boundary(*at)).unwrap_or(0));
            reply.push('…');
        }
        format!("{from:>9}..{to:>9} {client:<12} {} => {reply}", words.join(" "))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
