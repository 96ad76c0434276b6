//! For every command that writes: how it may be mirrored.
//!
//! One table by name, which a test holds against the command table and the servers against the test. What a
//! command's arguments add is decided here, too. What is known of its keys is not: a verbatim write needs the keys
//! that it depends on to be in sync.

mod options;
#[cfg(test)]
mod tests;

use crate::command::{Args, CommandId, Kind, Spec, Table, classify};

pub(super) use options::{StreamAdd, parse_id};

/// How one request may be mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// It changes nothing that both stores must have.
    Nothing,
    /// The other store gets the client's own words.
    Verbatim,
    /// The other store gets what [`derive`](super::derive) makes of the default store's reply.
    Derived(Derivation),
    /// The keys that it writes are copied afterwards.
    Copied,
}

/// What an effect is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Derivation {
    /// The client's own words, once the default store has taken them: what they replace is on the other store alone.
    Accepted,
    /// The members that were popped.
    Spop,
    /// The id that was made.
    XaddAuto,
    /// The id, and the length after approximate trimming.
    XaddApprox,
    /// The length after approximate trimming.
    XtrimApprox,
    /// The sum.
    IncrByFloat,
    /// The sum.
    HIncrByFloat,
    /// The entries delivered.
    XReadGroup,
    /// The entries claimed.
    XClaim,
    /// The entries claimed and those that were gone.
    XAutoClaim,
}

/// How a command may be mirrored, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// Not a write.
    Nothing,
    /// Its outcome depends on nothing but its arguments and its keys.
    Verbatim,
    /// The default store's reply says what it chose.
    Derived(Derivation),
    /// XADD: the id and the trimming may be the store's choice.
    Xadd,
    /// XTRIM: the trimming may be the store's choice.
    Xtrim,
    /// SORT … STORE: the order may depend on the locale, on other keys, or on how a set is held.
    Sort,
    /// GEOSEARCHSTORE, GEORADIUS … STORE: distances differ in their last digits, ANY takes what comes.
    GeoStore,
    /// Nobody knows what it does, or only its source tells.
    Copied,
}

/// Every command that writes, sorted by name.
const TABLE: &[(&str, Recipe)] = {
    use Derivation::*;
    use Recipe::*;
    &[
        ("append", Verbatim),
        ("bitfield", Verbatim),
        ("bitop", Verbatim),
        ("blmove", Verbatim),
        ("blmpop", Verbatim),
        ("blpop", Verbatim),
        ("brpop", Verbatim),
        ("brpoplpush", Verbatim),
        ("bzmpop", Verbatim),
        ("bzpopmax", Verbatim),
        ("bzpopmin", Verbatim),
        ("cluster|flushslot", Copied),
        ("copy", Verbatim),
        ("decr", Verbatim),
        ("decrby", Verbatim),
        ("del", Verbatim),
        ("delex", Verbatim),
        ("delifeq", Verbatim),
        ("eval", Copied),
        ("evalsha", Copied),
        ("expire", Verbatim),
        ("expireat", Verbatim),
        ("fcall", Copied),
        ("flushall", Verbatim),
        ("flushdb", Verbatim),
        ("function|delete", Verbatim),
        ("function|flush", Verbatim),
        ("function|load", Verbatim),
        ("function|restore", Verbatim),
        ("geoadd", Verbatim),
        ("georadius", GeoStore),
        ("georadiusbymember", GeoStore),
        ("geosearchstore", GeoStore),
        ("getdel", Verbatim),
        ("getex", Verbatim),
        ("getset", Verbatim),
        ("hdel", Verbatim),
        ("hexpire", Verbatim),
        ("hexpireat", Verbatim),
        ("hgetdel", Verbatim),
        ("hgetex", Verbatim),
        ("hincrby", Verbatim),
        ("hincrbyfloat", Derived(HIncrByFloat)),
        ("hmset", Verbatim),
        ("hpersist", Verbatim),
        ("hpexpire", Verbatim),
        ("hpexpireat", Verbatim),
        ("hset", Verbatim),
        ("hsetex", Verbatim),
        ("hsetnx", Verbatim),
        ("incr", Verbatim),
        ("incrby", Verbatim),
        ("incrbyfloat", Derived(IncrByFloat)),
        ("linsert", Verbatim),
        ("lmove", Verbatim),
        ("lmpop", Verbatim),
        ("lpop", Verbatim),
        ("lpush", Verbatim),
        ("lpushx", Verbatim),
        ("lrem", Verbatim),
        ("lset", Verbatim),
        ("ltrim", Verbatim),
        // Moves keys to a third server; the other store must only lose them.
        ("migrate", Copied),
        ("move", Verbatim),
        ("mset", Verbatim),
        ("msetex", Verbatim),
        ("msetnx", Verbatim),
        ("persist", Verbatim),
        ("pexpire", Verbatim),
        ("pexpireat", Verbatim),
        ("pfadd", Verbatim),
        ("pfcount", Verbatim),
        ("pfdebug", Verbatim),
        ("pfmerge", Verbatim),
        ("psetex", Verbatim),
        ("publish", Verbatim),
        ("rename", Verbatim),
        ("renamenx", Verbatim),
        ("restore", Verbatim),
        ("restore-asking", Verbatim),
        ("rpop", Verbatim),
        ("rpoplpush", Verbatim),
        ("rpush", Verbatim),
        ("rpushx", Verbatim),
        ("sadd", Verbatim),
        ("script|flush", Verbatim),
        ("script|load", Verbatim),
        ("sdiffstore", Verbatim),
        ("set", Verbatim),
        ("setbit", Verbatim),
        ("setex", Verbatim),
        ("setnx", Verbatim),
        ("setrange", Verbatim),
        ("sinterstore", Verbatim),
        ("smove", Verbatim),
        ("sort", Sort),
        ("spop", Derived(Spop)),
        ("spublish", Verbatim),
        ("srem", Verbatim),
        ("sunionstore", Verbatim),
        ("swapdb", Verbatim),
        ("unlink", Verbatim),
        ("xack", Verbatim),
        ("xackdel", Verbatim),
        ("xadd", Xadd),
        ("xautoclaim", Derived(XAutoClaim)),
        ("xclaim", Derived(XClaim)),
        ("xdel", Verbatim),
        ("xdelex", Verbatim),
        ("xgroup|create", Verbatim),
        ("xgroup|createconsumer", Verbatim),
        ("xgroup|delconsumer", Verbatim),
        ("xgroup|destroy", Verbatim),
        ("xgroup|setid", Verbatim),
        ("xreadgroup", Derived(XReadGroup)),
        ("xsetid", Verbatim),
        ("xtrim", Xtrim),
        ("zadd", Verbatim),
        ("zdiffstore", Verbatim),
        ("zincrby", Verbatim),
        ("zinterstore", Verbatim),
        ("zmpop", Verbatim),
        ("zpopmax", Verbatim),
        ("zpopmin", Verbatim),
        ("zrangestore", Verbatim),
        ("zrem", Verbatim),
        ("zremrangebylex", Verbatim),
        ("zremrangebyrank", Verbatim),
        ("zremrangebyscore", Verbatim),
        ("zunionstore", Verbatim),
    ]
};

