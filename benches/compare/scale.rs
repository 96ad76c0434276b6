//! How cost grows with clients, threads and instances; what an idle client and a new connection cost.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::load::{self, PATIENCE, Plan};
use super::measure::{Cell, Loaded, Rounds, measure, median};
use super::peers::{self, Peer, Stores, Target};
use super::process::{Process, free_port};
use super::report::Table;
use super::targets::Judged;
use super::work::Work;

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// From one client to ten thousand.
pub fn clients(stores: &Stores, rounds: usize, time: Duration) -> io::Result<Table> {
    let mut rows = vec![row(["clients", "requests/s", "CPU µs per request", "p99 µs", "memory KiB"])];
    let targets: Vec<_> = stores.target(Peer::DualSecondary)?.into_iter().collect();
    for clients in [1, 10, 100, 1_000, 10_000] {
        let cell = Cell { work: Work::Set, clients, pipeline: 1, value: 16 };
        let rounds = Rounds { least: rounds, most: rounds };
        let measured = measure(stores, &targets, cell, rounds, time, &mut Loaded::default())?;
        let at = |value: fn(&super::measure::Sample) -> f64| {
            measured.median(Peer::DualSecondary, value).map_or("–".into(), |value| format!("{value:.1}"))
        };
        rows.push(vec![
            clients.to_string(),
            at(|s| s.per_second),
            at(|s| s.proxy),
            at(|s| s.p99),
            at(|s| s.memory),
        ]);
    }
    Ok(Table { heading: "From 1 to 10,000 clients (SET, P=1, mirrored)".into(), rows, judged: Vec::new() })
}

/// What a client costs that says nothing, and one that says one thing and leaves: medians of the rounds, the peers in turns.
pub fn connections(stores: &Stores, rounds: usize) -> io::Result<Table> {
    const IDLE: usize = 10_000;
    const SHORT: usize = 2_000;
    let mut peers = Vec::new();
    for peer in [Peer::Direct, Peer::Haproxy, Peer::Nutcracker, Peer::EnvoyMirror, Peer::DualSecondary] {
        peers.extend(stores.target(peer)?);
    }
    let mut runs: Vec<Vec<[f64; 2]>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (target, runs) in peers.iter().zip(&mut runs) {
            let cpu = || target.process.as_ref().map_or(Duration::ZERO, |process| process.cpu());
            short(target.addr, SHORT / 10)?;
            let (before, begin) = (cpu(), Instant::now());
            short(target.addr, SHORT)?;
            let used = (cpu() - before).as_secs_f64() * 1e6 / SHORT as f64;
            runs.push([SHORT as f64 / begin.elapsed().as_secs_f64(), used]);
        }
    }
    let of =
        |runs: &[[f64; 2]], at: usize| median(runs.iter().map(|run| run[at]).collect()).unwrap_or(f64::NAN);
    let mut rows = vec![row([
        "",
        "KiB per idle client",
        "connect + SET + close: per second",
        "CPU µs of the proxy for each",
    ])];
    let mut judged = Vec::new();
    for (target, runs) in peers.iter().zip(&runs) {
        let each = idle(target, IDLE)?;
        let of_proxy = |text: String| if target.process.is_some() { text } else { "–".into() };
        rows.push(vec![
            target.peer.name().into(),
            of_proxy(format!("{each:.1}")),
            format!("{:.0}", of(runs, 0)),
            of_proxy(format!("{:.1}", of(runs, 1))),
        ]);
        if target.peer == Peer::DualSecondary {
            judged.push(Judged::at_most("KiB per idle client", &format!("{IDLE} clients"), 4.0, each));
        }
    }
    let find = |peer| peers.iter().position(|target| target.peer == peer).map(|at| &runs[at]);
    if let (Some(ours), Some(theirs)) = (find(Peer::DualSecondary), find(Peer::EnvoyMirror)) {
        let ratios = ours.iter().zip(theirs).map(|(a, b)| a[1] / b[1]).collect();
        let what = "CPU, connect + SET + close, mirrored, against Envoy mirroring";
        judged.push(Judged::at_most(what, "one after the other", 0.85, median(ratios).unwrap_or(f64::NAN)));
    }
    Ok(Table { heading: "Connections".into(), rows, judged })
}

