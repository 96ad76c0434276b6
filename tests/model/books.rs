//! What the clients know: what they asked for, when, and what they were told. What a store alone would never have
//! told them is a problem, whichever store has told it.

use std::collections::{BTreeMap, BTreeSet};

use multistore::resp::value::Value;

use super::data::{Bytes, Data, Entry};
use super::redis::{Words, show, show_bytes};

/// What a client expects next.
#[derive(Debug)]
pub enum Expect {
    /// The reply to a recorded request.
    One(usize),
    /// EXEC's, of recorded requests.
    Exec(Vec<usize>),
    /// These words, or an error.
    Said(&'static [u8]),
}

/// What a client knows of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Open,
    /// The reply, as a frame.
    Told(Bytes),
    /// It was not executed.
    Not,
    /// Nobody can tell.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub client: u64,
    pub db: u32,
    pub words: Words,
    pub start: u64,
    pub end: u64,
    pub outcome: Outcome,
    /// Nobody knew whether the stores held the same, when it was asked.
    pub in_the_cold: bool,
    /// The read on which it depends that nothing was written meanwhile.
    pub since: Option<usize>,
}

#[derive(Default)]
pub struct Books {
    /// What came first. Thousands are events of the schedule.
    clock: u64,
    pub records: Vec<Record>,
    /// What was there in the beginning.
    pub initial: BTreeMap<(u32, Bytes), Data>,
    /// A store that counted has lost its data: what the clients know proves nothing any more.
    pub lossy: bool,
    /// Keys about which the clients know nothing for certain any more.
    tainted: BTreeSet<(u32, Bytes)>,
    pub problems: Vec<String>,
}

const NEVER: u64 = u64::MAX;

// === impl Books ===

impl Books {
    pub fn asked(&mut self, client: u64, db: u32, words: &Words) -> usize {
        self.clock += 1;
        self.records.push(Record {
            client,
            db,
            words: words.clone(),
            start: self.clock,
            end: NEVER,
            outcome: Outcome::Open,
            in_the_cold: false,
            since: None,
        });
        self.records.len() - 1
    }

    /// Event `event` begins.
    pub fn turn_to(&mut self, event: u64) {
        self.clock = self.clock.max(event * 1000);
    }

    pub fn depends(&mut self, record: usize, read: usize) {
        self.records[record].since = Some(read);
    }

    pub fn answered(&mut self, expect: Expect, frame: &[u8]) {
        self.clock += 1;
        match expect {
            Expect::One(record) => self.close(record, outcome(frame)),
            Expect::Said(words) if frame == words || frame.starts_with(b"-") => {}
            Expect::Said(words) => {
                self.problems.push(format!(
                    "{} was told in the place of {}",
                    show_bytes(frame),
                    show_bytes(words)
                ));
            }
            Expect::Exec(records) => self.exec_answered(&records, frame),
        }
    }

    fn exec_answered(&mut self, records: &[usize], frame: &[u8]) {
        if let Ok(Value::Array(_)) = Value::parse(frame) {
            let parts = elements(frame);
            if parts.len() != records.len() {
                self.problems.push(format!("EXEC of {} commands told {}", records.len(), show_bytes(frame)));
            }
            for (record, part) in records.iter().zip(parts) {
                self.close(*record, outcome(&part));
            }
            return;
        }
        let outcome = match frame {
            b"*-1\r\n" | b"_\r\n" => Outcome::Not,
            error if error.starts_with(b"-") => outcome(error),
            other => {
                self.problems.push(format!("EXEC told {}", show_bytes(other)));
                Outcome::Unknown
            }
        };
        records.iter().for_each(|record| self.close(*record, outcome.clone()));
    }

    fn close(&mut self, record: usize, outcome: Outcome) {
        let record = &mut self.records[record];
        record.end = self.clock;
        if let Outcome::Told(frame) = &outcome
            && !fits(&record.words, frame)
        {
            self.problems.push(format!(
                "client {} asked {} and was told {}",
                record.client,
                show(&record.words),
                show_bytes(frame)
            ));
        }
        record.outcome = outcome;
    }

    /// The keys of the first `count` requests, as far as they are open, of which `is` is true are not looked at any more.
    pub fn taint(&mut self, count: usize, is: impl Fn(&Record, &[u8]) -> bool) {
        let records = self.records.iter().take(count);
        for record in records.filter(|record| record.outcome == Outcome::Open) {
            for word in record.words.iter().skip(1).filter(|word| is(record, word)) {
                self.tainted.insert((record.db, word.clone()));
            }
        }
    }

