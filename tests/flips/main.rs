//! Flags flip while clients work, wait and listen.

#[path = "../support/mod.rs"]
mod support;

mod blocked;
mod load;
mod scripts;
mod subscribers;

use support::*;

/// Steps of a rollout in both directions: every change of stage that is allowed without force.
const STEPS: [(Stage, Stage); 6] = [
    (Stage::SecondaryOnly, Stage::DualSecondaryDefault),
    (Stage::DualSecondaryDefault, Stage::DualPrimaryDefault),
    (Stage::DualPrimaryDefault, Stage::PrimaryOnly),
    (Stage::PrimaryOnly, Stage::DualPrimaryDefault),
    (Stage::DualPrimaryDefault, Stage::DualSecondaryDefault),
    (Stage::DualSecondaryDefault, Stage::SecondaryOnly),
];

// === impl Pair ===

impl Pair {
    /// Waits until so many clients wait in a blocking command, wherever they wait in `stage`.
    #[track_caller]
    fn expect_blocked(&self, stage: Stage, count: usize) {
        poll_until(SOON, &format!("{count} clients blocked in {stage}"), || match stage.is_dual() {
            true => self.counter("multistore_parked_clients") == count as f64,
            false => {
                let blocked = self.default_store(stage).info("clients", "blocked_clients");
                blocked == Some(count.to_string())
            }
        });
    }

    /// Waits until a store answers so.
    #[track_caller]
    fn eventually(&self, server: &RedisServer, line: &str, reply: &Value) {
        let mut last = Value::Nil;
        let found = poll_for(SOON, || {
            last = server.words(line);
            (last == *reply).then_some(())
        });
        assert!(found.is_some(), "{line} on port {} is {last:?}, not {reply:?}", server.port());
    }
}
