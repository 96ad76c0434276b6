//! Bytes: inline commands, nothing at all, odd lengths, half requests, and every way to cut a pipeline.

use crate::bench::{Bench, Talk};
use crate::normal::normalised;
use crate::support::*;

#[test]
fn odd_but_valid_bytes() {
    let mut talks = Vec::new();
    let cases: &[(&str, &[u8])] = &[
        ("inline", b"PING\r\nSET k v\r\nGET k\r\n"),
        ("inline, bare line feeds", b"PING\nGET k\nset k 'a b'\nget k\n"),
        ("inline, quotes", b"SET k \"a\\x00\\n\\\"b\"\r\nGET k\r\nECHO ''\r\nECHO \"\"\r\n"),
        ("inline, unknown", b"bogus a b\r\nGET\r\n"),
        ("blank lines", b"\r\n\r\nPING\r\n\r\n\n\nPING\r\n"),
        ("nothing", b""),
        ("a blank line uses a skip up", b"CLIENT REPLY SKIP\r\n\r\nPING\r\nECHO x\r\n"),
        ("so does an empty array", b"CLIENT REPLY SKIP\r\n*0\r\nPING\r\nECHO x\r\n"),
        ("empty arrays", b"*0\r\n*-1\r\n*-5\r\n*1\r\n$4\r\nPING\r\n*0\r\n"),
        ("empty name", b"*1\r\n$0\r\n\r\n*2\r\n$0\r\n\r\n$1\r\nx\r\nPING\r\n"),
        ("an empty argument", b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n"),
        (
            "zero bytes",
            b"*3\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$4\r\n\0\r\n\0\r\n*2\r\n$3\r\nGET\r\n$3\r\na\0b\r\n",
        ),
        (
            "a zero byte in the name",
            b"*1\r\n$5\r\nPI\0NG\r\n*2\r\n$4\r\nGE\0T\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n",
        ),
        ("line ends in the name", b"*1\r\n$6\r\nPI\r\nNG\r\n*1\r\n$4\r\nPING\r\n"),
        ("no line feed", b"*1\rX$4\rXPINGXX*1\r\n$4\r\nPING\r\n"),
        ("half a request", b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\n"),
        ("half a line", b"PING\r\nPING"),
        ("mixed", b"PING\r\n*1\r\n$4\r\nPING\r\nPING x\r\n*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n"),
        ("a name beyond ASCII", b"*2\r\n$3\r\n\xff\xfe\xfd\r\n$2\r\n\xc3\xa9\r\nPING\r\n"),
        ("upper and lower", b"*2\r\n$3\r\ngEt\r\n$1\r\nk\r\n*2\r\n$6\r\ncLiEnT\r\n$7\r\ngetNAME\r\n"),
    ];
    for (name, bytes) in cases {
        talks.push(Talk::raw(name, bytes));
    }
    let long = "x".repeat(200);
    talks.push(Talk::of(&format!("{long} a b\nBOGUS {long} {long}\nGET {long} {long}\nCLIENT {long}")));
    talks.push(Talk::of("BOGUS a\\rb c\\nd e\\0f\nBO\\rGUS\nBO\\0GUS\nCLIENT a\\r\\nb"));
    Bench::start().compare("SET k v", &talks);
}

#[test]
fn protocol_errors_come_behind_what_is_owed() {
    let broken: &[&[u8]] = &[
        b"*x\r\n",
        b"*1x\r\n",
        b"*2147483648\r\n",
        b"*1\r\nPING\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$600000000\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n\r\n",
        b"SET \"a\r\n",
        b"SET 'a\r\n",
        b"SET \"a\"b\r\n",
        b"*\r\n",
        b"*1\r\n$\r\n",
    ];
    let before: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("a read", b"GET k\r\n"),
        ("a write", b"SET k w\r\nINCR n\r\n"),
        ("a transaction", b"MULTI\r\nSET k w\r\n"),
        ("RESP3", b"HELLO 3\r\nGET k\r\n"),
        ("muted", b"CLIENT REPLY OFF\r\nGET k\r\n"),
        ("subscribed", b"SUBSCRIBE a\r\n"),
    ];
    let mut talks = Vec::new();
    for (name, before) in before {
        for broken in broken {
            let bytes = [*before, broken, b"PING\r\n"].concat();
            talks.push(Talk::raw(&format!("{name}, {}", broken.escape_ascii()), &bytes));
        }
    }
    Bench::start().compare("SET k v", &talks);
}

/// Types that only a server sends: requests are arrays of bulk strings, and what is none is an inline command or an error.
#[test]
fn types_of_resp3_from_a_client() {
    let types: &[&[u8]] = &[
        b"*?\r\n$4\r\nPING\r\n.\r\n",
        b"$?\r\n;4\r\nPING\r\n;0\r\n",
        b"*1\r\n$?\r\n;4\r\nPING\r\n;0\r\n",
        b"*2\r\n$4\r\nECHO\r\n$?\r\n;1\r\nx\r\n;0\r\n",
        b"%?\r\n.\r\n",
        b"|1\r\n+key-popularity\r\n,0.5\r\n*1\r\n$4\r\nPING\r\n",
        b"*2\r\n|1\r\n+a\r\n+b\r\n$4\r\nECHO\r\n$1\r\nx\r\n",
        b"*2\r\n$4\r\nECHO\r\n|1\r\n+a\r\n+b\r\n$1\r\nx\r\n",
        b"%1\r\n$4\r\nPING\r\n$1\r\nx\r\n",
        b"~1\r\n$4\r\nPING\r\n",
        b">1\r\n$4\r\nPING\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"(3492890328409238509324850943850943825024385\r\n",
        b"=8\r\ntxt:PING\r\n",
        b"!8\r\nERR PING\r\n",
        b"$4\r\nPING\r\n",
        b"+PING\r\n",
        b"*2\r\n$4\r\nECHO\r\n=5\r\ntxt:x\r\n",
        b"*2\r\n$4\r\nECHO\r\n_\r\n",
        b"*2\r\n$4\r\nECHO\r\n*1\r\n$1\r\nx\r\n",
        b"*2\r\n$4\r\nECHO\r\n#t\r\n",
        b"*2\r\n$4\r\nECHO\r\n,1\r\n",
        b"*2\r\n$4\r\nECHO\r\n(1\r\n",
    ];
    let mut talks = Vec::new();
    for proto in ["2", "3"] {
        for bytes in types {
            let hello = format!("HELLO {proto}\r\nGET k\r\n");
            let all = [hello.as_bytes(), bytes, b"PING\r\n"].concat();
            talks.push(Talk::raw(&format!("RESP{proto}, {}", bytes.escape_ascii()), &all));
        }
    }
    Bench::start().compare("SET k v", &talks);
}

#[test]
fn every_way_to_cut_a_pipeline_in_two() {
    let mut bench = Bench::start();
    let pipeline = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\n\0w\r\n\
        GET k\r\n*0\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*1\r\n$4\r\nEXEC\r\n*1\r\n$7\r\nUNWATCH\r\n\
        *2\r\n$4\r\nLLEN\r\n$1\r\nl\r\nSUBSCRIBE c\r\nPING\r\nUNSUBSCRIBE\r\nRPUSH l x\r\nBLPOP l 0\r\nDEL n k\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let expected = cut(bench.lone.port(), pipeline, pipeline.len());
    bench.in_each_stage(|bench, stage| {
        for at in 0..=pipeline.len() {
            let found = cut(bench.pair.proxy.port(), pipeline, at);
            assert_eq!(
                found.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "{stage}, cut at {at}"
            );
        }
    });
}

/// The pipeline in two writes. The second is made when the first has been read, or there is no telling.
fn cut(port: u16, pipeline: &[u8], at: usize) -> Vec<u8> {
    let mut client = Client::connect(port);
    let (head, tail) = pipeline.split_at(at);
    // A PING of its own makes sure that the head has arrived alone.
    client.send_raw(&[b"PING alone\r\n", head].concat());
    let mut came = client.read_raw_reply();
    client.send_raw(tail);
    let replies = 14;
    for _ in 0..replies {
        came.extend(client.read_raw_reply());
    }
    client.close_write();
    came.extend(client.expect_closed());
    normalised(&came)
}

#[test]
fn requests_byte_by_byte() {
    let mut bench = Bench::start();
    let bytes = b"*2\r\n$4\r\nECHO\r\n$3\r\na\0b\r\nPING\r\n*1\r\n$4\r\nPING\r\n";
    bench.in_each_stage(|bench, _| {
        let mut client = bench.pair.client();
        bytes.iter().for_each(|byte| client.send_raw(&[*byte]));
        client.close_write();
        assert_eq!(client.expect_closed(), b"$3\r\na\0b\r\n+PONG\r\n+PONG\r\n");
    });
}

#[test]
fn browsers_are_hung_up_on() {
    let mut bench = Bench::start();
    for request in [&b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"GET k\r\nHost: x\r\nGET k\r\n"] {
        let said = |mut client: Client| {
            client.send_raw(request);
            client.expect_closed()
        };
        let lone = said(bench.lone.client());
        bench.in_each_stage(|bench, stage| {
            assert_eq!(said(bench.pair.client()), lone, "{stage}");
        });
    }
}

#[test]
fn huge_counts_and_lengths() {
    let many = |count: usize| {
        let mut words = vec!["DEL".to_owned()];
        words.extend((0..count).map(|at| format!("missing:{at}")));
        encode(&words)
    };
    let talks = [
        Talk::raw("as many words as a request may have, and none of them", b"*1048576\r\n"),
        Talk::raw("the largest number", b"*9223372036854775807\r\nPING\r\n"),
        Talk::raw("the smallest number", b"*-9223372036854775808\r\nPING\r\n"),
        Talk::raw("a bulk of 512 MB, and nothing of it", b"*2\r\n$4\r\nECHO\r\n$536870912\r\n"),
        Talk::raw("a byte more", b"*2\r\n$4\r\nECHO\r\n$536870913\r\nPING\r\n"),
        Talk::raw("a plus sign", b"*+1\r\n$4\r\nPING\r\n"),
        Talk::raw("leading zeros", b"*01\r\n$4\r\nPING\r\n"),
        Talk::raw("a blank behind the count", b"*1 \r\n$4\r\nPING\r\n"),
        Talk::raw(
            "an inline command as long as may be",
            &[&b"ECHO "[..], &[b'x'; 60_000], b"\r\nPING\r\n"].concat(),
        ),
        Talk::raw("an inline command without an end", &[b'x'; 70_000]),
        Talk::raw("a count without an end", &[&b"*"[..], &[b'1'; 70_000]].concat()),
        Talk::raw("a length without an end", &[&b"*1\r\n$"[..], &[b'1'; 70_000]].concat()),
        Talk::raw("100,000 words", &[many(100_000), encode(&["PING"])].concat()),
        Talk::raw(
            "10,000 blank lines and empty arrays",
            &[b"\r\n*0\r\n".repeat(10_000), encode(&["PING"])].concat(),
        ),
    ];
    Bench::start().compare("SET k v", &talks);
}

#[test]
fn a_large_value_comes_back_byte_for_byte() {
    large_value(24 * 1024 * 1024 + 13);
}

/// Needs some GB of memory.
#[test]
#[ignore = "moves 512 MB values: make test-differential"]
fn the_largest_value_comes_back_byte_for_byte() {
    large_value(512 * 1024 * 1024);
}

#[track_caller]
fn large_value(size: usize) {
    let value: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
    let mut bench = Bench::start();
    bench.in_each_stage(|bench, stage| {
        let mut client = bench.pair.client().with_patience(SOON * 12);
        assert_eq!(client.call(&[b"SET", &b"large"[..], &value]), Value::ok(), "{stage}");
        let pieces = [b"STRLEN", &b"large"[..]];
        assert_eq!(client.call(&pieces), i64::try_from(size).expect("a size").into(), "{stage}");
        assert!(client.call(&["GET", "large"]) == Value::Bulk(value.clone()), "{stage}: another value");
        if stage.is_dual() {
            // It is copied piece by piece.
            poll_until(SOON * 60, "both stores have it", || {
                [&bench.pair.primary, &bench.pair.secondary]
                    .iter()
                    .all(|store| store.words("STRLEN large") == i64::try_from(size).expect("a size").into())
            });
        }
        assert_eq!(client.call(&["DEL", "large"]), 1.into(), "{stage}");
    });
}
