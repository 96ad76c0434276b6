//! One client's session, as `src/session` runs it: what it puts into the order, and what it waits for.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;

use multistore::command::{CommandId, Effect, Keys, Kind, classify, keys};
use multistore::mirror::Way;
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use multistore::resp::request::{Request, spans_of};
use multistore::resp::{Proto, encode};
use multistore::route::{Route, request_kind, route};
use multistore::sequencer::fence::Footprint;
use multistore::sequencer::lane::Context;
use multistore::sequencer::op::{Failure, Part};
use multistore::sequencer::park::{Parking, Unblock, ended_reply};
use multistore::sequencer::{Dedicated, Expiry, Path, Scope, Submission, TakeOver, Transaction};
use multistore::session::writes::{expiry, scope, wider};
use multistore::session::{fills, footprint};

use super::books::Expect;
use super::redis::Words;
use super::world::{Ask, Shared, World};

/// Why a session ends: its client is gone.
struct Gone;

const PIPELINE_MAX: usize = 64;
const HYDRATIONS: usize = 3;

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

/// What is known of a request before it is put into the order.
struct Known {
    id: CommandId,
    effect: Effect,
    path: Path,
    frame: Vec<u8>,
    footprint: Footprint,
    fills: usize,
}

// === impl World ===

impl World {
    fn is_held(&self, id: u64) -> bool {
        self.core.is_held(self.peers[&id].key)
    }

    fn context(&self, id: u64) -> Context {
        let peer = &self.peers[&id];
        Context { db: peer.db, proto: if peer.resp3 { Proto::Resp3 } else { Proto::Resp2 } }
    }

    fn know(&self, id: u64, words: &Words) -> Known {
        let table = &self.kit.table;
        let command = table.find(words.as_slice()).expect("a known command");
        let spec = table.spec(command);
        let effect = classify(spec, words.as_slice());
        let path = match route(spec, &effect, words.as_slice(), false) {
            Route::Order(path) => path,
            _ => Path::Default,
        };
        let mut frame = Vec::new();
        encode::command(&mut frame, words);
        let spans = spans_of(&frame);
        let request = Request { frame: &frame, args: &spans };
        let mut found = Keys::new();
        let listed = keys(spec, &request, &mut found).is_ok();
        let footprint = footprint(&found, listed, spec, &effect, &request, self.peers[&id].db);
        let fills = fills(spec, &effect, &found, &request);
        Known { id: command, effect, path, footprint, fills, frame }
    }

