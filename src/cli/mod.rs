//! The command line.

pub mod demo;

/// Parses the command line and runs the chosen command.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
