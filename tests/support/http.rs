//! As much of an HTTP client as the admin endpoints need.

use super::SOON;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// What an endpoint answered.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The header lines as they came.
    pub headers: String,
    /// The body.
    pub body: String,
}

/// GET of `path` from a loopback port.
pub fn get(port: u16, path: &str) -> io::Result<HttpAnswer> {
    request(port, "GET", path)
}

/// Any method. HTTP/1.0, so that the answer ends with the connection and is not chunked.
pub fn request(port: u16, method: &str, path: &str) -> io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn parse(text: &str) -> Option<HttpAnswer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (status_line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    Some(HttpAnswer { status, headers: headers.to_owned(), body: body.to_owned() })
}
