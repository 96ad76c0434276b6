//! Where a server listens.

use std::fmt;
use std::path::PathBuf;

use crate::config::StoreTls;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Over TCP.
    Tcp {
        /// A name or an address; an IPv6 address with or without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// TLS over TCP.
    Tls {
        /// A name or an address; an IPv6 address with or without brackets.
        host: String,
        /// The port.
        port: u16,
        /// What the server must show.
        tls: Box<StoreTls>,
    },
    /// Over a Unix domain socket.
    Unix(PathBuf),
}

// === impl Endpoint ===

impl Endpoint {
    /// The host as the resolver wants it.
    pub(super) fn bare_host(host: &str) -> &str {
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => {
                let host = Self::bare_host(host);
                if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_operators_write_them() {
        let tcp = |host: &str| Endpoint::Tcp { host: host.into(), port: 7001 }.to_string();
        assert_eq!(tcp("127.0.0.1"), "127.0.0.1:7001");
        assert_eq!(tcp("::1"), "[::1]:7001");
        assert_eq!(tcp("[::1]"), "[::1]:7001");
        assert_eq!(Endpoint::Unix("/run/redis.sock".into()).to_string(), "unix:/run/redis.sock");
    }
}
