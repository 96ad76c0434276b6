//! What is known about one command.

use std::borrow::Cow;

use super::{Access, CommandFlags, KeyFlags};

/// One command, or one subcommand of a container.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Lower case, a subcommand behind its container: `get`, `client|kill`. As Redis writes it.
    pub name: Cow<'static, str>,
    /// Words in a request, the name included; negative: at least so many.
    pub arity: i32,
    /// What servers say about it.
    pub flags: CommandFlags,
    /// Where its keys stand, in the order of its arguments.
    pub keys: Cow<'static, [KeySpec]>,
    /// What it does, as far as the name alone tells.
    pub kind: Kind,
    /// Which reply to it is a miss, as far as the name alone tells.
    pub miss: Miss,
    /// How replies to it are compared, as far as the name alone tells.
    pub rule: Rule,
    /// Which of its arguments change the answers above.
    pub shape: Shape,
    /// Whether it has subcommands.
    pub container: bool,
    /// Its only key, where it always has exactly one at the same place: what most requests need to know.
    pub lone_key: Option<LoneKey>,
}

/// The only key of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoneKey {
    /// Which argument it is.
    pub arg: u16,
    /// What the command does to it, as far as its name tells.
    pub access: Access,
}

/// What a command does to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Reads keys.
    Read,
    /// Reads the keyspace: SCAN, KEYS, DBSIZE, RANDOMKEY.
    KeyspaceRead,
    /// Writes keys.
    Write,
    /// Writes data and names no key: FLUSHALL, FLUSHDB, SWAPDB.
    KeyspaceWrite,
    /// Changes state beside the keys that both stores must have: scripts, functions.
    ServerWrite,
    /// Runs code that may write: EVAL, EVALSHA, FCALL.
    Script,
    /// Runs code that may not write: EVAL_RO, EVALSHA_RO, FCALL_RO.
    ScriptRead,
    /// May wait on the server: BLPOP, XREAD BLOCK. WAIT and WAITAOF too, which name no keys.
    Blocking,
    /// Enters or leaves channels.
    PubSub,
    /// Sends to a channel.
    Publish,
    /// Changes or shows the connection: HELLO, SELECT, CLIENT, PING.
    Connection,
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
    Transaction,
    /// MONITOR.
    Monitor,
    /// About the server: INFO, CONFIG, DEBUG, and all that nothing else fits.
    Admin,
    /// Stops a server, changes whom it follows, or moves keys away behind the proxy's back.
    Dangerous,
    /// Takes over the connection that runs it, or gets no reply: SYNC, SCRIPT DEBUG. Never for one that others share.
    Takeover,
}

/// Which reply to a read says that the store knows nothing of the key. An error, or no answer, always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// Never looked up twice, whatever the reply.
    Never,
    /// Nothing but an error.
    OnlyError,
    /// Nil.
    Nil,
    /// Nil or the empty string.
    EmptyString,
    /// Nil, or an array of nothing but nil.
    AllNil,
    /// An array of nothing but 0.
    AllZero,
    /// Any nil in the array: the replies are merged element by element.
    AnyNil,
    /// The integer 0.
    Zero,
    /// 0 or -1, which BITPOS says of a string that is not there.
    ZeroOrMinusOne,
    /// An empty array, map or set, or nil.
    Empty,
    /// -2, or an array of nothing but -2.
    MinusTwo,
    /// The word `none`.
    TypeNone,
    /// Cursor 0 and no element.
    ScanEmpty,
}

/// How two replies that are not equal bytes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The same value.
    Exact,
    /// The same elements in any order.
    Multiset,
    /// The same pairs of field and value in any order.
    PairsMultiset,
    /// A cursor, and the same elements in any order.
    ScanPage,
    /// The same pairs behind a cursor in any order: HSCAN, ZSCAN.
    ScanPairsPage,
    /// Times that differ by no more than the tolerance; negative ones must be equal.
    Tolerance(Tick),
    /// Numbers are equal as numbers.
    Numbers,
    /// Not at all.
    Ignore,
}

/// What a time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tick {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
}

