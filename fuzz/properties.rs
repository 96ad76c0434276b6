//! What must hold for any bytes. Used by the fuzz targets and, on the kept corpora, by `tests/fuzz_corpus.rs`.

use std::time::Duration;

use multistore::command::acl::Acl;
use multistore::command::{Args, Keys, Lookup, Table, classify, glob, keys, other_db, timeout};
use multistore::compare;
use multistore::config::Config;
use multistore::mirror::{self, Extra};
use multistore::resp::reply::{ReplyError, ReplyLimits, ReplyScanner, Scanned};
use multistore::resp::request::{Decoded, Decoder, ProtocolError, Request, RequestLimits};
use multistore::resp::value::OwnedValue;
use multistore::route;

/// Small enough that a few bytes reach every limit.
const REQUEST_LIMITS: RequestLimits =
    RequestLimits { max_bulk: 512, max_args: 64, max_inline: 256, max_request: 2048, unauthenticated: false };

fn reply_limits() -> ReplyLimits {
    ReplyLimits { max_depth: 16, max_bulk: 1024, max_elements: 256, max_reply: 4096 }
}

/// One thing that a decoder found in a stream.
#[derive(Debug, PartialEq)]
enum Found {
    Request(Vec<Vec<u8>>),
    Nothing,
    Broken(ProtocolError),
}

/// Any split of a stream gives the same requests; what is found encodes to what is found again.
pub fn request(data: &[u8]) {
    let (first, stream) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let whole = requests(stream, &[], &REQUEST_LIMITS);
    assert_eq!(whole, requests(stream, &[1], &REQUEST_LIMITS), "byte by byte");
    assert_eq!(whole, requests(stream, &[usize::from(first % 13) + 2], &REQUEST_LIMITS), "in pieces");
    for found in &whole {
        let Found::Request(args) = found else { continue };
        let mut frame = Vec::new();
        multistore::resp::encode::command(&mut frame, args);
        let mut decoder = Decoder::new();
        let wide =
            RequestLimits { max_bulk: 1 << 20, max_args: 1 << 20, max_request: 1 << 22, ..REQUEST_LIMITS };
        let decoded = decoder.decode(&frame, &wide);
        assert_eq!(decoded, Ok(Decoded::Request { len: frame.len(), canonical: true }));
        let again: Vec<Vec<u8>> =
            Request { frame: &frame, args: decoder.spans() }.iter().map(<[u8]>::to_vec).collect();
        assert_eq!(again, *args);
    }
}

/// The requests of a stream that arrives in pieces: of these many bytes, in turns.
fn requests(stream: &[u8], steps: &[usize], limits: &RequestLimits) -> Vec<Found> {
    let (mut found, mut decoder) = (Vec::new(), Decoder::new());
    let (mut start, mut end) = (0, 0);
    let mut steps = steps.iter().cycle();
    loop {
        let buf = &stream[start..end];
        match decoder.decode(buf, limits) {
            Ok(Decoded::Incomplete) if end == stream.len() => return found,
            Ok(Decoded::Incomplete) => {
                end = steps.next().map_or(stream.len(), |step| end.saturating_add(*step).min(stream.len()));
            }
            Ok(Decoded::Nothing { len }) => {
                assert!(len > 0 && len <= buf.len());
                found.push(Found::Nothing);
                start += len;
            }
            Ok(Decoded::Request { len, canonical }) => {
                assert!(len > 0 && len <= buf.len());
                let request = Request { frame: buf, args: decoder.spans() };
                let args: Vec<Vec<u8>> = request.iter().map(<[u8]>::to_vec).collect();
                let mut encoded = Vec::new();
                request.encode(&mut encoded);
                assert_eq!(canonical, encoded == buf[..len], "canonical is what an encoder writes");
                found.push(Found::Request(args));
                start += len;
            }
            Ok(Decoded::Inline { len }) => {
                assert!(len > 0 && len <= buf.len());
                found.push(Found::Request(decoder.inline_args().to_vec()));
                start += len;
            }
            Err(error) => {
                found.push(Found::Broken(error));
                return found;
            }
        }
    }
}

