//! The proxy as operators run it: reloads, signals, drains, the admin endpoints, logs, passwords.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::*;

// --- reload ---

fn reloads(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric("multistore_config_reloads_total", &[("outcome", outcome)])
}

/// What `multistore status` shows.
fn status_screen(proxy: &Proxy) -> String {
    let shown = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["status", "--admin", &format!("127.0.0.1:{}", proxy.admin_port())])
        .output()
        .expect("run multistore");
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

#[test]
fn a_good_change_takes_effect_a_bad_one_changes_nothing_and_one_for_a_restart_is_named() {
    let pair = Pair::start();
    let text = pair.proxy.config_text();
    assert_eq!(pair.proxy.metric("multistore_config_last_reload_success", &[]), 1.0);

    // Good: the limit holds for the next client.
    let applied = reloads(&pair.proxy, "applied");
    pair.proxy.write_config(&text.replace("secondary =", "max_clients = 1\nsecondary ="));
    poll_until(SOON, "applied", || reloads(&pair.proxy, "applied") > applied);
    let mut first = pair.client();
    poll_until(SOON, "the first client", || first.words("PING") == Value::simple("PONG"));
    pair.client().expect_closed();

    // Bad: named with its place, and the old one stays in force.
    let invalid = reloads(&pair.proxy, "invalid");
    pair.proxy.write_config(&text.replace("secondary =", "max_clients = \"many\"\nsecondary ="));
    poll_until(SOON, "refused", || reloads(&pair.proxy, "invalid") > invalid);
    assert_eq!(pair.proxy.metric("multistore_config_last_reload_success", &[]), 0.0);
    let status = pair.proxy.status();
    assert_eq!(status["config"]["last_reload"]["outcome"], "invalid");
    assert!(status["config"]["last_reload"]["error"].as_str().is_some_and(|e| e.contains("max_clients")));
    pair.proxy.wait_for_log("max_clients");
    let shown = status_screen(&pair.proxy);
    assert!(shown.contains("was changed and refused") && shown.contains("max_clients"), "{shown}");
    pair.client().expect_closed();
    assert_eq!(first.words("PING"), Value::simple("PONG"));
    assert_eq!(pair.proxy.get("/readyz").status, 200);

    // For a restart: the rest is applied, and the key is named.
    let applied = reloads(&pair.proxy, "applied");
    pair.proxy
        .write_config(&text.replace("secondary =", "unix_mode = \"0600\"\nmax_clients = 7\nsecondary ="));
    poll_until(SOON, "applied", || reloads(&pair.proxy, "applied") > applied);
    assert_eq!(pair.proxy.metric("multistore_config_last_reload_success", &[]), 1.0);
    let named = pair.proxy.status()["config"]["last_reload"]["restart_needed_for"].to_string();
    assert!(named.contains("unix_mode") && !named.contains("max_clients"), "{named}");
    let shown = status_screen(&pair.proxy);
    assert!(shown.contains("waits for a restart: ") && shown.contains("unix_mode"), "{shown}");
    pair.proxy.wait_for_log("unix_mode");
    poll_until(SOON, "seven may come", || pair.client().try_call(&["PING"]).is_ok_and(|r| !r.is_error()));
}

#[test]
fn a_client_whose_socket_fails_is_counted() {
    use std::io::Write;
    let pair = Pair::start();
    let failed = || pair.proxy.metric("multistore_client_errors_total", &[("kind", "io")]);
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", pair.proxy.port())).expect("connect");
    socket.write_all(&encode(&["PING"])).expect("send");
    assert_eq!(socket.peek(&mut [0; 1]).expect("an answer"), 1);
    // Closed with an answer unread: the system resets the connection.
    drop(socket);
    poll_until(SOON, "it is counted", || failed() == 1.0);
}

#[test]
fn sighup_asks_for_a_look() {
    let pair = Pair::start();
    let (applied, unchanged) = (reloads(&pair.proxy, "applied"), reloads(&pair.proxy, "unchanged"));
    pair.proxy.signal(Signal::HUP);
    poll_until(SOON, "a look", || reloads(&pair.proxy, "unchanged") > unchanged);
    assert_eq!(reloads(&pair.proxy, "applied"), applied);
}