/// Commands whose arguments change what they are, by how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The name says it all.
    Plain,
    /// SORT and SORT_RO: STORE writes, BY and GET read further keys.
    Sort,
    /// GEORADIUS, GEORADIUSBYMEMBER: STORE and STOREDIST write.
    GeoRadius,
    /// BITFIELD: reads if all it does is GET.
    Bitfield,
    /// GETEX: reads without an option.
    GetEx,
    /// HGETEX: reads without an option.
    HGetEx,
    /// XREAD: waits with BLOCK.
    XRead,
    /// XREADGROUP: waits with BLOCK, always writes.
    XReadGroup,
    /// SET: conditions and KEEPTTL look at what was there.
    Set,
    /// MSETEX: the same for several keys.
    MSetEx,
    /// RESTORE: REPLACE doesn't look at what was there.
    Restore,
    /// COPY: REPLACE doesn't look at what was there; DB names another database.
    Copy,
    /// MOVE: writes into another database.
    Move,
    /// SWAPDB: names two databases.
    SwapDb,
    /// FLUSHALL: empties all databases.
    FlushAll,
    /// FLUSHDB: empties the connection's database.
    FlushDb,
    /// MIGRATE: its one key may be empty, then they follow KEYS.
    Migrate,
    /// EXISTS, TOUCH: reads of several keys if so many are given.
    SeveralKeys,
    /// PFCOUNT: writes into the one key, reads several.
    PfCount,
    /// HSCAN, SSCAN, ZSCAN: a page that is not the first belongs to the store that gave the cursor.
    Scan,
    /// Scores and distances are in the reply if asked for.
    WithScores,
    /// GETDEL: removes the key whatever string it held.
    GetDel,
    /// RENAME: takes one key away and puts its value over another.
    Rename,
    /// BLPOP and its like: the timeout stands last, in seconds.
    TimeoutLast,
    /// BLMPOP, BZMPOP: the timeout stands first, in seconds.
    TimeoutFirst,
    /// WAIT, WAITAOF: the timeout stands last, in milliseconds.
    Wait,
    /// ZADD: INCR answers with a score.
    ZAdd,
    /// XPENDING: the long form tells idle times.
    XPending,
}

/// Where a command's keys stand: where to begin, how to go on, and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What the command does to these keys.
    pub flags: KeyFlags,
    /// Where the search begins.
    pub begin: Begin,
    /// How keys are found from there.
    pub find: Find,
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(u16),
    /// Behind the first such word at or after `from`; a negative `from` counts from the end, backwards.
    Keyword {
        /// The word.
        word: Word,
        /// Where to look first.
        from: i16,
    },
    /// The server cannot tell in general.
    Unknown,
}

/// How keys are found from where the search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`-th argument up to `last`.
    Range {
        /// Relative to the begin; negative: relative to the end (-1 is the last argument).
        last: i16,
        /// Distance of two keys.
        step: u16,
        /// With `last` -1: stop after this fraction of the arguments (2: half of them); 0 and 1: all.
        limit: u16,
    },
    /// A number of keys, then the keys.
    KeyNum {
        /// Where the number stands, relative to the begin.
        number: u16,
        /// Where the first key stands, relative to the begin.
        first: u16,
        /// Distance of two keys.
        step: u16,
    },
    /// The server cannot tell in general.
    Unknown,
}

/// A short keyword, held in place so that rows can be constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    bytes: [u8; Word::MAX],
    len: u8,
}

/// Whether so many words fit an arity.
#[inline]
pub(super) fn arity_ok(arity: i32, argc: usize) -> bool {
    let needed = arity.unsigned_abs() as usize;
    if arity < 0 { argc >= needed } else { argc == needed }
}

// === impl Spec ===

impl Spec {
    /// Whether a request of so many words, the name included, may be run at all.
    #[inline]
    pub fn arity_ok(&self, argc: usize) -> bool {
        arity_ok(self.arity, argc)
    }

    /// The name as a label of a metric: built-in names live as long as the process, all others are
    /// one label, so that no server can make series.
    pub fn label(&self) -> &'static str {
        match self.name {
            Cow::Borrowed(name) => name,
            Cow::Owned(_) => "other",
        }
    }

    /// The name without its container.
    pub fn own_name(&self) -> &str {
        self.name.split_once('|').map_or(&self.name, |(_, name)| name)
    }
}

// === impl Word ===

