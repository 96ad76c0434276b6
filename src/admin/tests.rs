//! Over real sockets: what a scraper, a probe, a person and an attacker see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::orders::What;
use super::status::{MAX_DIFF_SAMPLES, MAX_SAMPLE_BYTES};
use super::*;
use crate::metrics::Metrics;
use crate::stage::{Stage, StoreId};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start_with(limits: Limits, source: StatusSource) -> Server {
    start_for(limits, source, obedient()).await
}

/// Knows one instance, which is in a stage that has nothing to repair unless the primary is right.
fn obedient() -> OrderSink {
    let primary = What::Repair { from: StoreId::Primary };
    Arc::new(move |order: Order| {
        Box::pin(async move {
            match (order.instance.as_deref(), order.what == primary) {
                (None | Some("duplicate_jobs"), true) => Ok("duplicate_jobs: repairing".to_owned()),
                (None | Some("duplicate_jobs"), false) => Err(OrderError::NotNow("not dual".to_owned())),
                _ => Err(OrderError::Instance("no such instance".to_owned())),
            }
        })
    })
}

async fn start_for(limits: Limits, source: StatusSource, orders: OrderSink) -> Server {
    let metrics = Metrics::new().unwrap();
    metrics.instance("duplicate_jobs", &["get"], |_| true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(serve(listener, Admin::new(metrics, source, orders, None), limits, async {
        let _ = stopped.await;
    }));
    Server { address, stop, task }
}

async fn start(snapshot: Snapshot) -> Server {
    start_with(Limits::DEFAULT, source(snapshot)).await
}

fn source(snapshot: Snapshot) -> StatusSource {
    Arc::new(move || {
        let snapshot = snapshot.clone();
        Box::pin(async move { snapshot })
    })
}

fn instance() -> InstanceStatus {
    let flags = Stage::DualSecondaryDefault.flags();
    InstanceStatus {
        name: "duplicate_jobs".into(),
        stage: flags.stage().name().into(),
        flags: flags.into(),
        default_store: flags.stage().default_store().name().into(),
        listen: "127.0.0.1:6380".into(),
        listening: true,
        stores: StoresStatus {
            primary: StoreStatus { address: "127.0.0.1:7001".into(), ..Default::default() },
            secondary: StoreStatus { address: "127.0.0.1:7002".into(), up: true, ..Default::default() },
        },
        ..Default::default()
    }
}

fn snapshot(instance: InstanceStatus) -> Snapshot {
    Snapshot { instances: vec![instance], ..Default::default() }
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that answers early may close before everything is written.
    let _ = stream.write_all(request).await;
    read_to_end(stream).await
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
    String::from_utf8(answer).unwrap()
}

async fn ask(server: &Server, method: &str, path: &str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    parse(&exchange(server.address, request.as_bytes()).await)
}

async fn get(server: &Server, path: &str) -> (u16, String, String) {
    ask(server, "GET", path).await
}

/// Status, head in lower case, body.
fn parse(answer: &str) -> (u16, String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect(answer);
    let status = head.split(' ').nth(1).expect(answer).parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn the_root_lists_every_endpoint_and_each_answers() {
    let server = start(snapshot(instance())).await;
    let (status, head, body) = get(&server, "/").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain"));
    for (path, purpose) in routes::ENDPOINTS {
        assert!(body.contains(path) && body.contains(purpose), "{path}: {body}");
        if orders::PATHS.contains(&path) {
            continue;
        }
        assert_eq!(get(&server, path).await.0, 200, "{path}");
        assert_eq!(get(&server, &format!("{path}?x=1")).await.0, 200, "{path} with a query");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let server = start(Snapshot::default()).await;
    let (status, head, body) = get(&server, "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let series =
        r#"gitlab_redis_multi_store_read_fallback_total{command="get",instance_name="duplicate_jobs"} 0"#;
    assert!(body.lines().any(|line| line == series));
    assert!(body.contains("\nprocess_resident_memory_bytes "));
}

#[tokio::test]
async fn readiness_is_the_default_stores() {
    let mut down = instance();
    down.stores.secondary.up = false;
    down.stores.secondary.last_error = Some("connection refused".into());
    let mut closed = instance();
    closed.listening = false;
    let mut ended = snapshot(instance());
    ended.draining = true;
    for (snapshot, reason) in [
        (
            snapshot(down),
            "duplicate_jobs: the default store (secondary, 127.0.0.1:7002) is down: connection refused\n",
        ),
        (snapshot(closed), "duplicate_jobs: not listening on 127.0.0.1:6380\n"),
        (ended, "the process is ending\n"),
    ] {
        let server = start(snapshot).await;
        let (status, _, body) = get(&server, "/readyz").await;
        assert_eq!((status, body.as_str()), (503, reason));
        assert_eq!(get(&server, "/livez").await.0, 200);
    }
}

#[tokio::test]
async fn the_other_store_does_not_decide_readiness() {
    let server = start(snapshot(instance())).await;
    let (status, _, body) = get(&server, "/readyz").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn status_is_json_with_stage_and_flags_and_reads_back() {
    let server = start(snapshot(instance())).await;
    let (status, head, body) = get(&server, "/status").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"));
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let shown = &json["instances"][0];
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["uptime_seconds"].is_u64());
    assert_eq!(shown["stage"], "dual_secondary_default");
    assert_eq!(shown["flags"]["use_primary_and_secondary_stores"], true);
    assert_eq!(shown["flags"]["use_primary_store_as_default"], false);
    assert_eq!(shown["stores"]["secondary"]["up"], true);
    let back: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(back.instances[0].flags, instance().flags);
}

#[tokio::test]
async fn samples_are_bounded_whoever_made_them() {
    let mut many = instance();
    many.diff_samples = (0..MAX_DIFF_SAMPLES as u64 + 3)
        .map(|at_unix_ms| DiffSample {
            primary: "é".repeat(MAX_SAMPLE_BYTES),
            at_unix_ms,
            ..Default::default()
        })
        .collect();
    let server = start(snapshot(many)).await;
    let status: Status = serde_json::from_str(&get(&server, "/status").await.2).unwrap();
    let samples = &status.instances[0].diff_samples;
    assert_eq!((samples.len(), samples[0].at_unix_ms), (MAX_DIFF_SAMPLES, 3));
    assert!(samples.iter().all(|sample| sample.primary.len() == MAX_SAMPLE_BYTES));
}

#[tokio::test]
async fn head_has_the_head_of_get_and_no_body() {
    let server = start(snapshot(instance())).await;
    for path in ["/", "/livez", "/readyz", "/status"] {
        let (status, head, body) = ask(&server, "HEAD", path).await;
        let full = get(&server, path).await;
        assert_eq!((status, body.as_str()), (200, ""));
        assert!(head.contains(&format!("content-length: {}", full.2.len())), "{path}: {head}");
    }
}

#[tokio::test]
async fn other_methods_and_other_paths_are_refused() {
    let server = start(snapshot(instance())).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "FLUSHALL"] {
        let (status, head, _) = ask(&server, method, "/status").await;
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head"), "{head}");
    }
    for path in ["/nothing", "/metrics/", "//", "/status/../livez", "/%6detrics"] {
        let (status, _, body) = get(&server, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(body.contains("/metrics") && body.contains("/readyz"), "{body}");
        assert!(!body.contains("nothing"), "what was asked for is not echoed");
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_end_the_connection_and_nothing_else() {
    let server = start(snapshot(instance())).await;
    for bytes in [
        &b"*1\r\n$4\r\nPING\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    ] {
        let answer = exchange(server.address, bytes).await;
        assert!(!answer.contains(" 200 "), "{answer}");
        assert_eq!(get(&server, "/livez").await.0, 200);
    }
}

#[tokio::test]
async fn a_repair_is_ordered_by_a_post_with_the_header_and_nothing_else() {
    let server = start(snapshot(instance())).await;
    let order = |query: &str, headers: &str, body: &str| {
        let request = format!("POST /repair{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}");
        let address = server.address;
        async move { parse(&exchange(address, request.as_bytes()).await) }
    };
    let header = "X-Multistore: order\r\n";
    let (status, _, body) = order("?from=primary", header, "").await;
    assert_eq!((status, body.as_str()), (200, "duplicate_jobs: repairing\n"));
    for (status, query, headers, body) in [
        (200, "?instance=duplicate_jobs&from=primary", "X-Multistore: order\r\nContent-Length: 0\r\n", ""),
        (409, "?from=secondary", header, ""),
        (404, "?instance=other&from=primary", header, ""),
        (400, "", header, ""),
        (400, "?from=primary", "X-Multistore: order\r\nContent-Length: 2\r\n", "hi"),
        (400, "?from=primary", "X-Multistore: order\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        (403, "?from=primary", "", ""),
        (403, "?from=primary", "X-Multistore: yes\r\n", ""),
        (403, "?from=primary", "X-Multistore: order\r\nOrigin: http://127.0.0.1:9180\r\n", ""),
    ] {
        assert_eq!(order(query, headers, body).await.0, status, "{query} {headers}");
    }
    for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
        let (status, head, _) = ask(&server, method, "/repair?from=primary").await;
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: post"), "{head}");
    }
}

#[tokio::test]
async fn a_page_under_a_name_of_its_own_reads_nothing() {
    let server = start(snapshot(instance())).await;
    for (host, path, status) in [
        ("evil.example", "/status", 403),
        ("evil.example:9180", "/metrics", 403),
        ("localhost.evil.example", "/", 403),
        ("127.0.0.1.evil.example", "/", 403),
        ("", "/status", 403),
        ("evil.example", "/livez", 200),
        ("localhost:9180", "/status", 200),
        ("127.0.0.1:9180", "/status", 200),
        ("[::1]:9180", "/status", 200),
        ("[::1]", "/status", 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(parse(&exchange(server.address, request.as_bytes()).await).0, status, "{host} {path}");
    }
}

#[tokio::test]
async fn a_host_is_named_once() {
    let server = start(snapshot(instance())).await;
    for head in [
        "GET http://localhost/status HTTP/1.1\r\nHost: localhost\r\n",
        "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n",
        "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
    ] {
        let answer = exchange(server.address, format!("{head}\r\n").as_bytes()).await;
        assert_eq!(parse(&answer).0, 400, "{head}");
    }
}

#[tokio::test]
async fn a_head_beyond_its_limits_is_refused() {
    let server = start(snapshot(instance())).await;
    let long = "x".repeat(Limits::DEFAULT.max_head_bytes);
    let many = "A: b\r\n".repeat(Limits::DEFAULT.max_headers + 1);
    for request in [
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
    ] {
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.contains(" 431 ") || answer.contains(" 414 "), "{answer}");
        assert!(!answer.contains(" 200 "));
    }
    assert_eq!(get(&server, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_body_without_end_is_not_waited_for() {
    let server = start(snapshot(instance())).await;
    let request =
        b"POST /status HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    assert_eq!(parse(&exchange(server.address, request).await).0, 405);
}

fn impatient() -> Limits {
    Limits { request_timeout: Duration::from_millis(100), max_connections: 2, ..Limits::DEFAULT }
}

#[tokio::test]
async fn silent_and_slow_connections_end_and_free_their_places() {
    let server = start_with(impatient(), source(snapshot(instance()))).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    // Both places are taken: this one is served as soon as one is free.
    assert_eq!(get(&server, "/livez").await.0, 200);
    assert!(!read_to_end(silent).await.contains(" 200 "));
    assert!(!read_to_end(slow).await.contains(" 200 "));
}

#[tokio::test]
async fn no_more_connections_are_served_at_once_than_allowed() {
    let (asking, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let (now, peak, open) = (asking.clone(), most.clone(), gate.clone());
    let limits = Limits { max_connections: 2, ..Limits::DEFAULT };
    let source: StatusSource = Arc::new(move || {
        let (now, peak, open) = (now.clone(), peak.clone(), open.clone());
        Box::pin(async move {
            peak.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
            open.acquire().await.unwrap().forget();
            now.fetch_sub(1, Relaxed);
            Snapshot::default()
        })
    });
    let server = start_with(limits, source).await;
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients = JoinSet::new();
    for _ in 0..5 {
        clients.spawn(exchange(server.address, request));
    }
    let both = async {
        while asking.load(Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, both).await.expect("two are served at once");
    for _ in 0..5 {
        gate.add_permits(1);
        let answer = timeout(PATIENCE, clients.join_next()).await.expect("the next is served");
        assert_eq!(parse(&answer.unwrap().unwrap()).0, 200);
    }
    assert_eq!(most.load(Relaxed), 2);
}

#[tokio::test]
async fn slow_connections_keep_nobody_out() {
    let server = start(snapshot(instance())).await;
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await;
        }
        slow.push(stream);
    }
    assert_eq!(get(&server, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_token_is_asked_for_but_not_of_probes() {
    let metrics = Metrics::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = crate::config::Secret::new("hunter2");
    let admin = Admin::new(metrics, source(snapshot(instance())), obedient(), Some(&token));
    let serving = tokio::spawn(serve(listener, admin, Limits::DEFAULT, std::future::pending()));
    for (method, path, header, status) in [
        ("GET", "/livez", "", 200),
        ("GET", "/readyz", "", 200),
        ("GET", "/status", "", 401),
        ("GET", "/metrics", "Authorization: Bearer hunter3\r\n", 401),
        ("GET", "/metrics", "Authorization: Basic hunter2\r\n", 401),
        ("GET", "/metrics", "Authorization: hunter2\r\n", 401),
        ("GET", "/metrics", "Authorization: Bearer hunter2\r\n", 200),
        ("GET", "/status", "authorization: bearer hunter2\r\n", 200),
        ("POST", "/repair?from=primary", "X-Multistore: order\r\n", 401),
        ("POST", "/repair?from=primary", "X-Multistore: order\r\nAuthorization: Bearer hunter2\r\n", 200),
        ("GET", "/nothing", "", 401),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(parse(&answer).0, status, "{method} {path} {header}");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    serving.abort();
}

#[tokio::test]
async fn a_head_that_trickles_in_for_ever_ends() {
    let server = start_with(impatient(), source(snapshot(instance()))).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let _ = writer.write_all(b"GET / HTTP/1.1\r\nHost: ").await;
        while writer.write_all(b"a").await.is_ok() {
            tick.tick().await;
        }
    });
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, reader.read_to_end(&mut rest)).await.expect("the server closes");
    timeout(PATIENCE, trickle).await.expect("the writer fails").unwrap();
}

#[tokio::test]
async fn one_connection_is_one_request() {
    let server = start(snapshot(instance())).await;
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n".repeat(3);
    let answer = exchange(server.address, request.as_bytes()).await;
    assert_eq!(answer.matches(" 200 OK").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_proxy_that_does_not_tell_its_state_is_not_ready_but_alive() {
    let metrics = Metrics::new().unwrap();
    let admin = Admin::new(metrics, Arc::new(|| Box::pin(std::future::pending())), obedient(), None);
    // Both wait for as long as a snapshot may take.
    let get = |path| admin.answer(&hyper::Method::GET, path);
    let (ready, status) = tokio::join!(get("/readyz"), get("/status"));
    assert_eq!((ready.status().as_u16(), status.status().as_u16()), (503, 503));
    for path in ["/livez", "/metrics"] {
        assert_eq!(admin.answer(&hyper::Method::GET, path).await.status(), 200);
    }
}

#[tokio::test]
async fn shutdown_ends_the_listener_and_what_hangs_on_it() {
    let server = start(snapshot(instance())).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(get(&server, "/livez").await.0, 200);
    server.stop.send(()).unwrap();
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert_eq!(read_to_end(idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err());
}
