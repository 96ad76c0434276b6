//! What clients ask for. A key's first letter says what is kept in the books about it.

use super::dice::Dice;
use super::redis::Words;
use super::world::Ask;

/// Makes requests; whatever is written is written once.
pub struct Wishes {
    count: u64,
    /// Keys come and go by themselves.
    expiring: bool,
}

// === impl Wishes ===

impl Wishes {
    pub fn new(expiring: bool) -> Wishes {
        Wishes { count: 0, expiring }
    }

    /// What a client sends at once.
    pub fn batch(&mut self, dice: &mut Dice, db: u32) -> Vec<Ask> {
        let count = if dice.chance(60) { 1 } else { 1 + dice.below(4) };
        (0..count).map(|_| self.wish(dice, db)).collect()
    }

    fn wish(&mut self, dice: &mut Dice, db: u32) -> Ask {
        match dice.below(100) {
            10..=13 if db == 0 && self.expiring => {
                let timeout = dice.pick(&["0.05", "3"]).as_bytes();
                Ask::Block(words(&[b"BLPOP", b"t1", b"t0", timeout]))
            }
            18..=20 if db == 0 && self.expiring => Ask::Swap(key(dice, "t", 2), self.name("v")),
            0..=9 => {
                let count = 1 + dice.below(3);
                let all = (0..count).map(|_| self.words(dice, db)).collect();
                Ask::Transaction(all, dice.chance(40))
            }
            10..=17 if db == 0 => self.waits(dice),
            18..=23 if db == 0 => Ask::Swap(key(dice, "r", 2), self.name("v")),
            _ => Ask::One(self.words(dice, db)),
        }
    }

    fn waits(&mut self, dice: &mut Dice) -> Ask {
        let timeout = dice.pick(&["0.05", "0.5", "3", "8"]).as_bytes();
        Ask::Block(match dice.below(4) {
            0 => words(&[b"BLMOVE", &key(dice, "q", 2), &key(dice, "q", 2), b"LEFT", b"RIGHT", timeout]),
            1 => words(&[b"BLPOP", b"q1", b"q0", timeout]),
            _ => words(&[b"BLPOP", &key(dice, "q", 2), timeout]),
        })
    }

    fn words(&mut self, dice: &mut Dice, db: u32) -> Words {
        if db > 0 {
            return if dice.chance(4) { words(&[b"FLUSHDB"]) } else { self.junk(dice) };
        }
        if self.expiring && dice.chance(50) {
            return self.fleeting(dice);
        }
        match dice.below(12) {
            0..=2 => self.register(dice),
            3 | 4 => match dice.below(4) {
                0 => words(&[b"GET", &key(dice, "c", 2)]),
                _ => words(&[b"INCR", &key(dice, "c", 2)]),
            },
            5 => match dice.below(6) {
                0 => words(&[b"GET", b"l0"]),
                1 => words(&[b"DEL", b"l0"]),
                _ => words(&[b"SET", b"l0", &self.name("v"), b"NX"]),
            },
            6 | 7 => self.queue(dice),
            8 => match dice.below(5) {
                0 => words(&[b"SMEMBERS", b"s0"]),
                1 | 2 => words(&[b"SADD", b"s0", &self.name("m"), &self.name("m")]),
                _ => words(&[b"SPOP", b"s0"]),
            },
            9 => match dice.below(3) {
                0 => words(&[b"XLEN", b"x0"]),
                _ => words(&[b"XADD", b"x0", b"*", b"f", &self.name("v")]),
            },
            _ => self.junk(dice),
        }
    }

    fn register(&mut self, dice: &mut Dice) -> Words {
        match dice.below(10) {
            0..=4 => words(&[b"GET", &key(dice, "r", 3)]),
            5 => words(&[b"DEL", &key(dice, "r", 3)]),
            6 => words(&[b"MGET", b"r0", b"r1", b"c0"]),
            _ => words(&[b"SET", &key(dice, "r", 3), &self.name("v")]),
        }
    }

    fn queue(&mut self, dice: &mut Dice) -> Words {
        match dice.below(8) {
            0..=2 => words(&[b"RPUSH", &key(dice, "q", 2), &self.name("e")]),
            3 => words(&[b"LPUSH", &key(dice, "q", 2), &self.name("e"), &self.name("e")]),
            4 | 5 => words(&[b"LPOP", &key(dice, "q", 2)]),
            6 => words(&[b"LMOVE", &key(dice, "q", 2), &key(dice, "q", 2), b"LEFT", b"RIGHT"]),
            _ => words(&[b"LRANGE", &key(dice, "q", 2), b"0", b"-1"]),
        }
    }

