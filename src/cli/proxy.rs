//! The running proxy, as the commands that ask it see it.

use std::time::Duration;

use clap::Args;

use super::http::{self, AdminArg, Target};
use super::{ConfigArg, Exit, complain};
use crate::admin::orders::{HEADER, HEADER_VALUE, VERIFY};
use crate::admin::verification::VerifyReport;
use crate::admin::{InstanceStatus, Status};

/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// `--instance`, `--config` and `--admin`.
#[derive(Args)]
pub struct ProxyArg {
    /// The instance; may be left out if the proxy has only one
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    #[command(flatten)]
    admin: AdminArg,
}

/// A running proxy, and the instance that is meant.
#[derive(Clone)]
pub struct Proxy {
    target: Target,
    instance: Option<String>,
    config: ConfigArg,
}

/// Why the proxy did not do what it was asked for.
#[derive(Clone, Debug)]
pub struct Problem {
    /// How the command ends because of it.
    pub exit: Exit,
    /// What to tell.
    pub text: String,
}

// === impl ProxyArg ===

impl ProxyArg {
    /// Finds out where it is. Nothing is asked yet.
    pub fn proxy(self) -> Result<Proxy, Exit> {
        let config = self.admin.config().clone();
        Ok(Proxy { target: self.admin.address()?, instance: self.instance, config })
    }
}

// === impl Problem ===

impl Problem {
    fn new(exit: Exit, text: impl Into<String>) -> Problem {
        Problem { exit, text: text.into() }
    }

    /// Tells it, and how the command ends.
    pub fn tell(&self) -> Exit {
        complain(&self.text);
        self.exit
    }
}

// === impl Proxy ===

impl Proxy {
    /// The proxy at `target`.
    pub fn at(target: Target, instance: Option<String>, config: ConfigArg) -> Proxy {
        Proxy { target, instance, config }
    }

    /// The configuration file that was named.
    pub fn config(&self) -> &ConfigArg {
        &self.config
    }

    /// Was an instance named?
    pub fn names_instance(&self) -> bool {
        self.instance.is_some()
    }

    /// What it says of itself.
    pub fn status(&self) -> Result<Status, Problem> {
        let (status, body) = http::get(&self.target, "/status", TIMEOUT).map_err(|why| self.silent(&why))?;
        match status {
            200 => serde_json::from_str(&body).map_err(|error| {
                Problem::new(
                    Exit::Failed,
                    format!("{}: /status cannot be read: {error}; is it another version?", self.target),
                )
            }),
            _ => Err(Problem::new(Exit::Failed, format!("{}: {}", self.target, body.trim_end()))),
        }
    }

    /// What it says of the instance that is meant.
    pub fn instance(&self) -> Result<InstanceStatus, Problem> {
        self.chosen(self.status()?.instances)
    }

    /// The instance that is meant, of all that it has.
    pub fn chosen(&self, mut instances: Vec<InstanceStatus>) -> Result<InstanceStatus, Problem> {
        match &self.instance {
            Some(name) => match instances.into_iter().find(|instance| instance.name == *name) {
                Some(instance) => Ok(instance),
                None => Err(Problem::new(Exit::Invalid, format!("the proxy has no instance {name}"))),
            },
            None if instances.len() == 1 => Ok(instances.remove(0)),
            None => {
                let names: Vec<String> = instances.into_iter().map(|instance| instance.name).collect();
                Err(Problem::new(
                    Exit::Invalid,
                    format!("which instance? --instance NAME; there are: {}", names.join(", ")),
                ))
            }
        }
    }

    /// Must an operator say which store is right? Until then nothing goes on by itself.
    pub fn goes_on(&self, instance: &InstanceStatus) -> Result<(), Problem> {
        let Some(why) = &instance.sync.operator_must_name_source else { return Ok(()) };
        let (name, default) = (&instance.name, &instance.default_store);
        let other = if default == "primary" { "secondary" } else { "primary" };
        let rest =
            format!("--instance {name} --config {} --admin {}", self.config.config.display(), self.target);
        Err(Problem::new(
            Exit::Refused,
            format!(
                "stopped: {name}: {why}. Nothing goes on until then; the other store becomes equal to the one that is \
                 named:\n  \
                 multistore repair --from {other} {rest}\n\
                 or, if the {default} store has everything:\n  multistore repair --from {default} {rest}"
            ),
        ))
    }

    /// Gives an order; its answer.
    pub fn order(&self, path: &str, words: &[(&str, &str)]) -> Result<String, Problem> {
        let instance = self.instance.as_deref().map(|name| ("instance", name));
        let words: Vec<String> =
            instance.iter().chain(words).map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let path = format!("{path}?{}", words.join("&"));
        match http::post(&self.target, &path, &[(HEADER, HEADER_VALUE)], TIMEOUT) {
            Ok((200, body)) => Ok(body),
            // The proxy found fault with what it was asked, not with its own state.
            Ok((400 | 404, body)) => Err(Problem::new(Exit::Invalid, body.trim_end())),
            Ok((_, body)) => Err(Problem::new(Exit::Failed, body.trim_end())),
            Err(why) => Err(self.silent(&why)),
        }
    }

    /// What the last verification has found, or the one under way.
    pub fn verification(&self) -> Result<VerifyReport, Problem> {
        let body = self.order(VERIFY, &[("action", "report")])?;
        serde_json::from_str(&body)
            .map_err(|error| Problem::new(Exit::Failed, format!("the report cannot be read: {error}")))
    }

    fn silent(&self, why: &str) -> Problem {
        Problem::new(Exit::Failed, format!("the proxy does not answer at {}: {why}", self.target))
    }
}

/// A value as part of a query. Names of instances need no escaping; whatever else is given must not break the request.
fn escaped(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    name.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
