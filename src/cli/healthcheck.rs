//! `multistore healthcheck`: for HEALTHCHECK of a container and ExecStartPost of systemd.

use std::time::Duration;

use clap::Args;

use super::http::{self, AdminArg};
use super::{Exit, complain, say};
use crate::config::parse_duration;

/// Ask a running proxy whether it is ready
///
/// Sends GET /readyz to the admin address. Exits with 0 if the answer is 200, with 1 otherwise. Of the configuration
/// only [admin] listen is read: a mistake elsewhere, which the running proxy ignores, doesn't make it unhealthy.
#[derive(Args)]
pub struct Healthcheck {
    #[command(flatten)]
    admin: AdminArg,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    timeout: Duration,
}

// === impl Healthcheck ===

impl Healthcheck {
    /// Asks and tells.
    pub fn run(self) -> Exit {
        let address = match self.admin.address() {
            Ok(address) => address,
            Err(exit) => return exit,
        };
        match http::get(&address, "/readyz", self.timeout) {
            Ok((200, _)) => {
                say("ready");
                Exit::Done
            }
            Ok((status, body)) => {
                complain(format_args!("not ready: {address} answers {status}\n{}", body.trim_end()));
                Exit::Failed
            }
            Err(problem) => {
                complain(format_args!("not ready: {address}: {problem}"));
                Exit::Failed
            }
        }
    }
}
