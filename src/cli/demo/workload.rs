//! The application of the demo: web processes that enqueue jobs unless one like them is on its
//! way, and workers that fetch them, as Sidekiq does with GitLab's duplicate-job locks.
//!
//! Every worker has a connection of its own through the proxy and judges every answer.

mod client;
mod consumer;
mod producer;

use super::book::Book;
use crate::store::connection::Endpoint;
use client::Client;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Of so many workers, one enqueues...
const PRODUCERS_OF: usize = 5;
/// ...this many of them.
const PRODUCERS: usize = 2;
/// How long the workers may take to finish what they began.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// The list from which jobs are fetched first, and the other one.
const QUEUES: [&str; 2] = ["queue:critical", "queue:default"];
/// How long a cookie says that a job like it is on its way.
const COOKIE_SECONDS: u64 = 60;
/// Compare and delete: who takes a lock away must be who set it.
const RELEASE: &str =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";

const RUNNING: u8 = 0;
const NOTHING_NEW: u8 = 1;
const ENDING: u8 = 2;

/// All workers. Dropped, they end where they are.
pub(super) struct Workload {
    producers: JoinSet<()>,
    consumers: JoinSet<()>,
    phase: Arc<Phase>,
}

/// How far the end has come: producers stop first, consumers when the queues are empty.
#[derive(Debug, Default)]
struct Phase(AtomicU8);

/// One job as it travels through a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    /// Its number in the book.
    number: u64,
    /// What it does: jobs of one kind are duplicates of each other.
    kind: u64,
}

// === impl Workload ===

impl Workload {
    /// Starts the workers.
    pub(super) fn start(workers: usize, proxy: &Endpoint, book: &Arc<Book>) -> Workload {
        let phase = Arc::new(Phase::default());
        let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
        for number in 0..workers {
            let client = Client::new(number, proxy.clone(), Arc::clone(book));
            if number % PRODUCERS_OF < PRODUCERS {
                producers.spawn(producer::run(client, Arc::clone(&phase)));
            } else {
                consumers.spawn(consumer::run(client, Arc::clone(&phase)));
            }
        }
        Workload { producers, consumers, phase }
    }

    /// Lets the workers finish: nothing new is enqueued, and what is in the queues is fetched.
    pub(super) async fn finish(mut self) -> Result<(), String> {
        self.phase.set(NOTHING_NEW);
        all_ended("enqueuing", join(&mut self.producers)).await?;
        self.phase.set(ENDING);
        all_ended("fetching", join(&mut self.consumers)).await
    }
}

async fn join(workers: &mut JoinSet<()>) -> Result<(), String> {
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| format!("a worker failed: {error}"))?;
    }
    Ok(())
}

async fn all_ended(what: &str, ended: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let in_time = timeout(STOP_DEADLINE, ended).await;
    in_time.unwrap_or_else(|_| Err(format!("workers are still {what} after {STOP_DEADLINE:?}")))
}

// === impl Phase ===

impl Phase {
    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }

    fn is_running(&self) -> bool {
        self.0.load(Ordering::Relaxed) == RUNNING
    }

    fn is_ending(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ENDING
    }
}

// === impl Job ===

impl Job {
    /// What stands in the queue.
    fn payload(self) -> String {
        format!("{}:{}", self.number, self.kind)
    }

    fn parse(payload: &str) -> Option<Job> {
        let (number, kind) = payload.split_once(':')?;
        Some(Job { number: number.parse().ok()?, kind: kind.parse().ok()? })
    }

    /// The key that says that a job of this kind is on its way.
    fn cookie(self) -> String {
        format!("duplicate:{}", self.kind)
    }

    /// What the cookie holds while it is this job's.
    fn mark(self) -> String {
        format!("jid-{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_comes_out_of_the_queue_as_it_went_in() {
        let job = Job { number: 12, kind: 4 };
        assert_eq!(Job::parse(&job.payload()), Some(job));
        assert_eq!(Job::parse("12"), None);
        assert_eq!(Job::parse("a:b"), None);
    }
}
