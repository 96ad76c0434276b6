//! A client that moves large values, or that reads nothing, and the others.

mod support;

use support::*;

/// Larger than what the sockets on the way may hold.
const LARGE: usize = 48 * 1024 * 1024;

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at % 251) as u8).collect()
}

fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the proxy runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1024
}

/// Whoever does not read a reply that is known to be large keeps nobody waiting, and the proxy keeps little of it.
#[test]
fn a_large_reply_that_nobody_reads_holds_up_nobody() {
    let mut pair = Pair::start();
    let value = large();
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut writer = pair.client().with_patience(SOON * 3);
        assert_eq!(writer.call(&[b"SET", &b"large"[..], &value]), Value::ok(), "{stage}");
        assert_eq!(writer.call(&["SET", "small", "value"]), Value::ok(), "{stage}");
        let mut slow = pair.client().with_patience(SOON * 3);
        slow.send(&["GET", "large"]);
        slow.send(&["GET", "small"]);
        let mut others = pair.client();
        for _ in 0..20 {
            assert_eq!(others.words("GET small"), "value".into(), "{stage}");
        }
        poll_until(SOON, "the proxy keeps little of what is unread", || {
            resident_mb(pair.proxy.pid()) < LARGE as u64 / 1024 / 1024 / 2
        });
        assert!(slow.read_reply() == Value::Bulk(value.clone()), "{stage}: another value");
        assert_eq!(slow.read_reply(), "value".into(), "{stage}: its own order");
    }
}

/// The first reply tells; whether the value is large now is looked at each time.
#[test]
fn large_replies_are_right_whatever_they_become() {
    let mut pair = Pair::start_with(Stage::SecondaryOnly, &["heavy_bytes = \"64kb\""]);
    for stage in Stage::ALL {
        pair.stage(stage);
        let mut client = pair.client();
        let members: Vec<String> = (0..20_000).map(|at| format!("member:{at}")).collect();
        client.words("DEL list");
        for chunk in members.chunks(500) {
            let words: Vec<&str> =
                ["RPUSH", "list"].into_iter().chain(chunk.iter().map(String::as_str)).collect();
            assert!(!client.call(&words).is_error());
        }
        for _ in 0..3 {
            assert_eq!(client.words("LRANGE list 0 -1").items().len(), members.len(), "{stage}");
        }
        // Its own writes, and everybody else's, come first.
        assert_eq!(client.words("RPUSH list last").int(), 20_001);
        assert_eq!(client.words("LRANGE list 0 -1").items().last(), Some(&"last".into()), "{stage}");
        assert_eq!(pair.client().words("LTRIM list 0 1"), Value::ok());
        let replies = client.pipeline(&[&["LRANGE", "list", "0", "-1"], &["LLEN", "list"], &["PING"]]);
        assert_eq!(replies[0], Value::bulks(&["member:0", "member:1"]), "{stage}");
        assert_eq!(replies[1..], [2.into(), Value::simple("PONG")], "{stage}");
        assert!(client.words("GET list").is_error(), "{stage}");
    }
}
