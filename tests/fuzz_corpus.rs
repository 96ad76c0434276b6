//! What the fuzz targets check, on the kept corpora and on some thousands of random changes to them: on any toolchain,
//! with every run of the tests. `make fuzz` goes on from here for as long as one lets it.
//!
//! `FUZZ_ROUNDS=100000 cargo test --test fuzz_corpus` changes each input more often.

mod support;

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

use support::Numbers;

/// Changes made to each kept input.
const ROUNDS: usize = 40;
/// What a changed input may grow to.
const MAX_INPUT: usize = 4096;

fn rounds() -> usize {
    std::env::var("FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no input", dir.display());
    files.into_iter().map(|file| std::fs::read(file).expect("read an input")).collect()
}

/// Bytes that mean something in one of the formats.
const TOKENS: [&[u8]; 24] = [
    b"\r\n",
    b"*",
    b"$",
    b"+",
    b"-",
    b":",
    b"%",
    b"~",
    b">",
    b"|",
    b"_",
    b",",
    b"#t",
    b"*-1\r\n",
    b"$-1\r\n",
    b"0",
    b"-1",
    b"9223372036854775807",
    b"18446744073709551616",
    b" ",
    b"\0",
    b"\"",
    b"redis.call(",
    b"--[==[",
];

fn mutate(numbers: &mut Numbers, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(out.len() + 1);
        match numbers.below(7) {
            0 if at < out.len() => out[at] ^= 1 << numbers.below(8),
            1 if at < out.len() => out[at] = numbers.below(256) as u8,
            2 if at < out.len() => drop(out.remove(at)),
            3 => out.truncate(at),
            4 => {
                let other = &others[numbers.below(others.len())];
                let from = numbers.below(other.len() + 1);
                out.splice(at..at, other[from..].iter().copied());
            }
            5 => {
                let from = numbers.below(out.len() + 1);
                let copy = out[from.min(at)..from.max(at)].to_vec();
                out.splice(at..at, copy);
            }
            _ => drop(out.splice(at..at, TOKENS[numbers.below(TOKENS.len())].iter().copied())),
        }
        out.truncate(MAX_INPUT);
    }
    out
}

fn check(target: &str, property: fn(&[u8])) {
    let (corpus, mut numbers) = (corpus(target), Numbers(0x5eed));
    let try_it = |input: &[u8]| {
        let outcome = std::panic::catch_unwind(|| property(input));
        assert!(outcome.is_ok(), "{target}: \"{}\"", input.escape_ascii());
    };
    for input in corpus.iter().map(Vec::as_slice) {
        try_it(input);
        for _ in 0..rounds() {
            try_it(&mutate(&mut numbers, input, &corpus));
        }
    }
}

#[test]
fn request() {
    check("request", properties::request);
}

#[test]
fn stream() {
    check("stream", properties::stream);
}

#[test]
fn reply() {
    check("reply", properties::reply);
}

#[test]
fn config() {
    check("config", properties::config);
}

#[test]
fn command() {
    check("command", properties::command);
}

#[test]
fn script() {
    check("script", properties::script);
}

#[test]
fn compare() {
    check("compare", properties::compare);
}
