//! Logs: one event, one line, on stderr, for people or as JSON.
//!
//! - What came from a client or a store is logged through [`Escaped`]: printable and cut.
//! - Whatever slips past that, an event stays one line: the writer escapes control characters.
//! - A failure that can repeat with every request is logged through a [`Throttle`].
//!
//! Keys, values and passwords are not logged at all unless a setting asks for samples.

pub mod escape;
#[cfg(test)]
mod tests;
pub mod throttle;

use std::io::{self, Write};
use std::str::FromStr;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

pub use escape::{Escaped, cut};
pub use throttle::Throttle;

/// Overrides the configured filter, if set.
pub const FILTER_ENV: &str = "RUST_LOG";

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or list of `target=level`.
    #[error("`{filter}` is no log filter: use a level like `info`, or `info,multistore::store=debug`")]
    Filter {
        /// The text that was given.
        filter: String,
    },
    /// Set up twice in one process.
    #[error("logging is already set up")]
    AlreadySet,
}

/// Changes the filter of the running process.
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    overridden: bool,
}

// === impl Format ===

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "human" => Ok(Format::Human),
            "json" => Ok(Format::Json),
            _ => Err(format!("`{text}` is no log format: use `human` or `json`")),
        }
    }
}

/// Starts logging to stderr. [`FILTER_ENV`] wins over `filter`.
pub fn init(format: Format, filter: &str) -> Result<LogHandle, LogError> {
    let from_env = std::env::var(FILTER_ENV).ok().filter(|filter| !filter.is_empty());
    let targets = parse_filter(from_env.as_deref().unwrap_or(filter))?;
    let (targets, handle) = reload::Layer::new(targets);
    tracing_subscriber::registry()
        .with(layer(format, || OneLine::new(io::stderr())).with_filter(targets))
        .try_init()
        .map_err(|_| LogError::AlreadySet)?;
    Ok(LogHandle { filter: handle, overridden: from_env.is_some() })
}

/// Checks a filter without applying it.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse_filter(filter).map(|_| ())
}

fn parse_filter(filter: &str) -> Result<Targets, LogError> {
    Targets::from_str(filter).map_err(|_| LogError::Filter { filter: filter.to_owned() })
}

fn layer<W>(format: Format, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A log that cannot be written must not be reported with `eprintln!`, which panics where stderr is gone.
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(false).log_internal_errors(false).with_writer(writer);
    match format {
        Format::Human => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}

// === impl LogHandle ===

impl LogHandle {
    /// Applies another filter, unless the environment had the say.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let targets = parse_filter(filter)?;
        if !self.overridden {
            // Fails only when the subscriber is gone, and then there is nothing to filter.
            let _ = self.filter.reload(targets);
        }
        Ok(())
    }
}

/// Passes events on with every control character but the last line feed escaped.
///
/// The formatter hands over each event in one piece.
struct OneLine<W> {
    inner: W,
}

// === impl OneLine ===

impl<W: Write> OneLine<W> {
    fn new(inner: W) -> Self {
        OneLine { inner }
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (text, end) = match text.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (&*text, ""),
        };
        if text.contains(char::is_control) {
            let line = format!("{}{end}", escape::ControlEscaped(text));
            self.inner.write_all(line.as_bytes())?;
        } else {
            self.inner.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
