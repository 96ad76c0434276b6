//! Everything that a client can make large, many or slow has an end, and that end is Redis's own where Redis has one.

mod support;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::*;

// --- memory ---

/// A field of /proc/PID/status in bytes.
fn memory(proxy: &Proxy, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("a running proxy");
    let line = status.lines().find(|line| line.starts_with(field)).expect("a field");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kilobytes * 1024
}

fn resident(proxy: &Proxy) -> u64 {
    memory(proxy, "VmRSS:")
}

const MB: u64 = 1 << 20;
/// How long moving hundreds of megabytes may take on a busy machine.
const LATER: Duration = Duration::from_secs(60);
/// For tests about sizes, not about time.
const PATIENT: [&str; 2] = ["reply_timeout = \"60s\"", "lane_timeout = \"60s\""];

/// Descriptors for a test with many clients; children inherit the raised limit.
fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn an_idle_client_costs_little() {
    let count = 10_000.min(raise_file_limit().saturating_sub(200) / 2);
    let pair = Pair::start_with(Stage::DualSecondaryDefault, &["max_clients = 20000"]);
    let clients = |count: u64| -> Vec<Client> {
        (0..count)
            .map(|_| {
                let mut client = pair.client();
                assert_eq!(client.words("PING"), Value::simple("PONG"));
                client
            })
            .collect()
    };
    let _warm_up = clients(100);
    let before = resident(&pair.proxy);
    let many = clients(count);
    poll_until(SOON, "all of them", || pair.proxy.metric("multistore_connections", &[]) >= count as f64);
    let each = resident(&pair.proxy).saturating_sub(before) / count;
    println!("{} idle clients: {each} bytes each", many.len());
    assert!(each < 8 * 1024, "{each} bytes for an idle client");
}

#[test]
fn a_client_that_dawdles_in_a_request_or_blocks_costs_little() {
    let pair = Pair::start_in(Stage::DualSecondaryDefault);
    let count = 500;
    let _warm_up: Vec<Client> = (0..20).map(|_| pair.client()).collect();
    let before = resident(&pair.proxy);
    let mut clients: Vec<Client> = (0..count).map(|_| pair.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        match number % 2 {
            0 => client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$20000\r\nbegun"),
            _ => client.send(&["BLPOP", "nothing", "0"]),
        }
    }
    poll_until(SOON, "all of them", || {
        pair.proxy.metric("multistore_parked_clients", &[]) >= (count / 2) as f64
    });
    let each = resident(&pair.proxy).saturating_sub(before) / count as u64;
    println!("{each} bytes for a client in the middle of something");
    assert!(each < 16 * 1024, "{each} bytes for a client in the middle of something");
}

#[test]
fn a_client_that_never_reads_is_closed_and_memory_is_bounded() {
    for stage in [Stage::SecondaryOnly, Stage::DualPrimaryDefault] {
        let pair = Pair::start_with(
            stage,
            &[
                "client_output_max = \"4mb\"",
                "client_output_soft = \"4mb\"",
                "compare_max_bytes = \"1kb\"",
                PATIENT[0],
                PATIENT[1],
            ],
        );
        let mut writer = pair.client();
        let value = "x".repeat(1 << 18);
        assert_eq!(writer.call(&["SET", "large", &value]), Value::ok());
        let before = resident(&pair.proxy);
        let mut lazy = pair.client();
        let requests: Vec<u8> = (0..200).flat_map(|_| encode(&["GET", "large"])).collect();
        lazy.send_raw(&requests);
        poll_until(LATER, "the client is closed", || {
            pair.proxy.metric("multistore_client_errors_total", &[("kind", "output_limit")]) >= 1.0
        });
        let peak = memory(&pair.proxy, "VmHWM:").saturating_sub(before);
        assert!(peak < 32 * MB, "{} MB at the most in {stage}", peak / MB);
        // The lane has gone on: others are not held up by what nobody wants any more.
        assert_eq!(writer.words("PING"), Value::simple("PONG"));
        pair.proxy.wait_for_log("unread replies passed client_output_max");
    }
}

fn evicted(pair: &Pair) -> f64 {
    pair.proxy.metric("multistore_client_errors_total", &[("kind", "evicted")])
}

fn client_memory(pair: &Pair, kind: &str) -> f64 {
    pair.proxy.metric("multistore_client_memory_bytes", &[("kind", kind)])
}

