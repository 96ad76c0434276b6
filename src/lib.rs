//! multistore: a transparent Redis proxy that moves live applications from one store to another.
//!
//! The modules in the order in which a request meets them:
//!
//! - [`cli`], [`config`]: the command line; `proxy.toml` → a validated snapshot;
//! - [`server`], [`instance`]: threads and listeners; one pair of stores at run time;
//! - [`clock`], [`net`], [`tls`], [`session`]: one client: reads requests, owes replies in order;
//! - [`resp`]: frames of the Redis protocol, found and made;
//! - [`command`]: what a command is: its keys, whether it writes, what counts as a miss;
//! - [`stage`], [`route`]: pure: command + session state + stage → what to do;
//! - [`sequencer`]: the one order of an instance; decides, does no I/O;
//! - [`mirror`]: what the other store gets, and what is known to be in sync;
//! - [`pace`], [`verdict`]: how fast background work may go; whether the next stage is safe;
//! - [`store`]: the sockets of one backend;
//! - [`compare`]: are two replies the same answer?
//! - [`metrics`], [`admin`], [`logging`], [`systemd`], [`upgrade`]: what an operator sees and does.

// What cannot be is written so that it need not be believed; what is left (`unreachable!`, indices of closed sets)
// is looked at one by one.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::get_unwrap))]
// The modules that allow it have arrays of two, one entry per store, by `StoreId::index`.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod command;
pub mod compare;
pub mod config;
#[allow(clippy::indexing_slicing)]
pub mod instance;
pub mod logging;
pub mod metrics;
pub mod mirror;
pub mod net;
pub mod pace;
pub mod resp;
pub mod route;
#[allow(clippy::indexing_slicing)]
pub mod sequencer;
pub mod server;
pub mod session;
pub mod stage;
pub mod state;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod upgrade;
pub mod verdict;
