//! Real job queues: jobs are enqueued and processed while the instance walks through the rollout and back. Every job
//! runs exactly once, and nobody sees an error.
//!
//! A worker appends the number of each job that it runs to the file `JOBS_DONE`; a client enqueues round by round and
//! appends what it has sent to the file that it is given.

use crate::row::Row;
use crate::script::Script;
use crate::support::*;
use crate::{PYTHON, has_python, is_full, rollout, rounds};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the last jobs may take: queues look for scheduled ones every few seconds.
const LAST_JOBS: Duration = Duration::from_secs(90);

/// A job queue as it is deployed.
struct Queue {
    /// As in docs/compatibility.md.
    name: &'static str,
    /// The worker: a program and its arguments; `PORT` and `URL` stand for the proxy's.
    worker: &'static [&'static str],
    /// The client, which is told the port and the file of what it has sent.
    client: &'static [&'static str],
    /// Words in the worker's log that tell of trouble.
    trouble: &'static [&'static str],
    /// At least so many jobs in each place, where all is run.
    least: usize,
}

/// A worker's process. Ends when dropped.
struct Worker(Child);

// === impl Worker ===

impl Worker {
    #[track_caller]
    fn start(words: &[&str], port: u16, done: &Path, log: &Path) -> Worker {
        let log = File::create(log).expect("create a log");
        let errors = log.try_clone().expect("share the log");
        let url = format!("redis://127.0.0.1:{port}/0");
        let words: Vec<String> =
            words.iter().map(|word| word.replace("PORT", &port.to_string()).replace("URL", &url)).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = if words[0].contains('/') { root.join(&words[0]) } else { words[0].clone().into() };
        let mut command = Command::new(program);
        command.args(&words[1..]).env("REDIS_URL", &url).env("JOBS_DONE", done);
        command.env("PYTHONPATH", root.join("tests/clients")).env("PYTHONDONTWRITEBYTECODE", "1");
        command.current_dir(root).stdin(Stdio::null()).stdout(log).stderr(errors);
        Worker(command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {words:?}: {error}; `make test-clients` installs it")
        }))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        kill_now(&mut self.0);
    }
}

/// The numbers of jobs in a file, in their order.
fn ids(path: &Path) -> Vec<u64> {
    text(path).lines().filter_map(|line| line.parse().ok()).collect()
}

/// How often each job has run.
fn runs(path: &Path) -> BTreeMap<u64, usize> {
    let mut runs = BTreeMap::new();
    ids(path).into_iter().for_each(|id| *runs.entry(id).or_insert(0) += 1);
    runs
}

// === impl Queue ===

