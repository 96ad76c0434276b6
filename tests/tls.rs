//! TLS, to clients and to stores: real certificates, real handshakes, redis-server's and redis-cli's OpenSSL.

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use support::{Authority, Client, INSTANCE, Pair, Proxy, ProxyConfig, RedisServer, SOON, Stage, Value};
use support::{free_port, poll_until};

/// `tls = { … }` of an instance.
fn tls(cert: &std::path::Path, key: &std::path::Path, more: &str) -> String {
    format!("tls = {{ cert = \"{}\", key = \"{}\"{more} }}", cert.display(), key.display())
}

fn serve(authority: &Authority, more: &str, stage: Stage) -> Pair {
    let server = authority.sign("server", &["localhost", "127.0.0.1"]);
    Pair::start_with(stage, &[&tls(&server.cert, &server.key, more)])
}

fn connect(pair: &Pair, config: &Arc<ClientConfig>) -> Client {
    Client::try_connect_tls(pair.proxy.port(), config.clone()).expect("a handshake")
}

/// A redis-server that speaks TLS, and its TLS port.
fn tls_server(authority: &Authority, auth_clients: &str) -> (RedisServer, u16) {
    let files = authority.sign("store", &["localhost", "127.0.0.1"]);
    let port = free_port();
    let text = |path: &std::path::Path| path.display().to_string();
    let server = RedisServer::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &text(&files.cert),
        "--tls-key-file",
        &text(&files.key),
        "--tls-ca-cert-file",
        &text(&authority.ca()),
        "--tls-auth-clients",
        auth_clients,
    ]);
    (server, port)
}

#[test]
fn clients_speak_tls_and_nothing_else_is_answered() {
    let authority = Authority::new();
    let pair = serve(&authority, "", Stage::DualSecondaryDefault);
    let mut client = connect(&pair, &authority.client(None));
    assert_eq!(client.words("SET key value"), Value::ok());
    assert_eq!(client.words("GET key"), "value".into());
    // A pipeline larger than any buffer of a record.
    let long = "x".repeat(300_000);
    let replies = client.pipeline(&[&["SET", "long", &long], &["GET", "long"], &["STRLEN", "long"]]);
    assert_eq!(replies, [Value::ok(), long.as_str().into(), 300_000.into()]);
    // Plain text is no handshake.
    let mut plain = pair.client();
    plain.send(&["PING"]);
    let answer = plain.expect_closed();
    assert!(!answer.starts_with(b"+") && !answer.starts_with(b"-"), "{}", answer.escape_ascii());
    let rejected = || pair.proxy.metric("multistore_connections_rejected_total", &[("reason", "handshake")]);
    poll_until(SOON, "a counted failure", || rejected() == 1.0);
    pair.proxy.wait_for_log("a client's TLS handshake failed");
    drop(client);
    poll_until(SOON, "nobody left", || pair.proxy.metric("multistore_connections", &[]) == 0.0);
    pair.assert_equal_stores();
}

#[test]
fn a_client_that_reads_slowly_gets_everything_over_tls() {
    let authority = Authority::new();
    let server = authority.sign("server", &["localhost"]);
    let settings = [tls(&server.cert, &server.key, ""), "client_output_soft = \"64kb\"".to_owned()];
    let pair = Pair::start_with(Stage::SecondaryOnly, &[&settings[0], &settings[1]]);
    let mut client = connect(&pair, &authority.client(None));
    let value = "v".repeat(100_000);
    assert_eq!(client.call(&["SET", "key", &value]), Value::ok());
    let requests: Vec<&[&str]> = vec![&["GET", "key"]; 200];
    // Twenty megabytes: far more than sockets and records hold, before the first is read.
    let replies = client.pipeline(&requests);
    assert!(replies.iter().all(|reply| *reply == value.as_str().into()));
    client.send(&["QUIT"]);
    assert_eq!(client.expect_closed(), b"+OK\r\n");
}

#[test]
fn redis_cli_speaks_to_it() {
    let authority = Authority::new();
    let pair = serve(&authority, "", Stage::SecondaryOnly);
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &pair.proxy.port().to_string(), "--tls", "--cacert"])
        .arg(authority.ca())
        .args(["SET", "from", "redis-cli"])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "OK", "{output:?}");
    assert_eq!(pair.secondary.words("GET from"), "redis-cli".into());
}

#[test]
fn a_client_certificate_can_be_demanded() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = format!(", client_ca = \"{}\", client_cert = \"required\"", authority.ca().display());
    let pair = serve(&authority, &ca, Stage::SecondaryOnly);
    let known = authority.sign("client", &["somebody"]);
    let mut client = connect(&pair, &authority.client(Some(&known)));
    assert_eq!(client.words("PING"), Value::simple("PONG"));
    let unknown = stranger.sign("client", &["somebody"]);
    for identity in [None, Some(&unknown)] {
        // Under TLS 1.3 the client learns only from the first read.
        let answer = Client::try_connect_tls(pair.proxy.port(), authority.client(identity))
            .and_then(|mut client| client.try_call(&["PING"]));
        assert!(answer.is_err(), "{answer:?}");
    }
    assert_eq!(pair.proxy.metric("multistore_requests_total", &[]), 1.0);
}

