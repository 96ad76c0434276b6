//! Everything at once, for a long time: clients of every kind that come and go, faults of the network, changes of the stage,
//! stores that are killed, a configuration that changes. Afterwards nothing is left of it but what was acknowledged.

use super::books::Books;
use super::clients::{self, World};
use super::matrix::{TO_DEDICATED, TO_LANES};
use super::network::{Network, data};
use super::samples::{Sample, usual_rss};
use super::support::*;
use multistore::stage::StoreId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Quick to notice, quick to come back; what a reload changes stands last.
const TIMES: [&str; 6] = [
    "reply_timeout = \"1s\"",
    "lane_timeout = \"2s\"",
    "connect_timeout = \"1s\"",
    "reconnect_min = \"10ms\"",
    "reconnect_max = \"200ms\"",
    "dedicated_idle = 8",
];
const CLIENTS: u64 = 12;
const SUBSCRIBERS: usize = 3;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Time between two troubles.
const QUIET: Duration = Duration::from_secs(2);
/// How long a change of stage may be held back, and how long everything may take to heal.
const HEALS: Duration = Duration::from_secs(60);
/// What a process may have grown by after its warm-up, in percent, and in KiB on top.
const GROWTH_PERCENT: u64 = 15;
const GROWTH_KIB: u64 = 8 * 1024;
/// Before so much time memory says nothing.
const WARM: Duration = Duration::from_secs(300);
/// Connections to stores that may lie in the pool, and answers to the operator that are being written.
const FDS_TO_SPARE: u64 = 12;
/// The configuration is looked at every few seconds, and a thread that did that waits for more of it for some seconds: a few
/// may take turns for ever. Were they left behind, there would be one per look.
const POOLED_THREADS: u64 = 4;

/// A taste of it, for every run of the tests.
#[test]
fn a_short_soak() {
    soak(Duration::from_secs(8));
}

#[test]
#[ignore = "takes an hour: make soak"]
fn soak_for_long() {
    let minutes = std::env::var("SOAK_MINUTES").map_or(60, |text| text.parse().expect("SOAK_MINUTES=n"));
    soak(Duration::from_secs(minutes * 60));
}

struct Soak {
    network: Network,
    stage: Stage,
    numbers: Numbers,
    troubles: u64,
    flips: u64,
    kills: u64,
}

fn soak(time: Duration) {
    let start = || RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "no"]);
    let stage = Stage::DualSecondaryDefault;
    let network = Network::over([start(), start()], stage, &TIMES);
    let world = World {
        port: network.proxy.port(),
        seed: 1,
        books: Books::default(),
        astray: network.astray.clone(),
        stop: AtomicBool::new(false),
        churn: 2,
        pause: Duration::from_millis(3),
    };
    let began = Instant::now();
    let before = Sample::take(&network.proxy, INSTANCE, began);
    let mut soak = Soak { network, stage, numbers: Numbers(1), troubles: 0, flips: 0, kills: 0 };
    let messages = AtomicU64::new(0);
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        let world = &world;
        (0..CLIENTS).for_each(|number| drop(scope.spawn(move || clients::live(world, number))));
        (0..SUBSCRIBERS).for_each(|_| drop(scope.spawn(|| listen(world, &messages))));
        scope.spawn(|| publish(world));
        while began.elapsed() < time && world.books.complaints().is_empty() {
            if samples.last().is_none_or(|last: &Sample| began.elapsed() > last.at + SAMPLE_EVERY) {
                samples.push(soak.sample(world, began));
            }
            soak.trouble(world);
            std::thread::sleep(QUIET.min(time.saturating_sub(began.elapsed())));
        }
        soak.mend(world);
        world.stop.store(true, Ordering::SeqCst);
    });
    let Soak { troubles, flips, kills, .. } = soak;
    println!(
        "{} requests answered, {} without an answer, {} messages; {troubles} faults, {flips} changes of stage, {kills} \
         stores killed",
        world.books.answered(),
        world.books.unanswered(),
        messages.load(Ordering::Relaxed)
    );
    soak.reckon(&world, &before, &samples, began);
}