impl Queue {
    /// Through the proxy in all stages, and where clients run at length with a lone server as well.
    #[track_caller]
    fn runs_every_job_exactly_once(&self) {
        let mut row = Row::default();
        if is_full() {
            let lone = RedisServer::start();
            self.run(lone.port(), &[Row::DIRECT], |_| {}, &mut row);
        }
        let mut pair = Pair::start();
        let port = pair.proxy.port();
        let stages = rollout();
        let names: Vec<String> = stages.iter().map(Stage::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.run(port, &names, |at| pair.stage(stages[at]), &mut row);
        row.write(&format!("{}: jobs that ran exactly once", self.name));
    }

    /// Enqueues and works through jobs in several places, one after the other. Each job counts where it was enqueued.
    #[track_caller]
    fn run(&self, port: u16, places: &[&str], mut enter: impl FnMut(usize), row: &mut Row) {
        let dir = TempDir::new();
        let (done, sent, log) = (dir.join("done"), dir.join("sent"), dir.join("worker.log"));
        let _worker = Worker::start(self.worker, port, &done, &log);
        let (port, sent_text) = (port.to_string(), sent.display().to_string());
        let args = [&self.client[1..], &[port.as_str(), sent_text.as_str()]].concat();
        let mut client = Script::start(self.client[0], &args);
        let mut sent_until = Vec::new();
        for (at, place) in places.iter().enumerate() {
            enter(at);
            client.await_rounds(rounds() + 1);
            let before = runs(&done).len();
            let moved = poll_for(LAST_JOBS, || (runs(&done).len() > before).then_some(()));
            assert!(moved.is_some(), "{place}: no job is processed\n{}", text(&log));
            sent_until.push(ids(&sent).len());
        }
        client.finish();
        let sent = ids(&sent);
        let complete = poll_for(LAST_JOBS, || (runs(&done).len() >= sent.len()).then_some(()));
        let done = runs(&done);
        self.judge(&sent, &done, complete.is_some(), places.len(), &text(&log));
        if let Some(last) = sent_until.last_mut() {
            *last = sent.len();
        }
        let mut from = 0;
        for (place, until) in places.iter().zip(sent_until) {
            let here = &sent[from..until];
            row.add(place, here.iter().filter(|id| done.get(id) == Some(&1)).count(), here.len());
            from = until;
        }
    }

    #[track_caller]
    fn judge(&self, sent: &[u64], done: &BTreeMap<u64, usize>, complete: bool, places: usize, log: &str) {
        let missing: Vec<&u64> = sent.iter().filter(|id| !done.contains_key(id)).collect();
        let twice: Vec<(&u64, &usize)> = done.iter().filter(|(_, count)| **count != 1).collect();
        println!(
            "{}: {} jobs sent, {} never ran, {} ran again",
            self.name,
            sent.len(),
            missing.len(),
            twice.len()
        );
        assert!(
            complete && missing.is_empty(),
            "{} of {} never ran: {missing:?}\n{log}",
            missing.len(),
            sent.len()
        );
        assert!(twice.is_empty(), "ran more than once: {twice:?}\n{log}");
        assert!(!is_full() || sent.len() >= self.least * places, "only {} jobs", sent.len());
        let trouble = self.trouble.iter().find(|word| log.contains(**word));
        assert!(trouble.is_none(), "{trouble:?} in the worker's log:\n{log}");
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn every_job_of_sidekiq_is_processed_exactly_once() {
    let queue = Queue {
        name: "Sidekiq 6.4",
        worker: &["sidekiq", "-r", "./tests/clients/sidekiq_job.rb", "-c", "10", "-t", "10"],
        client: &["ruby", "tests/clients/sidekiq_client.rb"],
        trouble: &["ERROR", "WARN"],
        least: 70,
    };
    queue.runs_every_job_exactly_once();
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn every_task_of_celery_is_processed_exactly_once() {
    let queue = Queue {
        name: "Celery 5.7",
        worker: &[
            ".cache/clients/python/bin/celery",
            "-A",
            "celery_tasks",
            "worker",
            "--pool",
            "threads",
            "--concurrency",
            "8",
            "--loglevel",
            "WARNING",
        ],
        client: &[PYTHON, "tests/clients/celery_client.py"],
        trouble: &["ERROR", "Traceback", "Connection to broker lost"],
        least: 25,
    };
    queue.runs_every_job_exactly_once();
}

#[test]
fn every_job_of_rq_is_processed_exactly_once() {
    if !has_python() {
        return;
    }
    let queue = Queue {
        name: "RQ 3.0",
        worker: &[
            ".cache/clients/python/bin/rq",
            "worker",
            "--url",
            "URL",
            "--worker-class",
            "rq.worker.SimpleWorker",
            "--with-scheduler",
            "--logging_level",
            "WARNING",
            "numbered",
        ],
        client: &[PYTHON, "tests/clients/rq_client.py"],
        trouble: &["ERROR", "Traceback"],
        least: 25,
    };
    queue.runs_every_job_exactly_once();
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn every_job_of_bullmq_is_processed_exactly_once() {
    let queue = Queue {
        name: "BullMQ 6.7",
        worker: &["node", "tests/clients/bullmq_worker.js", "PORT"],
        client: &["node", "tests/clients/bullmq_client.js"],
        trouble: &["rror"],
        least: 25,
    };
    queue.runs_every_job_exactly_once();
}
