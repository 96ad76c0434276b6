//! Stores that die, hang, refuse and talk nonsense: what clients see of it, and that it heals.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use multistore::stage::StoreId;
use support::*;

/// A lookup may wait for two stores in turn; the rest is for a machine that is busy otherwise.
const LONGEST_WAIT: Duration = Duration::from_secs(7);
/// Quick to notice, quick to come back.
const TIMES: [&str; 5] = [
    "reply_timeout = \"1s\"",
    "lane_timeout = \"2s\"",
    "connect_timeout = \"1s\"",
    "reconnect_min = \"10ms\"",
    "reconnect_max = \"100ms\"",
];

/// Did the proxy answer in a store's stead?
fn fails(reply: &Value) -> bool {
    reply.is_error() && reply.error().starts_with("MULTISTORE ")
}

// --- a load of ordinary clients ---

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

// --- the default store dies while clients wait ---

#[test]
fn waiting_clients_learn_at_once_that_the_default_store_died() {
    for stage in Stage::ALL {
        // Nothing but the store's end can end these waits in time.
        let patient = ["reply_timeout = \"60s\"", "lane_timeout = \"60s\"", "reconnect_min = \"10ms\""];
        let mut pair = Pair::start_with(stage, &patient);
        let mut blocked = pair.client();
        blocked.send(&["BLPOP", "nothing", "0"]);
        let mut subscriber = pair.client();
        subscriber.words("SUBSCRIBE channel");
        let mut watcher = pair.client();
        watcher.words("WATCH watched");
        let mut monitor = pair.client();
        assert_eq!(monitor.words("MONITOR"), Value::ok());
        pair.default_store(stage).stop_signal();
        let mut clients: Vec<(Client, usize)> = Vec::new();
        for batch in [
            &[&["SET", "a", "1"][..]][..],
            &[&["INCR", "a"], &["DECR", "a"], &["INCR", "b"]],
            &[&["MULTI"], &["INCR", "a"], &["EXEC"]],
            &[&["EVAL", "return 1", "0"]],
            &[&["SELECT", "7"]],
            &[&["NOSUCHCOMMAND"]],
        ] {
            let mut client = pair.client();
            let bytes: Vec<u8> = batch.iter().flat_map(|command| encode(command)).collect();
            client.send_raw(&bytes);
            clients.push((client, batch.len()));
        }
        watcher.send(&["GET", "watched"]);
        // The commands are at the store, or on their way, or wait for what is.
        poll_until(SOON, "requests in the lane", || pair.instance_lane_depth(stage.default_store()) >= 3);
        match stage.default_store() {
            StoreId::Primary => pair.primary.kill(),
            StoreId::Secondary => pair.secondary.kill(),
        }
        for (client, replies) in &mut clients {
            for reply in client.read_replies(*replies) {
                assert!(fails(&reply), "{stage}: {reply:?}");
                assert!(reply.error().contains(stage.default_store().name()), "{stage}: {reply:?}");
            }
        }
        assert!(fails(&blocked.read_reply()), "{stage}");
        assert!(fails(&watcher.read_reply()), "{stage}");
        subscriber.expect_closed();
        monitor.expect_closed();
        // From now on it is known to be down: the error says that nothing was sent.
        let mut late = pair.client();
        poll_until(SOON, "a refusal", || late.words("SET b 1").error().contains("the command was not sent"));
        assert!(late.words("SET refused 1").error().contains("is down"));
        assert_eq!(
            pair.other_store(stage).words("GET refused"),
            Value::Nil,
            "{stage}: refused, and applied there"
        );
    }
}

trait LaneDepth {
    fn instance_lane_depth(&self, store: StoreId) -> u64;
}

impl LaneDepth for Pair {
    fn instance_lane_depth(&self, store: StoreId) -> u64 {
        let status = self.proxy.instance_status(INSTANCE);
        status["stores"][store.name()]["depth"].as_u64().expect("a depth")
    }
}

