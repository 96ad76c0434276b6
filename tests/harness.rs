//! The parts in `support` tested without the proxy: a test is worth what its instruments are.

mod support;

use std::time::Duration;
use support::*;

#[test]
fn a_server_starts_answers_and_restarts_on_its_port() {
    let mut server = RedisServer::start();
    let (port, pid) = (server.port(), server.pid());
    assert_eq!(server.words("SET key value"), Value::ok());
    let mut client = server.client();
    assert_eq!(client.words("GET key"), "value".into());

    server.restart(Data::Kept);
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    client.expect_closed();
    assert_eq!(server.words("GET key"), "value".into());

    server.restart(Data::Lost);
    assert_eq!(server.words("GET key"), Value::Nil);
    assert_eq!(server.calls_of("get"), 1);
}

#[test]
fn a_stopped_server_is_silent_and_goes_on() {
    let server = RedisServer::start();
    let mut client = server.client();
    server.stop_signal();
    client.send(&["PING"]);
    client.expect_silence(Duration::from_millis(50));
    server.cont();
    assert_eq!(client.read_reply(), Value::simple("PONG"));
}

#[test]
fn a_server_takes_arguments_and_has_a_unix_socket() {
    let server = RedisServer::start_with(&["--maxmemory", "2mb", "--requirepass", "secret"]);
    let mut client = Client::try_connect_unix(&server.unix_path()).expect("connect");
    assert!(client.words("GET a").error().starts_with("NOAUTH"));
    assert_eq!(client.words("AUTH secret"), Value::ok());
    assert_eq!(client.words("CONFIG GET maxmemory"), Value::bulks(&["maxmemory", "2097152"]));
}

#[test]
fn nothing_is_left_when_a_server_is_dropped() {
    let server = RedisServer::start();
    let (pid, dir) = (server.pid(), server.unix_path());
    server.stop_signal();
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.parent().expect("a directory").exists());
}

#[test]
fn a_client_reads_every_type_and_its_exact_bytes() {
    let raw: &[&[u8]] = &[
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*2\r\n$0\r\n\r\n*0\r\n",
        b"_\r\n",
        b",1.5\r\n",
        b"#t\r\n",
        b"(99999999999999999999\r\n",
        b"!5\r\nERR x\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"%1\r\n+k\r\n:1\r\n",
        b"~1\r\n:1\r\n",
        b">2\r\n+message\r\n:1\r\n",
        b"|1\r\n+ttl\r\n:1\r\n$1\r\nv\r\n",
    ];
    let all: Vec<u8> = raw.concat();
    let store = ScriptedStore::start(move |_| Answer::Drip(all.clone(), Duration::from_micros(50)));
    let mut client = Client::connect(store.port());
    client.send(&["ANY"]);
    for expected in raw {
        assert_eq!(client.read_raw_reply().escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
    assert!(client.unread().is_empty());
}

#[test]
fn a_client_tells_a_timeout_from_a_close() {
    let store = ScriptedStore::start(|request| match request.name().as_str() {
        "HANG" => Answer::Swallow,
        "CUT" => Answer::BytesAndCut(b"$5\r\nab".to_vec()),
        _ => Answer::Usual,
    });
    let mut client = Client::connect(store.port()).with_patience(Duration::from_millis(50));
    let error = client.try_call(&["HANG"]).expect_err("nothing answers");
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    let error = client.try_call(&["CUT"]).expect_err("half an answer");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(client.expect_closed(), b"$5\r\nab");
}

#[test]
fn a_scripted_store_shakes_hands_and_keeps_a_record() {
    let store = ScriptedStore::start(|request| match request.name().as_str() {
        "GET" => Answer::bytes("$1\r\nx\r\n"),
        _ => Answer::Usual,
    });
    let mut client = Client::connect(store.port());
    assert_eq!(client.words("PING"), Value::simple("PONG"));
    assert_eq!(client.words("CLIENT ID"), 1.into());
    assert_eq!(client.words("HELLO 3").field("proto"), Some(&Value::Int(3)));
    assert_eq!(client.words("COMMAND INFO get nope"), vec![Value::Nil, Value::Nil].into());
    assert!(client.words("INFO").text().contains("run_id:"));
    let replies = client.pipeline(&[&["MULTI"], &["GET", "a"], &["SET", "a", "b"], &["EXEC"]]);
    assert_eq!(replies[1], Value::simple("QUEUED"));
    assert_eq!(replies[3], vec!["x".into(), Value::ok()].into());
    assert_eq!(store.count_of("GET"), 1);
    assert_eq!(store.commands().last().map(Request::name).as_deref(), Some("EXEC"));
}

#[test]
fn a_scripted_store_kills_cuts_and_refuses() {
    let store = ScriptedStore::start(|_| Answer::Usual);
    let (mut one, mut two) = (Client::connect(store.port()), Client::connect(store.port()));
    assert_eq!((one.words("CLIENT ID"), two.words("CLIENT ID")), (1.into(), 2.into()));
    assert_eq!(two.words("CLIENT KILL ID 1"), 1.into());
    one.expect_closed();
    store.cut_all();
    two.expect_closed();
    store.refuse(true);
    Client::connect(store.port()).expect_closed();
    store.refuse(false);
    assert_eq!(Client::connect(store.port()).words("PING"), Value::simple("PONG"));
}

#[test]
fn equal_stores_dump_equal_whatever_their_inner_order() {
    let (one, two) = (RedisServer::start(), RedisServer::start());
    for (server, members) in [(&one, "a b c"), (&two, "c b a")] {
        server.words("SELECT 0");
        server.words(&format!("SADD set {members}"));
        server.words("RPUSH list a b");
        server.words("HSET hash f 1 g 2");
        server.words("ZADD zset 1.5 a 2 b");
        server.words("SET string v EX 100");
        server.words("XADD stream 1-1 f v");
        server.words("XGROUP CREATE stream group 0");
        server.words("XREADGROUP GROUP group consumer STREAMS stream >");
        server.words("SELECT 3");
        server.words("SET three 3");
        server.words("SELECT 0");
    }
    assert_eq!(differences(&dump(&one), &dump(&two)), Vec::<String>::new());
    assert_eq!(dump(&one).len(), 7);
}

#[test]
fn every_kind_of_difference_is_found() {
    let (one, two) = (RedisServer::start(), RedisServer::start());
    for change in ["SET only x", "RPUSH value a", "SET kind x", "SET ttl x EX 100", "XADD stream 1-1 f v"] {
        one.words(change);
    }
    for change in ["RPUSH value b", "RPUSH kind x", "SET ttl x EX 200", "XADD stream 1-1 f v"] {
        two.words(change);
    }
    one.words("XGROUP CREATE stream group 0");
    let found = differences(&dump(&one), &dump(&two));
    let keys: Vec<&str> = found.iter().filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(keys, ["kind", "only", "stream", "ttl", "value"]);
}

#[test]
#[should_panic(expected = "not within 20ms: pigs fly")]
fn a_wait_ends_with_a_sentence() {
    poll_until(Duration::from_millis(20), "pigs fly", || false);
}
