//! Where to listen: `host:port`, or a Unix socket.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The longest path that fits a socket address of the kernel.
pub const MAX_SOCKET_PATH: usize = 107;
/// The longest host name of the DNS.
const MAX_HOST: usize = 253;

/// The port of a listener in the manual.
const LISTEN_PORT: u16 = 6380;
/// The port of the admin listener in the manual, and its default.
const ADMIN_PORT: u16 = 9180;

/// A TCP address. The host is a name or an IP address, an IPv6 address without its brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an IP address.
    pub host: String,
    /// The port; 0 lets the system choose (for tests).
    pub port: u16,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// `"127.0.0.1:6380"`
    Tcp(HostPort),
    /// `"unix:///run/multistore.sock"`
    Unix(PathBuf),
}

// === impl HostPort ===

impl HostPort {
    /// Parses `host:port` or `[ipv6]:port`; without a port, `default_port` is taken.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<HostPort, String> {
        HostPort::parse_such_as(text, default_port, LISTEN_PORT)
    }

    /// Parses the address of an admin listener, which names its port.
    pub fn parse_admin(text: &str) -> Result<HostPort, String> {
        HostPort::parse_such_as(text, None, ADMIN_PORT)
    }

    /// Parses it. Who leaves the port out where it is needed is told one that is usual.
    fn parse_such_as(text: &str, default_port: Option<u16>, usual: u16) -> Result<HostPort, String> {
        let (host, port) = split_port(text)?;
        let host = check_host(host)?;
        let port = match (port, default_port) {
            (Some(port), _) => {
                port.parse().map_err(|_| "the port is not a number from 0 to 65535".to_owned())?
            }
            (None, Some(port)) => port,
            (None, None) => return Err(format!("the port is missing; write '{text}:{usual}'")),
        };
        Ok(HostPort { host, port })
    }

    /// Would the system refuse to bind both?
    fn overlaps(&self, other: &HostPort) -> bool {
        let same_host = self.ip() == other.ip() && (self.ip().is_some() || self.host == other.host);
        self.port == other.port && self.port != 0 && (same_host || self.is_wildcard() || other.is_wildcard())
    }

    /// The host as an address, `localhost` included.
    fn ip(&self) -> Option<IpAddr> {
        match self.host.as_str() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.parse().ok(),
        }
    }

    /// Is it reached from this machine alone?
    pub fn is_loopback(&self) -> bool {
        self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Does it stand for every address of the machine?
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// The address at which a process on this machine reaches it.
    pub fn reachable(&self) -> HostPort {
        let host = match self.ip() {
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => "::1".to_owned(),
            _ => self.host.clone(),
        };
        HostPort { host, port: self.port }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the closing ']' of the IPv6 address is missing")?;
        host.parse::<Ipv6Addr>().map_err(|_| format!("'{host}' is not an IPv6 address"))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(format!("'{after}' stands after the IPv6 address; write '[{host}]:6380'")),
        };
    }
    match text.matches(':').count() {
        0 => Ok((text, None)),
        1 => Ok(text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))),
        _ => Err(format!("an IPv6 address stands in brackets; write '[{text}]:6380'")),
    }
}

fn check_host(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err(
            "the host is missing; write '127.0.0.1:PORT', or '0.0.0.0:PORT' for every address".to_owned()
        );
    }
    if host.len() > MAX_HOST {
        return Err(format!("the host name is longer than {MAX_HOST} characters"));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    match host.chars().all(valid) {
        true => Ok(host.to_ascii_lowercase()),
        false => Err(format!("'{host}' is neither a host name nor an IP address")),
    }
}

// === impl Listen ===

impl Listen {
    /// Parses `host:port` or `unix:///path`.
    pub fn parse(text: &str) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return socket_path(path).map(Listen::Unix);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(format!("a listener has no '{scheme}://'; write '{rest}', or 'unix:///path'"));
        }
        HostPort::parse(text, None).map(Listen::Tcp)
    }

    /// Is it reached from this machine alone?
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.is_loopback(),
            Listen::Unix(_) => true,
        }
    }

    /// Would the system refuse to bind both?
    pub fn overlaps(&self, other: &Listen) -> bool {
        match (self, other) {
            (Listen::Tcp(a), Listen::Tcp(b)) => a.overlaps(b),
            (Listen::Unix(a), Listen::Unix(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Checks the path of a socket: absolute, and short enough for the kernel.
pub fn socket_path(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!("the path of a socket is absolute: write 'unix:///{path}', with three slashes"));
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes"));
    }
    if path.contains('\0') || path.ends_with('/') {
        return Err("this is not the path of a socket".to_owned());
    }
    Ok(Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        Listen::parse(text).unwrap()
    }

    #[test]
    fn forms() {
        for text in
            ["127.0.0.1:6380", "[::1]:6380", "redis.example.com:1", "unix:///run/x.sock", "localhost:0"]
        {
            assert_eq!(listen(text).to_string(), text);
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, part) in [
            ("127.0.0.1", "port is missing"),
            (":6380", "host is missing"),
            ("::1:6380", "in brackets"),
            ("[::1:6380", "closing ']'"),
            ("[x]:1", "not an IPv6"),
            ("[::1]6380", "stands after"),
            ("a:70000", "0 to 65535"),
            ("a b:1", "neither"),
            ("redis://a:1", "write 'a:1'"),
            ("unix://run/x", "three slashes"),
            ("unix:///", "not the path"),
        ] {
            let message = Listen::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(Listen::parse(&format!("unix:///{}", "x".repeat(200))).is_err());
    }

    #[test]
    fn overlaps() {
        let overlapping = [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "10.0.0.1:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("example.com:1", "example.com:1"),
            ("unix:///a", "unix:///a"),
        ];
        for (a, b) in overlapping {
            assert!(listen(a).overlaps(&listen(b)) && listen(b).overlaps(&listen(a)), "{a} {b}");
        }
        let apart = [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "10.0.0.1:1"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("a.com:1", "b.com:1"),
            ("unix:///a", "unix:///b"),
            ("unix:///a", "0.0.0.0:1"),
        ];
        for (a, b) in apart {
            assert!(!listen(a).overlaps(&listen(b)) && !listen(b).overlaps(&listen(a)), "{a} {b}");
        }
    }

    #[test]
    fn a_wildcard_is_reached_over_loopback() {
        let reached = |text: &str| HostPort::parse(text, None).unwrap().reachable().to_string();
        assert_eq!(reached("0.0.0.0:9"), "127.0.0.1:9");
        assert_eq!(reached("[::]:9"), "[::1]:9");
        assert_eq!(reached("10.0.0.1:9"), "10.0.0.1:9");
    }
}
