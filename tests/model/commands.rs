//! What the commands do that the model's clients and the proxy use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use multistore::resp::{Proto, encode};

use super::data::{Bytes, Data, Entry, id_text, parse_id};
use super::redis::{Conn, DATABASES, Redis, Words};

const WRONGTYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// One command at work.
struct Run<'a> {
    redis: &'a mut Redis,
    db: usize,
    proto: Proto,
    now: u64,
    out: &'a mut Bytes,
}

// === impl Redis ===

impl Redis {
    /// Runs a command. None: it would wait.
    pub fn run(&mut self, conn: &mut Conn, words: &Words, now: u64, out: &mut Bytes) -> Option<()> {
        let name = words[0].to_ascii_uppercase();
        match &*name {
            b"SELECT" => {
                let db: usize = text(&words[1]).parse().unwrap_or(usize::MAX);
                if db < DATABASES {
                    conn.db = db;
                    out.extend_from_slice(encode::OK);
                } else {
                    encode::error(out, "ERR DB index is out of range");
                }
                return Some(());
            }
            b"HELLO" => {
                conn.resp3 = words.get(1).is_some_and(|version| version == b"3");
                encode::map_header(out, 1, conn.proto());
                encode::bulk(out, "proto");
                encode::int(out, if conn.resp3 { 3 } else { 2 });
                return Some(());
            }
            _ => {}
        }
        let (db, proto) = (conn.db, conn.proto());
        let mut run = Run { redis: self, db, proto, now, out };
        run.command(&name, words)
    }
}

// === impl Run ===

