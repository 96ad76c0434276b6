//! The decoder, the scanner and the connection against a real server.

mod support;

use multistore::resp::encode;
use multistore::resp::request::{Decoded, Decoder, Request, RequestLimits};
use multistore::resp::value::OwnedValue;
use multistore::store::connection::{Connection, ConnectionError, Endpoint};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::{Numbers, RedisServer, free_port};

const DEADLINE: Duration = Duration::from_secs(20);

/// A server that is spoken to at its Unix socket, in raw bytes.
struct Server(RedisServer);

// === impl Server ===

impl Server {
    fn start(options: &[&str]) -> Self {
        Self(RedisServer::start_with(&[&["--enable-debug-command", "yes"], options].concat()))
    }

    fn path(&self) -> PathBuf {
        self.0.unix_path()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.path())
    }

    /// All that the server answers to `bytes`, until it closes the connection.
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.path()).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        // The server may close early; what it said until then still counts.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        answer
    }

    /// Asserts that the server understands `bytes` as the decoder does: it answers as if it had been sent the
    /// decoded requests anew, and then the decoder's error, if any.
    fn assert_agrees(&self, bytes: &[u8], limits: &RequestLimits) {
        let (requests, error) = decode(bytes, limits);
        let mut expected = self.answer(&requests);
        expected.extend_from_slice(&error);
        let answer = self.answer(bytes);
        let start = &bytes[..bytes.len().min(300)];
        assert_eq!(
            answer.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "sent: {}",
            start.escape_ascii()
        );
    }
}

/// The requests in `bytes`, encoded anew, and the error reply that ends them.
fn decode(mut bytes: &[u8], limits: &RequestLimits) -> (Vec<u8>, Vec<u8>) {
    let (mut decoder, mut requests, mut error) = (Decoder::new(), Vec::new(), Vec::new());
    loop {
        let len = match decoder.decode(bytes, limits) {
            Ok(Decoded::Incomplete) => break,
            Ok(Decoded::Nothing { len }) => len,
            Ok(Decoded::Inline { len }) => {
                encode::command(&mut requests, decoder.inline_args());
                len
            }
            Ok(Decoded::Request { len, canonical }) => {
                let mut anew = Vec::new();
                Request { frame: &bytes[..len], args: decoder.spans() }.encode(&mut anew);
                assert_eq!(canonical, anew == bytes[..len]);
                requests.extend_from_slice(&anew);
                len
            }
            Err(found) => {
                found.encode(&mut error);
                break;
            }
        };
        bytes = &bytes[len..];
    }
    (requests, error)
}

#[test]
fn every_error_and_edge_is_the_servers_own() {
    let server = Server::start(&[]);
    let limits = RequestLimits::default();
    let long = |start: &str, bytes: usize| [start.as_bytes(), &vec![b'1'; bytes]].concat();
    let cases: Vec<Vec<u8>> = vec![
        b"*x\r\n".into(),
        b"*\r\n".into(),
        b"*+1\r\n".into(),
        b"*01\r\n".into(),
        b"*-0\r\n".into(),
        b"* 1\r\n".into(),
        b"*1 \r\n".into(),
        b"*99999999999999999999\r\n".into(),
        b"*2147483648\r\n".into(),
        b"*9223372036854775807\r\n".into(),
        b"*-9223372036854775808\r\nPING\r\n".into(),
        b"*0\r\n*-1\r\n\r\n\n \r\n*-5\r\nPING\r\n".into(),
        b"*1\r\nx4\r\nPING\r\n".into(),
        b"*1\r\n\r\n$4\r\nPING\r\n".into(),
        b"*1\r\n\n$4\r\nPING\r\n".into(),
        b"*1\r\n\xff4\r\nPING\r\n".into(),
        b"*1\r\nx".into(),
        b"*1\r\nx\r".into(),
        b"*1\r\n$-1\r\n".into(),
        b"*1\r\n$x\r\n".into(),
        b"*1\r\n$\r\n".into(),
        b"*1\r\n$04\r\nPING\r\n".into(),
        b"*1\r\n$-0\r\n".into(),
        b"*1\r\n$536870913\r\n".into(),
        b"*1\r\n$9223372036854775808\r\n".into(),
        b"*2\r\n$4\r\nECHO\r\n$2\r\nab\r\n*1\r\nQ".into(),
        b"*2\r\n$4\r\nECHO\r\n$2\r\nab\r\n*1\r\nQ\r\n".into(),
        b"*2\rX$4\rYECHOab$2\rZxycd*1\r\n$4\r\nPING\r\n".into(),
        b"*1\0\r\nPING\r\n".into(),
        b"*1\r\n$\x004\r\nPING\r\n".into(),
        b"PI\0NG\r\n".into(),
        b"PING\r\n\0".into(),
        b"PING\rPING\nECHO a\r\r\n".into(),
        b"ECHO \"a".into(),
        b"ECHO \"a\r\n".into(),
        b"ECHO 'a\r\n".into(),
        b"ECHO \"a\"b\r\n".into(),
        b"ECHO a\"b\"\r\nECHO 'it\\'s'\r\nECHO \"\\x41\\n\\r\\t\\b\\a\\q\\x4\"\r\n".into(),
        b"\"\" x\r\n".into(),
        b"ECHO \x0ba\x0b\x0c\r\n".into(),
        long("*", 70_000),
        [long("*", 60_000), b"\r\n".into()].concat(),
        long("*1\r\n$", 70_000),
        [long("*1\r\n$", 60_000), b"\r\n".into()].concat(),
        long("E", 70_000),
        [long("ECHO ", 60_000), b"\r\n".into()].concat(),
        long("\0", 70_000),
    ];
    for case in &cases {
        server.assert_agrees(case, &limits);
    }
}

