//! Repair of a store that is behind as a whole: a walk over both keyspaces.
//!
//! Every key that is not known to be in sync is copied from the store that is right, and what only
//! the other one has is deleted there. Live writes go on: what they touch is listed by the sequencer.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Instance;
use super::own::{self, Trouble, ask};
use crate::resp::value::Value;
use crate::sequencer::hash_key;
use crate::sequencer::knowledge::Sync;
use crate::stage::StoreId;

/// How often to look whether a store is behind as a whole.
const LOOK: Duration = Duration::from_millis(100);
/// How long to leave the copies alone that are under way, when there are enough of them.
const PAUSE: Duration = Duration::from_millis(1);
/// Walks for the sake of undeclared keys take no more than one part in this many of the time.
const REST_PER_WALK: u32 = 10;
/// The shortest pause between two such walks.
const SHORTEST_REST: Duration = Duration::from_secs(2);
/// How long a walk waits for somebody to listen to what changes meanwhile.
const EARS_PATIENCE: Duration = Duration::from_millis(300);
/// Keys asked for per page.
const PAGE: &str = "256";
/// How often functions are read while clients change them.
const MAX_DUMPS: usize = 100;

/// Why a walk did not get to its end. It begins anew.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] Trouble),
    #[error("doubt has spread meanwhile")]
    Spread,
    #[error("{0} copies failed")]
    Copies(u64),
}

/// How far a walk is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Keys passed, on both stores.
    pub seen: u64,
    /// Keys that there were on both when it began.
    pub expected: u64,
}

// === impl Instance ===

impl Instance {
    /// The walk has passed so many more keys.
    fn passed(&self, keys: u64) {
        let progress = self.background.repair.get();
        self.background.repair.set(progress.map(|now| Progress { seen: now.seen + keys, ..now }));
    }
}

/// Walks whenever a store is behind as a whole, until dropped.
pub async fn run(instance: Rc<Instance>) {
    let mut rest = Rest { until: Instant::now() };
    loop {
        sleep(LOOK).await;
        if rest.is_over(&instance) {
            pay_owed(&instance);
        }
        let Some(behind) = wanted(&instance) else { continue };
        ears_open(&instance).await;
        // What has been written up to here lies before the walk.
        pay_owed(&instance);
        let began = Instant::now();
        tracing::info!(instance = %instance.name, store = %behind, "the store is behind as a whole: repairing it");
        let outcome = walk(&instance, behind).await;
        instance.background.repair.set(None);
        rest.after(began.elapsed());
        match outcome {
            Ok(keys) => {
                tracing::info!(instance = %instance.name, store = %behind, keys, "repaired: nothing else is in doubt");
            }
            Err(broken) => {
                tracing::warn!(instance = %instance.name, store = %behind, "repair begins anew: {broken}");
                sleep(LOOK * 10).await;
            }
        }
    }
}

/// When undeclared keys may have been written the stores are walked: not at once, nor all the time.
struct Rest {
    until: Instant,
}

// === impl Rest ===

impl Rest {
    /// A change of stage that waits for the walk is an operator's wish, and no client's.
    fn is_over(&self, instance: &Instance) -> bool {
        Instant::now() >= self.until || instance.core().held_flip().is_some()
    }

    fn after(&mut self, walk: Duration) {
        self.until = Instant::now() + (walk * REST_PER_WALK).max(SHORTEST_REST);
    }
}

/// Undeclared keys may have been written: the other store is behind as a whole.
fn pay_owed(instance: &Instance) {
    let mut core = instance.core_mut();
    let default = core.default_store();
    let may = core.stage().is_dual() && core.sync_base() != Sync::Suspect(default);
    if may && core.take_owed_walk() {
        core.doubt_unnamed(default.other());
    }
}

/// Waits a moment for somebody to hear which keys change, if that is wanted: else a walk is owed again at once.
async fn ears_open(instance: &Instance) {
    let until = Instant::now() + EARS_PATIENCE;
    let waits = || {
        let core = instance.core_mut();
        core.wants_ears() && StoreId::ALL.iter().any(|store| !core.is_ear_open(*store))
    };
    while waits() && Instant::now() < until {
        sleep(PAUSE).await;
    }
}

