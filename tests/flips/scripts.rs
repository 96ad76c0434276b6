//! Scripts that write keys which they do not declare, while the default store changes.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// As job queues do it: time, an automatic id, and names that are computed.
const JOB: &str = "local at = redis.call('TIME')[1] \
                   local id = redis.call('INCR', KEYS[1] .. ':id:' .. ARGV[1]) \
                   redis.call('HSET', KEYS[1] .. ':job:' .. ARGV[1], 'id', id, 'at', at) \
                   redis.call('RPUSH', KEYS[1] .. ':wait:' .. ARGV[1], id) \
                   redis.call('XADD', KEYS[1] .. ':events', 'MAXLEN', '~', 100, '*', 'id', id) \
                   return id";
const TAKE: &str = "redis.call('TIME') \
                    local id = redis.call('LPOP', KEYS[1] .. ':wait:' .. ARGV[1]) \
                    return {id, redis.call('HGET', KEYS[1] .. ':job:' .. ARGV[1], 'id')}";

/// Ends the clients, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Several clients add and take jobs without a pause; each knows every answer beforehand.
#[test]
fn no_job_is_lost_while_the_default_store_changes() {
    use Stage::{DualPrimaryDefault as Primary, DualSecondaryDefault as Secondary};
    let mut pair = Pair::start_in(Secondary);
    let (stop, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for name in 0..4 {
            let mut client = if name % 2 == 0 { pair.client() } else { pair.proxy.client3() };
            let (stop, turns) = (&stop, &turns);
            scope.spawn(move || {
                let name = name.to_string();
                let job = format!("queue:job:{name}");
                let mut at = 0;
                while !stop.load(Ordering::SeqCst) {
                    at += 1;
                    let text = at.to_string();
                    assert_eq!(client.call(&["EVAL", JOB, "1", "queue", &name]), at.into());
                    assert_eq!(client.call(&["HGET", &job, "id"]), text.as_str().into());
                    let taken = client.call(&["EVAL", TAKE, "1", "queue", &name]);
                    assert_eq!(taken, vec![text.as_str().into(), text.as_str().into()].into());
                    turns.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let stages =
            [Primary, Secondary, Primary, Secondary, Primary, Stage::PrimaryOnly, Primary, Secondary];
        for stage in stages {
            let before = turns.load(Ordering::SeqCst);
            pair.stage(stage);
            poll_until(SOON, "the clients go on", || turns.load(Ordering::SeqCst) > before + 20);
        }
    });
    pair.assert_equal_stores();
}