    /// The client went away before it had this reply.
    pub fn lost(&mut self, expect: Expect) {
        let records = match expect {
            Expect::One(record) => vec![record],
            Expect::Exec(records) => records,
            Expect::Said(_) => Vec::new(),
        };
        records.into_iter().for_each(|record| self.records[record].outcome = Outcome::Unknown);
    }

    /// Looks through everything, at the end; `held`: what a store holds now.
    pub fn check(&mut self, held: &BTreeMap<(u32, Bytes), Entry>) {
        for record in &self.records {
            if record.outcome == Outcome::Open {
                self.problems.push(format!(
                    "client {} never had an answer to {}",
                    record.client,
                    show(&record.words)
                ));
            }
        }
        if self.lossy {
            return;
        }
        let mut keys: BTreeSet<(u32, Bytes)> = self.initial.keys().cloned().collect();
        keys.extend(self.records.iter().map(|record| (record.db, key_of(&record.words))));
        let mut problems = Vec::new();
        for place in keys.difference(&self.tainted).cloned().collect::<Vec<_>>() {
            let of_key: Vec<&Record> =
                self.records.iter().filter(|r| (r.db, key_of(&r.words)) == place).collect();
            let book = Book {
                name: format!("db{} {}", place.0, show_bytes(&place.1)),
                records: of_key,
                all: &self.records,
                initial: self.initial.get(&place),
                held: held.get(&place).map(|entry| &entry.data),
                end: self.clock + 1,
            };
            match place.1.first() {
                Some(b'r') => book.register(&mut problems),
                Some(b'c') => book.counter(&mut problems),
                Some(b'l') => book.lock(&mut problems),
                _ => {}
            }
        }
        let counts = |place: &(u32, Bytes)| matches!(place.1.first(), Some(b'q' | b's'));
        if !self.tainted.iter().any(counts) {
            self.elements(held, &mut problems);
        }
        self.problems.extend(problems);
    }

    /// Every element of a queue or a set that was put in is there, or was handed out, once.
    fn elements(&self, held: &BTreeMap<(u32, Bytes), Entry>, problems: &mut Vec<String>) {
        let mut put: BTreeMap<Bytes, bool> = BTreeMap::new();
        for item in self.initial.values().flat_map(items) {
            put.insert(item, true);
        }
        let mut there: BTreeMap<Bytes, usize> = BTreeMap::new();
        let mut handed: BTreeMap<Bytes, usize> = BTreeMap::new();
        let mut unknown = [0, 0];
        let counts = |key: &Bytes| matches!(key.first(), Some(b'q' | b's'));
        for record in self.records.iter().filter(|record| counts(&key_of(&record.words))) {
            let verb = &*record.words[0];
            match verb {
                b"RPUSH" | b"LPUSH" | b"SADD" => {
                    if record.outcome == Outcome::Not {
                        continue;
                    }
                    let sure = matches!(&record.outcome, Outcome::Told(_));
                    put.extend(record.words[2..].iter().map(|item| (item.clone(), sure)));
                }
                b"LPOP" | b"RPOP" | b"SPOP" | b"BLPOP" => match &record.outcome {
                    Outcome::Told(frame) => {
                        if let Some(item) = last_string(frame) {
                            *handed.entry(item).or_default() += 1;
                        }
                    }
                    Outcome::Unknown => unknown[usize::from(verb == b"SPOP")] += 1,
                    Outcome::Not | Outcome::Open => {}
                },
                _ => {}
            }
        }
        for ((_, key), entry) in held {
            if counts(key) {
                items(&entry.data).into_iter().for_each(|item| *there.entry(item).or_default() += 1);
            }
        }
        let mut missing = [Vec::new(), Vec::new()];
        for (item, sure) in &put {
            let count = there.get(item).unwrap_or(&0) + handed.get(item).unwrap_or(&0);
            match count {
                0 if *sure => missing[usize::from(item.first() == Some(&b'm'))].push(show_bytes(item)),
                0 | 1 => {}
                _ => problems.push(format!(
                    "element {} is there {} times and was handed out {} times",
                    show_bytes(item),
                    there.get(item).unwrap_or(&0),
                    handed.get(item).unwrap_or(&0)
                )),
            }
        }
        for (item, _) in handed.iter().chain(&there).filter(|(item, _)| !put.contains_key(*item)) {
            problems.push(format!("element {} was never put in", show_bytes(item)));
        }
        for (missing, unknown) in missing.iter().zip(unknown) {
            if missing.len() > unknown {
                problems
                    .push(format!("elements are lost: {missing:?}; {unknown} pops have an unknown outcome"));
            }
        }
    }
}

