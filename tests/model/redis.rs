//! A simulated store: its connections, transactions, blocked clients, and what it refuses for a while.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use multistore::command::{CommandFlags, Table};
use multistore::resp::Proto;
use multistore::resp::encode;
use multistore::resp::request::{Decoded, Decoder, Request, RequestLimits};

use super::data::{Bytes, Entry};
use super::dice::Dice;

pub const DATABASES: usize = 2;
pub type Words = Vec<Bytes>;

/// What a store refuses for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Oom,
    ReadOnly,
    /// The proxy's user may not INCR.
    NoPerm,
}

/// One connection as the store sees it.
#[derive(Debug, Default)]
pub struct Conn {
    pub db: usize,
    pub resp3: bool,
    queued: Option<Vec<Words>>,
    dirty: bool,
    watched: Vec<(usize, Bytes, u64)>,
    /// Bytes that have arrived and are not executed.
    pub inbox: Bytes,
    /// Replies that have not been taken.
    pub outbox: Bytes,
    pub blocked: Option<Blocked>,
}

/// A connection that waits for an element.
#[derive(Debug)]
pub struct Blocked {
    words: Words,
    until: Option<u64>,
    since: u64,
}

pub struct Redis {
    pub dbs: Vec<BTreeMap<Bytes, Entry>>,
    pub conns: BTreeMap<u64, Conn>,
    pub up: bool,
    /// Which server it is: another one after each start.
    pub run_id: u64,
    pub refusal: Option<Refusal>,
    /// How far its clock is ahead, in milliseconds: streams get other ids on each store.
    pub skew: u64,
    /// How far the clock by which its keys end is ahead, in milliseconds.
    pub ahead: u64,
    pub dice: Dice,
    /// How often each key was changed: what WATCH looks at.
    changes: HashMap<(usize, Bytes), u64>,
    clock: u64,
    next_conn: u64,
    table: Rc<Table>,
    /// What is executed, for the trace.
    pub log: Option<Vec<String>>,
    pub executed: u64,
}

// === impl Conn ===

impl Conn {
    pub fn proto(&self) -> Proto {
        if self.resp3 { Proto::Resp3 } else { Proto::Resp2 }
    }

    fn request(&self) -> Option<(Words, usize)> {
        let mut decoder = Decoder::new();
        match decoder.decode(&self.inbox, &RequestLimits::default()) {
            Ok(Decoded::Request { len, .. }) => {
                let view = Request { frame: &self.inbox[..len], args: decoder.spans() };
                Some((view.iter().map(<[u8]>::to_vec).collect(), len))
            }
            Ok(Decoded::Incomplete) => None,
            other => panic!("the proxy sent something else than a request: {other:?}"),
        }
    }

    pub fn has_request(&self) -> bool {
        self.blocked.is_none() && self.request().is_some()
    }
}

// === impl Redis ===

impl Redis {
    pub fn new(table: Rc<Table>, mut dice: Dice, skew: u64) -> Redis {
        Redis {
            dbs: vec![BTreeMap::new(); DATABASES],
            conns: BTreeMap::new(),
            up: true,
            run_id: dice.next(),
            refusal: None,
            skew,
            ahead: 0,
            dice,
            changes: HashMap::new(),
            clock: 0,
            next_conn: 0,
            table,
            log: None,
            executed: 0,
        }
    }

    pub fn connect(&mut self) -> u64 {
        self.next_conn += 1;
        self.conns.insert(self.next_conn, Conn::default());
        self.next_conn
    }

    pub fn kill(&mut self, keeps_data: bool) {
        self.up = false;
        self.conns.clear();
        if !keeps_data {
            self.dbs.iter_mut().for_each(BTreeMap::clear);
        }
    }

    pub fn start(&mut self) {
        self.up = true;
        self.run_id = self.dice.next();
    }

