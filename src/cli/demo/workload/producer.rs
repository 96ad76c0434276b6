//! A web process: takes the cookie that marks a kind of job as on its way, and enqueues the job
//! if it got it.

use super::super::dice::Dice;
use super::super::old_data::words;
use super::client::Client;
use super::{COOKIE_SECONDS, Job, Phase, QUEUES};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often the same kind of job is wanted before the next kind: duplicates are the point.
const WANTED_TIMES: u64 = 3;
/// Pause between two requests of a web process: this and up to twice this.
const THINKING_MS: u64 = 12;
/// One job in this many goes to the queue that is served first.
const CRITICAL_ONE_IN: u64 = 4;

/// Enqueues until the phase says that it is enough.
pub(super) async fn run(mut client: Client, phase: Arc<Phase>) {
    let mut dice = Dice::new(client.number as u64);
    while phase.is_running() {
        let number = client.book.new_job();
        let job = Job { number, kind: number / WANTED_TIMES };
        enqueue(&mut client, &mut dice, job).await;
        sleep(Duration::from_millis(THINKING_MS + dice.below(THINKING_MS))).await;
    }
}

/// `None`: an answer was an error, which is in the book.
async fn enqueue(client: &mut Client, dice: &mut Dice, job: Job) -> Option<()> {
    if !take_cookie(client, job).await? {
        client.book.duplicate();
        return Some(());
    }
    let queue = QUEUES[usize::from(!dice.one_in(CRITICAL_ONE_IN))];
    client.book.written(queue);
    client.call(&["LPUSH", queue, &job.payload()]).await?;
    client.book.written(queue);
    client.book.enqueued();
    Some(())
}

/// SET NX and GET in one write: either the cookie is ours now, or it is another job's.
async fn take_cookie(client: &mut Client, job: Job) -> Option<bool> {
    let (cookie, mark) = (job.cookie(), job.mark());
    client.book.written(&cookie);
    let commands =
        [words(&format!("SET {cookie} {mark} NX EX {COOKIE_SECONDS}")), words(&format!("GET {cookie}"))];
    let replies = client.pipeline(&commands).await?;
    client.book.written(&cookie);
    let [set, get] = replies.as_slice() else { return None };
    let ours = get.as_str() == Some(mark.as_str());
    if set.is_ok() != ours || !(set.is_ok() || set.is_nil()) {
        client.book.wrong(format!("SET {cookie} {mark} NX said {set:?}, and GET then {get:?}"));
    }
    Some(set.is_ok())
}