#[test]
fn a_certificate_that_is_not_for_this_lets_nobody_in() {
    let authority = Authority::new();
    let ca = format!(", client_ca = \"{}\", client_cert = \"required\"", authority.ca().display());
    let pair = serve(&authority, &ca, Stage::SecondaryOnly);
    let expired = authority.sign_with("expired", &["somebody"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let early = authority.sign_with("early", &["somebody"], |params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    });
    let of_server = authority.sign_with("of_server", &["somebody"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for identity in [&expired, &early, &of_server] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = authority.client_speaking(Some(identity), &[version]);
            let answer = Client::try_connect_tls(pair.proxy.port(), config)
                .and_then(|mut client| client.try_call(&["PING"]));
            assert!(answer.is_err(), "{:?}: {answer:?}", identity.cert);
        }
    }
    assert_eq!(pair.proxy.metric("multistore_requests_total", &[]), 0.0);
}

/// A session that is resumed shows no certificate: it must not outlive the CA, nor the certificate, that it began with.
#[test]
fn a_session_does_not_outlive_the_certificate_that_it_began_with() {
    let (authority, successor) = (Authority::new(), Authority::new());
    let list = authority.sign("list", &["unused"]).cert.with_file_name("client-ca.pem");
    std::fs::copy(authority.ca(), &list).expect("a list of authorities");
    let ca = format!(", client_ca = \"{}\", client_cert = \"required\"", list.display());
    let pair = serve(&authority, &ca, Stage::SecondaryOnly);
    let known = authority.sign("client", &["somebody"]);
    let configs = [&rustls::version::TLS12, &rustls::version::TLS13]
        .map(|version| authority.client_speaking(Some(&known), &[version]));
    for config in &configs {
        for _ in 0..3 {
            let mut client = connect(&pair, config);
            assert_eq!(client.words("PING"), Value::simple("PONG"));
            assert!(!client.is_resumed());
        }
    }
    std::fs::copy(successor.ca(), &list).expect("another list");
    let reaches = |config: &Arc<ClientConfig>| {
        let answer = Client::try_connect_tls(pair.proxy.port(), config.clone());
        answer.and_then(|mut client| client.try_call(&["PING"])).is_ok()
    };
    let trusted = authority.client(Some(&successor.sign("client", &["somebody"])));
    poll_until(SOON, "the new list", || reaches(&trusted));
    assert!(configs.iter().all(|config| !reaches(config)));
    // Where nobody shows a certificate, sessions are resumed.
    let open = serve(&authority, "", Stage::SecondaryOnly);
    let config = authority.client(None);
    let resumed = || {
        let mut client = connect(&open, &config);
        assert_eq!(client.words("PING"), Value::simple("PONG"));
        client.is_resumed()
    };
    poll_until(SOON, "a session that goes on", resumed);
}

#[test]
fn the_oldest_version_is_a_setting() {
    let authority = Authority::new();
    let pair = serve(&authority, ", min_version = \"1.3\"", Stage::SecondaryOnly);
    let port = pair.proxy.port();
    let old = authority.client_speaking(None, &[&rustls::version::TLS12]);
    assert!(Client::try_connect_tls(port, old).is_err());
    let new = authority.client_speaking(None, &[&rustls::version::TLS13]);
    assert!(Client::try_connect_tls(port, new).is_ok());
    let both = serve(&authority, "", Stage::SecondaryOnly);
    let old = authority.client_speaking(None, &[&rustls::version::TLS12]);
    assert_eq!(connect(&both, &old).words("PING"), Value::simple("PONG"));
}

#[test]
fn a_renewed_certificate_needs_no_restart_and_a_broken_one_changes_nothing() {
    let (authority, successor) = (Authority::new(), Authority::new());
    let pair = serve(&authority, "", Stage::SecondaryOnly);
    let mut old = connect(&pair, &authority.client(None));
    // The files now come from an authority that the old clients do not know.
    let renewed = successor.sign("server", &["localhost"]);
    let current = authority.sign("probe", &["unused"]).cert.with_file_name("server.pem");
    std::fs::copy(&renewed.key, current.with_extension("key")).expect("replace the key");
    std::fs::copy(&renewed.cert, &current).expect("replace the certificate");
    let reaches =
        |client: &Arc<ClientConfig>| Client::try_connect_tls(pair.proxy.port(), client.clone()).is_ok();
    let trusting = successor.client(None);
    poll_until(SOON, "the new certificate", || reaches(&trusting));
    assert!(!reaches(&authority.client(None)));
    // Who is connected stays connected.
    assert_eq!(old.words("PING"), Value::simple("PONG"));
    std::fs::write(&current, "no certificate").expect("break the certificate");
    pair.proxy.wait_for_log("certificate cannot be read");
    assert!(reaches(&trusting));
    assert!(pair.proxy.metric("multistore_tls_reload_failures_total", &[]) >= 1.0);
}

#[test]
fn a_client_that_never_finishes_its_handshake_is_let_go() {
    let authority = Authority::new();
    let server = authority.sign("server", &["localhost"]);
    let settings = [tls(&server.cert, &server.key, ""), "handshake_timeout = \"200ms\"".to_owned()];
    let pair = Pair::start_with(Stage::SecondaryOnly, &[&settings[0], &settings[1], "max_clients = 2"]);
    let mut silent = [pair.client(), pair.client()];
    // They hold their places, and lose them.
    silent.iter_mut().for_each(|client| assert_eq!(client.expect_closed(), b""));
    assert_eq!(connect(&pair, &authority.client(None)).words("PING"), Value::simple("PONG"));
}

#[test]
fn stores_are_reached_over_tls_and_must_prove_who_they_are() {
    let authority = Authority::new();
    let (primary, primary_port) = tls_server(&authority, "no");
    let (secondary, secondary_port) = tls_server(&authority, "yes");
    let own = authority.sign("proxy", &["proxy"]);
    let config = ProxyConfig::new(INSTANCE, "", "").stage(Stage::DualPrimaryDefault);
    // Tables in the place of URLs.
    let table = |port: u16, more: &str| {
        format!("{{ url = \"rediss://localhost:{port}\", tls_ca = \"{}\"{more} }}", authority.ca().display())
    };
    let identity = format!(", tls_cert = \"{}\", tls_key = \"{}\"", own.cert.display(), own.key.display());
    let config = config.stores(&table(primary_port, ""), &table(secondary_port, &identity));
    let proxy = Proxy::start(config);
    let pair = Pair { proxy, primary, secondary };
    let mut client = pair.client();
    let long = "y".repeat(2_000_000);
    assert_eq!(client.call(&["SET", "key", &long]), Value::ok());
    assert_eq!(client.call(&["GET", "key"]), long.as_str().into());
    // Dedicated connections speak it as well.
    assert_eq!(client.words("WATCH key"), Value::ok());
    assert_eq!(client.words("MULTI"), Value::ok());
    assert_eq!(client.words("APPEND key z"), Value::simple("QUEUED"));
    assert_eq!(client.words("EXEC").items().len(), 1);
    pair.assert_equal_stores();
    assert_eq!(pair.primary.words("STRLEN key"), 2_000_001.into());
}

#[test]
fn a_store_with_the_wrong_certificate_is_not_used() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (primary, port) = tls_server(&authority, "no");
    let secondary = RedisServer::start();
    for (ca, name, problem) in [
        (stranger.ca(), "localhost", "UnknownIssuer"),
        (authority.ca(), "another.example", "not valid for name"),
    ] {
        let primary = format!(
            "{{ url = \"rediss://127.0.0.1:{port}\", tls_ca = \"{}\", tls_server_name = \"{name}\" }}",
            ca.display()
        );
        let secondary = format!("\"{}\"", secondary.url());
        let config = ProxyConfig::new(INSTANCE, "", "").stores(&primary, &secondary);
        let proxy = Proxy::start(config.stage(Stage::SecondaryOnly));
        proxy.wait_for_log(problem);
        assert_eq!(proxy.metric("multistore_store_up", &[("store", "primary")]), 0.0);
        assert_eq!(proxy.client().words("PING"), Value::simple("PONG"));
    }
    assert_eq!(primary.words("CLIENT LIST").text().matches("multistore:").count(), 0);
}

