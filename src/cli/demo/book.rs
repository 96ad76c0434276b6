//! What the workers know to be true, and what they were told: the demo's witness.
//!
//! Jobs are numbered and every one must be fetched exactly once; a lease has one holder at a time.
//! The book also notes in which stages a key was written, so that a key in which the stores differ
//! at the end can be explained.

use crate::stage::Stage;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// How many complaints are kept to be shown.
const MAX_SAMPLES: usize = 5;

/// Shared by all workers and the screen.
#[derive(Debug)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug)]
struct Pages {
    /// The stages that may rule now: two of them while a flag is being changed.
    stages: Stages,
    /// The old store has been left.
    left_behind: bool,
    /// How often each job was fetched, by its number. A job stands here before it is enqueued.
    fetched: Vec<u32>,
    leases: HashMap<u64, (usize, Instant)>,
    /// In which stages each key was written.
    written: HashMap<Vec<u8>, Stages>,
    tally: Tally,
}

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stages(u8);

/// The numbers on the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Commands sent by the workers.
    pub(super) requests: u64,
    /// Jobs whose LPUSH was answered.
    pub(super) enqueued: u64,
    /// Jobs that were not enqueued because one like them was on its way.
    pub(super) duplicates: u64,
    /// Jobs that came out of BRPOP, each counted once.
    pub(super) fetched: u64,
    /// Leases that were refused because another worker held them.
    pub(super) refused_leases: u64,
    /// Reads of old data that found nothing: nobody had copied it before the old store was left.
    pub(super) cold_reads: u64,
    /// Error replies, and connections that failed.
    pub(super) errors: u64,
    /// Answers that cannot be true.
    pub(super) wrong: u64,
    /// The first complaints, in words.
    pub(super) samples: Vec<String>,
}

// === impl Stages ===

impl Stages {
    /// Just this one.
    pub(super) fn only(stage: Stage) -> Stages {
        Stages(bit(stage))
    }

    /// With this one too.
    pub(super) fn and(self, stage: Stage) -> Stages {
        Stages(self.0 | bit(stage))
    }

    /// Is it among them?
    pub(super) fn has(self, stage: Stage) -> bool {
        self.0 & bit(stage) != 0
    }

    fn merge(self, other: Stages) -> Stages {
        Stages(self.0 | other.0)
    }
}

fn bit(stage: Stage) -> u8 {
    match stage {
        Stage::SecondaryOnly => 1,
        Stage::DualSecondaryDefault => 2,
        Stage::DualPrimaryDefault => 4,
        Stage::PrimaryOnly => 8,
    }
}

// === impl Book ===

impl Book {
    /// An empty book, opened in `stage`.
    pub(super) fn new(stage: Stage) -> Book {
        Book(Mutex::new(Pages {
            stages: Stages::only(stage),
            left_behind: false,
            fetched: Vec::new(),
            leases: HashMap::new(),
            written: HashMap::new(),
            tally: Tally::default(),
        }))
    }

    /// A flag is about to change: from now on either stage may rule.
    pub(super) fn flip_begins(&self, to: Stage) {
        let mut pages = self.pages();
        pages.stages = pages.stages.and(to);
        pages.left_behind |= to == Stage::PrimaryOnly;
    }

    /// The flag has changed.
    pub(super) fn flip_ended(&self, to: Stage) {
        self.pages().stages = Stages::only(to);
    }

    /// May a key be missing that only the old store had? From `primary_only` on the old store is
    /// behind as a whole: nothing is read from it until it has been made equal to the new one.
    pub(super) fn may_lack_old_data(&self) -> bool {
        self.pages().left_behind
    }

    /// The numbers so far.
    pub(super) fn tally(&self) -> Tally {
        self.pages().tally.clone()
    }

    /// Commands are about to be sent.
    pub(super) fn requests(&self, count: usize) {
        self.pages().tally.requests += count as u64;
    }

    /// A key is about to be written, or has just been: call it before and after.
    pub(super) fn written(&self, key: &str) {
        let mut pages = self.pages();
        let now = pages.stages;
        let stages = pages.written.entry(key.as_bytes().to_vec()).or_default();
        *stages = stages.merge(now);
    }

    /// In which stages a key was written by a worker; `None` if by none.
    pub(super) fn stages_of(&self, key: &[u8]) -> Option<Stages> {
        self.pages().written.get(key).copied()
    }

    /// A number for a job that is about to be enqueued.
    pub(super) fn new_job(&self) -> u64 {
        let mut pages = self.pages();
        pages.fetched.push(0);
        pages.fetched.len() as u64 - 1
    }

