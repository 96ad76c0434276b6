//! The driver of one lane: keeps it connected, moves its bytes. Decides nothing about requests.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::instance::Instance;
use crate::metrics::StoreErrorKind;
use crate::net::{ReadHalf, WriteHalf, split};
use crate::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use crate::sequencer::lane::DownReason;
use crate::stage::StoreId;

use super::connection::Endpoint;
use super::handshake::{Identity, Plan, Ready, lane_name, locate, own_name};
use super::sentinel;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// A reply that is longer, and not complete, flows to its client in pieces.
const FLOW_BYTES: usize = 32 * 1024;
/// A connection that ends sooner, without a single reply, was of no use.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// A write buffer that may be kept for reuse.
const KEEP_WRITE_BYTES: usize = 256 * 1024;

/// Why a connected lane ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the store closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("what the store sent is no reply: {0}")]
    Protocol(#[from] crate::resp::reply::ReplyError),
    #[error("{0}")]
    OutOfStep(#[from] crate::sequencer::OutOfStep),
    #[error("no byte within lane_timeout while replies are owed")]
    Silent,
    #[error("the sentinels name another master")]
    Moved,
    #[error("internal error: the task that writes to the store has panicked")]
    Panicked,
}

/// Keeps the lane of `store` connected until the task is dropped.
pub async fn run(instance: Rc<Instance>, store: StoreId) {
    let mut driver = Driver { instance, store, predecessor: None, failures: 0, overlaid: String::new() };
    let mut useless = 0;
    loop {
        match driver.connect().await {
            Ok(ready) => {
                let since = Instant::now();
                let served = driver.serve(ready).await;
                useless = if served || since.elapsed() >= SHORT_LIFE { 0 } else { useless + 1 };
                if useless > 1 {
                    // Once may be chance; a store that ends every connection is not to be hammered.
                    sleep(driver.delay(useless)).await;
                }
            }
            Err(reason) => driver.wait(reason).await,
        }
    }
}

struct Driver {
    instance: Rc<Instance>,
    store: StoreId,
    predecessor: Option<i64>,
    failures: u32,
    /// The server whose COMMAND has been read.
    overlaid: String,
}

// === impl Driver ===

impl Driver {
    async fn connect(&mut self) -> Result<Ready, DownReason> {
        let config = self.instance.config();
        let name = lane_name(&self.instance.name, self.store);
        let own_name = own_name(&self.instance.name, self.store);
        let given_up = self.instance.pool.given_up.of(self.store);
        let admit = |found: &Identity| self.instance.judge_newcomer(self.store, found);
        let plan = Plan {
            config: config.store(self.store),
            timeout: config.connect_timeout,
            name: &name,
            own_name: &own_name,
            predecessor: self.predecessor,
            given_up: &given_up,
            commands: self.overlaid.is_empty(),
            place: self.instance.place(self.store),
            admit: if self.instance.is_unjudged(self.store) { Some(&admit) } else { None },
        };
        let ready = plan.run().await?;
        self.instance.pool.given_up.ended(self.store, &given_up);
        Ok(ready)
    }

    /// Takes note of a failed attempt and waits before the next one: doubling, with jitter.
    async fn wait(&mut self, reason: DownReason) {
        let delay = self.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.instance.store_down(self.store, reason, delay);
        sleep(delay).await;
    }

    fn delay(&self, failures: u32) -> Duration {
        let config = self.instance.config_ref();
        let ceiling = config.reconnect_min.saturating_mul(1 << failures.min(16)).min(config.reconnect_max);
        ceiling.mul_f64(0.5 + 0.5 * self.instance.random())
    }

    /// Serves the lane until its connection ends. Has the store answered any request?
    async fn serve(&mut self, ready: Ready) -> bool {
        self.failures = 0;
        if !ready.commands.is_empty() {
            self.overlaid = ready.identity.version.clone();
        }
        self.predecessor = ready.client_id;
        let (reader, writer) = split(ready.socket);
        self.instance.store_up(self.store, ready.identity, ready.hello, ready.has_resp3, ready.commands);
        if let Some(error) = ready.haunted {
            self.instance.store_haunted(self.store, &error);
        }
        let writer = Rc::new(writer);
        let writing = tokio::task::spawn_local(write(self.instance.clone(), self.store, writer.clone()));
        // Two writers would tear the lane apart: this one ends with its connection, come what may.
        let mut writing = AbortOnDrop(writing);
        let answered = || self.instance.core().lane(self.store).answered();
        let before = answered();
        let ended = tokio::select! {
            ended = Reading::new(self.instance.clone(), self.store, reader).run() => ended,
            () = self.instance.lane_drop(self.store) => Ended::Silent,
            () = self.moved(ready.endpoint) => Ended::Moved,
            () = writing.panicked() => Ended::Panicked,
        };
        let kind = match ended {
            Ended::Closed | Ended::Io(_) | Ended::Panicked => StoreErrorKind::Lost,
            Ended::Protocol(_) => StoreErrorKind::Protocol,
            Ended::OutOfStep(_) => StoreErrorKind::OutOfStep,
            Ended::Silent => StoreErrorKind::Timeout,
            Ended::Moved => {
                self.instance.pool.forget(self.store);
                StoreErrorKind::Lost
            }
        };
        let served = answered() > before;
        self.instance.store_lost(self.store, kind, &ended.to_string()).await;
        served
    }
}

// === impl Driver ===

impl Driver {
    /// Returns when the sentinels name another master than the one that is connected. Never, without sentinels.
    async fn moved(&self, here: Endpoint) {
        let config = self.instance.config();
        let store = config.store(self.store);
        if !matches!(store.endpoint, crate::config::Endpoint::Sentinel(_)) {
            return std::future::pending().await;
        }
        loop {
            sleep(sentinel::ASK_EVERY).await;
            // A sentinel that is down says nothing about the master.
            if locate(store, config.connect_timeout).await.is_ok_and(|there| there != here) {
                return;
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

// === impl AbortOnDrop ===

impl AbortOnDrop {
    /// Returns if the task panics. Where it ends otherwise, the reader finds out why, behind the last reply.
    async fn panicked(&mut self) {
        if !(&mut self.0).await.is_err_and(|error| error.is_panic()) {
            std::future::pending().await
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes whatever the lane has, whenever it is woken: after all clients that were ready in this turn.
async fn write(instance: Rc<Instance>, store: StoreId, writer: Rc<WriteHalf>) {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if bytes.capacity() > KEEP_WRITE_BYTES {
            bytes = Vec::new();
        }
        instance.take_lane_output(store, &mut bytes);
        if bytes.is_empty() {
            instance.lane_output(store).await;
            continue;
        }
        #[cfg(test)]
        crate::instance::spring_trap_of_writer();
        if writer.write_all(&bytes).await.is_err() {
            // The reader finds out why, and ends the lane.
            return;
        }
    }
}

struct Reading {
    instance: Rc<Instance>,
    store: StoreId,
    reader: ReadHalf,
    scanner: ReplyScanner,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    flowing: bool,
}

// === impl Reading ===

impl Reading {
    fn new(instance: Rc<Instance>, store: StoreId, reader: ReadHalf) -> Reading {
        let scanner = ReplyScanner::new();
        Reading { instance, store, reader, scanner, buf: Vec::new(), start: 0, end: 0, flowing: false }
    }

    async fn run(mut self) -> Ended {
        loop {
            if let Err(ended) = self.turn().await {
                return ended;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Ended> {
        self.make_room();
        let spare = self.buf.get_mut(self.end..).unwrap_or_default();
        let most = spare.len().min(READ_BYTES);
        let n = self.reader.read(spare.get_mut(..most).unwrap_or_default()).await?;
        if n == 0 {
            return Err(Ended::Closed);
        }
        self.end += n;
        let limits = self.instance.reply_limits();
        let outcome = self.hand_over(&limits);
        self.instance.settle();
        if n == most {
            // There is more. Clients have their turn first: their requests are not to wait for a large reply.
            tokio::task::yield_now().await;
        }
        outcome
    }

    /// Room for one read. A buffer that has grown for one large reply is given back.
    fn make_room(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buf.len() > READ_BYTES * 4 {
                self.buf = Vec::new();
            }
        } else if self.buf.len() - self.end < READ_BYTES / 2 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buf.len() < self.end + READ_BYTES / 2 {
            // Room grows with what has come, and is touched only as far as the next read may reach.
            self.buf.reserve_exact(READ_BYTES.max(self.end / 2));
            self.buf.resize(self.end + READ_BYTES, 0);
        }
    }

    fn hand_over(&mut self, limits: &ReplyLimits) -> Result<(), Ended> {
        let mut core = self.instance.core_mut();
        let now = core.now();
        core.lane_mut(self.store).heard_at = now;
        while let Some(bytes) = self.buf.get(self.start..self.end)
            && !bytes.is_empty()
        {
            match self.scanner.scan(bytes, limits)? {
                Scanned::Complete { len, push } => {
                    let frame = bytes.get(..len).unwrap_or_default();
                    if std::mem::take(&mut self.flowing) {
                        core.on_last_piece(self.store, frame)?;
                    } else if !push {
                        core.on_frame(self.store, frame)?;
                    }
                    self.start += len;
                }
                Scanned::Incomplete => {
                    let certain = self.scanner.certain(bytes.len());
                    let large = bytes.len() >= FLOW_BYTES && !self.scanner.in_push();
                    if large && certain > 0 {
                        let piece = bytes.get(..certain).unwrap_or_default();
                        if core.on_piece(self.store, piece) {
                            self.scanner.forget(certain);
                            self.start += certain;
                            self.flowing = true;
                        }
                    }
                    break;
                }
            }
        }
        core.end_of_batch();
        Ok(())
    }
}

/// Time between probes of an idle lane.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);