/// Streams of valid requests of every form, arbitrarily cut: they are found as they were made, one by one, and the
/// redis-protocol crate sees the same frames. The first eight bytes say how the stream is cut, the rest what is in it.
pub fn stream(data: &[u8]) {
    let (cuts, script) = data.split_at(data.len().min(8));
    let (stream, expected) = made(script);
    let steps: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % 61 + 1).collect();
    let limits = RequestLimits { unauthenticated: false, ..RequestLimits::default() };
    for steps in [&steps[..], &[], &[1]] {
        let found = requests(&stream, steps, &limits);
        assert_eq!(found, expected, "{steps:?}: {}", stream.escape_ascii());
    }
    let (mut rest, mut seen) = (stream.as_slice(), Vec::new());
    while rest.first() == Some(&b'*') {
        let Ok(Some((frame, len))) = redis_protocol::resp2::decode::decode_range(rest) else { break };
        seen.push((frame, rest));
        rest = &rest[len..];
    }
    for ((frame, at), found) in seen.iter().zip(&expected) {
        use redis_protocol::resp2::types::RangeFrame;
        let RangeFrame::Array(items) = frame else { break };
        let words = items.iter().filter_map(|item| match item {
            RangeFrame::BulkString((start, end)) => Some(at[*start..*end].to_vec()),
            _ => None,
        });
        let theirs: Vec<Vec<u8>> = words.collect();
        match found {
            Found::Request(ours) => assert_eq!(*ours, theirs),
            _ => assert!(theirs.is_empty()),
        }
    }
}

/// A stream that `script` describes, and what is in it.
fn made(script: &[u8]) -> (Vec<u8>, Vec<Found>) {
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    let mut rest = script;
    while let Some((what, tail)) = rest.split_first() {
        let count = usize::from(what >> 3) % 7;
        rest = tail;
        match what % 8 {
            0..=3 => {
                let mut args = Vec::new();
                for _ in 0..=count {
                    let len = rest.first().map_or(0, |len| usize::from(*len) % 40);
                    let arg = rest.get(1..1 + len).unwrap_or_default();
                    rest = rest.get(1 + arg.len()..).unwrap_or_default();
                    args.push(arg.to_vec());
                }
                multistore::resp::encode::command(&mut stream, &args);
                expected.push(Found::Request(args));
            }
            4 | 5 => {
                let words: Vec<Vec<u8>> =
                    (0..=count).map(|word| vec![b'a' + (what % 20); word + 1]).collect();
                stream.extend_from_slice(&words.join(&b' '));
                stream.extend_from_slice(if *what % 3 == 0 { b"\n" } else { b"\r\n" });
                expected.push(Found::Request(words));
            }
            6 => {
                stream.extend_from_slice(if *what % 3 == 0 { b"\n" } else { b"\r\n" });
                expected.push(Found::Nothing);
            }
            _ => {
                stream.extend_from_slice(if *what % 3 == 0 { b"*-1\r\n" } else { b"*0\r\n" });
                expected.push(Found::Nothing);
            }
        }
    }
    (stream, expected)
}

/// Any split of a stream gives the same replies, and where the redis-protocol crate sees a frame of RESP2, so do we.
pub fn reply(data: &[u8]) {
    let (first, stream) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let (whole, error) = replies(stream, &[]);
    for steps in [&[1][..], &[usize::from(first % 13) + 2], &[usize::from(first >> 4) + 1, 1, 40]] {
        let (pieces, broken) = replies(stream, steps);
        assert_eq!((&whole, error.is_some()), (&pieces, broken.is_some()), "{steps:?} bytes at a time");
    }
    let mut start = 0;
    for len in &whole {
        let frame = &stream[start..start + len];
        if let Ok(Some((_, theirs))) = redis_protocol::resp2::decode::decode_range(frame) {
            assert_eq!(theirs, *len, "{}", frame.escape_ascii());
        }
        // Takes it apart or says why not.
        let _ = OwnedValue::parse(frame);
        start += len;
    }
}