    fn owe(&mut self, id: u64, expect: Expect) -> u64 {
        self.taint();
        let key = self.peers[&id].key;
        let seq = self.core.clients.owe(key, false);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.expect.push_back(expect);
        }
        seq
    }

    fn pay(&mut self, id: u64, seq: u64, reply: &[u8]) {
        if let Some(peer) = self.peers.get(&id) {
            self.core.clients.pay(peer.key, seq, reply);
        }
        self.settle();
    }

    /// As `Session::submit`. True: it is held.
    fn submit(&mut self, id: u64, words: &Words, more: bool) -> bool {
        self.core.set_now(self.now);
        let known = self.know(id, words);
        let db = self.peers[&id].db;
        let record = self.books.asked(id, db, words);
        let seq = self.owe(id, Expect::One(record));
        let context = self.context(id);
        let key = self.peers[&id].key;
        let table = self.kit.table.clone();
        let spec = table.spec(known.id);
        let dual = self.core.stage().is_dual();
        let fills = if dual { known.fills } else { 0 };
        let footprint = if dual { known.footprint } else { Footprint::Nothing };
        let writes = dual && known.path == Path::Write;
        let alone = !more && self.core.clients.get(key).is_some_and(|client| client.owed() == 1);
        let (way, scope, expiry) = match writes {
            true => {
                let told = self.core.way(known.id, known.effect.writes, words.as_slice());
                let scope = scope(spec, &known.effect, &footprint, told);
                (told.way, scope, expiry(spec, words.as_slice(), told))
            }
            false => (Way::Nothing, Scope::Keys, Expiry::Keeps),
        };
        self.core.submit(&Submission {
            client: key,
            seq,
            command: known.id,
            path: known.path,
            rule: known.effect.rule,
            kind: request_kind(&known.effect),
            context,
            frame: Cow::Borrowed(&known.frame),
            footprint,
            way,
            scope,
            expiry,
            alone,
            fills,
        });
        self.settle();
        self.is_held(id)
    }

    /// As `Session::queue` and `Session::exec`. `slow`: the client waits for each QUEUED. True: it is held.
    fn submit_transaction(&mut self, id: u64, all: &[Words], slow: bool) -> bool {
        self.core.set_now(self.now);
        let mut multi = Multi::default();
        encode::command(&mut multi.frames, &[b"MULTI"]);
        let seq = self.owe(id, Expect::Said(encode::OK));
        multi.parts.push(Part { seq, answered: slow, rule: multistore::command::Rule::Ignore });
        let db = self.peers[&id].db;
        let records: Vec<usize> = all.iter().map(|words| self.books.asked(id, db, words)).collect();
        for words in all {
            let seq = self.owe(id, Expect::Said(encode::QUEUED));
            self.queue(id, &mut multi, words, seq, slow);
        }
        let seq = self.owe(id, Expect::Exec(records));
        if slow {
            let key = self.peers[&id].key;
            for (at, part) in multi.parts.iter().enumerate() {
                self.core.clients.pay(key, part.seq, if at == 0 { encode::OK } else { encode::QUEUED });
            }
        }
        encode::command(&mut multi.frames, &[b"EXEC"]);
        multi.parts.push(Part { seq, answered: false, rule: multistore::command::Rule::Exact });
        let context = self.context(id);
        let client = self.peers[&id].key;
        let command = self.kit.table.by_name("exec").expect("EXEC is known");
        self.core.submit_transaction(Transaction {
            client,
            parts: multi.parts,
            command,
            context,
            frame: Cow::Owned(multi.frames),
            footprint: multi.footprint,
            named: multistore::sequencer::fence::Footprint::Nothing,
            writes: multi.writes,
            runs_scripts: false,
            ways: multi.ways,
            scope: multi.scope,
            expiry: multi.expiry,
        });
        self.settle();
        self.is_held(id)
    }

    fn queue(&mut self, id: u64, multi: &mut Multi, words: &Words, seq: u64, answered: bool) {
        let known = self.know(id, words);
        let table = self.kit.table.clone();
        let spec = table.spec(known.id);
        let told = self.core.way(known.id, known.effect.writes, words.as_slice());
        let reach = scope(spec, &known.effect, &known.footprint, told);
        if known.effect.kind != Kind::KeyspaceRead {
            multi.footprint.join(known.footprint, multi.frames.len());
        }
        multi.writes |= known.effect.writes;
        multi.scope = wider(multi.scope, reach);
        multi.expiry = multi.expiry.with(expiry(spec, words.as_slice(), told));
        multi.ways.push(told.way);
        multi.frames.extend_from_slice(&known.frame);
        multi.parts.push(Part { seq, answered, rule: known.effect.rule });
    }

    /// Takes a connection of the client's own to the default store. False: the store is down.
    fn acquire(&mut self, id: u64) -> bool {
        self.release(id);
        let store = self.core.default_store();
        if !self.stores[store.index()].up {
            return false;
        }
        let context = self.context(id);
        let conn = self.stores[store.index()].connect();
        if let Some(slot) = self.stores[store.index()].conns.get_mut(&conn) {
            slot.db = context.db as usize;
            slot.resp3 = context.proto == Proto::Resp3;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.own = Some((store, conn));
        }
        true
    }

    fn release(&mut self, id: u64) {
        if let Some((store, conn)) = self.peers.get_mut(&id).and_then(|peer| peer.own.take()) {
            self.stores[store.index()].conns.remove(&conn);
        }
    }

    /// As `store::given_up`: the client's own connection is not heard any more, and the store may still run what it has.
    fn give_up(&mut self, id: u64) {
        let Some((store, conn)) = self.peers.get_mut(&id).and_then(|peer| peer.own.take()) else { return };
        if self.stores[store.index()].conns.contains_key(&conn) {
            self.ghosts.push((store, conn));
            drop(self.core.end_connection(store, conn as i64));
            self.settle();
        }
    }

    /// Replies on the client's own connection; None: it is gone.
    fn own_replies(&mut self, id: u64, count: usize) -> Option<Vec<Vec<u8>>> {
        let (store, conn) = self.peers.get(&id)?.own?;
        let conn = self.stores[store.index()].conns.get_mut(&conn)?;
        let mut frames = Vec::new();
        let mut rest = conn.outbox.as_slice();
        while frames.len() < count {
            match ReplyScanner::new().scan(rest, &ReplyLimits::default()) {
                Ok(Scanned::Complete { len, .. }) => {
                    frames.push(rest[..len].to_vec());
                    rest = &rest[len..];
                }
                _ => return Some(Vec::new()),
            }
        }
        let left = rest.to_vec();
        conn.outbox = left;
        Some(frames)
    }
}

