//! What clients ask for.

use multistore::resp::encode;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    Set,
    Get,
    Incr,
    /// What Sidekiq sends, blocking pops left out (twemproxy has none).
    Sidekiq,
    /// MULTI, SET, INCR, EXEC in one write: one request.
    Multi,
    /// RPUSH onto one list, each element another: a race.
    Push,
}

/// Keys of one kind: few enough to be loaded quickly, many enough that no two clients meet.
pub const KEYS: u64 = 10_000;
/// Larger values share one key: they are to burden the way, not the memory.
const LARGE: usize = 64 * 1024;

/// Makes requests.
pub struct Maker {
    work: Work,
    prefix: String,
    value: Vec<u8>,
    seed: u64,
}

// === impl Work ===

impl Work {
    pub const ALL: [Work; 5] = [Work::Set, Work::Get, Work::Incr, Work::Sidekiq, Work::Multi];

    pub fn name(self) -> &'static str {
        match self {
            Work::Set => "SET",
            Work::Get => "GET",
            Work::Incr => "INCR",
            Work::Sidekiq => "Sidekiq mix",
            Work::Multi => "MULTI/EXEC",
            Work::Push => "RPUSH",
        }
    }

    /// The one list of [`Work::Push`].
    pub fn list(prefix: &str) -> String {
        key(prefix, "list", 0)
    }

    /// Does the size of values matter to it?
    pub fn has_value(self) -> bool {
        matches!(self, Work::Set | Work::Get)
    }
}

// === impl Maker ===

impl Maker {
    /// Keys begin with `prefix`, so that what runs past a proxy does not part the stores behind it.
    pub fn new(work: Work, prefix: &str, value: usize, seed: u64) -> Maker {
        Maker { work, prefix: prefix.to_owned(), value: vec![b'x'; value], seed: seed | 1 }
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed >> 11
    }

    /// Appends one request. Says how many replies it has.
    pub fn write(&mut self, out: &mut Vec<u8>) -> u32 {
        let keys = if self.value.len() > LARGE { 1 } else { KEYS };
        let number = self.random() % keys;
        match self.work {
            Work::Set => self.command(out, number, "SET", "k", &[&self.value]),
            Work::Get => self.command(out, number, "GET", "k", &[]),
            Work::Incr => self.command(out, number, "INCR", "c", &[]),
            Work::Sidekiq => self.sidekiq(out, number),
            Work::Push => {
                let element = self.random().to_string();
                self.command(out, 0, "RPUSH", "list", &[element.as_bytes()])
            }
            Work::Multi => {
                encode::command(out, &[b"MULTI".as_slice()]);
                self.command(out, number, "SET", "k", &[&self.value]);
                self.command(out, number, "INCR", "c", &[]);
                encode::command(out, &[b"EXEC".as_slice()]);
                4
            }
        }
    }

    fn sidekiq(&mut self, out: &mut Vec<u8>, number: u64) -> u32 {
        let job: &[u8] =
            br#"{"class":"HardJob","args":[1,"two"],"retry":true,"jid":"0123456789abcdef01234567"}"#;
        let queue = number % 8;
        match self.random() % 6 {
            0 => self.command(out, 0, "SADD", "queues", &[b"default"]),
            1 => self.command(out, queue, "LPUSH", "queue", &[job]),
            2 => self.command(out, queue, "RPOP", "queue", &[]),
            3 => self.command(out, 0, "INCRBY", "stat", &[b"1"]),
            4 => self.command(out, number % 64, "HSET", "work", &[b"tid", job]),
            _ => self.command(out, number % 64, "EXPIRE", "work", &[b"60"]),
        }
    }

    fn command(&self, out: &mut Vec<u8>, number: u64, name: &str, kind: &str, more: &[&[u8]]) -> u32 {
        let key = key(&self.prefix, kind, number);
        encode::array_header(out, 2 + more.len());
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, key.as_bytes());
        more.iter().for_each(|arg| encode::bulk(out, arg));
        1
    }

    /// Gives every key its first value, so that a GET hits and an INCR finds a number on both stores.
    pub fn preload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in 0..KEYS {
            self.command(&mut out, number, "SET", "k", &[&self.value]);
            self.command(&mut out, number, "SET", "c", &[b"0"]);
        }
        out
    }
}

fn key(prefix: &str, kind: &str, number: u64) -> String {
    format!("{prefix}:{kind}:{number:010}")
}
