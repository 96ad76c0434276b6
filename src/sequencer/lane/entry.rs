//! What stands in a lane, and what comes out of it.

use crate::metrics::StoreErrorKind;
use crate::resp::Proto;

use super::OpKey;

/// Where in the database space, and in which protocol version, a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// Logical database, as the store numbers it.
    pub db: u32,
    /// Protocol version in which the reply is wanted.
    pub proto: Proto,
}

/// Who gets the replies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// An operation of the sequencer.
    Op(OpKey),
    /// The lane's own `SELECT`.
    Select(u32),
    /// The lane's own `HELLO`.
    Hello(Proto),
    /// The lane's own numbered `ECHO`: proves that replies still match requests.
    Mark(u32),
    /// Nobody any more: the reply is read and dropped.
    Nobody,
}

/// A request whose replies are still owed by the store.
#[derive(Debug)]
pub struct Awaited {
    /// Who gets the replies.
    pub sink: Sink,
    /// Replies still to come (a transaction has several).
    pub left: u32,
    /// Replies that have come.
    pub seen: u32,
    /// Size of the request in bytes, counted as lag until answered.
    pub bytes: u32,
    /// When it was appended, in microseconds of the sequencer's clock.
    pub at: u64,
}

/// A request that has not left the process.
#[derive(Debug)]
pub struct Held {
    /// Database and protocol to run under.
    pub context: Context,
    /// The encoded request; `None` marks a place that an effect will fill.
    pub frame: Option<Box<[u8]>>,
    /// Who gets the replies.
    pub sink: Sink,
    /// How many replies the request has.
    pub replies: u32,
    /// When it was appended, in microseconds of the sequencer's clock.
    pub at: u64,
}

// === impl Held ===

impl Held {
    /// Takes what stands here out of the order and leaves an empty place behind.
    pub fn take_out(&mut self) -> Held {
        let Held { context, sink, replies, at, .. } = *self;
        let frame = self.frame.take();
        self.become_empty();
        Held { context, frame, sink, replies, at }
    }

    /// Nothing is sent from this place, nor owed for it.
    pub fn become_empty(&mut self) {
        self.frame = Some(Box::default());
        (self.sink, self.replies) = (Sink::Nobody, 0);
    }

    /// Is there nothing in this place?
    pub fn is_empty(&self) -> bool {
        self.replies == 0 && self.frame.as_ref().is_some_and(|frame| frame.is_empty())
    }
}

/// The state of a lane's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A first attempt to (re)connect is under way: requests wait in `held`.
    Dialing,
    /// Connected and shaken hands.
    Up,
    /// The last attempt failed: requests are refused. The text says why.
    Down(DownReason),
}

/// Why a store is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownReason {
    /// What it is counted as.
    pub kind: StoreErrorKind,
    /// For people: what failed and against which address.
    pub text: String,
    /// The store's own error line when it answered with one (`LOADING …`), without `-` and CRLF.
    pub store_error: Option<String>,
}

/// What a reply on the lane was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Who gets it.
    pub sink: Sink,
    /// Its number among the request's replies.
    pub index: u32,
    /// Is it the last of them?
    pub last: bool,
    /// When the request was appended.
    pub at: u64,
}

/// Something a lane found out about its context.
#[derive(Debug)]
pub enum ContextOutcome {
    /// Nothing changed for waiting requests.
    Fine,
    /// The store refused the database: these requests can't run, with the store's error frame.
    Refused(Vec<Held>),
    /// A reply that can't belong to the lane's own request: the lane is out of step.
    OutOfStep,
}
