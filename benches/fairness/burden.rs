//! Clients that are a burden to others.

use crate::support::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

/// What one client, or a few, do all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burden {
    Nothing,
    /// Bytes
    Set(usize),
    /// Bytes
    Get(usize),
    /// Commands at once
    Pipeline(usize),
    LargeList,
    Keys,
    /// Nobody reads the replies.
    SlowReader,
    UnreadMonitor,
}

const MB: usize = 1024 * 1024;
const LIST: usize = 1_000_000;
const KEYS: usize = 100_000;
/// Replies of 8 MB that are asked for and not read.
const UNREAD: usize = 50;

// === impl Burden ===

impl Burden {
    pub const ALL: [Burden; 10] = [
        Burden::Nothing,
        Burden::Set(64 * MB),
        Burden::Get(64 * MB),
        Burden::Set(16 * MB),
        Burden::Get(16 * MB),
        Burden::Pipeline(5000),
        Burden::LargeList,
        Burden::Keys,
        Burden::SlowReader,
        Burden::UnreadMonitor,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Burden::Nothing => "nothing",
            Burden::Set(size) if size > 16 * MB => "SET of 64 MB",
            Burden::Set(_) => "SET of 16 MB",
            Burden::Get(size) if size > 16 * MB => "GET of 64 MB",
            Burden::Get(_) => "GET of 16 MB",
            Burden::Pipeline(_) => "5,000 commands at once",
            Burden::LargeList => "LRANGE of 1,000,000",
            Burden::Keys => "KEYS of 100,000",
            Burden::SlowReader => "400 MB of replies, unread",
            Burden::UnreadMonitor => "unread MONITOR, 4 publishers",
        }
    }

    /// twemproxy knows neither KEYS nor MONITOR.
    pub fn is_for_twemproxy(self) -> bool {
        !matches!(self, Burden::Keys | Burden::UnreadMonitor)
    }

    /// What must be there before.
    pub fn prepare(self, port: u16, stores: [u16; 2]) {
        let mut client = Client::connect(port).with_patience(Duration::from_secs(60));
        assert_eq!(client.call(&["SET", "small", "value"]), Value::ok());
        match self {
            Burden::Get(size) => {
                assert_eq!(client.call(&[b"SET", &b"large"[..], &vec![b'x'; size]]), Value::ok())
            }
            Burden::SlowReader => {
                assert_eq!(client.call(&[b"SET", &b"large"[..], &vec![b'x'; 8 * MB]]), Value::ok())
            }
            // Past the proxy, whose limits are not in question here.
            Burden::LargeList => stores.iter().for_each(|port| fill(*port, "RPUSH", "list", LIST)),
            Burden::Keys => stores.iter().for_each(|port| fill(*port, "MSET", "", KEYS)),
            _ => {}
        }
    }

    pub fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        port: u16,
        done: &'scope AtomicBool,
    ) -> Vec<ScopedJoinHandle<'scope, u64>> {
        let run = |work: Box<dyn FnMut(&mut TcpStream) + Send>| scope.spawn(move || repeat(port, done, work));
        match self {
            Burden::Nothing => Vec::new(),
            Burden::Set(size) => {
                let request = encode(&[b"SET", &b"large"[..], &vec![b'x'; size]]);
                vec![run(Box::new(move |socket| exchange(socket, &request, 5)))]
            }
            Burden::Get(size) => {
                let request = encode(&["GET", "large"]);
                let reply = size + size.to_string().len() + 5;
                vec![run(Box::new(move |socket| exchange(socket, &request, reply)))]
            }
            Burden::Pipeline(depth) => {
                let request = encode(&["GET", "small"]).repeat(depth);
                vec![run(Box::new(move |socket| exchange(socket, &request, depth * 11)))]
            }
            Burden::LargeList => {
                let request = encode(&["LRANGE", "list", "0", "-1"]);
                let reply = encode(&(0..LIST).map(member).collect::<Vec<_>>()).len();
                vec![run(Box::new(move |socket| exchange(socket, &request, reply)))]
            }
            Burden::Keys => {
                let request = encode(&["KEYS", "*"]);
                let mut reply = encode(&(0..KEYS).map(member).collect::<Vec<_>>()).len();
                reply += b"$5\r\nsmall\r\n".len();
                vec![run(Box::new(move |socket| exchange(socket, &request, reply)))]
            }
            Burden::SlowReader => {
                let request = encode(&["GET", "large"]).repeat(UNREAD);
                vec![scope.spawn(move || unread(port, done, &request))]
            }
            Burden::UnreadMonitor => {
                let mut all = vec![scope.spawn(move || unread(port, done, &encode(&["MONITOR"])))];
                for _ in 0..4 {
                    let request = encode(&["PUBLISH", "channel", &"x".repeat(100)]).repeat(100);
                    all.push(run(Box::new(move |socket| exchange(socket, &request, 400))));
                }
                all
            }
        }
    }
}

fn member(at: usize) -> String {
    format!("member:{at:08}")
}

/// Fills a store by commands of a thousand members each.
fn fill(port: u16, command: &str, key: &str, count: usize) {
    let mut client = Client::connect(port).with_patience(Duration::from_secs(60));
    let members: Vec<String> = (0..count).map(member).collect();
    for chunk in members.chunks(1000) {
        let mut words = vec![command];
        match key {
            "" => chunk.iter().for_each(|member| words.extend([member.as_str(), "v"])),
            key => words.extend(std::iter::once(key).chain(chunk.iter().map(String::as_str))),
        }
        assert!(!client.call(&words).is_error());
    }
}

/// Sends a request and takes a reply of so many bytes.
fn exchange(socket: &mut TcpStream, request: &[u8], mut reply: usize) {
    let mut taken = socket.try_clone().expect("share a socket");
    std::thread::scope(|scope| {
        if request.len() > 64 * 1024 {
            // Replies of a pipeline must be taken while it is sent.
            scope.spawn(|| taken.write_all(request).expect("send"));
        } else {
            taken.write_all(request).expect("send");
        }
        let mut chunk = vec![0; 256 * 1024];
        while reply > 0 {
            let most = chunk.len().min(reply);
            let count = socket.read(&mut chunk[..most]).expect("receive");
            assert!(count > 0, "closed");
            reply -= count;
        }
    });
}

fn repeat(port: u16, done: &AtomicBool, mut work: Box<dyn FnMut(&mut TcpStream) + Send>) -> u64 {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set an option");
    let mut times = 0;
    while !done.load(Ordering::Relaxed) {
        work(&mut socket);
        times += 1;
    }
    times
}

/// Asks, reads nothing, and asks again when it has been thrown out.
fn unread(port: u16, done: &AtomicBool, request: &[u8]) -> u64 {
    let mut times = 0;
    while !done.load(Ordering::Relaxed) {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        if socket.write_all(request).is_ok() {
            times += 1;
        }
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("set an option");
        while !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            if socket.take_error().is_ok_and(|error| error.is_some()) {
                break;
            }
        }
        let _ = socket.shutdown(Shutdown::Both);
    }
    times
}
