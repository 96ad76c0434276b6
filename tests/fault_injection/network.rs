//! Two stores behind a network that can fail, and the proxy before both.

use super::support::*;
use multistore::stage::StoreId;
use std::sync::Arc;

pub struct Network {
    pub proxy: Proxy,
    /// The way to each store.
    pub ways: [FaultProxy; 2],
    pub stores: [RedisServer; 2],
    pub astray: Arc<Astray>,
}

// === impl Network ===

impl Network {
    pub fn start(stage: Stage, settings: &[&str]) -> Network {
        Network::over([RedisServer::start(), RedisServer::start()], stage, settings)
    }

    pub fn over(stores: [RedisServer; 2], stage: Stage, settings: &[&str]) -> Network {
        let astray = Arc::new(Astray::default());
        let ways = [0, 1].map(|at: usize| FaultProxy::before(stores[at].port(), &astray));
        let config = ProxyConfig::new(INSTANCE, &ways[0].url(), &ways[1].url()).stage(stage);
        let config = settings.iter().fold(config, |config, line| config.setting(line));
        Network { proxy: Proxy::start(config), ways, stores, astray }
    }

    pub fn way(&self, store: StoreId) -> &FaultProxy {
        &self.ways[store.index()]
    }

    pub fn errors(&self, store: StoreId, kind: &str) -> f64 {
        self.proxy.metric("multistore_store_errors_total", &[("store", store.name()), ("kind", kind)])
    }

    pub fn is_up(&self, store: StoreId) -> bool {
        self.proxy.instance_status(INSTANCE)["stores"][store.name()]["up"] == true
    }
}

/// What a store holds, without a copy that did not come to its end: that removes itself.
pub fn data(store: &RedisServer) -> Dump {
    let mut dump = dump(store);
    dump.retain(|(_, key), entry| !key.starts_with(b"multistore:copy:") || entry.expires_at_ms.is_none());
    dump
}
