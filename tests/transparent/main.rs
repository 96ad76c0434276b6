//! What a client may do with its connection, through the proxy as with a server: client-side caching, CLIENT PAUSE,
//! pushes between replies, a store that is busy with a script.

#[path = "../support/mod.rs"]
mod support;

mod busy;
mod tracking;

use std::time::Duration;
use support::*;

/// How long nothing may come before nothing is taken to come.
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn a_pause_holds_up_writes_and_nobody_elses_reads() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let (mut client, mut writer) = (pair.client(), pair.client());
        assert_eq!(client.words("SET key before"), Value::ok());
        assert_eq!(client.words("CLIENT PAUSE 60000 WRITE"), Value::ok());
        writer.send(&["SET", "key", "after"]);
        poll_until(SOON, "the writer waits", || {
            client.words("INFO multistore").text().contains("multistore_blocked_clients:1\r\n")
        });
        assert_eq!(client.words("GET key"), "before".into(), "{stage}");
        assert_eq!(client.words("CLIENT UNPAUSE"), Value::ok());
        assert_eq!(writer.read_reply(), Value::ok(), "{stage}");
        assert_eq!(client.words("GET key"), "after".into(), "{stage}");
    }
}

/// Redis asks a function's flags whether it may write.
#[test]
fn a_pause_lets_functions_through_that_never_write() {
    const LIBRARY: &str = "#!lua name=lib
        redis.register_function{function_name='reads', callback=function() return 1 end, flags={'no-writes'}}
        redis.register_function('writes', function(keys) return redis.call('INCR', keys[1]) end)";
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let (mut client, mut writer) = (pair.client(), pair.client());
        assert_eq!(client.call(&["FUNCTION", "LOAD", LIBRARY]), "lib".into(), "{stage}");
        assert_eq!(client.words("CLIENT PAUSE 60000 WRITE"), Value::ok());
        writer.send(&["FCALL", "writes", "1", "n"]);
        poll_until(SOON, "the writer waits", || {
            client.words("INFO multistore").text().contains("multistore_blocked_clients:1\r\n")
        });
        let replies = client.pipeline(&[&["FCALL", "reads", "0"], &["FCALL", "reads", "0"], &["GET", "n"]]);
        assert_eq!(replies, [1.into(), 1.into(), Value::Nil], "{stage}");
        let mut resp3 = pair.proxy.client3();
        assert_eq!(resp3.words("FCALL reads 0"), 1.into(), "{stage}");
        assert_eq!(client.words("CLIENT UNPAUSE"), Value::ok());
        assert_eq!(writer.read_reply(), 1.into(), "{stage}");
    }
}

#[test]
fn a_pause_ends_by_itself() {
    let pair = Pair::start();
    let mut client = pair.client();
    assert_eq!(client.words("CLIENT PAUSE 50"), Value::ok());
    assert_eq!(client.words("SET key value"), Value::ok());
    assert_eq!(client.words("CLIENT PAUSE x").error(), "ERR timeout is not an integer or out of range");
    assert_eq!(client.words("CLIENT PAUSE 1 SOME").error(), "ERR CLIENT PAUSE mode must be WRITE or ALL");
}

#[test]
fn confirmations_of_a_subscriber_pass_client_reply_off() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let mut client = pair.proxy.client3();
        client.send(&["CLIENT", "REPLY", "OFF"]);
        client.send(&["SUBSCRIBE", "news", "olds"]);
        assert_eq!(client.read_reply().items()[1], "news".into(), "{stage}");
        assert_eq!(client.read_reply().items()[1], "olds".into(), "{stage}");
        client.send(&["GET", "key"]);
        client.send(&["CLIENT", "REPLY", "ON"]);
        assert_eq!(client.read_reply(), Value::ok(), "{stage}");
    }
}

/// A reply that flows in pieces is not cut by a message for the same client.
#[test]
fn a_message_waits_for_the_end_of_a_large_reply() {
    const SIZE: usize = 3_000_000;
    let pair = Pair::start_in(Stage::DualSecondaryDefault);
    let mut client = pair.proxy.client3();
    let mut publisher = pair.client();
    assert_eq!(publisher.call(&["SET", "large", &"x".repeat(SIZE)]), Value::ok());
    client.words("SUBSCRIBE news");
    for _ in 0..20 {
        client.send(&["GET", "large"]);
        for _ in 0..50 {
            publisher.words("PUBLISH news x");
        }
        let mut messages = 0;
        let mut replies = 0;
        while messages < 50 || replies < 1 {
            match client.read_reply() {
                Value::Push(items) => messages += usize::from(items[2] == "x".into()),
                reply => {
                    assert_eq!(reply.bytes().len(), SIZE);
                    replies += 1;
                }
            }
        }
    }
}

#[test]
fn the_proxys_own_section_of_info() {
    let pair = Pair::start_in(Stage::DualPrimaryDefault);
    let mut client = pair.client();
    let text = client.words("INFO multistore").text();
    assert!(text.contains("multistore_stage:dual_primary_default\r\n"), "{text}");
    assert!(!text.contains("redis_version"), "{text}");
    let both = client.words("INFO server multistore").text();
    assert!(both.contains("redis_version:") && both.contains("# Multistore\r\n"), "{both}");
    assert!(!client.words("INFO").text().contains("multistore_"), "INFO is the store's own");
}

#[test]
fn whoami_is_who_the_client_is() {
    let pair = Pair::start();
    let mut client = pair.client();
    assert_eq!(client.words("ACL WHOAMI"), "default".into());
    assert_eq!(client.words("ACL SETUSER someone on >secret +@all ~*"), Value::ok());
    assert_eq!(client.words("AUTH someone secret"), Value::ok());
    assert_eq!(client.words("ACL WHOAMI"), "someone".into());
    assert_eq!(client.words("RESET"), Value::simple("RESET"));
    assert_eq!(client.words("ACL WHOAMI"), "default".into());
}

/// The store lets go of what a client watched when the client does, and its connection serves others.
#[test]
fn a_store_is_told_of_unwatch() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let mut monitor = pair.client();
        assert_eq!(monitor.words("MONITOR"), Value::ok());
        let mut client = pair.client();
        assert_eq!(client.words("WATCH key"), Value::ok(), "{stage}");
        assert_eq!(client.words("UNWATCH"), Value::ok(), "{stage}");
        assert_eq!(pair.client().words("SET key value"), Value::ok(), "{stage}");
        let replies = client.pipeline(&[&["MULTI"], &["GET", "key"], &["EXEC"]]);
        assert_eq!(replies[2], Value::Array(vec!["value".into()]), "{stage}");
        let shown = |line: &Value| line.text().ends_with("\"UNWATCH\"");
        poll_until(SOON, "the monitor shows it", || shown(&monitor.read_reply()));
    }
}

#[test]
fn a_monitor_does_not_show_how_the_proxy_keeps_its_lanes() {
    let pair = Pair::start_in(Stage::DualSecondaryDefault);
    let mut monitor = pair.client();
    assert_eq!(monitor.words("MONITOR"), Value::ok());
    let mut client = pair.client();
    assert_eq!(client.words("SELECT 5"), Value::ok());
    assert_eq!(client.words("SET key value"), Value::ok());
    loop {
        let shown = monitor.read_reply();
        let Value::Simple(line) = &shown else { panic!("{shown:?}") };
        let line = String::from_utf8_lossy(line.as_ref()).into_owned();
        assert!(!line.contains("SELECT") && !line.contains("HELLO") && !line.contains("ECHO"), "{line}");
        if line.ends_with("\"SET\" \"key\" \"value\"") {
            break;
        }
    }
}
