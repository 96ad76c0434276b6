//! A network that fails in every way between the proxy and its stores, under load, and a soak of everything at once.
//!
//! Clients know what they must be told: no reply may reach the wrong one, nothing acknowledged may be lost, and both
//! stores end equal. From the environment:
//! - `FAULT_SEED=n`: the matrix of faults in this order alone;
//! - `FAULT_SEEDS=n`: in this many orders (`make test-faults`);
//! - `SOAK_MINUTES=n`: how long `make soak` lasts.

#[path = "../support/mod.rs"]
mod support;

mod books;
mod clients;
mod lessons;
mod matrix;
mod network;
mod samples;
mod soak;
