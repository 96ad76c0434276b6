//! One backend: its address, dialing, the driver of its lane, dedicated connections.

pub mod connection;
pub mod handshake;
mod live_commands;
