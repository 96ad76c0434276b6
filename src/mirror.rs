//! What the other store gets. Pure: nothing here does I/O. What is known to be in sync stands in
//! [`crate::sequencer::knowledge`], who decides by it in [`crate::sequencer::plan`].
//!
//! - [`choose`]: for every command that writes, how it may be mirrored;
//! - [`effects`]: commands made from the default store's reply, for commands that choose;
//! - [`exec`]: the same for a transaction as a whole;
//! - [`script`]: what can be told about a script from its source;
//! - [`by_type`]: a key's value read and made anew with commands, where its payload is refused;
//! - [`verify`]: whether both stores hold the same for a key.

pub mod by_type;
pub mod choose;
pub mod effects;
pub mod exec;
pub mod script;
pub mod verify;

pub use choose::{Derivation, Recipe, Recipes, Way, way};
pub use effects::{Dialect, Effect, Extra, companions, derive};
pub use exec::{ExecEffect, Part, derive_exec, exec_companions};
