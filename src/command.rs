//! What a command is: its keys, whether it writes, what counts as a miss.
//!
//! Pure: nothing here does I/O or keeps state between requests.
//!
//! - [`Table`] finds the [`Spec`] of a request: built in, overlaid with what the stores' own `COMMAND` adds;
//! - [`classify`] says what one invocation does, its arguments considered;
//! - [`keys`](keys()) lists its keys, and what it does to each;
//! - [`acl`] says whether a user may run it;
//! - [`errors`] words what Redis would have said before running it.
//!
//! The built-in rows are generated (`builtin`, from Valkey's command files) or facts of newer servers written
//! down by hand (`extra`). What no server tells (misses, comparison, kinds) stands in `annotations`.

pub mod acl;
pub mod args;
pub mod errors;

mod annotations;
mod builtin;
mod classify;
mod extra;
mod flags;
pub mod glob;
mod keys;
mod live;
mod spec;
mod table;

pub use args::Args;
pub use classify::{Effect, Timeout, TimeoutUnit, can_fill, classify, sets_whole_value, timeout};
pub use flags::{CommandFlags, KeyFlags};
pub use keys::{Access, Key, Keys, KeysError, OtherDb, first_key, keys, lone_key, other_db};
pub use live::{LiveCommand, Offered, Overlaid};
pub use spec::{Begin, Find, KeySpec, Kind, LoneKey, Miss, Rule, Shape, Spec, Tick, Word};
pub use table::{CommandId, Lookup, Table};
