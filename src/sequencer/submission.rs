//! What sessions hand to the sequencer: one request, one transaction, or what ran on a connection of its own.

use std::borrow::Cow;

use crate::command::{CommandId, Miss, Rule};
use crate::metrics::RequestKind;
use crate::mirror::Way;

use super::clients::ClientKey;
use super::cursors::Scan;
use super::fence::Footprint;
use super::lane::Context;
use super::op::Part;

/// Which way a request goes while dual. Decided by [`crate::route`] from the command alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// To the default store alone.
    Default,
    /// A read that may be looked up on both stores.
    Read(Miss),
    /// A page of a scan within one key; the cursor asked for.
    Scan(u64, Miss),
    /// A page of the keyspace; the cursor asked for.
    KeyspaceScan(u64),
    /// To both stores.
    Write,
}

/// What a write does to the keyspace as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Only to its keys, or to none.
    #[default]
    Keys,
    /// It empties every database.
    FlushAll,
    /// It empties one database.
    FlushDb,
    /// It exchanges databases.
    Swap,
    /// It changes functions.
    Functions,
    /// To its keys, and perhaps to others that a script computes.
    Undeclared,
    /// To keys that only the store knows.
    Unlisted,
    /// To keys of databases that a script selects.
    Anywhere,
}

/// What a write makes of its keys' times to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing.
    #[default]
    Keeps,
    /// It sets those of single fields, perhaps counted from when it runs.
    Fields,
    /// Its one key ends so many microseconds after it runs, if it is carried out.
    In(u64),
    /// Its keys end at a time by the store's clock.
    At,
    /// They may have an end, perhaps counted from when it runs: its words do not tell.
    Untold,
    /// A key takes over another one's.
    Carried,
}

/// One request of one client.
pub struct Submission<'a> {
    /// Who asks.
    pub client: ClientKey,
    /// The slot for the reply.
    pub seq: u64,
    /// Which command.
    pub command: CommandId,
    /// Which way it goes.
    pub path: Path,
    /// How replies to it are compared.
    pub rule: Rule,
    /// What it is counted as.
    pub kind: RequestKind,
    /// Database and protocol.
    pub context: Context,
    /// The canonical request.
    pub frame: Cow<'a, [u8]>,
    /// What it touches. [`Footprint::Nothing`] is fine in single-store stages.
    pub footprint: Footprint,
    /// How it may be mirrored.
    pub way: Way,
    /// What it does to the keyspace as a whole.
    pub scope: Scope,
    /// What it makes of its keys' times to live.
    pub expiry: Expiry,
    /// What is outstanding of this client together with it ([`Clients::batch`](super::clients::Clients::batch)). `None`:
    /// nothing else is.
    pub batch: Option<u64>,
    /// How many parked clients it may serve.
    pub fills: usize,
}

/// A whole transaction of one client.
pub struct Transaction<'a> {
    /// Who asks.
    pub client: ClientKey,
    /// MULTI, the commands, EXEC: where their replies go.
    pub parts: Vec<Part>,
    /// EXEC's entry in the command table.
    pub command: CommandId,
    /// Database and protocol.
    pub context: Context,
    /// The canonical requests, one behind the other.
    pub frame: Cow<'a, [u8]>,
    /// What its commands touch together.
    pub footprint: Footprint,
    /// Where that is everything: the keys that they name, and that they may find.
    pub named: Footprint,
    /// Does any of its commands write?
    pub writes: bool,
    /// Is any of them a script?
    pub runs_scripts: bool,
    /// How its commands may be mirrored, MULTI and EXEC left out.
    pub ways: Vec<Way>,
    /// Does any of its commands do something to the keyspace as a whole?
    pub scope: Scope,
    /// What its commands make of their keys' times to live.
    pub expiry: Expiry,
}

/// What ran on a dedicated connection.
pub struct Dedicated<'a> {
    /// Which command; EXEC for a transaction.
    pub command: CommandId,
    /// Database and protocol.
    pub context: Context,
    /// The request: one command, or MULTI … EXEC.
    pub frame: &'a [u8],
    /// How many replies it has.
    pub replies: u32,
    /// The default store's (last) reply.
    pub reply: &'a [u8],
    /// The replies to its companions.
    pub companions: &'a [Box<[u8]>],
    /// What it touched.
    pub footprint: Footprint,
    /// How its commands may be mirrored.
    pub ways: Vec<Way>,
    /// What it did to the keyspace as a whole.
    pub scope: Scope,
    /// It selected a database.
    pub selects: bool,
    /// What it makes of its keys' times to live.
    pub expiry: Expiry,
}

// === impl Expiry ===

impl Expiry {
    /// Does it count from the moment at which the write runs?
    pub fn is_relative(self) -> bool {
        matches!(self, Expiry::Fields | Expiry::In(_) | Expiry::Untold)
    }

    /// What two commands make of times to live together.
    pub fn with(self, other: Expiry) -> Expiry {
        match (self, other) {
            (Expiry::Keeps, expiry) | (expiry, Expiry::Keeps) if !matches!(expiry, Expiry::In(_)) => expiry,
            (Expiry::Fields, Expiry::Fields) => Expiry::Fields,
            _ => Expiry::Untold,
        }
    }

    /// The same where the moment at which it ran is not known.
    pub fn without_moment(self) -> Expiry {
        if matches!(self, Expiry::In(_)) { Expiry::Untold } else { self }
    }
}

// === impl Scope ===

impl Scope {
    /// Does a write of this scope name all keys that it may change, or empty or exchange whole databases?
    pub fn is_named(self) -> bool {
        !matches!(self, Scope::Undeclared | Scope::Unlisted | Scope::Anywhere)
    }
}

// === impl Submission ===

impl Submission<'_> {
    /// Is nothing else of this client outstanding?
    pub(super) fn is_alone(&self) -> bool {
        self.batch.is_none()
    }

    /// The same, with a frame of its own.
    pub(super) fn to_owned(&self) -> Submission<'static> {
        Submission { frame: Cow::Owned(self.frame.to_vec()), footprint: self.footprint.clone(), ..*self }
    }

    /// What is scanned, and the cursor asked for.
    pub(super) fn scan(&self) -> Option<(Scan, u64)> {
        let (of, cursor) = match self.path {
            Path::Scan(cursor, _) => (self.footprint.keys().first()?.hash, cursor),
            Path::KeyspaceScan(cursor) => (u64::from(self.context.db), cursor),
            _ => return None,
        };
        Some((Scan { of, client: self.client.id() }, cursor))
    }
}

// === impl Transaction ===

impl Transaction<'_> {
    /// The same, with a frame of its own.
    pub(super) fn into_owned(self) -> Transaction<'static> {
        Transaction { frame: Cow::Owned(self.frame.into_owned()), ..self }
    }
}
