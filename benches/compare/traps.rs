//! When the other store is in trouble: clients are not to notice.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::load::{self, Outcome, Plan};
use super::measure::median;
use super::peers::{self, Peer};
use super::process::{Process, free_port};
use super::report::Table;
use super::targets::Judged;
use super::work::{KEYS, Maker, Work};

/// What happens to the other store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Hung,
    Slow,
    Dead,
    /// Nothing; but a server that the proxy does not know of is killed and restarted all the time: what that alone costs a
    /// machine with few cores.
    Elsewhere,
    Restarting,
}

/// A pair of stores of its own, of which the other one is reached through a relay, and the proxy.
struct World {
    primary: Option<(Process, SocketAddr)>,
    /// A server that nobody uses.
    bystander: Option<(Process, SocketAddr)>,
    _relay: Process,
    _secondary: Process,
    proxy: Process,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

/// What clients noticed in one run.
struct Run {
    outcome: Outcome,
    /// CPU microseconds per request of the proxy.
    cpu: f64,
}

const CLIENTS: usize = 20;
const SLOW: Duration = Duration::from_millis(50);
const RESTART_EVERY: Duration = Duration::from_millis(300);

// === impl Trouble ===

impl Trouble {
    /// Each, and what it is held against.
    const ALL: [(Trouble, Trouble); 7] = [
        (Trouble::None, Trouble::None),
        (Trouble::Hung, Trouble::None),
        (Trouble::Slow, Trouble::None),
        (Trouble::Dead, Trouble::None),
        (Trouble::Elsewhere, Trouble::None),
        (Trouble::Restarting, Trouble::None),
        (Trouble::Restarting, Trouble::Elsewhere),
    ];

    fn name(self) -> &'static str {
        match self {
            Trouble::None => "healthy",
            Trouble::Hung => "hung (SIGSTOP)",
            Trouble::Slow => "50 ms slow each way",
            Trouble::Dead => "dead",
            Trouble::Elsewhere => "healthy, while a third server is killed and restarted all the time",
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
        let relay_addr = free_port();
        let mut command = Command::new(std::env::current_exe()?);
        let millis = delay.as_millis().to_string();
        command.args(["relay", &relay_addr.to_string(), &primary.1.to_string(), &millis]);
        let mut relay = Process::start("relay", &mut command, dir.path())?;
        relay.answers(relay_addr)?;
        let addr = free_port();
        let stores = [relay_addr, secondary_addr];
        let mut command = peers::multistore(dir.path(), &[addr], Peer::DualSecondary, stores)?;
        let mut proxy = Process::start("proxy", &mut command, dir.path())?;
        proxy.answers(addr)?;
        let primary = Some(primary);
        Ok(World { primary, bystander: None, _relay: relay, _secondary: secondary, proxy, addr, dir })
    }

    /// Brings the trouble about. What only passes while clients run is made in [`World::run`].
    fn begin(&mut self, trouble: Trouble) -> io::Result<()> {
        load::send_all(self.addr, &Maker::new(Work::Set, "t", 16, 1).preload(), 2 * KEYS)?;
        match trouble {
            Trouble::None | Trouble::Slow | Trouble::Restarting => {}
            Trouble::Elsewhere => self.bystander = Some(peers::store("bystander", self.dir.path())?),
            Trouble::Hung => self.primary.iter().try_for_each(|(store, _)| store.signal("STOP"))?,
            Trouble::Dead => self.primary = None,
        }
        Ok(())
    }

