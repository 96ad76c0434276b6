//! Does a store answer? One connection, blocking, made for a person who waits for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::{Endpoint, StoreConfig};

/// The longest line of an answer that is read.
const MAX_LINE: u64 = 4096;

/// Connects, logs in, selects the database and sends PING.
pub fn probe(store: &StoreConfig, connect: Duration, reply: Duration) -> Result<(), String> {
    let unreachable = |error: std::io::Error| format!("cannot be reached: {error}");
    match &store.endpoint {
        Endpoint::Tcp(address) => {
            let addresses = (address.host.as_str(), address.port).to_socket_addrs().map_err(unreachable)?;
            let mut failure = "its name has no address".to_owned();
            for address in addresses {
                match TcpStream::connect_timeout(&address, connect) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(reply)).map_err(unreachable)?;
                        stream.set_write_timeout(Some(reply)).map_err(unreachable)?;
                        return converse(stream, store);
                    }
                    Err(error) => failure = unreachable(error),
                }
            }
            Err(failure)
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(unreachable)?;
            stream.set_read_timeout(Some(reply)).map_err(unreachable)?;
            stream.set_write_timeout(Some(reply)).map_err(unreachable)?;
            converse(stream, store)
        }
    }
}

fn converse(stream: impl Read + Write, store: &StoreConfig) -> Result<(), String> {
    let mut stream = BufReader::new(stream);
    if let Some(password) = &store.password {
        let user = store.username.as_deref();
        let arguments: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password.expose()]).collect();
        ask(&mut stream, &arguments, "+OK").map_err(|answer| format!("refuses the login: {answer}"))?;
    }
    if let Some(database) = store.database {
        ask(&mut stream, &["SELECT", &database.to_string()], "+OK")
            .map_err(|answer| format!("refuses database {database}: {answer}"))?;
    }
    ask(&mut stream, &["PING"], "+PONG").map_err(|answer| format!("doesn't answer PING: {answer}"))
}

fn ask(stream: &mut BufReader<impl Read + Write>, arguments: &[&str], wanted: &str) -> Result<(), String> {
    let mut request = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        request += &format!("${}\r\n{argument}\r\n", argument.len());
    }
    stream.get_mut().write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut line = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    match String::from_utf8_lossy(&line).trim_end() {
        answer if answer == wanted => Ok(()),
        "" => Err("it closed the connection".to_owned()),
        answer => Err(answer.trim_start_matches('-').to_owned()),
    }
}
