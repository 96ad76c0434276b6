//! Another server under a store's URL: what nobody has said to be of this pair is left alone.

use crate::metrics::StoreErrorKind;
use crate::sequencer::lane::DownReason;
use crate::stage::StoreId;
use crate::store::handshake::Identity;
use crate::store::recognise::{Place, is_stranger};

use super::Instance;

// === impl Instance ===

impl Instance {
    /// Where the store is by its URL.
    pub fn place(&self, store: StoreId) -> Place {
        let config = self.config_ref();
        Place::of(config.store(store), config.shown_database(store))
    }

    /// Is the store elsewhere than it was, and has nobody looked yet what is there? A store that is in use alone is what
    /// its URL says: nothing is made equal to it, nor it to anything.
    pub fn is_unjudged(&self, store: StoreId) -> bool {
        let known = &self.servers.borrow()[store.index()].place;
        let core = self.core();
        known.is_known()
            && *known != self.place(store)
            && self.config_ref().hydrate
            && (core.stage().is_dual() || store != core.default_store())
    }

    /// May what stands under the URL of `store` be taken for it? Else it is as if it were down.
    pub fn judge_newcomer(&self, store: StoreId, found: &Identity) -> Result<(), DownReason> {
        let known = self.servers.borrow();
        if !is_stranger(store, &known, found) {
            return Ok(());
        }
        let was = &known[store.index()].place;
        let why = format!(
            "another server than before: {} holds {} keys and has nothing in common with {was}; it is left alone",
            found.place, found.keys
        );
        let news = self.facts.borrow_mut()[store.index()].stranger.replace(why.clone()).is_none();
        if news {
            tracing::error!(instance = %self.name, store = %store, %was, now = %found.place, run_id = %found.run_id,
                keys = found.keys,
                "another server stands under the URL of this store: it is not empty, and neither its run_id nor its \
                 replication id connects it with the one before. Nothing is read from it and nothing written to it, as if it \
                 were down. Put the old URL back; or say which store is right: multistore repair --from makes the other one \
                 equal to it, and deletes there what only it has");
        }
        Err(refusal(why))
    }

    /// May anything be sent to the store beside its lane?
    pub fn may_use(&self, store: StoreId) -> Result<(), DownReason> {
        if !self.is_unjudged(store) {
            return Ok(());
        }
        let why = self.with_facts(store, |facts| facts.stranger.clone());
        Err(refusal(
            why.unwrap_or_else(|| "its URL has changed, and it has not been looked at yet".to_owned()),
        ))
    }

    /// Which store is left alone, and why.
    pub(super) fn stranger(&self) -> Option<String> {
        let of = |store| self.with_facts(store, |facts| facts.stranger.clone());
        StoreId::ALL.into_iter().find_map(|store| Some(format!("the {store} store is {}", of(store)?)))
    }

    /// An operator has said which store is right: what stands under the URLs is the pair.
    pub(super) fn take_strangers_in(&self) {
        for store in StoreId::ALL {
            let taken = self.facts.borrow_mut()[store.index()].stranger.take().is_some();
            if taken {
                let place = self.place(store);
                self.servers.borrow_mut()[store.index()] = Identity { place, ..Identity::default() };
                // A crash must not make it forgotten.
                self.recorded.set(None);
            }
        }
    }
}

fn refusal(text: String) -> DownReason {
    DownReason { kind: StoreErrorKind::Refused, text, store_error: None }
}
