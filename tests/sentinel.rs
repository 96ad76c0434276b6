//! Stores behind real sentinels: found, followed, and missed.

mod support;

use std::process::{Child, Command, Stdio};

use support::poll_until;
use support::{
    Authority, Client, INSTANCE, Proxy, ProxyConfig, RedisServer, SOON, Stage, TempDir, Value, free_port,
    kill_now,
};

/// A sentinel that watches one master. Ends when dropped.
struct Sentinel {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Sentinel {
    fn watch(master: &RedisServer) -> Sentinel {
        Sentinel::watch_with(master.port(), "")
    }

    /// With further lines of its configuration.
    fn watch_with(master: u16, more: &str) -> Sentinel {
        let (dir, port) = (TempDir::new(), free_port());
        let file = dir.join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n{more}\n",
            dir.path().display(),
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

/// A store behind sentinels, and the settings that find it.
struct Watched {
    master: RedisServer,
    replica: RedisServer,
    sentinel: Sentinel,
}

impl Watched {
    fn start() -> Watched {
        let master = RedisServer::start();
        let replica = replica_of(&master);
        let sentinel = Sentinel::watch(&master);
        sentinel.knows_a_replica();
        Watched { master, replica, sentinel }
    }

    fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/main", self.sentinel.port)
    }

    /// Kills the master, and waits until the sentinel has made the replica the master.
    fn fail_over(&mut self) {
        self.master.kill();
        // The sentinel ends the connections of a server whose role it changes.
        let role = || Client::try_connect(self.replica.port()).ok()?.try_call(&["ROLE"]).ok();
        let is_master = |role: Value| role.items().first() == Some(&"master".into());
        poll_until(support::SOON * 3, "a new master", || role().is_some_and(is_master));
    }
}

#[test]
fn the_other_store_s_master_is_killed_while_dual_and_the_new_one_is_repaired() {
    let (mut watched, secondary) = (Watched::start(), RedisServer::start());
    let config = ProxyConfig::new(INSTANCE, &watched.url(), &secondary.url());
    let proxy = Proxy::start(config.stage(Stage::DualSecondaryDefault));
    let mut client = proxy.client();
    let mut write = |round: &str| {
        for number in 0..200 {
            let key = format!("key:{number}");
            assert_eq!(client.call(&["SET", &format!("{round}:{key}"), round]), Value::ok());
            assert!(!client.call(&["RPUSH", &key, round]).is_error());
        }
    };
    write("before");
    watched.fail_over();
    write("meanwhile");
    poll_until(support::SOON * 3, "the new master is used", || {
        proxy.metric("multistore_store_up", &[("store", "primary")]) == 1.0
    });
    write("after");
    let (there, here) = (watched.replica.client(), secondary.client());
    let sizes = std::cell::RefCell::new((there, here));
    poll_until(support::SOON * 3, "equal stores", || {
        let (there, here) = &mut *sizes.borrow_mut();
        let same = |there: &mut Client, here: &mut Client, line: &str| there.words(line) == here.words(line);
        same(there, here, "DBSIZE")
            && (0..200).all(|number| {
                same(there, here, &format!("LRANGE key:{number} 0 -1"))
                    && same(there, here, &format!("GET meanwhile:key:{number}"))
            })
    });
}

#[test]
fn the_default_store_s_master_is_killed_while_dual_and_nothing_is_guessed() {
    let (mut watched, primary) = (Watched::start(), RedisServer::start());
    let config = ProxyConfig::new(INSTANCE, &primary.url(), &watched.url());
    let proxy = Proxy::start(config.stage(Stage::DualSecondaryDefault));
    let mut client = proxy.client();
    assert_eq!(client.words("SET before 1"), Value::ok());
    watched.fail_over();
    // A write that is refused meanwhile is on neither; once the new master is found they go on.
    poll_until(support::SOON * 3, "writes go on", || client.words("SET after 1") == Value::ok());
    assert_eq!(watched.replica.words("GET after"), "1".into());
    // The new master may lack what the old one had acknowledged: an operator says which store is right.
    proxy.wait_for_log("the store that counts came back as another server");
    assert!(proxy.status().to_string().contains("multistore repair"));
    assert_eq!(primary.words("GET before"), "1".into());
}

#[test]
fn sentinels_and_stores_may_ask_for_passwords() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    for line in ["ACL SETUSER app on >apps +@all ~* &*", "CONFIG SET requirepass masters"] {
        assert_eq!(primary.words(line), Value::ok());
    }
    let more = "sentinel auth-pass main masters\nuser default off\nuser watcher on >watchers +@all\n";
    let sentinel = Sentinel::watch_with(primary.port(), more);
    let start = |settings: &str| {
        let store =
            format!("{{ url = \"redis+sentinel://app:apps@127.0.0.1:{}/main\", {settings} }}", sentinel.port);
        let config = ProxyConfig::new(INSTANCE, "redis://x", &secondary.url());
        let config = config.stores(&store, &format!("\"{}\"", secondary.url()));
        Proxy::start_not_ready(config.stage(Stage::PrimaryOnly))
    };
    let proxy = start("sentinel_username = \"watcher\", sentinel_password = \"watchers\"");
    let mut client = proxy.client();
    poll_until(SOON, "the store answers", || client.words("SET key 1") == Value::ok());
    let shown = proxy.log() + &proxy.status().to_string() + &proxy.metrics();
    assert!(!["apps", "watchers", "masters"].iter().any(|secret| shown.contains(secret)), "{shown}");
    start("sentinel_username = \"watcher\", sentinel_password = \"wrong\"")
        .wait_for_log("refuses sentinel_password");
}

#[test]
fn sentinels_and_stores_speak_tls() {
    let authority = Authority::new();
    let files = authority.sign("both", &["localhost", "127.0.0.1"]);
    let (port, secondary) = (free_port(), RedisServer::start());
    let text = |path: &std::path::Path| path.display().to_string();
    let (cert, key, ca) = (text(&files.cert), text(&files.key), text(&authority.ca()));
    let tls_port = port.to_string();
    let options = [
        ("--tls-port", tls_port.as_str()),
        ("--tls-cert-file", &cert),
        ("--tls-key-file", &key),
        ("--tls-ca-cert-file", &ca),
        ("--tls-auth-clients", "no"),
    ];
    let arguments: Vec<&str> = options.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let primary = RedisServer::start_with(&arguments);
    let sentinel_port = free_port();
    let more = format!(
        "tls-port {sentinel_port}\ntls-replication yes\ntls-cert-file {cert}\ntls-key-file {key}\n\
         tls-ca-cert-file {ca}\ntls-auth-clients no\n"
    );
    let _sentinel = Sentinel::watch_with(port, &more);
    let store =
        format!("{{ url = \"rediss+sentinel://127.0.0.1:{sentinel_port}/main\", tls_ca = \"{ca}\" }}");
    let config = ProxyConfig::new(INSTANCE, "redis://x", &secondary.url());
    let config = config.stores(&store, &format!("\"{}\"", secondary.url())).stage(Stage::PrimaryOnly);
    let proxy = Proxy::start_not_ready(config);
    let mut client = proxy.client();
    poll_until(SOON, "the store answers", || client.words("SET key 1") == Value::ok());
    assert_eq!(primary.words("GET key"), "1".into());
}