    fn run(&mut self, trouble: Trouble, work: Work, time: Duration) -> io::Result<Run> {
        let plan =
            Plan { clients: CLIENTS, pipeline: 1, work, value: 16, time, requests: None, prefix: "t".into() };
        let before = self.proxy.cpu();
        let outcome = match trouble {
            Trouble::Restarting => {
                run_beside_restarts(self.addr, &plan, "primary", &mut self.primary, self.dir.path())
            }
            Trouble::Elsewhere => {
                run_beside_restarts(self.addr, &plan, "bystander", &mut self.bystander, self.dir.path())
            }
            Trouble::None | Trouble::Hung | Trouble::Slow | Trouble::Dead => load::run(self.addr, &plan),
        }?;
        let cpu = (self.proxy.cpu() - before).as_secs_f64() * 1e6 / outcome.requests as f64;
        Ok(Run { outcome, cpu })
    }
}

/// Runs the clients, and kills and restarts a server meanwhile.
fn run_beside_restarts(
    addr: SocketAddr,
    plan: &Plan,
    name: &str,
    store: &mut Option<(Process, SocketAddr)>,
    dir: &Path,
) -> io::Result<Outcome> {
    let running = thread::spawn({
        let plan = plan.clone();
        move || load::run(addr, &plan)
    });
    while !running.is_finished() {
        if let Some((killed, at)) = store.take() {
            drop(killed);
            *store = Some((peers::store_at(name, dir, at)?, at));
        }
        thread::sleep(RESTART_EVERY);
    }
    running.join().map_err(|_| io::Error::other("the clients have panicked"))?
}

// === impl Run ===

impl Run {
    fn at(&self, quantile: f64) -> f64 {
        self.outcome.latency.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// What clients notice of trouble with the other store. A healthy pair and one in trouble are asked in turns, and each run
/// is held against the one beside it: the p99 of equal runs of a shared machine differs by half from minute to minute.
pub fn trouble(rounds: usize, time: Duration) -> io::Result<Table> {
    let columns = [
        "other store",
        "work",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "longest µs",
        "CPU of the proxy, µs per request",
        "p99 of",
        "is, against it",
        "errors",
    ];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    let mut judged = Vec::new();
    for (trouble, to) in Trouble::ALL {
        let mut world = World::start(if trouble == Trouble::Slow { SLOW } else { Duration::ZERO })?;
        let mut partner = World::start(Duration::ZERO)?;
        world.begin(trouble)?;
        partner.begin(to)?;
        for work in [Work::Set, Work::Get] {
            let mut pairs = Vec::new();
            for round in 0..rounds {
                // Whoever comes second finds the machine warmer.
                let first = (round % 2 == 1).then(|| partner.run(to, work, time)).transpose()?;
                let troubled = world.run(trouble, work, time)?;
                let beside = first.map_or_else(|| partner.run(to, work, time), Ok)?;
                pairs.push((troubled, beside));
            }
            let of = |value: &dyn Fn(&Run) -> f64| {
                median(pairs.iter().map(|(run, _)| value(run)).collect()).unwrap_or(f64::NAN)
            };
            let ratios = pairs.iter().map(|(run, beside)| run.at(0.99) / beside.at(0.99)).collect();
            let ratio = median(ratios).unwrap_or(f64::NAN);
            rows.push(vec![
                trouble.name().into(),
                work.name().into(),
                format!("{:.0}", of(&|run| run.outcome.requests as f64 / run.outcome.elapsed.as_secs_f64())),
                format!("{:.0}", of(&|run| run.at(0.5))),
                format!("{:.0}", of(&|run| run.at(0.99))),
                format!("{:.0}", of(&|run| run.at(0.999))),
                format!("{:.0}", of(&|run| run.at(1.0))),
                format!("{:.1}", of(&|run| run.cpu)),
                to.name().into(),
                format!("{ratio:.2}"),
                pairs.iter().map(|(run, _)| run.outcome.errors).sum::<u64>().to_string(),
            ]);
            if ![Trouble::None, Trouble::Elsewhere].contains(&trouble) {
                let (trouble, to, work) = (trouble.name(), to.name(), work.name());
                let what = format!("p99 against a pair that is {to}, {work}, other store {trouble}");
                judged.push(Judged::at_most(&what, &format!("{CLIENTS} clients, P=1, 16 B"), 1.25, ratio));
            }
        }
    }
    let heading = format!(
        "The other store in trouble ({CLIENTS} clients, P=1, dual_secondary_default, ack = \"default\"; medians of \
         {rounds} pairs)"
    );
    Ok(Table { heading, rows, judged })
}