/// The requests about one key.
struct Book<'a> {
    name: String,
    records: Vec<&'a Record>,
    all: &'a [Record],
    initial: Option<&'a Data>,
    held: Option<&'a Data>,
    /// The end of everything.
    end: u64,
}

/// A value that a register may have had, and who wrote it.
struct Source<'a> {
    value: Option<&'a [u8]>,
    start: u64,
    end: u64,
}

// === impl Book ===

impl Book<'_> {
    /// SET with values of their own, DEL, GET: what is read was written before, and not overwritten since.
    fn register(&self, problems: &mut Vec<String>) {
        let string = |data: Option<&Data>| match data {
            Some(Data::Str(value)) => Some(value.clone()),
            _ => None,
        };
        let (initial, held) = (string(self.initial), string(self.held));
        let mut sources = vec![Source { value: initial.as_deref(), start: 0, end: 0 }];
        for record in &self.records {
            let value = match &*record.words[0] {
                b"SET" => Some(record.words[2].as_slice()),
                b"DEL" => None,
                _ => continue,
            };
            match record.outcome {
                Outcome::Not => {}
                Outcome::Told(_) => sources.push(Source { value, start: record.start, end: record.end }),
                Outcome::Open | Outcome::Unknown => {
                    sources.push(Source { value, start: record.start, end: NEVER })
                }
            }
        }
        let mut look = |what: String, value: Option<&[u8]>, start: u64, end: u64| {
            let stands = |source: &Source| {
                let gone = |later: &Source| {
                    !std::ptr::eq(later, source) && source.end < later.start && later.end < start
                };
                source.value == value && source.start < end && !sources.iter().any(gone)
            };
            if !sources.iter().any(stands) {
                let shown = value.map_or("nothing".to_owned(), show_bytes);
                problems.push(format!("{}: {what} found {shown}, which was never there then", self.name));
            }
        };
        for record in self.records.iter().filter(|r| &*r.words[0] == b"GET") {
            if let Outcome::Told(frame) = &record.outcome {
                let what = format!("GET of client {} at {}..{}", record.client, record.start, record.end);
                look(what, last_string(frame).as_deref(), record.start, record.end);
            }
        }
        look("the end".to_owned(), held.as_deref(), self.end, self.end + 1);
        self.swaps(problems);
    }

    /// WATCH … EXEC: nothing was written between what it read and what it wrote.
    fn swaps(&self, problems: &mut Vec<String>) {
        for record in &self.records {
            let (Some(read), Outcome::Told(_)) = (record.since, &record.outcome) else { continue };
            let read = &self.all[read];
            let between = |other: &&&Record| {
                matches!(&*other.words[0], b"SET" | b"DEL")
                    && matches!(&other.outcome, Outcome::Told(frame) if frame != b":0\r\n")
                    && other.start > read.end
                    && other.end < record.start
            };
            if let Some(other) = self.records.iter().find(between) {
                problems.push(format!(
                    "{}: EXEC of client {} at {} did not see {} of client {} at {}..{}, after its WATCH",
                    self.name,
                    record.client,
                    record.start,
                    show(&other.words),
                    other.client,
                    other.start,
                    other.end
                ));
            }
        }
    }

    /// INCR and GET: everybody has his number, and none is given twice.
    fn counter(&self, problems: &mut Vec<String>) {
        let number = |data: Option<&Data>| match data {
            Some(Data::Str(value)) => String::from_utf8_lossy(value).parse().unwrap_or(0),
            _ => 0i64,
        };
        let (initial, held) = (number(self.initial), number(self.held));
        let incrs: Vec<&&Record> = self.records.iter().filter(|r| &*r.words[0] == b"INCR").collect();
        let sure_before = |at: u64| {
            let sure = incrs.iter().filter(|r| matches!(r.outcome, Outcome::Told(_)) && r.end < at);
            initial + sure.count() as i64
        };
        let maybe_before = |at: u64| {
            let maybe = incrs.iter().filter(|r| r.outcome != Outcome::Not && r.start < at);
            initial + maybe.count() as i64
        };
        let mut given = BTreeSet::new();
        let mut look = |what: String, value: i64, own: i64, start: u64, end: u64| {
            let (least, most) = (sure_before(start) + own, maybe_before(end));
            if value < least || value > most {
                problems.push(format!("{}: {what} is {value}, not in {least}..={most}", self.name));
            }
        };
        for record in &self.records {
            let Outcome::Told(frame) = &record.outcome else { continue };
            let at = format!("client {} at {}..{}", record.client, record.start, record.end);
            match (&*record.words[0], Value::parse(frame)) {
                (b"INCR", Ok(Value::Int(value))) => {
                    look(format!("INCR of {at}"), value, 1, record.start, record.end);
                    if !given.insert(value) {
                        look(
                            format!("(given twice) INCR of {at}"),
                            value,
                            i64::MAX / 2,
                            record.start,
                            record.end,
                        );
                    }
                }
                (b"GET", Ok(_)) => {
                    let value =
                        last_string(frame).map_or(0, |v| String::from_utf8_lossy(&v).parse().unwrap_or(-1));
                    look(format!("GET of {at}"), value, 0, record.start, record.end);
                }
                _ => {}
            }
        }
        look("the end".to_owned(), held, 0, self.end, self.end + 1);
    }

    /// SET NX and DEL: nobody gets what somebody holds.
    fn lock(&self, problems: &mut Vec<String>) {
        let sets = self.records.iter().filter(|r| &*r.words[0] == b"SET" && told(r, b"+OK\r\n"));
        let mut grants: Vec<(u64, u64, String)> =
            sets.map(|r| (r.start, r.end, format!("client {}", r.client))).collect();
        if self.initial.is_some() {
            grants.push((0, 0, "the beginning".to_owned()));
        }
        for (start, end, who) in &grants {
            for (later, later_end, other) in grants.iter().filter(|(later, ..)| later > end) {
                let released = self.records.iter().any(|r| {
                    &*r.words[0] == b"DEL"
                        && r.outcome != Outcome::Not
                        && r.start < *later_end
                        && r.end > *start
                });
                if !released {
                    problems.push(format!(
                        "{}: granted to {who} at {start}..{end} and to {other} at {later}..{later_end}",
                        self.name
                    ));
                }
            }
        }
    }
}