#[test]
fn feature_set_moves_a_running_proxy_through_the_rollout_and_back() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &[r#"quiet_period = "0s""#]);
    // A step that is not safe yet is refused: the store that was left is repaired first.
    let set = |flag: &str, value: &str| {
        poll_until(SOON, &format!("{flag} {value} is safe"), || {
            let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
                .args(["feature", "set", flag, value, "--config"])
                .arg(pair.proxy.config_path())
                .output()
                .expect("run multistore");
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
            output.status.success()
        });
    };
    let both = format!("use_primary_and_secondary_stores_for_{INSTANCE}");
    let default = format!("use_primary_store_as_default_for_{INSTANCE}");
    let mut client = pair.client();
    for (round, (flag, value, stage)) in [
        (&both, "true", Stage::DualSecondaryDefault),
        (&default, "true", Stage::DualPrimaryDefault),
        (&both, "false", Stage::PrimaryOnly),
        (&both, "true", Stage::DualPrimaryDefault),
        (&default, "false", Stage::DualSecondaryDefault),
        (&both, "false", Stage::SecondaryOnly),
    ]
    .into_iter()
    .enumerate()
    {
        set(flag, value);
        pair.proxy.wait_for_stage(INSTANCE, stage);
        let value = round.to_string();
        assert_eq!(client.call(&["SET", "round", &value]), Value::ok());
        assert_eq!(client.words("GET round"), value.as_str().into());
        assert_eq!(pair.default_store(stage).words("GET round"), value.as_str().into(), "{stage}");
    }
}

/// `multistore check --connect` of an instance with these stores: exit code, standard output and error.
fn check_connect(primary: &str, secondary: &str) -> (Option<i32>, String, String) {
    let dir = TempDir::new();
    let config = format!(
        "[instances.jobs]\nlisten = \"127.0.0.1:6380\"\nprimary = \"{primary}\"\nsecondary = \"{secondary}\"\n"
    );
    std::fs::write(dir.path().join("proxy.toml"), config).expect("write proxy.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["check", "--connect"])
        .current_dir(dir.path())
        .output()
        .expect("run multistore");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_connect_refuses_one_store_under_two_addresses_and_tells_nobody_to_empty_it() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    one.words("SET production 1");
    let named = |database: &str| format!("redis://localhost:{}{database}", one.port());

    let (code, _, errors) = check_connect(&one.url(), &named(""));
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("are the same server") && !errors.contains("empty it"), "{errors}");

    // Two databases of one server are two stores; but emptying the server empties both.
    let (code, _, errors) = check_connect(&format!("{}/0", one.url()), &named("/1"));
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("FLUSHALL would empty, too") && !errors.contains("empty it"), "{errors}");

    let (code, _, errors) = check_connect(&one.url(), &other.url());
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("empty it before you begin"), "{errors}");
}

#[test]
fn the_keys_of_all_databases_are_counted_or_those_of_the_one_that_the_url_names() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    for line in ["SET a 1", "SELECT 5", "SET a 1", "SET b 1"] {
        secondary.words(line);
    }
    let (code, said, _) = check_connect(&primary.url(), &secondary.url());
    assert_eq!(code, Some(0));
    assert!(said.contains("secondary answers, and holds 3 keys, all databases together"), "{said}");
    assert!(said.contains("primary answers, and holds 0 keys"), "{said}");
    let (_, said, _) = check_connect(&format!("{}/5", primary.url()), &format!("{}/5", secondary.url()));
    assert!(said.contains("secondary answers, and holds 2 keys in database 5"), "{said}");
    // One URL names a database: then the instance shows one of the other store, too.
    let (_, said, _) = check_connect(&format!("{}/5", secondary.url()), &secondary.url());
    assert!(said.contains("secondary answers, and holds 1 key in database 0"), "{said}");
    assert!(said.contains("primary answers, and holds 2 keys in database 5"), "{said}");

    let proxy = Proxy::start(ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url()));
    proxy.wait_for_log("keys=3");
    assert!(proxy.log().lines().any(|line| line.contains("store connected") && line.contains("keys=3")));
}

