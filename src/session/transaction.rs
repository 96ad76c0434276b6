//! MULTI … EXEC: collected by the session, put into the order whole.
//!
//! While the client pipelines, nothing is answered before EXEC: then the store's own replies
//! serve. When it waits, the proxy answers `QUEUED` itself ([`Multi::answer`]).

use std::ops::Range;

use crate::command::Rule;
use crate::mirror::Way;
use crate::resp::request::RequestLimits;
use crate::resp::{Proto, encode};
use crate::route::ClientCommand;
use crate::sequencer::fence::{Footprint, KeyRef};
use crate::sequencer::op::Part;
use crate::sequencer::{Expiry, Scope};

use super::writes::wider;

/// What the stores run in the place of a command that is not for them.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A transaction that is being collected.
#[derive(Debug, Default)]
pub struct Multi {
    /// MULTI and the commands, canonical, one behind the other.
    pub frames: Vec<u8>,
    /// Their slots.
    pub parts: Vec<Part>,
    /// Parts before this one have been answered by the proxy.
    answered: usize,
    /// A command was refused when it was to be queued: EXEC will abort.
    pub dirty: bool,
    /// What the commands touch.
    pub footprint: Footprint,
    /// Of a transaction that may touch everything: the keys that its commands name, before one that empties the stores.
    pub named: Footprint,
    /// A command has emptied a store: what comes behind it finds nothing.
    emptied: bool,
    /// What they touch database by database, of a transaction that selects another one: then `footprint` is everything.
    pub reach: Vec<(u32, Footprint)>,
    /// Does any command write?
    pub writes: bool,
    /// Is any command a script?
    pub runs_scripts: bool,
    /// May any command change anything, as CLIENT PAUSE … WRITE understands it?
    pub replicates: bool,
    /// How the commands may be mirrored.
    pub ways: Vec<Way>,
    /// What they do to the keyspace as a whole.
    pub scope: Scope,
    /// What they make of their keys' times to live.
    pub expiry: Expiry,
    /// Does any command select a database?
    pub selects: Option<u32>,
    /// Does any command change connection state? Then it cannot run in a lane.
    pub private: bool,
    /// What becomes of the client's own state if EXEC succeeds, by the command's place in EXEC's reply.
    pub changes: Vec<(usize, Change)>,
    /// Commands that the proxy answers itself at EXEC, by their place in EXEC's reply. A PING stands in `frames`.
    pub own: Vec<(usize, Own)>,
    /// Commands for the client's own connection alone: where the PING stands in `frames` that the lanes see, and
    /// what is sent instead.
    private_frames: Vec<(Range<usize>, Vec<u8>)>,
    /// Bytes kept beside `frames`.
    kept: usize,
    /// Keys in the footprints.
    keys: usize,
}

/// A change of connection state that a transaction may bring about.
#[derive(Clone, Debug)]
pub enum Change {
    /// SELECT
    Db(u32),
    /// HELLO
    Proto(Proto),
}

/// A queued command that the proxy runs itself.
#[derive(Clone, Debug)]
pub enum Own {
    /// CLIENT …, and its words.
    Client(ClientCommand, Vec<Vec<u8>>),
    /// A reply that is known already.
    Reply(Vec<u8>),
}

// === impl Multi ===

impl Multi {
    /// A transaction begins: MULTI, and its slot.
    pub fn begin(frame: &[u8], seq: u64) -> Multi {
        let mut multi = Multi::default();
        multi.frames.extend_from_slice(frame);
        multi.parts.push(Part { seq, answered: false, rule: Rule::Ignore });
        multi
    }

    /// Is there room for one more command? A transaction travels as one request.
    pub fn has_room(&self, frame: &[u8], limits: &RequestLimits) -> bool {
        self.frames.len() + self.kept + frame.len() <= limits.max_request
    }

    /// Queues a command.
    pub fn queue(&mut self, frame: &[u8], seq: u64, rule: Rule) {
        self.frames.extend_from_slice(frame);
        self.parts.push(Part { seq, answered: false, rule });
    }

    /// From here on the commands run in another database.
    pub fn select(&mut self, from: u32, to: u32) {
        let before = std::mem::replace(&mut self.footprint, Footprint::Everything);
        if self.selects.replace(to).is_none() {
            self.reach.push((from, before));
        }
    }

    /// Notes what the next command touches, in the database that it will run in.
    pub fn touch(&mut self, footprint: Footprint) {
        let offset = self.frames.len();
        self.keys += footprint.keys().len();
        match self.selects {
            None => self.touch_here(footprint, offset),
            Some(db) => match self.reach.last_mut() {
                Some((last, reach)) if *last == db => reach.join(footprint, offset),
                _ => self.reach.push((db, footprint.shifted(offset))),
            },
        }
    }

    fn touch_here(&mut self, footprint: Footprint, offset: usize) {
        match (&self.footprint, &footprint) {
            (Footprint::Keys(_), Footprint::Everything) => {
                self.named = std::mem::replace(&mut self.footprint, footprint);
            }
            (Footprint::Everything, Footprint::Keys(_)) if !self.emptied => {
                self.named.join(footprint, offset)
            }
            _ => self.footprint.join(footprint, offset),
        }
    }

    /// The next command does this to the keyspace as a whole.
    pub fn reaches(&mut self, scope: Scope) {
        self.emptied |= matches!(scope, Scope::FlushAll | Scope::FlushDb);
        self.scope = wider(self.scope, scope);
    }

    /// Queues a command that the proxy runs itself when EXEC succeeds.
    pub fn queue_own(&mut self, own: Own, size: usize, seq: u64) {
        self.kept += size;
        self.own.push((self.queued(), own));
        self.queue(PING, seq, Rule::Ignore);
    }

    /// Queues a command that changes the connection that runs it: no lane may see it.
    pub fn queue_private(&mut self, frame: &[u8], seq: u64) {
        self.kept += frame.len();
        let start = self.frames.len();
        self.queue(PING, seq, Rule::Ignore);
        self.private_frames.push((start..self.frames.len(), frame.to_vec()));
    }

    /// The frames for the client's own connection.
    pub fn for_own_connection(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frames.len());
        let mut at = 0;
        for (range, frame) in &self.private_frames {
            out.extend_from_slice(self.frames.get(at..range.start).unwrap_or_default());
            out.extend_from_slice(frame);
            at = range.end;
        }
        out.extend_from_slice(self.frames.get(at..).unwrap_or_default());
        out
    }

    /// What it takes, about.
    pub fn bytes(&self) -> usize {
        let lists = self.parts.capacity() * size_of::<Part>()
            + self.ways.capacity() * size_of::<Way>()
            + self.own.capacity() * size_of::<(usize, Own)>()
            + self.private_frames.capacity() * size_of::<(Range<usize>, Vec<u8>)>()
            + self.reach.capacity() * size_of::<(u32, Footprint)>()
            + self.keys * size_of::<KeyRef>();
        self.frames.capacity() + self.kept + lists
    }

    /// How many commands are queued.
    pub fn queued(&self) -> usize {
        self.parts.len().saturating_sub(1)
    }

    /// Answers what is unanswered, as a store would: OK to MULTI, QUEUED to the rest.
    pub fn answer(&mut self, mut pay: impl FnMut(u64, &[u8])) {
        for (at, part) in self.parts.iter_mut().enumerate().skip(self.answered) {
            if !std::mem::replace(&mut part.answered, true) {
                pay(part.seq, if at == 0 { encode::OK } else { encode::QUEUED });
            }
        }
        self.answered = self.parts.len();
    }
}
