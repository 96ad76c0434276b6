//! One backend: its address, dialing, connections.