#[test]
fn many_clients_that_never_read_cannot_take_the_memory_of_all() {
    let pair = Pair::start_with(
        Stage::DualSecondaryDefault,
        &[
            "clients_output_total = \"4mb\"",
            "client_output_soft = \"64mb\"",
            "compare_max_bytes = \"1kb\"",
            PATIENT[0],
            PATIENT[1],
        ],
    );
    let mut polite = pair.client();
    assert_eq!(polite.call(&["SET", "large", &"x".repeat(1 << 17)]), Value::ok());
    let before = resident(&pair.proxy);
    let requests: Vec<u8> = (0..150).flat_map(|_| encode(&["GET", "large"])).collect();
    let mut lazy: Vec<Client> = (0..6).map(|_| pair.client()).collect();
    lazy.iter_mut().for_each(|client| client.send_raw(&requests));
    poll_until(LATER, "somebody is closed", || evicted(&pair) >= 1.0);
    poll_until(LATER, "the lanes are through", || {
        polite.words("PING") == Value::simple("PONG") && client_memory(&pair, "replies") <= 4.0 * MB as f64
    });
    let peak = memory(&pair.proxy, "VmHWM:").saturating_sub(before);
    assert!(peak < 48 * MB, "{} MB at the most", peak / MB);
    pair.proxy.wait_for_log("passed clients_output_total");
}

#[test]
fn many_requests_that_never_end_cannot_take_the_memory_of_all() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["clients_query_total = \"2mb\""]);
    let (mut small, mut spared) = (pair.client(), pair.client());
    small.send_raw(b"*2\r\n$4\r\nECHO\r\n$5\r\nhe");
    assert_eq!(spared.words("CLIENT NO-EVICT on"), Value::ok());
    let begun = [b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$900000\r\n".as_slice(), &[b'x'; 300_000]].concat();
    spared.send_raw(&begun);
    poll_until(SOON, "its request has come", || client_memory(&pair, "requests") >= 300_000.0);
    let mut many: Vec<Client> = (0..12).map(|_| pair.client()).collect();
    many.iter_mut().for_each(|client| client.send_raw(&begun));
    // Transactions are kept as well.
    let mut queues = pair.client();
    queues.words("MULTI");
    poll_until(SOON, "many are closed", || {
        let _ = queues.try_call(&["SET", "a", &"y".repeat(20_000)]);
        evicted(&pair) >= 7.0
    });
    poll_until(SOON, "the rest is within the limit", || client_memory(&pair, "requests") <= 2.0 * MB as f64);
    // Those with little, and those who asked not to be, are not.
    small.send_raw(b"llo\r\n");
    assert_eq!(small.read_reply(), "hello".into());
    spared.send_raw(&[b'x'; 600_000]);
    spared.send_raw(b"\r\n");
    assert_eq!(spared.read_reply(), Value::ok());
    pair.proxy.wait_for_log("passed clients_query_total");
}

#[test]
fn a_client_that_reads_slowly_is_read_slowly() {
    let pair = Pair::start_with(
        Stage::SecondaryOnly,
        &["client_output_soft = \"256kb\"", "client_pipeline_max = 50", PATIENT[0], PATIENT[1]],
    );
    let value = "x".repeat(100_000);
    let mut client = pair.client();
    assert_eq!(client.call(&["SET", "large", &value]), Value::ok());
    let before = resident(&pair.proxy);
    let count = 2_000;
    let sender = std::thread::scope(|scope| {
        // 200 MB of replies for a client that takes them one by one.
        let mut writer = TcpStream::connect(("127.0.0.1", pair.proxy.port())).expect("connect");
        let mut reader = writer.try_clone().expect("share a socket");
        scope.spawn(move || {
            use std::io::Write;
            for _ in 0..count {
                writer.write_all(&encode(&["GET", "large"])).expect("send");
            }
        });
        let mut left = count * (value.len() + b"$100000\r\n\r\n".len());
        let mut chunk = vec![0; 50_000];
        while left > 0 {
            let n = reader.read(&mut chunk).expect("read");
            assert!(n > 0, "closed with {left} bytes to come");
            left -= n;
        }
        left
    });
    assert_eq!(sender, 0);
    let peak = memory(&pair.proxy, "VmHWM:").saturating_sub(before);
    assert!(peak < 64 * MB, "{} MB at the most", peak / MB);
}

