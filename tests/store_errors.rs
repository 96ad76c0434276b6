//! What an operator sees of a store that fails: the counters by kind, and the errors of clients.

mod support;

use support::{Client, Data, Proxy, ProxyConfig, RedisServer, SOON, poll_for, poll_until};

const INSTANCE: &str = "cache";

fn errors(proxy: &Proxy, store: &str, kind: &str) -> f64 {
    let labels = [("instance_name", INSTANCE), ("store", store), ("kind", kind)];
    // A proxy that is not ready has no series yet.
    proxy.metric_opt("multistore_store_errors_total", &labels).unwrap_or_default()
}

fn unavailable(proxy: &Proxy) -> f64 {
    let labels = [("instance_name", INSTANCE), ("kind", "unavailable")];
    proxy.metric("multistore_client_errors_total", &labels)
}

#[test]
fn a_default_store_that_is_down_is_counted_and_told() {
    let (primary, mut secondary) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::start(ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url()));
    let mut client = proxy.client();
    assert!(!client.words("SET key value").is_error());
    assert_eq!((errors(&proxy, "secondary", "connect"), unavailable(&proxy)), (0.0, 0.0));
    secondary.kill();
    poll_until(SOON, "the attempt to connect fails", || errors(&proxy, "secondary", "connect") > 0.0);
    let told = client.words("GET key");
    let start = format!("MULTISTORE secondary store 127.0.0.1:{} is down (", secondary.port());
    assert!(told.error().starts_with(&start), "{told:?}");
    assert!(told.error().contains("the command was not sent"), "{told:?}");
    assert_eq!(unavailable(&proxy), 1.0);
    assert_eq!(errors(&proxy, "primary", "connect"), 0.0);
    secondary.start_again(Data::Lost);
    poll_until(SOON, "the store is back", || !client.words("PING").is_error());
}

#[test]
fn a_default_store_that_hangs_is_a_timeout() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    let config = ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url());
    let proxy = Proxy::start(config.setting(r#"reply_timeout = "200ms""#));
    let mut client = proxy.client();
    assert!(!client.words("SET key value").is_error());
    secondary.stop_signal();
    let told = client.words("SET key value");
    secondary.cont();
    assert!(told.error().contains("did not answer within 200 ms (reply_timeout)"), "{told:?}");
    assert_eq!(errors(&proxy, "secondary", "timeout"), 1.0);
    assert_eq!(unavailable(&proxy), 1.0);
}

#[test]
fn a_wrong_password_is_no_lost_connection() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start_with(&["--requirepass", "right"]));
    let wrong = format!("redis://:wrong@127.0.0.1:{}", secondary.port());
    let proxy = Proxy::start_not_ready(ProxyConfig::new(INSTANCE, &primary.url(), &wrong));
    poll_until(SOON, "AUTH is refused", || errors(&proxy, "secondary", "handshake") > 0.0);
    assert_eq!(errors(&proxy, "secondary", "connect"), 0.0);
    let mut client = poll_for(SOON, || Client::try_connect(proxy.port()).ok()).expect("the proxy listens");
    let told = client.words("GET key");
    assert!(told.error().contains("AUTH was refused: WRONGPASS"), "{told:?}");
}
