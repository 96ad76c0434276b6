//! One backend: its address, dialing, the driver of its lane, dedicated connections.

pub mod connection;
pub mod dedicated;
pub mod driver;
pub mod given_up;
pub mod handshake;
pub mod info;
pub mod pair;
pub mod pool;
pub mod recognise;
pub mod sentinel;
