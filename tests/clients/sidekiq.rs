//! A real Sidekiq: jobs are enqueued and processed while the instance walks through the rollout.

use crate::rollout;
use crate::script::Script;
use crate::support::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the last jobs may take: Sidekiq looks for scheduled ones every few seconds.
const LAST_JOBS: Duration = Duration::from_secs(60);

/// Sidekiq's server process. Ends when dropped.
struct Sidekiq(Child);

// === impl Sidekiq ===

impl Sidekiq {
    fn start(port: u16, done: &std::path::Path, log: &std::path::Path) -> Sidekiq {
        let log = File::create(log).expect("create a log");
        let errors = log.try_clone().expect("share the log");
        let mut command = Command::new("sidekiq");
        command.args(["-r", "./tests/clients/sidekiq_job.rb", "-c", "10", "-t", "10"]);
        command.env("REDIS_URL", format!("redis://127.0.0.1:{port}/0")).env("JOBS_DONE", done);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(log).stderr(errors);
        Sidekiq(command.spawn().unwrap_or_else(|error| {
            panic!("cannot start sidekiq: {error}; `make test-clients` installs it")
        }))
    }
}

impl Drop for Sidekiq {
    fn drop(&mut self) {
        kill_now(&mut self.0);
    }
}

/// How often each job has run.
fn runs(path: &std::path::Path) -> BTreeMap<u64, usize> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut runs = BTreeMap::new();
    text.lines().filter_map(|line| line.parse().ok()).for_each(|id| *runs.entry(id).or_insert(0) += 1);
    runs
}

#[test]
#[ignore = "installs a client: make test-clients"]
fn every_job_of_sidekiq_is_processed_exactly_once() {
    let mut pair = Pair::start();
    let port = pair.proxy.port();
    let dir = TempDir::new();
    let (done, sent, log) = (dir.join("done"), dir.join("sent"), dir.join("sidekiq.log"));
    let _sidekiq = Sidekiq::start(port, &done, &log);
    let (port, sent_text) = (port.to_string(), sent.display().to_string());
    let mut client = Script::start("ruby", &["tests/clients/sidekiq_client.rb", &port, &sent_text]);
    for stage in rollout() {
        pair.stage(stage);
        client.await_rounds(3);
        let before = runs(&done).len();
        poll_until(LAST_JOBS, "jobs are processed in this stage", || runs(&done).len() > before);
    }
    client.finish();
    let sent: Vec<u64> = runs(&sent).into_keys().collect();
    let complete = poll_for(LAST_JOBS, || (runs(&done).len() >= sent.len()).then_some(()));
    let done = runs(&done);
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    let missing: Vec<&u64> = sent.iter().filter(|id| !done.contains_key(id)).collect();
    let twice: Vec<(&u64, &usize)> = done.iter().filter(|(_, count)| **count != 1).collect();
    assert!(complete.is_some() && missing.is_empty(), "{} of {} never ran: {missing:?}\n{log}", missing.len(), sent.len());
    assert!(twice.is_empty(), "ran more than once: {twice:?}\n{log}");
    assert!(sent.len() > 500, "only {} jobs", sent.len());
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}
