//! A worker thread and its instances.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::admin::InstanceStatus;
use crate::admin::orders::What;
use crate::config::{Auth, Config};
use crate::instance::admission::Seat;
use crate::instance::{self, ClientInfo, Instance};
use crate::metrics::{Metrics, RejectReason};
use crate::net::{split_tcp, split_tls, split_unix};
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
const DRAIN_STEP: Duration = Duration::from_millis(5);
/// How often idle clients are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Runs the instances of one thread until the main thread ends.
pub(super) fn run(
    share: Vec<(String, Bound)>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    state: Arc<StateFile>,
    inbox: mpsc::Receiver<Order>,
    ready: oneshot::Sender<()>,
) {
    // Not a LocalSet: that is a second scheduler inside the first, which wakes the thread it runs on.
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("a worker thread cannot start: {error}");
            std::process::exit(1);
        }
    };
    runtime.block_on(serve(share, config, metrics, state, inbox, ready));
}

/// An instance and the task that accepts its clients.
struct Served {
    instance: Rc<Instance>,
    accepting: Option<JoinHandle<()>>,
}

async fn serve(
    share: Vec<(String, Bound)>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    state: Arc<StateFile>,
    mut inbox: mpsc::Receiver<Order>,
    ready: oneshot::Sender<()>,
) {
    let mut served = Vec::new();
    for (name, bound) in share {
        let instance = Instance::new(&name, &config, &metrics, state.clone());
        instance::spawn_tasks(&instance);
        spawn_local(sweep(instance.clone()));
        instance.record();
        match bound.adopt() {
            Ok(listener) => served.push((instance, listener)),
            Err(error) => tracing::error!(instance = %name, "cannot listen: {error}"),
        }
    }
    let mut all = Vec::new();
    for (instance, listener) in served {
        instance.first_attempts().await;
        let accepting = Some(spawn_local(accept(instance.clone(), listener)));
        all.push(Served { instance, accepting });
    }
    let _ = ready.send(());
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Configure(config) => all.iter().for_each(|served| served.instance.reconfigure(&config)),
            Order::Report(answer) => {
                let _ = answer.send(all.iter().map(|served| served.instance.status()).collect());
            }
            Order::Operate { instance, what, answer } => {
                let found = all.iter().find(|served| served.instance.name == instance);
                let _ = answer.send(found.map(|served| served.instance.operate(what)));
            }
            Order::Quit => return,
            Order::Drain(done) => {
                for served in &mut all {
                    if let Some(accepting) = served.accepting.take() {
                        accepting.abort();
                    }
                    served.instance.begin_drain();
                }
                spawn_local(drained(all.iter().map(|served| served.instance.clone()).collect(), done));
            }
        }
    }
}

async fn accept(instance: Rc<Instance>, listener: Listener) {
    instance.listening.set(true);
    let _closed = Closed(instance.clone());
    loop {
        match listener.accept().await {
            Ok((incoming, info)) => {
                instance.metrics.connections_accepted.inc();
                match instance.admit(incoming.address()) {
                    Ok(seat) => drop(spawn_local(greet(instance.clone(), seat, incoming, info))),
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

/// Shakes hands, where clients speak TLS, and serves the client until it is gone.
async fn greet(instance: Rc<Instance>, seat: Seat, incoming: Incoming, info: ClientInfo) {
    let _seat = seat;
    let within = instance.config_ref().handshake_timeout;
    let (reader, writer) = match (incoming, instance.listener_tls()) {
        (Incoming::Unix(stream), _) => split_unix(stream),
        (Incoming::Tcp(stream, _), None) if instance.config_ref().tls.is_none() => split_tcp(stream),
        (Incoming::Tcp(stream, _), tls) => {
            let shaken = match tls {
                Some(tls) => timeout(within, TlsStream::accept(stream, tls)).await.ok().and_then(Result::ok),
                None => None,
            };
            let Some(stream) = shaken else {
                instance.metrics.connections_rejected[RejectReason::Handshake].inc();
                return;
            };
            split_tls(stream)
        }
    };
    session::serve(instance, reader, writer, info).await;
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
