//! A Sidekiq worker: fetches a job, works under a lease, and takes the job's cookie away.

use super::super::dice::Dice;
use super::super::old_data::{any_read, words};
use super::client::Client;
use super::{COOKIE_SECONDS, Job, Phase, QUEUES, RELEASE};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a fetch waits for a job.
const FETCH_SECONDS: &str = "1";
/// How many things can be leased. Many more than workers: being refused is the exception.
const RESOURCES: u64 = 400;
/// A lease times out by itself if its worker dies.
const LEASE: Duration = Duration::from_millis(1_500);
/// The work itself: up to this long.
const WORK_MS: u64 = 8;
/// An old value that was read is written again one time in this many, as caches do.
const RENEWED_ONE_IN: u64 = 4;
/// How long the outcome of a job can be asked for.
const STATUS_SECONDS: u64 = 600;

/// Fetches until the phase says that the end has come and nothing is left.
pub(super) async fn run(mut client: Client, phase: Arc<Phase>) {
    let mut dice = Dice::new(client.number as u64);
    loop {
        let ending = phase.is_ending();
        match fetch(&mut client).await {
            Some(Some(job)) => {
                work(&mut client, &mut dice, job).await;
            }
            // Nothing came for a whole wait that began after the last job was enqueued.
            _ if ending => return,
            _ => {}
        }
    }
}

/// `None`: an answer was an error. `Some(None)`: there was no job.
async fn fetch(client: &mut Client) -> Option<Option<Job>> {
    let reply = client.call(&["BRPOP", QUEUES[0], QUEUES[1], FETCH_SECONDS]).await?;
    if reply.is_nil() {
        return Some(None);
    }
    let payload = reply.as_array().and_then(|parts| parts.get(1)).and_then(|payload| payload.as_str());
    let Some(job) = payload.and_then(Job::parse) else {
        client.book.wrong(format!("BRPOP said {reply:?}"));
        return Some(None);
    };
    for queue in QUEUES {
        client.book.written(queue);
    }
    client.book.fetched(job.number);
    Some(Some(job))
}

async fn work(client: &mut Client, dice: &mut Dice, job: Job) -> Option<()> {
    let fetched_at = Instant::now();
    cookie_is_still_there(client, job).await?;
    let resource = dice.below(RESOURCES);
    if take_lease(client, resource, job).await? {
        read_old_data(client, dice).await?;
        sleep(Duration::from_millis(dice.below(WORK_MS))).await;
        give_lease_back(client, resource, job).await?;
    }
    release_cookie(client, job, fetched_at).await?;
    count(client, job).await?;
    report(client, job).await
}

async fn cookie_is_still_there(client: &mut Client, job: Job) -> Option<()> {
    let reply = client.call(&["GET", &job.cookie()]).await?;
    if reply.as_str() != Some(job.mark().as_str()) {
        client.book.wrong(format!("the cookie of job {} holds {reply:?}", job.number));
    }
    Some(())
}

async fn take_lease(client: &mut Client, resource: u64, job: Job) -> Option<bool> {
    let (key, ttl) = (lease_key(resource), LEASE.as_millis().to_string());
    client.book.written(&key);
    let until = Instant::now() + LEASE;
    let reply = client.call(&["SET", &key, &job.mark(), "NX", "PX", &ttl]).await?;
    client.book.written(&key);
    if reply.is_ok() {
        client.book.lease_granted(resource, client.number, until);
    } else if reply.is_nil() {
        client.book.lease_refused();
    } else {
        client.book.wrong(format!("SET {key} NX said {reply:?}"));
    }
    Some(reply.is_ok())
}

async fn give_lease_back(client: &mut Client, resource: u64, job: Job) -> Option<()> {
    let key = lease_key(resource);
    // Before the store knows: the next holder may be told so before this worker hears the answer.
    client.book.lease_given_back(resource, client.number);
    client.call(&["EVAL", RELEASE, "1", &key, &job.mark()]).await?;
    client.book.written(&key);
    Some(())
}

fn lease_key(resource: u64) -> String {
    format!("lease:{resource}")
}

async fn read_old_data(client: &mut Client, dice: &mut Dice) -> Option<()> {
    let read = any_read(dice);
    let before = client.book.may_lack_old_data();
    let reply = client.words(&read.words).await?;
    let may_be_cold = before || client.book.may_lack_old_data();
    if reply.is_nil() && may_be_cold {
        client.book.cold_read();
    } else if reply.as_str() != Some(read.expected.as_str()) {
        client.book.wrong(format!("old data: expected {}, got {reply:?}", read.expected));
    }
    if let Some(renewal) = read.renewal.filter(|_| dice.one_in(RENEWED_ONE_IN)) {
        let key = renewal.get(1).map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
        client.book.written(&key);
        client.words(&renewal).await?;
        client.book.written(&key);
    }
    Some(())
}

async fn release_cookie(client: &mut Client, job: Job, fetched_at: Instant) -> Option<()> {
    let cookie = job.cookie();
    let reply = client.call(&["EVAL", RELEASE, "1", &cookie, &job.mark()]).await?;
    client.book.written(&cookie);
    let may_have_expired = fetched_at.elapsed() > Duration::from_secs(COOKIE_SECONDS / 2);
    if reply.as_i64() != Some(1) && !may_have_expired {
        client.book.wrong(format!("the release of {cookie} by job {} said {reply:?}", job.number));
    }
    Some(())
}

/// Two counters in one transaction.
async fn count(client: &mut Client, job: Job) -> Option<()> {
    let by_kind = format!("stat:kind:{}", job.kind % 10);
    client.book.written("stat:processed");
    client.book.written(&by_kind);
    let commands = [
        words("MULTI"),
        words("INCR stat:processed"),
        words(&format!("HINCRBY {by_kind} jobs 1")),
        words("EXEC"),
    ];
    let replies = client.pipeline(&commands).await?;
    client.book.written("stat:processed");
    client.book.written(&by_kind);
    let counted = replies.last().and_then(|exec| exec.as_array());
    if counted.is_none_or(|counts| counts.len() != 2 || counts.iter().any(|count| count.as_i64().is_none())) {
        client.book.wrong(format!("the counting transaction said {replies:?}"));
    }
    Some(())
}

/// Writes the job's outcome, and reads it: everybody sees what was acknowledged.
async fn report(client: &mut Client, job: Job) -> Option<()> {
    let (key, recent) = (format!("status:{}", job.number), format!("recent:{}", job.kind % 10));
    client.book.written(&key);
    client.book.written(&recent);
    let commands = [
        words(&format!("SET {key} done EX {STATUS_SECONDS}")),
        words(&format!("LPUSH {recent} {}", job.number)),
        words(&format!("LTRIM {recent} 0 99")),
    ];
    client.pipeline(&commands).await?;
    client.book.written(&key);
    client.book.written(&recent);
    let reply = client.call(&["GET", &key]).await?;
    if reply.as_str() != Some("done") {
        client.book.wrong(format!("{key} was set to done, and GET said {reply:?}"));
    }
    Some(())
}
