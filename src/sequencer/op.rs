//! One operation: a request in one or both lanes, and what becomes of its replies.

use smallvec::SmallVec;

use crate::command::{CommandId, Miss, Rule};
use crate::compare::Digest;
use crate::metrics::RequestKind;
use crate::mirror::Way;
use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::Scope;
use super::clients::ClientKey;
use super::copy::{CopyKey, GroupKey};
use super::cursors::Scan;
use super::lane::Context;
use super::park::ParkKey;
use super::touched::Touched;

/// The place of an operation in the sequencer's slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpKey(pub u32);

/// Who is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A client's slot.
    Client {
        /// Whose slot.
        key: ClientKey,
        /// Which slot.
        seq: u64,
    },
    /// An attempt of a parked client.
    Attempt(ParkKey),
    /// The read of a copy.
    CopyRead(CopyKey),
    /// The write of a copy.
    CopyWrite(CopyKey),
    /// What a group of copies asks.
    CopyGroup(GroupKey),
    /// A request of the proxy's own; the ticket finds who waits.
    Ticket(u64),
    /// Many requests of the proxy's own in one place.
    Bulk(u64),
    /// A question after a key's time to live.
    End {
        /// The key.
        key: u64,
        /// Which question.
        question: u64,
    },
    /// Nobody: an effect.
    Nobody,
}

/// Whose reply is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One store was asked.
    Single(StoreId),
    /// Both were asked; this one's reply is the answer, at once (`ack = "default"`).
    Authority(StoreId),
    /// Both were asked; this one's reply is the answer, when both have replied (`ack = "both"`).
    Both(StoreId),
    /// A read: the primary's reply if it is a hit, else the secondary's.
    Lookup {
        /// The store whose miss is returned when both miss.
        default: StoreId,
        /// The default's reply is good enough: the client has waited long enough for the other.
        impatient: bool,
    },
    /// MGET: element by element from the primary, where nil from the secondary.
    Merge {
        /// The store whose reply stands when the other has none.
        default: StoreId,
    },
}

/// Why a store has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was down: the request was not sent.
    #[error("it is down")]
    Down,
    /// The connection was lost before the reply: the outcome is unknown.
    #[error("the connection to it was lost")]
    Lost,
    /// No reply within `reply_timeout`: the outcome is unknown.
    #[error("it said nothing within reply_timeout")]
    Timeout,
    /// It waited for the store to come back until `reply_timeout`, and was not sent.
    #[error("it could not be reached within reply_timeout")]
    NotSent,
    /// The queue for the store is full: the request was not sent.
    #[error("the queue for it is full")]
    QueueFull,
    /// The store works on a script; the request changes nothing, whenever it runs.
    #[error("it works on a script")]
    Busy,
}

/// One store's part in an operation.
#[derive(Debug)]
pub enum Reply {
    /// Not asked.
    Unsent,
    /// Asked; the reply is owed.
    Pending,
    /// No reply will come.
    Failed(Failure),
    /// The reply, kept for comparison or for a later answer.
    Kept(Kept),
    /// The reply has gone by; nobody needs it.
    Gone,
}

/// A reply that is kept: inline when small, only its digest when large.
#[derive(Debug)]
pub enum Kept {
    /// `+OK`, which is what most writes are answered with.
    Ok,
    /// The frame, when it is short.
    Short {
        /// Its length.
        len: u8,
        /// Its bytes.
        bytes: [u8; KEPT_INLINE],
    },
    /// The frame.
    Whole(Box<[u8]>),
    /// Length and hash of a frame above `compare_max_bytes`.
    Digest {
        /// Its length in bytes.
        len: u64,
        /// Its hash, good within this process.
        hash: u64,
    },
}

/// Frames up to this length are kept without an allocation.
pub const KEPT_INLINE: usize = 30;
/// So are requests up to this one.
const REQUEST_INLINE: usize = 64;

/// What only some operations need.
#[derive(Debug, Default)]
pub struct Extra {
    /// The parts of a transaction: MULTI, the queued commands, EXEC.
    pub parts: Vec<Part>,
    /// The first queue-time error of an attempt or a copy, as the store put it.
    pub error: Option<Box<[u8]>>,
    /// Digests of replies that flow by in pieces, by store.
    pub digests: [Option<Box<Digest>>; 2],
    /// How the commands of a derived operation are mirrored.
    pub ways: Vec<Way>,
    /// Replies of a derived request proper; those behind it answer its companions.
    pub proper: u32,
    /// Keys that a write only reads, of one that carries their values on.
    pub sources: Box<[u64]>,
    /// The keys that each command of a transaction writes, MULTI's first, where only the default store gets it.
    pub written: Box<[Touched]>,
    /// A command of a transaction is a script, which may fail when it has written already.
    pub runs_scripts: bool,
    /// What a derived request does to the keyspace as a whole.
    pub scope: Scope,
    /// The client of a derived request is told when the other store has executed the effect.
    pub waits: bool,
    /// The default store's reply to a derived request, while its companions, or the effect, are awaited.
    pub reply: Option<Box<[u8]>>,
    /// The replies to its companions.
    pub companions: Vec<Box<[u8]>>,
    /// The cursor asked for, where the first page may be a miss.
    pub cursor: Option<Box<[u8]>>,
    /// What is scanned, of SCAN and its kin: the reply brings a cursor.
    pub scan: Option<Scan>,
}

