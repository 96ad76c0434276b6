//! Verification: do both stores hold the same?
//!
//! Both are asked at one point of the order, so that what differs, differs, however many clients write meanwhile.
//! The default store's keyspace is walked and every key compared; then the other one's, for what only it has. A key
//! that differs is asked again: it may have expired, or be on its way as a copy.

mod batch;
mod desk;
mod functions;
mod pieces;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Instance;
use super::own::{self, Trouble};
use crate::admin::verification::VerifyReport;
use crate::mirror::verify::Why;
use crate::sequencer::copy::is_scratch;
use crate::sequencer::hash_key;
use crate::sequencer::knowledge::Sync;
use crate::stage::StoreId;

pub(super) use batch::surplus;
pub use desk::{Desk, Mend, Sample};
use desk::{Handle, Suspicion};

/// Keys compared in one go.
const BATCH: usize = 64;
/// Keys asked for per page.
const PAGE: &str = "512";
/// How often a key that differs is asked again, and after which pause.
const LOOKS_AGAIN: u32 = 3;
const PAUSE_BEFORE_LOOK: Duration = Duration::from_millis(300);
/// As long as copies of differing keys are on their way they are waited for, but no longer than this.
const COPIES_PATIENCE: Duration = Duration::from_secs(20);
/// How long repaired keys are waited for.
const REPAIR_PATIENCE: Duration = Duration::from_secs(60);
/// A store that does not answer is asked again so often.
const RETRIES: u32 = 10;
const PAUSE_BEFORE_RETRY: Duration = Duration::from_millis(200);

/// Why a verification did not get to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] Trouble),
    /// It compares what both stores have taken since a point of the order: that has ended.
    #[error("the stage changed meanwhile")]
    Flipped,
    /// A task failed.
    #[error("internal error")]
    Internal,
}

/// Runs one verification and tells its desk what it finds.
pub async fn run(instance: Rc<Instance>, handle: Handle) {
    let outcome = Verification::new(&instance, &handle).run().await;
    let proof = outcome.is_ok().then(|| instance.proof());
    handle.end(outcome, proof);
    log_end(&instance.name, &handle.report());
    instance.settle();
}

fn log_end(instance: &str, report: &VerifyReport) {
    let VerifyReport { keys_compared, differing, repaired, took_ms, .. } = report;
    match (&report.error, report.equal) {
        (Some(why), _) => tracing::warn!(instance, took_ms, why, "verification was not finished"),
        (None, Some(true)) => {
            tracing::info!(instance, keys_compared, repaired, took_ms, "verification ended: no difference");
        }
        (None, _) => tracing::warn!(
            instance,
            keys_compared,
            differing,
            repaired,
            took_ms,
            functions_equal = report.functions_equal,
            "verification ended: the stores DIFFER"
        ),
    }
}

struct Verification<'a> {
    instance: &'a Rc<Instance>,
    handle: &'a Handle,
    flips: u64,
    default: StoreId,
}

// === impl Verification ===

