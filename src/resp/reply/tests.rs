use super::*;
use crate::cli::demo::dice::Dice;

const LIMITS: ReplyLimits = ReplyLimits { max_depth: 8, max_bulk: 1000, max_elements: 1000, max_reply: 2000 };

/// Frames, and whether they are out of band.
const FRAMES: &[(&[u8], bool)] = &[
    (b"+OK\r\n", false),
    (b"+\r\n", false),
    (b"+a\rb\nc\r\r\n", false),
    (b"-ERR \xff\xfe not text\r\n", false),
    (b":1\r\n", false),
    (b":-12\r\n", false),
    (b"$3\r\nabc\r\n", false),
    (b"$0\r\n\r\n", false),
    (b"$-1\r\n", false),
    (b"$12\r\n+OK\r\n:1\r\n\r\n\r\r\n", false),
    (b"*-1\r\n", false),
    (b"*0\r\n", false),
    (b"_\r\n", false),
    (b"#t\r\n", false),
    (b"#f\r\n", false),
    (b",3.14\r\n", false),
    (b",-inf\r\n", false),
    (b"(3492890328409238509324850943850943825024385\r\n", false),
    (b"!5\r\nERR x\r\n", false),
    (b"=7\r\ntxt:abc\r\n", false),
    (b"*3\r\n:1\r\n$2\r\nab\r\n*2\r\n*0\r\n*1\r\n+x\r\n", false),
    (b"%2\r\n+a\r\n:1\r\n$1\r\nb\r\n~2\r\n:1\r\n:1\r\n", false),
    (b"%0\r\n", false),
    (b"~0\r\n", false),
    (b"|1\r\n+ttl\r\n:5\r\n$1\r\nv\r\n", false),
    (b"|0\r\n:1\r\n", false),
    (b"*2\r\n|1\r\n+a\r\n*1\r\n|1\r\n+x\r\n+y\r\n:9\r\n:1\r\n:2\r\n", false),
    (b"|1\r\n+a\r\n+b\r\n|1\r\n+c\r\n+d\r\n:2\r\n", false),
    (b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", true),
    (b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", true),
    (b"|1\r\n+a\r\n+b\r\n>1\r\n+x\r\n", true),
    (b"*1\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", false),
];

fn complete(len: usize, push: bool) -> Result<Scanned, ReplyError> {
    Ok(Scanned::Complete { len, push })
}

#[test]
fn every_split_point_of_every_frame() {
    for (frame, push) in FRAMES {
        let padded = [frame, &b"+next\r\n"[..]].concat();
        assert_eq!(ReplyScanner::new().scan(&padded, &LIMITS), complete(frame.len(), *push));
        for cut in 0..frame.len() {
            let mut scanner = ReplyScanner::new();
            assert_eq!(scanner.scan(&frame[..cut], &LIMITS), Ok(Scanned::Incomplete), "cut at {cut}");
            assert!(scanner.certain(cut) <= cut);
            assert_eq!(scanner.scan(&padded, &LIMITS), complete(frame.len(), *push), "cut at {cut}");
            assert!(scanner.is_idle());
        }
        let mut scanner = ReplyScanner::new();
        for end in 0..frame.len() {
            assert_eq!(scanner.scan(&frame[..end], &LIMITS), Ok(Scanned::Incomplete));
        }
        assert_eq!(scanner.scan(frame, &LIMITS), complete(frame.len(), *push));
    }
}

/// Forgetting all that is certain after each chunk leaves the same boundaries and loses no byte.
#[test]
fn frames_stream_through_a_small_buffer() {
    let all: Vec<u8> = FRAMES.iter().flat_map(|(frame, _)| frame.iter().copied()).collect();
    for chunk_bytes in 1..40 {
        let mut scanner = ReplyScanner::new();
        let (mut buf, mut sent, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut current = Vec::new();
        for chunk in all.chunks(chunk_bytes) {
            buf.extend_from_slice(chunk);
            while let Scanned::Complete { len, push } = scanner.scan(&buf, &LIMITS).expect("sound") {
                current.extend(buf.drain(..len));
                found.push((std::mem::take(&mut current), push));
            }
            let certain = scanner.certain(buf.len());
            scanner.forget(certain);
            current.extend(buf.drain(..certain));
            assert!(buf.len() < MAX_SHORT_LINE, "only the start of a line may wait");
            sent.extend_from_slice(chunk);
        }
        let expected: Vec<_> = FRAMES.iter().map(|(frame, push)| (frame.to_vec(), *push)).collect();
        assert_eq!(found, expected, "chunks of {chunk_bytes}");
        assert!(scanner.is_idle());
    }
}

/// The frames of a stream that arrives in pieces. The caller forgets what is certain, or keeps it.
fn scan_pieces(pieces: &[&[u8]], forgets: bool) -> Vec<(Vec<u8>, bool)> {
    let (mut scanner, mut buf, mut current, mut found) =
        (ReplyScanner::new(), Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        while let Scanned::Complete { len, push } = scanner.scan(&buf, &LIMITS).expect("sound") {
            current.extend(buf.drain(..len));
            found.push((std::mem::take(&mut current), push));
            assert!(scanner.is_idle());
        }
        if forgets {
            let certain = scanner.certain(buf.len());
            scanner.forget(certain);
            current.extend(buf.drain(..certain));
        }
    }
    assert!(buf.is_empty() && current.is_empty(), "{} is left", buf.escape_ascii());
    found
}

fn owned(frames: &[(&[u8], bool)]) -> Vec<(Vec<u8>, bool)> {
    frames.iter().map(|(frame, push)| (frame.to_vec(), *push)).collect()
}

/// A frame leaves nothing behind that the next one could stumble over, however both arrive.
#[test]
fn every_two_cuts_of_neighbours_give_the_same() {
    for frames in FRAMES.windows(3) {
        let stream: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame.to_vec()).collect();
        for from in 0..=stream.len() {
            for to in from..=stream.len() {
                let pieces = [&stream[..from], &stream[from..to], &stream[to..]];
                for forgets in [false, true] {
                    assert_eq!(scan_pieces(&pieces, forgets), owned(frames), "cut at {from}, {to}");
                }
            }
        }
    }
}

#[test]
fn long_streams_cut_anywhere_give_the_same() {
    let mut dice = Dice::new(1);
    let mut below = |bound: usize| dice.below(bound as u64) as usize;
    for round in 0..3_000 {
        let frames: Vec<(&[u8], bool)> = (0..2 + below(8)).map(|_| FRAMES[below(FRAMES.len())]).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame.to_vec()).collect();
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(1 + below(rest.len().min(20)));
            pieces.push(piece);
            rest = tail;
        }
        assert_eq!(scan_pieces(&pieces, round % 2 == 0), owned(&frames), "{}", stream.escape_ascii());
    }
}