#[test]
fn the_end_of_a_verification_is_logged_like_its_beginning() {
    let pair = Pair::start_in(Stage::DualSecondaryDefault);
    let verify = || {
        let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
            .args(["verify", "--config"])
            .arg(pair.proxy.config_path())
            .output()
            .expect("run multistore");
        output.status.code()
    };
    assert_eq!(verify(), Some(0));
    pair.proxy.wait_for_log("verification ended: no difference");
    pair.primary.words("SET behind-its-back 1");
    assert_eq!(verify(), Some(4));
    pair.proxy.wait_for_log("verification ended: the stores DIFFER");
    assert!(status_screen(&pair.proxy).contains("1 keys DIFFER"));
}

// --- the end ---

#[test]
fn every_owed_reply_arrives_before_a_drained_proxy_ends() {
    for stage in [Stage::SecondaryOnly, Stage::DualPrimaryDefault] {
        let mut pair = Pair::start_in(stage);
        let port = pair.proxy.port();
        let go_on = Arc::new(AtomicBool::new(true));
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let go_on = go_on.clone();
                std::thread::spawn(move || count_until_closed(port, number, &go_on))
            })
            .collect();
        let counted = |number: usize| -> i64 {
            let value = pair.default_store(stage).call(&["GET", &format!("counter:{number}")]);
            if value.is_nil() { 0 } else { value.text().parse().expect("a number") }
        };
        poll_until(SOON, "a load", || (0..4).all(|number| counted(number) > 200));
        let mut blocked = pair.client();
        blocked.send(&["BLPOP", "nothing", "0"]);
        let mut idle = pair.client();
        assert_eq!(idle.words("PING"), Value::simple("PONG"));
        let code = pair.proxy.terminate();
        go_on.store(false, Ordering::SeqCst);
        assert_eq!(code, Some(0), "{}", pair.proxy.log());
        for (number, thread) in threads.into_iter().enumerate() {
            let last = thread.join().expect("no client failed");
            let value = pair.default_store(stage).call(&["GET", &format!("counter:{number}")]);
            assert_eq!(value.text(), last.to_string(), "{stage}: executed and never answered");
        }
        let rest = String::from_utf8_lossy(&blocked.expect_closed()).into_owned();
        assert!(["", "*-1\r\n", "$-1\r\n"].contains(&&*rest), "{stage}: {rest}");
        assert_eq!(idle.expect_closed(), b"");
        assert!(pair.proxy.log().contains("every client had its replies"));
        pair.assert_equal_stores_if(stage.is_dual());
    }
}

trait EqualStores {
    fn assert_equal_stores_if(&self, dual: bool);
}

impl EqualStores for Pair {
    fn assert_equal_stores_if(&self, dual: bool) {
        if dual {
            self.assert_equal_stores();
        }
    }
}

/// Sends pipelines of INCR until the connection ends; returns the last number that came back.
fn count_until_closed(port: u16, number: usize, go_on: &AtomicBool) -> i64 {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    socket.set_read_timeout(Some(SOON)).expect("set a timeout");
    let key = format!("counter:{number}");
    let batch: Vec<u8> = (0..20).flat_map(|_| encode(&["INCR", &key])).collect();
    let mut writer = socket.try_clone().expect("share a socket");
    let mut came = Vec::new();
    let mut chunk = [0; 4096];
    let mut last = 0;
    let mut owed = 0;
    loop {
        if owed < 100 && go_on.load(Ordering::SeqCst) && writer.write_all(&batch).is_ok() {
            owed += 20;
        }
        match socket.read(&mut chunk) {
            Ok(0) | Err(_) => return last,
            Ok(n) => came.extend_from_slice(&chunk[..n]),
        }
        while let Some(end) = came.windows(2).position(|bytes| bytes == b"\r\n") {
            let line = String::from_utf8_lossy(&came[..end]).into_owned();
            came.drain(..end + 2);
            last = line.strip_prefix(':').expect("an integer").parse().expect("an integer");
            owed -= 1;
        }
    }
}

