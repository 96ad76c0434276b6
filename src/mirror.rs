//! What the other store gets, and what is known to be in sync. Pure: nothing here does I/O.
//!
//! - [`choose`]: for every command that writes, how it may be mirrored;
//! - [`effects`]: commands made from the default store's reply, for commands that choose;
//! - [`exec`]: the same for a transaction as a whole;
//! - [`script`]: what can be told about a script from its source;
//! - [`sync`]: for every key, whether the other store holds what the default store holds;
//! - [`by_type`]: a key's value read and made anew with commands, where its payload is refused.

pub mod by_type;
pub mod choose;
pub mod effects;
pub mod exec;
pub mod script;
pub mod sync;

pub use choose::{Derivation, Recipe, Recipes, Way, way};
pub use effects::{Dialect, Effect, Extra, companions, derive};
pub use exec::{ExecEffect, Part, derive_exec, exec_companions};
