//! `make bench-fairness`: how long small reads take beside a client that is a burden, for each kind of burden,
//! directly, through twemproxy and through the proxy, one after the other in one run.

#[path = "../../tests/support/mod.rs"]
mod support;

mod burden;
mod peers;

use burden::Burden;
use peers::Peer;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::*;

/// How long each burden is borne.
const TIME: Duration = Duration::from_secs(4);
/// Clients that send small reads, one at a time.
const SMALL_CLIENTS: usize = 4;
/// Until a burden is in full swing.
const WARM_UP: Duration = Duration::from_millis(500);

/// What small reads took, and how many were answered by an error.
#[derive(Default)]
struct Latencies {
    sorted: Vec<Duration>,
    errors: usize,
}

// === impl Latencies ===

impl Latencies {
    fn at(&self, share: f64) -> f64 {
        let at = (self.sorted.len() as f64 * share) as usize;
        self.sorted
            .get(at.min(self.sorted.len().saturating_sub(1)))
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Small reads until `done`.
fn read_small(port: u16, done: &AtomicBool) -> Latencies {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    socket.set_nodelay(true).expect("set an option");
    let mut replies = BufReader::new(socket.try_clone().expect("share a socket"));
    let request = encode(&["GET", "small"]);
    let mut took = Latencies::default();
    while !done.load(Ordering::Relaxed) {
        let since = Instant::now();
        socket.write_all(&request).expect("send");
        let mut line = String::new();
        replies.read_line(&mut line).expect("receive");
        if line.starts_with('-') {
            if took.errors == 0 {
                eprint!("{line}");
            }
            took.errors += 1;
        } else {
            assert_eq!(line, "$5\r\n");
            line.clear();
            replies.read_line(&mut line).expect("receive");
            assert_eq!(line, "value\r\n");
        }
        took.sorted.push(since.elapsed());
        // Reads now and then: what is measured is the wait, not how much the machine can do.
        std::thread::sleep(Duration::from_millis(1));
    }
    took
}

/// One cell of the table: small reads beside a burden, and how often the burden's work was done.
fn measure(peer: &Peer, burden: Burden) -> (Latencies, u64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let burdens = burden.start(scope, peer.port(), &done);
        std::thread::sleep(WARM_UP);
        let readers: Vec<_> =
            (0..SMALL_CLIENTS).map(|_| scope.spawn(|| read_small(peer.port(), &done))).collect();
        std::thread::sleep(TIME);
        done.store(true, Ordering::Relaxed);
        let mut small = Latencies::default();
        for reader in readers {
            let more = reader.join().expect("a reader");
            small.sorted.extend(more.sorted);
            small.errors += more.errors;
        }
        small.sorted.sort_unstable();
        let work = burdens.into_iter().map(|burden| burden.join().expect("a burden")).sum();
        (small, work)
    })
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    println!("small GET beside …: median / 99 % / longest, in ms (times that the burden's work was done)\n");
    println!(
        "| beside | direct | twemproxy | secondary_only | dual_secondary_default | dual_primary_default |"
    );
    println!("|---|---|---|---|---|---|");
    for burden in Burden::ALL.into_iter().filter(|burden| chosen(burden.name())) {
        let cells: Vec<String> = Peer::NAMES.iter().map(|name| cell(name, burden)).collect();
        println!("| {} | {} |", burden.name(), cells.join(" | "));
    }
}

/// Fresh stores for each: what one burden leaves behind must not weigh on the next.
fn cell(name: &str, burden: Burden) -> String {
    let Some(peer) = Peer::start(name) else { return "not installed".to_owned() };
    if name == "twemproxy" && !burden.is_for_twemproxy() {
        return "–".to_owned();
    }
    burden.prepare(peer.port(), peer.store_ports());
    let before = peer.resident();
    let (small, work) = measure(&peer, burden);
    let after = peer.resident_settled();
    let memory = match (before, after) {
        (Some(before), Some(after)) => format!(", {before}→{after} MB"),
        _ => String::new(),
    };
    let errors = if small.errors > 0 { format!(", {} errors", small.errors) } else { String::new() };
    format!("{:.2} / {:.2} / {:.1} ({work}{memory}{errors})", small.at(0.5), small.at(0.99), small.at(1.0))
}
