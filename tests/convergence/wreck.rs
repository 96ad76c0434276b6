//! What breaks, and how it is mended.

use super::agent::World;
use super::scenario::Trouble;
use super::support::{Data, INSTANCE, Numbers, Pair, RedisServer, SOON, Stage, Value, poll_until};
use super::trouble::is_cold;
use std::time::{Duration, Instant};

/// Breaks something of the run's kind, or now and then of a lesser kind, and mends it.
pub fn wreck(world: &World, pair: &mut Pair, stage: Stage, numbers: &mut Numbers, end: Instant) {
    let most = world.scenario.trouble;
    let lesser =
        Trouble::ALL.into_iter().filter(|one| *one > Trouble::Flips && *one <= most).collect::<Vec<_>>();
    let kind = if numbers.below(4) == 0 { numbers.pick(&lesser) } else { most };
    let wait = Duration::from_millis(10 + numbers.below(600) as u64);
    let wait = wait.min(end.saturating_duration_since(Instant::now()));
    let harmless = matches!(kind, Trouble::Cuts | Trouble::Refusals);
    if !harmless && stage == Stage::DualPrimaryDefault && is_cold(pair) {
        // What only the secondary has cannot be had while it is away, and clients are served without it.
        return;
    }
    match kind {
        Trouble::None | Trouble::Flips => {}
        Trouble::Cuts => cut(world, pair, numbers),
        Trouble::OtherStore => other_store(world, pair, stage, numbers, wait),
        Trouble::DefaultStore => default_store(world, pair, stage, (numbers.below(3), Data::Kept), wait),
        Trouble::LostDefault => default_store(world, pair, stage, (1, Data::Lost), wait),
        Trouble::Refusals => refuse(world, pair, numbers, wait),
        Trouble::Proxy => proxy(world, pair, stage, numbers.below(4) == 0, wait),
    }
}

fn cut(world: &World, pair: &Pair, numbers: &mut Numbers) {
    let (name, store) = either(pair, numbers);
    world.journal.event(format!("--- cut the connections of the {name}"));
    store.words("CLIENT KILL TYPE normal SKIPME yes");
}

fn either<'a>(pair: &'a Pair, numbers: &mut Numbers) -> (&'static str, &'a RedisServer) {
    if numbers.below(2) == 0 { ("primary", &pair.primary) } else { ("secondary", &pair.secondary) }
}

fn other_store(world: &World, pair: &mut Pair, stage: Stage, numbers: &mut Numbers, wait: Duration) {
    let name = stage.default_store().other();
    let way = numbers.below(3);
    // A secondary that has what the primary lacks is not to lose it.
    let data =
        if way == 2 && !(name.name() == "secondary" && is_cold(pair)) { Data::Lost } else { Data::Kept };
    let store = match stage.default_store().other().name() {
        "primary" => &mut pair.primary,
        _ => &mut pair.secondary,
    };
    if way == 0 {
        world.journal.event(format!("--- SIGSTOP to the {name} (other), for {wait:?}"));
        store.stop_signal();
        std::thread::sleep(wait);
        store.cont();
        world.journal.event(format!("--- SIGCONT to the {name}"));
        return;
    }
    world.journal.event(format!("--- SIGKILL to the {name} (other), for {wait:?}"));
    store.kill();
    std::thread::sleep(wait);
    store.start_again(data);
    world.journal.event(format!("--- the {name} is back, data {data:?}"));
}

fn default_store(world: &World, pair: &mut Pair, stage: Stage, (way, data): (usize, Data), wait: Duration) {
    let name = stage.default_store();
    let store = match name.name() {
        "primary" => &mut pair.primary,
        _ => &mut pair.secondary,
    };
    if way == 0 {
        world.journal.event(format!("--- SIGSTOP to the {name} (default), for {wait:?}"));
        store.stop_signal();
        std::thread::sleep(wait);
        store.cont();
        world.journal.event(format!("--- SIGCONT to the {name}"));
        return;
    }
    world.journal.event(format!("--- SIGKILL to the {name} (default), for {wait:?}"));
    store.kill();
    std::thread::sleep(wait);
    store.start_again(data);
    world.journal.event(format!("--- the {name} is back, data {data:?}"));
    poll_until(SOON, "the default store is connected", || {
        pair.proxy.instance_status(INSTANCE)["stores"][name.name()]["up"] == true
    });
    operate(world, pair, stage);
}

/// An operator who knows that the default store has lost nothing, or which store is to count though it has.
pub fn operate(world: &World, pair: &Pair, stage: Stage) {
    if pair.proxy.instance_status(INSTANCE)["sync"]["operator_must_name_source"].is_null() {
        return;
    }
    let other = !world.scenario.keeps_books() && world.scenario.trusts_other;
    let name = if other { stage.default_store().other() } else { stage.default_store() };
    world.journal.event(format!("--- repair --from {name}"));
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(["repair", "--from", name.name(), "--admin", &format!("127.0.0.1:{}", pair.proxy.admin_port())])
        .status();
    if !status.as_ref().is_ok_and(|status| status.success()) {
        world.journal.complain(format!("multistore repair --from {name}: {status:?}"));
    }
}

fn refuse(world: &World, pair: &Pair, numbers: &mut Numbers, wait: Duration) {
    let way = numbers.below(4);
    let (name, store) = either(pair, numbers);
    let (on, off) = match way {
        0 => ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        1 => ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        2 => ("ACL SETUSER default -@write", "ACL SETUSER default +@all"),
        _ => ("saves fail", ""),
    };
    world.journal.event(format!("--- the {name} refuses writes ({on}), for {wait:?}"));
    let said = |line: &str| assert_eq!(store.words(line), Value::ok(), "{line}");
    match way {
        3 => store.fail_saves(true),
        _ => said(on),
    }
    std::thread::sleep(wait);
    match way {
        3 => store.fail_saves(false),
        _ => said(off),
    }
    world.journal.event(format!("--- the {name} takes writes again"));
}

fn proxy(world: &World, pair: &mut Pair, stage: Stage, cleanly: bool, wait: Duration) {
    if cleanly {
        world.journal.event(format!("--- SIGTERM to the proxy, for {wait:?}"));
        let code = pair.proxy.terminate();
        world.journal.event(format!("--- the proxy has ended with {code:?}"));
    } else {
        world.journal.event(format!("--- SIGKILL to the proxy, for {wait:?}"));
        pair.proxy.kill();
    }
    std::thread::sleep(wait / 4);
    pair.proxy.start_again();
    world.journal.event(format!("--- the proxy is back, {}", pair.proxy.instance_status(INSTANCE)["sync"]));
    pair.proxy.wait_for_stage(INSTANCE, stage);
}