#[test]
fn bytes_that_came_after_the_scan_are_certain_within_a_string() {
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(b"$100\r\nabc", &LIMITS), Ok(Scanned::Incomplete));
    assert_eq!(scanner.certain(9), 9);
    assert_eq!(scanner.certain(50), 50);
    assert_eq!(scanner.certain(500), 6 + 100);
    scanner.forget(50);
    assert_eq!(scanner.certain(500), 56);
    scanner.forget(56);
    assert_eq!(scanner.scan(b"\r\n:1\r\n", &LIMITS), complete(2, false));
}

#[test]
fn what_is_refused() {
    for (bytes, error) in [
        (&b"x"[..], ReplyError::UnknownType(b'x')),
        (b"\0", ReplyError::UnknownType(0)),
        (b"*1\r\n\r\n", ReplyError::UnknownType(b'\r')),
        (b"$?\r\n", ReplyError::Streamed),
        (b"*?\r\n", ReplyError::Streamed),
        (b";3\r\n", ReplyError::Streamed),
        (b".\r\n", ReplyError::Streamed),
        (b"$-2\r\n", ReplyError::InvalidNumber(b'$')),
        (b"$03\r\n", ReplyError::InvalidNumber(b'$')),
        (b"$\r\n", ReplyError::InvalidNumber(b'$')),
        (b"$3\rx", ReplyError::InvalidNumber(b'$')),
        (b"~-1\r\n", ReplyError::InvalidNumber(b'~')),
        (b"%-1\r\n", ReplyError::InvalidNumber(b'%')),
        (b"!-1\r\n", ReplyError::InvalidNumber(b'!')),
        (b"*11111111111111111111111111111111", ReplyError::InvalidNumber(b'*')),
        (b":\r\n", ReplyError::InvalidNumber(b':')),
        (b":1x\r\n", ReplyError::InvalidNumber(b':')),
        (b":1\rx", ReplyError::InvalidNumber(b':')),
        (b"_x\r\n", ReplyError::Malformed(b'_')),
        (b"#x\r\n", ReplyError::Malformed(b'#')),
        (b"$3\r\nabcd\r\n", ReplyError::MissingLineEnd),
        (b"$3\r\nabc\n\r", ReplyError::MissingLineEnd),
    ] {
        let found = ReplyScanner::new().scan(bytes, &LIMITS);
        assert_eq!(found, Err(error), "{}", bytes.escape_ascii());
        let mut scanner = ReplyScanner::new();
        let bytewise = (1..=bytes.len()).find_map(|end| scanner.scan(&bytes[..end], &LIMITS).err());
        assert_eq!(bytewise, Some(error), "{} byte by byte", bytes.escape_ascii());
    }
}

