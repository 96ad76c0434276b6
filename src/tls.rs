//! TLS, by rustls: streams with the operations of a socket, and what certificates and keys make of a side.
//!
//! A plain socket never passes here: [`net`](crate::net) and the stores' sockets are enums of streams.

mod files;
mod stream;

pub use files::{ClientFiles, Kept, ServerFiles};
pub use stream::TlsStream;
