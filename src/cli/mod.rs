//! The command line: one file per command.
//!
//! A command is a struct of arguments with a `run` that returns an exit code. To add one: its file, and a variant of
//! `Command`.

mod backfill;
mod check;
mod compare;
mod copy;
#[allow(clippy::indexing_slicing)]
pub mod demo;
mod feature;
mod healthcheck;
mod http;
mod offline;
mod progress;
mod proxy;
mod repair;
mod rollout;
mod run;
mod status;
mod verify;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Loaded, manual};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed: a port is taken, a file can't be written, the proxy is not ready
  2  the command line or the configuration is wrong; nothing was started or changed
  3  refused: the change would lose data, or is not safe now (see status, and feature set --force)
  4  the stores differ";

const EXAMPLES: &str = "\
Try:
  multistore manual > proxy.toml    a configuration with every key explained
  multistore check                  is proxy.toml right?
  multistore run                    serve it
  multistore status                 where is the rollout, and is the next step safe?
  multistore rollout --to STAGE     walk it, as far as that is safe";

#[derive(Parser)]
#[command(name = "multistore", version, about)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Feature(feature::Feature),
    Healthcheck(healthcheck::Healthcheck),
    Status(status::Status),
    Backfill(backfill::Backfill),
    Verify(verify::Verify),
    Rollout(rollout::Rollout),
    Compare(compare::Compare),
    Copy(copy::Copy),
    Repair(repair::Repair),
    Demo(demo::Args),
    /// Print a proxy.toml in which every key is explained
    ///
    /// As printed it is valid: one instance on port 6380, its stores on 7001 (new) and 7002 (old).
    Manual,
}

/// `--config`, for every command that reads the configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigArg {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = "proxy.toml")]
    pub config: PathBuf,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed while running.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Invalid = 2,
    /// Refused, because it would lose data.
    Refused = 3,
    /// The stores differ.
    Different = 4,
}

// === impl Exit ===

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

// === impl ConfigArg ===

impl ConfigArg {
    /// Loads the file; what is wrong with it, and its warnings, go to standard error.
    pub fn load(&self) -> Result<Loaded, Exit> {
        match config::load(&self.config) {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(complain);
                Ok(loaded)
            }
            Err(error) => {
                complain(&error);
                if !self.config.exists() {
                    complain(
                        "name another file with --config FILE, or make one: multistore manual > proxy.toml",
                    );
                }
                Err(Exit::Invalid)
            }
        }
    }
}

/// Parses the command line and runs the chosen command.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(command) => run::run(command),
        Command::Check(command) => command.run().into(),
        Command::Feature(command) => command.run().into(),
        Command::Healthcheck(command) => command.run().into(),
        Command::Status(command) => command.run().into(),
        Command::Backfill(command) => command.run().into(),
        Command::Verify(command) => command.run().into(),
        Command::Rollout(command) => command.run().into(),
        Command::Compare(command) => command.run().into(),
        Command::Copy(command) => command.run().into(),
        Command::Repair(command) => command.run().into(),
        Command::Demo(args) => demo::run(&args),
        Command::Manual => {
            say(manual::render().trim_end());
            Exit::Done.into()
        }
    }
}

/// A line on standard output. A reader that has gone away (`| head`) is no error.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