#[test]
fn limits_hold() {
    let scan = |bytes: &[u8]| ReplyScanner::new().scan(bytes, &LIMITS);
    assert_eq!(scan(b"$1000\r\n"), Ok(Scanned::Incomplete));
    assert_eq!(scan(b"$1001\r\n"), Err(ReplyError::TooLong(1000)));
    assert_eq!(scan(&[b"$1001\r\n", &[b'x'; 1001][..], b"\r\n"].concat()), Err(ReplyError::TooLong(1000)));
    assert_eq!(scan(b"*1000\r\n"), Ok(Scanned::Incomplete));
    assert_eq!(scan(b"*1001\r\n"), Err(ReplyError::TooManyElements(1000)));
    assert_eq!(scan(b"%501\r\n"), Err(ReplyError::TooManyElements(1000)));
    assert_eq!(scan(b"*9223372036854775807\r\n"), Err(ReplyError::TooManyElements(1000)));
    assert_eq!(scan(b"%9223372036854775807\r\n"), Err(ReplyError::TooManyElements(1000)));
    assert_eq!(scan(&[b"+", &[b'x'; 1001][..], b"\r\n"].concat()), Err(ReplyError::TooLong(1000)));
    assert_eq!(scan(&[b"-", &[b'x'; 1001][..]].concat()), Err(ReplyError::TooLong(1000)));
    assert_eq!(scan(&b"*1\r\n".repeat(8)), Ok(Scanned::Incomplete));
    assert_eq!(scan(&b"*1\r\n".repeat(9)), Err(ReplyError::TooDeep(8)));
}

#[test]
fn the_size_limit_counts_what_was_forgotten() {
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(b"*1000\r\n", &LIMITS), Ok(Scanned::Incomplete));
    scanner.forget(7);
    let element = b"$90\r\n".iter().copied().chain([b'x'; 90]).chain(*b"\r\n").collect::<Vec<u8>>();
    let mut sent = 7;
    let error = loop {
        match scanner.scan(&element, &LIMITS) {
            Ok(Scanned::Incomplete) => sent += scanner.certain(element.len()),
            other => break other,
        }
        scanner.forget(element.len());
    };
    assert_eq!(error, Err(ReplyError::TooBig(2000)));
    assert!((1900..=2000).contains(&sent), "{sent}");
}

#[test]
fn as_deep_as_a_script_can_answer() {
    let limits = ReplyLimits::default();
    let deep = [b"*1\r\n".repeat(8000), b":1\r\n".to_vec()].concat();
    assert_eq!(ReplyScanner::new().scan(&deep, &limits), complete(deep.len(), false));
    let deeper = b"*1\r\n".repeat(1_000_000);
    assert_eq!(ReplyScanner::new().scan(&deeper, &limits), Err(ReplyError::TooDeep(8192)));
    let pushes = [b">1\r\n".to_vec(), b"*1\r\n".repeat(100), b":1\r\n".to_vec()].concat();
    assert_eq!(ReplyScanner::new().scan(&pushes, &limits), complete(pushes.len(), true));
}

#[test]
fn a_million_elements_cost_linear_steps() {
    let elements = 1_000_000;
    let frame = [format!("*{elements}\r\n").into_bytes(), b"$3\r\nabc\r\n".repeat(elements)].concat();
    let steps = |chunk_bytes: usize| {
        let mut scanner = ReplyScanner::new();
        let mut end = 0;
        loop {
            end = (end + chunk_bytes).min(frame.len());
            match scanner.scan(&frame[..end], &ReplyLimits::default()) {
                Ok(Scanned::Incomplete) => {}
                other => {
                    assert_eq!(other, complete(frame.len(), false));
                    return scanner.steps;
                }
            }
        }
    };
    let whole = steps(frame.len());
    assert!(whole < 3 * elements as u64, "{whole}");
    let calls = |chunk_bytes: usize| (frame.len() / chunk_bytes + 1) as u64;
    for chunk_bytes in [64 * 1024, 1000, 7] {
        let chunked = steps(chunk_bytes);
        assert!(chunked <= whole + calls(chunk_bytes), "{chunked} steps in chunks of {chunk_bytes}");
    }
}

#[test]
fn a_long_line_is_searched_once() {
    let limits = ReplyLimits::default();
    let line = [b"-".to_vec(), vec![b'\r'; 50_000], vec![b'x'; 50_000]].concat();
    let mut scanner = ReplyScanner::new();
    for end in 0..line.len() {
        assert_eq!(scanner.scan(&line[..end], &limits), Ok(Scanned::Incomplete));
    }
    assert!(scanner.steps < 3 * line.len() as u64, "{}", scanner.steps);
}

#[test]
fn an_idle_scanner_forgets_its_depth() {
    let mut scanner = ReplyScanner::new();
    let deep = [b"*1\r\n".repeat(8000), b":1\r\n".to_vec()].concat();
    assert!(scanner.scan(&deep, &ReplyLimits::default()).is_ok());
    assert!(scanner.stack.capacity() <= KEPT_LEVELS);
}