impl Run<'_> {
    fn command(&mut self, name: &[u8], words: &Words) -> Option<()> {
        let key = words.get(1).cloned().unwrap_or_default();
        match name {
            b"PING" => encode::simple(self.out, "PONG"),
            b"ECHO" => encode::bulk(self.out, &key),
            b"GET" => self.get(&key),
            b"MGET" => {
                encode::array_header(self.out, words.len() - 1);
                words[1..].iter().for_each(|key| match self.read(key) {
                    Some(Data::Str(value)) => encode::bulk(self.out, &value),
                    _ => encode::nil(self.out, self.proto),
                });
            }
            b"STRLEN" => match self.read(&key) {
                Some(Data::Str(value)) => self.int(value.len()),
                Some(_) => self.wrong(),
                None => self.int(0),
            },
            b"EXISTS" => {
                let there = words[1..].iter().filter(|key| self.read(key).is_some()).count();
                self.int(there);
            }
            b"TYPE" => {
                let kind = self.read(&key).map_or("none", |data| data.type_name());
                encode::simple(self.out, kind);
            }
            b"SET" => self.set(words),
            b"GETSET" | b"GETDEL" => self.getset(name, &key, words),
            b"INCR" => self.incr(&key),
            b"APPEND" => self.append(&key, &words[2]),
            b"DEL" | b"UNLINK" => {
                let gone = words[1..].iter().filter(|key| self.remove(key)).count();
                self.int(gone);
            }
            b"RENAMENX" if self.read(&words[2]).is_some() => self.int(0),
            b"RENAMENX" => {
                self.rename(&key, &words[2]);
                let renamed = self.out.ends_with(encode::OK);
                if renamed {
                    self.out.truncate(self.out.len() - encode::OK.len());
                    self.int(1);
                }
            }
            b"RENAME" => self.rename(&key, &words[2]),
            b"RPUSH" | b"LPUSH" => self.push(name, &key, &words[2..]),
            b"LPOP" | b"RPOP" => self.pop(name == b"LPOP", &key),
            b"LMOVE" => {
                if !self.move_one(&key, &words[2]) {
                    encode::nil(self.out, self.proto);
                }
            }
            b"BLPOP" => return self.blocking_pop(words),
            b"BLMOVE" => {
                if !self.move_one(&key, &words[2]) {
                    return None;
                }
            }
            b"LRANGE" => match self.read(&key) {
                Some(Data::List(list)) => self.array(list.into_iter()),
                Some(_) => self.wrong(),
                None => self.array([].into_iter()),
            },
            b"LLEN" => match self.read(&key) {
                Some(Data::List(list)) => self.int(list.len()),
                Some(_) => self.wrong(),
                None => self.int(0),
            },
            b"SADD" | b"SREM" => self.members(name == b"SADD", &key, &words[2..]),
            b"SPOP" => self.spop(&key),
            b"SMEMBERS" => match self.read(&key) {
                Some(Data::Set(set)) => {
                    encode::set_header(self.out, set.len(), self.proto);
                    set.iter().for_each(|member| encode::bulk(self.out, member));
                }
                Some(_) => self.wrong(),
                None => encode::set_header(self.out, 0, self.proto),
            },
            b"SCARD" => match self.read(&key) {
                Some(Data::Set(set)) => self.int(set.len()),
                Some(_) => self.wrong(),
                None => self.int(0),
            },
            b"XADD" => self.xadd(&key, &words[2], &words[3..]),
            b"XLEN" => match self.read(&key) {
                Some(Data::Stream { entries, .. }) => self.int(entries.len()),
                Some(_) => self.wrong(),
                None => self.int(0),
            },
            b"PEXPIRE" => {
                let at = self.now + text(&words[2]).parse::<u64>().unwrap_or(0);
                self.expire(&key, Some(at));
            }
            b"PEXPIREAT" => {
                let at = self.at(text(&words[2]).parse::<u64>().unwrap_or(0));
                self.expire(&key, Some(at));
            }
            b"PERSIST" => self.expire(&key, None),
            b"PTTL" => {
                let left = match self.entry(&key) {
                    None => -2,
                    Some(Entry { expires: None, .. }) => -1,
                    Some(Entry { expires: Some(at), .. }) => (at - self.now) as i64,
                };
                encode::int(self.out, left);
            }
            b"DUMP" => match self.read(&key) {
                Some(data) => encode::bulk(self.out, data.dump()),
                None => encode::nil(self.out, self.proto),
            },
            b"RESTORE" => self.restore(words),
            b"MEMORY" => match self.read(&words[2]) {
                Some(data) => self.int(data.size()),
                None => encode::nil(self.out, self.proto),
            },
            b"EVAL" if words.len() > 4 => {
                let at = self.now + text(&words[4]).parse::<u64>().unwrap_or(0);
                self.expire(&words[3], Some(at));
            }
            b"EVAL" => self.eval(&words[3]),
            b"FLUSHDB" => self.flush(self.db),
            b"FLUSHALL" => (0..DATABASES).for_each(|db| self.flush_quietly(db)),
            b"SCAN" => self.scan(),
            b"INFO" => self.info(),
            _ => encode::error(self.out, format!("ERR unknown command '{}'", text(name))),
        }
        if name == b"FLUSHALL" || name == b"FLUSHDB" {
            self.out.extend_from_slice(encode::OK);
        }
        Some(())
    }

    fn entry(&self, key: &[u8]) -> Option<Entry> {
        self.redis.get(self.db, key, self.now).cloned()
    }

    fn read(&self, key: &[u8]) -> Option<Data> {
        self.entry(key).map(|entry| entry.data)
    }

    fn write(&mut self, key: &[u8], data: Data, expires: Option<u64>) {
        self.redis.touch(self.db, key);
        if data.is_empty() {
            self.redis.dbs[self.db].remove(key);
        } else {
            self.redis.dbs[self.db].insert(key.to_vec(), Entry { data, expires });
        }
    }

    /// The same value with the expiry that it had.
    fn change(&mut self, key: &[u8], data: Data) {
        let expires = self.entry(key).and_then(|entry| entry.expires);
        self.write(key, data, expires);
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let there = self.entry(key).is_some();
        if there {
            self.redis.touch(self.db, key);
        }
        self.redis.dbs[self.db].remove(key);
        there
    }

    fn int(&mut self, value: usize) {
        encode::int(self.out, value as i64);
    }

    fn wrong(&mut self) {
        encode::error(self.out, WRONGTYPE);
    }

    fn array(&mut self, items: impl ExactSizeIterator<Item = Bytes>) {
        encode::array_header(self.out, items.len());
        items.for_each(|item| encode::bulk(self.out, item));
    }

    fn get(&mut self, key: &[u8]) {
        match self.read(key) {
            Some(Data::Str(value)) => encode::bulk(self.out, value),
            Some(_) => self.wrong(),
            None => encode::nil(self.out, self.proto),
        }
    }

    fn set(&mut self, words: &Words) {
        let key = &words[1];
        let option = |name: &str| words[3..].iter().position(|w| w.eq_ignore_ascii_case(name.as_bytes()));
        if option("NX").is_some() && self.entry(key).is_some() {
            encode::nil(self.out, self.proto);
            return;
        }
        let number = |at: usize| text(words.get(at + 4)?).parse::<u64>().ok();
        let ends = match (option("PX"), option("PXAT")) {
            (Some(at), _) => number(at).map(|ms| self.now + ms),
            (_, Some(at)) => number(at).map(|at| self.at(at)),
            _ if option("KEEPTTL").is_some() => self.entry(key).and_then(|entry| entry.expires),
            _ => None,
        };
        self.write(key, Data::Str(words[2].clone()), ends);
        self.out.extend_from_slice(encode::OK);
    }

    /// A time by the store's clock.
    fn at(&self, time: u64) -> u64 {
        time.saturating_sub(self.redis.ahead)
    }

    fn getset(&mut self, name: &[u8], key: &[u8], words: &Words) {
        match self.read(key) {
            Some(Data::Str(value)) => encode::bulk(self.out, value),
            Some(_) => return self.wrong(),
            None => encode::nil(self.out, self.proto),
        }
        if name == b"GETSET" {
            self.write(key, Data::Str(words[2].clone()), None);
        } else {
            self.remove(key);
        }
    }

    fn incr(&mut self, key: &[u8]) {
        let old = match self.read(key) {
            None => 0,
            Some(Data::Str(value)) => match text(&value).parse::<i64>() {
                Ok(value) => value,
                Err(_) => return encode::error(self.out, "ERR value is not an integer or out of range"),
            },
            Some(_) => return self.wrong(),
        };
        self.change(key, Data::Str((old + 1).to_string().into_bytes()));
        encode::int(self.out, old + 1);
    }

    fn append(&mut self, key: &[u8], more: &[u8]) {
        let mut value = match self.read(key) {
            None => Vec::new(),
            Some(Data::Str(value)) => value,
            Some(_) => return self.wrong(),
        };
        value.extend_from_slice(more);
        let len = value.len();
        self.change(key, Data::Str(value));
        self.int(len);
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) {
        let Some(entry) = self.entry(from) else { return encode::error(self.out, "ERR no such key") };
        self.remove(from);
        self.write(to, entry.data, entry.expires);
        self.out.extend_from_slice(encode::OK);
    }

    fn list(&mut self, key: &[u8]) -> Result<VecDeque<Bytes>, ()> {
        match self.read(key) {
            None => Ok(VecDeque::new()),
            Some(Data::List(list)) => Ok(list),
            Some(_) => Err(()),
        }
    }

    fn push(&mut self, name: &[u8], key: &[u8], items: &[Bytes]) {
        let Ok(mut list) = self.list(key) else { return self.wrong() };
        for item in items {
            if name == b"LPUSH" { list.push_front(item.clone()) } else { list.push_back(item.clone()) }
        }
        let len = list.len();
        self.change(key, Data::List(list));
        self.int(len);
    }

    fn pop(&mut self, left: bool, key: &[u8]) {
        let Ok(mut list) = self.list(key) else { return self.wrong() };
        let item = if left { list.pop_front() } else { list.pop_back() };
        match item {
            Some(item) => {
                self.change(key, Data::List(list));
                encode::bulk(self.out, item);
            }
            None => encode::nil(self.out, self.proto),
        }
    }

    /// LMOVE from to LEFT RIGHT. False: there is nothing.
    fn move_one(&mut self, from: &[u8], to: &[u8]) -> bool {
        let Ok(mut list) = self.list(from) else {
            self.wrong();
            return true;
        };
        if self.list(to).is_err() && !list.is_empty() {
            self.wrong();
            return true;
        }
        let Some(item) = list.pop_front() else {
            // LMOVE answers nil; BLMOVE waits, and what it answers in a transaction is written by EXEC.
            return false;
        };
        self.change(from, Data::List(list));
        let mut target = self.list(to).unwrap_or_default();
        target.push_back(item.clone());
        self.change(to, Data::List(target));
        encode::bulk(self.out, item);
        true
    }

    fn blocking_pop(&mut self, words: &Words) -> Option<()> {
        for key in &words[1..words.len() - 1] {
            let Ok(mut list) = self.list(key) else {
                self.wrong();
                return Some(());
            };
            if let Some(item) = list.pop_front() {
                self.change(key, Data::List(list));
                self.array([key.clone(), item].into_iter());
                return Some(());
            }
        }
        None
    }

    fn members(&mut self, add: bool, key: &[u8], members: &[Bytes]) {
        let mut set = match self.read(key) {
            None => BTreeSet::new(),
            Some(Data::Set(set)) => set,
            Some(_) => return self.wrong(),
        };
        let before = set.len();
        for member in members {
            if add {
                set.insert(member.clone());
            } else {
                set.remove(member);
            }
        }
        let changed = before.abs_diff(set.len());
        if changed > 0 {
            self.change(key, Data::Set(set));
        }
        self.int(changed);
    }

    fn spop(&mut self, key: &[u8]) {
        match self.read(key) {
            None => encode::nil(self.out, self.proto),
            Some(Data::Set(mut set)) => {
                let at = self.redis.dice.below(set.len());
                let member = set.iter().nth(at).cloned().unwrap_or_default();
                set.remove(&member);
                self.change(key, Data::Set(set));
                encode::bulk(self.out, member);
            }
            Some(_) => self.wrong(),
        }
    }

    fn xadd(&mut self, key: &[u8], id: &[u8], fields: &[Bytes]) {
        let (mut entries, last) = match self.read(key) {
            None => (BTreeMap::new(), (0, 0)),
            Some(Data::Stream { entries, last }) => (entries, last),
            Some(_) => return self.wrong(),
        };
        let id = match parse_id(id) {
            Some(id) if id > last => id,
            Some(_) => {
                return encode::error(
                    self.out,
                    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
                );
            }
            None => {
                let ms = self.now + self.redis.skew;
                if ms > last.0 { (ms, 0) } else { (last.0, last.1 + 1) }
            }
        };
        entries.insert(id, fields.to_vec());
        self.change(key, Data::Stream { entries, last: id });
        encode::bulk(self.out, id_text(id));
    }

    fn expire(&mut self, key: &[u8], at: Option<u64>) {
        let Some(entry) = self.entry(key) else { return self.int(0) };
        let changed = at.is_some() || entry.expires.is_some();
        if changed {
            self.write(key, entry.data, at);
        }
        self.int(usize::from(changed));
    }

    fn restore(&mut self, words: &Words) {
        let key = &words[1];
        let replace = words[4..].iter().any(|word| word == b"REPLACE");
        if !replace && self.entry(key).is_some() {
            return encode::error(self.out, "BUSYKEY Target key name already exists.");
        }
        let Some(data) = Data::restore(&words[3]) else {
            return encode::error(self.out, "ERR DUMP payload version or checksum are wrong");
        };
        let ttl: u64 = text(&words[2]).parse().unwrap_or(0);
        self.write(key, data, (ttl > 0).then_some(self.now + ttl));
        self.out.extend_from_slice(encode::OK);
    }

    /// A script that can choose: it sets its key to something that no other store would.
    fn eval(&mut self, key: &[u8]) {
        let value = self.redis.dice.next().to_string().into_bytes();
        self.write(key, Data::Str(value.clone()), None);
        encode::bulk(self.out, value);
    }

    fn flush(&mut self, db: usize) {
        self.flush_quietly(db);
    }

    fn flush_quietly(&mut self, db: usize) {
        let keys: Vec<Bytes> = self.redis.dbs[db].keys().cloned().collect();
        keys.iter().for_each(|key| self.redis.touch(db, key));
        self.redis.dbs[db].clear();
    }

    /// The whole database in one page.
    fn scan(&mut self) {
        let keys: Vec<Bytes> = self.redis.dbs[self.db]
            .iter()
            .filter(|(_, entry)| entry.expires.is_none_or(|at| at > self.now))
            .map(|(key, _)| key.clone())
            .collect();
        encode::array_header(self.out, 2);
        encode::bulk(self.out, "0");
        self.array(keys.into_iter());
    }

    fn info(&mut self) {
        let mut text = "# Keyspace\r\n".to_owned();
        for (db, keys) in self.redis.dbs.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            text.push_str(&format!("db{db}:keys={},expires=0,avg_ttl=0\r\n", keys.len()));
        }
        encode::bulk(self.out, text);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
