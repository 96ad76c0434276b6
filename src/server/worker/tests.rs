//! Panics: who is ended by one, and who is not. The commands that panic exist in these tests alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::*;
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
        let text = "[instances.one]\nlisten = \"127.0.0.1:0\"\nprimary = \"redis://127.0.0.1:1\"\n\
                    secondary = \"redis://127.0.0.1:2\"\n[feature_flags]\n\
                    use_primary_and_secondary_stores_for_one = true\n";
        let config = Arc::new(Config::from_toml("proxy.toml", text).expect("valid").config);
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
