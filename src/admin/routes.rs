//! A request → a response.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};

use super::orders::{self, Asked, OrderError, OrderSink};
use super::status::{InstanceStatus, Snapshot, Status, StatusSource};
use crate::config::{PasswordDigest, Secret};
use crate::metrics::{self, Metrics};

/// How long the running proxy may take to tell its state, or to take an order.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The endpoints with what they are for: the text of `/`.
pub const ENDPOINTS: [(&str, &str); 8] = [
    ("/", "this list"),
    ("/metrics", "metrics in the Prometheus text format"),
    ("/livez", "200 while the process runs"),
    ("/readyz", "200 while every instance can serve clients, else 503 and why not"),
    ("/status", "stages, flags, stores, counters and samples of differences as JSON"),
    (orders::REPAIR, "POST, from this machine: makes one store equal to the other (multistore repair)"),
    (orders::BACKFILL, "POST, from this machine: copies the whole keyspace (multistore backfill)"),
    (orders::VERIFY, "POST, from this machine: compares the stores, and reports (multistore verify)"),
];

/// What needs no token.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

pub(super) type Answer = Response<Full<Bytes>>;

/// What the endpoints draw from.
pub struct Admin {
    metrics: Arc<Metrics>,
    source: StatusSource,
    orders: OrderSink,
    started: Instant,
    token: Option<PasswordDigest>,
}

// === impl Admin ===

impl Admin {
    /// The uptime counts from now.
    pub fn new(
        metrics: Arc<Metrics>,
        source: StatusSource,
        orders: OrderSink,
        token: Option<&Secret>,
    ) -> Arc<Admin> {
        let token = token.map(|token| PasswordDigest::of(token.expose().as_bytes()));
        Arc::new(Admin { metrics, source, orders, started: Instant::now(), token })
    }

    /// May this request be answered? Probes need no token.
    pub(super) fn admits(&self, path: &str, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let (scheme, word) = given.split_at_checked(7).unwrap_or_default();
        PROBES.contains(&path) || (scheme.eq_ignore_ascii_case(b"bearer ") && token.is_of(word.trim_ascii()))
    }

    /// May a page in a browser have asked this? A name that its owner has made to point to this machine makes pages of
    /// that name able to read what is served on loopback; they cannot hide the name, nor know a token.
    pub(super) fn may_come_from_a_page(&self, peer: IpAddr, path: &str, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return false };
        let known = host.to_str().is_ok_and(names_this_machine);
        self.token.is_none() && peer.to_canonical().is_loopback() && !known && !PROBES.contains(&path)
    }

    /// Answers one request. The body of an answer to HEAD is left away by the HTTP layer.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Answer {
        if !ENDPOINTS.iter().any(|(endpoint, _)| *endpoint == path) {
            return text(StatusCode::NOT_FOUND, format!("There is no such page here.\n\n{}", index()));
        }
        if orders::PATHS.contains(&path) {
            return not_allowed("Only POST.\n", "POST");
        }
        if method != Method::GET && method != Method::HEAD {
            return not_allowed("Only GET and HEAD.\n", "GET, HEAD");
        }
        match path {
            "/metrics" => self.metrics_text(),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready().await,
            "/status" => self.status().await,
            _ => text(StatusCode::OK, index()),
        }
    }

    /// Carries out an order, if this peer may give it.
    pub(super) async fn order(&self, asked: Asked<'_>) -> Answer {
        let order = match asked.order() {
            Ok(order) => order,
            Err((status, problem)) => return text(status, problem + "\n"),
        };
        let Ok(outcome) = tokio::time::timeout(SNAPSHOT_TIMEOUT, (self.orders)(order)).await else {
            return silent();
        };
        match outcome {
            Ok(answer) => text(StatusCode::OK, answer + "\n"),
            Err(error) => {
                let status = match error {
                    OrderError::Instance(_) => StatusCode::NOT_FOUND,
                    OrderError::NotNow(_) => StatusCode::CONFLICT,
                    OrderError::Ending => StatusCode::SERVICE_UNAVAILABLE,
                };
                text(status, format!("{error}\n"))
            }
        }
    }

    fn metrics_text(&self) -> Answer {
        match self.metrics.render() {
            Ok(body) => response(StatusCode::OK, metrics::CONTENT_TYPE, body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    async fn ready(&self) -> Answer {
        let Some(snapshot) = self.snapshot().await else { return silent() };
        let obstacles = obstacles(&snapshot);
        match obstacles.is_empty() {
            true => text(StatusCode::OK, "ok\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n"),
        }
    }

    async fn status(&self) -> Answer {
        let Some(snapshot) = self.snapshot().await else { return silent() };
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            draining: snapshot.draining,
            config: snapshot.config,
            instances: snapshot.instances.into_iter().map(InstanceStatus::bounded).collect(),
        };
        match serde_json::to_string_pretty(&status) {
            Ok(body) => response(StatusCode::OK, JSON, body + "\n"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        tokio::time::timeout(SNAPSHOT_TIMEOUT, (self.source)()).await.ok()
    }
}

fn obstacles(snapshot: &Snapshot) -> Vec<String> {
    let draining = snapshot.draining.then(|| "the process is ending".to_owned());
    draining.into_iter().chain(snapshot.instances.iter().filter_map(InstanceStatus::obstacle)).collect()
}

/// A proxy that doesn't answer its own questions serves nobody.
fn silent() -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, "the proxy did not tell its state in time\n")
}

fn index() -> String {
    let lines = ENDPOINTS.iter().map(|(path, purpose)| format!("{path:<10}{purpose}\n"));
    format!("multistore {}\n\n{}", env!("CARGO_PKG_VERSION"), lines.collect::<String>())
}

/// The answer to who has no token, or a wrong one.
pub(super) fn unauthorized() -> Answer {
    let mut answer =
        text(StatusCode::UNAUTHORIZED, "Authorization: Bearer TOKEN is asked for here ([admin] token).\n");
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// The answer to who names another host.
pub(super) fn other_host() -> Answer {
    text(
        StatusCode::FORBIDDEN,
        "Over loopback and without a token ([admin] token), the Host is localhost or an address: a page in a browser \
         could stand behind any other name.\n",
    )
}

/// The answer to who names a host more than once.
pub(super) fn ambiguous_host() -> Answer {
    text(StatusCode::BAD_REQUEST, "A request names a path, and its host in one Host header.\n")
}

/// Is this a Host header that no page of somebody else's bears: localhost, or an address, with or without a port?
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn not_allowed(why: &'static str, allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, why);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    response(status, PLAIN, body)
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
