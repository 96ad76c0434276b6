//! What the clients were told, kept beside the stores: at the end the default store must agree.

use super::agent::World;
use super::support::{Dump, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Counters, by name.
pub const COUNTERS: &[&str] = &["ctr:cold", "ctr:hot", "ctr:multi", "ctr:eval", "ctr:watch"];
/// Counters of quarters: INCRBYFLOAT and HINCRBYFLOAT, and fields of hashes.
pub const FLOATS: &[&str] = &["float:a", "float:h"];
/// Queues: each element is in exactly one of these keys, or was handed to exactly one client.
pub const QUEUES: &[Queue] = &[
    Queue { name: "list", keys: &["q:jobs", "q:more", "q:done", "q:side"], first: "q:jobs" },
    Queue { name: "zset", keys: &["zq:jobs"], first: "zq:jobs" },
    Queue { name: "set", keys: &["sq:jobs"], first: "sq:jobs" },
];
pub const STREAMS: &[&str] = &["st:cold", "st:hot"];
pub const GROUP: &str = "workers";
pub const LOCKS: &[&str] = &["lock:a", "lock:b"];
/// What counters and queues hold before the proxy starts.
pub const COUNTED_BEFORE: i64 = 1000;
pub const QUEUED_BEFORE: usize = 20;

/// Keys that share elements.
pub struct Queue {
    pub name: &'static str,
    pub keys: &'static [&'static str],
    pub first: &'static str,
}

/// All books of a run.
pub struct Books {
    counters: BTreeMap<&'static str, Counter>,
    queues: BTreeMap<&'static str, Mutex<QueueBook>>,
    streams: BTreeMap<&'static str, Mutex<StreamBook>>,
    locks: BTreeMap<&'static str, AtomicBool>,
}

#[derive(Default)]
struct Counter {
    sure: AtomicI64,
    maybe: AtomicI64,
    /// The highest value that anybody was told.
    told: AtomicI64,
    values: Mutex<BTreeSet<i64>>,
}

#[derive(Default)]
struct QueueBook {
    /// True: acknowledged.
    pushed: BTreeMap<String, bool>,
    popped: BTreeSet<String>,
    /// Pops of which nobody knows what they took.
    maybe_popped: usize,
}

#[derive(Default)]
struct StreamBook {
    added: BTreeMap<String, String>,
    maybe: BTreeSet<String>,
    delivered: BTreeSet<String>,
    acked: BTreeSet<String>,
    maybe_acked: BTreeSet<String>,
}

// === impl Books ===

