//! What the matrix and the soak have found, each by itself.

use super::network::Network;
use super::support::*;
use multistore::stage::StoreId;
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
