//! The admin listener: what an operator, a probe or a scraper may ask. It changes nothing, but for
//! [`orders`], which only somebody on this machine may give.
//!
//! Each connection serves one request and ends within [`Limits::request_timeout`], whatever the peer
//! does; at most [`Limits::max_connections`] are served at once: one more ends the oldest that asks or reads
//! slowly, so that nobody keeps a probe from its answer. With a token, it is asked for everywhere but at the probes' endpoints.
//!
//! - [`server`] – connections;
//! - [`routes`] – a request → a response;
//! - [`orders`] – repair, backfill, verification;
//! - [`status`], [`backfill`], [`verification`] – what `/status` and the report of a verification show.

pub mod backfill;
pub mod orders;
pub mod routes;
pub mod server;
pub mod status;
#[cfg(test)]
mod tests;
pub mod verification;

pub use orders::{Order, OrderError, OrderSink};
pub use routes::Admin;
pub use server::{Limits, serve};
pub use status::{
    ConfigStatus, CounterStatus, DiffSample, FlagStatus, InstanceStatus, ReloadStatus, RepairStatus,
    Snapshot, Status, StatusSource, StoreStatus, StoresStatus, SyncStatus, UnderWay,
};
