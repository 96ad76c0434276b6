//! System calls per mirrored SET, counted by strace. It slows the proxy down, so that more is done in each turn of the
//! event loop than without it; what a request costs by itself, one read and one write, stays.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::load::{self, Plan};
use super::peers::{Peer, Stores, Target};
use super::process::Process;
use super::report::Table;
use super::targets::Judged;
use super::work::Work;

const CLIENTS: usize = 50;
const REQUESTS: u64 = 20_000;
const ATTACHED: Duration = Duration::from_secs(10);

const READS: &[&str] = &["read", "readv", "recvfrom", "recvmsg"];
const WRITES: &[&str] = &["write", "writev", "sendto", "sendmsg"];
const WAITS: &[&str] = &["epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl"];

/// What the proxy and its peers ask of the kernel.
pub fn calls(stores: &Stores) -> io::Result<Table> {
    let columns = ["", "reads", "writes", "epoll calls", "other"];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    let mut judged = Vec::new();
    for peer in [Peer::Nutcracker, Peer::EnvoyMirror, Peer::Floor, Peer::DualSecondary] {
        let Some(target) = stores.target(peer)? else { continue };
        let counts = count(stores, &target)?;
        let of = |names: &[&str]| {
            let known = counts.iter().filter(|(name, _)| names.contains(&name.as_str()));
            known.map(|(_, count)| *count).sum::<u64>() as f64 / REQUESTS as f64
        };
        let (reads, writes, waits) = (of(READS), of(WRITES), of(WAITS));
        let all = counts.values().sum::<u64>() as f64 / REQUESTS as f64;
        let mut row = vec![peer.name().to_owned()];
        row.extend([reads, writes, waits, all - reads - writes - waits].map(|each| format!("{each:.2}")));
        rows.push(row);
        if peer == Peer::DualSecondary {
            let load = format!("SET, {CLIENTS} clients, P=1, 16 B");
            judged.push(Judged::at_most(
                "reads and writes per request, mirrored",
                &load,
                2.5,
                reads + writes,
            ));
            judged.push(Judged::at_most("epoll calls per request, mirrored", &load, 0.25, waits));
        }
    }
    let heading = format!("System calls per SET ({CLIENTS} clients, P=1, under strace)");
    Ok(Table { heading, rows, judged })
}

/// How often the process called what while it served the requests.
fn count(stores: &Stores, target: &Target) -> io::Result<BTreeMap<String, u64>> {
    let Some(process) = &target.process else { return Err(io::Error::other("no process")) };
    let out = stores.dir().join("strace.out");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-p", &process.pid().to_string(), "-o"]).arg(&out);
    let mut strace = Process::start("strace", strace.stderr(Stdio::null()), stores.dir())?;
    attached(process)?;
    let plan = Plan {
        clients: CLIENTS,
        pipeline: 1,
        work: Work::Set,
        value: 16,
        time: Duration::from_secs(600),
        requests: Some(REQUESTS),
        prefix: format!("calls{:?}", target.peer),
    };
    load::run(target.addr, &plan)?;
    strace.end()?;
    // % time, seconds, usecs/call, calls, errors if any, name.
    let text = fs::read_to_string(out)?;
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words.last()?.to_string(), words.get(3)?.parse().ok()?))
    });
    Ok(rows.filter(|(name, _)| name != "total").collect())
}

/// Waits until every thread of the process is traced.
fn attached(process: &Process) -> io::Result<()> {
    let begin = Instant::now();
    let traced = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    };
    while !fs::read_dir(format!("/proc/{}/task", process.pid()))?.flatten().all(traced) {
        if begin.elapsed() > ATTACHED {
            return Err(io::Error::other("strace is not installed, or may not trace"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
