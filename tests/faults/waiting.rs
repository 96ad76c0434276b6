//! The default store dies while clients wait.

use super::*;

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
