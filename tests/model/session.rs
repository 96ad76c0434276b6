//! One client's session, as `src/session` runs it: what it puts into the order, and what it waits for.

mod blocking;
mod fenced;
mod order;
mod own;
mod pinned;

use std::future::poll_fn;
use std::task::Poll;

use super::world::{Ask, Shared, World};

use blocking::block;
use pinned::swap;

/// Why a session ends: its client is gone.
struct Gone;

const PIPELINE_MAX: usize = 64;

pub async fn run(world: Shared, id: u64) {
    let _: Result<(), Gone> = serve(&world, id).await;
}

async fn serve(world: &Shared, id: u64) -> Result<(), Gone> {
    loop {
        let (ask, more) = next(world, id).await?;
        match ask {
            Ask::One(words) => {
                if world.borrow_mut().submit(id, &words, more) {
                    until(world, id, move |world| !world.is_held(id)).await?;
                }
            }
            Ask::Transaction(all, slow) => {
                if world.borrow_mut().submit_transaction(id, &all, slow) {
                    until(world, id, move |world| !world.is_held(id)).await?;
                }
            }
            Ask::Block(words) => block(world, id, words).await?,
            Ask::Swap(key, value) => swap(world, id, &key, &value).await?,
        }
    }
}

/// The next request, when one may be taken. True: there are more behind it.
async fn next(world: &Shared, id: u64) -> Result<(Ask, bool), Gone> {
    poll_fn(|_| {
        let mut world = world.borrow_mut();
        let world = &mut *world;
        let slow = world.core.must_slow_down();
        let Some(peer) = world.peers.get_mut(&id) else { return Poll::Ready(Err(Gone)) };
        let owed = world.core.clients.get(peer.key).map_or(0, |client| client.owed());
        if slow || owed >= PIPELINE_MAX {
            // Instance::let_go_on: who is slowed down is woken when that is over.
            world.core.clients.wake_on_reply(peer.key);
            peer.timer = Some(0);
            return Poll::Pending;
        }
        peer.timer = None;
        match peer.inbox.pop_front() {
            Some(ask) => Poll::Ready(Ok((ask, !peer.inbox.is_empty()))),
            None => Poll::Pending,
        }
    })
    .await
}

async fn until(world: &Shared, id: u64, mut done: impl FnMut(&mut World) -> bool) -> Result<(), Gone> {
    poll_fn(|_| {
        let mut world = world.borrow_mut();
        if !world.peers.contains_key(&id) {
            return Poll::Ready(Err(Gone));
        }
        if done(&mut world) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

async fn drained(world: &Shared, id: u64, but: usize) -> Result<(), Gone> {
    until(world, id, move |world| {
        let key = world.peers[&id].key;
        let drained = world.core.clients.get(key).is_none_or(|client| client.owed() <= but);
        if !drained {
            world.core.clients.wake_on_reply(key);
        }
        drained
    })
    .await
}

fn reply_timeout(world: &World) -> u64 {
    world.settings.reply_timeout.as_micros() as u64
}
