//! Subscribers are moved to the new default store and miss and repeat nothing.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers are published to `news` through the proxy while the flags flip; every subscriber gets each once, in order.
fn nothing_is_lost(steps: &[Stage]) {
    let mut pair = Pair::start_in(Stage::SecondaryOnly);
    let mut subscribers: Vec<(Client, usize)> = Vec::new();
    for resp3 in [false, true] {
        for (command, name, payload_at) in [("SUBSCRIBE", "news", 2), ("PSUBSCRIBE", "ne?s", 3)] {
            let mut client = if resp3 { pair.proxy.client3() } else { pair.client() };
            client.call(&[command, name]);
            subscribers.push((client, payload_at));
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = {
            let mut client = pair.client();
            let stop = &stop;
            scope.spawn(move || {
                let mut next = 0;
                while !stop.load(Ordering::SeqCst) {
                    let reply = client.call(&["PUBLISH", "news", &next.to_string()]);
                    assert!(!reply.is_error(), "{reply:?}");
                    next += 1;
                }
                client.call(&["PUBLISH", "news", "end"]);
                next
            })
        };
        let readers: Vec<_> = subscribers
            .into_iter()
            .map(|(mut client, payload_at)| {
                scope.spawn(move || {
                    let mut expected = 0;
                    loop {
                        let message = client.read_reply();
                        let payload = message.items()[payload_at].text();
                        if payload == "end" {
                            return (expected, client);
                        }
                        assert_eq!(payload, expected.to_string(), "{message:?}");
                        expected += 1;
                    }
                })
            })
            .collect();
        for stage in steps {
            pair.stage(*stage);
        }
        // The last move must be over before the last message, or nothing would be shown about it.
        stop.store(true, Ordering::SeqCst);
        let published: i32 = publisher.join().expect("the publisher");
        for reader in readers {
            let (received, mut client) = reader.join().expect("a subscriber");
            assert_eq!(received, published);
            client.send(&["PING", "still here"]);
            let pong = client.read_reply();
            let text = if let Value::Array(items) = &pong { items[1].text() } else { pong.text() };
            assert_eq!(text, "still here");
        }
    });
}

#[test]
fn nothing_is_lost_when_the_default_store_changes_and_changes_back() {
    use Stage::{DualPrimaryDefault as Primary, DualSecondaryDefault as Secondary};
    nothing_is_lost(&[Secondary, Primary, Secondary, Primary, Secondary]);
}

#[test]
fn nothing_is_lost_in_a_rollout_and_back() {
    nothing_is_lost(&STEPS.map(|(_, to)| to));
}

#[test]
fn subscriptions_of_all_kinds_move_and_are_all_that_moves() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.send(&["SUBSCRIBE", "one", "two", "gone"]);
    client.read_replies(3);
    client.call(&["PSUBSCRIBE", "p*"]);
    client.call(&["SSUBSCRIBE", "shard"]);
    assert_eq!(client.call(&["UNSUBSCRIBE", "gone"]).items()[2], 3.into());
    for stage in [Stage::DualPrimaryDefault, Stage::DualSecondaryDefault] {
        pair.stage(stage);
        let default = pair.default_store(stage);
        let channels = || {
            let mut names: Vec<String> =
                default.words("PUBSUB CHANNELS").items().iter().map(Value::text).collect();
            names.retain(|name| !name.starts_with("__"));
            names.sort();
            names
        };
        poll_until(SOON, "the subscriptions", || channels() == ["one", "two"]);
        assert_eq!(default.words("PUBSUB NUMPAT"), 1.into(), "{stage}");
        pair.eventually(pair.other_store(stage), "PUBSUB NUMPAT", &0.into());
        pair.eventually(pair.other_store(stage), "PUBSUB CHANNELS", &Value::bulks(&[]));
        let mut another = pair.client();
        for (command, channel) in
            [("PUBLISH", "one"), ("PUBLISH", "gone"), ("PUBLISH", "px"), ("SPUBLISH", "shard")]
        {
            assert!(!another.call(&[command, channel, stage.name()]).is_error());
        }
        assert_eq!(client.read_reply(), Value::bulks(&["message", "one", stage.name()]));
        assert_eq!(client.read_reply(), Value::bulks(&["pmessage", "p*", "px", stage.name()]));
        assert_eq!(client.read_reply(), Value::bulks(&["smessage", "shard", stage.name()]));
        assert_eq!(
            client.call(&["SUBSCRIBE", "one"]),
            vec!["subscribe".into(), "one".into(), 3.into()].into()
        );
    }
}
