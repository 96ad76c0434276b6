//! Where a master is, as sentinels say. Asked at every connect, and now and then while connected.

use std::time::Duration;

use crate::config::{HostPort, SentinelAddress, SentinelUser, StoreTls};
use crate::resp::value::OwnedValue;

use super::connection::{Connection, ConnectionError, Endpoint};

/// How often a connected lane asks whether its master still is the master.
pub const ASK_EVERY: Duration = Duration::from_secs(1);

/// The endpoint of a TCP address.
pub fn tcp(host: &str, port: u16, tls: Option<&StoreTls>) -> Endpoint {
    let host = host.to_owned();
    match tls {
        Some(tls) => Endpoint::Tls { host, port, tls: Box::new(tls.clone()) },
        None => Endpoint::Tcp { host, port },
    }
}

/// The master's address from the first sentinel that knows it.
pub async fn master(
    address: &SentinelAddress,
    user: Option<&SentinelUser>,
    tls: Option<&StoreTls>,
    within: Duration,
) -> Result<Endpoint, ConnectionError> {
    let mut problems = Vec::new();
    for sentinel in &address.sentinels {
        match ask(sentinel, &address.master, user, tls, within).await {
            Ok(endpoint) => return Ok(endpoint),
            Err(problem) => problems.push(problem),
        }
    }
    Err(ConnectionError::NoMaster { master: address.to_string(), problem: problems.join("; ") })
}

async fn ask(
    sentinel: &HostPort,
    master: &str,
    user: Option<&SentinelUser>,
    tls: Option<&StoreTls>,
    within: Duration,
) -> Result<Endpoint, String> {
    let endpoint = tcp(&sentinel.host, sentinel.port, tls);
    let mut connection = Connection::open(&endpoint, within).await.map_err(|error| error.to_string())?;
    if let Some(user) = user {
        let password = user.password.expose();
        let words = match &user.name {
            Some(name) => vec!["AUTH", name, password],
            None => vec!["AUTH", password],
        };
        let answer = connection.call(&words).await.map_err(|error| error.to_string())?;
        if let Some(error) = answer.error_text() {
            return Err(format!("{endpoint} refuses sentinel_password: {error}"));
        }
    }
    let question = ["SENTINEL", "get-master-addr-by-name", master];
    let answer = connection.call(&question).await.map_err(|error| error.to_string())?;
    let OwnedValue::Array(parts) = &answer else {
        return Err(match answer.error_text() {
            Some(error) if error.starts_with("NOAUTH") => {
                format!("{endpoint} asks for a password: set sentinel_password ({error})")
            }
            Some(error) => format!("{endpoint} says {error}"),
            None => format!("{endpoint} knows no master of this name"),
        });
    };
    let text = |at: usize| parts.get(at).and_then(|part| std::str::from_utf8(part.as_bytes()?).ok());
    match (text(0), text(1).and_then(|port| port.parse().ok())) {
        (Some(host), Some(port)) => Ok(tcp(host, port, tls)),
        _ => Err(format!("the answer of {endpoint} is no address")),
    }
}
