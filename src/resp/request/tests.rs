use super::*;
use crate::cli::demo::dice::Dice;

/// What a decoder made of a frame, without borrowing from it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Request(Vec<Vec<u8>>, bool),
    Inline(Vec<Vec<u8>>),
    Nothing,
    Error(ProtocolError),
    Incomplete,
}

/// Decodes `stream` as it arrives in chunks, each call seeing a fresh copy of the buffer.
fn decode_chunks(chunks: &[&[u8]], limits: &RequestLimits) -> Vec<(Outcome, usize)> {
    let mut decoder = Decoder::new();
    let mut buf = Vec::new();
    let mut outcomes = Vec::new();
    for chunk in chunks {
        buf = [&buf[..], chunk].concat();
        loop {
            let (outcome, len) = match decoder.decode(&buf, limits) {
                Ok(Decoded::Incomplete) => break,
                Ok(Decoded::Nothing { len }) => (Outcome::Nothing, len),
                Ok(Decoded::Inline { len }) => (Outcome::Inline(decoder.inline_args().to_vec()), len),
                Ok(Decoded::Request { len, canonical }) => {
                    let request = Request { frame: &buf[..len], args: decoder.spans() };
                    let args = request.iter().map(<[u8]>::to_vec).collect();
                    (Outcome::Request(args, canonical), len)
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&buf, limits), Err(error), "an error stays");
                    outcomes.push((Outcome::Error(error), 0));
                    return outcomes;
                }
            };
            outcomes.push((outcome, len));
            buf.drain(..len);
        }
    }
    if !buf.is_empty() {
        outcomes.push((Outcome::Incomplete, buf.len()));
    }
    outcomes
}

fn decode(stream: impl AsRef<[u8]>) -> Vec<Outcome> {
    let whole = decode_chunks(&[stream.as_ref()], &RequestLimits::default());
    whole.into_iter().map(|(outcome, _)| outcome).collect()
}

fn request(args: &[&str]) -> Outcome {
    Outcome::Request(args.iter().map(|arg| arg.as_bytes().to_vec()).collect(), true)
}

fn inline(args: &[&[u8]]) -> Outcome {
    Outcome::Inline(args.iter().map(|arg| arg.to_vec()).collect())
}

const STREAMS: &[&[u8]] = &[
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*1\r\n$4\r\nPING\r\n",
    b"*0\r\n*-1\r\n*-77\r\n\r\n\n*2\r\n$0\r\n\r\n$2\r\n\r\n\r\nPING\r\nget  a\n",
    b"*1\rX$4\rYPINGab*1\r\n$4\r\nPINGxx*1\r\n$4\rzPING\r\n",
    b"set \"a b\\x41\\n\" 'it\\'s'\r\n*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$12\r\n$3\r\nabc\r\n123\r\n*1\r\n!4\r\nPING\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$1\r\na\r\n*x\r\n",
    b"PING\r\nset \"a\r\n",
    b"*1\0\r\n",
    b"PI\0NG\r\n",
    b"*1\r\n$\x001\r\n",
    b"*1\r\n$1\r\na\r\n\r\n*1\r\n$4\r\nPING\r\n",
];

#[test]
fn every_split_point_gives_the_same() {
    for stream in STREAMS {
        let whole = decode_chunks(&[stream], &RequestLimits::default());
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(decode_chunks(&[head, tail], &RequestLimits::default()), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode_chunks(&bytes, &RequestLimits::default()), whole);
    }
}

/// Frames of every kind, short enough that any three of them can be cut everywhere.
const FRAMES: &[&[u8]] = &[
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
    b"*2\r\n$1\r\n*\r\n$2\r\n\r\n\r\n",
    b"*1\r\n$11\r\nfoo bar baz\r\n",
    b"*1\rX$1\rYaZ\n",
    b"*01\r\n$1\r\na\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"\r\n",
    b"\n",
    b" \t\r\n",
    b"PING\r\n",
    b"a 'b\r' \"\\n\"\n",
    b"$1\r\n",
];

