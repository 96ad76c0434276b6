//! Both stores in turn die and hang under the load of ordinary clients.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use super::*;

/// What the clients of a load have seen.
#[derive(Default)]
struct Seen {
    rounds: AtomicU64,
    failed_rounds: AtomicU64,
    errors: Mutex<HashMap<String, u64>>,
    slowest: Mutex<Duration>,
}

struct Load {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(port: u16, clients: usize) -> Load {
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let threads = (0..clients)
            .map(|number| {
                let (seen, stop) = (seen.clone(), stop.clone());
                std::thread::spawn(move || one_client(port, number, &seen, &stop))
            })
            .collect();
        Load { seen, stop, threads }
    }

    fn rounds(&self) -> u64 {
        self.seen.rounds.load(Ordering::SeqCst)
    }

    fn failed_rounds(&self) -> u64 {
        self.seen.failed_rounds.load(Ordering::SeqCst)
    }

    /// Waits for `count` more rounds without an error.
    #[track_caller]
    fn wait_for_good_rounds(&self, count: u64) {
        let good = || self.rounds() - self.failed_rounds();
        let target = good() + count;
        poll_until(Duration::from_secs(30), "rounds without an error", || {
            good() >= target || self.has_ended()
        });
        self.assert_running();
    }

    fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    #[track_caller]
    fn assert_running(&self) {
        assert!(!self.has_ended(), "a client failed: {:?}", self.errors());
    }

    fn errors(&self) -> HashMap<String, u64> {
        self.seen.errors.lock().expect("not poisoned").clone()
    }

    /// Ends the load and returns the longest wait of a client.
    #[track_caller]
    fn finish(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no client failed");
        }
        *self.seen.slowest.lock().expect("not poisoned")
    }
}

/// Every way in which an ordinary command can travel, over and over, on one connection that must last.
fn one_client(port: u16, number: usize, seen: &Seen, stop: &AtomicBool) {
    let mut client = Client::connect(port).with_patience(Duration::from_secs(20));
    let key = format!("key:{number}");
    let list = format!("list:{number}");
    let mut round = 0u64;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        let value = round.to_string();
        let missing = format!("missing:{number}:{round}");
        let batches: [&[&[&str]]; 7] = [
            &[&["SET", &key, &value]],
            &[&["GET", &key]],
            &[&["GET", &missing]],
            &[&["INCR", "all"], &["GET", &key], &["MGET", &key, &missing], &["RPUSH", &list, &value]],
            &[&["MULTI"], &["SET", &key, &value], &["LPOP", &list], &["EXEC"]],
            &[&["WATCH", &key], &["MULTI"], &["INCR", &key], &["EXEC"]],
            &[&["BLPOP", &list, "0.05"]],
        ];
        let mut failed = false;
        for batch in batches {
            let since = Instant::now();
            for reply in client.pipeline(batch) {
                if reply.is_error() {
                    let error = reply.error();
                    failed = true;
                    *seen.errors.lock().expect("not poisoned").entry(error.to_owned()).or_default() += 1;
                }
            }
            let mut slowest = seen.slowest.lock().expect("not poisoned");
            *slowest = (*slowest).max(since.elapsed());
        }
        seen.failed_rounds.fetch_add(u64::from(failed), Ordering::SeqCst);
        seen.rounds.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Kill,
    Stop,
}

fn store(pair: &mut Pair, id: StoreId) -> &mut RedisServer {
    match id {
        StoreId::Primary => &mut pair.primary,
        StoreId::Secondary => &mut pair.secondary,
    }
}

/// Both stores in turn are killed and stopped under load; each time everything heals by itself.
fn stores_fail_and_heal_in(stage: Stage) {
    let mut pair = Pair::start_with(stage, &TIMES);
    let load = Load::start(pair.proxy.port(), 3);
    load.wait_for_good_rounds(3);
    for id in StoreId::ALL {
        for fault in [Fault::Kill, Fault::Stop] {
            let before = (load.rounds(), load.failed_rounds());
            match fault {
                Fault::Kill => store(&mut pair, id).kill(),
                Fault::Stop => store(&mut pair, id).stop_signal(),
            }
            if id == stage.default_store() {
                poll_until(SOON, "an error while the default store is away", || {
                    load.failed_rounds() > before.1 || load.has_ended()
                });
            } else {
                load.wait_for_good_rounds(6);
                assert_eq!(load.failed_rounds(), before.1, "{stage} {id} {fault:?}: {:?}", load.errors());
            }
            load.assert_running();
            match fault {
                Fault::Kill => store(&mut pair, id).start_again(Data::Lost),
                Fault::Stop => store(&mut pair, id).cont(),
            }
            load.wait_for_good_rounds(6);
        }
    }
    let errors = load.errors();
    let slowest = load.finish();
    assert!(slowest < LONGEST_WAIT, "a client waited {slowest:?} in {stage}");
    for error in errors.keys() {
        let known = ["MULTISTORE ", "LOADING ", "EXECABORT ", "ERR EXEC without MULTI", "UNBLOCKED "];
        assert!(known.iter().any(|start| error.starts_with(start)), "in {stage}: {error}");
    }
    assert!(pair.proxy.is_running());
    assert_eq!(pair.proxy.metric("multistore_panics_total", &[]), 0.0);
}

#[test]
fn stores_fail_and_heal_in_secondary_only() {
    stores_fail_and_heal_in(Stage::SecondaryOnly);
}

#[test]
fn stores_fail_and_heal_in_dual_secondary_default() {
    stores_fail_and_heal_in(Stage::DualSecondaryDefault);
}

#[test]
fn stores_fail_and_heal_in_dual_primary_default() {
    stores_fail_and_heal_in(Stage::DualPrimaryDefault);
}

#[test]
fn stores_fail_and_heal_in_primary_only() {
    stores_fail_and_heal_in(Stage::PrimaryOnly);
}
