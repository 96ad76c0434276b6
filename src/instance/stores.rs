//! A store answers, goes away, or comes back as another one.

use std::rc::Rc;
use std::time::Duration;

use crate::command::LiveCommand;
use crate::metrics::StoreErrorKind;
use crate::mirror::Dialect;
use crate::sequencer::knowledge::Sync;
use crate::sequencer::lane::DownReason;
use crate::stage::StoreId;
use crate::store::handshake::Identity;
use crate::store::pair::Pair;
use crate::store::recognise::{Change, recognise};

use super::{Instance, refused};

/// Requests on a lost connection that are seen to in one turn. A store that hung may owe hundreds of thousands, and the other
/// one's clients are not to wait until all of them are accounted for.
const LOST_AT_ONCE: usize = 1_024;

// === impl Instance ===

impl Instance {
    /// The store has answered the handshake.
    pub fn store_up(
        &self,
        store: StoreId,
        identity: Identity,
        hello: [Vec<u8>; 2],
        has_resp3: bool,
        commands: Vec<LiveCommand>,
    ) {
        tracing::info!(instance = %self.name, store = %store, version = %identity.version,
            run_id = %identity.run_id, keys = identity.keys, "store connected");
        self.overlay(store, commands);
        self.judge_return(store, &identity);
        let known =
            self.with_facts(store, |facts| facts.identity.as_ref().map(|known| known.version.clone()));
        if known.is_some_and(|known| known != identity.version) {
            self.core_mut().forget_refused_payloads();
        }
        {
            let mut facts = self.facts.borrow_mut();
            let facts = &mut facts[store.index()];
            facts.identity = Some(identity);
            facts.hello = hello;
            facts.tried = true;
            facts.last_error = None;
            facts.stranger = None;
        }
        self.judge_identity();
        self.core_mut().lane_up(store, has_resp3);
        self.tried.notify_waiters();
        self.settle();
    }

    /// Adds what the stores have beside the built-in commands, and notes what each of them has.
    pub(super) fn overlay(&self, store: StoreId, commands: Vec<LiveCommand>) {
        if commands.is_empty() {
            return;
        }
        let mut core = self.core_mut();
        let mut table = (*core.table).clone();
        table.overlay(commands.iter().cloned());
        self.live.borrow_mut()[store.index()] = commands;
        let table = Rc::new(table);
        *self.refused.borrow_mut() = refused(&table, &self.config_ref());
        for store in StoreId::ALL {
            let live = self.live.borrow();
            let commands = &live[store.index()];
            if !commands.is_empty() {
                self.facts.borrow_mut()[store.index()].offered = Some(Rc::new(table.offered(commands)));
            }
        }
        core.set_table(table);
        let offered = StoreId::ALL.map(|store| self.with_facts(store, |facts| facts.offered.clone()));
        if let [Some(primary), Some(secondary)] = &offered {
            let dialects = [
                Dialect::new(&core.table, primary, secondary),
                Dialect::new(&core.table, secondary, primary),
            ];
            core.set_dialects(dialects);
        }
    }

    /// What became of the store since it was last seen, by this process or by the one before? Notes what it is from now on.
    fn recognise(&self, store: StoreId, identity: &Identity) -> Option<Change> {
        let known = &mut self.servers.borrow_mut()[store.index()];
        let change = recognise(known, identity);
        if !identity.run_id.is_empty() {
            if !known.is_recorded_as(identity) {
                // To be recorded together with what follows from it.
                self.recorded.set(None);
            }
            known.clone_from(identity);
        }
        change
    }

    /// A store whose data may be other than it was may lack writes that it had acknowledged. While one store is in use that
    /// matters if it is this one, and the other one has been in use: it may hold what was lost, and would be made equal.
    fn judge_return(&self, store: StoreId, identity: &Identity) {
        let change = self.recognise(store, identity);
        let hydrate = self.config_ref().hydrate;
        let mut core = self.core_mut();
        let alone = store == core.default_store() && core.sync_base() == Sync::Suspect(store.other());
        let matters = core.stage().is_dual() || alone && hydrate;
        let Some(change) = change.filter(|_| matters) else { return };
        self.facts.borrow_mut()[store.index()].change = Some(change);
        let source = match core.sync_base() {
            Sync::Suspect(behind) => behind.other(),
            Sync::InSync | Sync::Unknown => core.default_store(),
        };
        if store == source {
            tracing::warn!(instance = %self.name, store = %store,
                "the store that counts {change}: it may have lost writes; nothing is repaired from it until you say which \
                 store is right (multistore repair --from)");
            core.doubt_source(Some(store));
        } else {
            tracing::warn!(instance = %self.name, store = %store, "the store {change}: it is repaired as a whole");
        }
        core.doubt_unnamed(source.other());
    }