#[test]
fn a_handshake_that_a_store_never_finishes_ends_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let authority = Authority::new();
    let primary =
        format!("{{ url = \"rediss://localhost:{port}\", tls_ca = \"{}\" }}", authority.ca().display());
    let secondary = RedisServer::start();
    let config = ProxyConfig::new(INSTANCE, "", "").stores(&primary, &format!("\"{}\"", secondary.url()));
    let proxy = Proxy::start(config.setting("connect_timeout = \"200ms\""));
    proxy.wait_for_log("no answer within 200ms; is this a port for TLS?");
    let mut client = proxy.client().with_patience(Duration::from_secs(10));
    assert_eq!(client.words("SET key value"), Value::ok());
}

#[test]
fn a_url_with_the_wrong_scheme_is_told_apart_from_a_store_that_is_down() {
    let authority = Authority::new();
    let (_secured, secured_port) = tls_server(&authority, "no");
    let plain = RedisServer::start();
    let urls = [format!("redis://127.0.0.1:{secured_port}"), format!("rediss://127.0.0.1:{}", plain.port())];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["compare", &urls[0], &urls[1]])
        .output()
        .expect("run multistore compare");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for hint in ["rediss:// is with TLS", "redis:// is without"] {
        assert!(text.contains(hint), "{hint}: {text}");
    }
}