#[test]
fn a_huge_reply_flows_through() {
    const SIZE: usize = 256 << 20;
    for stage in [Stage::SecondaryOnly, Stage::DualPrimaryDefault] {
        let pair = Pair::start_with(stage, &PATIENT);
        pair.default_store(stage).call(&["SETRANGE", "huge", &(SIZE - 1).to_string(), "e"]);
        let before = resident(&pair.proxy);
        let mut stream = TcpStream::connect(("127.0.0.1", pair.proxy.port())).expect("connect");
        stream.set_read_timeout(Some(LATER)).expect("set a timeout");
        std::io::Write::write_all(&mut stream, &encode(&["GET", "huge"])).expect("send");
        let mut left = SIZE + format!("${SIZE}\r\n\r\n").len();
        let mut chunk = vec![0; 1 << 20];
        while left > 0 {
            let n = stream.read(&mut chunk).unwrap_or_else(|error| {
                panic!("{error} with {left} bytes to come: {}", pair.proxy.instance_status(INSTANCE))
            });
            assert!(n > 0, "closed with {left} bytes to come");
            left -= n;
        }
        assert!(chunk.windows(3).any(|end| end == b"e\r\n"), "the last byte came");
        let peak = memory(&pair.proxy, "VmHWM:").saturating_sub(before);
        println!("{} MB for a reply of {} MB in {stage}", peak / MB, SIZE as u64 / MB);
        // What the client has not taken yet waits here; how much that is, is up to the scheduler.
        assert!(peak < 160 * MB, "{} MB for a reply of 256 MB in {stage}", peak / MB);
        assert_eq!(pair.client().words("PING"), Value::simple("PONG"));
    }
}

#[test]
fn a_hundred_thousand_commands_in_one_write() {
    for stage in [Stage::SecondaryOnly, Stage::DualSecondaryDefault] {
        let pair = Pair::start_in(stage);
        let count = 100_000;
        let requests: Vec<u8> = (0..count)
            .flat_map(|number| match number % 4 {
                0 => encode(&["INCR", "counter"]),
                1 => encode(&["ECHO", &number.to_string()]),
                2 => encode(&["GET", "counter"]),
                _ => encode(&["NOSUCHCOMMAND", "x"]),
            })
            .collect();
        let mut client = pair.client().with_patience(LATER);
        std::thread::scope(|scope| {
            let mut socket = TcpStream::connect(("127.0.0.1", pair.proxy.port())).expect("connect");
            socket.set_read_timeout(Some(LATER)).expect("set a timeout");
            let mut writer = socket.try_clone().expect("share a socket");
            scope.spawn(move || std::io::Write::write_all(&mut writer, &requests).expect("send"));
            // Nothing is read before the proxy has stopped reading.
            let metric = || pair.proxy.metric("multistore_requests_total", &[]);
            let mut last = -1.0;
            poll_until(LATER, "the proxy waits for the reader", || {
                let now = metric();
                now == std::mem::replace(&mut last, now)
            });
            let mut replies = Reader::new(&mut socket);
            for number in 0..count {
                let (reply, _) = replies.read().expect("a reply");
                match number % 4 {
                    0 | 2 if number % 4 == 0 => assert_eq!(reply, (number / 4 + 1).into()),
                    1 => assert_eq!(reply, number.to_string().as_str().into()),
                    2 => assert_eq!(reply, (number / 4 + 1).to_string().as_str().into()),
                    _ => assert!(reply.error().starts_with("ERR unknown command 'NOSUCHCOMMAND'")),
                }
            }
        });
        assert_eq!(client.words("GET counter"), "25000".into());
        assert_eq!(pair.diffs(), 0.0);
    }
}

// --- numbers of clients and connections ---

#[test]
fn one_client_too_many_gets_redis_s_error() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["max_clients = 3"]);
    let mut clients: Vec<Client> = (0..3).map(|_| pair.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.words("PING"), Value::simple("PONG")));
    let mut fourth = pair.client();
    assert_eq!(fourth.expect_closed(), b"-ERR max number of clients reached\r\n");
    assert_eq!(pair.proxy.metric("multistore_connections_rejected_total", &[("reason", "max_clients")]), 1.0);
    clients.pop();
    poll_until(SOON, "room again", || pair.client().try_call(&["PING"]).is_ok_and(|reply| !reply.is_error()));
}

#[test]
fn one_address_takes_no_more_than_its_share() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["max_clients_per_address = 2"]);
    let mut clients: Vec<Client> = (0..2).map(|_| pair.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.words("PING"), Value::simple("PONG")));
    assert_eq!(pair.client().expect_closed(), b"-ERR max number of clients reached\r\n");
    let rejected = [("reason", "max_clients_per_address")];
    assert_eq!(pair.proxy.metric("multistore_connections_rejected_total", &rejected), 1.0);
    // Another address has a share of its own.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("another loopback address");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], pair.proxy.port())).into()).expect("connect");
    let mut stranger = TcpStream::from(socket);
    std::io::Write::write_all(&mut stranger, b"PING\r\n").expect("send");
    let mut answer = [0; 7];
    stranger.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"+PONG\r\n");
    clients.pop();
    poll_until(SOON, "room again", || pair.client().try_call(&["PING"]).is_ok_and(|reply| !reply.is_error()));
}

