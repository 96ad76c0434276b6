//! Numbers of clients and connections, and their sockets.

use super::*;

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
