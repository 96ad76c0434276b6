//! Tests of everything that judges replies.

mod digest;
mod equal;
mod merge;
mod miss;
mod properties;
mod sample;

use super::{Rule, Tick};
use std::time::Duration;

const SECONDS: Rule = Rule::Tolerance(Tick::Seconds);
const MILLIS: Rule = Rule::Tolerance(Tick::Millis);

/// The default tolerance.
const SECOND: Duration = Duration::from_secs(1);

/// An array of bulk strings.
fn bulks(items: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", items.len());
    for item in items {
        out.push_str(&format!("${}\r\n{item}\r\n", item.len()));
    }
    out.into_bytes()
}

/// A frame in short: every `|` is a line end. (`%` and attributes are written out in full.)
fn frame(short: &str) -> Vec<u8> {
    short.replace('|', "\r\n").into_bytes()
}
