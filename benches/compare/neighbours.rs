//! Neighbours who ask for too much: others are not to wait for them.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::load::{self, Plan};
use super::measure::median;
use super::peers::{Peer, Stores, Target};
use super::process::Process;
use super::report::Table;
use super::targets::Judged;
use super::work::{KEYS, Maker, Work};

const LARGE: usize = 16 << 20;
/// A proxy that has not grown for so long grows no further.
const UNREAD: Duration = Duration::from_secs(2);
const PEERS: [Peer; 4] = [Peer::Direct, Peer::Nutcracker, Peer::EnvoyMirror, Peer::DualSecondary];

/// Who asks beside the small ones.
#[derive(Clone, Copy)]
enum Neighbour {
    Nobody,
    LargeSets,
    LargeGets,
    Pipelines,
}

// === impl Neighbour ===

impl Neighbour {
    const ALL: [Neighbour; 4] =
        [Neighbour::Nobody, Neighbour::LargeSets, Neighbour::LargeGets, Neighbour::Pipelines];

    fn name(self) -> &'static str {
        match self {
            Neighbour::Nobody => "alone: p50 / p99 µs",
            Neighbour::LargeSets => "beside SETs of 16 MiB",
            Neighbour::LargeGets => "beside GETs of 16 MiB",
            Neighbour::Pipelines => "beside pipelines of 1,000",
        }
    }

    fn plan(self, prefix: &str, time: Duration) -> Option<Plan> {
        let large = format!("large{prefix}");
        let plan = |clients, pipeline, work, value, prefix: &str| {
            Some(Plan { clients, pipeline, work, value, time, requests: None, prefix: prefix.to_owned() })
        };
        match self {
            Neighbour::Nobody => None,
            Neighbour::LargeSets => plan(1, 1, Work::Set, LARGE, &large),
            Neighbour::LargeGets => plan(1, 1, Work::Get, LARGE, &large),
            Neighbour::Pipelines => plan(2, 1000, Work::Set, 16, prefix),
        }
    }
}

/// Small GETs of some clients beside a neighbour who asks for a lot: medians of the rounds, the peers in turns.
pub fn neighbours(stores: &Stores, rounds: usize, time: Duration) -> io::Result<Table> {
    let mut targets = Vec::new();
    for peer in PEERS {
        let Some(target) = stores.target(peer)? else { continue };
        load::send_all(target.addr, &Maker::new(Work::Set, &prefix(peer), 16, 1).preload(), 2 * KEYS)?;
        targets.push(target);
    }
    // For each target and neighbour the runs' p50 and p99.
    let mut runs: Vec<[Vec<[f64; 2]>; 4]> = targets.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds {
        for (at, neighbour) in Neighbour::ALL.into_iter().enumerate() {
            for (target, runs) in targets.iter().zip(&mut runs) {
                let latency = beside(target, neighbour, time)?;
                runs[at].push([0.5, 0.99].map(|quantile| latency.value_at_quantile(quantile) as f64 / 1e3));
            }
        }
    }
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(Neighbour::ALL.map(|neighbour| neighbour.name().to_owned()));
    rows[0].push("a client that reads no reply: MiB more at most, and in the end".into());
    let of =
        |runs: &[[f64; 2]], at: usize| median(runs.iter().map(|run| run[at]).collect()).unwrap_or(f64::NAN);
    for (target, runs) in targets.iter().zip(&runs) {
        let mut row = vec![target.peer.name().to_owned()];
        row.extend(runs.iter().map(|runs| format!("{:.0} / {:.0}", of(runs, 0), of(runs, 1))));
        row.push(unread(target.addr, target.process.as_ref())?);
        rows.push(row);
    }
    let find = |peer| targets.iter().position(|target| target.peer == peer).map(|at| &runs[at]);
    let mut judged = Vec::new();
    if let (Some(ours), Some(theirs)) = (find(Peer::DualSecondary), find(Peer::Nutcracker)) {
        for at in [1, 2] {
            let ratios = ours[at].iter().zip(&theirs[at]).map(|(a, b)| a[1] / b[1]).collect();
            let what = format!("p99 of small GETs {}, against twemproxy", Neighbour::ALL[at].name());
            judged.push(Judged::at_most(
                &what,
                "10 clients, P=1, 16 B",
                0.7,
                median(ratios).unwrap_or(f64::NAN),
            ));
        }
    }
    Ok(Table { heading: "Neighbours (10 clients with small GETs, P=1)".into(), rows, judged })
}

fn prefix(peer: Peer) -> String {
    format!("n{peer:?}")
}

fn beside(target: &Target, neighbour: Neighbour, time: Duration) -> io::Result<Histogram<u64>> {
    let (addr, prefix) = (target.addr, prefix(target.peer));
    let small = Plan {
        clients: 10,
        pipeline: 1,
        work: Work::Get,
        value: 16,
        time,
        requests: None,
        prefix: prefix.clone(),
    };
    thread::scope(|scope| {
        let busy = neighbour.plan(&prefix, time).map(|plan| scope.spawn(move || load::run(addr, &plan)));
        thread::sleep(time / 10);
        let outcome = load::run(addr, &small);
        // A neighbour that is refused or cut off is a neighbour less.
        drop(busy.map(|busy| busy.join()));
        Ok(outcome?.latency)
    })
}

/// How much a proxy grows for a client that asks for 400 MB and reads nothing, whether for a moment or for long, and
/// whether it cuts the client off.
fn unread(addr: SocketAddr, process: Option<&Process>) -> io::Result<String> {
    let Some(process) = process else { return Ok("–".into()) };
    process.forget_peak()?;
    let before = process.memory() as f64;
    let mut request = Vec::new();
    multistore::resp::encode::command(&mut request, &[b"SET".as_slice(), b"unread", &vec![b'x'; 1 << 20]]);
    load::send_all(addr, &request, 1)?;
    let mut stream = TcpStream::connect(addr)?;
    request.clear();
    for _ in 0..400 {
        multistore::resp::encode::command(&mut request, &[b"GET".as_slice(), b"unread"]);
    }
    // It may be cut off: that is one good answer.
    let _ = stream.write_all(&request);
    let mut peak = 0;
    while std::mem::replace(&mut peak, process.peak()) < process.peak() {
        thread::sleep(UNREAD);
    }
    let grown = |memory: u64| (memory as f64 - before) / 1024.0;
    let end = if is_cut(&mut stream) { ", cut off" } else { "" };
    Ok(format!("{:+.0} / {:+.0}{end}", grown(process.peak()), grown(process.memory())))
}

/// Has the other side closed this connection? The first byte that it does not want brings the news, the next one fails.
fn is_cut(stream: &mut TcpStream) -> bool {
    let mut write = || stream.write(b"*0\r\n").is_err();
    write() || {
        thread::sleep(Duration::from_millis(100));
        write()
    }
}
