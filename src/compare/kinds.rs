//! How a command's replies are judged: what the command table says about each command.

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