/// The store to be repaired. None while an operator must say which one is right: what the other one
/// has may be all that is left of what was lost.
fn wanted(instance: &Instance) -> Option<StoreId> {
    let core = instance.core();
    let both = StoreId::ALL.iter().all(|store| core.lane(*store).is_up());
    let may = both && core.stage().is_dual() && core.doubted_source().is_none();
    if may && instance.config_ref().hydrate { core.behind_as_a_whole() } else { None }
}

async fn walk(instance: &Rc<Instance>, behind: StoreId) -> Result<u64, Broken> {
    let (spread, failed) = {
        let core = instance.core();
        (core.spread(), core.copy_counts().failed)
    };
    let right = behind.other();
    functions(instance, right).await;
    let mut databases = BTreeSet::new();
    let mut progress = Progress::default();
    for store in StoreId::ALL {
        let found = own::databases(instance, store).await?;
        progress.expected += found.values().sum::<u64>();
        databases.extend(found.into_keys());
    }
    instance.background.repair.set(Some(progress));
    let mut keys = 0;
    for db in databases {
        for scanned in [right, behind] {
            keys += pass(instance, scanned, behind, db).await?;
            if instance.core().spread() != spread {
                return Err(Broken::Spread);
            }
        }
    }
    // Those that are begun from here on are of listed keys.
    let newest = instance.core().newest_copy();
    while instance.core().has_copies_up_to(newest) {
        sleep(PAUSE).await;
    }
    let mut core = instance.core_mut();
    if core.spread() != spread || !core.stage().is_dual() {
        return Err(Broken::Spread);
    }
    let failed = core.copy_counts().failed - failed;
    if failed > 0 {
        // What the store refused is still behind. The next walk only copies what is left.
        return Err(Broken::Copies(failed));
    }
    core.walked();
    drop(core);
    instance.settle();
    Ok(keys)
}

/// Copies every key that `scanned` has in `db` and that is not known to be in sync.
async fn pass(instance: &Rc<Instance>, scanned: StoreId, behind: StoreId, db: u32) -> Result<u64, Broken> {
    let mut cursor = b"0".to_vec();
    let mut copied = 0;
    loop {
        let page = own::scan(instance, scanned, db, &cursor, PAGE).await?;
        instance.passed(page.keys.len() as u64);
        for name in page.keys.iter().map(|name| &**name) {
            let hash = hash_key(db, name);
            // What is in sync needs no copy; what the right store is behind in is copied the other way; and
            // what only a cold primary's secondary has stays unknown.
            let wanted = match instance.core().sync_of(hash) {
                Sync::Suspect(store) => store == behind,
                Sync::Unknown => scanned != behind,
                Sync::InSync => false,
            };
            if !wanted {
                continue;
            }
            while !instance.core().has_room_to_copy() {
                sleep(PAUSE).await;
            }
            instance.core_mut().copy_key(db, name, hash, behind);
            instance.settle();
            copied += 1;
        }
        if page.is_last() {
            return Ok(copied);
        }
        cursor = page.next;
    }
}

/// Functions are copied whole. A server without them, or without the right to, is left alone. What only the store that
/// is behind as a whole has was deleted on the other one; while nothing is known, it may be all that there is of it.
///
/// What clients change meanwhile is mirrored and must not be overwritten by what was read before it: then they are read
/// again.
pub(super) async fn functions(instance: &Instance, right: StoreId) {
    for _ in 0..MAX_DUMPS {
        let changes = instance.core().function_changes();
        let Ok(dump) = ask(instance, right, 0, &[b"FUNCTION", b"DUMP"]).await else { return };
        let (now, behind) = {
            let core = instance.core();
            (core.function_changes(), core.sync_base() == Sync::Suspect(right.other()))
        };
        if now != changes {
            continue;
        }
        let policy: &[u8] = if behind { b"FLUSH" } else { b"REPLACE" };
        if let Ok(Value::Bulk(payload)) = Value::parse(&dump) {
            let _ = ask(instance, right.other(), 0, &[b"FUNCTION", b"RESTORE", payload, policy]).await;
        }
        return;
    }
    tracing::warn!(instance = %instance.name, from = %right,
        "functions are changed faster than they can be copied: only the changes have reached the other store");
}
