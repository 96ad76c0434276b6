//! What was acknowledged was done once, and in order.

use super::*;

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

#[test]
fn what_was_given_up_is_not_executed_behind_newer_writes() {
    for stage in Stage::ALL.into_iter().filter(|stage| stage.is_dual()) {
        let settings = ["reply_timeout = \"300ms\"", "lane_timeout = \"60s\""];
        let pair = Pair::start_with(stage, &settings);
        let (mut watcher, mut writer) = (pair.client(), pair.client());
        writer.words("SET key older");
        for command in ["WATCH another", "MULTI", "SET key old"] {
            watcher.words(command);
        }
        pair.default_store(stage).stop_signal();
        // The store will look at its lane first, for the question whether it is there came before EXEC.
        poll_until(SOON, "a question", || pair.instance_lane_depth(stage.default_store()) >= 1);
        assert!(fails(&watcher.words("EXEC")), "{stage}");
        assert!(fails(&writer.words("SET key new")), "{stage}");
        pair.default_store(stage).cont();
        poll_until(SOON, "an answer", || writer.words("GET key") == Value::from("new"));
        pair.assert_equal_stores();
        assert_eq!(writer.words("GET key"), "new".into(), "{stage}");
    }
}
