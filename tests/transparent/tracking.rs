//! CLIENT TRACKING.

use super::*;

fn invalidates(key: &str) -> Value {
    Value::Push(vec!["invalidate".into(), Value::bulks(&[key])])
}

fn everything_invalid() -> Value {
    Value::Push(vec!["invalidate".into(), Value::Nil])
}

#[test]
fn what_a_client_has_read_is_told_when_another_writes_it() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let (mut client, mut writer) = (pair.proxy.client3(), pair.client());
        assert_eq!(writer.words("SET key 1"), Value::ok());
        assert_eq!(client.words("CLIENT TRACKING ON"), Value::ok());
        assert_eq!(client.words("GET key"), "1".into());
        assert_eq!(writer.words("SET other 1"), Value::ok());
        assert_eq!(writer.words("SET key 2"), Value::ok());
        assert_eq!(client.read_reply(), invalidates("key"), "{stage}");
        assert_eq!(client.words("GET key"), "2".into(), "{stage}");
        assert_eq!(client.words("CLIENT TRACKING OFF"), Value::ok());
        assert_eq!(writer.words("SET key 3"), Value::ok());
        client.expect_silence(QUIET);
        assert_eq!(client.words("GET key"), "3".into(), "{stage}");
        assert_eq!(client.words("SET key 4"), Value::ok());
        if stage.is_dual() {
            pair.assert_equal_stores();
        }
    }
}

#[test]
fn a_redirect_reaches_a_subscriber_of_resp2_and_anybody_of_resp3() {
    for resp3 in [false, true] {
        let pair = Pair::start_in(Stage::DualPrimaryDefault);
        let (mut client, mut writer) = (pair.client(), pair.client());
        let mut target = if resp3 { pair.proxy.client3() } else { pair.client() };
        let id = target.words("CLIENT ID").int();
        if !resp3 {
            target.words("SUBSCRIBE __redis__:invalidate");
        }
        let on = client.words(&format!("CLIENT TRACKING ON REDIRECT {id}"));
        assert_eq!(on, Value::ok());
        assert_eq!(client.words("CLIENT GETREDIR"), id.into());
        let info = client.words("CLIENT TRACKINGINFO");
        assert_eq!(info.field("redirect"), Some(&id.into()), "{info:?}");
        client.words("GET key");
        writer.words("SET key 1");
        let told = target.read_reply();
        let keys = Value::bulks(&["key"]);
        assert_eq!(told.items().last(), Some(&keys), "{told:?}");
        assert_eq!(
            client.words("CLIENT TRACKING ON REDIRECT 424242").error(),
            "ERR The client ID you want redirect to does not exist"
        );
    }
}

#[test]
fn a_flip_of_the_default_store_makes_everything_invalid() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    let (mut client, mut writer) = (pair.proxy.client3(), pair.client());
    let mut broadcast = pair.proxy.client3();
    assert_eq!(writer.words("SET a:key 1"), Value::ok());
    assert_eq!(client.words("CLIENT TRACKING ON"), Value::ok());
    assert_eq!(broadcast.words("CLIENT TRACKING ON BCAST PREFIX a: NOLOOP"), Value::ok());
    assert_eq!(client.words("GET a:key"), "1".into());
    pair.stage(Stage::DualPrimaryDefault);
    assert_eq!(client.read_reply(), everything_invalid());
    assert_eq!(broadcast.read_reply(), everything_invalid());
    // From here on the new store tells.
    assert_eq!(client.words("GET a:key"), "1".into());
    assert_eq!(writer.words("SET b:key 2"), Value::ok());
    assert_eq!(writer.words("SET a:key 2"), Value::ok());
    assert_eq!(client.read_reply(), invalidates("a:key"));
    assert_eq!(broadcast.read_reply(), invalidates("a:key"));
    assert_eq!(broadcast.words("SET a:own 1"), Value::ok());
    broadcast.expect_silence(QUIET);
    pair.stage(Stage::PrimaryOnly);
    client.expect_silence(QUIET);
    pair.stage(Stage::DualPrimaryDefault);
    pair.stage(Stage::DualSecondaryDefault);
    assert_eq!(client.read_reply(), everything_invalid());
}

#[test]
fn a_watch_of_a_tracking_client_is_one() {
    let pair = Pair::start_in(Stage::DualPrimaryDefault);
    let (mut client, mut writer) = (pair.proxy.client3(), pair.client());
    assert_eq!(client.words("CLIENT TRACKING ON OPTIN"), Value::ok());
    for unwatch in ["UNWATCH", "DISCARD"] {
        assert_eq!(client.words("WATCH key"), Value::ok());
        if unwatch == "DISCARD" {
            assert_eq!(client.words("MULTI"), Value::ok());
        }
        assert_eq!(client.words(unwatch), Value::ok());
        assert_eq!(writer.words("SET key x"), Value::ok());
        assert_eq!(client.words("MULTI"), Value::ok());
        assert_eq!(client.words("INCR n"), Value::simple("QUEUED"));
        assert_eq!(client.words("EXEC").items().len(), 1, "{unwatch}");
    }
    assert_eq!(client.words("WATCH key"), Value::ok());
    assert_eq!(writer.words("SET key y"), Value::ok());
    assert_eq!(client.words("MULTI"), Value::ok());
    assert_eq!(client.words("INCR n"), Value::simple("QUEUED"));
    assert!(client.words("EXEC").is_nil());
    assert_eq!(client.words("GET n"), "2".into());
    pair.assert_equal_stores();
}

#[test]
fn a_tracking_client_ends_with_its_connection_to_the_store() {
    let pair = Pair::start();
    let mut client = pair.proxy.client3();
    assert_eq!(client.words("CLIENT TRACKING ON"), Value::ok());
    assert_eq!(client.words("GET key"), Value::Nil);
    // What it has cached would be stale for ever.
    pair.secondary.words("CLIENT KILL TYPE normal SKIPME yes");
    client.expect_closed();
}
