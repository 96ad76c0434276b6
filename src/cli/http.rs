//! The small HTTP client of the commands that ask a running proxy.

use std::fmt::{self, Write as _};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Args;

use super::{ConfigArg, Exit, complain};
use crate::config::{self, HostPort, Secret};

/// The longest answer that is read.
const MAX_ANSWER: usize = 8 << 20;

/// `--config` and `--admin`, for every command that asks a running proxy.
#[derive(Args, Clone, Debug)]
pub struct AdminArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The admin address of the proxy; without it, the one in the configuration
    #[arg(long, value_name = "HOST:PORT", value_parser = HostPort::parse_admin)]
    admin: Option<HostPort>,
}

// === impl AdminArg ===

impl AdminArg {
    /// The configuration file that was named.
    pub fn config(&self) -> &ConfigArg {
        &self.config
    }

    /// Where to ask. Of the configuration only [admin] is read.
    pub fn address(self) -> Result<Target, Exit> {
        let token = config::admin_token(&self.config.config);
        let address = self.admin.map_or_else(|| config::admin_listen(&self.config.config), Ok);
        match address {
            Ok(address) => Ok(Target { address: address.reachable(), token }),
            Err(error) => {
                complain(error);
                Err(Exit::Invalid)
            }
        }
    }
}

/// A running proxy's admin listener.
#[derive(Clone)]
pub struct Target {
    address: HostPort,
    token: Option<Secret>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The status and the body of one HTTP GET, within `timeout` altogether.
pub fn get(target: &Target, path: &str, timeout: Duration) -> Result<(u16, String), String> {
    exchange(target, "GET", path, &[], timeout)
}

/// The same of one HTTP POST without a body.
pub fn post(
    target: &Target,
    path: &str,
    headers: &[(&str, &str)],
    timeout: Duration,
) -> Result<(u16, String), String> {
    exchange(target, "POST", path, headers, timeout)
}

fn exchange(
    target: &Target,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    timeout: Duration,
) -> Result<(u16, String), String> {
    let deadline = Instant::now() + timeout;
    let address = &target.address;
    let mut stream = connect(address, deadline)?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    if let Some(token) = &target.token {
        let _ = write!(request, "Authorization: Bearer {}\r\n", token.expose());
    }
    request.push_str("\r\n");
    stream.set_write_timeout(Some(left(deadline)?)).map_err(|error| error.to_string())?;
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while answer.len() < MAX_ANSWER {
        stream.set_read_timeout(Some(left(deadline)?)).map_err(|error| error.to_string())?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend(chunk.iter().take(read)),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("no answer in time: {error}")),
        }
    }
    parse(&String::from_utf8_lossy(&answer))
}

fn connect(address: &HostPort, deadline: Instant) -> Result<TcpStream, String> {
    let addresses =
        (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut failure = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error.to_string(),
        }
    }
    Err(failure)
}

fn left(deadline: Instant) -> Result<Duration, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err("no answer in time".to_owned()) } else { Ok(left) }
}

fn parse(answer: &str) -> Result<(u16, String), String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut words = head.split_whitespace();
    match (words.next(), words.next().and_then(|status| status.parse().ok())) {
        (Some(version), Some(status)) if version.starts_with("HTTP/1.") => Ok((status, body.to_owned())),
        _ => Err("the answer is not HTTP; is this the admin address?".to_owned()),
    }
}
