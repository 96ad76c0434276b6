//! The running process: threads, listeners, signals, the end.
//!
//! The main thread serves operators (admin HTTP, configuration, signals). Every instance lives on
//! one worker thread, a current-thread runtime of its own; `threads` spreads instances, never one
//! instance. Configuration reaches the workers as whole snapshots, questions as messages.

mod listener;
mod worker;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{self, Admin, ConfigStatus, InstanceStatus, OrderError, ReloadStatus, Snapshot};
use crate::config::watch::{ReloadOutcome, Watcher};
use crate::config::{Config, Listen, LogFormat};
use crate::instance;
use crate::logging::{self, LogHandle};
use crate::metrics::{self, Metrics};
use crate::state::StateFile;
use crate::systemd::{Notifier, State};
use crate::upgrade::{self, Inherited, Successor};

use listener::Bound;
use worker::{Order, Worker};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All clients got their replies.
    Clean,
    /// The drain deadline passed, or a second signal came: some clients were cut off.
    Forced,
}

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}: {source}; is another process using it?")]
    Listen {
        /// Where.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The state file cannot be read.
    #[error(
        "cannot read the state file {path}: {source}; it may say which store is behind, so it is not ignored"
    )]
    State {
        /// Which file.
        path: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Something that should not fail did.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// The metrics could not be registered.
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    /// Logging could not be set up.
    #[error(transparent)]
    Logging(#[from] logging::LogError),
}

/// What a finished drain is given to write to logs before the process ends.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Serves `config` until a signal ends it.
pub fn run(config: Config) -> Result<Ended, StartError> {
    let format = match config.log.format {
        LogFormat::Human => logging::Format::Human,
        LogFormat::Json => logging::Format::Json,
    };
    let logs = logging::init(format, config.log.level.name())?;
    raise_file_limit();
    let metrics = Metrics::new()?;
    count_panics(metrics.clone());
    if upgrade::is_successor() {
        // Nobody is served from its turn on until it serves: what can be done before is.
        config.instances.keys().for_each(|name| instance::prepare(name, &metrics));
        if !upgrade::await_turn() {
            tracing::warn!("the process before this one goes on: ending");
            return Ok(Ended::Clean);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Server::start(config, metrics, logs)?.serve())
}

/// Every client takes a file descriptor: as many as the system lets this process have.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(limit = limit.current, "cannot raise the limit of open files: {error}");
    }
}

fn count_panics(metrics: Arc<Metrics>) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panics().inc();
        usual(panic);
    }));
}

/// The signals that end the process. Listened to from start to end: a second one that follows the
/// first closely is not lost.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// SIGTERM, SIGINT.
    End,
    /// SIGUSR2: another process is to go on.
    Upgrade,
}

// === impl Signals ===

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// What the next signal asks for.
    async fn wish(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.upgrade.recv() => Wish::Upgrade,
        }
    }

    /// The next signal that ends the process.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

struct Server {
    metrics: Arc<Metrics>,
    logs: LogHandle,
    config: Arc<Config>,
    state: Arc<StateFile>,
    admin: std::net::TcpListener,
    workers: Vec<mpsc::Sender<Order>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    ready: Vec<oneshot::Receiver<()>>,
    /// Every listening socket once more, by name: what a successor gets. They also keep the backlogs open while
    /// nobody accepts.
    listeners: Vec<(String, OwnedFd)>,
}

// === impl Server ===

