//! A store made of a closure: answers like Redis where the proxy shakes hands, and as the test
//! wishes everywhere else. It can hang, cut, drip, and talk garbage.

use super::value::{Reader, Value, encode};
use super::{SOON, poll_until};
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the store does with one command.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What an empty Redis would say: handshakes properly, everything else `+OK`.
    Usual,
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, one by one with a pause between.
    Drip(Vec<u8>, Duration),
    /// These bytes, and then the connection is closed.
    BytesAndCut(Vec<u8>),
    /// No answer to this command; the connection stays and later commands are answered.
    Swallow,
    /// No answer to this and any later command of this connection.
    Hang,
    /// The connection is closed.
    Cut,
}

/// One command that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The connection, counted from 1 in the order in which they came; also its CLIENT ID.
    pub connection: i64,
    /// The words as they came.
    pub args: Vec<Vec<u8>>,
}

/// The scripted store. Ends when dropped.
pub struct ScriptedStore {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    script: Mutex<Arc<Script>>,
    commands: Mutex<Vec<Request>>,
    connections: Mutex<Vec<(i64, TcpStream)>>,
    next_id: AtomicI64,
    refuse: AtomicBool,
    ended: AtomicBool,
    run_id: Mutex<String>,
}

// === impl Request ===

impl Request {
    /// The command's name in capitals.
    pub fn name(&self) -> String {
        self.arg(0).to_uppercase()
    }

    /// One word as text; empty when there is none.
    pub fn arg(&self, at: usize) -> String {
        self.args.get(at).map(|arg| String::from_utf8_lossy(arg).into_owned()).unwrap_or_default()
    }

    /// All words as text.
    pub fn line(&self) -> String {
        (0..self.args.len()).map(|at| self.arg(at)).collect::<Vec<_>>().join(" ")
    }
}

// === impl Answer ===

impl Answer {
    /// These bytes.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Answer {
        Answer::Bytes(bytes.as_ref().to_vec())
    }
}

// === impl ScriptedStore ===

impl ScriptedStore {
    /// A store that answers as usual, except where the closure says otherwise.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> ScriptedStore {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            commands: Mutex::default(),
            connections: Mutex::default(),
            next_id: AtomicI64::new(1),
            refuse: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            run_id: Mutex::new(format!("{:040x}", u64::from(port))),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        ScriptedStore { shared, port, acceptor: Some(acceptor) }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Replaces the closure, for commands from now on.
    pub fn script(&self, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// Every command so far, in the order in which they came.
    pub fn commands(&self) -> Vec<Request> {
        lock(&self.shared.commands).clone()
    }

    /// How many commands of this name came.
    pub fn count_of(&self, name: &str) -> usize {
        lock(&self.shared.commands).iter().filter(|request| request.name() == name).count()
    }

    /// Waits until a command of this name has come.
    #[track_caller]
    pub fn wait_for(&self, name: &str) {
        poll_until(SOON, &format!("{name} at the scripted store"), || self.count_of(name) > 0);
    }

    /// How many connections were ever accepted.
    pub fn accepted(&self) -> i64 {
        self.shared.next_id.load(Ordering::SeqCst) - 1
    }

    /// Closes every connection.
    pub fn cut_all(&self) {
        for (_, stream) in lock(&self.shared.connections).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// While on, new connections are closed at once.
    pub fn refuse(&self, on: bool) {
        self.shared.refuse.store(on, Ordering::SeqCst);
    }

    /// Changes the run_id, as if another server stood here now.
    pub fn set_run_id(&self, id: &str) {
        *lock(&self.shared.run_id) = id.to_owned();
    }
}

impl Drop for ScriptedStore {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut_all();
        // Wakes the acceptor from its accept.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.cut_all();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if shared.refuse.load(Ordering::SeqCst) {
            continue;
        }
        let id = shared.next_id.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        lock(&shared.connections).push((id, stream.try_clone().expect("share a socket")));
        let shared = Arc::clone(shared);
        std::thread::spawn(move || serve(&stream, id, &shared));
    }
}

