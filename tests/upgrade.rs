//! A restart without a gap (SIGUSR2): real clients under load, two real processes, one pair of stores.

mod support;

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use support::{
    Authority, Client, INSTANCE, Pair, Proxy, ProxyConfig, RedisServer, SOON, Stage, TempDir, Value,
    free_port, poll_for, poll_until,
};

/// The process that took over. Ends with the test.
struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Replaces the proxy by itself and waits until the old process has ended.
fn upgrade(proxy: &mut Proxy) -> Successor {
    proxy.signal(Signal::USR2);
    assert_eq!(proxy.wait_exit(), Some(0), "{}", proxy.log());
    let log = proxy.log();
    let field = log.split("successor=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let pid = field.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    let successor = Successor(pid.unwrap_or_else(|| panic!("no successor: {log}")));
    assert!(test_kill_process(successor.0).is_ok(), "{log}");
    successor
}

/// The number behind `pause_ms=`.
fn pause(proxy: &Proxy) -> u64 {
    let log = proxy.log();
    let field = log.split("pause_ms=").nth(1).and_then(|rest| rest.split_whitespace().next());
    field.and_then(|pause| pause.parse().ok()).unwrap_or_else(|| panic!("no pause: {log}"))
}

/// Counts on one key until told to stop. What gets no answer is sent again on a new connection. Gives how many
/// answers came, and checks that each was the next number.
fn count(
    connect: impl Fn() -> std::io::Result<Client>,
    key: &str,
    stop: &AtomicBool,
    answers: &AtomicU64,
) -> (u64, u64) {
    let (mut acknowledged, mut reconnects) = (0, 0);
    let mut client = connect().expect("a connection");
    while !stop.load(Ordering::Relaxed) {
        match client.try_call(&["INCR", key]) {
            Ok(reply) => {
                acknowledged += 1;
                answers.fetch_add(1, Ordering::Relaxed);
                assert_eq!(reply, Value::Int(acknowledged as i64), "{key}: lost or doubled");
            }
            Err(_) => {
                reconnects += 1;
                client = connect().expect("never refused");
            }
        }
    }
    (acknowledged, reconnects)
}

#[test]
fn nothing_is_lost_doubled_or_refused_under_load() {
    for stage in [Stage::SecondaryOnly, Stage::DualSecondaryDefault, Stage::DualPrimaryDefault] {
        let mut pair = Pair::start_in(stage);
        let port = pair.proxy.port();
        let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        let (successor, counts) = std::thread::scope(|scope| {
            let keys: Vec<String> = (0..4).map(|number| format!("counter:{number}")).collect();
            let (stop, answers) = (&stop, &answers);
            let workers: Vec<_> = keys
                .into_iter()
                .map(|key| {
                    scope.spawn(move || (count(|| Client::try_connect(port), &key, stop, answers), key))
                })
                .collect();
            let more = |than: u64| {
                poll_until(SOON, "clients are served", || answers.load(Ordering::Relaxed) > than);
            };
            more(200);
            let successor = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let successor = upgrade(&mut pair.proxy);
                more(answers.load(Ordering::Relaxed) + 200);
                successor
            }));
            stop.store(true, Ordering::Relaxed);
            let counts: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("a worker")).collect();
            (successor.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), counts)
        });
        let default = pair.default_store(stage);
        for ((acknowledged, reconnects), key) in counts {
            assert_eq!(
                default.call(&["GET", &key]),
                acknowledged.to_string().as_str().into(),
                "{stage} {key}"
            );
            assert!(reconnects >= 1, "{stage} {key} was never closed");
        }
        if stage.is_dual() {
            pair.assert_equal_stores();
        }
        println!("{stage}: {} ms without service", pause(&pair.proxy));
        drop(successor);
    }
}

