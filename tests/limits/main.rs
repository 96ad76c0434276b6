//! Everything that a client can make large, many or slow has an end, and that end is Redis's own where Redis has one.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod memory;
mod requests;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::*;
