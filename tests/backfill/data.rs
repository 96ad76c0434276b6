//! Keys of all types, many of them.

use super::support::{Client, Value};

/// Commands sent before their replies are read.
const PIPELINE: usize = 1000;

/// Loads `keys` keys of all types into a server, some of them with a time to live, in two databases.
pub fn load(client: &mut Client, keys: usize) {
    let mut batch = Batch { client, sent: 0 };
    for n in 0..keys {
        if n == keys / 10 * 9 {
            batch.send(&["SELECT", "3"]);
        }
        let key = format!("old:{n}");
        let (one, two) = (n.to_string(), (n + 1).to_string());
        match n % 8 {
            0 | 1 => batch.send(&["SET", &key, &format!("value {n}")]),
            2 => batch.send(&["SET", &key, "counts", "EX", "100000"]),
            3 => batch.send(&["HSET", &key, "a", &one, "b", &two, "c", "x"]),
            4 => batch.send(&["RPUSH", &key, &one, &two, "three", "four"]),
            5 => batch.send(&["SADD", &key, &one, &two, "member"]),
            6 => batch.send(&["ZADD", &key, "1.5", "a", &one, "b", "-3", "c"]),
            _ => batch.send(&["XADD", &key, "5-1", "field", &one]),
        }
        if n % 16 == 7 {
            batch.send(&["XGROUP", "CREATE", &key, "readers", "0"]);
            batch.send(&["XREADGROUP", "GROUP", "readers", "me", "STREAMS", &key, ">"]);
        }
    }
    batch.send(&["SELECT", "0"]);
    batch.end();
}

/// A set and a hash that two servers write down in different orders, a list, a sorted set, a string and a stream, each
/// with `elements` elements or more than as many bytes.
pub fn load_large(client: &mut Client, elements: usize) {
    let mut batch = Batch { client, sent: 0 };
    for n in 0..elements {
        let one = format!("element {n}");
        batch.send(&["SADD", "large:set", &one]);
        batch.send(&["HSET", "large:hash", &one, "value"]);
        batch.send(&["RPUSH", "large:list", &one]);
        batch.send(&["ZADD", "large:zset", &n.to_string(), &one]);
        batch.send(&["XADD", "large:stream", &format!("{}-1", n + 1), "field", &one]);
    }
    batch.send(&["XGROUP", "CREATE", "large:stream", "readers", "0"]);
    batch.send(&["XREADGROUP", "GROUP", "readers", "me", "COUNT", "700", "STREAMS", "large:stream", ">"]);
    batch.send(&["SETRANGE", "large:string", &(elements * 40).to_string(), "end"]);
    batch.end();
}

struct Batch<'a> {
    client: &'a mut Client,
    sent: usize,
}

// === impl Batch ===

impl Batch<'_> {
    fn send(&mut self, words: &[&str]) {
        self.client.send(words);
        self.sent += 1;
        if self.sent == PIPELINE {
            self.end();
        }
    }

    fn end(&mut self) {
        for reply in self.client.read_replies(std::mem::take(&mut self.sent)) {
            assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
        }
    }
}