fn cut<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let ends = cuts.iter().copied().chain([stream.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts.zip(ends).map(|(start, end)| &stream[start..end]).collect()
}

/// A frame leaves nothing behind that the next one could stumble over, however both arrive.
#[test]
fn every_two_cuts_of_every_two_frames_give_the_same() {
    let tight =
        RequestLimits { max_bulk: 8, max_args: 1, max_inline: 6, max_request: 20, unauthenticated: false };
    for limits in [RequestLimits::default(), tight] {
        for first in FRAMES {
            for second in FRAMES {
                let stream = [*first, *second, &b"*1\r\n$1\r\nz\r\n"[..]].concat();
                let whole = decode_chunks(&[&stream], &limits);
                for from in 0..=stream.len() {
                    for to in from..=stream.len() {
                        let found = decode_chunks(&cut(&stream, &[from, to]), &limits);
                        assert_eq!(found, whole, "{} cut at {from}, {to}", stream.escape_ascii());
                    }
                }
            }
        }
    }
}

#[test]
fn long_streams_cut_anywhere_give_the_same() {
    let mut dice = Dice::new(1);
    let mut below = |bound: usize| dice.below(bound as u64) as usize;
    for _ in 0..3_000 {
        let frames: Vec<&[u8]> = (0..2 + below(8)).map(|_| FRAMES[below(FRAMES.len())]).collect();
        let stream = frames.concat();
        let whole = decode_chunks(&[&stream], &RequestLimits::default());
        let mut cuts: Vec<usize> = (0..below(10)).map(|_| below(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let found = decode_chunks(&cut(&stream, &cuts), &RequestLimits::default());
        assert_eq!(found, whole, "{} cut at {cuts:?}", stream.escape_ascii());
    }
}

#[test]
fn what_the_streams_say() {
    assert_eq!(decode(STREAMS[0]), [request(&["SET", "k", "hello"]), request(&["PING"])]);
    let nothing = Outcome::Nothing;
    assert_eq!(
        decode(STREAMS[1]),
        [
            nothing.clone(),
            nothing.clone(),
            nothing.clone(),
            nothing.clone(),
            nothing,
            request(&["", "\r\n"]),
            inline(&[b"PING"]),
            inline(&[b"get", b"a"]),
        ]
    );
    let sloppy = Outcome::Request(vec![b"PING".to_vec()], false);
    assert_eq!(decode(STREAMS[2]), vec![sloppy; 3]);
    assert_eq!(decode(STREAMS[3]), [inline(&[b"set", b"a bA\n", b"it's"]), request(&["PING"])]);
    assert_eq!(
        decode(STREAMS[4]),
        [request(&["ECHO", "$3\r\nabc\r\n123"]), Outcome::Error(ProtocolError::ExpectedDollar(b'!'))]
    );
    for hidden in &STREAMS[8..11] {
        assert_eq!(decode(hidden), [Outcome::Incomplete], "a NUL hides the end of a line");
    }
}

#[test]
fn inline_words() {
    let words = |line: &[u8]| inline::split(line);
    let some = |args: &[&[u8]]| Some(args.iter().map(|arg| arg.to_vec()).collect::<Vec<_>>());
    assert_eq!(words(b""), some(&[]));
    assert_eq!(words(b" \t\x0b\x0c "), some(&[]));
    assert_eq!(words(b"a\x0bb c"), some(&[b"a\x0bb", b"c"]));
    assert_eq!(words(b"a\"b c\" d"), some(&[b"ab c", b"d"]));
    assert_eq!(words(b"\"\" ''"), some(&[b"", b""]));
    assert_eq!(words(br#""\n\r\t\b\a\\\"\q\xFf\x0g\x""#), some(&[b"\n\r\t\x08\x07\\\"q\xffx0gx"]));
    assert_eq!(words(br"'\n\'\x41'"), some(&[br"\n'\x41"]));
    assert_eq!(words(br"\x41\n"), some(&[br"\x41\n"]));
    assert_eq!(words(b"\xff\xfe"), some(&[b"\xff\xfe"]));
    for broken in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\\", b"\"a\\\"", b"'a\\'", b"x \"\"\"\""] {
        assert_eq!(words(broken), None, "{}", broken.escape_ascii());
    }
}

#[test]
fn limits_hold() {
    let limits =
        RequestLimits { max_bulk: 8, max_args: 3, max_inline: 10, max_request: 40, unauthenticated: false };
    let last = |stream: &[u8]| decode_chunks(&[stream], &limits).pop().map(|(outcome, _)| outcome);
    let error = |error| Some(Outcome::Error(error));
    assert_eq!(last(b"*4\r\n"), error(ProtocolError::InvalidMultibulkLength));
    assert_eq!(last(b"*1\r\n$9\r\n"), error(ProtocolError::InvalidBulkLength));
    assert_eq!(last(b"*11111111111"), error(ProtocolError::TooBigMbulkCount));
    assert_eq!(last(b"*1\r\n$1111111111"), error(ProtocolError::TooBigBulkCount));
    assert_eq!(last(b"*1\r\n$111111111"), Some(Outcome::Incomplete));
    assert_eq!(last(b"ABCDEFGHIJK"), error(ProtocolError::TooBigInline));
    assert_eq!(last(b"ABCDEFGHIJK\n"), error(ProtocolError::TooBigInline));
    assert_eq!(last(b"ABCDEFGHIJ\n"), Some(inline(&[b"ABCDEFGHIJ"])));
    assert_eq!(last(b"A\0CDEFGHIJK\n"), error(ProtocolError::TooBigInline));
    let full = b"*3\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$0\r\n\r\n";
    assert_eq!(full.len(), 38);
    assert!(matches!(last(full), Some(Outcome::Request(..))));
    let over = b"*3\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$3\r\n";
    assert_eq!(last(over), error(ProtocolError::TooBigRequest));
}

#[test]
fn unauthenticated_limits_hold() {
    let limits = RequestLimits::unauthenticated();
    let last = |stream: &[u8]| decode_chunks(&[stream], &limits).pop().map(|(outcome, _)| outcome);
    assert_eq!(last(b"*10\r\n"), Some(Outcome::Incomplete));
    assert_eq!(last(b"*11\r\n"), Some(Outcome::Error(ProtocolError::UnauthenticatedMultibulkLength)));
    assert_eq!(last(b"*99999999999\r\n"), Some(Outcome::Error(ProtocolError::InvalidMultibulkLength)));
    assert_eq!(last(b"*1\r\n$16384\r\n"), Some(Outcome::Incomplete));
    assert_eq!(last(b"*1\r\n$16385\r\n"), Some(Outcome::Error(ProtocolError::UnauthenticatedBulkLength)));
    assert_eq!(last(b"*1\r\n$16385\rx"), Some(Outcome::Error(ProtocolError::UnauthenticatedBulkLength)));
}

#[test]
fn error_texts() {
    let text = |error: ProtocolError| String::from_utf8(error.text()).expect("ASCII");
    assert_eq!(text(ProtocolError::ExpectedDollar(b'x')), "ERR Protocol error: expected '$', got 'x'");
    assert_eq!(text(ProtocolError::ExpectedDollar(b'\r')), "ERR Protocol error: expected '$', got ' '");
    assert_eq!(ProtocolError::ExpectedDollar(0xff).text().last_chunk(), Some(b"\xff'"));
    let mut out = Vec::new();
    ProtocolError::UnbalancedQuotes.encode(&mut out);
    assert_eq!(out, b"-ERR Protocol error: unbalanced quotes in request\r\n");
}

#[test]
fn requests_give_their_arguments() {
    let frame = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let mut decoder = Decoder::new();
    let decoded = decoder.decode(frame, &RequestLimits::default());
    assert_eq!(decoded, Ok(Decoded::Request { len: frame.len(), canonical: true }));
    let request = Request { frame, args: decoder.spans() };
    assert_eq!(
        (request.name(), request.arg(1), request.arg(2), request.argc()),
        (&b"GET"[..], &b"k"[..], &b""[..], 2)
    );
    let mut out = Vec::new();
    request.encode(&mut out);
    assert_eq!(out, frame);
}

#[test]
fn needed_counts_from_the_frame_start() {
    let mut decoder = Decoder::new();
    let head = b"*2\r\n$3\r\nSET\r\n$1000\r\nab";
    assert_eq!(decoder.decode(&head[..10], &RequestLimits::default()), Ok(Decoded::Incomplete));
    assert_eq!(decoder.needed(), Some(13));
    assert_eq!(decoder.decode(head, &RequestLimits::default()), Ok(Decoded::Incomplete));
    assert_eq!(decoder.needed(), Some(20 + 1000 + 2));
    assert_eq!(Decoder::new().needed(), None);
}

/// What lies before `pos` is never looked at again, and what lies behind it is at most one short line or
/// part of an argument: so the work is linear in whatever chunks a frame arrives.
#[test]
fn nothing_is_read_twice() {
    let args = 100_000;
    let mut frame = Vec::new();
    encode::command(&mut frame, &vec![b"x"; args]);
    let mut decoder = Decoder::new();
    for end in (0..frame.len()).step_by(37) {
        let before = decoder.pos;
        assert_eq!(decoder.decode(&frame[..end], &RequestLimits::default()), Ok(Decoded::Incomplete));
        assert!(decoder.pos >= before);
        assert!(end - decoder.pos as usize <= 11, "{} bytes would be read again", end - decoder.pos as usize);
    }
    let whole = decoder.decode(&frame, &RequestLimits::default());
    assert_eq!(whole, Ok(Decoded::Request { len: frame.len(), canonical: true }));
    assert_eq!(decoder.spans().len(), args);
}

#[test]
fn an_endless_line_is_searched_once() {
    for start in [&b"P"[..], b"*", b"*1\r\n$"] {
        let mut decoder = Decoder::new();
        let mut buf = start.to_vec();
        while buf.len() < 60_000 {
            buf.extend_from_slice(&[b'1'; 100]);
            assert_eq!(decoder.decode(&buf, &RequestLimits::default()), Ok(Decoded::Incomplete));
            assert_eq!((decoder.pos + decoder.searched) as usize, buf.len());
        }
    }
}

#[test]
fn an_idle_decoder_is_small() {
    let mut decoder = Decoder::new();
    let mut frame = Vec::new();
    encode::command(&mut frame, &vec![b"x"; 5000]);
    let decoded = decoder.decode(&frame, &RequestLimits::default());
    assert!(matches!(decoded, Ok(Decoded::Request { .. })));
    assert_eq!(decoder.decode(b"", &RequestLimits::default()), Ok(Decoded::Incomplete));
    let heap = decoder.spans.capacity() * size_of::<Span>();
    // Sixteen of them remember how the last frame began.
    assert!(size_of::<Decoder>() + heap <= 112, "{} + {heap}", size_of::<Decoder>());
}

#[test]
fn a_frame_after_a_large_one_keeps_little() {
    let mut decoder = Decoder::new();
    let mut frame = Vec::new();
    encode::command(&mut frame, &vec![b"x"; 5000]);
    assert!(decoder.decode(&frame, &RequestLimits::default()).is_ok());
    assert!(decoder.decode(b"*1\r\n$4\r\nPING\r\n", &RequestLimits::default()).is_ok());
    assert!(decoder.spans.capacity() <= BUSY_SPANS);
}

/// What a decoder remembers of one frame never shows in the next.
#[test]
fn a_decoder_judges_each_frame_as_one_that_has_seen_no_other() {
    let frames: [&[u8]; 14] = [
        b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nabc",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:1\r\nab",
        b"*3\r\n$3\r\nSET\r\x00$1\r\nk\r\n$1\r\na\r\n",
        b"*2\r\n$3\r\nSET\r\n$3\r\nkey\r\n",
        b"*3\r\n$3\r\nset\r\n$3\r\nkey\r\n$1\r\nv\r\n",
        b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
        b"*3\r\n$2\r\nSE\r\n$3\r\nkey\r\n$1\r\nv\r\n",
        b"*3\r\n$6\r\nGETSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        b"*3\r\n$7\r\nPEXPIRE\r\n$1\r\nk\r\n$1\r\n1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"*0\r\n",
        b"PING\r\n",
    ];
    let limits =
        [RequestLimits::default(), RequestLimits { max_args: 2, max_bulk: 2, ..RequestLimits::default() }];
    let judge = |decoder: &mut Decoder, frame: &[u8], limits: &RequestLimits| {
        let judged = decoder.decode(frame, limits);
        let args = judged.as_ref().map_or_else(|_| Vec::new(), |_| decoder.spans().to_vec());
        (judged, args)
    };
    for (first, second) in frames.iter().flat_map(|first| frames.map(|second| (first, second))) {
        for limits in &limits {
            let mut decoder = Decoder::new();
            if !matches!(judge(&mut decoder, first, &RequestLimits::default()).0, Ok(seen) if seen != Decoded::Incomplete)
            {
                continue;
            }
            let (after, args) = judge(&mut decoder, second, limits);
            let (fresh, expected) = judge(&mut Decoder::new(), second, limits);
            assert_eq!(after, fresh, "{first:?} {second:?}");
            if matches!(fresh, Ok(Decoded::Request { .. })) {
                assert_eq!(args, expected, "{first:?} {second:?}");
            }
        }
    }
}
