//! The floor: a mirror that knows nothing. One event loop, one connection to each store, bytes in, bytes out.
//!
//! It finds where requests and replies end, since without that nobody knows whose reply it is, and does
//! nothing else: no command table, no limits, no order of flags, no comparison, no metrics, no recovery.
//! What a proxy costs beyond this is the price of what it knows.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use multistore::resp::request::{Decoded, Decoder, RequestLimits};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;
/// Tokens of the two stores; clients come behind them.
const STORES: usize = 2;

struct Pipe {
    stream: TcpStream,
    out: Vec<u8>,
    rest: Vec<u8>,
    dirty: bool,
}

struct Client {
    pipe: Pipe,
    decoder: Decoder,
}

struct Store {
    pipe: Pipe,
    scanner: ReplyScanner,
    /// Whose replies are owed.
    owed: VecDeque<usize>,
}

struct Floor {
    stores: [Store; STORES],
    clients: Slab<Client>,
    dirty: Vec<usize>,
    scratch: Vec<u8>,
    limits: RequestLimits,
    reply_limits: ReplyLimits,
}

/// Mirrors what comes to `listen` to both stores; the first one answers. Until killed.
pub fn run(listen: SocketAddr, stores: [SocketAddr; STORES]) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut floor = Floor {
        stores: [dial(stores[0], 0, poll.registry())?, dial(stores[1], 1, poll.registry())?],
        clients: Slab::new(),
        dirty: Vec::new(),
        scratch: vec![0; READ_BYTES],
        limits: RequestLimits::default(),
        reply_limits: ReplyLimits::default(),
    };
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            // Somebody begins to trace it.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener, poll.registry())?,
                Token(store) if store < STORES => floor.read_store(store, event.is_writable())?,
                Token(client) => floor.read_client(client - STORES),
            }
        }
        floor.flush()?;
    }
}

fn dial(addr: SocketAddr, index: usize, registry: &Registry) -> io::Result<Store> {
    let stream = std::net::TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let pipe = Pipe::new(TcpStream::from_std(stream), index, registry)?;
    Ok(Store { pipe, scanner: ReplyScanner::new(), owed: VecDeque::new() })
}

// === impl Pipe ===

impl Pipe {
    fn new(mut stream: TcpStream, token: usize, registry: &Registry) -> io::Result<Pipe> {
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Pipe { stream, out: Vec::new(), rest: Vec::new(), dirty: false })
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(n) if n == self.out.len() => self.out.clear(),
                Ok(n) => drop(self.out.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

// === impl Floor ===

impl Floor {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            let entry = self.clients.vacant_entry();
            let pipe = Pipe::new(stream, entry.key() + STORES, registry)?;
            entry.insert(Client { pipe, decoder: Decoder::new() });
        }
        Ok(())
    }

    fn read_client(&mut self, key: usize) {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return };
            let n = match client.pipe.stream.read(&mut self.scratch) {
                Ok(n) if n > 0 => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => {
                    self.clients.remove(key);
                    return;
                }
            };
            let whole = client.pipe.rest.is_empty();
            if !whole {
                client.pipe.rest.extend_from_slice(&self.scratch[..n]);
            }
            let data = if whole { &self.scratch[..n] } else { &client.pipe.rest[..] };
            let mut at = 0;
            while let Ok(Decoded::Request { len, .. }) = client.decoder.decode(&data[at..], &self.limits) {
                at += len;
                self.stores.iter_mut().for_each(|store| store.owed.push_back(key));
            }
            self.stores.iter_mut().for_each(|store| store.pipe.out.extend_from_slice(&data[..at]));
            client.pipe.rest = data[at..].to_vec();
            if n < self.scratch.len() {
                return;
            }
        }
    }

    fn read_store(&mut self, index: usize, writable: bool) -> io::Result<()> {
        if writable {
            self.stores[index].pipe.flush()?;
        }
        loop {
            let store = &mut self.stores[index];
            let n = match store.pipe.stream.read(&mut self.scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            store.pipe.rest.extend_from_slice(&self.scratch[..n]);
            let mut at = 0;
            while let Ok(Scanned::Complete { len, .. }) =
                store.scanner.scan(&store.pipe.rest[at..], &self.reply_limits)
            {
                let owner = store.owed.pop_front();
                if index == 0
                    && let Some(key) = owner
                    && let Some(client) = self.clients.get_mut(key)
                {
                    client.pipe.out.extend_from_slice(&store.pipe.rest[at..at + len]);
                    if !std::mem::replace(&mut client.pipe.dirty, true) {
                        self.dirty.push(key);
                    }
                }
                at += len;
            }
            store.pipe.rest.drain(..at);
            if n < self.scratch.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        for key in self.dirty.drain(..) {
            if let Some(client) = self.clients.get_mut(key) {
                client.pipe.dirty = false;
                // A client that does not read is of no interest here.
                let _ = client.pipe.flush();
            }
        }
        self.stores.iter_mut().try_for_each(|store| store.pipe.flush())
    }
}
