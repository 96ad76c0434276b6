//! Keys of every type, read from one server and made anew on another with commands, are the same keys: whole and page
//! by page, in both protocol versions, and (with `OTHER_REDIS_SERVER`) between servers of different versions.

mod support;

use multistore::command::{LiveCommand, Table};
use multistore::mirror::Dialect;
use multistore::mirror::by_type::{Copier, CopyError, Page, Type, read_whole, rebuild};
use support::{Client, RedisServer, Value, assert_exactly_same};

/// Enough to need several pieces and pages.
const MANY: usize = 1_500;

const DATA: &[&str] = &[
    "SET text hello",
    "SET number 42",
    "SET expiring v PX 3600000",
    "PFADD log a b c d",
    "SETBIT bits 100000 1",
    "RPUSH list a b a 1 2.5",
    "SADD ints 1 2 3",
    "SADD set a b c 1",
    "HSET hash f v g 1 h 2.5",
    "ZADD zset 1 one 2.5 two inf most -inf least 0.1 tenth 1e300 big 0.30000000000000004 odd",
    "EXPIRE zset 5000",
    "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "XADD plain 1-1 f v",
    "XADD emptied 5-5 f v",
    "XDEL emptied 5-5",
    "XGROUP CREATE young g $ MKSTREAM",
    "XADD grouped 1-1 f v g w",
    "XADD grouped 2-0 f v2",
    "XADD grouped 3-7 f v3",
    "XADD grouped 4-0 f v4",
    "XADD grouped 9-9 f last",
    "XGROUP CREATE grouped g 0",
    "XGROUP CREATE grouped idle $",
    "XGROUP CREATECONSUMER grouped g nobody",
    "XREADGROUP GROUP g one COUNT 2 STREAMS grouped >",
    "XREADGROUP GROUP g two COUNT 2 STREAMS grouped >",
    "XCLAIM grouped g one 0 3-7 RETRYCOUNT 7 IDLE 60000",
    "XDEL grouped 2-0 9-9",
    "EXPIRE grouped 4000",
];

struct World {
    _servers: [RedisServer; 2],
    from: Client,
    to: Client,
    dialect: Dialect,
}

// === impl World ===

impl World {
    fn new(reversed: bool, protocol: &str) -> World {
        let mut servers = [RedisServer::start(), RedisServer::start_other(&[])];
        if reversed {
            servers.reverse();
        }
        let table = Table::builtin();
        let offered = servers.each_ref().map(|server| {
            let mut client = server.client();
            client.send(&["COMMAND"]);
            table.offered(&LiveCommand::list(&client.read_raw_reply()))
        });
        let dialect = Dialect::new(&table, &offered[0], &offered[1]);
        let [mut from, to] = servers.each_ref().map(RedisServer::client);
        from.call(&["HELLO", protocol]);
        let mut world = World { _servers: servers, from, to, dialect };
        world.fill();
        world
    }

    fn fill(&mut self) {
        for line in DATA {
            let reply = self.from.words(line);
            assert!(!reply.is_error(), "{line}: {reply:?}");
        }
        let binary: Vec<u8> = (0..400_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
        self.from.call(&[b"SET".as_slice(), b"binary", &binary]);
        self.from.call(&[b"SET".as_slice(), b"empty", b""]);
        // Exactly one page.
        self.from.call(&[b"SET".as_slice(), b"page", &binary[..256 * 1024]]);
        self.from.call(&[b"HSET".as_slice(), b"\r\n$-1\r\n", b"\0", &binary[..100]]);
        let number = |at: usize| format!("member-{at}");
        for (head, pair) in
            [(["RPUSH", "many"], false), (["SADD", "members"], false), (["HSET", "fields"], true)]
        {
            let words = (0..MANY).flat_map(|at| std::iter::repeat_n(number(at), if pair { 2 } else { 1 }));
            self.from.call(&head.map(str::to_owned).into_iter().chain(words).collect::<Vec<_>>());
        }
        let scored = (0..MANY).flat_map(|at| [(at as f64 / 7.0).to_string(), number(at)]);
        let zadd = ["ZADD", "scored"].map(str::to_owned).into_iter().chain(scored);
        self.from.call(&zadd.collect::<Vec<_>>());
        for at in 1..=MANY {
            self.from.send(&["XADD", "long", &at.to_string(), "field", &number(at)]);
        }
        self.from.read_replies(MANY);
        self.from.words("XGROUP CREATE long g 0");
        self.from.words("XREADGROUP GROUP g one STREAMS long >");
        self.from.words("XTRIM long MAXLEN 500");
        if self.dialect.has_field_expiry && self.dialect.takes_field_expiry {
            self.from.words("HSET timed a 1 b 2 c 3");
            self.from.words("HPEXPIRE timed 3600000 FIELDS 2 a b");
            self.from.words("HPEXPIRE fields 3600000 FIELDS 2 member-7 member-1400");
        }
    }

    fn kind(&mut self, key: &[u8]) -> Type {
        let name = self.from.call(&[b"TYPE".as_slice(), key]).text();
        Type::parse(name.as_bytes()).unwrap_or_else(|| panic!("{}: {name}", key.escape_ascii()))
    }

    fn keys(&mut self) -> Vec<Vec<u8>> {
        self.from.call(&["KEYS", "*"]).items().iter().map(|key| key.bytes().to_vec()).collect()
    }

    fn left(&mut self, key: &[u8]) -> Option<u64> {
        u64::try_from(self.from.call(&[b"PTTL".as_slice(), key]).int()).ok()
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8], replies: u32) {
        self.to.send_raw(bytes);
        for reply in self.to.read_replies(replies as usize) {
            assert!(!reply.is_error(), "{reply:?}");
        }
    }