#[test]
fn a_drain_takes_a_slow_reader_s_replies_to_the_end() {
    let mut pair = Pair::start();
    let value = "x".repeat(1 << 20);
    let mut client = pair.client().with_patience(Duration::from_secs(20));
    client.call(&["SET", "large", &value]);
    for _ in 0..30 {
        client.send(&["GET", "large"]);
    }
    poll_until(SOON, "the replies are on their way", || {
        pair.proxy.metric("multistore_client_sent_bytes_total", &[]) > 1e6
    });
    // What the client sends after that is not read any more; it must not cost it its replies.
    pair.proxy.signal(Signal::TERM);
    pair.proxy.wait_for_log("stopping");
    let _ = client.try_send_raw(&encode(&["PING"]));
    let mut whole = 0;
    while let Ok(reply) = client.try_read_reply() {
        if reply.bytes().len() == value.len() {
            whole += 1;
        }
    }
    assert_eq!(whole, 30);
    assert_eq!(pair.proxy.wait_exit(), Some(0));
}

#[test]
fn a_drain_has_a_deadline_and_a_second_signal_ends_it() {
    let config = |pair: (&RedisServer, &RedisServer), timeout: &str| {
        ProxyConfig::new(INSTANCE, &pair.0.url(), &pair.1.url())
            .setting("reply_timeout = \"60s\"")
            .setting("lane_timeout = \"60s\"")
            .text(&format!("[process]\ndrain_timeout = \"{timeout}\""))
    };
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    for (timeout, second_signal) in [("300ms", false), ("60s", true)] {
        let mut proxy = Proxy::start(config((&primary, &secondary), timeout));
        let mut client = proxy.client();
        assert_eq!(client.words("SET a 1"), Value::ok());
        secondary.stop_signal();
        client.send(&["GET", "a"]);
        poll_until(SOON, "it waits", || proxy.instance_status(INSTANCE)["stores"]["secondary"]["depth"] != 0);
        let since = Instant::now();
        proxy.signal(Signal::TERM);
        proxy.wait_for_log("stopping");
        if second_signal {
            proxy.signal(Signal::INT);
        }
        assert_eq!(proxy.wait_exit(), Some(1));
        assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
        assert!(proxy.log().contains("before every client had its replies"));
        secondary.cont();
    }
}

#[test]
fn a_draining_proxy_takes_no_new_clients_and_says_so() {
    let mut pair =
        Pair::start_with(Stage::SecondaryOnly, &["reply_timeout = \"60s\"", "lane_timeout = \"60s\""]);
    let mut client = pair.client();
    assert_eq!(client.words("MULTI"), Value::ok());
    pair.proxy.signal(Signal::TERM);
    poll_until(SOON, "not ready", || pair.proxy.get("/readyz").status == 503);
    assert_eq!(pair.proxy.get("/livez").status, 200);
    assert_eq!(pair.proxy.status()["draining"], true);
    // It may finish what it has begun.
    assert_eq!(client.words("SET a 1"), Value::simple("QUEUED"));
    assert_eq!(client.words("EXEC"), vec![Value::ok()].into());
    client.expect_closed();
    assert_eq!(pair.proxy.wait_exit(), Some(0));
    assert!(Client::try_connect(pair.proxy.port()).is_err());
}

// --- what it says of itself ---

#[test]
fn the_admin_endpoints_of_a_running_proxy() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.words("SET a 1");
    client.words("NOSUCHCOMMAND");
    for (path, status) in [("/", 200), ("/livez", 200), ("/readyz", 200), ("/status", 200), ("/nothing", 404)]
    {
        assert_eq!(pair.proxy.get(path).status, status, "{path}");
    }
    assert_eq!(http_request(pair.proxy.admin_port(), "POST", "/status").expect("an answer").status, 405);
    let status = pair.proxy.instance_status(INSTANCE);
    assert_eq!(status["stage"], "dual_secondary_default");
    assert_eq!(status["default_store"], "secondary");
    assert_eq!(status["stores"]["primary"]["up"], true);
    let metrics = pair.proxy.metrics();
    for line in [
        "gitlab_redis_multi_store_read_fallback_total{command=\"get\",instance_name=\"duplicate_jobs\"} 0",
        "gitlab_redis_multi_store_pipelined_diff_error_total{command=\"multi\",instance_name=\"duplicate_jobs\"} 0",
        "gitlab_redis_multi_store_method_missing_total{command=\"other\",instance_name=\"duplicate_jobs\"} 1",
        "process_open_fds ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    pair.secondary.kill();
    poll_until(SOON, "not ready", || pair.proxy.get("/readyz").status == 503);
    assert_eq!(pair.proxy.get("/livez").status, 200);
    poll_until(SOON, "down", || pair.proxy.metric("multistore_store_up", &[("store", "secondary")]) == 0.0);
    pair.secondary.start_again(Data::Lost);
    poll_until(SOON, "ready", || pair.proxy.get("/readyz").status == 200);
}

