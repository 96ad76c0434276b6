//! A network that misbehaves on demand: stands between the proxy and a real store, and knows where a reply ends.
//!
//! It passes everything on until a [`Fault`] is armed; the next reply on a connection of the [`Target`] kind is struck by it.
//! Faults after which replies and requests do not match open a window in [`Astray`], which ends when somebody ends the
//! connection: what clients are told in between is worth nothing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Replies are held back for so long, once.
    Delay(Duration),
    /// This many replies come byte by byte.
    Drip(u32),
    /// The connection ends in the middle of a reply.
    CutWithinReply,
    /// The connection ends when the store has got a part of a request.
    CutWithinRequest,
    /// Nothing more comes from the store, while it goes on to execute what it is sent.
    HalfCloseToProxy,
    /// Nothing more is sent to the store, and what it still answers comes.
    HalfCloseToStore,
    /// Bytes that are no reply, between two replies.
    GarbageBetween,
    /// Bytes that do not belong there, within a reply.
    GarbageWithin,
    /// A part of a reply, and then nothing, on an open connection.
    PartThenSilence,
    /// HELLO 3 is answered as if the server knew RESP2 alone.
    OldProtocol,
    /// A reply that nobody asked for.
    ReplyTooMany,
    /// A reply is lost, and those behind it come.
    ReplyTooFew,
    /// Every connection ends, and for so long none is accepted.
    Refuse(Duration),
    /// Every connection ends, and for so long new ones are accepted and nothing is answered.
    BlackHole(Duration),
}

/// Which connections are struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A lane: it has a name.
    Lane,
    /// A connection that serves one client.
    Dedicated,
}

/// When replies cannot be believed, for all who want to know.
#[derive(Debug, Default)]
pub struct Astray {
    opened: AtomicU64,
    closed: AtomicU64,
}

/// The network before one store.
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    store: u16,
    astray: Arc<Astray>,
    armed: Mutex<Option<(Fault, Target)>>,
    /// Faults that have struck.
    struck: AtomicU64,
    closed_until: Mutex<Option<(Instant, bool)>>,
    connections: Mutex<Vec<Arc<Link>>>,
    ended: AtomicBool,
}

/// One connection through the network.
struct Link {
    proxy: TcpStream,
    store: TcpStream,
    named: AtomicBool,
    cut_requests: AtomicBool,
    /// The proxy has ended it.
    ended: AtomicBool,
}

/// What every lane calls itself.
const LANE_NAME: &[u8] = b"multistore:";
/// Within so many bytes of requests a lane has said its name.
const HANDSHAKE_BYTES: usize = 4096;
const READ_BYTES: usize = 64 * 1024;
const DRIP_PAUSE: Duration = Duration::from_micros(200);

// === impl Fault ===

impl Fault {
    /// Do replies not match requests any more?
    pub fn misaligns(self) -> bool {
        matches!(self, Fault::ReplyTooMany | Fault::ReplyTooFew)
    }
}

// === impl Astray ===

impl Astray {
    /// To be taken before a request is sent, for [`Astray::since`].
    pub fn stamp(&self) -> (u64, u64) {
        (self.opened.load(Ordering::SeqCst), self.closed.load(Ordering::SeqCst))
    }

    /// May a reply that was received since `stamp` be somebody else's?
    pub fn since(&self, stamp: (u64, u64)) -> bool {
        let now = self.stamp();
        now != stamp || now.0 != now.1
    }

    /// Is a connection out of step at this moment?
    pub fn is_open(&self) -> bool {
        let (opened, closed) = self.stamp();
        opened != closed
    }
}

// === impl FaultProxy ===

impl FaultProxy {
    /// Stands before the store on `port`.
    pub fn before(port: u16, astray: &Arc<Astray>) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            store: port,
            astray: astray.clone(),
            armed: Mutex::new(None),
            struck: AtomicU64::new(0),
            closed_until: Mutex::new(None),
            connections: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || accept(&listener, &accepting));
        FaultProxy { port: own, shared }
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The next reply on such a connection is struck.
    pub fn arm(&self, fault: Fault, target: Target) {
        let until = |time: Duration| Some(Instant::now() + time);
        match fault {
            Fault::Refuse(time) => *lock(&self.shared.closed_until) = until(time).map(|end| (end, false)),
            Fault::BlackHole(time) => *lock(&self.shared.closed_until) = until(time).map(|end| (end, true)),
            _ => {
                *lock(&self.shared.armed) = Some((fault, target));
                return;
            }
        }
        self.cut_all();
        self.shared.struck.fetch_add(1, Ordering::SeqCst);
    }

    /// Nothing more is to go wrong. True: it had not gone wrong yet.
    pub fn disarm(&self) -> bool {
        lock(&self.shared.armed).take().is_some()
    }

    /// How many faults have struck.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// Ends every connection.
    pub fn cut_all(&self) {
        lock(&self.shared.connections).iter().for_each(|link| link.cut());
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.cut_all();
    }
}

