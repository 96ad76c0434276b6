//! What runs on a connection of its own takes its place in the one order.

use multistore::sequencer::TakeOver;
use multistore::sequencer::fence::Footprint;
use multistore::sequencer::op::Failure;

use super::{Gone, Shared, World, reply_timeout, until};

const HYDRATIONS: usize = 3;

/// As `Session::take_place`.
pub(super) async fn take_place(
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
    pub(super) fn lower_fence(&mut self, id: u64, fenced: bool) {
        if fenced && let Some(peer) = self.peers.get(&id) {
            self.core.set_now(self.now);
            self.core.lower_fence(peer.key);
        }
        self.settle();
    }
}