    /// The store has said that the job is in the queue.
    pub(super) fn enqueued(&self) {
        self.pages().tally.enqueued += 1;
    }

    /// The job was not enqueued: one like it is on its way.
    pub(super) fn duplicate(&self) {
        self.pages().tally.duplicates += 1;
    }

    /// A job came out of the queue.
    pub(super) fn fetched(&self, job: u64) {
        let mut pages = self.pages();
        let times = usize::try_from(job).ok().and_then(|at| pages.fetched.get_mut(at)).map(|times| {
            *times += 1;
            *times
        });
        match times {
            Some(1) => pages.tally.fetched += 1,
            Some(_) => pages.complain(format!("job {job} was fetched twice")),
            None => pages.complain(format!("job {job} was fetched and never enqueued")),
        }
    }

    /// A store has granted a lease. `until`: when it times out by itself.
    pub(super) fn lease_granted(&self, resource: u64, worker: usize, until: Instant) {
        let mut pages = self.pages();
        if let Some((holder, held_until)) = pages.leases.insert(resource, (worker, until))
            && held_until > Instant::now()
        {
            pages.complain(format!("lease {resource} was granted to worker {worker} while {holder} held it"));
        }
    }

    /// The worker is about to give the lease back.
    pub(super) fn lease_given_back(&self, resource: u64, worker: usize) {
        let mut pages = self.pages();
        if pages.leases.get(&resource).is_some_and(|(holder, _)| *holder == worker) {
            pages.leases.remove(&resource);
        }
    }

    /// A lease was refused: somebody else holds it.
    pub(super) fn lease_refused(&self) {
        self.pages().tally.refused_leases += 1;
    }

    /// An old key was not found, the old store having been left.
    pub(super) fn cold_read(&self) {
        self.pages().tally.cold_reads += 1;
    }

    /// A worker was told an error.
    pub(super) fn error(&self, what: String) {
        let mut pages = self.pages();
        pages.tally.errors += 1;
        pages.sample(what);
    }

    /// A worker was told something that cannot be true.
    pub(super) fn wrong(&self, what: String) {
        self.pages().complain(what);
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

// === impl Pages ===

impl Pages {
    fn complain(&mut self, what: String) {
        self.tally.wrong += 1;
        self.sample(what);
    }

    fn sample(&mut self, what: String) {
        if self.tally.samples.len() < MAX_SAMPLES {
            self.tally.samples.push(what);
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Jobs that are in the queue, or lost.
    pub(super) fn not_fetched(&self) -> u64 {
        self.enqueued.saturating_sub(self.fetched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_job_is_fetched_once() {
        let book = Book::new(Stage::SecondaryOnly);
        let job = book.new_job();
        book.enqueued();
        assert_eq!(book.tally().not_fetched(), 1);
        book.fetched(job);
        assert_eq!((book.tally().not_fetched(), book.tally().wrong), (0, 0));
        book.fetched(job);
        book.fetched(job + 1);
        assert_eq!((book.tally().fetched, book.tally().wrong), (1, 2));
    }

    #[tokio::test]
    async fn a_lease_has_one_holder_until_it_times_out() {
        let book = Book::new(Stage::SecondaryOnly);
        let now = Instant::now();
        let long = now + Duration::from_secs(60);
        book.lease_granted(7, 1, long);
        book.lease_given_back(7, 1);
        book.lease_granted(7, 2, now);
        book.lease_granted(7, 3, long);
        assert_eq!(book.tally().wrong, 0);
        book.lease_granted(7, 4, long);
        assert_eq!(book.tally().wrong, 1);
    }

    #[test]
    fn old_data_may_be_missing_from_primary_only_on() {
        let book = Book::new(Stage::DualPrimaryDefault);
        assert!(!book.may_lack_old_data());
        book.flip_begins(Stage::PrimaryOnly);
        assert!(book.may_lack_old_data());
        for stage in [Stage::PrimaryOnly, Stage::DualPrimaryDefault, Stage::SecondaryOnly] {
            book.flip_ended(stage);
            assert!(book.may_lack_old_data(), "{stage}");
        }
    }

    #[test]
    fn a_key_remembers_the_stages_in_which_it_was_written() {
        let book = Book::new(Stage::DualPrimaryDefault);
        book.written("key");
        book.flip_begins(Stage::PrimaryOnly);
        book.flip_ended(Stage::PrimaryOnly);
        book.written("key");
        let stages = book.stages_of(b"key").expect("it was written");
        assert!(stages.has(Stage::DualPrimaryDefault) && stages.has(Stage::PrimaryOnly));
        assert!(!stages.has(Stage::SecondaryOnly));
        assert_eq!(book.stages_of(b"other"), None);
    }
}
