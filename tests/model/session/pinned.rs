//! Clients with a connection of their own: WATCH to EXEC.

use std::future::poll_fn;
use std::task::Poll;

use multistore::command::{CommandId, Rule};
use multistore::mirror::Way;
use multistore::resp::encode;
use multistore::sequencer::fence::Footprint;
use multistore::sequencer::op::{Failure, Part};
use multistore::sequencer::{Dedicated, Expiry, Scope};
use multistore::session::writes::{expiry, scope};

use super::super::books::Expect;
use super::super::redis::Words;
use super::fenced::take_place;
use super::order::Multi;
use super::{Gone, Shared, drained, reply_timeout};

/// WATCH, GET, MULTI, SET, EXEC, as `src/session/pinned.rs` runs them.
pub(super) async fn swap(world: &Shared, id: u64, key: &[u8], value: &[u8]) -> Result<(), Gone> {
    let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Words>();
    let (watch, get, set) = (words(&[b"WATCH", key]), words(&[b"GET", key]), words(&[b"SET", key, value]));
    let seq = {
        let mut world = world.borrow_mut();
        let db = world.peers[&id].db;
        let record = world.books.asked(id, db, &watch);
        world.owe(id, Expect::One(record))
    };
    drained(world, id, 1).await?;
    let watched = world.borrow().core.default_store();
    if !world.borrow_mut().acquire(id) {
        world.borrow_mut().pay(id, seq, b"-MULTISTORE the store is down; the command was not sent\r\n");
        return Ok(());
    }
    if !run_pinned(world, id, &watch, seq).await? {
        return Ok(());
    }
    let db = world.borrow().peers[&id].db;
    let read = world.borrow_mut().books.asked(id, db, &get);
    let seq = world.borrow_mut().owe(id, Expect::One(read));
    drained(world, id, 1).await?;
    if !run_pinned(world, id, &get, seq).await? {
        return Ok(());
    }
    let said = [encode::OK, encode::QUEUED].map(|said| {
        let mut world = world.borrow_mut();
        let seq = world.owe(id, Expect::Said(said));
        world.pay(id, seq, said);
        seq
    });
    let (seq, mut multi, known) = {
        let mut world = world.borrow_mut();
        let world = &mut *world;
        let record = world.books.asked(id, db, &set);
        world.books.depends(record, read);
        let seq = world.owe(id, Expect::Exec(vec![record]));
        let mut multi = Multi::default();
        encode::command(&mut multi.frames, &[b"MULTI"]);
        multi.parts.push(Part { seq: said[0], answered: true, rule: Rule::Ignore });
        world.queue(id, &mut multi, &set, said[1], true);
        (seq, multi, world.kit.table.by_name("exec").expect("EXEC is known"))
    };
    drained(world, id, 1).await?;
    let fenced = match take_place(world, id, true, &multi.footprint, &multi.frames).await? {
        Ok(fenced) => fenced,
        Err(error) => {
            world.borrow_mut().pay(id, seq, &error);
            world.borrow_mut().release(id);
            return Ok(());
        }
    };
    let lost = {
        let world = world.borrow();
        world.core.default_store() != watched || world.peers[&id].own.is_none()
    };
    if lost {
        let proto = world.borrow().context(id).proto;
        let mut nil = Vec::new();
        encode::nil_array(&mut nil, proto);
        world.borrow_mut().pay(id, seq, &nil);
    } else {
        encode::command(&mut multi.frames, &[b"EXEC"]);
        let replies = multi.parts.len() + 1;
        let frame = multi.frames.clone();
        let work = Work {
            command: known,
            writes: true,
            frame,
            replies,
            footprint: multi.footprint,
            ways: multi.ways,
            scope: multi.scope,
            expiry: multi.expiry,
        };
        let outcome = run_fenced(world, id, work, fenced).await?;
        let reply = match outcome {
            Ok(replies) => replies[multi.parts.len()].clone(),
            Err(error) => error,
        };
        world.borrow_mut().pay(id, seq, &reply);
    }
    let mut world = world.borrow_mut();
    world.release(id);
    world.lower_fence(id, fenced);
    Ok(())
}

struct Work {
    command: CommandId,
    writes: bool,
    frame: Vec<u8>,
    replies: usize,
    footprint: Footprint,
    ways: Vec<Way>,
    scope: Scope,
    expiry: Expiry,
}