    /// Why an operator must say which store is right; none: nobody must.
    pub fn source_in_doubt(&self) -> Option<String> {
        if let Some(text) = self.stranger() {
            return Some(text);
        }
        let store = self.core().doubted_source()?;
        // After a restart of the proxy nobody knows how it came to that.
        let change = self.with_facts(store, |facts| facts.change);
        let change =
            change.map_or_else(|| "came back as another server".to_owned(), |change| change.to_string());
        Some(format!("the {store} store {change}, and may have lost writes"))
    }

    /// A connection before this one could not be ended, since the store refused with `error`: writes that it has sent may
    /// have been executed behind newer ones.
    pub fn store_haunted(&self, store: StoreId, error: &str) {
        tracing::warn!(instance = %self.name, store = %store,
            "CLIENT KILL of the previous connection was refused ({error}): what it has sent may be executed behind newer \
             writes; the stores are compared as a whole; give the proxy's user the right to CLIENT KILL");
        self.core_mut().owe_walk();
    }

    /// An operator says which store is right: the other one is made equal to it. Only while dual, or if that has been
    /// asked: then from the moment that both are in use. The answer is for people.
    pub fn repair_from(&self, right: StoreId) -> Result<String, String> {
        if !self.config_ref().hydrate {
            return Err(format!("{} has hydrate = false: nothing is copied", self.name));
        }
        let mut core = self.core_mut();
        let dual = core.stage().is_dual();
        if !dual && core.doubted_source().is_none() && self.stranger().is_none() {
            return Err(format!("{} is in {}: repair needs both stores in use", self.name, core.stage()));
        }
        tracing::warn!(instance = %self.name, from = %right, to = %right.other(), "repair of a whole store, on request");
        core.doubt_source(None);
        core.doubt_store(right.other());
        self.take_strangers_in();
        let down: Vec<&str> = StoreId::ALL
            .into_iter()
            .filter(|store| !core.lane(*store).is_up())
            .map(|s| core.store_name(s))
            .collect();
        let when = match (dual, down.is_empty()) {
            (false, _) => "; it begins when both are in use".to_owned(),
            (true, true) => String::new(),
            (true, false) => format!("; {} down: it begins when both stores answer", down.join(" and ")),
        };
        drop(core);
        self.settle();
        Ok(format!("{}: repairing the {} store from the {right} store{when}", self.name, right.other()))
    }

    /// A write must never be applied twice to one store.
    fn judge_identity(&self) {
        let (config, facts) = (self.config.borrow(), self.facts.borrow());
        let run_ids =
            facts.each_ref().map(|facts| facts.identity.as_ref().map(|known| known.run_id.as_str()));
        let same = Pair::judge(&config, run_ids) == Pair::Same;
        let mut core = self.core_in_turn();
        if same && !core.same_server() {
            tracing::warn!(instance = %self.name,
                "primary and secondary are the same server and database: dual is treated as off");
        }
        core.set_same_server(same);
    }

    /// An attempt to connect has failed; the next one comes after `delay`.
    pub fn store_down(&self, store: StoreId, reason: DownReason, delay: Duration) {
        self.metrics.store(store).errors[reason.kind].inc();
        let news = {
            let mut facts = self.facts.borrow_mut();
            let facts = &mut facts[store.index()];
            facts.tried = true;
            facts.last_error.replace(reason.text.clone()).as_ref() != Some(&reason.text)
        };
        if news {
            tracing::warn!(instance = %self.name, store = %store, reason = %reason.text,
                "store is down; reconnecting, next attempt in {} ms", delay.as_millis());
        }
        self.core_mut().lane_down(store, reason);
        self.tried.notify_waiters();
        self.settle();
    }

    /// An established connection has ended.
    pub async fn store_lost(&self, store: StoreId, kind: StoreErrorKind, why: &str) {
        self.metrics.store(store).errors[kind].inc();
        let owed = self.core().lane(store).depth();
        if owed > 0 || kind != StoreErrorKind::Lost {
            tracing::warn!(instance = %self.name, store = %store, why, owed, "connection lost; reconnecting");
        } else {
            tracing::info!(instance = %self.name, store = %store, why, "idle connection ended; reconnecting");
        }
        self.facts.borrow_mut()[store.index()].last_error = Some(why.to_owned());
        let mut more = match kind {
            StoreErrorKind::OutOfStep => {
                self.core_mut().lane_out_of_step(store);
                false
            }
            _ => self.core_mut().lane_lost(store, LOST_AT_ONCE),
        };
        self.settle();
        while more {
            tokio::task::yield_now().await;
            more = self.core_mut().lose_more(store, LOST_AT_ONCE);
            self.settle();
        }
    }

    /// Waits until both stores have been tried once: before that, "down" would be a guess.
    pub async fn first_attempts(&self) {
        loop {
            let tried = self.tried.notified();
            if self.facts.borrow().iter().all(|facts| facts.tried) {
                return;
            }
            tried.await;
        }
    }
}