// === impl Shared ===

impl Shared {
    /// The armed fault, if it is for this connection.
    fn take(&self, link: &Link, fits: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut armed = lock(&self.armed);
        let (fault, target) = (*armed)?;
        let named = link.named.load(Ordering::SeqCst);
        // What still comes after its owner has gone, nobody reads.
        let gone = link.ended.load(Ordering::SeqCst);
        if gone || named != (target == Target::Lane) || !fits(fault) {
            return None;
        }
        *armed = None;
        if fault.misaligns() {
            self.astray.opened.fetch_add(1, Ordering::SeqCst);
        }
        self.struck.fetch_add(1, Ordering::SeqCst);
        Some(fault)
    }

    /// Is the way closed? And if so, does it look open?
    fn closed(&self) -> Option<bool> {
        let mut closed = lock(&self.closed_until);
        if closed.is_some_and(|(end, _)| end <= Instant::now()) {
            *closed = None;
        }
        closed.map(|(_, silent)| silent)
    }
}

// === impl Link ===

impl Link {
    fn cut(&self) {
        let _ = self.proxy.shutdown(Shutdown::Both);
        let _ = self.store.shutdown(Shutdown::Both);
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut held = Vec::new();
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        match shared.closed() {
            Some(true) => held.push(stream),
            Some(false) => drop(stream),
            None => {
                held.clear();
                // A store that is down: the connection ends, as if nobody had listened.
                let Ok(store) = TcpStream::connect(("127.0.0.1", shared.store)) else { continue };
                begin(stream, store, shared);
            }
        }
    }
}

fn begin(proxy: TcpStream, store: TcpStream, shared: &Arc<Shared>) {
    let _ = proxy.set_nodelay(true);
    let _ = store.set_nodelay(true);
    let link = Arc::new(Link {
        proxy,
        store,
        named: AtomicBool::new(false),
        cut_requests: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    lock(&shared.connections).push(link.clone());
    let (requests, replies, shared) = (link.clone(), link, shared.clone());
    std::thread::spawn(move || {
        let _ = pass_requests(&requests);
        requests.ended.store(true, Ordering::SeqCst);
        // What the store still answers is passed on.
        let _ = requests.store.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let mut way = Replies { link: &replies, shared: &shared, misaligned: false, dripping: 0 };
        let _ = way.pass();
        let misaligned = way.misaligned;
        replies.cut();
        lock(&shared.connections).retain(|link| !Arc::ptr_eq(link, &replies));
        if misaligned {
            shared.astray.closed.fetch_add(1, Ordering::SeqCst);
        }
    });
}

fn pass_requests(link: &Link) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut seen = 0;
    loop {
        let count = (&link.proxy).read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        if seen < HANDSHAKE_BYTES && bytes.windows(LANE_NAME.len()).any(|window| window == LANE_NAME) {
            link.named.store(true, Ordering::SeqCst);
        }
        seen += count;
        if link.cut_requests.load(Ordering::SeqCst) {
            (&link.store).write_all(&bytes[..count / 2])?;
            link.cut();
            return Ok(());
        }
        (&link.store).write_all(bytes)?;
    }
}

/// The way of replies, in whole frames.
struct Replies<'a> {
    link: &'a Link,
    shared: &'a Shared,
    misaligned: bool,
    dripping: u32,
}

// === impl Replies ===