#[test]
fn ten_thousand_parked_clients_survive_the_default_store_s_death() {
    // One line of waiting clients: each that is refused makes way for the next.
    let mut pair = Pair::start_with(Stage::DualSecondaryDefault, &TIMES);
    let pipelined = 400;
    let mut clients: Vec<Client> = (0..pipelined).map(|_| pair.client()).collect();
    clients.iter_mut().for_each(|client| client.send(&["BLPOP", "line", "0"]));
    poll_until(SOON, "all parked", || {
        pair.proxy.metric("multistore_parked_clients", &[]) >= pipelined as f64
    });
    pair.secondary.kill();
    for client in &mut clients {
        assert!(fails(&client.read_reply()));
    }
    assert!(pair.proxy.is_running());
}

#[test]
fn a_hung_default_store_costs_a_blocked_client_no_more_than_its_time_and_the_timeout() {
    for stage in [Stage::SecondaryOnly, Stage::DualSecondaryDefault] {
        let pair = Pair::start_with(stage, &TIMES);
        let mut client = pair.client();
        client.words("SET warm up");
        client.send(&["BLPOP", "nothing", "0.5"]);
        poll_until(SOON, "blocked", || pair.client().words("CLIENT LIST").text().contains("flags=b"));
        pair.secondary.stop_signal();
        let reply = client.read_reply();
        assert!(reply == Value::Nil || fails(&reply), "{stage}: {reply:?}");
        pair.secondary.cont();
        poll_until(SOON, "healed", || client.words("SET a 1") == Value::ok());
    }
}

// --- stores that refuse ---

#[test]
fn a_loading_store_s_own_error_reaches_the_client_until_it_has_loaded() {
    const LOADING: &str = "LOADING Redis is loading the dataset in memory";
    let loading = |request: &Request| match request.name().as_str() {
        "PING" | "SET" | "GET" => Answer::bytes(format!("-{LOADING}\r\n")),
        _ => Answer::Usual,
    };
    let secondary = ScriptedStore::start(loading);
    let primary = RedisServer::start();
    let config =
        TIMES.iter().fold(ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url()), |config, line| {
            config.setting(line)
        });
    let proxy = Proxy::start_not_ready(config);
    let mut client = proxy.client();
    poll_until(SOON, "the store's own error", || client.words("SET a 1").error() == LOADING);
    assert_eq!(secondary.count_of("SET"), 0, "a loading store gets no requests");
    secondary.script(|_| Answer::Usual);
    poll_until(SOON, "loaded", || client.words("SET a 1") == Value::ok());
}

#[test]
fn what_the_default_store_refuses_the_client_sees_and_what_the_other_refuses_is_counted() {
    for stage in [Stage::DualSecondaryDefault, Stage::DualPrimaryDefault] {
        let pair = Pair::start_with(stage, &TIMES);
        let mut client = pair.client();
        let failures = |pair: &Pair| {
            pair.proxy.metric(
                "multistore_mirror_write_failures_total",
                &[("store", stage.default_store().other().name())],
            )
        };
        // A replica whose master is away is read-only.
        let dead = free_port().to_string();
        pair.default_store(stage).call(&["REPLICAOF", "127.0.0.1", &dead]);
        assert!(client.words("SET a 1").error().starts_with("READONLY"), "{stage}");
        pair.default_store(stage).words("REPLICAOF NO ONE");
        assert_eq!(client.words("SET a 1"), Value::ok());

        let before = failures(&pair);
        pair.other_store(stage).call(&["REPLICAOF", "127.0.0.1", &dead]);
        assert_eq!(client.words("SET a 2"), Value::ok(), "{stage}");
        poll_until(SOON, "a counted failure", || failures(&pair) > before);
        pair.other_store(stage).words("REPLICAOF NO ONE");

        // Full.
        pair.default_store(stage).words("CONFIG SET maxmemory 1");
        assert!(client.words("SET a 3").error().starts_with("OOM"), "{stage}");
        pair.default_store(stage).words("CONFIG SET maxmemory 0");
        let before = failures(&pair);
        pair.other_store(stage).words("CONFIG SET maxmemory 1");
        assert_eq!(client.words("SET a 4"), Value::ok(), "{stage}");
        poll_until(SOON, "a counted failure", || failures(&pair) > before);
        pair.other_store(stage).words("CONFIG SET maxmemory 0");
    }
}

