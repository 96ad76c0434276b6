//! Is the proxy transparent? The same bytes to the proxy, in every stage, and to a lone server; the
//! answers must be equal byte by byte, save for what must differ (ids, addresses, times).
//!
//! Every conversation is held twice: in one write with the writing half closed behind it (a
//! pipeline), and request by request, each awaiting its replies (what the proxy treats apart).

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod blocking;
mod commands;
mod connection;
mod cuts;
mod framing;
mod generated;
mod grammar;
mod normal;
mod numbers;
mod pubsub;
mod transactions;
mod unsupported;