impl Replies<'_> {
    fn pass(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut pending = Vec::new();
        loop {
            let count = (&self.link.store).read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            pending.extend_from_slice(&buffer[..count]);
            let mut start = 0;
            let mut out = Vec::new();
            while let Some(len) = frame_len(&pending[start..]) {
                self.frame(&pending[start..start + len], &mut out)?;
                start += len;
            }
            pending.drain(..start);
            self.send(&out)?;
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.link.proxy).write_all(bytes)
    }

    /// One reply: into `out`, which is sent when no other is there, or struck.
    fn frame(&mut self, frame: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        if self.dripping > 0 {
            self.dripping -= 1;
            return self.drip(frame, out);
        }
        let Some(fault) = self.shared.take(self.link, |fault| strikes(fault, frame)) else {
            out.extend_from_slice(frame);
            return Ok(());
        };
        self.misaligned |= fault.misaligns();
        let middle = (frame.len() / 2).max(1);
        match fault {
            Fault::Delay(time) => {
                self.send(out)?;
                out.clear();
                std::thread::sleep(time);
                out.extend_from_slice(frame);
            }
            Fault::Drip(count) => {
                self.dripping = count;
                self.drip(frame, out)?;
            }
            Fault::CutWithinReply => {
                out.extend_from_slice(&frame[..middle]);
                self.send(out)?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Fault::CutWithinRequest => {
                self.link.cut_requests.store(true, Ordering::SeqCst);
                out.extend_from_slice(frame);
            }
            Fault::HalfCloseToProxy => {
                self.send(out)?;
                self.link.proxy.shutdown(Shutdown::Write)?;
                return self.silence();
            }
            Fault::HalfCloseToStore => {
                out.extend_from_slice(frame);
                self.link.store.shutdown(Shutdown::Write)?;
            }
            Fault::GarbageBetween => {
                out.extend_from_slice(frame);
                out.extend_from_slice(b"\x00HTTP/1.1 400 Bad Request\r\n\r\n");
            }
            Fault::GarbageWithin => {
                out.push(frame[0]);
                out.extend_from_slice(b"?\xff");
                out.extend_from_slice(&frame[1..]);
            }
            Fault::PartThenSilence => {
                out.extend_from_slice(&frame[..middle]);
                self.send(out)?;
                return self.silence();
            }
            Fault::OldProtocol => out.extend(flattened(frame)),
            Fault::ReplyTooMany => {
                out.extend_from_slice(frame);
                out.extend_from_slice(frame);
            }
            Fault::ReplyTooFew => {}
            Fault::Refuse(_) | Fault::BlackHole(_) => unreachable!("strikes when it is armed"),
        }
        Ok(())
    }

    fn drip(&self, frame: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.send(out)?;
        out.clear();
        // A value of a megabyte is not to take minutes.
        for part in frame.chunks((frame.len() / 200).max(1)) {
            self.send(part)?;
            std::thread::sleep(DRIP_PAUSE);
        }
        Ok(())
    }

    /// The store goes on, and nobody hears it, until the proxy or the store has had enough.
    fn silence(&self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        while (&self.link.store).read(&mut buffer)? > 0 {}
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// Is this a reply that the fault can be done to?
fn strikes(fault: Fault, frame: &[u8]) -> bool {
    match fault {
        Fault::OldProtocol => frame.starts_with(b"%") && frame.windows(5).any(|window| window == b"proto"),
        // A simple string would only have another text.
        Fault::GarbageWithin => matches!(frame[0], b'$' | b':' | b'*' | b'%'),
        _ => true,
    }
}

/// The map as an array of RESP2.
fn flattened(map: &[u8]) -> Vec<u8> {
    let end = map.windows(2).position(|window| window == b"\r\n").expect("a header");
    let pairs: usize = std::str::from_utf8(&map[1..end]).expect("a number").parse().expect("a number");
    [format!("*{}", pairs * 2).as_bytes(), &map[end..]].concat()
}

/// The length of the reply at the beginning; `None` when it is not all there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let number = || std::str::from_utf8(&bytes[1..end]).ok()?.parse::<i64>().ok();
    let header = end + 2;
    let items = |count: i64| (0..count).try_fold(header, |at, _| Some(at + frame_len(bytes.get(at..)?)?));
    match bytes[0] {
        b'$' | b'=' | b'!' => match number()? {
            -1 => Some(header),
            len => {
                let whole = header + len as usize + 2;
                (bytes.len() >= whole).then_some(whole)
            }
        },
        b'*' | b'~' | b'>' => items(number()?),
        b'%' => items(number()? * 2),
        b'|' => {
            let pairs = items(number()? * 2)?;
            Some(pairs + frame_len(bytes.get(pairs..)?)?)
        }
        _ => Some(header),
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