/// A subscriber that leaves now and then.
fn listen(world: &World, messages: &AtomicU64) {
    let mut numbers = Numbers(7);
    while !world.stop.load(Ordering::Relaxed) {
        let Ok(client) = Client::try_connect(world.port) else { continue };
        let mut client = client.with_patience(Duration::from_millis(300));
        let _ = client.try_call(&["SUBSCRIBE", "news", "more"]);
        for _ in 0..numbers.below(50) {
            match client.try_read_reply() {
                Ok(_) => drop(messages.fetch_add(1, Ordering::Relaxed)),
                Err(error) if is_timeout(&error) => {}
                Err(_) => break,
            }
        }
    }
}

fn publish(world: &World) {
    while !world.stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::try_connect(world.port) else { continue };
        for _ in 0..100 {
            if client.try_call(&["PUBLISH", "news", "something"]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

// === impl Soak ===

impl Soak {
    fn sample(&self, world: &World, began: Instant) -> Sample {
        let sample = Sample::take(&self.network.proxy, INSTANCE, began);
        println!(
            "{:>6.0} s  rss {:>6} KiB  fds {:>3}  threads {}+{}  clients {:>2}  {}  requests {:>9}  answered {:>9}  {}",
            sample.at.as_secs_f64(),
            sample.rss_kib,
            sample.fds,
            sample.threads,
            sample.blocking,
            sample.clients,
            sample.under_way,
            sample.requests,
            world.books.answered(),
            self.stage,
        );
        sample
    }

    fn trouble(&mut self, world: &World) {
        let store = self.numbers.pick(&StoreId::ALL);
        match self.numbers.below(10) {
            0..=2 => self.flip(world),
            3 => self.kill(world, store),
            4 => self.reload(),
            5 => self.fault(world, store, Target::Dedicated),
            _ => self.fault(world, store, Target::Lane),
        }
        self.operate();
    }

    fn fault(&mut self, world: &World, store: StoreId, target: Target) {
        let fault = match target {
            Target::Lane => self.numbers.pick(&TO_LANES),
            Target::Dedicated => self.numbers.pick(&TO_DEDICATED),
        };
        let way = self.network.way(store);
        let before = way.struck();
        way.arm(fault, target);
        let struck = poll_for(Duration::from_secs(5), || (way.struck() > before).then_some(()));
        if struck.is_none() {
            // That store has no such connection now.
            way.disarm();
            return;
        }
        self.troubles += 1;
        if target == Target::Dedicated
            && poll_for(QUIET, || (!world.astray.is_open()).then_some(())).is_none()
        {
            // It lies in the pool, where it is looked at before it is used.
            self.network.way(store).cut_all();
        }
        if poll_for(HEALS, || (!world.astray.is_open()).then_some(())).is_none() {
            world.books.complain(format!("{fault:?} on {store}: the connection out of step lasts"));
        }
    }

    fn kill(&mut self, world: &World, store: StoreId) {
        if self.is_cold() {
            // What only one store has cannot be had while that is away.
            return;
        }
        self.kills += 1;
        let server = &mut self.network.stores[store.index()];
        server.kill();
        std::thread::sleep(Duration::from_millis(self.numbers.below(1000) as u64));
        server.start_again(Data::Kept);
        if poll_for(HEALS, || self.network.is_up(store).then_some(())).is_none() {
            world.books.complain(format!("the {store} store was killed and is not up again"));
        }
    }

    /// A setting changes, takes effect, and changes back with the next stage that is written.
    fn reload(&mut self) {
        let text = self.network.proxy.config_text();
        let others = ["dedicated_idle = 8", "dedicated_idle = 9"];
        let (from, to) =
            if text.contains(others[0]) { (others[0], others[1]) } else { (others[1], others[0]) };
        self.network.proxy.write_config(&text.replace(from, to));
    }

    /// Says which store counts, when that has come back as another server: it has lost nothing.
    fn operate(&self) {
        let sync = self.network.proxy.instance_status(INSTANCE)["sync"].clone();
        if sync["operator_must_name_source"].is_null() {
            return;
        }
        let store = self.stage.default_store();
        let status = std::process::Command::new(program())
            .args(["repair", "--from", store.name()])
            .args(["--admin", &format!("127.0.0.1:{}", self.network.proxy.admin_port())])
            .output()
            .expect("multistore repair");
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }

    fn is_cold(&self) -> bool {
        self.network.proxy.instance_status(INSTANCE)["sync"]["untouched_keys"] == "unknown"
    }

    fn flip(&mut self, world: &World) {
        let to = match self.stage {
            Stage::SecondaryOnly => Stage::DualSecondaryDefault,
            Stage::DualSecondaryDefault => self.numbers.pick(&[
                Stage::DualPrimaryDefault,
                Stage::DualPrimaryDefault,
                Stage::SecondaryOnly,
            ]),
            Stage::DualPrimaryDefault if self.is_cold() => Stage::DualSecondaryDefault,
            Stage::DualPrimaryDefault => self.numbers.pick(&[
                Stage::DualSecondaryDefault,
                Stage::DualSecondaryDefault,
                Stage::PrimaryOnly,
            ]),
            Stage::PrimaryOnly => Stage::DualPrimaryDefault,
        };
        self.network.proxy.write_stage_of(INSTANCE, to);
        let flipped = poll_for(HEALS, || {
            self.operate();
            (self.network.proxy.instance_status(INSTANCE)["stage"] == to.name()).then_some(())
        });
        match flipped {
            Some(()) => {
                self.stage = to;
                self.flips += 1;
            }
            None => {
                let status = self.network.proxy.instance_status(INSTANCE);
                world
                    .books
                    .complain(format!("held for {HEALS:?}: {}; {}", status["held_flip"], status["sync"]));
            }
        }
    }

    /// Nothing goes wrong any more, and both stores are in use.
    fn mend(&mut self, world: &World) {
        self.network.ways.iter().for_each(|way| _ = way.disarm());
        while !self.stage.is_dual() && world.books.complaints().is_empty() {
            self.flip(world);
        }
    }

    fn reckon(self, world: &World, before: &Sample, samples: &[Sample], began: Instant) {
        let proxy = &self.network.proxy;
        let mut found = Vec::new();
        let mut last = Vec::new();
        let equal = poll_for(HEALS, || {
            self.operate();
            last = differences(&data(&self.network.stores[0]), &data(&self.network.stores[1]));
            last.is_empty().then_some(())
        });
        if equal.is_none() {
            found.extend(last.into_iter().map(|text| text.chars().take(400).collect()));
            found.push(proxy.instance_status(INSTANCE)["sync"].to_string());
        }
        found.extend(world.books.audit(&self.network.stores[self.stage.default_store().index()]));
        let idle = || Some(Sample::take(proxy, INSTANCE, began)).filter(Sample::is_idle);
        let after = poll_for(HEALS, idle).unwrap_or_else(|| Sample::take(proxy, INSTANCE, began));
        println!("before {before:?}\nafter  {after:?}");
        if !after.is_idle() {
            found.push(format!("the proxy does not come to rest: {after:?}"));
        }
        let left = after.threads > before.threads || after.blocking > POOLED_THREADS;
        if after.fds > before.fds + FDS_TO_SPARE || left {
            found.push("descriptors or threads were left behind".to_owned());
        }
        found.extend(grown(samples));
        found.extend(miscounted(proxy, world));
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// Has memory grown between the end of the first quarter and the last one?
fn grown(samples: &[Sample]) -> Option<String> {
    let quarter = samples.len() / 4;
    let (early, late) = (samples.get(quarter..2 * quarter)?, samples.get(3 * quarter..)?);
    let (early_kib, late_kib) = (usual_rss(early), usual_rss(late));
    println!("resident: {early_kib} KiB in the second quarter, {late_kib} KiB in the last one");
    let grown = late_kib > early_kib + early_kib * GROWTH_PERCENT / 100 + GROWTH_KIB;
    let long = samples.last()?.at >= WARM;
    (grown && long).then(|| format!("memory has grown from {early_kib} to {late_kib} KiB"))
}

/// Do the proxy's counters agree with what the clients have seen?
fn miscounted(proxy: &Proxy, world: &World) -> Option<String> {
    let requests = proxy.metric("multistore_requests_total", &[]);
    let answered = proxy.metric("multistore_request_duration_seconds_count", &[]);
    let seen = world.books.answered() as f64;
    let panics = proxy.metric("multistore_panics_total", &[]);
    println!("{requests} requests counted, {answered} with a duration; the clients have seen {seen} answers");
    let fits = requests >= seen && answered <= requests && panics == 0.0;
    (!fits).then(|| "the counters contradict each other".to_owned())
}
