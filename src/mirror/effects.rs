//! Commands made from the default store's reply, for commands whose outcome the store chooses.
//!
//! An effect takes the place in the other store's lane that was reserved for it. What is made here leaves a key
//! that was equal on both stores equal again; delivery times of pending entries differ by the time that the reply
//! took.

mod frames;
mod groups;
mod numbers;
mod streams;

pub(super) use frames::Frames;
pub(super) use groups::{field, read_new_from, set_position};
pub(super) use streams::{add_untrimmed, length, trim_to};

use super::choose::Derivation;
use crate::command::{Args, Offered, Table};
use crate::resp::value::Value;

/// Words of one command that are made from a reply; more of them make further commands. Servers take a million
/// words at most.
pub const MAX_WORDS: usize = 10_000;

/// What the other store gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: nothing was changed.
    Nothing,
    /// These commands.
    Frames {
        /// One command behind the other.
        bytes: Vec<u8>,
        /// How many there are, and replies to come.
        replies: u32,
    },
    /// The reply says too little: the keys that the command writes are copied.
    Copy,
}

/// What is known beside the reply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// The default store's replies to what [`companions`] asked, in that order; none: it was not asked.
    pub replies: &'a [&'a [u8]],
    /// What the two stores know.
    pub dialect: Dialect,
}

/// What differs between servers as far as effects need to know. The default is an old pair of servers: what is made
/// for it, every server from 6.2 on takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// The other store knows ENTRIESREAD (7.0).
    pub entries_read: bool,
    /// The other store knows HSETEX … KEEPTTL (Redis 8.0, Valkey 9.0).
    pub hsetex: bool,
    /// The default store makes a consumer though it delivers nothing (7.2).
    pub eager_consumers: bool,
    /// The other store, too.
    pub eager_other: bool,
    /// The default store lets go of a pending entry that is gone when it is claimed (7.0).
    pub drops_gone: bool,
    /// The default store's hashes may have fields that expire (Redis 7.4, Valkey 9.0).
    pub has_field_expiry: bool,
    /// The other store's hashes, too.
    pub takes_field_expiry: bool,
}

// === impl Dialect ===

impl Dialect {
    /// What follows from the commands that the stores offer.
    pub fn new(table: &Table, default: &Offered, other: &Offered) -> Self {
        let has = |store: &Offered, name| table.by_name(name).is_some_and(|id| store.has(id));
        Self {
            // Functions, WAITAOF came with the same versions.
            entries_read: has(other, "function|load"),
            hsetex: has(other, "hsetex"),
            eager_consumers: has(default, "waitaof"),
            eager_other: has(other, "waitaof"),
            drops_gone: has(default, "function|load"),
            has_field_expiry: has(default, "hpexpiretime"),
            takes_field_expiry: has(other, "hpexpireat"),
        }
    }

    /// Whether what XCLAIM let go of has to be asked. To claim in vain on the other store, too, would make a consumer
    /// there that the default store doesn't have, or (before 7.0) let go of nothing.
    pub(super) fn asks_pending(self) -> bool {
        self.drops_gone && (self.eager_other && !self.eager_consumers || !self.entries_read)
    }
}

/// Puts reads into `out` that the effect needs beside the reply, to be sent to the default store right behind the
/// command, with nothing in between. Returns how many there are.
pub fn companions<A: Args + ?Sized>(
    derivation: Derivation,
    args: &A,
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> u32 {
    let mut frames = Frames::default();
    match derivation {
        Derivation::XaddApprox | Derivation::XtrimApprox => {
            if let Some(key) = args.arg(1) {
                frames.command(&[b"XLEN", key]);
            }
        }
        Derivation::XReadGroup if dialect.entries_read => groups::companions(args, &mut frames),
        Derivation::XClaim if dialect.asks_pending() => groups::claim_companions(args, &mut frames),
        _ => {}
    }
    out.extend_from_slice(&frames.bytes);
    frames.replies
}

/// What the other store gets for a command that the default store answered with `reply`.
pub fn derive<A: Args + ?Sized>(derivation: Derivation, args: &A, reply: &[u8], extra: Extra<'_>) -> Effect {
    match Value::parse(reply) {
        Ok(reply) => derive_value(derivation, args, &reply, extra),
        Err(_) => Effect::Copy,
    }
}

/// The same for a reply that was taken apart.
pub fn derive_value<A: Args + ?Sized>(
    derivation: Derivation,
    args: &A,
    reply: &Value<'_>,
    extra: Extra<'_>,
) -> Effect {
    // None of these commands changes anything and then fails.
    if reply.is_error() {
        return Effect::Nothing;
    }
    let mut frames = Frames::default();
    let told = match derivation {
        Derivation::Accepted => {
            let words: Vec<&[u8]> = (0..args.argc()).filter_map(|at| args.arg(at)).collect();
            frames.command(&words);
            Some(())
        }
        Derivation::Spop => numbers::spop(args, reply, &mut frames),
        Derivation::IncrByFloat => numbers::incr_by_float(args, reply, &mut frames),
        Derivation::HIncrByFloat => numbers::hash_incr_by_float(args, reply, extra, &mut frames),
        Derivation::XaddAuto => streams::add(args, reply, &mut frames),
        Derivation::XaddApprox => streams::add_trimming(args, reply, extra, &mut frames),
        Derivation::XtrimApprox => streams::trim(args, reply, extra, &mut frames),
        Derivation::XReadGroup => groups::read(args, reply, extra, &mut frames),
        Derivation::XClaim => groups::claim(args, reply, extra, &mut frames),
        Derivation::XAutoClaim => groups::auto_claim(args, reply, extra, &mut frames),
    };
    match told {
        Some(()) => frames.into_effect(),
        None => Effect::Copy,
    }
}