#[test]
fn connections_that_the_store_ends_while_idle_are_no_error() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let mut client = pair.client();
        assert_eq!(client.words("SET a 1"), Value::ok());
        for round in 0..20 {
            for server in [&pair.primary, &pair.secondary] {
                server.words("CLIENT KILL TYPE normal SKIPME yes");
            }
            let reply = client.words("SET a 2");
            assert_eq!(reply, Value::ok(), "{stage}, round {round}");
            assert_eq!(client.words("GET a"), "2".into(), "{stage}, round {round}");
        }
    }
}

#[test]
fn a_pooled_connection_that_the_store_timed_out_is_not_used() {
    let pair = Pair::over(
        RedisServer::start(),
        RedisServer::start_with(&["--timeout", "1"]),
        Stage::SecondaryOnly,
        &TIMES,
    );
    let mut client = pair.client();
    for _ in 0..2 {
        client.words("RPUSH list element");
        assert_eq!(client.words("BLPOP list 1").items().len(), 2);
        // The lane's connection is kept alive by its probes, the dedicated one is not.
        poll_until(SOON, "the idle connection has timed out", || {
            let list = pair.secondary.words("CLIENT LIST TYPE normal").text();
            list.lines().filter(|line| line.contains("cmd=blpop")).count() == 0
        });
    }
}

// --- stores that break the protocol ---

/// A proxy before a scripted default store and a real other one.
fn scripted(stage: Stage, store: &ScriptedStore) -> (Proxy, RedisServer) {
    let other = RedisServer::start();
    let (primary, secondary) = match stage.default_store() {
        StoreId::Primary => (store.url(), other.url()),
        StoreId::Secondary => (other.url(), store.url()),
    };
    let config = ProxyConfig::new(INSTANCE, &primary, &secondary).stage(stage);
    let config = TIMES.iter().fold(config, |config, line| config.setting(line));
    (Proxy::start(config), other)
}

/// Answers GET of a key with the key, and anything else as usual.
fn echoing(request: &Request) -> Answer {
    match request.name().as_str() {
        "GET" => Answer::bytes(format!("${}\r\n{}\r\n", request.arg(1).len(), request.arg(1))),
        _ => Answer::Usual,
    }
}

/// The script `odd` once, for the first GET of `odd`; echoing from then on.
fn once(odd: Answer) -> impl Fn(&Request) -> Answer + Send + Sync {
    let done = AtomicBool::new(false);
    move |request| {
        let is_it = request.name() == "GET" && request.arg(1) == "odd";
        if is_it && !done.swap(true, Ordering::SeqCst) { odd.clone() } else { echoing(request) }
    }
}

fn errors_of(proxy: &Proxy, store: &str, kind: &str) -> f64 {
    proxy.metric("multistore_store_errors_total", &[("store", store), ("kind", kind)])
}

#[track_caller]
fn works_again(proxy: &Proxy) {
    let mut client = proxy.client();
    poll_until(SOON, "it works again", || client.words("GET right") == "right".into());
    for number in 0..50 {
        let key = format!("key{number}");
        assert_eq!(client.call(&["GET", &key]), key.as_str().into());
    }
}

#[test]
fn garbage_ends_the_lane() {
    for garbage in ["hello\r\n", "$5\r\nhello!!", ":12x\r\n", "*1000000000000\r\n", "$-7\r\n"] {
        let store = ScriptedStore::start(once(Answer::bytes(garbage)));
        let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
        let reply = proxy.client().words("GET odd");
        assert!(fails(&reply), "{garbage:?}: {reply:?}");
        assert_eq!(errors_of(&proxy, "secondary", "protocol"), 1.0, "{garbage:?}");
        works_again(&proxy);
    }
}

