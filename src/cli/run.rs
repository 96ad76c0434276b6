//! `multistore run`: serves a configuration.

use std::process::ExitCode;

use clap::Args;

use crate::server::{self, Ended};

use super::{ConfigArg, Exit, complain};

/// Serve the instances of a configuration
///
/// Logs go to standard error. The file is followed while the proxy runs: valid changes take effect at once, invalid ones
/// change nothing and are logged (SIGHUP asks for a look). SIGTERM and SIGINT let clients finish within drain_timeout;
/// a second one ends the process at once.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the proxy until it is told to stop.
pub fn run(args: Run) -> ExitCode {
    match args.config.load() {
        Ok(loaded) => match server::run(loaded.config) {
            Ok(Ended::Clean) => Exit::Done.into(),
            Ok(Ended::Forced) => Exit::Failed.into(),
            Err(error) => {
                complain(&error);
                Exit::Failed.into()
            }
        },
        Err(exit) => exit.into(),
    }
}