/// One reply of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The slot.
    pub seq: u64,
    /// The proxy has answered already: the store's reply is dropped.
    pub answered: bool,
    /// How EXEC's element for it is compared.
    pub rule: Rule,
}

/// An operation in flight.
#[derive(Debug)]
pub struct Op {
    /// Who is answered.
    pub owner: Owner,
    /// Which command.
    pub command: CommandId,
    /// Whose reply is the answer.
    pub policy: Policy,
    /// The default store at its point of the order: a later flip does not change who was right.
    pub default: StoreId,
    /// Each store's part.
    pub replies: [Reply; 2],
    /// Are the two replies to be compared?
    pub compare: bool,
    /// The owner has its answer.
    pub answered: bool,
    /// The reply of this store is flowing to the client before it is complete.
    pub streaming: Option<StoreId>,
    /// What counts as a miss.
    pub miss: Miss,
    /// How the two replies are compared.
    pub rule: Rule,
    /// What it is counted as.
    pub kind: RequestKind,
    /// Is it a write: then a failure of the other store is a lost write.
    pub write: bool,
    /// The keys that it touches.
    pub touched: Touched,
    /// A key was not in sync before: the replies may part without anything being wrong.
    pub blind: bool,
    /// The other store gets an effect made from the default store's reply.
    pub derived: bool,
    /// It sets a time to live relative to the moment at which it runs.
    pub relative: bool,
    /// An answer that comes at this time or later is no proof that both stores have executed it on the same side of a
    /// key's end.
    pub due: u64,
    /// When its one key is to end, if it was carried out at once; 0: it sets no end.
    pub end: u64,
    /// Database and protocol.
    pub context: Context,
    /// The request, where the second store may have to be asked later; else empty.
    pub request: SmallVec<[u8; REQUEST_INLINE]>,
    /// The batch that it belongs to ([`Clients::batch`](super::clients::Clients::batch)), if it is one of several.
    pub batch: Option<u64>,
    /// When it was submitted, in microseconds of the sequencer's clock.
    pub started: u64,
    /// Bytes of replies that are kept for it.
    pub kept: usize,
    /// As many of them as count towards the unread replies of its client.
    pub kept_for_client: usize,
    /// What only some operations need.
    pub extra: Option<Box<Extra>>,
}

// === impl Failure ===

impl Failure {
    /// Has the store got the request, or may it have?
    pub fn was_sent(self) -> bool {
        !matches!(self, Failure::Down | Failure::NotSent | Failure::QueueFull)
    }
}

// === impl Reply ===

impl Reply {
    /// Takes another one's place. Only a long one has more to give back.
    #[inline(always)]
    pub fn turn_into(&mut self, next: Reply) {
        match std::mem::replace(self, next) {
            Reply::Kept(kept @ Kept::Whole(_)) => drop(kept),
            before => std::mem::forget(before),
        }
    }

    /// Is a reply still owed?
    pub fn is_pending(&self) -> bool {
        matches!(self, Reply::Pending)
    }

    /// Was the store asked, and has it settled the matter, one way or the other?
    pub fn is_settled(&self) -> bool {
        !self.is_pending()
    }