#[derive(Default)]
struct Multi {
    frames: Vec<u8>,
    parts: Vec<Part>,
    footprint: Footprint,
    writes: bool,
    ways: Vec<Way>,
    scope: Scope,
    expiry: Expiry,
}

// --- clients that wait ---

/// As `src/session/blocking.rs`.
async fn block(world: &Shared, id: u64, words: Words) -> Result<(), Gone> {
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

fn reply_timeout(world: &World) -> u64 {
    world.settings.reply_timeout.as_micros() as u64
}

// --- clients with a connection of their own ---

/// WATCH, GET, MULTI, SET, EXEC, as `src/session/pinned.rs` runs them.
async fn swap(world: &Shared, id: u64, key: &[u8], value: &[u8]) -> Result<(), Gone> {
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
        multi.parts.push(Part { seq: said[0], answered: true, rule: multistore::command::Rule::Ignore });
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

/// As `Session::take_place`.
async fn take_place(
    world: &Shared,
    id: u64,
    writes: bool,
    footprint: &Footprint,
    frame: &[u8],
) -> Result<Result<bool, Vec<u8>>, Gone> {
    let hashes: Vec<u64> = footprint.keys().iter().map(|key| key.hash).collect();
    loop {
        let flips = world.borrow().core.flips();
        if let Err(error) = take_over(world, id, footprint, frame).await? {
            return Ok(Err(error));
        }
        let waits = writes || world.borrow().core.is_write_pending(&hashes);
        let fenced = match raise_fence(world, id, waits, footprint).await? {
            Ok(fenced) => fenced,
            Err(error) => return Ok(Err(error)),
        };
        if writes && world.borrow().core.flips() == flips {
            return Ok(Ok(fenced));
        }
        world.borrow_mut().lower_fence(id, fenced);
        if !writes && world.borrow().core.flips() == flips {
            return Ok(Ok(false));
        }
    }
}

/// As `Session::take_over`.
async fn take_over(
    world: &Shared,
    id: u64,
    footprint: &Footprint,
    frame: &[u8],
) -> Result<Result<(), Vec<u8>>, Gone> {
    let (key, db) = (world.borrow().peers[&id].key, world.borrow().peers[&id].db);
    let mut attempts = 0;
    loop {
        let hydrates = {
            let mut world = world.borrow_mut();
            let now = world.now;
            world.core.set_now(now);
            let hydrates = world.core.hydrate_for(footprint, frame, db);
            world.settle();
            hydrates
        };
        match hydrates {
            TakeOver::Done => return Ok(Ok(())),
            TakeOver::Begun if attempts == HYDRATIONS => {
                return Ok(Err(world.borrow().core.not_taken_over()));
            }
            TakeOver::Begun => attempts += 1,
            TakeOver::HeldUp => {}
        }
        let keys = footprint.clone();
        until(world, id, move |world| !world.core.awaits_hydration(key, &keys)).await?;
    }
}

async fn raise_fence(
    world: &Shared,
    id: u64,
    writes: bool,
    footprint: &Footprint,
) -> Result<Result<bool, Vec<u8>>, Gone> {
    if !writes || !world.borrow().core.stage().is_dual() {
        return Ok(Ok(false));
    }
    let key = world.borrow().peers[&id].key;
    let deadline = {
        let mut world = world.borrow_mut();
        let deadline = world.now + reply_timeout(&world);
        world.core.request_fence(key, footprint.clone());
        world.peers.get_mut(&id).expect("a peer").timer = Some(deadline);
        deadline
    };
    until(world, id, move |world| {
        world.core.fence_ready(key) || world.core.is_fence_hopeless(key) || world.now >= deadline
    })
    .await?;
    let mut world = world.borrow_mut();
    if world.core.fence_ready(key) {
        return Ok(Ok(true));
    }
    let failure = if world.core.is_fence_hopeless(key) { Failure::Down } else { Failure::NotSent };
    world.core.cancel_fence(key);
    world.settle();
    Ok(Err(world.core.failure_frame(world.core.default_store(), failure)))
}

// === impl World ===

impl World {
    fn lower_fence(&mut self, id: u64, fenced: bool) {
        if fenced && let Some(peer) = self.peers.get(&id) {
            self.core.set_now(self.now);
            self.core.lower_fence(peer.key);
        }
        self.settle();
    }
}