impl<'a> Verification<'a> {
    fn new(instance: &'a Rc<Instance>, handle: &'a Handle) -> Verification<'a> {
        let core = instance.core();
        Verification { instance, handle, flips: core.flips(), default: core.default_store() }
    }

    async fn run(&self) -> Result<(), Broken> {
        let mut databases = BTreeSet::new();
        let mut expected = 0;
        for store in StoreId::ALL {
            let found = own::databases(self.instance, store).await?;
            expected += found.values().sum::<u64>();
            databases.extend(found.into_keys());
        }
        self.handle.begins(expected, &databases);
        self.handle.functions(functions::are_equal(self.instance).await?);
        for db in databases {
            for store in [self.default, self.default.other()] {
                self.pass(store, db).await?;
            }
        }
        self.look_again().await?;
        if self.handle.mends() != Mend::Nothing {
            self.repair().await?;
        }
        Ok(())
    }

    /// Walks the keyspace of one database of `store`. The default store's keys are compared; of the other one's only
    /// those count that the default store lacks.
    async fn pass(&self, store: StoreId, db: u32) -> Result<(), Broken> {
        let mut cursor = b"0".to_vec();
        let mut tasks = JoinSet::new();
        loop {
            self.still_the_stage()?;
            let page = self.page(store, db, &cursor).await?;
            self.handle.seen(page.keys.len());
            let wanted = |key: &[u8]| !is_scratch(key) && self.handle.samples(hash_key(db, key));
            let wanted: Vec<Box<[u8]>> = page.keys.into_iter().filter(|key| wanted(key)).collect();
            for keys in wanted.chunks(BATCH) {
                while tasks.len() >= self.handle.window() {
                    finished(tasks.join_next().await)?;
                }
                self.rest(keys.len()).await;
                let (instance, handle) = (self.instance.clone(), self.handle.clone());
                let keys = keys.to_vec();
                if store == self.default {
                    tasks.spawn_local(compared(instance, handle, db, keys));
                } else {
                    tasks.spawn_local(searched(instance, handle, db, keys));
                }
            }
            if page.next == b"0" || self.handle.has_enough() {
                break;
            }
            cursor = page.next;
        }
        while let Some(task) = tasks.join_next().await {
            finished(Some(task))?;
        }
        Ok(())
    }

    async fn page(&self, store: StoreId, db: u32, cursor: &[u8]) -> Result<own::Page, Broken> {
        retried(|| own::scan(self.instance, store, db, cursor, PAGE)).await
    }

    fn still_the_stage(&self) -> Result<(), Broken> {
        if self.instance.core().flips() == self.flips { Ok(()) } else { Err(Broken::Flipped) }
    }

    async fn rest(&self, keys: usize) {
        let pause = self.handle.spend(self.instance, keys);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }

    /// Asks again for what differed. While copies of such keys are on their way, that proves nothing.
    async fn look_again(&self) -> Result<(), Broken> {
        let patience = Instant::now() + COPIES_PATIENCE;
        let mut looks = 0;
        while looks < LOOKS_AGAIN && self.handle.has_suspicions() {
            sleep(PAUSE_BEFORE_LOOK).await;
            self.still_the_stage()?;
            let suspicions = self.handle.take_suspicions();
            if !(self.are_on_their_way(&suspicions) && Instant::now() < patience) {
                looks += 1;
            }
            self.look_at(suspicions).await?;
        }
        Ok(())
    }

    async fn look_at(&self, suspicions: Vec<Suspicion>) -> Result<(), Broken> {
        let databases: BTreeSet<u32> = suspicions.iter().map(|suspicion| suspicion.db).collect();
        for db in databases {
            let of_db = suspicions.iter().filter(|suspicion| suspicion.db == db);
            let keys: Vec<Box<[u8]>> = of_db.map(|suspicion| suspicion.key.clone()).collect();
            for keys in keys.chunks(BATCH) {
                self.rest(keys.len()).await;
                let found = retried(|| batch::look(self.instance, db, keys)).await?;
                self.handle.looked_again(db, keys, found);
            }
        }
        Ok(())
    }

    fn are_on_their_way(&self, suspicions: &[Suspicion]) -> bool {
        let core = self.instance.core();
        let suspect = |one: &Suspicion| matches!(core.sync_of(one.hash()), Sync::Suspect(_));
        suspicions.iter().any(suspect)
    }

    /// Hands what differs to repair, waits for it, and looks again.
    async fn repair(&self) -> Result<(), Broken> {
        let surplus = |one: &Suspicion| {
            self.handle.mends() == Mend::ButSurplus && one.why == Why::Missing(self.default)
        };
        let (left, suspicions): (Vec<_>, Vec<_>) =
            self.handle.take_suspicions().into_iter().partition(surplus);
        if suspicions.is_empty() {
            self.handle.keep(left);
            return Ok(());
        }
        let before = suspicions.len();
        {
            let mut core = self.instance.core_mut();
            for one in &suspicions {
                let only_secondary = one.why == Why::Missing(StoreId::Primary);
                core.repair_key(one.db, &one.key, one.hash(), only_secondary);
            }
        }
        self.instance.settle();
        let patience = Instant::now() + REPAIR_PATIENCE;
        while self.are_on_their_way(&suspicions) && Instant::now() < patience {
            sleep(PAUSE_BEFORE_LOOK).await;
            self.still_the_stage()?;
        }
        self.look_at(suspicions).await?;
        self.handle.repaired(before);
        self.handle.keep(left);
        Ok(())
    }
}

fn finished(task: Option<Result<Result<(), Broken>, tokio::task::JoinError>>) -> Result<(), Broken> {
    match task {
        Some(Ok(outcome)) => outcome,
        Some(Err(_)) => Err(Broken::Internal),
        None => Ok(()),
    }
}

/// Compares these keys of the default store.
async fn compared(
    instance: Rc<Instance>,
    handle: Handle,
    db: u32,
    keys: Vec<Box<[u8]>>,
) -> Result<(), Broken> {
    let began = Instant::now();
    let found = retried(|| batch::look(&instance, db, &keys)).await?;
    handle.heard(&instance, began.elapsed() / batch::ROUND_TRIPS);
    handle.looked(db, &keys, found);
    Ok(())
}

/// Which of these keys of the other store does the default store lack?
async fn searched(
    instance: Rc<Instance>,
    handle: Handle,
    db: u32,
    keys: Vec<Box<[u8]>>,
) -> Result<(), Broken> {
    let began = Instant::now();
    let found = retried(|| batch::surplus(&instance, db, &keys)).await?;
    handle.heard(&instance, began.elapsed());
    found.into_iter().for_each(|(key, why)| handle.suspects(db, key, why));
    Ok(())
}

/// A store that is away for a moment does not end a verification.
async fn retried<T, F: Future<Output = Result<T, Trouble>>>(ask: impl Fn() -> F) -> Result<T, Broken> {
    let mut left = RETRIES;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(Trouble::Store(..)) if left > 0 => left -= 1,
            Err(trouble) => return Err(trouble.into()),
        }
        sleep(PAUSE_BEFORE_RETRY).await;
    }
}