    /// Executes one request of a connection. False: there is none.
    pub fn step(&mut self, id: u64, now: u64) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        if conn.blocked.is_some() {
            return false;
        }
        let Some((words, len)) = conn.request() else { return false };
        conn.inbox.drain(..len);
        let mut conn = std::mem::take(conn);
        let mut out = std::mem::take(&mut conn.outbox);
        let from = out.len();
        self.dispatch(&mut conn, &words, now, &mut out);
        self.executed += 1;
        if let Some(log) = &mut self.log {
            log.push(format!("conn {id}: {} → {}", show(&words), show_bytes(&out[from..])));
        }
        conn.outbox = out;
        if let Some(slot) = self.conns.get_mut(&id) {
            *slot = conn;
        }
        self.serve_blocked(now);
        true
    }

    fn dispatch(&mut self, conn: &mut Conn, words: &Words, now: u64, out: &mut Bytes) {
        let name = words[0].to_ascii_uppercase();
        if let Some(error) = self.refused(conn, &name, words) {
            if name == b"EXEC" {
                conn.queued = None;
                conn.watched.clear();
                encode::error(out, format!("EXECABORT Transaction discarded because of: {error}"));
                return;
            }
            conn.dirty |= conn.queued.is_some();
            encode::error(out, error);
            return;
        }
        match (&*name, &mut conn.queued) {
            (b"MULTI", None) => {
                conn.queued = Some(Vec::new());
                conn.dirty = false;
                out.extend_from_slice(encode::OK);
            }
            (b"DISCARD", Some(_)) => {
                conn.queued = None;
                conn.watched.clear();
                out.extend_from_slice(encode::OK);
            }
            (b"EXEC", Some(_)) => self.exec(conn, now, out),
            (_, Some(queued)) => {
                queued.push(words.clone());
                out.extend_from_slice(encode::QUEUED);
            }
            (b"WATCH", None) => {
                for key in &words[1..] {
                    let seen = self.changes_of(conn.db, key);
                    conn.watched.push((conn.db, key.clone(), seen));
                }
                out.extend_from_slice(encode::OK);
            }
            (b"UNWATCH", None) => {
                conn.watched.clear();
                out.extend_from_slice(encode::OK);
            }
            (b"CLIENT", None) => {
                let id = words.last().and_then(|id| std::str::from_utf8(id).ok()?.parse().ok()).unwrap_or(0);
                let found = match words[1].as_slice() {
                    b"KILL" => self.conns.remove(&id).is_some(),
                    _ => self.unblock(id),
                };
                encode::int(out, i64::from(found));
            }
            _ => match self.run(conn, words, now, out) {
                Some(()) => {}
                None => {
                    let until = timeout_of(words).map(|wait| now + wait);
                    self.clock += 1;
                    conn.blocked = Some(Blocked { words: words.clone(), until, since: self.clock });
                }
            },
        }
    }

    fn exec(&mut self, conn: &mut Conn, now: u64, out: &mut Bytes) {
        let queued = conn.queued.take().unwrap_or_default();
        let watched = std::mem::take(&mut conn.watched);
        if std::mem::take(&mut conn.dirty) {
            encode::error(out, "EXECABORT Transaction discarded because of previous errors.");
            return;
        }
        if watched.iter().any(|(db, key, seen)| self.changes_of(*db, key) != *seen) {
            encode::nil_array(out, conn.proto());
            return;
        }
        encode::array_header(out, queued.len());
        for words in queued {
            if self.run(conn, &words, now, out).is_none() {
                encode::nil_array(out, conn.proto());
            }
        }
    }

    /// As Redis refuses: while memory is short, also whatever is queued in a transaction.
    fn refused(&self, conn: &Conn, name: &[u8], words: &Words) -> Option<&'static str> {
        let ends = matches!(name, b"EXEC" | b"DISCARD");
        let flags = self.table.find(words.as_slice()).map(|id| self.table.spec(id).flags)?;
        let with = |flag| {
            let inner = conn.queued.iter().flatten().filter(|_| name == b"EXEC");
            flags.has(flag)
                || inner
                    .filter_map(|words| self.table.find(words.as_slice()))
                    .any(|id| self.table.spec(id).flags.has(flag))
        };
        match self.refusal? {
            Refusal::Oom if with(CommandFlags::DENYOOM) || conn.queued.is_some() && !ends => {
                Some("OOM command not allowed when used memory > 'maxmemory'.")
            }
            Refusal::ReadOnly if with(CommandFlags::WRITE) => {
                Some("READONLY You can't write against a read only replica.")
            }
            Refusal::NoPerm if name == b"INCR" => {
                Some("NOPERM User default has no permissions to run the 'incr' command")
            }
            _ => None,
        }
    }

    /// Ends the wait of a connection as if its time were up.
    pub fn unblock(&mut self, id: u64) -> bool {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.blocked.is_some()) else { return false };
        conn.blocked = None;
        let proto = conn.proto();
        encode::nil_array(&mut conn.outbox, proto);
        true
    }

    fn serve_blocked(&mut self, now: u64) {
        loop {
            let mut waiting: Vec<(u64, u64)> = self
                .conns
                .iter()
                .filter_map(|(id, conn)| Some((conn.blocked.as_ref()?.since, *id)))
                .collect();
            waiting.sort_unstable();
            let served = waiting.into_iter().any(|(_, id)| self.serve(id, now));
            if !served {
                return;
            }
        }
    }

    fn serve(&mut self, id: u64, now: u64) -> bool {
        let Some(slot) = self.conns.get_mut(&id) else { return false };
        let mut conn = std::mem::take(slot);
        let Some(blocked) = conn.blocked.take() else { return false };
        let mut out = Vec::new();
        let done = self.run(&mut conn, &blocked.words, now, &mut out).is_some() && !out.starts_with(b"-");
        if done {
            conn.outbox.extend_from_slice(&out);
            if let Some(log) = &mut self.log {
                log.push(format!("conn {id} served: {} → {}", show(&blocked.words), show_bytes(&out)));
            }
        } else {
            conn.blocked = Some(blocked);
        }
        self.conns.insert(id, conn);
        done
    }

    /// Time passes: waits end.
    pub fn tick(&mut self, now: u64) {
        let late: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.blocked.as_ref().and_then(|b| b.until).is_some_and(|until| until <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.unblock(id);
        }
    }

    pub fn touch(&mut self, db: usize, key: &[u8]) {
        *self.changes.entry((db, key.to_vec())).or_default() += 1;
    }

    fn changes_of(&self, db: usize, key: &[u8]) -> u64 {
        self.changes.get(&(db, key.to_vec())).copied().unwrap_or(0)
    }

    /// A key that has not expired.
    pub fn get(&self, db: usize, key: &[u8], now: u64) -> Option<&Entry> {
        self.dbs[db].get(key).filter(|entry| entry.expires.is_none_or(|at| at > now))
    }
}

fn timeout_of(words: &Words) -> Option<u64> {
    let text = std::str::from_utf8(words.last()?).ok()?;
    let seconds: f64 = text.parse().ok()?;
    (seconds > 0.0).then_some((seconds * 1000.0) as u64)
}

pub fn show(words: &[Bytes]) -> String {
    words.iter().map(|word| show_bytes(word)).collect::<Vec<_>>().join(" ")
}

pub fn show_bytes(bytes: &[u8]) -> String {
    let text: String = bytes.iter().take(120).map(|b| b.escape_ascii().to_string()).collect();
    if bytes.len() > 120 { format!("{text}…") } else { text }
}
