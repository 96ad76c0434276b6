//! Clients that know what every answer must be, while stages change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use super::support::{Client, Value};

/// Clients that run until they are ended.
pub struct Workload {
    end: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

// === impl Workload ===

impl Workload {
    /// Starts `clients` of them. Each has keys of its own, old ones among them: `old:N` as [`super::data`] loads them.
    pub fn start(clients: usize, keys: usize, connect: impl Fn() -> Client) -> Workload {
        let end = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicU64::new(0));
        let clients = (0..clients)
            .map(|number| {
                let (client, end, requests) = (connect(), end.clone(), requests.clone());
                std::thread::spawn(move || work(client, number, clients, keys, &end, &requests))
            })
            .collect();
        Workload { end, requests, clients }
    }

    /// Ends them; the number of requests. Panics if one of them was told anything wrong.
    pub fn finish(self) -> u64 {
        self.end.store(true, Relaxed);
        for client in self.clients {
            client.join().expect("a client that was told nothing wrong");
        }
        self.requests.load(Relaxed)
    }
}

fn work(mut client: Client, number: usize, of: usize, keys: usize, end: &AtomicBool, requests: &AtomicU64) {
    let count = format!("count:{number}");
    let (mut counted, mut round) = (0, 0);
    while !end.load(Relaxed) {
        round += 1;
        counted += 1;
        assert_eq!(client.call(&["INCR", &count]), Value::Int(counted), "client {number}, round {round}");
        assert_eq!(client.call(&["GET", &count]).text(), counted.to_string());
        let own = format!("own:{number}:{}", round % 50);
        let value = format!("{round}");
        assert_eq!(client.call(&["SET", &own, &value, "EX", "1000"]), Value::ok());
        assert_eq!(client.call(&["GET", &own]).text(), value);
        old(&mut client, (round * of + number) * 7 % (keys / 10 * 9).max(1), round);
        // Elements go in at one end and come out at the other.
        let list = format!("queue:{number}");
        assert_eq!(client.call(&["LPUSH", &list, &value]), Value::Int(1));
        assert_eq!(client.call(&["RPOP", &list]).text(), value);
        let replies = client.pipeline(&[&["MULTI"], &["SADD", "all", &value], &["INCR", "total"], &["EXEC"]]);
        assert!(!replies[3].is_error(), "{:?}", replies[3]);
        requests.fetch_add(9, Relaxed);
    }
}

/// Reads and changes a key that was there before.
fn old(client: &mut Client, n: usize, round: usize) {
    let key = format!("old:{n}");
    let field = format!("new {round}");
    match n % 8 {
        0 => assert_eq!(client.call(&["GET", &key]).text(), format!("value {n}")),
        3 => {
            assert_eq!(client.call(&["HGET", &key, "a"]).text(), n.to_string());
            assert!(!client.call(&["HSET", &key, "changed", &field]).is_error());
            assert_eq!(client.call(&["HGET", &key, "b"]).text(), (n + 1).to_string());
        }
        4 => {
            assert_eq!(client.call(&["LINDEX", &key, "2"]).text(), "three");
            assert!(client.call(&["RPUSH", &key, &field]).int() >= 5);
        }
        5 => assert_eq!(client.call(&["SISMEMBER", &key, "member"]), Value::Int(1)),
        6 => assert_eq!(client.call(&["ZSCORE", &key, "a"]).text(), "1.5"),
        _ => {}
    }
}
