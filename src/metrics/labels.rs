//! The closed sets of label values, and arrays with one entry per value.

use std::marker::PhantomData;
use std::ops::Index;

/// A closed set of label values.
pub trait Closed: Copy + 'static {
    /// All values, in index order.
    const ALL: &'static [Self];
    /// The value's place in [`Closed::ALL`].
    fn index(self) -> usize;
    /// The label value.
    fn name(self) -> &'static str;
}

/// Declares an enum together with its label values.
macro_rules! label {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Closed for $type {
            const ALL: &'static [Self] = &[$($type::$variant,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)+
                }
            }
        }
    };
}

label! {
    /// What sort of command a client sent.
    RequestKind {
        /// Only reads.
        Read = "read",
        /// Writes, or may write.
        Write = "write",
        /// MULTI, EXEC, DISCARD, WATCH, UNWATCH and what is queued between.
        Transaction = "transaction",
        /// May wait for another client.
        Blocking = "blocking",
        /// Subscriptions and messages.
        Pubsub = "pubsub",
        /// State of the connection: AUTH, HELLO, SELECT, CLIENT, PING …
        Connection = "connection",
        /// Addresses the server, not the data.
        Admin = "admin",
        /// Not in the command table.
        Other = "other",
    }
}

label! {
    /// Why a client connection was closed as soon as it came.
    RejectReason {
        /// The limit of connections is reached.
        MaxClients = "max_clients",
        /// The limit of connections from one address is reached.
        MaxClientsPerAddress = "max_clients_per_address",
        /// The TLS handshake failed, or was not finished in time.
        Handshake = "handshake",
        /// The operating system refused to accept it.
        Accept = "accept",
    }
}

label! {
    /// How a client connection went wrong.
    ClientErrorKind {
        /// Bytes that are no request.
        Protocol = "protocol",
        /// A request above a limit of size.
        RequestLimit = "request_limit",
        /// Replies that the client doesn't read, above the limit.
        OutputLimit = "output_limit",
        /// Closed because all clients together took too much memory, and it the most.
        Evicted = "evicted",
        /// Silent for longer than allowed.
        Idle = "idle",
        /// The socket failed.
        Io = "io",
        /// AUTH or HELLO with a wrong user or password.
        Auth = "auth",
        /// AUTH or HELLO that was not checked: its address had got too much wrong.
        AuthThrottled = "auth_throttled",
        /// A command, key or channel that the client's user may not use.
        Denied = "denied",
        /// A command that the proxy refuses to pass on.
        Refused = "refused",
        /// The default store was down or didn't answer in time: the client got an error.
        Unavailable = "unavailable",
    }
}

label! {
    /// What of clients takes memory.
    ClientMemory {
        /// Requests that are not complete, or that wait.
        Requests = "requests",
        /// Replies that they have not read.
        Replies = "replies",
    }
}

label! {
    /// How a store, or a connection to it, failed.
    StoreErrorKind {
        /// No connection could be made.
        Connect = "connect",
        /// Connected, but AUTH, HELLO, SELECT or CLIENT was refused.
        Handshake = "handshake",
        /// No answer in time.
        Timeout = "timeout",
        /// An established connection ended.
        Lost = "lost",
        /// Bytes that are no reply.
        Protocol = "protocol",
        /// The store answered that it is loading, or cannot serve without its master.
        Refused = "refused",
        /// Replies no longer matched requests.
        OutOfStep = "out_of_step",
        /// The queue for the store passed its bound.
        QueueFull = "queue_full",
    }
}

label! {
    /// Why replies of a mirrored command were not compared.
    SkipReason {
        /// The command's replies may differ by nature.
        Rule = "rule",
        /// One store gave no answer.
        NoAnswer = "no_answer",
        /// A reply was too large to keep.
        TooLarge = "too_large",
        /// The other store got an effect or a copy, not the command.
        Derived = "derived",
    }
}

label! {
    /// What became of a copy.
    CopyOutcome {
        /// The key is in sync.
        Done = "done",
        /// It is tried again later.
        Failed = "failed",
        /// The key is above the limit of size and could not be copied by pieces: it stays suspect.
        TooLarge = "too_large",
        /// The other store cannot hold the value: the key stays suspect.
        Unsupported = "unsupported",
    }
}

label! {
    /// Which way a step goes.
    Direction {
        /// To the next stage.
        Forward = "forward",
        /// To the one before.
        Back = "back",
    }
}

label! {
    /// What became of a reload.
    ReloadOutcome {
        /// Valid, and in effect.
        Applied = "applied",
        /// Says what was in effect already.
        Unchanged = "unchanged",
        /// Not valid, or asks for a forbidden jump of stages: nothing changed.
        Invalid = "invalid",
    }
}

/// One `T` for each value of a closed set.
#[derive(Debug)]
pub struct PerLabel<L, T> {
    entries: Vec<T>,
    label: PhantomData<fn(L)>,
}

// === impl PerLabel ===

impl<L: Closed, T> PerLabel<L, T> {
    /// Makes the entry of each label value from its name.
    pub fn new(make: impl Fn(&'static str) -> T) -> Self {
        PerLabel { entries: L::ALL.iter().map(|label| make(label.name())).collect(), label: PhantomData }
    }

    /// The entries with their label values.
    pub fn iter(&self) -> impl Iterator<Item = (L, &T)> {
        L::ALL.iter().copied().zip(&self.entries)
    }
}

impl<L: Closed, T> Index<L> for PerLabel<L, T> {
    type Output = T;

    // There is an entry for every value of the closed set.
    #[allow(clippy::indexing_slicing)]
    fn index(&self, label: L) -> &T {
        &self.entries[label.index()]
    }
}
