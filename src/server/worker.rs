//! A worker thread and its instances.
//!
//! Where an instance has failed (a panic left its state in doubt), everything of its worker begins anew, as after a
//! crash: clients and lanes are dropped, the listening sockets stay.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::admin::InstanceStatus;
use crate::admin::orders::What;
use crate::config::{Auth, Config};
use crate::instance::admission::Seat;
use crate::instance::{self, ClientInfo, Instance, spawn_vital};
use crate::logging::{Escaped, Throttle};
use crate::metrics::{Metrics, RejectReason};
use crate::net::{ReadHalf, WriteHalf, split_tcp, split_tls, split_unix};
use crate::session;
use crate::state::StateFile;
use crate::tls::TlsStream;

use super::listener::{Bound, Incoming, Listener};

/// What the main thread asks of a worker.
pub(super) enum Order {
    /// Take this configuration over.
    Configure(Arc<Config>),
    /// Tell the state of your instances.
    Report(oneshot::Sender<Vec<InstanceStatus>>),
    /// Accept no more, let clients finish, and say when all is done.
    Drain(oneshot::Sender<()>),
    /// End every task and connection: another process goes on.
    Quit,
    /// An operator's order.
    Operate {
        /// Which instance.
        instance: String,
        /// What it is to do.
        what: What,
        /// `None`: the instance is not here. An error: why not now.
        answer: oneshot::Sender<Option<Result<String, String>>>,
    },
}

/// Orders under way to one worker.
pub(super) const MAX_ORDERS: usize = 64;
/// How long a listener is left alone that cannot accept (out of descriptors, mostly).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How often a drain looks whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(1);
/// How often idle clients are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a failed handshake is logged.
static HANDSHAKE_FAILED: Throttle = Throttle::new(Duration::from_secs(10));
/// How long a worker that failed is left alone before it begins anew.
const RESTART_BACKOFF: Duration = Duration::from_millis(100);

/// What a worker serves, whenever it begins anew.
pub(super) struct Worker {
    /// Its instances, and their sockets.
    pub share: Vec<(String, Bound)>,
    /// The configuration in effect.
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub state: Arc<StateFile>,
    pub inbox: mpsc::Receiver<Order>,
}

/// Why a worker's instances are not served any more.
enum Ended {
    /// The main thread has said so, or is gone.
    Told,
    /// This instance has failed.
    Failed(String),
}

/// Runs the instances of one thread until the main thread ends.
pub(super) fn run(mut worker: Worker, ready: oneshot::Sender<()>) {
    let mut ready = Some(ready);
    loop {
        let failed = match catch_unwind(AssertUnwindSafe(|| worker.run_once(&mut ready))) {
            Ok(Ended::Told) => return,
            Ok(Ended::Failed(name)) => vec![name],
            Err(_) => worker.share.iter().map(|(name, _)| name.clone()).collect(),
        };
        for name in &failed {
            worker.metrics.restarts(name).inc();
            tracing::error!(instance = %name,
                "a panic has left the state of this instance in doubt: its clients and lanes are dropped, and those of \
                 all instances of its thread, and they begin anew as after a crash; while two stores are in use, the \
                 other one counts as behind until it is repaired");
        }
        if worker.share.is_empty() {
            // It was draining: nobody is to be served any more.
            return;
        }
        std::thread::sleep(RESTART_BACKOFF);
    }
}

fn build_runtime() -> LocalRuntime {
    // Not a LocalSet: that is a second scheduler inside the first, which wakes the thread it runs on.
    match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("a worker thread cannot start: {error}");
            std::process::exit(1);
        }
    }
}

/// An instance and the task that accepts its clients.
struct Served {
    instance: Rc<Instance>,
    accepting: Option<AbortHandle>,
}

// === impl Worker ===

impl Worker {
    /// Serves until it is told to end, or an instance fails. All tasks and connections end with it.
    fn run_once(&mut self, ready: &mut Option<oneshot::Sender<()>>) -> Ended {
        let instances: Vec<Rc<Instance>> = self
            .share
            .iter()
            .map(|(name, _)| Instance::new(name, &self.config, &self.metrics, self.state.clone()))
            .collect();
        build_runtime().block_on(async {
            tokio::select! {
                biased;
                name = any_failed(&instances) => Ended::Failed(name),
                () = self.serve(&instances, ready) => Ended::Told,
            }
        })
    }

    async fn serve(&mut self, instances: &[Rc<Instance>], ready: &mut Option<oneshot::Sender<()>>) {
        let mut all = Vec::new();
        for instance in instances {
            instance::spawn_tasks(instance);
            spawn_vital(instance, sweep(instance.clone()));
            instance.record();
        }
        for (instance, (name, bound)) in instances.iter().zip(&self.share) {
            match bound.duplicate().and_then(Bound::adopt) {
                Ok(listener) => all.push(Served::new(instance, listener).await),
                Err(error) => tracing::error!(instance = %name, "cannot listen: {error}"),
            }
        }
        if let Some(ready) = ready.take() {
            let _ = ready.send(());
        }
        while let Some(order) = self.inbox.recv().await {
            if self.obey(order, &mut all) {
                return;
            }
        }
    }

    /// True: nothing is served any more.
    fn obey(&mut self, order: Order, all: &mut [Served]) -> bool {
        match order {
            Order::Configure(config) => {
                all.iter().for_each(|served| served.instance.reconfigure(&config));
                self.config = config;
            }
            Order::Report(answer) => {
                let _ = answer.send(all.iter().map(|served| served.instance.status()).collect());
            }
            Order::Operate { instance, what, answer } => {
                let found = all.iter().find(|served| served.instance.name == instance);
                let _ = answer.send(found.map(|served| served.instance.operate(what)));
            }
            Order::Quit => return true,
            Order::Drain(done) => {
                for served in all.iter_mut() {
                    if let Some(accepting) = served.accepting.take() {
                        accepting.abort();
                    }
                    served.instance.begin_drain();
                }
                // Who connects from now on is refused.
                self.share.clear();
                spawn_local(drained(all.iter().map(|served| served.instance.clone()).collect(), done));
            }
        }
        false
    }
}

