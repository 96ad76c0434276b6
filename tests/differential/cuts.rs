//! Streams of several frames that arrive in pieces, cut anywhere: requests on their way in, and replies on their way
//! from the stores.
//!
//! The same seed makes the same streams; `DIFFERENTIAL_SEEDS=1..1001` looks further.

use crate::bench::{Bench, prepare};
use crate::generated::seeds_or;
use crate::normal::normalised;
use crate::support::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;

/// Streams of requests per stage.
const SEEDS: Range<u64> = 1..41;
/// Frames of a stream.
const FRAMES: usize = 6;
/// The longest pieces that the cutting relay hands on at once: as often short as long.
const LONGEST_PIECES: [usize; 2] = [9, 4096];

/// Requests in every shape.
const SHAPES: &[&[u8]] = &[
    b"*1\r\n$4\r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\0*\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b"*2\r\n$4\r\nECHO\r\n$14\r\n*1\r\n$4\r\nPING\r\n\r\n",
    b"*2\r\n$4\r\nINCR\r\n$01\r\nn\r\n",
    b"*1\rX$4\rYPING\rZ",
    b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n",
    b"INCR n\r\n",
    b"RPUSH l 'a\\r' \"b\\n\\x00\"\n",
    b"*2\r\n$4\r\nLLEN\r\n$1\r\nl\r\n",
    b"*1\r\n$5\r\nMULTI\r\n",
    b"*1\r\n$4\r\nEXEC\r\n",
    b"BOGUS x\r\n",
    b"*2\r\n$1\r\n\r\r\n$0\r\n\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"\r\n",
    b"\n",
    b"  \r\n",
];

/// A stream and where it is cut.
fn stream(seed: u64) -> (Vec<u8>, Vec<usize>) {
    let dice = &mut Numbers(seed);
    let mut stream: Vec<u8> = (0..FRAMES).flat_map(|_| dice.pick(SHAPES).iter().copied()).collect();
    // Shows that the stream is in step.
    stream.extend(encode(&["ECHO", "end"]));
    let mut cuts: Vec<usize> = (0..1 + dice.below(4)).map(|_| dice.below(stream.len())).collect();
    cuts.sort_unstable();
    (stream, cuts)
}

fn shown(stream: &[u8], cuts: &[usize]) -> String {
    let mut bounds = vec![0];
    bounds.extend_from_slice(cuts);
    bounds.push(stream.len());
    let pieces = bounds.windows(2).map(|ends| stream[ends[0]..ends[1]].escape_ascii().to_string());
    pieces.collect::<Vec<_>>().join(" | ")
}

/// Sends the stream piece by piece. The clock's answer tells that a piece has been read before the next is sent: one
/// thread serves both clients.
fn said(port: u16, clock: &mut Client, stream: &[u8], cuts: &[usize]) -> String {
    prepare(port, "SET k v");
    let mut client = Client::connect(port);
    let mut from = 0;
    for cut in cuts.iter().copied().chain([stream.len()]) {
        if client.try_send_raw(&stream[from..cut]).is_err() {
            break;
        }
        from = cut;
        assert_eq!(clock.words("PING"), Value::simple("PONG"));
    }
    client.close_write();
    normalised(&client.expect_closed()).escape_ascii().to_string()
}

#[test]
fn requests_cut_anywhere() {
    let mut bench = Bench::start();
    let mut clock = bench.lone.client();
    let streams: Vec<_> = seeds_or(SEEDS).map(|seed| (seed, stream(seed))).collect();
    let expected: Vec<String> =
        streams.iter().map(|(_, (bytes, _))| said(bench.lone.port(), &mut clock, bytes, &[])).collect();
    bench.in_each_stage(|bench, stage| {
        let mut clock = bench.pair.client();
        for ((seed, (bytes, cuts)), expected) in streams.iter().zip(&expected) {
            let found = said(bench.pair.proxy.port(), &mut clock, bytes, cuts);
            assert_eq!(found, *expected, "{stage}, seed {seed}: {}", shown(bytes, cuts));
        }
    });
}

