//! Clients that work while the flags flip notice nothing.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Each client counts in keys of its own, alone, in pipelines and in transactions; every reply is known beforehand.
fn nobody_notices(settings: &[&str], start: Stage, steps: &[Stage]) {
    let mut pair = Pair::start_with(start, settings);
    let stop = AtomicBool::new(false);
    let turns = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for name in 0..4 {
            let mut client = if name % 2 == 0 { pair.client() } else { pair.proxy.client3() };
            let (stop, turns) = (&stop, &turns);
            scope.spawn(move || {
                let [count, list, text] = ["count", "list", "text"].map(|kind| format!("{kind}:{name}"));
                let mut at = 0;
                while !stop.load(Ordering::SeqCst) {
                    let now = at.to_string();
                    assert_eq!(client.call(&["INCR", &count]), (at + 1).into());
                    assert_eq!(client.call(&["SET", &text, &now]), Value::ok());
                    assert_eq!(client.call(&["GET", &text]), now.as_str().into());
                    let piped = client.pipeline(&[
                        &["GET", &text],
                        &["RPUSH", &list, &now],
                        &["INCRBY", &count, "-1"],
                        &["LLEN", &list],
                        &["STRLEN", &text],
                    ]);
                    let length = at + 1;
                    let expected: [Value; 5] = [
                        now.as_str().into(),
                        length.into(),
                        at.into(),
                        length.into(),
                        (now.len() as i64).into(),
                    ];
                    assert_eq!(piped, expected);
                    let multi = client.pipeline(&[
                        &["MULTI"],
                        &["INCR", &count],
                        &["LINDEX", &list, "-1"],
                        &["EXEC"],
                    ]);
                    assert_eq!(multi[3], vec![(at + 1).into(), now.as_str().into()].into());
                    at += 1;
                    turns.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for stage in steps {
            let before = turns.load(Ordering::SeqCst);
            pair.stage(*stage);
            poll_until(SOON, "the clients go on", || turns.load(Ordering::SeqCst) > before + 20);
        }
        stop.store(true, Ordering::SeqCst);
    });
    // A primary that is cold at first differs in what it has not got yet.
    assert!(pair.diffs() == 0.0 || !start.is_dual(), "{:?}", pair.proxy.instance_status(INSTANCE));
    assert_eq!(pair.counter("multistore_command_diff_total"), 0.0);
    assert_eq!(pair.missing(), 0.0);
    assert_eq!(pair.counter("multistore_flips_total"), steps.len() as f64);
    if steps.last().is_some_and(|stage| stage.is_dual()) {
        pair.assert_equal_stores();
    }
}

#[test]
fn nobody_notices_a_change_of_the_default_store() {
    use Stage::{DualPrimaryDefault as Primary, DualSecondaryDefault as Secondary};
    nobody_notices(&[], Secondary, &[Primary, Secondary, Primary]);
    nobody_notices(&["ack = \"both\""], Primary, &[Secondary, Primary]);
}

#[test]
fn nobody_notices_a_rollout() {
    nobody_notices(
        &[],
        Stage::SecondaryOnly,
        &[Stage::DualSecondaryDefault, Stage::DualPrimaryDefault, Stage::PrimaryOnly],
    );
}

#[test]
fn a_transaction_runs_under_one_set_of_flags() {
    // Dual goes on and off while both keys are set together: the primary gets both values or none.
    let mut pair = Pair::start_in(Stage::SecondaryOnly);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in 0..3 {
            let mut client = pair.client();
            let stop = &stop;
            scope.spawn(move || {
                let mut at = 0;
                while !stop.load(Ordering::SeqCst) {
                    let value = format!("{name}:{at}");
                    let replies = client.pipeline(&[
                        &["MULTI"],
                        &["SET", "left", &value],
                        &["SET", "right", &value],
                        &["EXEC"],
                    ]);
                    assert_eq!(replies[3], vec![Value::ok(), Value::ok()].into());
                    at += 1;
                }
            });
        }
        let mut direct = pair.primary.client();
        for _ in 0..3 {
            for stage in [Stage::DualSecondaryDefault, Stage::SecondaryOnly] {
                pair.stage(stage);
                for _ in 0..20 {
                    let both = direct.words("MGET left right");
                    assert_eq!(both.items()[0], both.items()[1], "{stage}");
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn writes_before_a_flip_are_on_the_old_stores_and_those_after_it_on_the_new() {
    // One client numbers its writes: on the primary a middle part is found, without gaps.
    let mut pair = Pair::start_in(Stage::SecondaryOnly);
    let stop = AtomicBool::new(false);
    let mut last = 0;
    std::thread::scope(|scope| {
        let writer = {
            let mut client = pair.client();
            let stop = &stop;
            scope.spawn(move || {
                let mut at = 0;
                while !stop.load(Ordering::SeqCst) {
                    let keys: Vec<String> = (at..at + 5).map(|at| format!("w:{at}")).collect();
                    let commands: Vec<[&str; 3]> = keys.iter().map(|key| ["SET", key, "x"]).collect();
                    let commands: Vec<&[&str]> = commands.iter().map(|one| one.as_slice()).collect();
                    assert!(client.pipeline(&commands).iter().all(|reply| *reply == Value::ok()));
                    at += 5;
                }
                at
            })
        };
        for stage in [Stage::DualSecondaryDefault, Stage::DualPrimaryDefault, Stage::PrimaryOnly] {
            pair.stage(stage);
        }
        stop.store(true, Ordering::SeqCst);
        last = writer.join().expect("the writer");
    });
    let numbers = |server: &RedisServer| {
        let mut found: Vec<i64> = server
            .words("KEYS w:*")
            .items()
            .iter()
            .map(|key| key.text()[2..].parse().expect("a number"))
            .collect();
        found.sort_unstable();
        found
    };
    let (old, new) = (numbers(&pair.secondary), numbers(&pair.primary));
    assert_eq!(old, (0..old.len() as i64).collect::<Vec<_>>(), "the secondary has all up to the last flip");
    let first = last - new.len() as i64;
    assert_eq!(new, (first..last).collect::<Vec<_>>(), "the primary has all from the first flip on");
    assert!(first < old.len() as i64, "while dual both got them");
}