impl Books {
    pub fn new() -> Books {
        let counter = |name: &&'static str| {
            let counter = Counter::default();
            counter.sure.store(COUNTED_BEFORE, Ordering::Relaxed);
            counter.told.store(COUNTED_BEFORE, Ordering::Relaxed);
            (*name, counter)
        };
        let queue = |queue: &Queue| {
            let mut book = QueueBook::default();
            book.pushed.extend(queued_before(queue).into_iter().map(|element| (element, true)));
            (queue.name, Mutex::new(book))
        };
        Books {
            counters: COUNTERS.iter().chain(FLOATS).map(counter).collect(),
            queues: QUEUES.iter().map(queue).collect(),
            streams: STREAMS.iter().map(|name| (*name, Mutex::default())).collect(),
            locks: LOCKS.iter().map(|name| (*name, AtomicBool::new(false))).collect(),
        }
    }

    // --- counters ---

    /// The highest value that anybody was told so far: whoever asks now must not be told less.
    pub fn told(&self, counter: &str) -> i64 {
        self.counters[counter].told.load(Ordering::SeqCst)
    }

    /// `by` was added; `value` is what the reply said, if it said it.
    pub fn counted(&self, name: &str, by: i64, value: Option<i64>, told: i64, world: &World) {
        let counter = &self.counters[name];
        counter.sure.fetch_add(by, Ordering::SeqCst);
        let Some(value) = value else { return };
        counter.told.fetch_max(value, Ordering::SeqCst);
        if value < told + by {
            world.wrong(format!("{name}: adding {by} made {value} after somebody was told {told}"));
        }
        if !counter.values.lock().expect("a lock").insert(value) {
            world.wrong(format!("{name}: two increments made {value}"));
        }
    }

    /// `by` was added, or not.
    pub fn maybe_counted(&self, name: &str, by: i64) {
        self.counters[name].maybe.fetch_add(by, Ordering::SeqCst);
    }

    /// A read said `value`, and was asked when `told` had been told.
    pub fn read(&self, name: &str, value: i64, told: i64, world: &World) {
        self.counters[name].told.fetch_max(value, Ordering::SeqCst);
        if value < told {
            world.wrong(format!("{name}: read {value} after somebody was told {told}"));
        }
    }

    // --- queues ---

    pub fn pushed(&self, queue: &str, element: &str, sure: bool) {
        self.queues[queue].lock().expect("a lock").pushed.insert(element.to_owned(), sure);
    }

    pub fn popped(&self, queue: &str, element: &str, world: &World) {
        let mut book = self.queues[queue].lock().expect("a lock");
        if !book.popped.insert(element.to_owned()) {
            world.wrong(format!("queue {queue}: {element} was handed out twice"));
        }
    }

    pub fn maybe_popped(&self, queue: &str, most: usize) {
        self.queues[queue].lock().expect("a lock").maybe_popped += most;
    }

    // --- streams ---

    pub fn added(&self, stream: &str, id: Option<&str>, payload: &str, world: &World) {
        let mut book = self.streams[stream].lock().expect("a lock");
        match id {
            None => {
                book.maybe.insert(payload.to_owned());
            }
            Some(id) => {
                if book.added.insert(id.to_owned(), payload.to_owned()).is_some() {
                    world.wrong(format!("stream {stream}: two entries got the id {id}"));
                }
            }
        }
    }

    pub fn delivered(&self, stream: &str, id: &str, world: &World) {
        let mut book = self.streams[stream].lock().expect("a lock");
        if !book.delivered.insert(id.to_owned()) {
            world.wrong(format!("stream {stream}: {id} was delivered as new twice"));
        }
    }

    /// XACK said how many it has let go of.
    pub fn acked(&self, stream: &str, id: &str, count: i64, world: &World) {
        let mut book = self.streams[stream].lock().expect("a lock");
        let first = book.acked.insert(id.to_owned());
        let expected = i64::from(first);
        // Whoever claims an entry acknowledges it as well, and one of them comes first.
        if count != expected && !book.maybe_acked.contains(id) {
            world.wrong(format!("stream {stream}: XACK of {id} answered {count}, not {expected}"));
        }
    }

    pub fn maybe_acked(&self, stream: &str, id: &str) {
        self.streams[stream].lock().expect("a lock").maybe_acked.insert(id.to_owned());
    }

    // --- locks ---

    pub fn locked(&self, name: &str, world: &World) {
        if self.locks[name].swap(true, Ordering::SeqCst) {
            world.wrong(format!("{name} was granted while somebody held it"));
        }
    }

    pub fn unlocked(&self, name: &str) {
        self.locks[name].store(false, Ordering::SeqCst);
    }

    // --- the end ---

    /// Each disagreement with what the default store holds, with the key that it is about.
    pub fn audit(&self, store: &Dump) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (name, counter) in &self.counters {
            let sure = counter.sure.load(Ordering::SeqCst);
            let most = sure + counter.maybe.load(Ordering::SeqCst);
            let value = counter_value(store, name);
            if value.is_none_or(|value| value < sure || value > most) {
                found.push(((*name).to_owned(), format!("{name} is {value:?}, not {sure}..={most}")));
            }
        }
        for queue in QUEUES {
            let book = self.queues[queue.name].lock().expect("a lock");
            found.extend(book.audit(queue, store).into_iter().map(|what| (queue.first.to_owned(), what)));
        }
        for name in STREAMS {
            let book = self.streams[name].lock().expect("a lock");
            found.extend(book.audit(name, store).into_iter().map(|what| ((*name).to_owned(), what)));
        }
        found
    }
}

// === impl QueueBook ===

impl QueueBook {
    fn audit(&self, queue: &Queue, store: &Dump) -> Vec<String> {
        let mut found = Vec::new();
        let mut left: BTreeMap<String, usize> = BTreeMap::new();
        for key in queue.keys {
            for element in elements(store, key) {
                *left.entry(element).or_default() += 1;
            }
        }
        for (element, count) in &left {
            if *count > 1 {
                found.push(format!("queue {}: {element} is there {count} times", queue.name));
            }
            if self.popped.contains(element) {
                found.push(format!("queue {}: {element} was handed out and is still there", queue.name));
            }
            if !self.pushed.contains_key(element) {
                found.push(format!("queue {}: nobody pushed {element}", queue.name));
            }
        }
        for element in self.popped.iter().filter(|element| !self.pushed.contains_key(*element)) {
            found.push(format!("queue {}: {element} was handed out and never pushed", queue.name));
        }
        let missing: Vec<&String> = self
            .pushed
            .iter()
            .filter(|(element, sure)| {
                **sure && !left.contains_key(*element) && !self.popped.contains(*element)
            })
            .map(|(element, _)| element)
            .collect();
        if missing.len() > self.maybe_popped {
            let most = self.maybe_popped;
            found.push(format!("queue {}: lost {missing:?}; at most {most} may be", queue.name));
        }
        found
    }
}

