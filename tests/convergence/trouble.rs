//! The walk through the stages, and what breaks on the way.

use super::agent::World;
use super::scenario::Trouble;
use super::support::{INSTANCE, Numbers, Pair, Stage, poll_for};
use super::wreck::{operate, wreck};
use std::time::{Duration, Instant};

/// How long a flip may be held back by what it would lose.
const FLIPS: Duration = Duration::from_secs(20);

/// Walks and breaks until `end`. Says where the walk ends.
pub fn walk(world: &World, pair: &mut Pair, end: Instant) -> Stage {
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
        operate(world, pair, stage);
        let breaks = world.scenario.trouble > Trouble::Flips && numbers.below(3) == 0;
        match world.scenario.trouble {
            Trouble::None => {}
            _ if breaks => wreck(world, pair, stage, &mut numbers, end),
            _ => {
                let to = next(world, stage, pair, &mut numbers);
                stage = flip(world, pair, stage, to);
            }
        }
    }
    // What is compared at the end must be mirrored at the end.
    if !stage.is_dual() {
        let to = next(world, stage, pair, &mut numbers);
        stage = flip(world, pair, stage, to);
    }
    stage
}

/// A stage beside this one. To leave the secondary while the primary may lack cold keys would lose them.
fn next(world: &World, stage: Stage, pair: &Pair, numbers: &mut Numbers) -> Stage {
    let cold = || is_cold(pair);
    let looks_up = world.scenario.looks_up();
    match stage {
        Stage::SecondaryOnly => Stage::DualSecondaryDefault,
        Stage::DualSecondaryDefault => {
            let next =
                numbers.pick(&[Stage::DualPrimaryDefault, Stage::DualPrimaryDefault, Stage::SecondaryOnly]);
            // Reads that are not looked up elsewhere would miss them.
            if next == Stage::DualPrimaryDefault && !looks_up && cold() { Stage::SecondaryOnly } else { next }
        }
        Stage::DualPrimaryDefault => {
            let next = numbers.pick(&[Stage::DualSecondaryDefault, Stage::PrimaryOnly]);
            if next == Stage::PrimaryOnly && cold() { Stage::DualSecondaryDefault } else { next }
        }
        Stage::PrimaryOnly => Stage::DualPrimaryDefault,
    }
}

/// May the primary lack what nobody has touched?
pub fn is_cold(pair: &Pair) -> bool {
    pair.proxy.instance_status(INSTANCE)["sync"]["untouched_keys"] == "unknown"
}

/// Asks for a stage and waits until it rules. Says which one does in the end.
fn flip(world: &World, pair: &mut Pair, from: Stage, to: Stage) -> Stage {
    world.journal.event(format!("--- flip to {to}"));
    pair.proxy.write_stage_of(INSTANCE, to);
    let mut held = String::new();
    let flipped = poll_for(FLIPS, || {
        let status = pair.proxy.instance_status(INSTANCE);
        held = format!("{}; {}", status["held_flip"], status["sync"]);
        (status["stage"] == to.name()).then_some(())
    });
    if flipped.is_some() {
        world.journal.event(format!("--- flipped to {to}"));
        return to;
    }
    world.journal.complain(format!("the flip to {to} is held for {FLIPS:?}: {held}"));
    pair.proxy.write_stage_of(INSTANCE, from);
    from
}
