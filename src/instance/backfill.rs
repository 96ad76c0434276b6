//! Backfill: every key of the default store that is not known to be in sync is copied to the other one.
//!
//! The keyspace is walked with SCAN while clients go on. What they write is mirrored or listed by the sequencer; what
//! they do not touch is copied here. When the walk is through, everything is in sync but what is listed.

mod desk;

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::own::{self, Trouble};
use super::{Instance, verify, walk};
use crate::pace::Pace;
use crate::sequencer::copy::MAX_COPIES;
use crate::sequencer::hash_key;
use crate::sequencer::knowledge::Sync;
use crate::stage::StoreId;

pub use desk::{Action, Desk, Place};

/// How often to look whether there is something to do.
const LOOK: Duration = Duration::from_millis(50);
/// How long to leave copies alone that are under way, when there are enough of them.
const PAUSE: Duration = Duration::from_millis(1);
/// After a store has failed.
const REST: Duration = Duration::from_millis(500);
/// Keys that are read together.
const GROUP: usize = 64;
/// Keys asked for per page.
const PAGE: &str = "512";

/// Why a walk ended before its end. It goes on where it was if that still means something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] Trouble),
    /// Paused, or there is nothing to copy to, or no need any more.
    #[error("interrupted")]
    Interrupted,
    #[error("doubt has spread meanwhile")]
    Spread,
}

/// Backfills whenever that is wanted, until dropped.
pub async fn run(instance: Rc<Instance>) {
    loop {
        sleep(LOOK).await;
        let desk = instance.backfill();
        if !desk.is_wanted(instance.config_ref().backfill) {
            desk.is("off", None);
            continue;
        }
        if instance.core().stage().is_dual() && instance.core().sync_base() == Sync::InSync {
            desk.done();
            continue;
        }
        if desk.is_paused() {
            desk.is("paused", None);
            continue;
        }
        if let Some(reason) = obstacle(&instance) {
            desk.is("waiting", Some(reason));
            continue;
        }
        desk.is("running", None);
        match Filling::new(&instance).run().await {
            Ok(keys) => {
                tracing::info!(instance = %instance.name, keys, "backfill is done: nothing is in doubt but what is listed");
                instance.record();
            }
            Err(Broken::Interrupted) => {}
            Err(broken) => {
                tracing::warn!(instance = %instance.name, "backfill is interrupted and goes on: {broken}");
                sleep(REST).await;
            }
        }
    }
}

/// What a backfill must wait for.
fn obstacle(instance: &Instance) -> Option<String> {
    let core = instance.core();
    if !instance.config_ref().hydrate {
        return Some("hydrate = false: nothing is copied".to_owned());
    }
    if !core.stage().is_dual() {
        return Some(format!("it runs while both stores are in use; the stage is {}", core.stage()));
    }
    if let Some(store) = StoreId::ALL.into_iter().find(|store| !core.lane(*store).is_up()) {
        return Some(format!("the {store} store is down"));
    }
    if let Some(store) = core.doubted_source() {
        return Some(format!(
            "the {store} store may have lost writes: multistore repair --from says which is right"
        ));
    }
    let behind = core.behind_as_a_whole()?;
    Some(format!("the {behind} store is behind as a whole and is being repaired, which copies everything"))
}

/// One walk.
struct Filling<'a> {
    instance: &'a Rc<Instance>,
    desk: &'a Desk,
    default: StoreId,
    spread: u64,
    pace: Pace,
    bytes: u64,
}

// === impl Filling ===

