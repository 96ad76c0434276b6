//! Stores behind real sentinels: found, followed, and missed.

mod support;

use std::process::{Child, Command, Stdio};

use support::poll_until;
use support::{
    Client, INSTANCE, Proxy, ProxyConfig, RedisServer, SOON, Stage, TempDir, Value, free_port, kill_now,
};

/// A sentinel that watches one master. Ends when dropped.
struct Sentinel {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Sentinel {
    fn watch(master: &RedisServer) -> Sentinel {
        let (dir, port) = (TempDir::new(), free_port());
        let file = dir.join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n",
            dir.path().display(),
            master.port()
        );
        std::fs::write(&file, config).expect("write sentinel.conf");
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let child = Command::new(program)
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a sentinel");
        let sentinel = Sentinel { child, port, _dir: dir };
        poll_until(SOON, "the sentinel answers", || Client::try_connect(port).is_ok());
        sentinel
    }

    fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Waits until it knows the replica: only then it can fail over.
    fn knows_a_replica(&self) {
        let mut client = self.client();
        let good = |reply: Value| {
            reply.items().first().is_some_and(|replica| {
                let text = format!("{replica:?}");
                text.contains("master-link-status") && text.contains("\"ok\"")
            })
        };
        poll_until(support::SOON * 3, "a replica in step", || good(client.words("SENTINEL replicas main")));
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        kill_now(&mut self.child);
    }
}

fn replica_of(master: &RedisServer) -> RedisServer {
    RedisServer::start_with(&[
        "--replicaof",
        "127.0.0.1",
        &master.port().to_string(),
        "--repl-diskless-sync-delay",
        "0",
    ])
}

#[test]
fn a_failover_is_followed() {
    let (primary, master) = (RedisServer::start(), RedisServer::start());
    let replica = replica_of(&master);
    let sentinel = Sentinel::watch(&master);
    sentinel.knows_a_replica();
    let dead = free_port();
    let url = format!("redis+sentinel://127.0.0.1:{dead},127.0.0.1:{}/main", sentinel.port);
    let config = ProxyConfig::new(INSTANCE, &primary.url(), &url).stage(Stage::SecondaryOnly);
    let proxy = Proxy::start(config);
    let mut client = proxy.client();
    assert_eq!(client.words("SET before 1"), Value::ok());
    assert_eq!(master.words("GET before"), "1".into());
    assert_eq!(sentinel.client().words("SENTINEL FAILOVER main"), Value::ok());
    poll_until(SOON * 3, "writes reach the new master", || {
        client.words("SET after 1") == Value::ok() && replica.words("GET after") == "1".into()
    });
    assert_eq!(replica.words("GET before"), "1".into());
    assert!(proxy.status().to_string().contains("redis+sentinel://"));
}

#[test]
fn a_master_that_nobody_knows_is_an_error_that_says_so() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    let sentinel = Sentinel::watch(&primary);
    let url = format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port);
    let proxy = Proxy::start(ProxyConfig::new(INSTANCE, &url, &secondary.url()));
    proxy.wait_for_log("knows no master of this name");
    assert_eq!(proxy.client().words("SET a 1"), Value::ok());
}
