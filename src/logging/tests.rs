use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing_subscriber::layer::SubscriberExt;

use super::escape::MAX_SHOWN_BYTES;
use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the events of `log` look like.
fn logged(format: Format, log: impl FnOnce()) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = layer(format, move || OneLine::new(writer.clone()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_event_is_one_line_whatever_it_carries() {
    let evil = "x\n2026-01-01T00:00:00Z ERROR forged\r\n\x1b[2Jgone\0\u{9b}";
    for format in [Format::Human, Format::Json] {
        let text = logged(format, || tracing::warn!(error = %evil, "refused {evil}"));
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.ends_with('\n') && text.contains("forged"));
        assert!(!text.trim_end_matches('\n').chars().any(char::is_control), "{text:?}");
        if format == Format::Json {
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event["error"], evil);
        }
    }
}

#[test]
fn json_lines_are_objects_with_the_fields_at_the_top() {
    let text = logged(Format::Json, || tracing::info!(instance = "cache", depth = 3, "a \"quoted\" text"));
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["instance"], "cache");
    assert_eq!(event["depth"], 3);
    assert_eq!(event["message"], "a \"quoted\" text");
}

#[test]
fn foreign_bytes_are_printable_and_cut() {
    assert_eq!(Escaped(b"a\r\n\xff\"").to_string(), r#"a\r\n\xff\""#);
    let long = vec![b'k'; MAX_SHOWN_BYTES + 5];
    assert_eq!(Escaped(&long).to_string(), format!("{}… (5 more bytes)", "k".repeat(MAX_SHOWN_BYTES)));
    assert_eq!(Escaped(&long[..MAX_SHOWN_BYTES]).to_string(), "k".repeat(MAX_SHOWN_BYTES));
}

#[test]
fn a_cut_never_splits_a_character() {
    for (max, expected) in [(4, "aé"), (3, "aé"), (2, "a"), (1, "a"), (0, "")] {
        assert_eq!(cut("aé", max), expected, "{max}");
    }
}

#[test]
fn a_throttle_lets_one_through_and_tells_how_many_it_kept() {
    let throttle = Throttle::new(Duration::from_secs(10));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(throttle.admit(at(0)), Some(0));
    assert_eq!(throttle.admit(at(1)), None);
    assert_eq!(throttle.admit(at(9)), None);
    assert_eq!(throttle.admit(at(10)), Some(2));
    assert_eq!(throttle.admit(at(11)), None);
    assert_eq!(throttle.admit(at(5)), None, "a clock read earlier by another task");
    assert_eq!(throttle.admit(at(60)), Some(2));
}

#[test]
fn filters_are_levels_or_lists_of_targets() {
    for good in ["info", "off", "warn,multistore::store=debug"] {
        check_filter(good).unwrap();
    }
    for bad in ["info,multistore=loud", "multistore=1x"] {
        let error = check_filter(bad).unwrap_err().to_string();
        assert!(error.contains(bad) && error.contains("use a level like"), "{error}");
    }
}

#[test]
fn formats_have_names() {
    assert_eq!("json".parse(), Ok(Format::Json));
    assert_eq!("human".parse(), Ok(Format::Human));
    assert!("JSON".parse::<Format>().unwrap_err().contains("use `human` or `json`"));
}
