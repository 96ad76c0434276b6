//! MULTI … EXEC: collected by the session, put into the order whole.
//!
//! While the client pipelines, nothing is answered before EXEC: then the store's own replies
//! serve. When it waits, the proxy answers `QUEUED` itself ([`Multi::answer`]).

use crate::command::Rule;
use crate::mirror::Way;
use crate::resp::request::RequestLimits;
use crate::resp::{Proto, encode};
use crate::sequencer::Scope;
use crate::sequencer::fence::Footprint;
use crate::sequencer::op::Part;

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
    /// Does any command write?
    pub writes: bool,
    /// How the commands may be mirrored.
    pub ways: Vec<Way>,
    /// What they do to the keyspace as a whole.
    pub scope: Scope,
    /// Does any command select a database?
    pub selects: Option<u32>,
    /// Does any command change connection state? Then it cannot run in a lane.
    pub private: bool,
    /// What becomes of the client's own state if EXEC succeeds, by the command's place in EXEC's reply.
    pub changes: Vec<(usize, Change)>,
}

/// A change of connection state that a transaction may bring about.
#[derive(Clone, Debug)]
pub enum Change {
    /// SELECT
    Db(u32),
    /// HELLO
    Proto(Proto),
    /// CLIENT SETNAME
    Name(Vec<u8>),
}

// === impl Multi ===

impl Multi {
    /// A transaction begins: the slot of MULTI.
    pub fn begin(seq: u64) -> Multi {
        let mut multi = Multi::default();
        encode::command(&mut multi.frames, &[b"MULTI"]);
        multi.parts.push(Part { seq, answered: false, rule: Rule::Ignore });
        multi
    }

    /// Is there room for one more command? A transaction travels as one request.
    pub fn has_room(&self, frame: &[u8], limits: &RequestLimits) -> bool {
        self.frames.len() + frame.len() <= limits.max_request
    }

    /// Queues a command.
    pub fn queue(&mut self, frame: &[u8], seq: u64, rule: Rule) {
        self.frames.extend_from_slice(frame);
        self.parts.push(Part { seq, answered: false, rule });
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