/// The recipes of a command table, by id: what the hot path asks.
#[derive(Clone, Debug)]
pub struct Recipes {
    by_id: Box<[Recipe]>,
    /// Those that write keys, and are mirrored verbatim whenever they write.
    plain: Box<[bool]>,
}

/// How this request may be mirrored. Searches by name: [`Recipes`] answers faster.
pub fn way<A: Args + ?Sized>(spec: &Spec, args: &A) -> Way {
    Recipe::of(spec).way(spec, args)
}

// === impl Recipes ===

impl Recipes {
    /// The recipes of all commands of a table.
    pub fn new(table: &Table) -> Self {
        let by_id: Box<[Recipe]> = table.iter().map(|(_, spec)| Recipe::of(spec)).collect();
        let recipes = table.iter().zip(&by_id);
        let plain = |((_, spec), recipe): ((_, &Spec), &Recipe)| {
            spec.kind == Kind::Write && *recipe == Recipe::Verbatim
        };
        let plain = recipes.map(plain).collect();
        Self { by_id, plain }
    }

    /// Does this command write keys, and is it mirrored verbatim whenever it writes? What most writes are.
    #[inline]
    pub fn is_plain(&self, id: CommandId) -> bool {
        self.plain.get(id.index()).copied().unwrap_or_default()
    }

    /// A command's recipe. An id that came later is not known to be harmless.
    #[inline]
    pub fn get(&self, id: CommandId) -> Recipe {
        self.by_id.get(id.index()).copied().unwrap_or(Recipe::Copied)
    }

    /// How this request may be mirrored.
    #[inline]
    pub fn way<A: Args + ?Sized>(&self, id: CommandId, spec: &Spec, args: &A) -> Way {
        self.get(id).way(spec, args)
    }
}

// === impl Recipe ===

impl Recipe {
    /// The recipe of a command. What writes and is not in the table is copied.
    pub fn of(spec: &Spec) -> Self {
        if let Some(known) = Self::by_name(&spec.name) {
            return known;
        }
        let writes = match spec.kind {
            Kind::Write | Kind::KeyspaceWrite | Kind::ServerWrite | Kind::Script => true,
            Kind::Blocking | Kind::Dangerous => spec.flags.has(crate::command::CommandFlags::WRITE),
            _ => false,
        };
        if writes { Self::Copied } else { Self::Nothing }
    }

    /// What the table says about a name, a subcommand written as `xgroup|create`, in lower case.
    pub fn by_name(name: &str) -> Option<Self> {
        let at = TABLE.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
        TABLE.get(at).map(|(_, recipe)| *recipe)
    }

    /// How this request may be mirrored.
    #[inline]
    pub fn way<A: Args + ?Sized>(self, spec: &Spec, args: &A) -> Way {
        match self {
            Self::Nothing => Way::Nothing,
            Self::Verbatim if spec.kind == Kind::Publish => Way::Verbatim,
            _ if !classify(spec, args).writes => Way::Nothing,
            Self::Verbatim => Way::Verbatim,
            Self::Derived(derivation) => Way::Derived(derivation),
            Self::Xadd => options::xadd_way(args),
            Self::Xtrim => options::xtrim_way(args),
            Self::Sort => options::sort_way(args),
            Self::GeoStore => options::geo_way(args),
            Self::Copied => Way::Copied,
        }
    }
}