#[test]
fn healthcheck_asks_the_running_proxy() {
    let mut pair = Pair::start();
    let check = |proxy: &Proxy| {
        let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
            .args(["healthcheck", "--config"])
            .arg(proxy.config_path())
            .output()
            .expect("run multistore");
        output.status.code()
    };
    assert_eq!(check(&pair.proxy), Some(0));
    pair.secondary.kill();
    poll_until(SOON, "unhealthy", || check(&pair.proxy) == Some(1));
    pair.proxy.kill();
    assert_eq!(check(&pair.proxy), Some(1));
}

/// A proxy that the test starts itself, for its environment or its standard error.
fn run_by_hand(config: &str, dir: &TempDir, environment: &[(&str, &str)]) -> std::process::Child {
    let file = dir.path().join("proxy.toml");
    std::fs::write(&file, config).expect("write proxy.toml");
    let log = std::fs::File::create(dir.path().join("log")).expect("a log");
    Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["run", "--config"])
        .arg(&file)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start the proxy")
}

#[test]
fn systemd_is_told_and_logs_are_json_where_asked_for() {
    let dir = TempDir::new();
    let manager = UnixDatagram::bind(dir.path().join("notify")).expect("bind");
    manager.set_read_timeout(Some(SOON)).expect("set a timeout");
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[log]\nformat = \"json\"\n[instances.one]\n\
         listen = \"127.0.0.1:{}\"\nprimary = \"{}\"\nsecondary = \"{}\"\n",
        free_port(),
        free_port(),
        primary.url(),
        secondary.url()
    );
    let address = dir.path().join("notify");
    let address = address.to_str().expect("a path");
    let mut child = run_by_hand(&config, &dir, &[("NOTIFY_SOCKET", address)]);
    let receive = || {
        let mut buffer = [0; 1024];
        let n = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    let mut heard = String::new();
    while !heard.contains("READY=1") {
        heard = receive();
    }
    signal(&child, Signal::TERM);
    while !heard.contains("STOPPING=1") {
        heard = receive();
    }
    assert!(wait_with_deadline(&mut child, SOON).expect("it ends").success());
    let log = std::fs::read_to_string(dir.path().join("log")).expect("a log");
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(parsed["level"].is_string() && parsed["timestamp"].is_string(), "{line}");
    }
}

// --- passwords ---

#[test]
fn passwords_are_in_no_log_no_metric_and_no_status() {
    const SECRETS: [&str; 2] = ["s3cret-in-the-file", "s3cret-in-the-environment"];
    let primary = RedisServer::start_with(&["--requirepass", SECRETS[0]]);
    let secondary = RedisServer::start_with(&["--requirepass", SECRETS[1]]);
    let third = RedisServer::start_with(&["--requirepass", "s3cret-in-the-url"]);
    let dir = TempDir::new();
    std::fs::write(dir.path().join("password"), format!("{}\n", SECRETS[0])).expect("write a password");
    let (admin, listen, other) = (free_port(), free_port(), free_port());
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[log]\nlevel = \"trace\"\n\
         [instances.one]\nlisten = \"127.0.0.1:{listen}\"\n\
         [instances.one.primary]\nurl = \"{}\"\npassword_file = \"password\"\n\
         [instances.one.secondary]\nurl = \"{}\"\npassword_env = \"STORE_PASSWORD\"\n\
         [instances.two]\nlisten = \"127.0.0.1:{other}\"\n\
         primary = \"redis://:s3cret-in-the-url@127.0.0.1:{}\"\n\
         secondary = \"redis://:s3cret-but-wrong@127.0.0.1:{}\"\n",
        primary.url(),
        secondary.url(),
        third.port(),
        third.port(),
    );
    let mut child = run_by_hand(&config, &dir, &[("STORE_PASSWORD", SECRETS[1])]);
    poll_until(SOON, "it serves", || {
        Client::try_connect(listen)
            .and_then(|mut client| client.try_call(&["SET", "a", "1"]))
            .is_ok_and(|reply| reply == Value::ok())
    });
    poll_until(SOON, "the wrong password is reported", || {
        let refusal = Client::try_connect(other).and_then(|mut client| client.try_call(&["GET", "a"]));
        refusal.is_ok_and(|reply| reply.is_error() && !reply.error().contains("s3cret"))
    });
    let mut seen = String::new();
    for path in ["/status", "/metrics", "/readyz"] {
        seen += &http_get(admin, path).expect("an answer").body;
    }
    // A bad change is told, too, without what stands on its line.
    let file = dir.path().join("proxy.toml");
    std::fs::write(
        &file,
        config.replace("[log]", "[lok]").replace("s3cret-but-wrong@", "s3cret-but-wrong@@:"),
    )
    .expect("write proxy.toml");
    poll_until(SOON, "a refused change", || {
        http_get(admin, "/metrics")
            .is_ok_and(|answer| answer.body.contains("multistore_config_last_reload_success 0"))
    });
    seen += &http_get(admin, "/status").expect("an answer").body;
    signal(&child, Signal::TERM);
    let _ = wait_with_deadline(&mut child, SOON);
    kill_now(&mut child);
    seen += &std::fs::read_to_string(dir.path().join("log")).expect("a log");
    assert!(seen.contains("store connected"));
    assert!(!seen.contains("s3cret"), "{seen}");
}

