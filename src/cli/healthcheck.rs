//! `multistore healthcheck`: for HEALTHCHECK of a container and ExecStartPost of systemd.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Args;

use super::{ConfigArg, Exit, complain, say};
use crate::config::{self, HostPort, parse_duration};

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// Ask a running proxy whether it is ready
///
/// Sends GET /readyz to the admin address. Exits with 0 if the answer is 200, with 1 otherwise. Of the configuration
/// only [admin] listen is read: a mistake elsewhere, which the running proxy ignores, doesn't make it unhealthy.
#[derive(Args)]
pub struct Healthcheck {
    #[command(flatten)]
    config: ConfigArg,
    /// The admin address of the proxy; without it, the one in the configuration
    #[arg(long, value_name = "HOST:PORT", value_parser = |text: &str| HostPort::parse(text, None))]
    admin: Option<HostPort>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    timeout: Duration,
}

// === impl Healthcheck ===

impl Healthcheck {
    /// Asks and tells.
    pub fn run(self) -> Exit {
        let address = match self.admin.map_or_else(|| config::admin_listen(&self.config.config), Ok) {
            Ok(address) => address.reachable(),
            Err(error) => {
                complain(error);
                return Exit::Invalid;
            }
        };
        match get(&address, "/readyz", self.timeout) {
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

/// The status and the body of one HTTP GET, within `timeout` altogether.
fn get(address: &HostPort, path: &str, timeout: Duration) -> Result<(u16, String), String> {
    let deadline = Instant::now() + timeout;
    let mut stream = connect(address, deadline)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(left(deadline)?)).map_err(|error| error.to_string())?;
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
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