impl<'a> Filling<'a> {
    fn new(instance: &'a Rc<Instance>) -> Filling<'a> {
        let core = instance.core();
        Filling {
            instance,
            desk: instance.backfill(),
            default: core.default_store(),
            spread: core.spread(),
            pace: instance.pace(),
            bytes: core.copy_counts().bytes,
        }
    }

    /// The number of keys passed.
    async fn run(&mut self) -> Result<u64, Broken> {
        let found = own::databases(self.instance, self.default).await?;
        let mut place = self.desk.resume(self.identity(), self.spread, found.values().sum());
        tracing::info!(instance = %self.instance.name, keys = found.values().sum::<u64>(), seen = place.seen,
            "backfill walks the {} store", self.default);
        if place.seen == 0 {
            walk::functions(self.instance, self.default).await;
        }
        if self.default == StoreId::Primary {
            // What the primary lacks and the secondary has counts, too: reads find it there.
            self.fetch(false).await?;
        }
        for db in found.into_keys() {
            if place.begin(db) {
                self.pass(db, &mut place).await?;
            }
        }
        self.finish().await?;
        Ok(place.seen)
    }

    fn identity(&self) -> [String; 2] {
        StoreId::ALL.map(|store| {
            self.instance.with_facts(store, |facts| {
                facts.identity.as_ref().map(|identity| identity.run_id.clone()).unwrap_or_default()
            })
        })
    }

    /// Copies every key of `db` of which nothing is known to the other store.
    async fn pass(&mut self, db: u32, place: &mut Place) -> Result<(), Broken> {
        loop {
            self.may_go_on()?;
            let page = own::scan(self.instance, self.default, db, &place.cursor, PAGE).await?;
            for keys in page.keys.chunks(GROUP) {
                self.wait_for_room(GROUP, self.pace.window() * GROUP).await?;
                let hashed = keys.iter().map(|key| (hash_key(db, key), &**key));
                let begun = self.instance.core_mut().copy_unknown(db, hashed, self.default.other());
                self.instance.settle();
                if !begun {
                    return Err(Broken::Interrupted);
                }
                self.rest(keys.len()).await;
            }
            place.seen += page.keys.len() as u64;
            let last = page.is_last();
            place.cursor = page.next;
            if last {
                place.end(db);
            }
            self.desk.passed(db, place, self.instance);
            if last {
                return Ok(());
            }
        }
    }

    /// Copies what the default store lacks, without replacing anything; or lists it, so that repair copies it.
    async fn fetch(&mut self, list: bool) -> Result<(), Broken> {
        for db in own::databases(self.instance, StoreId::Secondary).await?.into_keys() {
            self.fetch_database(db, list).await?;
        }
        Ok(())
    }

    async fn fetch_database(&mut self, db: u32, list: bool) -> Result<(), Broken> {
        let mut cursor = b"0".to_vec();
        loop {
            self.may_go_on()?;
            let page = own::scan(self.instance, StoreId::Secondary, db, &cursor, PAGE).await?;
            for keys in page.keys.chunks(GROUP) {
                for (key, _) in verify::surplus(self.instance, db, keys).await? {
                    let hash = hash_key(db, &key);
                    if list {
                        self.instance.core_mut().repair_key(db, &key, hash, true);
                    } else {
                        self.wait_for_room(1, MAX_COPIES).await?;
                        self.instance.core_mut().fetch_key(db, &key, hash);
                    }
                    self.instance.settle();
                }
                self.rest(keys.len()).await;
            }
            if page.is_last() {
                return Ok(());
            }
            cursor = page.next;
        }
    }

    /// Waits until `keys` more copies are no more than `most`.
    async fn wait_for_room(&mut self, keys: usize, most: usize) -> Result<(), Broken> {
        while self.instance.core().copies_under_way() + keys > most {
            sleep(PAUSE).await;
            self.listen();
            self.may_go_on()?;
        }
        Ok(())
    }

    /// Takes note of how long the default store takes to answer.
    fn listen(&mut self) {
        let core = self.instance.core();
        let lane = core.lane(self.default);
        let now = self.instance.micros();
        let waiting = lane.oldest().map_or(0, |at| now.saturating_sub(at));
        let latency = lane.round_trip().unwrap_or(0).max(waiting);
        self.pace.heard(now, Duration::from_micros(latency));
    }

    async fn rest(&mut self, keys: usize) {
        self.listen();
        let bytes = self.instance.core().copy_counts().bytes;
        let copied = bytes - std::mem::replace(&mut self.bytes, bytes);
        self.pace.set_limits(self.instance.background_limits());
        let pause = self.pace.spend(self.instance.micros(), keys as u64, copied);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }

    fn may_go_on(&self) -> Result<(), Broken> {
        let core = self.instance.core();
        if core.spread() != self.spread {
            return Err(Broken::Spread);
        }
        let wanted = self.desk.is_wanted(self.instance.config_ref().backfill) && !self.desk.is_paused();
        let same = core.default_store() == self.default && core.sync_base() == Sync::Unknown;
        if wanted && same && obstacle_now(self.instance) { Ok(()) } else { Err(Broken::Interrupted) }
    }

    /// Waits for the copies that are under way. What could not be copied is listed.
    async fn finish(&mut self) -> Result<(), Broken> {
        let newest = self.instance.core().newest_copy();
        while self.instance.core().has_copies_up_to(newest) {
            sleep(PAUSE).await;
            self.may_go_on()?;
        }
        if self.default == StoreId::Primary {
            // What could not be fetched is not listed yet.
            self.fetch(true).await?;
        }
        let filled = self.instance.core_mut().filled(self.spread);
        self.instance.settle();
        if filled { Ok(()) } else { Err(Broken::Spread) }
    }
}

/// Is there nothing that a backfill must wait for?
fn obstacle_now(instance: &Instance) -> bool {
    obstacle(instance).is_none()
}