fn replies(stream: &[u8], steps: &[usize]) -> (Vec<usize>, Option<ReplyError>) {
    let (mut found, mut scanner) = (Vec::new(), ReplyScanner::new());
    let (mut start, mut end) = (0, 0);
    let mut steps = steps.iter().cycle();
    loop {
        let buf = &stream[start..end];
        match scanner.scan(buf, &reply_limits()) {
            Ok(Scanned::Incomplete) => {
                assert!(scanner.certain(buf.len()) <= buf.len());
                if end == stream.len() {
                    return (found, None);
                }
                end = steps.next().map_or(stream.len(), |step| end.saturating_add(*step).min(stream.len()));
            }
            Ok(Scanned::Complete { len, .. }) => {
                assert!(len > 0 && len <= buf.len());
                found.push(len);
                start += len;
            }
            Err(error) => return (found, Some(error)),
        }
    }
}

/// A configuration is understood or refused with a place and a reason; what is understood stays what it is.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that it names are read: only those that cannot exist.
    if text.contains("_file") || text.contains("cert") || text.contains("_ca") || text.contains("key") {
        return;
    }
    match Config::from_toml("proxy.toml", text) {
        Ok(loaded) => {
            let again = Config::from_toml("proxy.toml", text);
            assert!(again.is_ok_and(|again| again.config == loaded.config));
            assert!(loaded.config.clone().reloaded(loaded.config).is_ok());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whatever a request says: it is classified, routed and mirrored without a panic, and its keys are its arguments.
pub fn command(data: &[u8]) {
    thread_local!(static TABLE: Table = Table::builtin());
    let args: Vec<&[u8]> = data.split(|byte| *byte == b' ' || *byte == 0).take(64).collect();
    let args = args.as_slice();
    if args.first().is_none_or(|name| name.is_empty()) {
        return;
    }
    TABLE.with(|table| {
        let Lookup::Command(id) = table.lookup(args) else { return };
        let spec = table.spec(id);
        let effect = classify(spec, args);
        let _ = (route::route(spec, &effect, args), other_db(spec, args), timeout(spec, args));
        let mut found = Keys::new();
        let listed = keys(spec, args, &mut found);
        if listed.is_ok() && spec.arity_ok(args.argc()) {
            assert!(found.iter().all(|key| args.arg(key.arg as usize).is_some()), "{args:?}");
        }
        for words in [["+@all", "~a*"], ["+@read", "%R~[a-c]*"]] {
            let acl = Acl::parse(words).expect("valid words");
            let _ = acl.denies(spec, args, listed.is_ok().then_some(&found));
        }
        if let mirror::Way::Derived(derivation) = mirror::way(spec, args) {
            let replies: [&[u8]; 7] = [
                b"$-1\r\n",
                b":3\r\n",
                b"$3\r\n1-1\r\n",
                b"*0\r\n",
                b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
                b"*1\r\n*2\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
                b"-ERR no\r\n",
            ];
            for reply in replies {
                let _ = mirror::derive(derivation, args, reply, Extra::default());
            }
        }
        let (pattern, text) = (args[0], args.last().copied().unwrap_or_default());
        let _ = glob::matches(pattern, text) || glob::matches(text, pattern);
    });
}

/// Any bytes may be the source of a script.
pub fn script(data: &[u8]) {
    let traits = mirror::script::analyse(data);
    assert_eq!(traits, mirror::script::analyse(data));
    let _ = traits.way();
}

/// Comparing is symmetric, and anything equals itself, whatever the rule and however broken the replies.
pub fn compare(data: &[u8]) {
    use multistore::command::{Miss, Rule, Tick};
    let middle = data.first().map_or(0, |first| usize::from(*first)).min(data.len());
    let (a, b) = data.split_at(middle);
    for rule in [
        Rule::Exact,
        Rule::Multiset,
        Rule::PairsMultiset,
        Rule::ScanPage,
        Rule::ScanPairsPage,
        Rule::Tolerance(Tick::Seconds),
        Rule::Numbers,
    ] {
        let tolerance = Duration::from_secs(1);
        let there = compare::equal(rule, a, b, tolerance);
        assert_eq!(there, compare::equal(rule, b, a, tolerance), "{rule:?}");
        let _ = compare::equal(rule, a, a, tolerance);
    }
    let _ = compare::is_miss(Miss::Nil, a, None);
    let _ = compare::merge_mget(a, b, |_| compare::Prefer::PrimaryElseSecondary);
}
