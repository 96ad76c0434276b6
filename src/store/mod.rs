//! One backend: its address, dialing, connections.

pub mod connection;
