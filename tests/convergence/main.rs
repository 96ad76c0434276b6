//! Do the two stores end up equal, and is what the clients were told true?
//!
//! Many clients of many kinds use one proxy over two real servers, while the stage walks forth and back and
//! things break. Afterwards the stores are compared key by key, and the clients' own books with the default
//! store.
//!
//! A run follows from its seed, as far as threads and sockets let it. From the environment:
//! - `CONVERGENCE_SEED=n`: this seed alone;
//! - `CONVERGENCE_SEEDS=a..b`: these, and all failures together at the end;
//! - `CONVERGENCE_TROUBLE=n`: this kind of trouble whatever the seed says;
//! - `CONVERGENCE_MILLIS=n`: how long the traffic lasts;
//! - `CONVERGENCE_STORY="word word"`: after a failure, every operation that mentions one of them;
//! - `CONVERGENCE_TAIL=n`: how many operations on a differing key are shown.

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod books;
mod chaos;
mod journal;
mod run;
mod scenario;
mod trouble;
mod users;
mod wreck;

use scenario::Scenario;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `cargo test` runs.
const USUAL: std::ops::Range<u64> = 4..8;

/// Seeds that have failed once. They stay.
const FAILED_BEFORE: &[u64] = &[3, 19, 24, 34, 51, 63, 94, 121, 151, 1027];

#[test]
fn stores_converge_and_books_agree() {
    let seeds = seeds();
    let mut failed = Vec::new();
    for seed in &seeds {
        let scenario = Scenario::from_seed(*seed);
        println!("seed {seed}: {scenario}");
        if catch_unwind(AssertUnwindSafe(|| run::run(&scenario))).is_err() {
            println!("seed {seed} FAILED; again with CONVERGENCE_SEED={seed}");
            failed.push(*seed);
        }
    }
    assert!(failed.is_empty(), "{} of {} seeds failed: {failed:?}", failed.len(), seeds.len());
}

fn seeds() -> Vec<u64> {
    if let Some(seed) = scenario::from_env("CONVERGENCE_SEED") {
        return vec![seed];
    }
    match std::env::var("CONVERGENCE_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("CONVERGENCE_SEEDS=a..b");
            let number = |text: &str| text.trim().parse::<u64>().expect("CONVERGENCE_SEEDS=a..b");
            (number(from)..number(to)).collect()
        }
        Err(_) => USUAL.chain(FAILED_BEFORE.iter().copied()).collect(),
    }
}
