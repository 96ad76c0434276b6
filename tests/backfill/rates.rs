//! How fast: backfill and verification against a bare SCAN with pipelined DUMP on the same server. Prints; asserts
//! nothing about time. `make test-million`.

use std::time::{Duration, Instant};

use super::data::load;
use super::*;

/// Keys, where `BACKFILL_KEYS` names no other number.
const KEYS: usize = 200_000;

#[test]
#[ignore = "a measurement: make test-million"]
fn rates_against_the_source_alone() {
    let keys = std::env::var("BACKFILL_KEYS").ok().and_then(|number| number.parse().ok()).unwrap_or(KEYS);
    let settings = [CALM, r#"reply_timeout = "30s""#, r#"background_latency = "0s""#];
    let pair = Pair::start_with(Stage::DualSecondaryDefault, &settings);
    load(&mut pair.secondary.client(), keys);
    let bare = rate(keys, || bare_dump(&pair.secondary, keys));
    let backfill = rate(keys, || {
        run(&pair, &["backfill", "start", "--wait"], 0);
    });
    let verify = rate(keys, || {
        verified(&pair, &[], 0);
    });
    println!("{keys} keys; SCAN and pipelined DUMP alone: {bare:.0} keys/s");
    println!("backfill: {backfill:.0} keys/s, ratio {:.2}", backfill / bare);
    println!("verify, both stores and both directions: {verify:.0} keys/s, ratio {:.2}", verify / bare);
}

fn rate(keys: usize, work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    keys as f64 / began.elapsed().as_secs_f64().max(Duration::from_micros(1).as_secs_f64())
}

/// What a server gives when nothing else is asked of it.
fn bare_dump(server: &RedisServer, keys: usize) {
    let mut client = server.client();
    let mut seen = 0;
    for db in ["0", "3"] {
        assert_eq!(client.call(&["SELECT", db]), Value::ok());
        let mut cursor = b"0".to_vec();
        loop {
            let page = client.call(&[b"SCAN".as_slice(), &cursor, b"COUNT", b"512"]);
            let names = page.items()[1].items();
            for name in names {
                client.send(&[b"DUMP".as_slice(), name.bytes()]);
            }
            seen += client.read_replies(names.len()).len();
            cursor = page.items()[0].bytes().to_vec();
            if cursor == b"0" {
                break;
            }
        }
    }
    assert!(seen >= keys, "{seen}");
}
