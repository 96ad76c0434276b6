//! What servers say about commands and their keys, as sets of flags.

/// Declares a set of flags: the type, a constant per flag, and Redis's name for each.
macro_rules! flag_set {
    ($(#[$doc:meta])* $set:ident { $($(#[$flag_doc:meta])* $flag:ident = $bit:expr, $name:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $set(u32);

        impl $set {
            $($(#[$flag_doc])* pub const $flag: Self = Self(1 << $bit);)*

            /// The flags of a bit mask.
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// The bit mask of the flags.
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether any flag of `other` is set.
            #[inline]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// The flags of both.
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The flags that a server calls by these names; names it has and we don't are left out.
            pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
                names.into_iter().fold(Self(0), |flags, name| match () {
                    $(() if name.eq_ignore_ascii_case($name) => flags.with(Self::$flag),)*
                    () => flags,
                })
            }

            /// The names by which servers call the flags that are set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$(($name, Self::$flag)),*].into_iter().filter_map(move |(name, flag)| self.has(flag).then_some(name))
            }
        }
    };
}

flag_set! {
    /// The flags of a command, as in the reply to `COMMAND`.
    CommandFlags {
        /// May change data.
        WRITE = 0, "write";
        /// Reads data and never changes it.
        READONLY = 1, "readonly";
        /// Refused when memory is full.
        DENYOOM = 2, "denyoom";
        /// For administrators.
        ADMIN = 3, "admin";
        /// About channels.
        PUBSUB = 4, "pubsub";
        /// Not allowed in scripts.
        NOSCRIPT = 5, "noscript";
        /// May wait on the server.
        BLOCKING = 6, "blocking";
        /// Allowed while the server loads.
        LOADING = 7, "loading";
        /// Allowed on a stale replica.
        STALE = 8, "stale";
        /// Not shown by MONITOR (a script shows its commands instead).
        SKIP_MONITOR = 9, "skip_monitor";
        /// Never in the slow log.
        SKIP_SLOWLOG = 10, "skip_slowlog";
        /// Allowed on a slot that is being imported.
        ASKING = 11, "asking";
        /// Constant or logarithmic in time.
        FAST = 12, "fast";
        /// Allowed before AUTH.
        NO_AUTH = 13, "no_auth";
        /// May write although it is not a write: scripts, PUBLISH, PFCOUNT.
        MAY_REPLICATE = 14, "may_replicate";
        /// Not allowed while the server loads in the background.
        NO_ASYNC_LOADING = 15, "no_async_loading";
        /// Refused inside MULTI.
        NO_MULTI = 16, "no_multi";
        /// Allowed while a script keeps the server busy.
        ALLOW_BUSY = 17, "allow_busy";
        /// Its key list may be empty.
        NO_MANDATORY_KEYS = 18, "no_mandatory_keys";
        /// Off by default for safety.
        PROTECTED = 19, "protected";
        /// Touches keys that its arguments don't name.
        TOUCHES_ARBITRARY_KEYS = 20, "touches_arbitrary_keys";
        /// Its keys cannot be told from first, last and step alone.
        MOVABLE_KEYS = 21, "movablekeys";
        /// Added by a module.
        MODULE = 22, "module";
    }
}

flag_set! {
    /// What a command does to the keys of one key specification.
    KeyFlags {
        /// Reads.
        RO = 0, "RO";
        /// Changes what is there.
        RW = 1, "RW";
        /// Replaces what is there without looking.
        OW = 2, "OW";
        /// Removes the key.
        RM = 3, "RM";
        /// The content reaches the client or another key.
        ACCESS = 4, "access";
        /// Changes content, perhaps depending on what was there.
        UPDATE = 5, "update";
        /// Adds, and changes nothing that was there.
        INSERT = 6, "insert";
        /// Removes content.
        DELETE = 7, "delete";
        /// Looks like a key to a cluster, and is none (a channel).
        NOT_KEY = 8, "not_key";
        /// Other arguments may soften what is said here.
        VARIABLE_FLAGS = 9, "variable_flags";
    }
}
