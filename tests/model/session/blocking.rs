//! Clients that wait.

use std::future::poll_fn;
use std::task::Poll;

use multistore::resp::encode;
use multistore::sequencer::Scope;
use multistore::sequencer::op::Failure;
use multistore::sequencer::park::{Parking, Unblock, ended_reply};

use super::super::books::Expect;
use super::super::redis::Words;
use super::{Gone, Shared, drained, reply_timeout, until};

/// As `src/session/blocking.rs`.
pub(super) async fn block(world: &Shared, id: u64, words: Words) -> Result<(), Gone> {
    let (seq, since, limit) = {
        let mut world = world.borrow_mut();
        let world = &mut *world;
        let db = world.peers[&id].db;
        let record = world.books.asked(id, db, &words);
        let seq = world.owe(id, Expect::One(record));
        let limit: f64 = String::from_utf8_lossy(words.last().expect("words")).parse().expect("a timeout");
        (seq, world.now, (limit > 0.0).then_some((limit * 1e6) as u64))
    };
    loop {
        let dual = world.borrow().core.stage().is_dual();
        let done = match dual {
            true => block_parked(world, id, &words, seq, since, limit).await?,
            false => block_on_store(world, id, &words, seq, limit).await?,
        };
        if done {
            return Ok(());
        }
        let mut world = world.borrow_mut();
        if limit.is_some_and(|limit| world.now >= since + limit) {
            let proto = world.context(id).proto;
            world.pay(id, seq, &ended_reply(Unblock::Timeout, proto));
            return Ok(());
        }
    }
}

async fn block_parked(
    world: &Shared,
    id: u64,
    words: &Words,
    seq: u64,
    since: u64,
    limit: Option<u64>,
) -> Result<bool, Gone> {
    let key = {
        let mut world = world.borrow_mut();
        let world = &mut *world;
        world.core.set_now(world.now);
        let known = world.know(id, words);
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"MULTI"]);
        let footprint = known.footprint.shifted(frame.len());
        frame.extend_from_slice(&known.frame);
        encode::command(&mut frame, &[b"EXEC"]);
        let way = world.core.way(known.id, known.effect.writes, words.as_slice()).way;
        let context = world.context(id);
        let client = world.peers[&id].key;
        world.core.park(Parking {
            client,
            seq,
            command: known.id,
            context,
            frame: frame.into(),
            footprint,
            way,
            deadline: limit.map(|limit| since + limit),
            words_gone_stream: false,
            looked_at: false,
        });
        world.settle();
        client
    };
    until(world, id, move |world| !world.core.is_parked(key)).await?;
    Ok(!world.borrow().core.clients.is_owed(key, seq))
}

async fn block_on_store(
    world: &Shared,
    id: u64,
    words: &Words,
    seq: u64,
    limit: Option<u64>,
) -> Result<bool, Gone> {
    drained(world, id, 1).await?;
    {
        let mut world = world.borrow_mut();
        if !world.acquire(id) {
            world.pay(id, seq, b"-MULTISTORE the store is down; the command was not sent\r\n");
            return Ok(true);
        }
        let mut frame = Vec::new();
        encode::command(&mut frame, words);
        let world = &mut *world;
        // Should the stage become dual, nobody else touches these keys before this client has been moved.
        let footprint = world.know(id, words).footprint;
        if !world.core.step_aside(world.peers[&id].key, footprint) {
            world.release(id);
            return Ok(false);
        }
        let overdue = limit.map(|limit| world.now + limit + reply_timeout(world));
        let peer = world.peers.get_mut(&id).expect("a peer");
        peer.hears_flips = true;
        peer.timer = overdue;
        if let Some((store, conn)) = peer.own
            && let Some(conn) = world.stores[store.index()].conns.get_mut(&conn)
        {
            conn.inbox.extend_from_slice(&frame);
        }
    }
    let mut moving = false;
    let outcome = poll_fn(|_| {
        let mut world = world.borrow_mut();
        let world = &mut *world;
        let Some(peer) = world.peers.get(&id) else { return Poll::Ready(Err(Gone)) };
        let timer = peer.timer;
        moving |= world.core.stage().is_dual();
        if moving && let Some((store, conn)) = peer.own {
            // Asked again until it did wait.
            world.stores[store.index()].unblock(conn);
        }
        match world.own_replies(id, 1) {
            None => Poll::Ready(Ok(None)),
            Some(frames) if frames.len() == 1 => Poll::Ready(Ok(Some(frames[0].clone()))),
            Some(_) if timer.is_some_and(|at| world.now >= at) => Poll::Ready(Ok(None)),
            Some(_) => Poll::Pending,
        }
    })
    .await?;
    let mut world = world.borrow_mut();
    let world = &mut *world;
    world.core.set_now(world.now);
    if outcome.is_some() {
        world.release(id);
    } else {
        world.give_up(id);
    }
    let (key, db) = (world.peers[&id].key, world.peers[&id].db);
    if let Some(peer) = world.peers.get_mut(&id) {
        peer.hears_flips = false;
        peer.timer = None;
    }
    let nil = |reply: &[u8]| matches!(reply, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n");
    if outcome.as_deref().is_some_and(|reply| moving && nil(reply)) {
        world.core.step_back(key, None);
        world.settle();
        return Ok(false);
    }
    let known = world.know(id, words);
    world.core.step_back(key, Some((&known.frame, Scope::Keys, db)));
    let reply =
        outcome.unwrap_or_else(|| world.core.failure_frame(world.core.default_store(), Failure::Lost));
    world.pay(id, seq, &reply);
    Ok(true)
}