// === impl StreamBook ===

impl StreamBook {
    fn audit(&self, name: &str, store: &Dump) -> Vec<String> {
        let mut found = Vec::new();
        let mut there: BTreeMap<String, String> = BTreeMap::new();
        let mut payloads = BTreeSet::new();
        let entry = store.get(&(0, name.as_bytes().to_vec()));
        let entries = entry.and_then(|entry| entry.value.items().first().cloned());
        for entry in entries.iter().flat_map(|entries| entries.items()) {
            let (id, payload) = (entry.items()[0].text(), entry.items()[1].items()[1].text());
            if !payloads.insert(payload.clone()) {
                found.push(format!("stream {name}: {payload} is there twice"));
            }
            if !self.added.contains_key(&id) && !self.maybe.contains(&payload) {
                found.push(format!("stream {name}: nobody added {id} {payload}"));
            }
            there.insert(id, payload);
        }
        for (id, payload) in &self.added {
            if there.get(id) != Some(payload) {
                found.push(format!("stream {name}: {id} is {:?}, not {payload}", there.get(id)));
            }
        }
        let pending = entry.map(|entry| pending_ids(&entry.value)).unwrap_or_default();
        let reached = entry.and_then(|entry| entry.value.items().get(2)).map(Value::text).unwrap_or_default();
        for id in self.delivered.iter().filter(|id| stream_id(id) > stream_id(&reached)) {
            found.push(format!("stream {name}: {id} was delivered, and the group stands at {reached}"));
        }
        let let_go = |id: &str| self.acked.contains(id) || self.maybe_acked.contains(id);
        for id in there.keys().filter(|id| stream_id(id) <= stream_id(&reached)) {
            if !pending.contains(id) && !let_go(id) {
                found.push(format!("stream {name}: {id} is neither pending nor acknowledged"));
            }
        }
        for id in self.acked.intersection(&pending) {
            found.push(format!("stream {name}: {id} was acknowledged and is pending"));
        }
        for id in pending.iter().filter(|id| !there.contains_key(*id)) {
            found.push(format!("stream {name}: {id} is pending and not there"));
        }
        found
    }
}

/// What a queue holds before the proxy starts.
pub fn queued_before(queue: &Queue) -> Vec<String> {
    (0..QUEUED_BEFORE).map(|number| format!("before-{}-{number}", queue.name)).collect()
}

fn counter_value(store: &Dump, name: &str) -> Option<i64> {
    let entry = store.get(&(0, name.as_bytes().to_vec()))?;
    let text = match &entry.value {
        Value::Map(pairs) => pairs.iter().find(|(field, _)| field.text() == "sum")?.1.text(),
        value => value.text(),
    };
    value_of(name, &text)
}

/// A counter's value as a whole number: floats count quarters.
pub fn value_of(name: &str, text: &str) -> Option<i64> {
    if !FLOATS.contains(&name) {
        return text.parse().ok();
    }
    let quarters = text.parse::<f64>().ok()? * 4.0;
    (quarters.fract() == 0.0).then_some(quarters as i64)
}

fn elements(store: &Dump, key: &str) -> Vec<String> {
    let Some(entry) = store.get(&(0, key.as_bytes().to_vec())) else { return Vec::new() };
    match &entry.value {
        Value::Map(pairs) => pairs.iter().map(|(member, _)| member.text()).collect(),
        list => list.items().iter().map(Value::text).collect(),
    }
}

/// An id as numbers, which order as ids do.
fn stream_id(text: &str) -> (u64, u64) {
    let (time, number) = text.split_once('-').unwrap_or((text, "0"));
    (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// From what a dump says about a stream: after the entries and the last id, four values for each group.
fn pending_ids(stream: &Value) -> BTreeSet<String> {
    let groups = stream.items().get(2..).unwrap_or_default().chunks_exact(4);
    groups
        .flat_map(|group| group[2].items().iter().map(|one| one.items()[0].text()).collect::<Vec<_>>())
        .collect()
}