fn told(record: &Record, frame: &[u8]) -> bool {
    matches!(&record.outcome, Outcome::Told(told) if told == frame)
}

fn key_of(words: &Words) -> Bytes {
    words.get(1).cloned().unwrap_or_default()
}

fn items(data: &Data) -> Vec<Bytes> {
    match data {
        Data::List(list) => list.iter().cloned().collect(),
        Data::Set(set) => set.iter().cloned().collect(),
        Data::Str(_) | Data::Stream { .. } => Vec::new(),
    }
}

/// What the proxy or a store means by a frame.
fn outcome(frame: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(frame);
    match frame.first() {
        Some(b'-') if text.contains("may or may not") => Outcome::Unknown,
        Some(b'-') => Outcome::Not,
        _ => Outcome::Told(frame.to_vec()),
    }
}

fn last_string(frame: &[u8]) -> Option<Bytes> {
    match Value::parse(frame).ok()? {
        Value::Bulk(value) => Some(value.to_vec()),
        Value::Array(items) => items.last().and_then(|item| item.as_bytes()).map(<[u8]>::to_vec),
        _ => None,
    }
}

fn elements(frame: &[u8]) -> Vec<Bytes> {
    use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
    let Some(start) = frame.iter().position(|b| *b == b'\n') else { return Vec::new() };
    let mut rest = &frame[start + 1..];
    let mut out = Vec::new();
    while let Ok(Scanned::Complete { len, .. }) = ReplyScanner::new().scan(rest, &ReplyLimits::default()) {
        out.push(rest[..len].to_vec());
        rest = &rest[len..];
        if rest.is_empty() {
            break;
        }
    }
    out
}

/// Can this be the reply to that request at all?
fn fits(words: &Words, frame: &[u8]) -> bool {
    let first = frame.first().copied().unwrap_or(b'?');
    let expected: &[u8] = match &*words[0] {
        b"GET" | b"GETSET" | b"GETDEL" | b"LPOP" | b"RPOP" | b"LMOVE" | b"BLMOVE" | b"SPOP" => b"$_*",
        b"EVAL" if words.len() > 4 => b":",
        b"EVAL" | b"XADD" | b"DUMP" => b"$",
        b"SET" => b"+$_",
        b"RENAME" | b"FLUSHDB" | b"TYPE" => b"+",
        b"INCR" | b"APPEND" | b"DEL" | b"EXISTS" | b"STRLEN" | b"RPUSH" | b"LPUSH" | b"LLEN" | b"SADD"
        | b"SREM" | b"SCARD" | b"XLEN" | b"PEXPIRE" | b"PEXPIREAT" | b"PERSIST" | b"PTTL" => b":",
        b"MGET" | b"LRANGE" => b"*",
        b"SMEMBERS" => b"*~",
        b"BLPOP" => b"*_",
        _ => return true,
    };
    expected.contains(&first)
}
