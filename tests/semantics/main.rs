//! Every row of the tables of the semantics page, in every stage, against two real servers.

#[path = "../support/mod.rs"]
mod support;

mod comparison;
mod misses;
mod reads;
mod scans;
mod stages;
mod stores;
mod transactions;
mod watch;

use support::*;

const FALLBACK: &str = "gitlab_redis_multi_store_read_fallback_total";
const DIFF: &str = "gitlab_redis_multi_store_pipelined_diff_error_total";
const MISSING: &str = "gitlab_redis_multi_store_method_missing_total";
const COMMAND_DIFF: &str = "multistore_command_diff_total";
const LOST_WRITES: &str = "multistore_mirror_write_failures_total";

/// No key is copied over, so that what was made to differ stays different.
const VERBATIM: &str = "hydrate = false";

/// The stages in which both stores are in use.
const DUAL: [Stage; 2] = [Stage::DualSecondaryDefault, Stage::DualPrimaryDefault];

/// A pair whose reads do not turn away from a primary that this machine is too busy to run at once.
fn calm(stage: Stage) -> Pair {
    calm_with(stage, &[])
}

/// The same, with further settings.
fn calm_with(stage: Stage, settings: &[&str]) -> Pair {
    Pair::start_with(stage, &[settings, &["read_patience = \"10s\""]].concat())
}

// === impl Pair ===

impl Pair {
    /// A counter's series of one command.
    #[track_caller]
    fn of_command(&self, name: &str, command: &str) -> f64 {
        self.proxy.metric(name, &[("instance_name", INSTANCE), ("command", command)])
    }

    /// Waits until a counter has a value; what is counted behind the client's back comes a little later.
    #[track_caller]
    fn expect_counter(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = None;
        let found = poll_for(SOON, || {
            last = self.proxy.metric_opt(name, labels);
            (last == Some(value)).then_some(())
        });
        assert!(found.is_some(), "{name}{labels:?} is {last:?}, not {value}");
    }

    /// Waits until a store answers so: what is copied comes a little later than what is mirrored.
    #[track_caller]
    fn eventually(&self, server: &RedisServer, line: &str, reply: &Value) {
        let mut last = Value::Nil;
        let found = poll_for(SOON, || {
            last = server.words(line);
            (last == *reply).then_some(())
        });
        assert!(found.is_some(), "{line} on port {} is {last:?}, not {reply:?}", server.port());
    }

    /// Waits until both stores have answered all that was mirrored to them.
    #[track_caller]
    fn quiet(&self) {
        poll_until(SOON, "nothing in the lanes", || self.counter("multistore_lane_depth") == 0.0);
    }
}
