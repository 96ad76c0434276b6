//! Panics: who is ended by one, and who is not. The commands that panic exist in these tests alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::*;
use crate::resp::request::{Decoded, Decoder, Request, RequestLimits};
use crate::stage::StoreId;

const PATIENCE: Duration = Duration::from_secs(10);

/// A worker on a thread of its own; the stores of its instance are down.
struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    state: Arc<StateFile>,
    orders: mpsc::Sender<Order>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Running {
        Running::start_with(2, "use_primary_and_secondary_stores_for_one = true\n")
    }

    fn start_with(secondary: u16, flags: &str) -> Running {
        let text = format!(
            "[instances.one]\nlisten = \"127.0.0.1:0\"\nprimary = \"redis://127.0.0.1:1\"\n\
             secondary = \"redis://127.0.0.1:{secondary}\"\n[feature_flags]\n{flags}"
        );
        let config = Arc::new(Config::from_toml("proxy.toml", &text).expect("valid").config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let (metrics, state) = (Metrics::new().expect("metrics"), Arc::new(StateFile::nowhere()));
        let (orders, inbox) = mpsc::channel(MAX_ORDERS);
        let (ready, is_ready) = oneshot::channel();
        let share = vec![("one".to_owned(), Bound::Tcp(listener))];
        let worker = Worker { share, config, metrics: metrics.clone(), state: state.clone(), inbox };
        let thread = Some(std::thread::spawn(move || run(worker, ready)));
        is_ready.blocking_recv().expect("it serves");
        Running { address, metrics, state, orders, thread }
    }

    fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.orders.blocking_send(Order::Quit);
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Something that answers like a store, as far as a lane needs it: its port.
fn store() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let (mut decoder, mut came, mut piece) = (Decoder::new(), Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        came.extend_from_slice(&piece[..n]);
        while let Ok(Decoded::Request { len, .. }) = decoder.decode(&came, &RequestLimits::default()) {
            let request = Request { frame: &came[..len], args: decoder.spans() };
            let bulk = |text: &[u8]| [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
            let reply = match (request.name(), request.arg(1)) {
                (b"ECHO", text) => bulk(text),
                (b"INFO", _) => bulk(b"run_id:1\r\nredis_version:7.0.0\r\nrole:master\r\n"),
                (b"CLIENT", b"LIST") => bulk(b""),
                (b"CLIENT", b"ID") | (b"DBSIZE", _) => b":1\r\n".to_vec(),
                (b"HELLO", _) => b"-ERR unknown command\r\n".to_vec(),
                (b"COMMAND", _) => b"*0\r\n".to_vec(),
                _ => b"+OK\r\n".to_vec(),
            };
            if stream.write_all(&reply).is_err() {
                return;
            }
            came.drain(..len);
        }
    }
}

/// The first line that comes back; empty if the connection ends.
fn say(client: &mut TcpStream, line: &str) -> String {
    client.write_all(line.as_bytes()).expect("send");
    let (mut came, mut byte) = (String::new(), [0]);
    while !came.ends_with("\r\n") && client.read(&mut byte).expect("an answer in time") > 0 {
        came.push(char::from(byte[0]));
    }
    came
}

#[test]
fn a_panic_in_a_session_ends_that_client_alone() {
    let running = Running::start();
    let (mut unlucky, mut other) = (running.client(), running.client());
    assert_eq!(say(&mut other, "CLIENT SETNAME other\r\n"), "+OK\r\n");
    assert_eq!(say(&mut unlucky, "PANIC\r\n"), "");
    assert_eq!(say(&mut other, "CLIENT GETNAME\r\n"), "$5\r\n");
    assert_eq!(running.metrics.restarts("one").get(), 0);
}

#[test]
fn a_panic_amid_a_change_of_the_order_begins_the_instance_anew_as_after_a_crash() {
    let running = Running::start();
    let (mut unlucky, mut other) = (running.client(), running.client());
    assert_eq!(say(&mut other, "CLIENT SETNAME other\r\n"), "+OK\r\n");
    assert_eq!(say(&mut unlucky, "PANICINORDER\r\n"), "");
    // What it said may not be believed any more: nobody goes on with it.
    assert_eq!(say(&mut other, ""), "");
    let mut anew = running.client();
    assert_eq!(say(&mut anew, "CLIENT SETNAME anew\r\n"), "+OK\r\n");
    // The other store may lack what was under way.
    let known = running.state.get("one").expect("recorded");
    assert_eq!((known.clean, known.behind.as_deref()), (false, Some(StoreId::Primary.name())));
    assert_eq!(running.metrics.restarts("one").get(), 1);
}

#[test]
fn a_panic_of_what_an_instance_cannot_do_without_begins_it_anew() {
    let running = Running::start();
    let mut client = running.client();
    say(&mut client, "PANICOFTASK\r\n");
    assert_eq!(say(&mut client, ""), "");
    let mut anew = running.client();
    assert_eq!(say(&mut anew, "CLIENT SETNAME anew\r\n"), "+OK\r\n");
    assert_eq!(running.metrics.restarts("one").get(), 1);
}

#[test]
fn a_lane_whose_writer_panics_is_connected_anew_at_once() {
    let running = Running::start_with(store(), "");
    let mut client = running.client();
    let until_served = |client: &mut TcpStream| {
        let deadline = Instant::now() + PATIENCE;
        while say(client, "SET key value\r\n") != "+OK\r\n" {
            assert!(Instant::now() < deadline, "the store is not connected again");
        }
    };
    until_served(&mut client);
    // What the writer had taken may have left or not: the client is told that nobody knows.
    assert!(say(&mut client, "PANICOFWRITER\r\n").starts_with('-'));
    until_served(&mut client);
    assert_eq!(running.metrics.restarts("one").get(), 0);
}
