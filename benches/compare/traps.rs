//! When things go wrong: the other store in trouble, and neighbours who ask for too much.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::load::{self, Outcome, Plan};
use super::measure::median;
use super::peers::{self, Peer, Stores};
use super::process::{Process, free_port};
use super::work::{KEYS, Maker, Work};

type Table = (String, Vec<Vec<String>>);

/// What happens to the other store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Hung,
    Slow,
    Dead,
    Restarting,
}

/// A pair of stores of its own, of which the other one is reached through a relay, and the proxy.
struct World {
    primary: Option<(Process, SocketAddr)>,
    _relay: Process,
    _secondary: Process,
    _proxy: Process,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

const CLIENTS: usize = 20;
const SLOW: Duration = Duration::from_millis(50);
const LARGE: usize = 16 << 20;

// === impl Trouble ===

impl Trouble {
    const ALL: [Trouble; 5] =
        [Trouble::None, Trouble::Hung, Trouble::Slow, Trouble::Dead, Trouble::Restarting];

    fn name(self) -> &'static str {
        match self {
            Trouble::None => "healthy",
            Trouble::Hung => "hung (SIGSTOP)",
            Trouble::Slow => "50 ms slow each way",
            Trouble::Dead => "dead",
            Trouble::Restarting => "killed and restarted all the time",
        }
    }
}

// === impl World ===

impl World {
    fn start(delay: Duration) -> io::Result<World> {
        let dir = tempfile::tempdir()?;
        let primary = peers::store("primary", dir.path())?;
        let (secondary, secondary_addr) = peers::store("secondary", dir.path())?;
        let relay_addr = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        let millis = delay.as_millis().to_string();
        command.args(["relay", &relay_addr.to_string(), &primary.1.to_string(), &millis]);
        let mut relay = Process::start("relay", &mut command, dir.path())?;
        relay.answers(relay_addr)?;
        let addr = free_port()?;
        let stores = [relay_addr, secondary_addr];
        let mut command = peers::multistore(dir.path(), &[addr], Peer::DualSecondary, stores)?;
        let mut proxy = Process::start("proxy", &mut command, dir.path())?;
        proxy.answers(addr)?;
        let primary = Some(primary);
        Ok(World { primary, _relay: relay, _secondary: secondary, _proxy: proxy, addr, dir })
    }

    fn run(&mut self, trouble: Trouble, work: Work, time: Duration) -> io::Result<Outcome> {
        load::send_all(self.addr, &Maker::new(Work::Set, "t", 16, 1).preload(), 2 * KEYS)?;
        let plan =
            Plan { clients: CLIENTS, pipeline: 1, work, value: 16, time, requests: None, prefix: "t".into() };
        match trouble {
            Trouble::None | Trouble::Slow => {}
            Trouble::Hung => self.primary.iter().try_for_each(|(store, _)| store.signal("STOP"))?,
            Trouble::Dead => self.primary = None,
            Trouble::Restarting => return self.run_restarting(&plan),
        }
        load::run(self.addr, &plan)
    }

    fn run_restarting(&mut self, plan: &Plan) -> io::Result<Outcome> {
        let addr = self.addr;
        let running = thread::spawn({
            let plan = plan.clone();
            move || load::run(addr, &plan)
        });
        while !running.is_finished() {
            thread::sleep(Duration::from_millis(300));
            if let Some((store, at)) = self.primary.take() {
                drop(store);
                self.primary = Some((peers::store_at("primary", self.dir.path(), at)?, at));
            }
        }
        running.join().map_err(|_| io::Error::other("the clients have panicked"))?
    }
}