#[test]
fn clients_that_come_too_fast_wait_and_are_served() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["max_connection_rate = 50"]);
    let mut clients: Vec<Client> = (0..30).map(|_| pair.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.words("PING"), Value::simple("PONG")));
    assert!(pair.proxy.metric("multistore_connections_delayed_total", &[]) > 0.0);
}

#[test]
fn dedicated_connections_are_bounded_even_when_all_are_wanted_at_once() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["dedicated_max = 5"]);
    let mut clients: Vec<Client> = (0..50).map(|_| pair.client()).collect();
    clients.iter_mut().for_each(|client| client.send(&["BLPOP", "nothing", "0"]));
    let blocked = || {
        let list = pair.secondary.words("CLIENT LIST TYPE normal").text();
        list.lines().filter(|line| line.contains("cmd=blpop")).count()
    };
    poll_until(SOON, "five that wait", || blocked() == 5);
    let mut refusals = 0;
    for client in &mut clients {
        let mut client = std::mem::replace(client, pair.client()).with_patience(Duration::from_millis(20));
        if let Ok(reply) = client.try_read_reply() {
            assert!(reply.error().contains("dedicated_max"), "{reply:?}");
            refusals += 1;
        }
    }
    assert_eq!(refusals, 45);
}

#[test]
fn a_client_that_says_nothing_is_closed_and_one_that_waits_is_not() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["client_idle_timeout = \"1s\""]);
    let (mut idle, mut blocked, mut subscribed) = (pair.client(), pair.client(), pair.client());
    assert_eq!(idle.words("PING"), Value::simple("PONG"));
    subscribed.words("SUBSCRIBE channel");
    blocked.send(&["BLPOP", "list", "0"]);
    assert_eq!(idle.expect_closed(), b"");
    assert_eq!(pair.proxy.metric("multistore_client_errors_total", &[("kind", "idle")]), 1.0);
    pair.client().words("RPUSH list element");
    assert_eq!(blocked.read_reply(), Value::bulks(&["list", "element"]));
    pair.client().words("PUBLISH channel message");
    assert_eq!(subscribed.read_reply(), Value::bulks(&["message", "channel", "message"]));
}

// --- requests ---

#[test]
fn requests_beyond_a_limit_get_redis_s_words() {
    let pair = Pair::start_with(
        Stage::SecondaryOnly,
        &["max_bulk = \"1kb\"", "max_args = 16", "max_inline = \"64b\"", "max_request = \"64kb\""],
    );
    let long_inline = format!("SET a {}", "x".repeat(200));
    for (request, error) in [
        (&b"*2\r\n$3\r\nGET\r\n$1025\r\n"[..], "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*17\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'\r\n"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (long_inline.as_bytes(), "-ERR Protocol error: too big inline request\r\n"),
    ] {
        let mut client = pair.client();
        // What is owed comes first.
        client.send_raw(b"SET a 1\r\nGET a\r\n");
        client.send_raw(request);
        let came = client.expect_closed();
        let expected = format!("+OK\r\n$1\r\n1\r\n{error}");
        assert_eq!(String::from_utf8_lossy(&came), expected, "{}", request.escape_ascii());
    }
    // Words of an inline request are not arguments of an array.
    let words = format!("MGET{}\r\n", " a".repeat(20));
    let mut client = pair.client();
    client.send_raw(words.as_bytes());
    assert_eq!(client.read_reply().items().len(), 20);
}

#[test]
fn a_transaction_is_a_request_too() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["max_request = \"64kb\"", "max_bulk = \"64kb\""]);
    let mut client = pair.client();
    let value = "x".repeat(30_000);
    assert_eq!(client.words("MULTI"), Value::ok());
    assert_eq!(client.call(&["SET", "a", &value]), Value::simple("QUEUED"));
    assert_eq!(client.call(&["SET", "a", &value]), Value::simple("QUEUED"));
    assert!(client.call(&["SET", "a", &value]).error().contains("max_request"));
    assert!(client.words("EXEC").error().starts_with("EXECABORT"));
    assert_eq!(client.words("GET a"), Value::Nil);
}

#[test]
fn a_browser_is_sent_away_before_its_form_runs() {
    let pair = Pair::start();
    for first in ["POST / HTTP/1.1", "Host: localhost"] {
        let mut client = pair.client();
        client.send_raw(format!("{first}\r\nSET form filled\r\nSET form again\r\n").as_bytes());
        assert_eq!(client.expect_closed(), b"");
    }
    let mut client = pair.client();
    assert_eq!(client.words("GET form"), Value::Nil);
}