// === impl Served ===

impl Served {
    async fn new(instance: &Rc<Instance>, listener: Listener) -> Served {
        instance.first_attempts().await;
        let accepting = spawn_vital(instance, accept(instance.clone(), listener));
        Served { instance: instance.clone(), accepting: Some(accepting) }
    }
}

/// The name of the first instance that fails.
async fn any_failed(instances: &[Rc<Instance>]) -> String {
    let mut waits: Vec<_> = instances.iter().map(|instance| Box::pin(instance.failed())).collect();
    std::future::poll_fn(|cx| {
        let failed = waits.iter_mut().position(|wait| wait.as_mut().poll(cx).is_ready());
        match failed.and_then(|at| instances.get(at)) {
            Some(instance) => Poll::Ready(instance.name.clone()),
            None => Poll::Pending,
        }
    })
    .await
}

async fn accept(instance: Rc<Instance>, listener: Listener) {
    instance.listening.set(true);
    let _closed = Closed(instance.clone());
    loop {
        match listener.accept().await {
            Ok((incoming, info)) => {
                instance.metrics.connections_accepted.inc();
                match instance.admit(incoming.address()) {
                    Ok(seat) => greet(&instance, seat, incoming, info),
                    Err(reason) => turn_away(&instance, &incoming, reason),
                }
                if let Some(delay) = instance.connection_delay() {
                    sleep(delay).await;
                }
            }
            Err(error) => {
                instance.metrics.connections_rejected[RejectReason::Accept].inc();
                tracing::warn!(instance = %instance.name, "cannot accept a client: {error}");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Redis's error, for whoever can read it: a client that expects TLS cannot.
fn turn_away(instance: &Instance, incoming: &Incoming, reason: RejectReason) {
    instance.metrics.connections_rejected[reason].inc();
    if instance.config_ref().tls.is_none() {
        incoming.say(b"-ERR max number of clients reached\r\n");
    }
}

/// Shakes hands, where clients speak TLS, and serves the client until it is gone. Its task is as large as its state at
/// any time may be, and lives as long as the client does: a plain client's has no room for a handshake.
fn greet(instance: &Rc<Instance>, seat: Seat, incoming: Incoming, info: ClientInfo) {
    let tls = instance.listener_tls();
    let (reader, writer) = match incoming {
        Incoming::Unix(stream) => split_unix(stream),
        Incoming::Tcp(stream, _) if instance.config_ref().tls.is_none() => split_tcp(stream),
        Incoming::Tcp(stream, _) => {
            let instance = instance.clone();
            drop(spawn_local(async move {
                match shake_hands(&instance, stream, tls).await {
                    Ok((reader, writer)) => serve(&instance, seat, reader, writer, info),
                    Err(problem) => no_handshake(&instance, &info, &problem),
                }
            }));
            return;
        }
    };
    serve(instance, seat, reader, writer, info);
}

/// An error: it did not come to an encrypted connection.
async fn shake_hands(
    instance: &Instance,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) -> Result<(ReadHalf, WriteHalf), String> {
    let within = instance.config_ref().handshake_timeout;
    let tls = tls.ok_or("there is no usable certificate")?;
    let shaken = timeout(within, TlsStream::accept(stream, tls)).await;
    let shaken = shaken.map_err(|_| "it took longer than handshake_timeout")?;
    shaken.map(split_tls).map_err(|error| error.to_string())
}

fn serve(instance: &Rc<Instance>, seat: Seat, reader: ReadHalf, writer: WriteHalf, info: ClientInfo) {
    drop(spawn_local(session::serve(instance.clone(), seat, reader, writer, info)));
}

/// A failed handshake is counted, and one in a while is shown: strangers could fill the log.
fn no_handshake(instance: &Instance, info: &ClientInfo, problem: &str) {
    instance.metrics.connections_rejected[RejectReason::Handshake].inc();
    if let Some(suppressed) = HANDSHAKE_FAILED.admit(Instant::now()) {
        tracing::warn!(instance = %instance.name, client = %info.addr, suppressed,
            problem = %Escaped(problem.as_bytes()), "a client's TLS handshake failed");
    }
}

struct Closed(Rc<Instance>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.listening.set(false);
    }
}

/// Ends clients that have said nothing for longer than `client_idle_timeout`.
async fn sweep(instance: Rc<Instance>) {
    loop {
        sleep(SWEEP).await;
        instance.show_memory();
        // A changed certificate is noticed whether or not somebody connects.
        let _ = instance.listener_tls();
        let (asks, within) = {
            let config = instance.config_ref();
            (config.auth != Auth::None, config.handshake_timeout)
        };
        if asks {
            instance.end_unauthenticated(within);
        }
        let limit = instance.config_ref().client_idle_timeout;
        if !limit.is_zero() {
            instance.end_idle(limit);
        }
    }
}

/// Waits until no client is left and both stores have answered everything.
async fn drained(instances: Vec<Rc<Instance>>, done: oneshot::Sender<()>) {
    while !instances.iter().all(|instance| instance.is_drained()) {
        sleep(DRAIN_STEP).await;
    }
    instances.iter().for_each(|instance| instance.record_stop());
    let _ = done.send(());
}