/// KiB of the proxy for each client that has said something and now says nothing.
fn idle(target: &Target, clients: usize) -> io::Result<f64> {
    let memory = || target.process.as_ref().map_or(0, |process| process.memory()) as f64;
    let before = memory();
    // haproxy is set up for fewer.
    let clients = if target.peer == Peer::Haproxy { clients.min(5_000) } else { clients };
    let idle: io::Result<Vec<TcpStream>> = (0..clients).map(|number| greeted(target.addr, number)).collect();
    let idle = idle?;
    let each = (memory() - before) / idle.len() as f64;
    // Reset, not closed: thousands of closed ones would keep their ports for a minute.
    idle.iter().try_for_each(|stream| SockRef::from(stream).set_linger(Some(Duration::ZERO)))?;
    Ok(each)
}

const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$5\r\nshort\r\n$1\r\n1\r\n";

fn greeted(addr: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let mut stream = load::dial(addr, number)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(SET)?;
    stream.read_exact(&mut [0; 5])?;
    Ok(stream)
}

fn short(addr: SocketAddr, times: usize) -> io::Result<()> {
    (0..times).try_for_each(|_| greeted(addr, 0).map(drop))
}

/// One worker thread or two, with two busy instances; and many instances.
pub fn instances(stores: &Stores, time: Duration) -> io::Result<Table> {
    let mut rows = vec![row([
        "instances",
        "threads",
        "start to first reply, ms",
        "memory KiB",
        "requests/s of two busy ones",
        "CPU µs per request",
    ])];
    for (count, threads) in [(1, 1), (2, 1), (2, 2), (10, 1), (100, 1), (100, 2)] {
        let listen: Vec<_> = (0..count).map(|_| free_port()).collect();
        let more = format!("threads = {threads}");
        // With a state file of their own: that of a run that was killed would have each of them repair the whole keyspace.
        let dir = tempfile::tempdir()?;
        let file = peers::config(dir.path(), &listen, Peer::DualSecondary, stores.addresses(), &more)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_multistore"));
        command.args(["run", "--config"]).arg(file);
        let begin = Instant::now();
        let mut process = Process::start("many", &mut command, stores.dir())?;
        process.answers(listen[0])?;
        drop(greeted(listen[0], 0)?);
        let started = begin.elapsed();
        listen.iter().try_for_each(|addr| greeted(*addr, 0).map(drop))?;
        set_up(&process);
        let memory = process.memory();
        let before = process.cpu();
        let (requests, rate) = busy(&listen, time)?;
        let each = (process.cpu() - before).as_secs_f64() * 1e6 / requests as f64;
        rows.push(vec![
            count.to_string(),
            threads.to_string(),
            format!("{:.0}", started.as_secs_f64() * 1e3),
            memory.to_string(),
            format!("{rate:.0}"),
            format!("{each:.2}"),
        ]);
    }
    let size = fs::metadata(env!("CARGO_BIN_EXE_multistore"))?.len() as f64 / f64::from(1 << 20);
    let heading = format!("Instances and threads (the binary has {size:.1} MiB, its debug lines included)");
    Ok(Table { heading, rows, judged: Vec::new() })
}

/// Waits until the process has little to do: who still sets up others has no time for the busy ones.
fn set_up(process: &Process) {
    const LOOK: Duration = Duration::from_millis(200);
    for _ in 0..100 {
        let before = process.wanted();
        thread::sleep(LOOK);
        if process.wanted() - before < LOOK / 10 {
            return;
        }
    }
}

fn busy(listen: &[SocketAddr], time: Duration) -> io::Result<(u64, f64)> {
    let runs: Vec<_> = listen
        .iter()
        .take(2)
        .map(|addr| {
            let addr = *addr;
            let plan = Plan {
                clients: 50,
                pipeline: 1,
                work: Work::Set,
                value: 16,
                time,
                requests: None,
                prefix: format!("i{addr}"),
            };
            thread::spawn(move || load::run(addr, &plan))
        })
        .collect();
    let (mut requests, mut rate) = (0, 0.0);
    for run in runs {
        let outcome = run.join().map_err(|_| io::Error::other("the clients have panicked"))??;
        requests += outcome.requests;
        rate += outcome.requests as f64 / outcome.elapsed.as_secs_f64();
    }
    Ok((requests, rate))
}
