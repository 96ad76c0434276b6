//! Two real stores and the proxy before them: what most tests begin with.

use super::{Client, Proxy, ProxyConfig, RedisServer, SOON, Stage, differences, dump, poll_for};
use std::time::Duration;

/// The name of the instance that a pair serves.
pub const INSTANCE: &str = "duplicate_jobs";

/// How many differing keys a failure shows.
const DIFFERENCES_SHOWN: usize = 20;

/// A primary, a secondary, and a proxy with one instance.
pub struct Pair {
    // The proxy goes first when dropped, so that its log does not end in complaints about stores.
    /// The proxy.
    pub proxy: Proxy,
    /// The new store.
    pub primary: RedisServer,
    /// The old store.
    pub secondary: RedisServer,
}

// === impl Pair ===

impl Pair {
    /// Both flags off, every setting at its default.
    pub fn start() -> Pair {
        Pair::start_in(Stage::SecondaryOnly)
    }

    /// Every setting at its default.
    pub fn start_in(stage: Stage) -> Pair {
        Pair::start_with(stage, &[])
    }

    /// With lines of the instance's table, such as `reads = "compare"`.
    pub fn start_with(stage: Stage, settings: &[&str]) -> Pair {
        Pair::over(RedisServer::start(), RedisServer::start(), stage, settings)
    }

    /// With servers that were started by the test.
    pub fn over(primary: RedisServer, secondary: RedisServer, stage: Stage, settings: &[&str]) -> Pair {
        let config = ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url()).stage(stage);
        let config = settings.iter().fold(config, |config, line| config.setting(line));
        Pair { proxy: Proxy::start(config), primary, secondary }
    }

    /// A new client of the proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.proxy.client()
    }

    /// Moves to `stage` and waits until it rules.
    #[track_caller]
    pub fn stage(&mut self, stage: Stage) {
        self.proxy.stage(stage);
    }

    /// The default store of `stage`.
    pub fn default_store(&self, stage: Stage) -> &RedisServer {
        match stage.default_store() {
            multistore::stage::StoreId::Primary => &self.primary,
            multistore::stage::StoreId::Secondary => &self.secondary,
        }
    }

    /// The store that is not the default in `stage`.
    pub fn other_store(&self, stage: Stage) -> &RedisServer {
        match stage.default_store() {
            multistore::stage::StoreId::Primary => &self.secondary,
            multistore::stage::StoreId::Secondary => &self.primary,
        }
    }

    /// A counter of the pair's instance, summed over its commands.
    #[track_caller]
    pub fn counter(&self, name: &str) -> f64 {
        self.proxy.metric(name, &[("instance_name", INSTANCE)])
    }

    /// `gitlab_redis_multi_store_read_fallback_total`
    #[track_caller]
    pub fn fallbacks(&self) -> f64 {
        self.counter("gitlab_redis_multi_store_read_fallback_total")
    }

    /// `gitlab_redis_multi_store_pipelined_diff_error_total`
    #[track_caller]
    pub fn diffs(&self) -> f64 {
        self.counter("gitlab_redis_multi_store_pipelined_diff_error_total")
    }

    /// `gitlab_redis_multi_store_method_missing_total`
    #[track_caller]
    pub fn missing(&self) -> f64 {
        self.counter("gitlab_redis_multi_store_method_missing_total")
    }

    /// Waits until both stores hold the same; panics with what differs.
    #[track_caller]
    pub fn assert_equal_stores(&self) {
        if let Some(different) = self.unequal_for(SOON) {
            panic!("{different}");
        }
    }

    /// What still differs between the stores after `patience`: the other store trails behind the default store.
    #[track_caller]
    pub fn unequal_for(&self, patience: Duration) -> Option<String> {
        let mut last = Vec::new();
        let equal = poll_for(patience, || {
            last = differences(&dump(&self.primary), &dump(&self.secondary));
            last.is_empty().then_some(())
        });
        if equal.is_some() {
            return None;
        }
        let shown = last.iter().take(DIFFERENCES_SHOWN).cloned().collect::<Vec<_>>().join("\n");
        Some(format!("{} keys differ between the stores:\n{shown}", last.len()))
    }
}
