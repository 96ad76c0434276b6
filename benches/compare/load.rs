//! The clients: one thread, one event loop, every reply counted and timed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use socket2::{Domain, Socket, Type};

use super::work::{Maker, Work};

/// What a run of clients does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: usize,
    pub pipeline: usize,
    pub work: Work,
    pub value: usize,
    /// How long; the clients end with the batch that they are in.
    pub time: Duration,
    /// Or after so many requests.
    pub requests: Option<u64>,
    /// What keys begin with.
    pub prefix: String,
}

/// What came of it.
pub struct Outcome {
    pub requests: u64,
    pub errors: u64,
    pub elapsed: Duration,
    /// From the first byte of a batch to its last reply, in nanoseconds.
    pub latency: Histogram<u64>,
}

struct Client {
    stream: TcpStream,
    maker: Maker,
    scanner: ReplyScanner,
    out: Vec<u8>,
    sent: usize,
    rest: Vec<u8>,
    owed: u32,
    since: Instant,
}

/// A client that gets no reply for so long has lost it.
pub const PATIENCE: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 256 * 1024;

/// Runs the clients of a plan against `addr`.
pub fn run(addr: SocketAddr, plan: &Plan) -> io::Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut clients = connect(addr, plan, &poll)?;
    let mut outcome = Outcome {
        requests: 0,
        errors: 0,
        elapsed: Duration::ZERO,
        latency: Histogram::new(3).expect("valid"),
    };
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; READ_BYTES];
    let begin = Instant::now();
    let end = begin + plan.time;
    for client in &mut clients {
        client.next_batch(plan.pipeline)?;
    }
    let batches = plan.requests.map_or(u64::MAX, |requests| requests / plan.pipeline as u64);
    let mut begun = clients.len() as u64;
    let mut running = clients.len();
    while running > 0 {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("{running} clients wait for replies")));
        }
        for event in &events {
            let Some(client) = clients.get_mut(event.token().0) else { continue };
            if event.is_writable() {
                client.flush()?;
            }
            if !event.is_readable() || client.owed == 0 {
                continue;
            }
            if client.take_replies(&mut scratch, &mut outcome)? {
                outcome.requests += plan.pipeline as u64;
                let now = Instant::now();
                let nanos = (now - client.since).as_nanos() as u64;
                outcome.latency.record(nanos).expect("an automatic range");
                if now < end && begun < batches {
                    begun += 1;
                    client.next_batch(plan.pipeline)?;
                } else {
                    running -= 1;
                }
            }
        }
    }
    outcome.elapsed = begin.elapsed();
    Ok(outcome)
}

/// Sends `requests` on one connection and reads as many replies as there are requests in it.
pub fn send_all(addr: SocketAddr, requests: &[u8], replies: u64) -> io::Result<()> {
    let stream = std::net::TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(requests));
        let (mut scanner, limits) = (ReplyScanner::new(), ReplyLimits::default());
        let (mut rest, mut scratch, mut seen) = (Vec::new(), vec![0; READ_BYTES], 0);
        while seen < replies {
            let n = (&stream).read(&mut scratch)?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            rest.extend_from_slice(&scratch[..n]);
            seen += scan(&mut scanner, &limits, &mut rest, |_| ())?;
        }
        Ok(())
    })
}

/// Connections from one address to one other. With many more the kernel has to look at thousands of ports for each before
/// it finds a free one, and ten thousand take minutes.
const PER_ADDRESS: usize = 1_000;

/// Connects the client with this number: from 127.0.0.1, or where there are many from 127.0.0.2 and so on.
pub fn dial(addr: SocketAddr, number: usize) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if number >= PER_ADDRESS {
        let last = u8::try_from(1 + number / PER_ADDRESS).map_err(io::Error::other)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into())?;
    }
    socket.connect(&addr.into())?;
    Ok(socket.into())
}

fn connect(addr: SocketAddr, plan: &Plan, poll: &Poll) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for index in 0..plan.clients {
        let stream = dial(addr, index)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        clients.push(Client {
            stream,
            maker: Maker::new(
                plan.work,
                &plan.prefix,
                plan.value,
                0x9e37_79b9_7f4a_7c15 ^ (index as u64) << 32,
            ),
            scanner: ReplyScanner::new(),
            out: Vec::new(),
            sent: 0,
            rest: Vec::new(),
            owed: 0,
            since: Instant::now(),
        });
    }
    Ok(clients)
}

// === impl Client ===

impl Client {
    fn next_batch(&mut self, pipeline: usize) -> io::Result<()> {
        self.out.clear();
        self.sent = 0;
        self.owed = (0..pipeline).map(|_| self.maker.write(&mut self.out)).sum();
        self.since = Instant::now();
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until nothing is there. True: the batch is answered.
    fn take_replies(&mut self, scratch: &mut [u8], outcome: &mut Outcome) -> io::Result<bool> {
        let limits = ReplyLimits::default();
        loop {
            let n = match self.stream.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            self.rest.extend_from_slice(&scratch[..n]);
            let mut errors = 0;
            let seen = scan(&mut self.scanner, &limits, &mut self.rest, |frame| {
                errors += u64::from(frame.first() == Some(&b'-'));
            })?;
            outcome.errors += errors;
            self.owed = self.owed.saturating_sub(seen as u32);
            if self.owed == 0 {
                return Ok(true);
            }
            if n < scratch.len() {
                return Ok(false);
            }
        }
    }
}

/// Takes complete replies from the front of `rest`.
fn scan(
    scanner: &mut ReplyScanner,
    limits: &ReplyLimits,
    rest: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]),
) -> io::Result<u64> {
    let (mut at, mut seen) = (0, 0);
    while at < rest.len() {
        match scanner.scan(&rest[at..], limits).map_err(io::Error::other)? {
            Scanned::Complete { len, .. } => {
                each(&rest[at..at + len]);
                at += len;
                seen += 1;
            }
            Scanned::Incomplete => break,
        }
    }
    rest.drain(..at);
    Ok(seen)
}
