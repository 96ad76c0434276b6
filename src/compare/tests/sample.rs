use super::super::sample::{MAX_SAMPLES, MAX_SHOWN_BYTES};
use super::super::{DiffSample, Samples};
use super::frame;
use std::time::{Duration, SystemTime};

const AT: SystemTime = SystemTime::UNIX_EPOCH;

fn one(log_values: bool, key: &[u8], primary: &[u8], secondary: &[u8]) -> DiffSample {
    let mut samples = Samples::new(1, log_values);
    samples.record("get", Some(key), primary, secondary, AT);
    samples.iter().next().expect("one sample").clone()
}

#[test]
fn the_oldest_make_room() {
    let mut samples = Samples::new(3, false);
    for n in 0..10_u64 {
        samples.record(&format!("c{n}"), None, b":1\r\n", b":2\r\n", AT + Duration::from_secs(n));
    }
    let kept: Vec<&str> = samples.iter().map(|sample| sample.command.as_str()).collect();
    assert_eq!(kept, ["c7", "c8", "c9"]);
    assert_eq!(samples.recorded(), 10);
    assert_eq!(samples.iter().next().map(|sample| sample.at), Some(AT + Duration::from_secs(7)));
}

#[test]
fn capacity_is_bounded_on_both_sides() {
    let mut none = Samples::new(0, false);
    none.record("get", None, b"_\r\n", b":1\r\n", AT);
    assert_eq!((none.iter().len(), none.recorded()), (0, 1));
    let mut many = Samples::new(usize::MAX, false);
    (0..MAX_SAMPLES + 5).for_each(|_| many.record("get", None, b"_\r\n", b":1\r\n", AT));
    assert_eq!(many.iter().len(), MAX_SAMPLES);
}

#[test]
fn redacted_shows_type_size_and_hash_only() {
    for (reply, expected) in [
        ("$12|secret-value|", "bulk(12 bytes, #"),
        ("=16|txt:secret-value|", "bulk(12 bytes, #"),
        ("+secret|", "status(6 bytes, #"),
        (":4711|", "integer(4 bytes, #"),
        (",47.11|", "double(5 bytes, #"),
        ("*2|$6|secret|$6|secret|", "array(2 elements, #"),
        ("%1|$6|secret|$6|secret|", "map(1 pairs, #"),
        ("-secret words|", "error(12 bytes, #"),
        ("$6|secre|", "malformed(11 bytes, #"),
    ] {
        let sample = one(false, b"secret-key", &frame(reply), b"_\r\n");
        assert!(sample.primary.starts_with(expected), "{reply}: {}", sample.primary);
        assert_eq!(sample.primary.len(), expected.len() + 9, "{}", sample.primary);
        assert_eq!(sample.secondary, "nil");
        let shown = format!("{sample:?}");
        assert!(!["secret", "4711", "47.11"].iter().any(|value| shown.contains(value)), "{shown}");
        assert!(sample.key.is_some_and(|key| key.starts_with("key(10 bytes, #")));
    }
    let sample = one(false, b"k", b"-WRONGTYPE secret\r\n", b"!13\r\nMISCONF a b c\r\n");
    assert_eq!((sample.primary.as_str(), sample.secondary.as_str()), ("error(WRONGTYPE)", "error(MISCONF)"));
}

#[test]
fn hashes_tell_equal_from_different() {
    let same = one(false, b"k", b"$1\r\na\r\n", b"$1\r\na\r\n");
    assert_eq!(same.primary, same.secondary);
    let different = one(false, b"k", b"$1\r\na\r\n", b"$1\r\nb\r\n");
    assert_ne!(different.primary, different.secondary);
}

#[test]
fn values_are_shown_escaped_and_cut_if_asked_for() {
    let long = vec![b'\n'; 10_000];
    let sample = one(true, b"k\0\x1b[31m\xff", b"$1\r\na\r\n", &long);
    assert_eq!(sample.key.as_deref(), Some(r"k\x00\x1b[31m\xff"));
    assert_eq!(sample.primary, r"$1\r\na\r\n");
    let expected = r"\n".repeat(MAX_SHOWN_BYTES) + "... (+9744 bytes)";
    assert_eq!(sample.secondary, expected);
}