/// One connection until it ends.
fn serve(stream: &TcpStream, id: i64, shared: &Shared) {
    let mut reader = Reader::new(stream);
    let mut transaction: Option<Vec<Vec<u8>>> = None;
    let mut hung = false;
    while let Ok((command, _)) = reader.read() {
        let args = command.items().iter().map(|arg| arg.bytes().to_vec()).collect();
        let request = Request { connection: id, args };
        lock(&shared.commands).push(request.clone());
        let script = Arc::clone(&lock(&shared.script));
        let answer = script(&request);
        hung |= matches!(answer, Answer::Hang);
        if hung {
            continue;
        }
        if !perform(stream, answer, &request, &mut transaction, shared) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    lock(&shared.connections).retain(|(other, _)| *other != id);
}

/// False when the connection is to be closed.
fn perform(
    mut stream: &TcpStream,
    answer: Answer,
    request: &Request,
    transaction: &mut Option<Vec<Vec<u8>>>,
    shared: &Shared,
) -> bool {
    match answer {
        Answer::Usual => {
            let reply = in_transaction(usual(request, shared), request, transaction);
            stream.write_all(&reply).is_ok()
        }
        Answer::Bytes(bytes) if transaction.is_some() => {
            let reply = in_transaction(bytes, request, transaction);
            stream.write_all(&reply).is_ok()
        }
        Answer::Bytes(bytes) => stream.write_all(&bytes).is_ok(),
        Answer::Drip(bytes, pause) => bytes.iter().all(|byte| {
            std::thread::sleep(pause);
            stream.write_all(&[*byte]).is_ok()
        }),
        Answer::BytesAndCut(bytes) => {
            let _ = stream.write_all(&bytes);
            false
        }
        Answer::Swallow | Answer::Hang => true,
        Answer::Cut => false,
    }
}

/// Inside MULTI the reply waits for EXEC.
fn in_transaction(reply: Vec<u8>, request: &Request, transaction: &mut Option<Vec<Vec<u8>>>) -> Vec<u8> {
    match (request.name().as_str(), transaction.as_mut()) {
        ("MULTI", None) => {
            *transaction = Some(Vec::new());
            reply
        }
        ("DISCARD", Some(_)) => {
            *transaction = None;
            reply
        }
        ("EXEC", Some(replies)) => {
            let mut out = format!("*{}\r\n", replies.len()).into_bytes();
            out.extend(replies.drain(..).flatten());
            *transaction = None;
            out
        }
        (_, Some(replies)) => {
            replies.push(reply);
            b"+QUEUED\r\n".to_vec()
        }
        (_, None) => reply,
    }
}

/// What an empty Redis would say, as far as a proxy asks.
fn usual(request: &Request, shared: &Shared) -> Vec<u8> {
    let sub = request.arg(1).to_uppercase();
    match (request.name().as_str(), sub.as_str()) {
        ("PING", "") => b"+PONG\r\n".to_vec(),
        ("PING" | "ECHO", _) => bulk(&request.arg(1)),
        ("HELLO", version) => hello(version == "3", request.connection),
        ("CLIENT", "ID") => format!(":{}\r\n", request.connection).into_bytes(),
        ("CLIENT", "LIST" | "INFO") => bulk(&clients(shared)),
        ("CLIENT", "KILL") => kill(request, shared),
        ("CLIENT", "GETNAME") => b"$-1\r\n".to_vec(),
        ("INFO", _) => bulk(&info(shared)),
        ("COMMAND", "INFO") => repeated(request.args.len().saturating_sub(2), "*-1\r\n"),
        ("COMMAND", "COUNT") | ("DBSIZE", _) => b":0\r\n".to_vec(),
        ("COMMAND", _) => b"*0\r\n".to_vec(),
        ("CONFIG", "GET") => b"*0\r\n".to_vec(),
        ("ROLE", _) => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    }
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

fn repeated(count: usize, item: &str) -> Vec<u8> {
    format!("*{count}\r\n{}", item.repeat(count)).into_bytes()
}

fn hello(resp3: bool, id: i64) -> Vec<u8> {
    let start = if resp3 { "%7\r\n" } else { "*14\r\n" };
    let proto = if resp3 { 3 } else { 2 };
    let mut out = start.as_bytes().to_vec();
    for (field, value) in
        [("server", "redis"), ("version", "7.0.15"), ("mode", "standalone"), ("role", "master")]
    {
        out.extend(bulk(field));
        out.extend(bulk(value));
    }
    out.extend(bulk("proto"));
    out.extend(format!(":{proto}\r\n").into_bytes());
    out.extend(bulk("id"));
    out.extend(format!(":{id}\r\n").into_bytes());
    out.extend(bulk("modules"));
    out.extend(b"*0\r\n");
    out
}

fn clients(shared: &Shared) -> String {
    let connections = lock(&shared.connections);
    connections.iter().map(|(id, _)| format!("id={id} addr=127.0.0.1:1 name= db=0 user=default\n")).collect()
}

/// `CLIENT KILL ID n` closes that connection, as Redis does.
fn kill(request: &Request, shared: &Shared) -> Vec<u8> {
    let wanted = request.args.iter().position(|arg| arg.eq_ignore_ascii_case(b"id"));
    let id: Option<i64> = wanted.and_then(|at| request.arg(at + 1).parse().ok());
    let connections = lock(&shared.connections);
    let Some((_, stream)) = connections.iter().find(|(other, _)| Some(*other) == id) else {
        return b":0\r\n".to_vec();
    };
    let _ = stream.shutdown(Shutdown::Both);
    b":1\r\n".to_vec()
}

fn info(shared: &Shared) -> String {
    let run_id = lock(&shared.run_id);
    format!(
        "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:{run_id}\r\n\
         # Persistence\r\nloading:0\r\n# Replication\r\nrole:master\r\nmaster_replid:{run_id}\r\n\
         master_repl_offset:0\r\n# Keyspace\r\n"
    )
}
