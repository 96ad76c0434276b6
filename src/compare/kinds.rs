//! How a command's replies are judged: what the command table says about each command.

/// How the two stores' replies to a command are compared when their bytes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The same value in the same order.
    Exact,
    /// The same elements, in any order; duplicates count.
    Multiset,
    /// The same field and value pairs, in any order.
    PairsMultiset,
    /// A page of SCAN, HSCAN, SSCAN, ZSCAN.
    ScanPage,
    /// Integers in seconds, within the tolerance.
    ToleranceSeconds,
    /// Integers in milliseconds, within the tolerance.
    ToleranceMillis,
    /// Doubles, however they are printed.
    Numbers,
    /// Not compared at all.
    Ignore,
}

/// Which reply means that the store does not have what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// No reply but an error.
    Never,
    /// Nil.
    Nil,
    /// Nil or the empty string.
    NilOrEmptyString,
    /// Every element is nil.
    AllNil,
    /// Every element is 0.
    AllZero,
    /// At least one element is nil.
    AnyNil,
    /// The integer 0.
    Zero,
    /// No elements.
    Empty,
    /// -2: no such key.
    TtlMinus2,
    /// `none`: no such key.
    TypeNone,
    /// The first page of a scan is empty and is also the last.
    ScanFirstPageEmpty,
}
