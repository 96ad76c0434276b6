//! Connections of the admin listener.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

use super::orders::{self, Asked};
use super::routes::{Admin, Answer, ambiguous_host, other_host, unauthorized};
use crate::logging::Throttle;

/// How long to leave a listener alone that cannot accept (out of descriptors, mostly).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A peer that has not asked within this time, or not taken its answer, is slow.
const GRACE: Duration = Duration::from_millis(200);

static ACCEPT_FAILED: Throttle = Throttle::new(Duration::from_secs(10));

/// Bounds of the admin listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once. One more ends the oldest of those whose peers are slow to ask, or to read.
    pub max_connections: usize,
    /// A request's head: its line and all its headers, in bytes. At least 8192.
    pub max_head_bytes: usize,
    /// A request's headers, in number.
    pub max_headers: usize,
    /// From accepting a connection to its end.
    pub request_timeout: Duration,
}

// === impl Limits ===

impl Limits {
    /// What a process uses.
    pub const DEFAULT: Limits = Limits {
        max_connections: 64,
        max_head_bytes: 16 * 1024,
        max_headers: 64,
        request_timeout: Duration::from_secs(10),
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// Serves `listener` until `shutdown` ends, then ends the connections that remain.
pub async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let mut connections = JoinSet::new();
    let mut served: VecDeque<Served> = VecDeque::new();
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.join_next() => served.retain(|one| !one.task.is_finished()),
            // Somebody waits, perhaps: by now one of those who are served may be slow.
            () = tokio::time::sleep(GRACE), if served.len() >= limits.max_connections => {}
            accepted = listener.accept(), if has_room(&served, limits) => match accepted {
                Ok((stream, peer)) => {
                    if served.len() >= limits.max_connections {
                        end_oldest(&mut served);
                    }
                    let busy = Arc::new(AtomicBool::new(false));
                    let task = connections.spawn(connection(stream, peer.ip(), admin.clone(), limits, busy.clone()));
                    served.push_back(Served { task, busy, since: Instant::now() });
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    }
}

/// One connection.
struct Served {
    task: AbortHandle,
    /// Its answer is being made: the proxy takes its time, not the peer.
    busy: Arc<AtomicBool>,
    since: Instant,
}

// === impl Served ===

impl Served {
    fn is_slow(&self) -> bool {
        !self.busy.load(Relaxed) && self.since.elapsed() > GRACE
    }
}

fn has_room(served: &VecDeque<Served>, limits: Limits) -> bool {
    served.len() < limits.max_connections || served.iter().any(Served::is_slow)
}

fn end_oldest(served: &mut VecDeque<Served>) {
    let oldest = served.iter().position(Served::is_slow);
    if let Some(slow) = oldest.and_then(|at| served.remove(at)) {
        slow.task.abort();
    }
}

async fn accept_failed(error: &io::Error) {
    if let Some(suppressed) = ACCEPT_FAILED.admit(Instant::now()) {
        warn!(%error, suppressed, "admin: cannot accept connections");
    }
    tokio::time::sleep(ACCEPT_BACKOFF).await;
}

async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    admin: Arc<Admin>,
    limits: Limits,
    busy: Arc<AtomicBool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (admin, busy) = (admin.clone(), busy.clone());
        async move {
            busy.store(true, Relaxed);
            let answer = answer(&admin, peer, &request).await;
            busy.store(false, Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_timeout)
        .keep_alive(false)
        .max_buf_size(limits.max_head_bytes)
        .max_headers(limits.max_headers)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(limits.request_timeout, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "admin: connection failed"),
        Err(_) => debug!("admin: connection took too long"),
    }
}

async fn answer(admin: &Admin, peer: IpAddr, request: &Request<Incoming>) -> Answer {
    let uri = request.uri();
    // Which host is meant must be beyond doubt: it is what keeps pages of others out.
    if uri.authority().is_some() || request.headers().get_all(HOST).iter().count() > 1 {
        return ambiguous_host();
    }
    if !admin.admits(uri.path(), request.headers()) {
        return unauthorized();
    }
    if admin.may_come_from_a_page(peer, uri.path(), request.headers()) {
        return other_host();
    }
    if request.method() != Method::POST || !orders::PATHS.contains(&uri.path()) {
        return admin.answer(request.method(), uri.path()).await;
    }
    let has_body = !request.body().is_end_stream();
    let asked = Asked { peer, path: uri.path(), query: uri.query(), headers: request.headers(), has_body };
    admin.order(asked).await
}
