//! A store that works on a script answers others with BUSY.

use super::*;
use std::time::Instant;

/// Starts a script that ends only when it is killed.
fn endless(pair: &Pair) -> Client {
    let mut script = pair.client();
    script.send(&["EVAL", "while true do end", "0"]);
    script
}

#[test]
fn others_are_told_and_the_script_can_be_killed() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let (mut client, mut transaction) = (pair.client(), pair.client());
        assert_eq!(client.words("CONFIG SET lua-time-limit 10"), Value::ok());
        assert_eq!(transaction.words("MULTI"), Value::ok());
        let mut script = endless(&pair);
        script.send(&["PING"]);
        // One that came too early to be refused is told as well.
        let mut early = pair.client();
        early.send(&["GET", "key"]);
        let told = early.read_reply();
        assert!(told.is_nil() || told.error().starts_with("BUSY "), "{stage}: {told:?}");
        poll_until(SOON, "the store is busy", || client.words("GET key").is_error());
        assert!(client.words("SET key x").error().starts_with("BUSY "), "{stage}");
        assert!(transaction.words("SET key x").error().starts_with("BUSY "), "{stage}");
        assert_eq!(client.words("SCRIPT KILL"), Value::ok(), "{stage}");
        assert!(script.read_reply().is_error(), "{stage}");
        assert_eq!(script.read_reply(), Value::simple("PONG"), "{stage}");
        assert!(transaction.words("EXEC").error().starts_with("EXECABORT "), "{stage}");
        assert_eq!(client.words("GET key"), Value::Nil, "{stage}");
    }
}

/// What its own client has asked for, in one go with the script, is done and answered: nothing of it is refused.
#[test]
fn who_runs_the_script_is_not_told_that_it_is_busy() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let mut client = pair.client();
        assert_eq!(client.words("CONFIG SET lua-time-limit 10"), Value::ok());
        for round in 0..3 {
            let script = "for i = 1, 5000000 do end return redis.call('INCR', KEYS[1])";
            let replies = client.pipeline(&[&["PING"], &["EVAL", script, "1", "n"], &["GET", "n"]]);
            assert_eq!(replies[1], (round + 1).into(), "{stage}");
            assert_eq!(replies[2].text(), (round + 1).to_string(), "{stage}");
        }
    }
}

/// A store that says that it is busy has not gone, however long its lane is silent: others are told what the store says.
#[test]
fn a_script_may_outlast_lane_timeout() {
    for stage in Stage::ALL {
        let pair = Pair::start_with(stage, &["reply_timeout = \"200ms\"", "lane_timeout = \"200ms\""]);
        let mut client = pair.client();
        for store in [&pair.primary, &pair.secondary] {
            assert_eq!(store.words("CONFIG SET lua-time-limit 10"), Value::ok());
        }
        let mut script = endless(&pair);
        poll_until(SOON, "the store is busy", || client.words("GET key").is_error());
        let told = |client: &mut Client| {
            let told = client.words("GET key");
            assert!(told.error().starts_with("BUSY "), "{stage}: {told:?}");
        };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(800) {
            told(&mut client);
        }
        assert_eq!(client.words("SCRIPT KILL"), Value::ok(), "{stage}");
        assert!(script.read_reply().is_error(), "{stage}");
        // A server that has been told to end a script may say BUSY once more.
        poll_until(SOON, "the store serves", || client.words("SET key value") == Value::ok());
        if stage.is_dual() {
            pair.assert_equal_stores();
        }
        let lost = pair.proxy.log().contains("lane_timeout");
        assert!(!lost, "{stage}: a lane was given up");
    }
}

/// A lane that cannot be made yet, because the store is busy: clients are told what the store says.
#[test]
fn a_store_that_is_busy_at_the_start_says_so_itself() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    assert_eq!(secondary.words("CONFIG SET lua-time-limit 10"), Value::ok());
    let mut script = secondary.client();
    script.send(&["EVAL", "while true do end", "0"]);
    poll_until(SOON, "the store is busy", || secondary.words("PING").is_error());
    let config = ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url());
    let proxy = Proxy::start_not_ready(config);
    poll_until(SOON, "clients are told", || {
        let told = proxy.client().words("GET key");
        told.is_error() && told.error().starts_with("BUSY ")
    });
    assert_eq!(secondary.words("SCRIPT KILL"), Value::ok());
    poll_until(SOON, "the store serves", || proxy.client().words("GET key") == Value::Nil);
}