#[test]
fn before_authentication_too() {
    let server = Server::start(&["--requirepass", "secret"]);
    for case in [
        &b"*11\r\n"[..],
        b"*10\r\n",
        b"*1\r\n$16385\r\n",
        b"*1\r\n$16384\r\n",
        b"*1\r\n$536870913\r\n",
        b"*2147483648\r\n",
        b"PING\r\n",
    ] {
        server.assert_agrees(case, &RequestLimits::unauthenticated());
    }
}

#[test]
fn random_requests_mean_the_same_to_the_server() {
    let server = Server::start(&[]);
    let tokens: &[&[u8]] = &[
        b"*1\r\n",
        b"*2\r\n",
        b"*3\r\n",
        b"*0\r\n",
        b"$1\r\n",
        b"$2\r\n",
        b"$0\r\n",
        b"$4\r\nECHO\r\n",
        b"a\r\n",
        b"bc\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\"",
        b"'",
        b"\\",
        b"\\x41",
        b"\\n",
        b"\t",
        b"\0",
        b"x",
        b"*",
        b"$",
        b"-",
        b"1",
        b"0",
        b"9",
        b"\xff",
        b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n",
        b"*2\r\n$4\r\nECHO\r\n$2\r\n",
        b"echo ",
    ];
    let mut numbers = Numbers(7);
    for _ in 0..3000 {
        let parts = 1 + numbers.below(12);
        let bytes: Vec<u8> = (0..parts).flat_map(|_| numbers.pick(tokens).to_vec()).collect();
        server.assert_agrees(&bytes, &RequestLimits::default());
    }
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

#[test]
fn connection_reads_every_type() {
    let server = Server::start(&[]);
    run(async {
        let mut connection = Connection::open(&server.endpoint(), DEADLINE).await.expect("connected");
        assert_eq!(connection.call(&["GET", "nothing"]).await.expect("a reply"), OwnedValue::Nil);
        let hello = connection.call(&["HELLO", "3"]).await.expect("a reply");
        assert_eq!(hello.get("proto").and_then(OwnedValue::as_i64), Some(3));
        for kind in [
            "string", "integer", "double", "null", "array", "set", "map", "bignum", "verbatim", "true",
            "false",
        ] {
            let reply = connection.call(&["DEBUG", "PROTOCOL", kind]).await.expect("a reply");
            assert!(!reply.is_error(), "{kind}: {reply:?}");
        }
        let attributed = connection.call_raw(&["DEBUG", "PROTOCOL", "attrib"]).await.expect("a reply");
        assert_eq!(attributed.first(), Some(&b'|'));
        assert!(OwnedValue::parse(&attributed).expect("sound").as_str().is_some());
        let wrong = connection.call(&["SET", "k"]).await.expect("an error is a reply");
        assert!(wrong.error_text().expect("an error").starts_with("ERR wrong number of arguments"));
    });
}

/// A script's reply nests deeper than a value may, and still is one reply, whose bytes can be had.
#[test]
fn connection_survives_deep_replies() {
    let server = Server::start(&[]);
    run(async {
        let mut connection = Connection::open(&server.endpoint(), DEADLINE).await.expect("connected");
        let script = "local t = {} for _ = 1, tonumber(ARGV[1]) do t = {t} end return t";
        let deep = connection.call(&["EVAL", script, "0", "1000"]).await.expect_err("too deep for a value");
        assert!(matches!(deep, ConnectionError::Value { .. }), "{deep}");
        // Deeper than the server itself goes.
        let frame = connection.call_raw(&["EVAL", script, "0", "20000"]).await.expect("a reply");
        let depth = frame.chunks(4).take_while(|header| header == b"*1\r\n").count();
        assert!((7000..8192).contains(&depth), "{depth}");
        assert_eq!(connection.call(&["PING"]).await.expect("in step").as_str(), Some("PONG"));
    });
}

#[test]
fn connection_keeps_pushes_apart() {
    let server = Server::start(&[]);
    run(async {
        let mut connection = Connection::open(&server.endpoint(), DEADLINE).await.expect("connected");
        connection.call(&["HELLO", "3"]).await.expect("a reply");
        connection.call(&["CLIENT", "TRACKING", "ON"]).await.expect("a reply");
        connection.call(&["SET", "k", "1"]).await.expect("a reply");
        connection.call(&["GET", "k"]).await.expect("a reply");
        let set = [b"SET".to_vec(), b"k".to_vec(), b"2".to_vec()].to_vec();
        let get = [b"GET".to_vec(), b"k".to_vec()].to_vec();
        let replies = connection.pipeline(&[set, get]).await.expect("replies");
        assert_eq!(replies[1].as_bytes(), Some(&b"2"[..]));
        let push = connection.read_push().await.expect("a push");
        assert_eq!(push.as_array().and_then(|parts| parts[0].as_str()), Some("invalidate"));
    });
}

/// More commands, and more replies, than the sockets hold, to a server that reads no further command before
/// its reply is gone.
#[test]
fn connection_reads_while_it_writes() {
    let command = vec![b"ECHO".to_vec(), vec![b'x'; 100_000]];
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    encode::command(&mut request, &command);
    encode::bulk(&mut reply, vec![b'x'; 100_000]);
    let path = std::env::temp_dir().join(format!("resp-live-{}-stubborn", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut buf = vec![0; request.len()];
        while stream.read_exact(&mut buf).is_ok() {
            stream.write_all(&reply).expect("the client reads");
        }
    });
    run(async {
        let mut connection =
            Connection::open(&Endpoint::Unix(path.clone()), DEADLINE).await.expect("connected");
        let replies = connection.pipeline(&vec![command; 200]).await.expect("replies");
        assert_eq!(replies.len(), 200);
        assert!(replies.iter().all(|reply| reply.as_bytes().is_some_and(|text| text.len() == 100_000)));
    });
    server.join().expect("the server saw its client go");
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn connection_out_of_step_refuses() {
    let server = Server::start(&[]);
    run(async {
        let mut connection = Connection::open(&server.endpoint(), DEADLINE).await.expect("connected");
        connection.set_timeout(Duration::from_millis(1));
        let late = connection.call(&["BLPOP", "nothing", "0"]).await.expect_err("no element");
        assert!(matches!(late, ConnectionError::Timeout { .. }));
        assert!(late.to_string().ends_with("/redis.sock did not answer within 1ms"), "{late}");
        connection.set_timeout(DEADLINE);
        let refused = connection.call(&["PING"]).await.expect_err("out of step");
        assert!(matches!(refused, ConnectionError::OutOfStep { .. }));
    });
}

#[test]
fn connection_hears_why_it_is_refused() {
    let server = Server::start(&["--maxclients", "1"]);
    run(async {
        let mut first = Connection::open(&server.endpoint(), DEADLINE).await.expect("connected");
        let deadline = Instant::now() + DEADLINE;
        // The connection that waited for the server to start may not be gone yet.
        while !matches!(first.call(&["PING"]).await, Ok(pong) if !pong.is_error()) {
            assert!(Instant::now() < deadline, "never admitted");
            first = Connection::open(&server.endpoint(), DEADLINE).await.expect("connected");
        }
        let mut second = Connection::open(&server.endpoint(), DEADLINE).await.expect("connected");
        let refusal = second.call(&["PING"]).await.expect("a reply");
        assert_eq!(refusal.error_text().as_deref(), Some("ERR max number of clients reached"));
        let closed = second.call(&["PING"]).await.expect_err("closed");
        let text = closed.to_string();
        assert!(text.starts_with("unix:/") && text.ends_with("/redis.sock closed the connection"), "{text}");
    });
}

#[test]
fn connection_over_tcp() {
    let port = free_port();
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port };
    run(async {
        let error = Connection::open(&endpoint, DEADLINE).await.expect_err("nobody listens");
        assert!(error.to_string().starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{error}");
    });
    let server = Server::start(&[]);
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port: server.0.port() };
    run(async {
        let mut connection = Connection::open(&endpoint, DEADLINE).await.expect("connected");
        assert_eq!(connection.call(&["PING"]).await.expect("a reply").as_str(), Some("PONG"));
        let (socket, leftover) = connection.into_parts();
        assert!(leftover.is_empty());
        let mut again = Connection::from_parts(endpoint.clone(), socket, DEADLINE);
        assert!(again.call(&["SET", "k", "v"]).await.expect("a reply").is_ok());
    });
}