    /// Anything, to keys about which only equality counts.
    fn junk(&mut self, dice: &mut Dice) -> Words {
        let key = key(dice, "j", 4);
        match dice.below(20) {
            0 => {
                words(&[b"SET", &key, &self.name("v"), b"PX", dice.pick(&["40", "900", "20000"]).as_bytes()])
            }
            1 => words(&[b"SET", &key, &self.name("v"), b"KEEPTTL"]),
            2 | 3 => words(&[b"APPEND", &key, &self.name("a")]),
            4 | 5 => words(&[b"INCR", &key]),
            6 => words(&[b"RPUSH", &key, &self.name("w")]),
            7 => words(&[b"SADD", &key, &self.name("w"), &self.name("w")]),
            8 => words(&[b"SPOP", &key]),
            9 => words(&[b"RENAME", &key, &self::key(dice, "j", 4)]),
            10 => words(&[b"EVAL", b"return redis.call('SET', KEYS[1], math.random())", b"1", &key]),
            11 => words(&[b"PEXPIRE", &key, dice.pick(&["30", "5000", "100000"]).as_bytes()]),
            12 => words(&[b"PERSIST", &key]),
            13 => words(&[b"GETSET", &key, &self.name("v")]),
            14 => words(&[b"DEL", &key]),
            15 => words(&[b"XADD", &key, b"*", b"f", &self.name("w")]),
            16 => words(&[b"SET", &key, &self.name("v"), b"NX"]),
            17 => words(&[b"STRLEN", &key]),
            18 => words(&[b"EXISTS", &key]),
            _ => words(&[b"GET", &key]),
        }
    }

    /// To keys that end before long.
    fn fleeting(&mut self, dice: &mut Dice) -> Words {
        let key = key(dice, "t", 3);
        // What is answered alike whether or not the key was there.
        match dice.below(8) {
            0 | 1 => return words(&[b"SADD", &key, &self.name("w"), &self.name("w")]),
            2 => return words(&[b"SET", &key, &self.name("v"), b"KEEPTTL"]),
            3 => return words(&[b"XADD", &key, b"*", b"f", &self.name("w")]),
            _ => {}
        }
        let life = dice.pick(&["3", "8", "25", "90", "400"]).as_bytes();
        // By the clocks of stores that begin at one second.
        let end = (1_000 + dice.below(1_500)).to_string().into_bytes();
        match dice.below(24) {
            0 | 1 => words(&[b"SET", &key, &self.name("v"), b"PX", life]),
            2 => words(&[b"SET", &key, b"5", b"PX", life]),
            3 | 4 => words(&[b"SET", &key, &self.name("v"), b"NX", b"PX", life]),
            5 | 6 => words(&[b"SET", &key, &self.name("v"), b"PXAT", &end]),
            7..=9 => words(&[b"PEXPIRE", &key, life]),
            10 => words(&[b"PEXPIREAT", &key, &end]),
            11 => words(&[b"PERSIST", &key]),
            12 => words(&[b"RENAME", &key, &self::key(dice, "t", 3)]),
            13 => words(&[b"EVAL", b"return redis.call('PEXPIRE', KEYS[1], ARGV[1])", b"1", &key, life]),
            14 => words(&[b"DEL", &key]),
            15 => words(&[b"APPEND", &key, &self.name("a")]),
            16 => words(&[b"INCR", &key]),
            17 => words(&[b"RPUSH", &key, &self.name("w")]),
            18 => words(&[b"SPOP", &key]),
            19 => words(&[b"SET", &key, &self.name("v"), b"NX"]),
            _ => words(&[b"GET", &key]),
        }
    }

    pub fn name(&mut self, prefix: &str) -> Vec<u8> {
        self.count += 1;
        format!("{prefix}{}", self.count).into_bytes()
    }
}

fn key(dice: &mut Dice, letter: &str, count: usize) -> Vec<u8> {
    format!("{letter}{}", dice.below(count)).into_bytes()
}

fn words(words: &[&[u8]]) -> Words {
    words.iter().map(|word| word.to_vec()).collect()
}
