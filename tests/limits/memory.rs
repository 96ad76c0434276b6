//! Memory: of idle clients, of those that never read, of huge replies and requests.

use super::*;

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

/// Where the arguments of a request are takes more than they do, if they are tiny.
#[test]
fn what_is_noted_of_requests_counts_as_well() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["clients_query_total = \"4mb\""]);
    let mut tiny = pair.client();
    let bytes = [b"*1000000\r\n".to_vec(), b"$1\r\na\r\n".repeat(280_000)].concat();
    assert!(bytes.len() < 2 * MB as usize);
    let _ = tiny.try_send_raw(&bytes);
    poll_until(SOON, "it is closed", || evicted(&pair) == 1.0);
    let mut queued = pair.client().with_patience(Duration::from_secs(60));
    let commands = [encode(&["MULTI"]), encode(&["GET", "k"]).repeat(60_000)].concat();
    assert!(commands.len() < 2 * MB as usize);
    let _ = queued.try_send_raw(&commands);
    poll_until(SOON, "so is it", || evicted(&pair) == 2.0);
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
fn a_client_that_reads_nothing_before_it_has_said_everything_is_served() {
    // More than sockets hold, both ways: libraries send a pipeline whole, and read its replies then.
    const COUNT: usize = 60_000;
    for stage in [Stage::SecondaryOnly, Stage::DualPrimaryDefault] {
        let pair = Pair::start_with(stage, &PATIENT);
        let text = "x".repeat(1000);
        let large = "y".repeat(500_000);
        assert_eq!(pair.client().call(&["SET", "large", &large]), Value::ok());
        let mut stream = TcpStream::connect(("127.0.0.1", pair.proxy.port())).expect("connect");
        stream.set_read_timeout(Some(LATER)).expect("set a timeout");
        stream.set_write_timeout(Some(LATER)).expect("set a timeout");
        let mut requests = Vec::new();
        for _ in 0..3 {
            // Read in the lane, then past it.
            requests.extend_from_slice(&encode(&["GET", "large"]));
        }
        (0..COUNT).for_each(|_| requests.extend_from_slice(&encode(&["ECHO", &text])));
        std::io::Write::write_all(&mut stream, &requests).expect("everything is taken");
        let mut left =
            3 * (large.len() + b"$500000\r\n\r\n".len()) + COUNT * (text.len() + b"$1000\r\n\r\n".len());
        let mut chunk = vec![0; 1 << 20];
        while left > 0 {
            let n =
                stream.read(&mut chunk).unwrap_or_else(|error| panic!("{error} with {left} bytes to come"));
            assert!(n > 0, "closed with {left} bytes to come");
            left -= n;
        }
    }
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