/// What clients notice of trouble with the other store: latencies with it, and against a healthy pair.
pub fn trouble(rounds: usize, time: Duration) -> io::Result<Table> {
    let columns = [
        "other store",
        "work",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "p99 against healthy",
        "errors",
    ];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    for work in [Work::Set, Work::Get] {
        let mut runs: Vec<Vec<Outcome>> = Trouble::ALL.map(|_| Vec::new()).into();
        for _ in 0..rounds {
            for (trouble, runs) in Trouble::ALL.into_iter().zip(&mut runs) {
                let delay = if trouble == Trouble::Slow { SLOW } else { Duration::ZERO };
                runs.push(World::start(delay)?.run(trouble, work, time)?);
            }
        }
        let at = |runs: &[Outcome], quantile: f64| {
            let values = runs.iter().map(|run| run.latency.value_at_quantile(quantile) as f64 / 1e3);
            median(values.collect()).unwrap_or(f64::NAN)
        };
        let healthy = at(&runs[0], 0.99);
        for (trouble, runs) in Trouble::ALL.into_iter().zip(&runs) {
            let rate = runs.iter().map(|run| run.requests as f64 / run.elapsed.as_secs_f64()).collect();
            rows.push(vec![
                trouble.name().into(),
                work.name().into(),
                format!("{:.0}", median(rate).unwrap_or(f64::NAN)),
                format!("{:.0}", at(runs, 0.5)),
                format!("{:.0}", at(runs, 0.99)),
                format!("{:.0}", at(runs, 0.999)),
                format!("{:.2}", at(runs, 0.99) / healthy),
                runs.iter().map(|run| run.errors).sum::<u64>().to_string(),
            ]);
        }
    }
    let heading = format!(
        "The other store in trouble ({CLIENTS} clients, P=1, dual_secondary_default, ack = \"default\")"
    );
    Ok((heading, rows))
}

/// Small GETs of some clients beside a neighbour who asks for a lot.
pub fn neighbours(stores: &Stores, time: Duration) -> io::Result<Table> {
    let columns = [
        "",
        "alone: p50 / p99 µs",
        "beside SETs of 16 MiB",
        "beside pipelines of 1,000",
        "a client that reads no reply: MiB",
    ];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    for peer in [Peer::Direct, Peer::Nutcracker, Peer::EnvoyMirror, Peer::DualSecondary] {
        let Some(target) = stores.target(peer)? else { continue };
        let prefix = format!("n{peer:?}");
        load::send_all(target.addr, &Maker::new(Work::Set, &prefix, 16, 1).preload(), 2 * KEYS)?;
        let plan = |clients, pipeline, work, value, prefix: &str| Plan {
            clients,
            pipeline,
            work,
            value,
            time,
            requests: None,
            prefix: prefix.to_owned(),
        };
        let small = plan(10, 1, Work::Get, 16, &prefix);
        let beside = |neighbour: Option<Plan>| -> io::Result<String> {
            let outcome = thread::scope(|scope| {
                let busy = neighbour.map(|plan| scope.spawn(move || load::run(target.addr, &plan)));
                thread::sleep(time / 10);
                let outcome = load::run(target.addr, &small);
                // A neighbour that is refused or cut off is a neighbour less.
                drop(busy.map(|busy| busy.join()));
                outcome
            })?;
            let at = |quantile: f64| outcome.latency.value_at_quantile(quantile) / 1000;
            Ok(format!("{} / {}", at(0.5), at(0.99)))
        };
        rows.push(vec![
            peer.name().into(),
            beside(None)?,
            beside(Some(plan(1, 1, Work::Set, LARGE, "large")))?,
            beside(Some(plan(2, 1000, Work::Set, 16, &prefix)))?,
            unread(target.addr, target.process.as_ref())?,
        ]);
    }
    Ok(("Neighbours (10 clients with small GETs, P=1)".into(), rows))
}

/// How much a proxy grows for a client that asks for 400 MB and reads nothing.
fn unread(addr: SocketAddr, process: Option<&Process>) -> io::Result<String> {
    let Some(process) = process else { return Ok("–".into()) };
    let before = process.memory();
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
    thread::sleep(Duration::from_secs(2));
    Ok(format!("{:+.0}", (process.memory() as f64 - before as f64) / 1024.0))
}