    /// The kept frame, if it was kept whole.
    pub fn frame(&self) -> Option<&[u8]> {
        match self {
            Reply::Kept(kept) => kept.frame(),
            _ => None,
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        match self {
            Kept::Whole(frame) => frame.len(),
            Kept::Ok | Kept::Short { .. } | Kept::Digest { .. } => 0,
        }
    }

    /// Keeps `frame`, or its digest when it is longer than `max` bytes.
    #[inline]
    pub fn new(frame: &[u8], max: usize) -> Kept {
        if frame == encode::OK {
            return Kept::Ok;
        }
        if frame.len() <= KEPT_INLINE {
            let mut bytes = [0; KEPT_INLINE];
            bytes[..frame.len()].copy_from_slice(frame);
            return Kept::Short { len: frame.len() as u8, bytes };
        }
        if frame.len() <= max {
            return Kept::Whole(frame.into());
        }
        let mut digest = Digest::new();
        digest.update(frame);
        Kept::digest(&digest)
    }

    /// Keeps what is known of a frame that has flowed by.
    pub fn digest(digest: &Digest) -> Kept {
        let (len, hash) = digest.finish();
        Kept::Digest { len, hash }
    }

    /// Length and hash of the frame.
    pub fn fingerprint(&self) -> (u64, u64) {
        if let Kept::Digest { len, hash } = self {
            return (*len, *hash);
        }
        let mut digest = Digest::new();
        digest.update(self.frame().unwrap_or_default());
        digest.finish()
    }

    /// Is this the frame that was kept?
    #[inline(always)]
    pub fn is(&self, frame: &[u8]) -> bool {
        match self {
            Kept::Ok => frame == encode::OK,
            _ => self.frame() == Some(frame),
        }
    }

    /// The whole frame, unless only its digest was kept.
    pub fn frame(&self) -> Option<&[u8]> {
        match self {
            Kept::Ok => Some(encode::OK),
            Kept::Short { len, bytes } => bytes.get(..usize::from(*len)),
            Kept::Whole(frame) => Some(frame),
            Kept::Digest { .. } => None,
        }
    }
}

// === impl Op ===

impl Op {
    /// Does its last reply, if it comes in time, need nothing but to be answered and compared? What most operations are.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let settles = self.write && self.blind;
        let may_be_asked_elsewhere = !self.request.is_empty();
        self.extra.is_none()
            && self.end == 0
            && !(self.derived | self.relative | settles | may_be_asked_elsewhere)
    }

    /// Is this one command that only the default store gets?
    pub fn ran_alone(&self) -> bool {
        matches!(self.policy, Policy::Single(_)) && self.kind != RequestKind::Transaction
    }

    /// An operation that asks for nothing yet.
    pub fn new(
        owner: Owner,
        command: CommandId,
        policy: Policy,
        default: StoreId,
        context: Context,
        started: u64,
    ) -> Op {
        let mut op = Op::idle();
        op.begin(owner, command, policy, default, context, started);
        op
    }

    /// What stands in a place that no operation has used yet.
    pub(super) fn idle() -> Op {
        Op {
            owner: Owner::Nobody,
            command: CommandId::default(),
            policy: Policy::Single(StoreId::Secondary),
            default: StoreId::Secondary,
            replies: [Reply::Unsent, Reply::Unsent],
            compare: false,
            answered: false,
            streaming: None,
            miss: Miss::Never,
            rule: Rule::Exact,
            kind: RequestKind::Other,
            write: false,
            touched: Touched::Nothing,
            blind: false,
            derived: false,
            relative: false,
            due: super::ends::NEVER,
            end: 0,
            context: Context { db: 0, proto: Proto::Resp2 },
            request: SmallVec::new(),
            batch: None,
            started: 0,
            kept: 0,
            kept_for_client: 0,
            extra: None,
        }
    }

    /// It is over: gives back what it held. What else is there tells nothing from here on.
    #[inline(always)]
    pub(super) fn let_go(&mut self) {
        for reply in &mut self.replies {
            reply.turn_into(Reply::Unsent);
        }
        self.touched.clear();
        self.request = SmallVec::new();
        if self.extra.is_some() {
            self.extra = None;
        }
    }

    /// Makes it an operation that asks for nothing yet, where another one has let go (`let_go`).
    #[inline(always)]
    pub fn begin(
        &mut self,
        owner: Owner,
        command: CommandId,
        policy: Policy,
        default: StoreId,
        context: Context,
        started: u64,
    ) {
        // Each by its name, so that none is forgotten.
        let Op {
            owner: to_owner,
            command: to_command,
            policy: to_policy,
            default: to_default,
            replies,
            compare,
            answered,
            streaming,
            miss,
            rule,
            kind,
            write,
            touched,
            blind,
            derived,
            relative,
            due,
            end,
            context: to_context,
            request,
            batch,
            started: to_started,
            kept,
            kept_for_client,
            extra,
        } = self;
        debug_assert!(replies.iter().all(|reply| matches!(reply, Reply::Unsent)));
        debug_assert!(matches!(touched, Touched::Nothing));
        debug_assert!(request.is_empty() && extra.is_none());
        (*to_owner, *to_command, *to_policy, *to_default) = (owner, command, policy, default);
        (*to_context, *to_started) = (context, started);
        (*miss, *rule, *kind) = (Miss::Never, Rule::Exact, RequestKind::Other);
        for flag in [compare, answered, write, blind, derived, relative] {
            *flag = false;
        }
        (*streaming, *batch) = (None, None);
        (*due, *end) = (super::ends::NEVER, 0);
        (*kept, *kept_for_client) = (0, 0);
    }

    /// Is a reply of either store still owed?
    pub fn is_open(&self) -> bool {
        self.replies.iter().any(Reply::is_pending)
    }

    /// The rarely needed part, made on first use.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}
