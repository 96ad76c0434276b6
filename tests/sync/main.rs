//! Two stores end up equal, and no client is told what the default store alone would not have said:
//! cold keys, outages, refusals, flips, crashes. Against two real servers.

#[path = "../support/mod.rs"]
mod support;

mod cold;
mod copies;
mod effects;
mod expiry;
mod functions;
mod heavy;
mod outages;
mod races;
mod refusals;
mod scripts;
mod source;
mod stages;
mod state;
mod strangers;

use std::time::Duration;

use serde_json::Value as Json;
use support::*;

use multistore::stage::StoreId;

/// The stages in which both stores are in use.
const DUAL: [Stage; 2] = [Stage::DualSecondaryDefault, Stage::DualPrimaryDefault];

/// A store that comes back is noticed at once.
const EAGER: [&str; 2] = [r#"reconnect_min = "10ms""#, r#"reconnect_max = "50ms""#];

/// How long a repair may take, on a busy machine.
const REPAIRED: Duration = Duration::from_secs(30);

// === impl Pair ===

impl Pair {
    /// In `stage`, reconnecting eagerly.
    fn eager(stage: Stage) -> Pair {
        Pair::start_with(stage, &EAGER)
    }

    /// In `stage`, reconnecting eagerly, with further settings.
    fn eager_with(stage: Stage, settings: &[&str]) -> Pair {
        Pair::start_with(stage, &[&EAGER, settings].concat())
    }

    /// What `/status` says of the instance.
    #[track_caller]
    fn status(&self) -> Json {
        self.proxy.instance_status(INSTANCE)
    }

    /// What `/status` says is in sync.
    #[track_caller]
    fn sync(&self) -> Json {
        self.status()["sync"].clone()
    }

    fn server_mut(&mut self, store: StoreId) -> &mut RedisServer {
        match store {
            StoreId::Primary => &mut self.primary,
            StoreId::Secondary => &mut self.secondary,
        }
    }

    fn server(&self, store: StoreId) -> &RedisServer {
        match store {
            StoreId::Primary => &self.primary,
            StoreId::Secondary => &self.secondary,
        }
    }

    /// Waits until `/status` shows the store up, or down.
    #[track_caller]
    fn wait_up(&self, store: StoreId, up: bool) {
        poll_until(REPAIRED, &format!("{store} up: {up}"), || {
            self.status()["stores"][store.name()]["up"] == up
        });
    }

    /// Waits until at least `count` keys are listed as suspect.
    #[track_caller]
    fn wait_suspects(&self, count: u64) {
        poll_until(SOON, &format!("{count} suspects"), || {
            self.sync()["suspects"].as_u64().is_some_and(|suspects| suspects >= count)
        });
    }

    /// Waits until nothing is suspect, copied or queued.
    #[track_caller]
    fn wait_settled(&self) {
        let mut last = Json::Null;
        let settled = poll_for(REPAIRED, || {
            last = self.status();
            let sync = &last["sync"];
            let quiet = StoreId::ALL.iter().all(|store| last["stores"][store.name()]["depth"] == 0);
            let whole = sync["behind_as_a_whole"].is_null();
            (quiet && whole && sync["suspects"] == 0 && sync["copies_under_way"] == 0).then_some(())
        });
        assert!(settled.is_some(), "not settled: {last:#}");
    }

    /// Waits until nothing is in doubt, and compares the stores.
    #[track_caller]
    fn assert_converges(&self) {
        self.wait_settled();
        self.assert_equal_stores();
    }

    /// Both stores answer this line so, once the proxy has settled.
    #[track_caller]
    fn assert_both(&self, line: &str, expected: impl Into<Value>) {
        self.assert_converges();
        let expected = expected.into();
        for store in StoreId::ALL {
            assert_eq!(self.server(store).words(line), expected, "{line} on the {store} store");
        }
    }

    /// Why a change of stage is held back, once it is.
    #[track_caller]
    fn held_flip(&self) -> String {
        let held = poll_for(SOON, || self.status()["held_flip"].as_str().map(str::to_owned));
        held.unwrap_or_else(|| panic!("no flip is held: {:#}", self.status()))
    }
}
