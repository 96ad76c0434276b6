//! What the clients were told, to be held against the default store at the end.

use super::support::{Client, RedisServer, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Complaints that are kept; more of the same add nothing.
const MOST_COMPLAINTS: usize = 20;

/// A list and a set whose elements are handed out once.
pub const LIST: &str = "queue:list";
pub const SET: &str = "queue:set";

/// What all clients of a run have found out.
#[derive(Default)]
pub struct Books {
    queues: Mutex<BTreeMap<&'static str, Queue>>,
    counters: Mutex<BTreeMap<String, Counter>>,
    complaints: Mutex<Vec<String>>,
    sure: AtomicU64,
    unsure: AtomicU64,
}

/// A number that one client adds one to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    /// What it is at least.
    pub sure: i64,
    /// How much more it may be.
    pub maybe: i64,
}

#[derive(Default)]
struct Queue {
    /// True: acknowledged.
    pushed: BTreeMap<String, bool>,
    popped: BTreeSet<String>,
    /// Elements that may have been handed out without anybody's knowing.
    lost: usize,
}

// === impl Books ===

impl Books {
    /// Something that must not be.
    pub fn complain(&self, text: String) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() < MOST_COMPLAINTS {
            complaints.push(text);
        }
    }

    pub fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    /// A request was answered, surely or not.
    pub fn note(&self, sure: bool) {
        let counter = if sure { &self.sure } else { &self.unsure };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests have got an answer that counts.
    pub fn answered(&self) -> u64 {
        self.sure.load(Ordering::Relaxed)
    }

    pub fn unanswered(&self) -> u64 {
        self.unsure.load(Ordering::Relaxed)
    }

    /// What the owner of a counter knows of it in the end.
    pub fn close(&self, name: &str, counter: Counter) {
        lock(&self.counters).insert(name.to_owned(), counter);
    }

    pub fn pushed(&self, queue: &'static str, element: &str, sure: bool) {
        lock(&self.queues).entry(queue).or_default().pushed.insert(element.to_owned(), sure);
    }

    pub fn popped(&self, queue: &'static str, element: &str) {
        let twice = !lock(&self.queues).entry(queue).or_default().popped.insert(element.to_owned());
        if twice {
            self.complain(format!("{queue}: {element} was handed out twice"));
        }
    }

    pub fn maybe_popped(&self, queue: &'static str, most: usize) {
        lock(&self.queues).entry(queue).or_default().lost += most;
    }

    /// Each disagreement with what `store` holds.
    pub fn audit(&self, store: &RedisServer) -> Vec<String> {
        let mut client = store.client();
        let mut found = self.complaints();
        for (name, counter) in lock(&self.counters).iter() {
            let value = match client.call(&["GET", name]) {
                Value::Nil => 0,
                value => value.text().parse().expect("a number"),
            };
            if value < counter.sure || value > counter.sure + counter.maybe {
                found.push(format!("{name} is {value}, and should be {counter:?}"));
            }
        }
        for (name, queue) in lock(&self.queues).iter() {
            found.extend(queue.audit(name, &mut client));
        }
        found
    }
}

// === impl Queue ===

impl Queue {
    fn audit(&self, name: &str, client: &mut Client) -> Vec<String> {
        let items = match name {
            LIST => client.call(&["LRANGE", name, "0", "-1"]),
            _ => client.call(&["SMEMBERS", name]),
        };
        let mut found = Vec::new();
        let mut left = BTreeSet::new();
        for element in items.items().iter().map(Value::text) {
            if self.popped.contains(&element) {
                found.push(format!("{name}: {element} was handed out and is still there"));
            }
            if !self.pushed.contains_key(&element) {
                found.push(format!("{name}: nobody pushed {element}"));
            }
            if !left.insert(element.clone()) {
                found.push(format!("{name}: {element} is there twice"));
            }
        }
        for element in self.popped.iter().filter(|element| !self.pushed.contains_key(*element)) {
            found.push(format!("{name}: {element} was handed out, and nobody pushed it"));
        }
        let gone = |element: &String| !left.contains(element) && !self.popped.contains(element);
        let lost: Vec<&String> = self
            .pushed
            .iter()
            .filter(|(element, sure)| **sure && gone(element))
            .map(|(element, _)| element)
            .collect();
        if lost.len() > self.lost {
            found.push(format!("{name}: {lost:?} are lost; at most {} may be", self.lost));
        }
        found
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