/// Inline, empty and canonical frames beside each other, cut at every two places; each pair of cuts in one of the stages.
#[test]
fn every_two_cuts_of_a_short_stream() {
    let stream = b"*1\r\n$4\r\nPING\r\n\r\nECHO a\n*0\r\n*2\r\n$4\r\nECHO\r\n$1\r\nb\r\n";
    let mut bench = Bench::start();
    let mut clock = bench.lone.client();
    let expected = said(bench.lone.port(), &mut clock, stream, &[]);
    bench.in_each_stage(|bench, stage| {
        let mut clock = bench.pair.client();
        let mut client = bench.pair.client();
        for from in 1..stream.len() {
            let here = |to: &usize| (from + to) % Stage::ALL.len() == stage as usize % Stage::ALL.len();
            for to in (from..stream.len()).filter(here) {
                let mut rest = &stream[..];
                for piece in [from, to - from, stream.len() - to] {
                    let (piece, tail) = rest.split_at(piece);
                    client.send_raw(piece);
                    assert_eq!(clock.words("PING"), Value::simple("PONG"));
                    rest = tail;
                }
                let replies: Vec<u8> = (0..3).flat_map(|_| client.read_raw_reply()).collect();
                assert_eq!(
                    replies.escape_ascii().to_string(),
                    expected,
                    "{stage}: {}",
                    shown(stream, &[from, to])
                );
            }
        }
        client.close_write();
        assert_eq!(client.expect_closed(), b"", "{stage}: more than was asked for");
    });
}

/// Stands before a store and hands on what it says, a few bytes at a time. Its threads end with the connections.
fn relay_that_cuts(store: u16, seed: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for (at, client) in listener.incoming().enumerate() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", store))) else { return };
            let (from_client, to_server) = (client.try_clone(), server.try_clone());
            let (Ok(from_client), Ok(to_server)) = (from_client, to_server) else { return };
            std::thread::spawn(move || hand_on(from_client, to_server, None));
            std::thread::spawn(move || hand_on(server, client, Some(Numbers(seed + at as u64))));
        }
    });
    port
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, mut dice: Option<Numbers>) {
    let _ = to.set_nodelay(true);
    let mut buf = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buf) {
        let mut rest = &buf[..count];
        while !rest.is_empty() {
            let piece = dice.as_mut().map_or(rest.len(), |dice| {
                let longest = dice.pick(&LONGEST_PIECES);
                1 + dice.below(rest.len().min(longest))
            });
            if to.write_all(&rest[..piece]).is_err() {
                return;
            }
            rest = &rest[piece..];
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// What a pipeline gets whose replies have every shape.
fn told(port: u16, hello: &str) -> String {
    prepare(
        port,
        "SET k v\nRPUSH l a b c\nHSET h f 1 g 2\nZADD z 1 a 2.5 b\nXADD s 1-1 f v\nSADD set 1\nSET big 0",
    );
    let mut client = Client::connect(port);
    let large = "x".repeat(40_000);
    let requests: Vec<Vec<u8>> = [
        hello,
        "SUBSCRIBE c",
        "GET k",
        "GET missing",
        "LRANGE l 0 -1",
        "HGETALL h",
        "ZRANGE z 0 -1 WITHSCORES",
        "ZSCORE z b",
        "XRANGE s - +",
        "SMEMBERS set",
        "BOGUS a b",
        "EVAL return\\s{1,{2,'three'},{},false} 0",
        "INCR n",
        "EXISTS missing",
        "MGET k missing k",
        "MULTI",
        "GET k",
        "LPUSH l x",
        "HGETALL missing",
        "EXEC",
        "GET \\q",
        "PING",
    ]
    .iter()
    // A subscriber says nothing else in RESP2.
    .filter(|line| hello == "HELLO 3" || !line.starts_with("SUBSCRIBE"))
    .map(|line| encode(&crate::bench::words(line)))
    .collect();
    let mut bytes = encode(&["SETRANGE", "big", "10", &large]);
    bytes.extend(requests.concat());
    bytes.extend(encode(&["GET", "big"]));
    bytes.extend(encode(&["QUIT"]));
    client.send_raw(&bytes);
    let came = client.expect_closed();
    normalised(&came).escape_ascii().to_string()
}

#[test]
fn replies_cut_anywhere() {
    let (lone, primary, secondary) = (RedisServer::start(), RedisServer::start(), RedisServer::start());
    for seed in seeds_or(1..3).step_by(8) {
        let url =
            |server: &RedisServer| format!("redis://127.0.0.1:{}", relay_that_cuts(server.port(), seed));
        let config = ProxyConfig::new(INSTANCE, &url(&primary), &url(&secondary));
        let mut proxy = Proxy::start(config);
        for stage in Stage::ALL {
            proxy.stage(stage);
            for hello in ["HELLO 2", "HELLO 3"] {
                let expected = told(lone.port(), hello);
                for _ in 0..3 {
                    assert_eq!(told(proxy.port(), hello), expected, "{stage}, seed {seed}, {hello}");
                }
            }
        }
    }
}
