//! What the matrix and the soak have found, each by itself.

use super::network::Network;
use super::support::*;
use multistore::stage::StoreId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_reply_left_behind_on_a_pooled_connection_reaches_nobody() {
    let network = Network::start(Stage::SecondaryOnly, &[]);
    let way = network.way(StoreId::Secondary);
    let (mut first, mut second) = (network.proxy.client(), network.proxy.client());
    // The connection is made, and lies in the pool.
    assert_eq!(first.words("BLPOP nothing 0.01"), Value::Nil);
    first.words("RPUSH list element");
    way.arm(Fault::ReplyTooMany, Target::Dedicated);
    assert_eq!(first.words("BLPOP list 1"), Value::bulks(&["list", "element"]));
    assert_eq!(way.struck(), 1);
    assert_eq!(second.words("BLPOP nothing 0.01"), Value::Nil);
}

#[test]
fn a_shifted_handshake_is_noticed_before_anything_is_believed() {
    for fault in [Fault::ReplyTooMany, Fault::ReplyTooFew] {
        let settings =
            ["connect_timeout = \"300ms\"", "reconnect_min = \"10ms\"", "reconnect_max = \"50ms\""];
        let network = Network::start(Stage::DualSecondaryDefault, &settings);
        let way = network.way(StoreId::Secondary);
        way.cut_all();
        way.arm(fault, Target::Lane);
        let mut client = network.proxy.client();
        poll_until(SOON, "it strikes and heals", || {
            way.struck() == 1
                && network.is_up(StoreId::Secondary)
                && client.words("SET key value") == Value::ok()
        });
        // The store is who it was.
        let sync = network.proxy.instance_status(INSTANCE)["sync"].clone();
        assert!(sync["operator_must_name_source"].is_null(), "{fault:?}: {sync}");
        assert!(sync["behind_as_a_whole"].is_null(), "{fault:?}: {sync}");
    }
}

#[test]
fn what_the_default_store_never_got_is_not_read_from_the_other_one() {
    let patient = ["connect_timeout = \"2s\"", "reconnect_min = \"10ms\"", "reconnect_max = \"50ms\""];
    let network = Network::start(Stage::DualPrimaryDefault, &patient);
    let mut client = network.proxy.client();
    assert_eq!(client.words("SET key before"), Value::ok());
    // The secondary executes both at once; the primary is being dialed, and will not be had.
    network.way(StoreId::Primary).arm(Fault::BlackHole(Duration::from_secs(3)), Target::Lane);
    poll_until(SOON, "the loss is noticed", || !network.is_up(StoreId::Primary));
    let replies = client.pipeline(&[&["SET", "key", "refused"], &["GET", "key"]]);
    assert!(replies[0].is_error(), "{replies:?}");
    assert!(replies[1].is_error(), "what was refused is read: {replies:?}");
}

#[test]
fn what_was_refused_does_not_flow_from_the_other_store_either() {
    let patient = ["connect_timeout = \"1s\"", "reconnect_min = \"10ms\"", "reconnect_max = \"50ms\""];
    let network = Network::start(Stage::DualPrimaryDefault, &patient);
    let mut client = network.proxy.client();
    assert_eq!(client.words("SET key before"), Value::ok());
    network.way(StoreId::Primary).arm(Fault::BlackHole(Duration::from_secs(2)), Target::Lane);
    poll_until(SOON, "the loss is noticed", || !network.is_up(StoreId::Primary));
    // What the secondary says comes when the primary has been given up, and is too large to come in one piece.
    network.way(StoreId::Secondary).arm(Fault::Delay(Duration::from_millis(1500)), Target::Lane);
    let replies = client.pipeline(&[&["SETRANGE", "key", "100000", "refused"], &["GET", "key"]]);
    assert!(replies[0].is_error(), "{replies:?}");
    assert!(replies[1].is_error(), "what was refused is read: {:.60}", format!("{:?}", replies[1]));
}

#[test]
fn a_lane_out_of_step_puts_everything_in_doubt_until_it_is_looked_at() {
    for store in StoreId::ALL {
        let network = Network::start(Stage::DualSecondaryDefault, &[]);
        let mut client = network.proxy.client();
        assert_eq!(client.words("SET key value"), Value::ok());
        // Nobody passes here with this: only a look at all keys finds it.
        network.stores[0].words("SET wrong effect");
        network.way(store).arm(Fault::ReplyTooMany, Target::Lane);
        poll_until(SOON, "it is noticed", || network.errors(store, "out_of_step") >= 1.0);
        poll_until(SOON, "the stores were compared", || network.stores[0].words("EXISTS wrong").int() == 0);
    }
}

/// Writes values of every size under one name and reads each back, alone and in one go.
fn write_and_read_large(port: u16, name: &str, stop: &AtomicBool) {
    let mut client = Client::connect(port).with_patience(Duration::from_secs(20));
    let mut numbers = Numbers(name.len() as u64 * 31 + u64::from(name.as_bytes()[name.len() - 1]));
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let token = format!("{name}-{round}-");
        let size = numbers.pick(&[1_000, 40_000, 150_000, 400_000]);
        let value = token.repeat(size / token.len() + 1);
        let together = numbers.below(2) == 0;
        let replies = match together {
            true => client.pipeline(&[&["SET", name, &value], &["GET", name]]),
            false => vec![client.call(&["SET", name, &value]), client.call(&["GET", name])],
        };
        assert_eq!(replies[0], Value::ok(), "{name}");
        if replies[1] != value.as_str().into() {
            let read = format!("{:?}", replies[1]);
            let again = client.call(&["GET", name]) == value.as_str().into();
            panic!(
                "{size} bytes of {token} written (and read at once: {together}), {} of {read:.30} read; right the \
                 second time: {again}",
                read.len()
            );
        }
    }
}

#[test]
fn a_large_value_is_read_as_it_was_written_whatever_the_stage_becomes() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    let (port, stop) = (pair.proxy.port(), AtomicBool::new(false));
    let rounds: usize = std::env::var("FLIPS").map_or(12, |text| text.parse().expect("FLIPS=n"));
    std::thread::scope(|scope| {
        let stop = &stop;
        let clients: Vec<_> = (0..3)
            .map(|number| scope.spawn(move || write_and_read_large(port, &format!("large:{number}"), stop)))
            .collect();
        let flipped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds {
                let stage = [Stage::DualPrimaryDefault, Stage::DualSecondaryDefault][round % 2];
                pair.proxy.write_stage_of(INSTANCE, stage);
                poll_until(Duration::from_secs(30), "the stage changes", || {
                    pair.proxy.instance_status(INSTANCE)["stage"] == stage.name()
                        || clients.iter().any(|client| client.is_finished())
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("what was written is read"));
        flipped.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    pair.assert_equal_stores();
}