#[test]
fn a_reply_cut_in_the_middle_is_an_error_and_a_large_one_ends_the_client() {
    let mut large = b"$1000000\r\n".to_vec();
    large.resize(400_000, b'x');
    let small = Answer::BytesAndCut(b"$100\r\nhalf".to_vec());
    let store = ScriptedStore::start(once(small));
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    assert!(proxy.client().words("GET odd").error().contains("may or may not have been applied"));
    works_again(&proxy);

    store.script(once(Answer::BytesAndCut(large)));
    let mut client = proxy.client();
    client.send(&["GET", "odd"]);
    let came = client.expect_closed();
    assert!(
        came.starts_with(b"$1000000\r\nxxx"),
        "{}",
        came.get(..40.min(came.len())).unwrap_or_default().escape_ascii()
    );
    works_again(&proxy);
}

#[test]
fn a_store_that_hangs_in_the_middle_of_a_reply_holds_nobody_longer_than_the_timeout() {
    let mut large = b"$1000000\r\n".to_vec();
    large.resize(400_000, b'x');
    for part in [b"$100\r\nhalf".to_vec(), large] {
        let hung = Arc::new(AtomicU64::new(0));
        let script = {
            let (hung, part) = (hung.clone(), part.clone());
            move |request: &Request| {
                let connection = request.connection as u64;
                if hung.load(Ordering::SeqCst) == connection {
                    return Answer::Hang;
                }
                if request.name() == "GET" && request.arg(1) == "odd" && hung.load(Ordering::SeqCst) == 0 {
                    hung.store(connection, Ordering::SeqCst);
                    return Answer::Bytes(part.clone());
                }
                echoing(request)
            }
        };
        let store = ScriptedStore::start(script);
        let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
        let (mut first, mut second) = (proxy.client(), proxy.client());
        first.send(&["GET", "odd"]);
        poll_until(SOON, "the store hangs", || hung.load(Ordering::SeqCst) > 0);
        let since = Instant::now();
        let behind = second.words("GET behind");
        assert!(behind.error().contains("did not answer within 1000 ms"), "{behind:?}");
        if part.len() < 1000 {
            assert!(first.read_reply().error().contains("did not answer within 1000 ms"));
        } else {
            first.expect_closed();
        }
        assert!(since.elapsed() < LONGEST_WAIT);
        works_again(&proxy);
    }
}

#[test]
fn one_reply_too_many_is_noticed() {
    let store = ScriptedStore::start(once(Answer::bytes("$3\r\nodd\r\n$5\r\nextra\r\n")));
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    assert_eq!(proxy.client().words("GET odd"), "odd".into());
    poll_until(SOON, "it is noticed", || errors_of(&proxy, "secondary", "out_of_step") >= 1.0);
    works_again(&proxy);
}

#[test]
fn one_reply_too_few_is_noticed_under_load() {
    let store = ScriptedStore::start(once(Answer::Swallow));
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    let mut starved = proxy.client();
    starved.send(&["GET", "odd"]);
    store.wait_for("GET");
    // Others keep the lane busy, so that no silence gives it away.
    let mut client = proxy.client();
    poll_until(SOON, "it is noticed", || {
        client.words("GET x");
        errors_of(&proxy, "secondary", "out_of_step") >= 1.0
    });
    works_again(&proxy);
}

#[test]
fn a_store_that_ends_every_connection_is_not_hammered() {
    let store = ScriptedStore::start(|_| Answer::Usual);
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    store.script(|request| match request.name().as_str() {
        "GET" => Answer::Cut,
        _ => Answer::Usual,
    });
    let mut client = proxy.client();
    let (since, accepted) = (Instant::now(), store.accepted());
    while since.elapsed() < Duration::from_millis(600) {
        assert!(fails(&client.words("GET a")));
    }
    // 10 ms, 20 ms, 40 ms, 80 ms, then 100 ms, each halved at most by the jitter.
    let dialed = store.accepted() - accepted;
    assert!(dialed < 30, "{dialed} connections within 600 ms");
}

// --- once, and in order ---