#[test]
fn a_pipeline_may_be_cut_anywhere() {
    let mut stream = Vec::new();
    for command in [
        &["SET", "key", "a\r\nb"][..],
        &["GET", "key"],
        &["NOSUCH", "x"],
        &["INCR", "key"],
        &["MULTI"],
        &["RPUSH", "list", "a", ""],
        &["LRANGE", "list", "0", "-1"],
        &["EXEC"],
        &["DEL", "list", "key"],
        &["EVAL", "return {1,{2,'x'}}", "0"],
    ] {
        stream.extend(encode(command));
    }
    stream.extend_from_slice(b"*0\r\n\r\nPING  inline\r\n*-1\r\nECHO \"q\\x41\"\r\n");
    let direct = RedisServer::start();
    let mut client = direct.client();
    client.send_raw(&stream);
    client.close_write();
    let expected = client.expect_closed();
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        for cut in 0..=stream.len() {
            let mut client = pair.client();
            let (head, tail) = stream.split_at(cut);
            client.send_raw(head);
            std::thread::yield_now();
            client.send_raw(tail);
            client.close_write();
            let came = client.expect_closed();
            assert_eq!(
                String::from_utf8_lossy(&came),
                String::from_utf8_lossy(&expected),
                "{stage}, cut at {cut}: {}|{}",
                head.escape_ascii(),
                tail.escape_ascii()
            );
        }
        // And byte by byte.
        let mut client = pair.client();
        stream.iter().for_each(|byte| client.send_raw(&[*byte]));
        client.close_write();
        assert_eq!(String::from_utf8_lossy(&client.expect_closed()), String::from_utf8_lossy(&expected));
    }
}

#[test]
fn requests_before_the_end_of_the_stream_are_served() {
    // Behind a command that is waited for, with more behind it than is taken in one turn.
    let pair = Pair::start_with(Stage::SecondaryOnly, &["client_pipeline_max = 10"]);
    let mut client = pair.client();
    let mut requests = Vec::new();
    (0..5).for_each(|_| requests.extend(encode(&["INCR", "counter"])));
    requests.extend(encode(&["AUTH", "password"]));
    (0..1_500).for_each(|_| requests.extend(encode(&["INCR", "counter"])));
    client.send_raw(&requests);
    client.close_write();
    let replies = client.expect_closed();
    let last = replies.escape_ascii().to_string();
    assert!(
        replies.ends_with(b":1505\r\n"),
        "{}",
        last.get(last.len().saturating_sub(80)..).unwrap_or(&last)
    );
}

#[test]
fn a_blocking_command_s_time_may_be_absurd() {
    for stage in [Stage::SecondaryOnly, Stage::DualSecondaryDefault] {
        let (pair, direct) = (Pair::start_in(stage), RedisServer::start());
        for time in ["1e19", "1e15", "-1", "nan", "inf", "x", "9223372036854775807", "1e308"] {
            let mut client = pair.client();
            client.send(&["BLPOP", "list", time]);
            let mut there = direct.client().with_patience(Duration::from_millis(200));
            match there.try_call(&["BLPOP", "list", time]) {
                Ok(error) => assert_eq!(client.read_reply(), error, "{stage} {time}"),
                // There it waits.
                Err(_) => {
                    pair.client().words("RPUSH list element");
                    assert_eq!(client.read_reply(), Value::bulks(&["list", "element"]), "{stage} {time}");
                }
            }
        }
        assert_eq!(pair.proxy.metric("multistore_panics_total", &[]), 0.0);
    }
}

// --- sockets ---

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_the_proxy() {
    let dir = TempDir::new();
    let path = dir.path().join("proxy.sock");
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[instances.one]\nlisten = \"unix://{}\"\nunix_mode = \"0600\"\n\
         primary = \"{}\"\nsecondary = \"{}\"\n",
        free_port(),
        path.display(),
        primary.unix_url(),
        secondary.unix_url(),
    );
    let file = dir.path().join("proxy.toml");
    std::fs::write(&file, config).expect("write proxy.toml");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["run", "--config"])
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start the proxy");
    let client = poll_for(SOON, || Client::try_connect_unix(&path).ok());
    let mut client = client.expect("a socket");
    assert_eq!(client.words("SET a 1"), Value::ok());
    assert_eq!(secondary.words("GET a"), "1".into());
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(client);
    signal(&child, rustix::process::Signal::TERM);
    let status = wait_with_deadline(&mut child, SOON).expect("it ends");
    assert!(status.success(), "{status:?}");
    assert!(!path.exists(), "the socket file is left");
}
