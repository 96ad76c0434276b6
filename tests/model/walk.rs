//! The walk over both keyspaces, as `src/instance/walk.rs` makes it.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;

use multistore::resp::value::{OwnedValue, Value};
use multistore::resp::{Proto, encode};
use multistore::sequencer::hash_key;
use multistore::sequencer::knowledge::Sync;
use multistore::sequencer::lane::Context;
use multistore::stage::StoreId;

use super::world::{Shared, World};

const LOOK_MICROS: u64 = 100_000;
const SHORTEST_REST_MICROS: u64 = 2_000_000;

/// Walks whenever a store is behind as a whole, as long as process `process` lives.
pub async fn run(world: Shared, process: u64) {
    let mut rest_until = 0;
    loop {
        sleep(&world, LOOK_MICROS).await;
        if world.borrow().process != process {
            return;
        }
        pay_owed(&mut world.borrow_mut(), rest_until);
        let Some(behind) = wanted(&world.borrow()) else { continue };
        pay_owed(&mut world.borrow_mut(), 0);
        let began = world.borrow().now;
        world.borrow_mut().note(|_| format!("walk: {behind} is behind as a whole"));
        let outcome = walk(&world, process, behind).await;
        let now = world.borrow().now;
        rest_until = now + ((now - began) * 10).max(SHORTEST_REST_MICROS);
        world.borrow_mut().note(|_| format!("walk: {outcome:?}"));
        if outcome.is_err() {
            sleep(&world, LOOK_MICROS * 10).await;
        }
    }
}

fn pay_owed(world: &mut World, rest_until: u64) {
    let now = world.now;
    let core = &mut world.core;
    core.set_now(now);
    let default = core.default_store();
    let may = core.stage().is_dual() && core.sync_base() != Sync::Suspect(default);
    if may && now >= rest_until && core.take_owed_walk() {
        core.doubt_unnamed(default.other());
    }
}

fn wanted(world: &World) -> Option<StoreId> {
    let core = &world.core;
    let both = StoreId::ALL.iter().all(|store| core.lane(*store).is_up());
    let may = both && core.stage().is_dual() && core.doubted_source().is_none();
    if may { core.behind_as_a_whole() } else { None }
}

async fn walk(world: &Shared, process: u64, behind: StoreId) -> Result<(), String> {
    let (spread, failed) = {
        let core = &world.borrow().core;
        (core.spread(), core.copy_counts().failed)
    };
    let right = behind.other();
    let mut databases = BTreeSet::new();
    for store in StoreId::ALL {
        databases.extend(databases_of(world, process, store).await?);
    }
    for db in databases {
        for scanned in [right, behind] {
            pass(world, process, scanned, behind, db).await?;
            if world.borrow().core.spread() != spread {
                return Err("doubt has spread".to_owned());
            }
        }
    }
    let newest = world.borrow().core.newest_copy();
    until(world, process, |world| !world.core.has_copies_up_to(newest)).await?;
    let mut world = world.borrow_mut();
    let now = world.now;
    world.core.set_now(now);
    if world.core.spread() != spread || !world.core.stage().is_dual() {
        return Err("doubt has spread".to_owned());
    }
    let failed = world.core.copy_counts().failed - failed;
    if failed > 0 {
        return Err(format!("{failed} copies failed"));
    }
    world.core.walked();
    world.settle();
    Ok(())
}

async fn pass(
    world: &Shared,
    process: u64,
    scanned: StoreId,
    behind: StoreId,
    db: u32,
) -> Result<(), String> {
    let page = ask(world, process, scanned, db, &[b"SCAN", b"0"]).await?;
    let Ok(Value::Array(items)) = Value::parse(&page) else { return Err("no page".to_owned()) };
    let [_, Value::Array(names)] = items.as_slice() else { return Err("no page".to_owned()) };
    for name in names.iter().filter_map(Value::as_bytes) {
        let hash = hash_key(db, name);
        let wanted = match world.borrow().core.sync_of(hash) {
            Sync::Suspect(store) => store == behind,
            Sync::Unknown => scanned != behind,
            Sync::InSync => false,
        };
        if !wanted {
            continue;
        }
        until(world, process, |world| world.core.has_room_to_copy()).await?;
        let mut world = world.borrow_mut();
        let now = world.now;
        world.core.set_now(now);
        world.core.copy_key(db, name, hash, behind);
        world.settle();
    }
    Ok(())
}

async fn databases_of(world: &Shared, process: u64, store: StoreId) -> Result<Vec<u32>, String> {
    let info = ask(world, process, store, 0, &[b"INFO", b"keyspace"]).await?;
    let info = OwnedValue::parse(&info).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':')?.0.parse().ok()).collect())
}

async fn ask(
    world: &Shared,
    process: u64,
    store: StoreId,
    db: u32,
    args: &[&[u8]],
) -> Result<Vec<u8>, String> {
    let mut frame = Vec::new();
    encode::command(&mut frame, args);
    let mut answer = {
        let mut world = world.borrow_mut();
        let now = world.now;
        world.core.set_now(now);
        let command = world.core.table.by_name("scan").expect("SCAN is known");
        let answer = world.core.ask(store, Context { db, proto: Proto::Resp2 }, command, &frame);
        world.settle();
        answer
    };
    let answer = poll_fn(|_| {
        if world.borrow().process != process {
            return Poll::Ready(Err("the process has ended".to_owned()));
        }
        match answer.try_recv() {
            Ok(answer) => Poll::Ready(answer.map_err(|failure| format!("{failure:?}"))),
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) => Poll::Pending,
            Err(_) => Poll::Ready(Err("nobody answers".to_owned())),
        }
    })
    .await?;
    match answer.first() {
        Some(b'-') => Err(String::from_utf8_lossy(&answer).into_owned()),
        _ => Ok(answer),
    }
}

async fn until(world: &Shared, process: u64, done: impl Fn(&World) -> bool) -> Result<(), String> {
    poll_fn(|_| match world.borrow() {
        world if world.process != process => Poll::Ready(Err("the process has ended".to_owned())),
        world if done(&world) => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    })
    .await
}

async fn sleep(world: &Shared, micros: u64) {
    let until = world.borrow().now + micros;
    poll_fn(|_| if world.borrow().now >= until { Poll::Ready(()) } else { Poll::Pending }).await;
}