/// Clients write numbered commands while their store's connections break; the record of the
/// scripted store says what came.
fn once_and_in_order_in(stage: Stage) {
    const CLIENTS: usize = 3;
    let stores = [ScriptedStore::start(|_| Answer::Usual), ScriptedStore::start(|_| Answer::Usual)];
    let config = ProxyConfig::new(INSTANCE, &stores[0].url(), &stores[1].url()).stage(stage);
    let config = TIMES.iter().fold(config, |config, line| config.setting(line));
    let proxy = Proxy::start(config);
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<JoinHandle<Vec<(u64, bool)>>> = (0..CLIENTS)
        .map(|client| {
            let (port, stop) = (proxy.port(), stop.clone());
            std::thread::spawn(move || numbered_writes(port, client, &stop))
        })
        .collect();
    for round in 0..25 {
        let store = &stores[round % 2];
        let target = store.count_of("SET") + 50;
        poll_until(SOON, "traffic", || {
            store.count_of("SET") > target || (!stage.is_dual() && round % 2 != stage.default_store().index())
        });
        store.cut_all();
    }
    stop.store(true, Ordering::SeqCst);
    let sent: Vec<Vec<(u64, bool)>> =
        threads.into_iter().map(|thread| thread.join().expect("no client failed")).collect();
    for (at, store) in stores.iter().enumerate() {
        let mut came = store.commands();
        // A connection that was cut may still be read from while the next one is.
        came.sort_by_key(|request| request.connection);
        for (client, sent) in sent.iter().enumerate() {
            let name = format!("client:{client}");
            let numbers: Vec<u64> = came
                .iter()
                .filter(|request| request.name() == "SET" && request.arg(1) == name)
                .map(|request| request.arg(2).parse().expect("a number"))
                .collect();
            let wrong = numbers.windows(2).find(|pair| pair[0] >= pair[1]);
            assert_eq!(wrong, None, "{stage}, store {at}, client {client}: not once, or not in order");
            if at == stage.default_store().index() {
                for (number, acknowledged) in sent {
                    let there = numbers.binary_search(number).is_ok();
                    assert!(there || !acknowledged, "{stage}: acknowledged and never sent: {number}");
                }
            }
        }
    }
}

/// Numbers in pipelines of several lengths, and whether each was acknowledged.
fn numbered_writes(port: u16, client: usize, stop: &AtomicBool) -> Vec<(u64, bool)> {
    let mut connection = Client::connect(port);
    let key = format!("client:{client}");
    let mut sent = Vec::new();
    let mut next = 0;
    while !stop.load(Ordering::SeqCst) {
        let numbers: Vec<u64> = (next..next + 1 + next % 7).collect();
        next += numbers.len() as u64;
        let bytes: Vec<u8> =
            numbers.iter().flat_map(|number| encode(&["SET", &key, &number.to_string()])).collect();
        connection.send_raw(&bytes);
        for number in numbers {
            let reply = connection.read_reply();
            assert!(reply == Value::ok() || fails(&reply), "{reply:?}");
            sent.push((number, reply == Value::ok()));
        }
    }
    sent
}

#[test]
fn once_and_in_order_in_secondary_only() {
    once_and_in_order_in(Stage::SecondaryOnly);
}

#[test]
fn once_and_in_order_in_dual_secondary_default() {
    once_and_in_order_in(Stage::DualSecondaryDefault);
}

#[test]
fn once_and_in_order_in_dual_primary_default() {
    once_and_in_order_in(Stage::DualPrimaryDefault);
}

#[test]
fn once_and_in_order_in_primary_only() {
    once_and_in_order_in(Stage::PrimaryOnly);
}

#[test]
fn the_other_store_s_lag_slows_clients_down_where_that_is_asked_for_and_lets_them_go_on() {
    let pair = Pair::start_with(
        Stage::DualSecondaryDefault,
        &["on_lag = \"block\"", "lag_max = \"64kb\"", "lane_timeout = \"60s\"", "reply_timeout = \"60s\""],
    );
    let mut client = pair.client();
    client.words("SET warm up");
    pair.primary.stop_signal();
    let value = "x".repeat(10_000);
    for _ in 0..20 {
        client.send(&["SET", "key", &value]);
    }
    // What is over the limit waits in the client's socket.
    poll_until(SOON, "a slowed client", || pair.instance_lane_depth(StoreId::Primary) > 6);
    pair.primary.cont();
    for reply in client.read_replies(20) {
        assert_eq!(reply, Value::ok());
    }
    pair.assert_equal_stores();
}
