//! Scanner, values and decoder against the decoders of the redis-protocol crate, on random frames.
//!
//! The crate decodes whole frames only, so it says where a complete frame ends; all else is asked of ours. It
//! refuses what it cannot hash (an aggregate as the key of a map or in a set), so such are not made here.

mod support;

use multistore::resp::Proto;
use multistore::resp::encode;
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use multistore::resp::request::{Decoded, Decoder, Request, RequestLimits};
use multistore::resp::value::{MAX_DEPTH, Value};
use redis_protocol::resp2::decode as resp2;
use redis_protocol::resp2::types::RangeFrame as Frame2;
use redis_protocol::resp3::decode::complete as resp3;
use redis_protocol::resp3::types::RangeFrame as Frame3;
use support::Numbers;

/// Writes random frames, and remembers whether RESP2 has all their types.
struct Frames {
    numbers: Numbers,
    proto: Proto,
}

// === impl Frames ===

impl Frames {
    fn frame(&mut self, depth: usize) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, depth);
        out
    }

    fn write(&mut self, out: &mut Vec<u8>, depth: usize) {
        let kinds = match (self.proto, depth) {
            (Proto::Resp2, 0) => 6,
            (Proto::Resp2, _) => 8,
            (Proto::Resp3, 0) => 12,
            (Proto::Resp3, _) => 16,
        };
        let kind = self.numbers.below(kinds);
        match self.proto {
            Proto::Resp3 => self.write_resp3(out, kind, depth),
            Proto::Resp2 if kind >= 6 => self.write_array(out, depth),
            Proto::Resp2 => self.write_scalar(out, kind),
        }
    }

    fn write_resp3(&mut self, out: &mut Vec<u8>, kind: usize, depth: usize) {
        match kind {
            6 => encode::nil(out, Proto::Resp3),
            7 => encode::bool(out, true, Proto::Resp3),
            8 => out.extend_from_slice(b",-1.5e10\r\n"),
            9 => out.extend_from_slice(b"(-123456789012345678901234567890\r\n"),
            10 => self.write_blob(out, b'!', b""),
            11 => self.write_blob(out, b'=', b"txt:"),
            12 => self.write_array(out, depth),
            13 => {
                let pairs = self.numbers.below(4);
                encode::map_header(out, pairs, Proto::Resp3);
                self.write_pairs(out, pairs, depth);
            }
            14 => {
                let items = self.numbers.below(4);
                encode::set_header(out, items, Proto::Resp3);
                (0..items).for_each(|_| self.write_key(out));
            }
            15 => {
                out.extend_from_slice(b"|1\r\n");
                self.write_pairs(out, 1, depth);
                // The crate takes no second attribute, and none for a null.
                self.write_scalar(out, 3);
            }
            scalar => self.write_scalar(out, if scalar > 3 { 3 } else { scalar }),
        }
    }

    fn write_scalar(&mut self, out: &mut Vec<u8>, kind: usize) {
        match kind {
            0 => encode::simple(out, self.numbers.bytes(9)),
            1 => encode::error(out, self.numbers.bytes(9)),
            2 => encode::int(out, self.numbers.next() as i64 >> self.numbers.below(63)),
            3 => encode::bulk(out, self.numbers.bytes(30)),
            4 => encode::nil(out, Proto::Resp2),
            _ => encode::nil_array(out, Proto::Resp2),
        }
    }

    fn write_array(&mut self, out: &mut Vec<u8>, depth: usize) {
        let items = self.numbers.below(5);
        encode::array_header(out, items);
        (0..items).for_each(|_| self.write(out, depth - 1));
    }

    fn write_pairs(&mut self, out: &mut Vec<u8>, pairs: usize, depth: usize) {
        for _ in 0..pairs {
            self.write_key(out);
            self.write(out, depth - 1);
        }
    }

    fn write_key(&mut self, out: &mut Vec<u8>) {
        self.write_scalar(out, 2 + out.len() % 2);
    }

    fn write_blob(&mut self, out: &mut Vec<u8>, marker: u8, prefix: &[u8]) {
        let data = [prefix, &self.numbers.bytes(9)].concat();
        out.extend_from_slice(format!("{}{}\r\n", char::from(marker), data.len()).as_bytes());
        out.extend_from_slice(&data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Where the crate sees the frame's end: `Ok(None)` if it is not there, `Err` if it is no frame.
fn oracle(frame: &[u8], proto: Proto) -> Result<Option<usize>, ()> {
    match proto {
        Proto::Resp2 => resp2::decode_range(frame).map(|found| found.map(|(_, len)| len)).map_err(drop),
        Proto::Resp3 => resp3::decode_range(frame).map(|found| found.map(|(_, len)| len)).map_err(drop),
    }
}

fn scan(frame: &[u8]) -> Result<Option<usize>, ()> {
    match ReplyScanner::new().scan(frame, &ReplyLimits::default()) {
        Ok(Scanned::Complete { len, .. }) => Ok(Some(len)),
        Ok(Scanned::Incomplete) => Ok(None),
        Err(_) => Err(()),
    }
}

fn same_as_resp2(value: &Value<'_>, frame: &Frame2, bytes: &[u8]) -> bool {
    let at = |range: &(usize, usize)| &bytes[range.0..range.1];
    match (value, frame) {
        (Value::Simple(text), Frame2::SimpleString(range)) => *text == at(range),
        (Value::Error(text), Frame2::Error(range)) => *text == at(range),
        (Value::Int(value), Frame2::Integer(number)) => value == number,
        (Value::Bulk(text), Frame2::BulkString(range)) => *text == at(range),
        (Value::Nil, Frame2::Null) => true,
        (Value::Array(items), Frame2::Array(frames)) => {
            items.len() == frames.len()
                && items.iter().zip(frames).all(|(item, frame)| same_as_resp2(item, frame, bytes))
        }
        _ => false,
    }
}

fn same_as_resp3(value: &Value<'_>, frame: &Frame3, bytes: &[u8]) -> bool {
    let at = |range: &(usize, usize)| &bytes[range.0..range.1];
    let all = |items: &[Value<'_>], frames: &[Frame3]| {
        items.len() == frames.len()
            && items.iter().zip(frames).all(|(item, frame)| same_as_resp3(item, frame, bytes))
    };
    match (value, frame) {
        (Value::Simple(text), Frame3::SimpleString { data, .. }) => *text == at(data),
        (Value::Error(text), Frame3::SimpleError { data, .. } | Frame3::BlobError { data, .. }) => {
            *text == at(data)
        }
        (Value::Int(value), Frame3::Number { data, .. }) => value == data,
        (Value::Bulk(text), Frame3::BlobString { data, .. }) => *text == at(data),
        (Value::Nil, Frame3::Null) => true,
        (Value::Bool(value), Frame3::Boolean { data, .. }) => value == data,
        (Value::Double(text), Frame3::Double { data, .. }) => {
            text == &data.to_string().as_bytes() || *data == -1.5e10
        }
        (Value::BigNumber(text), Frame3::BigNumber { data, .. }) => *text == at(data),
        (Value::Verbatim { text, .. }, Frame3::VerbatimString { data, .. }) => *text == at(data),
        (Value::Array(items), Frame3::Array { data, .. }) => all(items, data),
        // The crate forgets order and duplicates.
        (Value::Set(items), Frame3::Set { data, .. }) => items.len() >= data.len(),
        (Value::Map(pairs), Frame3::Map { data, .. }) => pairs.len() >= data.len(),
        _ => false,
    }
}

#[test]
fn random_replies_have_the_crates_boundaries_and_content() {
    for proto in [Proto::Resp2, Proto::Resp3] {
        let mut frames = Frames { numbers: Numbers(proto as u64), proto };
        for _ in 0..3000 {
            let frame = frames.frame(4);
            let shown = frame.escape_ascii().to_string();
            let padded = [&frame[..], b":1\r\n"].concat();
            assert_eq!(oracle(&padded, proto), Ok(Some(frame.len())), "the crate on {shown}");
            assert_eq!(scan(&padded), Ok(Some(frame.len())), "{shown}");
            let value = Value::parse(&frame).unwrap_or_else(|error| panic!("{error}: {shown}"));
            let same = match proto {
                Proto::Resp2 => {
                    matches!(resp2::decode_range(&frame), Ok(Some((other, _))) if same_as_resp2(&value, &other, &frame))
                }
                Proto::Resp3 => {
                    matches!(resp3::decode_range(&frame), Ok(Some((other, _))) if same_as_resp3(&value, &other, &frame))
                }
            };
            assert!(same, "{shown}: {value:?}");
        }
    }
}

#[test]
fn random_chunks_give_the_same_boundaries() {
    let mut frames = Frames { numbers: Numbers(3), proto: Proto::Resp3 };
    for _ in 0..300 {
        let whole: Vec<Vec<u8>> = (0..20).map(|_| frames.frame(4)).collect();
        let stream = whole.concat();
        let mut scanner = ReplyScanner::new();
        let (mut sent, mut buf, mut current, mut found) = (0, Vec::new(), Vec::new(), Vec::new());
        while sent < stream.len() {
            let chunk = (1 + frames.numbers.below(40)).min(stream.len() - sent);
            buf.extend_from_slice(&stream[sent..sent + chunk]);
            sent += chunk;
            while let Scanned::Complete { len, .. } =
                scanner.scan(&buf, &ReplyLimits::default()).expect("sound")
            {
                current.extend(buf.drain(..len));
                found.push(std::mem::take(&mut current));
            }
            let forgotten = frames.numbers.below(scanner.certain(buf.len()) + 1);
            scanner.forget(forgotten);
            current.extend(buf.drain(..forgotten));
        }
        assert_eq!(found, whole);
    }
}

/// Damaged frames: the two never see different ends, and what both see can be read. (For verbatim strings the
/// crate does not ask for the colon behind the format.)
#[test]
fn damaged_replies_never_have_two_ends() {
    for proto in [Proto::Resp2, Proto::Resp3] {
        let mut frames = Frames { numbers: Numbers(40 + proto as u64), proto };
        let (mut complete, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut frame = frames.frame(3);
            for _ in 0..1 + frames.numbers.below(3) {
                let at = frames.numbers.below(frame.len());
                match frames.numbers.below(3) {
                    0 => frame[at] = b"\r\n$*:+-123\0x_#%~>|"[frames.numbers.below(18)],
                    1 => drop(frame.remove(at)),
                    _ => frame.insert(at, b"\r\n$*:+-123\0x_#%~>|"[frames.numbers.below(18)]),
                }
                if frame.is_empty() {
                    break;
                }
            }
            let shown = frame.escape_ascii().to_string();
            match (scan(&frame), oracle(&frame, proto)) {
                (Ok(Some(ours)), Ok(Some(theirs))) => {
                    assert_eq!(ours, theirs, "{shown}");
                    assert!(Value::parse(&frame[..ours]).is_ok() || frame.contains(&b'='), "{shown}");
                    complete += 1;
                }
                (Ok(Some(ours)), Ok(None)) => panic!("ours ends at {ours}, the crate's does not: {shown}"),
                (Err(()), _) => refused += 1,
                _ => {}
            }
        }
        assert!(complete > 100 && refused > 100, "{complete} complete, {refused} refused");
    }
}

#[test]
fn random_commands_decode_to_the_crates_arguments() {
    let mut numbers = Numbers(5);
    for _ in 0..3000 {
        let args: Vec<Vec<u8>> = (0..1 + numbers.below(6)).map(|_| numbers.bytes(20)).collect();
        let mut frame = Vec::new();
        encode::command(&mut frame, &args);
        let Ok(Some((Frame2::Array(theirs), len))) = resp2::decode_range(&frame) else { panic!("a command") };
        let mut decoder = Decoder::new();
        let cut = numbers.below(frame.len());
        assert_eq!(decoder.decode(&frame[..cut], &RequestLimits::default()), Ok(Decoded::Incomplete));
        let decoded = decoder.decode(&frame, &RequestLimits::default());
        assert_eq!(decoded, Ok(Decoded::Request { len, canonical: true }));
        let request = Request { frame: &frame, args: decoder.spans() };
        assert!(request.iter().eq(args.iter().map(Vec::as_slice)));
        let spans = decoder.spans().iter().map(|span| (span.start as usize, span.end as usize));
        assert!(theirs.iter().zip(spans).all(|(frame, span)| *frame == Frame2::BulkString(span)));
    }
}

/// Where the crate's decoder would overflow the stack, ours gives an error.
#[test]
fn depth_is_an_error_not_a_crash() {
    let deep = b"*1\r\n".repeat(200_000);
    assert_eq!(scan(&deep), Err(()));
    assert!(Value::parse(&deep).is_err());
    let bounded = [b"*1\r\n".repeat(MAX_DEPTH), b"$-1\r\n".to_vec()].concat();
    assert_eq!(oracle(&bounded, Proto::Resp2), Ok(Some(bounded.len())));
    assert!(Value::parse(&bounded).is_ok());
}