/// As `Session::run_pinned`. False: the connection is lost, and the client has its error.
async fn run_pinned(world: &Shared, id: u64, words: &Words, seq: u64) -> Result<bool, Gone> {
    let (known, told, reach, expiry) = {
        let mut world = world.borrow_mut();
        let known = world.know(id, words);
        let told = world.core.way(known.id, known.effect.writes, words.as_slice());
        let table = world.kit.table.clone();
        let reach = scope(table.spec(known.id), &known.effect, &known.footprint, told);
        let expiry = expiry(table.spec(known.id), words.as_slice(), told);
        (known, told, reach, expiry)
    };
    let fenced = match take_place(world, id, known.effect.writes, &known.footprint, &known.frame).await? {
        Ok(fenced) => fenced,
        Err(error) => {
            world.borrow_mut().pay(id, seq, &error);
            world.borrow_mut().release(id);
            return Ok(false);
        }
    };
    let work = Work {
        command: known.id,
        writes: known.effect.writes,
        frame: known.frame,
        replies: 1,
        footprint: known.footprint,
        ways: vec![told.way],
        scope: reach,
        expiry,
    };
    let outcome = run_fenced(world, id, work, fenced).await?;
    let mut world = world.borrow_mut();
    let lost = outcome.is_err();
    let reply = outcome.map_or_else(|error| error, |replies| replies[0].clone());
    world.pay(id, seq, &reply);
    world.lower_fence(id, fenced);
    if lost {
        world.release(id);
    }
    Ok(!lost)
}

/// As `Session::own_connection`: after a flip it leads to the store that is the default now.
fn own_connection(world: &Shared, id: u64) -> bool {
    let mut world = world.borrow_mut();
    let default = world.core.default_store();
    if world.peers[&id].own.is_some_and(|(store, _)| store != default) {
        world.release(id);
        return world.acquire(id);
    }
    true
}

async fn run_fenced(
    world: &Shared,
    id: u64,
    work: Work,
    fenced: bool,
) -> Result<Result<Vec<Vec<u8>>, Vec<u8>>, Gone> {
    if !own_connection(world, id) {
        let world = world.borrow();
        return Ok(Err(world.core.failure_frame(world.core.default_store(), Failure::Down)));
    }
    let count = {
        let mut world = world.borrow_mut();
        let world = &mut *world;
        let (asked, companions) = match fenced {
            true => world.core.companions(&work.ways, &work.frame),
            false => (Vec::new(), 0),
        };
        if work.writes && !fenced {
            world.core.step_aside(world.peers[&id].key, work.footprint.clone());
        }
        if fenced && !work.scope.is_named() {
            let (client, db) = (world.peers[&id].key, world.peers[&id].db);
            world.core.listen_aside(client, &work.frame, work.scope, db);
        }
        let bytes = [work.frame.as_slice(), &asked].concat();
        let timer = world.now + reply_timeout(world);
        let peer = world.peers.get_mut(&id).expect("a peer");
        peer.timer = Some(timer);
        peer.exchanging = true;
        if let Some((store, conn)) = peer.own
            && let Some(conn) = world.stores[store.index()].conns.get_mut(&conn)
        {
            conn.inbox.extend_from_slice(&bytes);
        }
        work.replies + companions as usize
    };
    let replies = poll_fn(|_| {
        let mut world = world.borrow_mut();
        let Some(peer) = world.peers.get(&id) else { return Poll::Ready(Err(Gone)) };
        let late = peer.timer.is_some_and(|at| world.now >= at);
        match world.own_replies(id, count) {
            None => Poll::Ready(Ok(None)),
            Some(frames) if frames.len() == count => Poll::Ready(Ok(Some(frames))),
            Some(_) if late => Poll::Ready(Ok(None)),
            Some(_) => Poll::Pending,
        }
    })
    .await?;
    let mut world = world.borrow_mut();
    let world = &mut *world;
    world.core.set_now(world.now);
    let context = world.context(id);
    if let Some(peer) = world.peers.get_mut(&id) {
        peer.timer = None;
    }
    let leaving = world.peers.get_mut(&id).is_some_and(|peer| {
        peer.exchanging = false;
        peer.leaving
    });
    if replies.is_none() {
        world.give_up(id);
    }
    if !fenced && work.writes {
        let key = world.peers[&id].key;
        world.core.step_back(key, Some((&work.frame, work.scope, context.db)));
    }
    world.core.listened_aside(world.peers[&id].key);
    let Some(replies) = replies else {
        if fenced {
            world.core.doubt_effect(&work.footprint, &work.frame, work.scope, context.db);
        }
        return Ok(Err(world.core.failure_frame(world.core.default_store(), Failure::Lost)));
    };
    let reply = replies[work.replies - 1].clone();
    let refused = reply.first() == Some(&b'-') || matches!(&*reply, b"*-1\r\n" | b"_\r\n");
    if fenced && !refused {
        let companions: Vec<Box<[u8]>> =
            replies[work.replies..].iter().map(|reply| reply.as_slice().into()).collect();
        world.core.place_effect(Dedicated {
            command: work.command,
            context,
            frame: &work.frame,
            replies: work.replies as u32,
            reply: &reply,
            companions: &companions,
            footprint: work.footprint,
            ways: work.ways,
            scope: work.scope,
            selects: false,
            expiry: work.expiry,
        });
    }
    world.settle();
    if leaving {
        world.leave(id);
        return Err(Gone);
    }
    Ok(Ok(replies))
}
