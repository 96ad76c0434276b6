//! `multistore compare`: two stores, without a running proxy.

use clap::Args;

use super::{Exit, complain, offline, say, verify};
use crate::instance::verify::{Mend, Sample};

/// Compare two stores key by key, without a running proxy
///
/// What `multistore verify` does for the stores of a proxy: all databases, types, values, expiry times, streams with their
/// groups, functions. A URL with a database compares that one alone. In the report the first store is called the primary,
/// the second one the secondary.
///
/// No proxy keeps the two in one order here: what is written to either meanwhile can show up as a difference. Keys that
/// differ are therefore asked again, three times, before they count; keys that change all the time may still be listed.
///
/// Exit codes: 0 equal, 4 different, 1 it could not be found out, 2 wrong arguments.
#[derive(Args)]
pub struct Compare {
    /// The one store: redis://[user[:password]@]host[:port][/db]
    #[arg(value_name = "URL")]
    first: String,
    /// The other store
    #[arg(value_name = "URL")]
    second: String,
    /// Compare only so many keys (5000), or this share of them (5%), chosen at random
    #[arg(long, value_name = "N|P%", default_value = "all", value_parser = Sample::parse)]
    sample: Sample,
    /// Print the report as JSON: up to 1000 differing keys
    #[arg(long)]
    json: bool,
}

// === impl Compare ===

impl Compare {
    /// Compares.
    pub fn run(self) -> Exit {
        if !self.json {
            say(format_args!("primary: {}; secondary: {}", shown(&self.first), shown(&self.second)));
        }
        complain("note: what is written to either store meanwhile can show up as a difference");
        let compared = offline::with_stores(&self.first, &self.second, async |instance| {
            offline::compared(instance, self.sample, Mend::Nothing).await
        });
        match compared {
            Ok(report) => verify::show(&report, self.json),
            Err(exit) => exit,
        }
    }
}

/// A URL without user and password.
pub fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').filter(|_| scheme != "unix").unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn no_password_is_shown() {
        assert_eq!(shown("redis://user:p@ss@host:1/2"), "redis://host:1/2");
        assert_eq!(shown("redis://host"), "redis://host");
        assert_eq!(shown("unix://u:p@/run/redis.sock"), "unix:///run/redis.sock");
    }
}