#[test]
fn unix_sockets_and_tls_go_over_as_well() {
    let authority = Authority::new();
    let files = authority.sign("server", &["localhost"]);
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    let dir = TempDir::new();
    let socket = dir.join("proxy.sock");
    let tls = format!("tls = {{ cert = \"{}\", key = \"{}\" }}", files.cert.display(), files.key.display());
    let local = format!(
        "[instances.local]\nlisten = \"unix://{}\"\nprimary = \"{}\"\nsecondary = \"{}\"\n",
        socket.display(),
        primary.url(),
        secondary.url()
    );
    let config = ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url())
        .stage(Stage::DualSecondaryDefault)
        .setting(&tls)
        .text(&local);
    let mut proxy = Proxy::start(config);
    let (port, trusted) = (proxy.port(), authority.client(None));
    let (stop, answers) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    let (counts, _successor) = std::thread::scope(|scope| {
        let (stop, answers) = (&stop, &answers);
        let over_unix =
            scope.spawn(|| count(|| Client::try_connect_unix(&socket), "unix", stop, &answers[0]));
        let over_tls = scope
            .spawn(|| count(|| Client::try_connect_tls(port, trusted.clone()), "tls", stop, &answers[1]));
        let more = || {
            let before = answers.each_ref().map(|count| count.load(Ordering::Relaxed));
            poll_until(SOON, "both are served", || {
                answers.iter().zip(before).all(|(count, before)| count.load(Ordering::Relaxed) > before + 50)
            });
        };
        let upgraded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            more();
            let successor = upgrade(&mut proxy);
            more();
            successor
        }));
        stop.store(true, Ordering::Relaxed);
        let counts = [over_unix, over_tls].map(|worker| worker.join().expect("a client"));
        (counts, upgraded.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    for (key, (acknowledged, reconnects)) in ["unix", "tls"].into_iter().zip(counts) {
        assert_eq!(secondary.call(&["GET", key]), acknowledged.to_string().as_str().into(), "{key}");
        assert_eq!(reconnects, 1, "{key}");
    }
}

#[test]
fn what_is_known_of_the_stores_goes_over() {
    let mut pair = Pair::start_in(Stage::SecondaryOnly);
    pair.client().words("SET before dual");
    pair.stage(Stage::DualSecondaryDefault);
    assert_eq!(pair.client().words("SET key value"), Value::ok());
    poll_until(SOON, "the write is mirrored", || pair.primary.words("GET key") == "value".into());
    let _successor = upgrade(&mut pair.proxy);
    assert_eq!(pair.client().words("GET key"), "value".into());
    // A clean handover: no store is behind as a whole.
    let sync = pair.proxy.instance_status(INSTANCE)["sync"].clone();
    assert!(sync["behind_as_a_whole"].is_null(), "{sync}");
    assert!(!pair.proxy.log().contains("may be behind"), "{}", pair.proxy.log());
}

#[test]
fn a_program_that_does_not_start_changes_nothing() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    assert_eq!(client.words("SET key value"), Value::ok());
    let text = pair.proxy.config_text();
    pair.proxy.write_config("no configuration");
    pair.proxy.signal(Signal::USR2);
    pair.proxy.wait_for_log("this process goes on");
    let log = pair.proxy.log();
    assert!(log.contains("ended before it said that it is prepared (exit status: 2)"), "{log}");
    assert!(!log.contains("within 30s"), "{log}");
    assert!(pair.proxy.is_running());
    assert_eq!(client.words("GET key"), "value".into());
    pair.proxy.write_config(&text);
    let _successor = upgrade(&mut pair.proxy);
    assert_eq!(client.expect_closed(), b"");
    assert_eq!(pair.client().words("GET key"), "value".into());
}

#[test]
fn one_that_waits_for_an_answer_gets_it_from_the_old_process() {
    let mut pair = Pair::start_with(Stage::DualSecondaryDefault, &["reply_timeout = \"20s\""]);
    let mut slow = pair.client();
    slow.send(&[
        "EVAL",
        "local now = function() return tonumber(redis.call('TIME')[1]) end local t = now() while now() < t + 2 do end return 'done'",
        "0",
    ]);
    poll_until(SOON, "the script runs", || pair.proxy.metric("multistore_requests_total", &[]) >= 1.0);
    let text = pair.proxy.config_text();
    pair.proxy.write_config(&format!("[process]\nupgrade_timeout = \"20s\"\n{text}"));
    pair.proxy.wait_for_log("in effect");
    let _successor = upgrade(&mut pair.proxy);
    assert_eq!(slow.read_reply(), "done".into());
    assert_eq!(slow.expect_closed(), b"");
}

#[test]
fn a_listener_of_systemd_s_is_taken() {
    let dir = TempDir::new();
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let file = dir.join("proxy.toml");
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[instances.one]\nlisten = \"127.0.0.1:{port}\"\nprimary = \"{}\"\n\
         secondary = \"{}\"\n",
        free_port(),
        primary.url(),
        secondary.url()
    );
    std::fs::write(&file, config).expect("write proxy.toml");
    // Who connects before there is a process waits.
    let mut client = Client::connect(port).with_patience(Duration::from_secs(20));
    client.send(&["SET", "early", "1"]);
    let fd: std::os::fd::OwnedFd = listener.into();
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).expect("keep it open");
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd).to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["run", "--config"])
        .arg(&file)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", &number)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start the proxy");
    drop(fd);
    let reply = client.try_read_reply();
    support::kill_now(&mut child);
    assert_eq!(reply.expect("a reply"), Value::ok());
    let _ = poll_for(SOON, || child.try_wait().ok().flatten());
}
