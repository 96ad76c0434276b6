//! The admin listener: what an operator, a probe or a scraper may ask. It changes nothing, but for
//! [`repair`], which only somebody on this machine may order.
//!
//! Each connection serves one request and ends within [`Limits::request_timeout`], whatever the peer
//! does; at most [`Limits::max_connections`] are served at once: one more ends the oldest that asks or reads
//! slowly, so that nobody keeps a probe from its answer. With a token, it is asked for everywhere but at the probes' endpoints.
//!
//! - [`server`] – connections;
//! - [`routes`] – a request → a response;
//! - [`repair`] – an operator says which store is right;
//! - [`status`] – what `/status` shows.

pub mod repair;
pub mod routes;
pub mod server;
pub mod status;
#[cfg(test)]
mod tests;

pub use repair::{RepairError, RepairOrder, RepairSink};
pub use routes::Admin;
pub use server::{Limits, serve};
pub use status::{
    ConfigStatus, CounterStatus, DiffSample, FlagStatus, InstanceStatus, ReloadStatus, Snapshot, Status,
    StatusSource, StoreStatus, StoresStatus, SyncStatus,
};
