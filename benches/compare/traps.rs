//! When the other store is in trouble: clients are not to notice.

use std::io;
use std::net::SocketAddr;
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
const RESTART_EVERY: Duration = Duration::from_millis(300);

// === impl Trouble ===

impl Trouble {
    const ALL: [Trouble; 5] =
        [Trouble::None, Trouble::Hung, Trouble::Slow, Trouble::Dead, Trouble::Restarting];

    fn name(self) -> &'static str {
        match self {
            Trouble::None => "healthy, too",
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
        Ok(World { primary, _relay: relay, _secondary: secondary, _proxy: proxy, addr, dir })
    }

    /// Brings the trouble about. What only passes while clients run is made in [`World::run`].
    fn begin(&mut self, trouble: Trouble) -> io::Result<()> {
        load::send_all(self.addr, &Maker::new(Work::Set, "t", 16, 1).preload(), 2 * KEYS)?;
        match trouble {
            Trouble::None | Trouble::Slow | Trouble::Restarting => {}
            Trouble::Hung => self.primary.iter().try_for_each(|(store, _)| store.signal("STOP"))?,
            Trouble::Dead => self.primary = None,
        }
        Ok(())
    }

    fn run(&mut self, trouble: Trouble, work: Work, time: Duration) -> io::Result<Outcome> {
        let plan =
            Plan { clients: CLIENTS, pipeline: 1, work, value: 16, time, requests: None, prefix: "t".into() };
        match trouble {
            Trouble::Restarting => self.run_restarting(&plan),
            _ => load::run(self.addr, &plan),
        }
    }

    fn run_restarting(&mut self, plan: &Plan) -> io::Result<Outcome> {
        let addr = self.addr;
        let running = thread::spawn({
            let plan = plan.clone();
            move || load::run(addr, &plan)
        });
        while !running.is_finished() {
            if let Some((store, at)) = self.primary.take() {
                drop(store);
                self.primary = Some((peers::store_at("primary", self.dir.path(), at)?, at));
            }
            thread::sleep(RESTART_EVERY);
        }
        running.join().map_err(|_| io::Error::other("the clients have panicked"))?
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
        "p99 against healthy",
        "errors",
    ];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    let mut judged = Vec::new();
    let mut healthy = World::start(Duration::ZERO)?;
    healthy.begin(Trouble::None)?;
    for trouble in Trouble::ALL {
        let mut world = World::start(if trouble == Trouble::Slow { SLOW } else { Duration::ZERO })?;
        world.begin(trouble)?;
        for work in [Work::Set, Work::Get] {
            let mut pairs = Vec::new();
            for round in 0..rounds {
                // Whoever comes second finds the machine warmer.
                let first = (round % 2 == 1).then(|| healthy.run(Trouble::None, work, time)).transpose()?;
                let troubled = world.run(trouble, work, time)?;
                let beside = first.map_or_else(|| healthy.run(Trouble::None, work, time), Ok)?;
                pairs.push((troubled, beside));
            }
            let at = |run: &Outcome, quantile: f64| run.latency.value_at_quantile(quantile) as f64 / 1e3;
            let of = |value: &dyn Fn(&Outcome) -> f64| {
                median(pairs.iter().map(|(run, _)| value(run)).collect()).unwrap_or(f64::NAN)
            };
            let ratios = pairs.iter().map(|(run, beside)| at(run, 0.99) / at(beside, 0.99)).collect();
            let ratio = median(ratios).unwrap_or(f64::NAN);
            rows.push(vec![
                trouble.name().into(),
                work.name().into(),
                format!("{:.0}", of(&|run| run.requests as f64 / run.elapsed.as_secs_f64())),
                format!("{:.0}", of(&|run| at(run, 0.5))),
                format!("{:.0}", of(&|run| at(run, 0.99))),
                format!("{:.0}", of(&|run| at(run, 0.999))),
                format!("{ratio:.2}"),
                pairs.iter().map(|(run, _)| run.errors).sum::<u64>().to_string(),
            ]);
            if trouble != Trouble::None {
                let what =
                    format!("p99 against a healthy pair, {}, other store {}", work.name(), trouble.name());
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