impl Word {
    /// The longest keyword that fits; the longest that Redis has is STOREDIST.
    pub const MAX: usize = 15;

    /// The word, if it is short enough.
    #[allow(clippy::indexing_slicing)]
    pub const fn new(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() > Self::MAX {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        let mut at = 0;
        while at < text.len() {
            bytes[at] = text[at];
            at += 1;
        }
        Some(Self { bytes, len: text.len() as u8 })
    }

    /// The word.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or_default()
    }
}

/// The short words in which the rows of the table are written.
pub(super) mod row {
    use super::{Begin, CommandFlags as C, Find, KeyFlags as K, KeySpec, Word};

    /// What a row holds; [`Spec`](super::Spec) adds what `annotations` knows.
    #[derive(Clone, Copy)]
    pub struct Row {
        pub name: &'static str,
        pub arity: i32,
        pub flags: C,
        pub keys: &'static [KeySpec],
    }

    pub const WRITE: u32 = C::WRITE.bits();
    pub const READONLY: u32 = C::READONLY.bits();
    pub const DENYOOM: u32 = C::DENYOOM.bits();
    pub const ADMIN: u32 = C::ADMIN.bits();
    pub const PUBSUB: u32 = C::PUBSUB.bits();
    pub const NOSCRIPT: u32 = C::NOSCRIPT.bits();
    pub const BLOCKING: u32 = C::BLOCKING.bits();
    pub const LOADING: u32 = C::LOADING.bits();
    pub const STALE: u32 = C::STALE.bits();
    pub const SKIP_MONITOR: u32 = C::SKIP_MONITOR.bits();
    pub const SKIP_SLOWLOG: u32 = C::SKIP_SLOWLOG.bits();
    pub const ASKING: u32 = C::ASKING.bits();
    pub const FAST: u32 = C::FAST.bits();
    pub const NO_AUTH: u32 = C::NO_AUTH.bits();
    pub const MAY_REPLICATE: u32 = C::MAY_REPLICATE.bits();
    pub const NO_ASYNC_LOADING: u32 = C::NO_ASYNC_LOADING.bits();
    pub const NO_MULTI: u32 = C::NO_MULTI.bits();
    pub const ALLOW_BUSY: u32 = C::ALLOW_BUSY.bits();
    pub const NO_MANDATORY_KEYS: u32 = C::NO_MANDATORY_KEYS.bits();
    pub const PROTECTED: u32 = C::PROTECTED.bits();
    pub const TOUCHES_ARBITRARY_KEYS: u32 = C::TOUCHES_ARBITRARY_KEYS.bits();

    pub const K_RO: u32 = K::RO.bits();
    pub const K_RW: u32 = K::RW.bits();
    pub const K_OW: u32 = K::OW.bits();
    pub const K_RM: u32 = K::RM.bits();
    pub const K_ACCESS: u32 = K::ACCESS.bits();
    pub const K_UPDATE: u32 = K::UPDATE.bits();
    pub const K_INSERT: u32 = K::INSERT.bits();
    pub const K_DELETE: u32 = K::DELETE.bits();
    pub const K_NOT_KEY: u32 = K::NOT_KEY.bits();
    pub const K_VARIABLE_FLAGS: u32 = K::VARIABLE_FLAGS.bits();

    pub const fn row(name: &'static str, arity: i32, flags: u32, keys: &'static [KeySpec]) -> Row {
        Row { name, arity, flags: C::from_bits(flags), keys }
    }

    pub const fn key(flags: u32, begin: Begin, find: Find) -> KeySpec {
        KeySpec { flags: K::from_bits(flags), begin, find }
    }

    pub const fn unknown(flags: u32) -> KeySpec {
        key(flags, Begin::Unknown, Find::Unknown)
    }

    pub const fn index(at: u16) -> Begin {
        Begin::Index(at)
    }

    pub const fn keyword(word: &str, from: i16) -> Begin {
        match Word::new(word) {
            Some(word) => Begin::Keyword { word, from },
            None => Begin::Unknown,
        }
    }

    pub const fn range(last: i16, step: u16, limit: u16) -> Find {
        Find::Range { last, step, limit }
    }

    pub const fn keynum(number: u16, first: u16, step: u16) -> Find {
        Find::KeyNum { number, first, step }
    }
}
