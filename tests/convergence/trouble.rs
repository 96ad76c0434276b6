//! The walk through the stages, and what breaks on the way.

use super::agent::World;
use super::scenario::Trouble;
use super::support::{INSTANCE, Numbers, Pair, SOON, Stage, poll_until};
use std::time::{Duration, Instant};

/// Walks and breaks until `end`.
pub fn walk(world: &World, pair: &mut Pair, end: Instant) {
    let mut numbers = world.scenario.numbers(1);
    let mut stage = world.scenario.start;
    let pause = |numbers: &mut Numbers, most: usize| {
        let pause = Duration::from_millis(5 + numbers.below(most) as u64);
        std::thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
    };
    while Instant::now() < end {
        pause(&mut numbers, 250);
        if Instant::now() >= end {
            break;
        }
        let breaks = world.scenario.trouble > Trouble::Flips && numbers.below(3) == 0;
        match world.scenario.trouble {
            Trouble::None => {}
            _ if breaks => wreck(world, pair, stage, &mut numbers),
            _ => {
                stage = next(stage, &mut numbers);
                flip(world, pair, stage);
            }
        }
    }
    // What is compared at the end must be mirrored at the end.
    if !stage.is_dual() {
        flip(world, pair, Stage::DualSecondaryDefault);
    }
}

/// A stage beside this one. The single store stages wait until the proxy tells whether leaving a store is safe.
fn next(stage: Stage, numbers: &mut Numbers) -> Stage {
    match stage {
        Stage::SecondaryOnly => Stage::DualSecondaryDefault,
        Stage::DualSecondaryDefault => Stage::DualPrimaryDefault,
        Stage::DualPrimaryDefault => numbers.pick(&[Stage::DualSecondaryDefault]),
        Stage::PrimaryOnly => Stage::DualPrimaryDefault,
    }
}

fn flip(world: &World, pair: &mut Pair, stage: Stage) {
    world.journal.event(format!("--- flip to {stage}"));
    pair.proxy.write_stage_of(INSTANCE, stage);
    poll_until(SOON, "the flip", || pair.proxy.instance_status(INSTANCE)["stage"] == stage.name());
    world.journal.event(format!("--- flipped to {stage}"));
}

fn wreck(world: &World, pair: &mut Pair, _stage: Stage, numbers: &mut Numbers) {
    match world.scenario.trouble {
        Trouble::None | Trouble::Flips => {}
        _ => {
            let (name, store) = if numbers.below(2) == 0 {
                ("primary", &pair.primary)
            } else {
                ("secondary", &pair.secondary)
            };
            world.journal.event(format!("--- cut the connections of the {name}"));
            store.words("CLIENT KILL TYPE normal SKIPME yes");
        }
    }
}