    #[track_caller]
    fn copy(&mut self, key: &[u8], page: Page) -> usize {
        let mut copier = Copier::new(self.kind(key), key, key, page, self.dialect);
        let mut sent = 0;
        while let Some(read) = copier.next_read() {
            self.from.send_raw(&read);
            let reply = self.from.read_raw_reply();
            copier.take(&reply).unwrap_or_else(|error| panic!("{}: {error}", key.escape_ascii()));
            for piece in copier.pieces() {
                assert!(piece.bytes.len() < 500_000, "a piece of {} bytes", piece.bytes.len());
                self.send(&piece.bytes, piece.replies);
                sent += 1;
            }
        }
        let left = self.left(key);
        if let Some(piece) = copier.expiry(left) {
            self.send(&piece.bytes, piece.replies);
        }
        sent
    }
}

#[test]
fn copied_keys_are_the_same() {
    for (reversed, protocol) in [(false, "2"), (true, "3")] {
        let mut world = World::new(reversed, protocol);
        for page in [Page::Whole, Page::Elements(100), Page::Elements(1_000_000)] {
            for key in world.keys() {
                let pieces = world.copy(&key, page);
                assert!(key != b"long" || pieces > 2, "{pieces} pieces");
            }
            let when = format!("{page:?}, RESP{protocol}, reversed: {reversed}");
            assert_exactly_same(&mut world.from, &mut world.to, &when);
        }
    }
}

#[test]
fn whole_values_are_rebuilt_of_one_reply() {
    let mut world = World::new(false, "3");
    for key in world.keys() {
        let kind = world.kind(&key);
        world.from.send_raw(&read_whole(kind, &key));
        let reply = world.from.read_raw_reply();
        let left = world.left(&key);
        for piece in rebuild(kind, &key, &reply, left, world.dialect).expect("a value") {
            world.send(&piece.bytes, piece.replies);
        }
    }
    // Fields that expire are beyond one reply.
    if world.dialect.has_field_expiry && world.dialect.takes_field_expiry {
        world.copy(b"timed", Page::Whole);
        world.copy(b"fields", Page::Whole);
    }
    assert_exactly_same(&mut world.from, &mut world.to, "rebuilt");
}

#[test]
fn what_is_gone_or_something_else_by_now_is_not_made() {
    let mut world = World::new(false, "2");
    world.to.words("SET gone stale");
    for kind in [Type::String, Type::List, Type::Set, Type::Hash, Type::SortedSet, Type::Stream] {
        for page in [Page::Whole, Page::Elements(10)] {
            let mut copier = Copier::new(kind, b"gone", b"gone", page, world.dialect);
            while let Some(read) = copier.next_read() {
                world.from.send_raw(&read);
                let reply = world.from.read_raw_reply();
                copier.take(&reply).unwrap_or_else(|error| panic!("{kind:?} {page:?}: {error}"));
            }
            for piece in copier.pieces() {
                world.send(&piece.bytes, piece.replies);
            }
            assert_eq!(world.to.words("TYPE gone"), Value::simple("none"), "{kind:?} {page:?}");
            let mut copier = Copier::new(kind, b"x", b"x", page, world.dialect);
            assert_eq!(copier.take(b"-WRONGTYPE no\r\n"), Err(CopyError::Unreadable), "{kind:?} {page:?}");
        }
    }
}