#[test]
fn clients_authenticate_as_they_would_at_the_store() {
    let primary = RedisServer::start();
    let secondary = RedisServer::start_with(&["--requirepass", "secret"]);
    secondary.words("AUTH secret");
    secondary.words("ACL SETUSER alice on >wonderland ~* &* +@all");
    let url = format!("redis://:secret@127.0.0.1:{}", secondary.port());
    let config = ProxyConfig::new("open", &primary.url(), &url)
        .instance("closed", &primary.url(), &url)
        .setting("auth = \"passthrough\"");
    let proxy = Proxy::start(config);

    // No password is asked for; the lane has one.
    let mut client = proxy.client_of("open");
    assert_eq!(client.words("SET a 1"), Value::ok());
    assert_eq!(client.words("AUTH secret"), Value::ok());
    assert!(client.words("AUTH wrong").error().starts_with("WRONGPASS"));
    assert_eq!(client.words("GET a"), "1".into());

    let mut client = proxy.client_of("closed");
    for command in ["GET a", "PING", "CLIENT ID", "SELECT 1", "MULTI", "SUBSCRIBE x", "MONITOR"] {
        assert_eq!(client.words(command).error(), "NOAUTH Authentication required.", "{command}");
    }
    assert!(client.words("HELLO 3").error().starts_with("NOAUTH HELLO must be called"));
    assert!(client.words("AUTH wrong").error().starts_with("WRONGPASS"));
    assert!(client.words("HELLO 3 AUTH default wrong").error().starts_with("WRONGPASS"));
    assert_eq!(client.words("GET a").error(), "NOAUTH Authentication required.");
    // In one write: the command behind AUTH runs with it.
    let replies = client.pipeline(&[&["AUTH", "secret"], &["GET", "a"]]);
    assert_eq!(replies, [Value::ok(), "1".into()]);
    assert_eq!(client.words("RESET"), Value::simple("RESET"));
    assert_eq!(client.words("GET a").error(), "NOAUTH Authentication required.");

    let mut client = proxy.client_of("closed");
    let hello = client.words("HELLO 3 AUTH alice wonderland SETNAME hatter");
    assert_eq!(hello.field("proto"), Some(&Value::Int(3)));
    assert_eq!(client.words("CLIENT GETNAME"), "hatter".into());
    assert!(client.words("CLIENT LIST").text().contains("user=alice"));
    // Before it has authenticated a client may send no large request.
    let mut stranger = proxy.client_of("closed");
    stranger.send_raw(b"*11\r\n");
    assert_eq!(stranger.expect_closed(), b"-ERR Protocol error: unauthenticated multibulk length\r\n");
    let mut stranger = proxy.client_of("closed");
    stranger.send_raw(b"*2\r\n$4\r\nAUTH\r\n$20000\r\n");
    assert_eq!(stranger.expect_closed(), b"-ERR Protocol error: unauthenticated bulk length\r\n");
    assert_eq!(proxy.metric("multistore_panics_total", &[]), 0.0);
}
