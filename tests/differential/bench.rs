//! Conversations, and the comparison of what came of them.

use crate::normal::normalised;
use crate::support::*;

/// One request and how many replies it is owed.
#[derive(Clone, Debug)]
pub struct Request {
    pub bytes: Vec<u8>,
    pub replies: usize,
}

/// What one client says.
#[derive(Clone, Debug)]
pub struct Talk {
    pub name: String,
    pub requests: Vec<Request>,
    /// Also request by request? Not where there is nothing to wait for.
    pub stepped: bool,
}

/// How many conversations that differ a failure shows.
const SHOWN: usize = 30;

// === impl Request ===

impl Request {
    /// Words divided by blanks; `\s \r \n \0 \q` stand for a blank, line ends, a zero byte and nothing at all.
    /// `2: …` is owed two replies, `0: …` none.
    pub fn parse(line: &str) -> Request {
        let (replies, line) = match line.split_once(": ") {
            Some((count, rest)) if count.parse::<usize>().is_ok() => (count.parse().expect("a number"), rest),
            _ => (1, line),
        };
        Request { bytes: encode(&words(line)), replies }
    }

    /// Exactly these bytes.
    pub fn raw(bytes: &[u8], replies: usize) -> Request {
        Request { bytes: bytes.to_vec(), replies }
    }
}

/// The words of a line, its escapes replaced.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let unescape = |word: &str| {
        let word = word.replace("\\s", " ").replace("\\r", "\r").replace("\\n", "\n");
        word.replace("\\0", "\0").replace("\\q", "").into_bytes()
    };
    line.split_whitespace().map(unescape).collect()
}

// === impl Talk ===

impl Talk {
    /// One request a line.
    pub fn of(text: &str) -> Talk {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let requests = lines.iter().map(|line| Request::parse(line)).collect();
        Talk { name: lines.join(" / "), requests, stepped: true }
    }

    /// Bytes that are no well-formed requests: sent in one write only.
    pub fn raw(name: &str, bytes: &[u8]) -> Talk {
        Talk { name: name.to_owned(), requests: vec![Request::raw(bytes, 0)], stepped: false }
    }
}

/// A lone server, and two more behind a proxy.
pub struct Bench {
    pub lone: RedisServer,
    pub pair: Pair,
    ended: Option<Stage>,
}

// === impl Bench ===

impl Bench {
    pub fn start() -> Bench {
        // Time runs out ten times as exactly as by default, scripts can be killed and replicas fed at once.
        let server = || {
            RedisServer::start_with(&[
                "--hz",
                "100",
                "--busy-reply-threshold",
                "50",
                "--repl-diskless-sync-delay",
                "0",
            ])
        };
        let pair = Pair::over(server(), server(), Stage::SecondaryOnly, &[]);
        Bench { lone: server(), pair, ended: None }
    }

    /// Holds every talk with the lone server and, in every stage, with the proxy; `before` comes first each time.
    #[track_caller]
    pub fn compare(&mut self, before: &str, talks: &[Talk]) {
        let expected: Vec<[Vec<u8>; 2]> =
            talks.iter().map(|talk| both_ways(self.lone.port(), before, talk)).collect();
        let mut differing: Vec<String> = Vec::new();
        let mut told_of = vec![false; talks.len()];
        self.in_each_stage(|bench, stage| {
            for (at, (talk, expected)) in talks.iter().zip(&expected).enumerate() {
                let found = both_ways(bench.pair.proxy.port(), before, talk);
                for (way, (expected, found)) in ["whole", "stepped"].iter().zip(expected.iter().zip(&found)) {
                    // The first difference of a talk tells the most.
                    if expected != found && !std::mem::replace(&mut told_of[at], true) {
                        differing.push(told(stage, way, talk, expected, found));
                    }
                }
            }
        });
        let count = differing.len();
        differing.truncate(SHOWN);
        assert!(count == 0, "{count} of {} conversations differ:\n\n{}", talks.len(), differing.join("\n\n"));
    }

    /// Through all stages and, the next time, back: one step at a time is all that the proxy allows.
    #[track_caller]
    pub fn in_each_stage(&mut self, mut check: impl FnMut(&mut Bench, Stage)) {
        let mut stages = Stage::ALL;
        if self.ended == Some(Stage::PrimaryOnly) {
            stages.reverse();
        }
        for stage in stages {
            self.pair.stage(stage);
            check(self, stage);
        }
        self.ended = stages.last().copied();
    }
}

fn told(stage: Stage, way: &str, talk: &Talk, expected: &[u8], found: &[u8]) -> String {
    let same = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(60);
    let shown = |bytes: &[u8]| bytes[from.min(bytes.len())..].iter().take(300).copied().collect::<Vec<u8>>();
    let name: String = talk.name.chars().take(300).collect();
    format!(
        "{stage}, {way}: {name}\n  alone: …{}\n  proxy: …{}",
        shown(expected).escape_ascii(),
        shown(found).escape_ascii()
    )
}

fn both_ways(port: u16, before: &str, talk: &Talk) -> [Vec<u8>; 2] {
    prepare(port, before);
    let whole = hold(port, &talk.requests, false);
    if !talk.stepped {
        return [whole, Vec::new()];
    }
    prepare(port, before);
    [whole, hold(port, &talk.requests, true)]
}

/// The same state everywhere.
#[track_caller]
pub fn prepare(port: u16, before: &str) {
    let mut client = Client::connect(port);
    let lines = ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"].into_iter().chain(before.lines());
    let requests: Vec<Request> =
        lines.map(str::trim).filter(|line| !line.is_empty()).map(Request::parse).collect();
    let bytes: Vec<u8> = requests.iter().flat_map(|request| request.bytes.clone()).collect();
    client.send_raw(&bytes);
    for reply in client.read_replies(requests.len()) {
        assert!(!reply.is_error(), "cannot prepare: {reply:?}");
    }
}

/// Everything that comes back, normalised.
#[track_caller]
fn hold(port: u16, requests: &[Request], stepped: bool) -> Vec<u8> {
    let mut client = Client::connect(port);
    let mut came = Vec::new();
    if stepped {
        for request in requests {
            // The other side may have hung up already: that shows in what came.
            let _ = client.try_send_raw(&request.bytes);
            for _ in 0..request.replies {
                match client.try_read_raw_reply() {
                    Ok(reply) => came.extend_from_slice(&reply),
                    Err(_) => break,
                }
            }
        }
    } else {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| request.bytes.clone()).collect();
        let _ = client.try_send_raw(&bytes);
    }
    client.close_write();
    came.extend_from_slice(&client.expect_closed());
    normalised(&came)
}