impl Server {
    /// Binds every listener and starts the workers. Nothing is accepted yet.
    fn start(config: Config, metrics: Arc<Metrics>, logs: LogHandle) -> Result<Server, StartError> {
        let path = config.state_file();
        let state = StateFile::open(&path)
            .map_err(|source| StartError::State { path: path.display().to_string(), source })?;
        let state = Arc::new(state);
        let config = Arc::new(config);
        let mut inherited = Inherited::from_env();
        let admin = listener::bind_admin(&config.admin.listen, &mut inherited)?;
        let mut listeners = vec![(upgrade::ADMIN.to_owned(), admin.as_fd().try_clone_to_owned()?)];
        let mut shares: Vec<Vec<(String, Bound)>> = Vec::new();
        shares.resize_with(config.process.threads.max(1), Vec::new);
        let count = shares.len();
        for (at, (name, instance)) in config.instances.iter().enumerate() {
            let known_as = upgrade::instance_name(name);
            let bound = Bound::bind(&instance.listen, instance.unix_mode, &known_as, &mut inherited)?;
            listeners.push((known_as, bound.duplicate()?.into_fd()));
            if let Some(share) = shares.get_mut(at % count) {
                share.push((name.clone(), bound));
            }
        }
        for name in inherited.unused() {
            tracing::warn!(name, "a listener that was handed over is not in the configuration: it is closed");
        }
        drop(inherited);
        let mut server = Server {
            metrics,
            logs,
            config,
            state,
            admin,
            workers: Vec::new(),
            threads: Vec::new(),
            ready: Vec::new(),
            listeners,
        };
        for (number, share) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            server.start_worker(number, share)?;
        }
        Ok(server)
    }

    fn start_worker(&mut self, number: usize, share: Vec<(String, Bound)>) -> Result<(), StartError> {
        let (orders, inbox) = mpsc::channel(worker::MAX_ORDERS);
        let (ready, is_ready) = oneshot::channel();
        let worker = Worker {
            share,
            config: self.config.clone(),
            metrics: self.metrics.clone(),
            state: self.state.clone(),
            inbox,
        };
        let thread = std::thread::Builder::new()
            .name(format!("multistore-{number}"))
            .spawn(move || worker::run(worker, ready))?;
        self.workers.push(orders);
        self.threads.push(thread);
        self.ready.push(is_ready);
        Ok(())
    }

    async fn serve(mut self) -> Result<Ended, StartError> {
        let mut signals = Signals::new()?;
        let notifier = Notifier::from_env().ok();
        let (snapshots, changes) = watch::channel(self.config.clone());
        let (reload, last_reload) = watch::channel(None);
        let metrics = self.metrics.clone();
        let watcher = Watcher::new(snapshots, move |outcome| reloaded(&metrics, &reload, outcome))?;
        let watching = tokio::spawn(watcher.run());
        let (draining, is_draining) = watch::channel(false);
        let source = status_source(self.workers.clone(), changes.clone(), last_reload, is_draining);
        let orders = order_sink(self.workers.clone(), changes.clone());
        let admin = tokio::net::TcpListener::from_std(self.admin.try_clone()?)?;
        let serving = tokio::spawn(admin::serve(
            admin,
            Admin::new(self.metrics.clone(), source, orders, self.config.admin.token.as_ref()),
            admin::Limits::DEFAULT,
            std::future::pending(),
        ));
        for ready in std::mem::take(&mut self.ready) {
            let _ = ready.await;
        }
        tell(notifier.as_ref(), State::Ready);
        tracing::info!(admin = %self.config.admin.listen, instances = self.config.instances.len(),
            "multistore {} is serving", env!("CARGO_PKG_VERSION"));
        if upgrade::is_successor() {
            upgrade::say_serving();
        }
        let mut successor = self.until_end(changes.clone(), notifier.as_ref(), &mut signals).await;
        if successor.is_none() {
            tell(notifier.as_ref(), State::Stopping);
            // Who connects now is refused, and goes elsewhere.
            self.listeners.clear();
            self.remove_socket_files();
        }
        let _ = draining.send(true);
        watching.abort();
        let timeout = {
            let process = &changes.borrow().process;
            if successor.is_some() { process.upgrade_timeout } else { process.drain_timeout }
        };
        let since = Instant::now();
        let mut ended = self.drain(timeout, &mut signals).await;
        serving.abort();
        if let Some(successor) = &mut successor {
            ended = self.hand_over(successor, since, notifier.as_ref()).await;
        }
        tokio::time::sleep(LAST_WORDS).await;
        Ok(ended)
    }

    /// Serves until the process is to end; with a successor, if it is to be replaced.
    async fn until_end(
        &mut self,
        changes: watch::Receiver<Arc<Config>>,
        notifier: Option<&Notifier>,
        signals: &mut Signals,
    ) -> Option<Successor> {
        while self.until_signal(changes.clone(), notifier, signals).await == Wish::Upgrade {
            tracing::info!("upgrade: starting the new program");
            let listeners = self.listeners.iter().map(|(name, fd)| Ok((name.clone(), fd.try_clone()?)));
            let started = match listeners.collect::<std::io::Result<Vec<_>>>() {
                Ok(listeners) => Successor::start(listeners).await,
                Err(error) => Err(error.into()),
            };
            match started {
                Ok(successor) => return Some(successor),
                Err(error) => tracing::error!("upgrade: {error}; this process goes on"),
            }
        }
        None
    }

    /// Ends the lanes, lets the successor go on, and waits until it serves.
    async fn hand_over(
        &mut self,
        successor: &mut Successor,
        since: Instant,
        notifier: Option<&Notifier>,
    ) -> Ended {
        for worker in &self.workers {
            let _ = worker.send(Order::Quit).await;
        }
        let threads = std::mem::take(&mut self.threads);
        // They end as soon as they are told; a runtime's thread may wait for that.
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        let _ = joined.await;
        if let Some(pid) = successor.pid() {
            tell(notifier, State::MainPid(pid));
        }
        match successor.go().await {
            Ok(()) => {
                let pause = since.elapsed().as_millis() as u64;
                tracing::info!(pause_ms = pause, successor = successor.pid(), "upgrade: handed over; ending");
                Ended::Clean
            }
            Err(error) => {
                tracing::error!("upgrade: {error}; nobody serves now");
                Ended::Forced
            }
        }
    }

    /// Nobody goes on: what is left of Unix listeners would only be in the way.
    fn remove_socket_files(&self) {
        for instance in self.config.instances.values() {
            if let Listen::Unix(path) = &instance.listen {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Hands configurations to the workers until a signal asks for something else.
    async fn until_signal(
        &mut self,
        mut changes: watch::Receiver<Arc<Config>>,
        notifier: Option<&Notifier>,
        signals: &mut Signals,
    ) -> Wish {
        let beat = notifier.and_then(Notifier::watchdog_interval).unwrap_or(Duration::from_secs(3600));
        let mut watchdog = tokio::time::interval(beat);
        loop {
            tokio::select! {
                wish = signals.wish() => return wish,
                _ = watchdog.tick() => tell(notifier, State::Watchdog),
                Ok(()) = changes.changed() => {
                    let config = changes.borrow_and_update().clone();
                    let _ = self.logs.set_filter(config.log.level.name());
                    for worker in &self.workers {
                        let _ = worker.send(Order::Configure(config.clone())).await;
                    }
                }
            }
        }
    }

    /// Lets clients finish. A second signal ends the wait.
    async fn drain(&mut self, timeout: Duration, signals: &mut Signals) -> Ended {
        tracing::info!("stopping: clients may finish within {} ms", timeout.as_millis());
        let mut waits = Vec::new();
        for worker in &self.workers {
            let (done, is_done) = oneshot::channel();
            let _ = worker.send(Order::Drain(done)).await;
            waits.push(is_done);
        }
        let all = async {
            for wait in waits {
                let _ = wait.await;
            }
        };
        let ended = tokio::select! {
            () = all => Ended::Clean,
            () = tokio::time::sleep(timeout) => Ended::Forced,
            () = signals.next() => Ended::Forced,
        };
        match ended {
            Ended::Clean => tracing::info!("stopped: every client had its replies"),
            Ended::Forced => tracing::warn!("stopped before every client had its replies"),
        }
        ended
    }
}

fn tell(notifier: Option<&Notifier>, state: State<'_>) {
    if let Some(notifier) = notifier
        && let Err(error) = notifier.notify(state)
    {
        tracing::warn!("cannot tell systemd: {error}");
    }
}

fn reloaded(metrics: &Metrics, last: &watch::Sender<Option<ReloadStatus>>, outcome: &ReloadOutcome) {
    let now = SystemTime::now();
    let label = match outcome {
        ReloadOutcome::Applied { .. } => metrics::ReloadOutcome::Applied,
        ReloadOutcome::Unchanged => metrics::ReloadOutcome::Unchanged,
        ReloadOutcome::Invalid(_) => metrics::ReloadOutcome::Invalid,
    };
    metrics.config_reloaded(label, now);
    let (error, restart_needed_for) = match outcome {
        ReloadOutcome::Applied { restart_only } => (None, restart_only.clone()),
        ReloadOutcome::Unchanged => (None, Vec::new()),
        ReloadOutcome::Invalid(error) => (Some(error.to_string()), Vec::new()),
    };
    let at_unix_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let status = ReloadStatus { at_unix_ms, outcome: outcome.name().to_owned(), error, restart_needed_for };
    last.send_replace(Some(status));
}

fn status_source(
    workers: Vec<mpsc::Sender<Order>>,
    config: watch::Receiver<Arc<Config>>,
    last_reload: watch::Receiver<Option<ReloadStatus>>,
    draining: watch::Receiver<bool>,
) -> admin::StatusSource {
    Arc::new(move || {
        let workers = workers.clone();
        let config_status = ConfigStatus {
            path: config.borrow().path.display().to_string(),
            last_reload: last_reload.borrow().clone(),
        };
        let draining = *draining.borrow();
        Box::pin(async move {
            let mut instances: Vec<InstanceStatus> = Vec::new();
            for worker in workers {
                let (answer, answered) = oneshot::channel();
                if worker.send(Order::Report(answer)).await.is_ok()
                    && let Ok(share) = answered.await
                {
                    instances.extend(share);
                }
            }
            instances.sort_by(|a, b| a.name.cmp(&b.name));
            Snapshot { config: config_status, draining, instances }
        })
    })
}

/// Hands an operator's order to the worker that has the instance.
fn order_sink(workers: Vec<mpsc::Sender<Order>>, config: watch::Receiver<Arc<Config>>) -> admin::OrderSink {
    Arc::new(move |order: admin::Order| {
        let workers = workers.clone();
        let names: Vec<String> = config.borrow().instances.keys().cloned().collect();
        Box::pin(async move {
            let admin::Order { instance, what } = order;
            let instance = named(instance, &names)?;
            for worker in workers {
                let (answer, answered) = oneshot::channel();
                let order = Order::Operate { instance: instance.clone(), what, answer };
                worker.send(order).await.map_err(|_| OrderError::Ending)?;
                match answered.await.map_err(|_| OrderError::Ending)? {
                    None => {}
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(why)) => return Err(OrderError::NotNow(why)),
                }
            }
            Err(OrderError::NotNow(format!("{instance} is not being served; it needs a restart")))
        })
    })
}

/// The instance that is meant, of those that there are.
fn named(instance: Option<String>, names: &[String]) -> Result<String, OrderError> {
    let choice = || names.join(", ");
    match (instance, names) {
        (Some(name), _) if names.contains(&name) => Ok(name),
        (Some(name), _) => {
            Err(OrderError::Instance(format!("there is no instance {name}; there are: {}", choice())))
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(OrderError::Instance(format!("which instance? There are: {}", choice()))),
    }
}
