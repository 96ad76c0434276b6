//! Requests: their sizes, their ends, and where they may be cut.

use super::*;

#[test]
fn requests_beyond_a_limit_get_redis_s_words() {
    let pair = Pair::start_with(
        Stage::SecondaryOnly,
        &["max_bulk = \"1kb\"", "max_args = 16", "max_inline = \"64b\"", "max_request = \"64kb\""],
    );
    let long_inline = format!("SET a {}", "x".repeat(200));
    for (request, error) in [
        (&b"*2\r\n$3\r\nGET\r\n$1025\r\n"[..], "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*17\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'\r\n"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (long_inline.as_bytes(), "-ERR Protocol error: too big inline request\r\n"),
    ] {
        let mut client = pair.client();
        // What is owed comes first.
        client.send_raw(b"SET a 1\r\nGET a\r\n");
        client.send_raw(request);
        let came = client.expect_closed();
        let expected = format!("+OK\r\n$1\r\n1\r\n{error}");
        assert_eq!(String::from_utf8_lossy(&came), expected, "{}", request.escape_ascii());
    }
    // Words of an inline request are not arguments of an array.
    let words = format!("MGET{}\r\n", " a".repeat(20));
    let mut client = pair.client();
    client.send_raw(words.as_bytes());
    assert_eq!(client.read_reply().items().len(), 20);
}

#[test]
fn a_transaction_is_a_request_too() {
    let pair = Pair::start_with(Stage::SecondaryOnly, &["max_request = \"64kb\"", "max_bulk = \"64kb\""]);
    let mut client = pair.client();
    let value = "x".repeat(30_000);
    assert_eq!(client.words("MULTI"), Value::ok());
    assert_eq!(client.call(&["SET", "a", &value]), Value::simple("QUEUED"));
    assert_eq!(client.call(&["SET", "a", &value]), Value::simple("QUEUED"));
    assert!(client.call(&["SET", "a", &value]).error().contains("max_request"));
    assert!(client.words("EXEC").error().starts_with("EXECABORT"));
    assert_eq!(client.words("GET a"), Value::Nil);
}

#[test]
fn a_browser_is_sent_away_before_its_form_runs() {
    let pair = Pair::start();
    for first in ["POST / HTTP/1.1", "Host: localhost"] {
        let mut client = pair.client();
        client.send_raw(format!("{first}\r\nSET form filled\r\nSET form again\r\n").as_bytes());
        assert_eq!(client.expect_closed(), b"");
    }
    let mut client = pair.client();
    assert_eq!(client.words("GET form"), Value::Nil);
}

#[test]
fn a_pipeline_may_be_cut_anywhere() {
    let mut stream = Vec::new();
    for command in [
        &["SET", "key", "a\r\nb"][..],
        &["GET", "key"],
        &["NOSUCH", "x"],
        &["INCR", "key"],
        &["MULTI"],
        &["RPUSH", "list", "a", ""],
        &["LRANGE", "list", "0", "-1"],
        &["EXEC"],
        &["DEL", "list", "key"],
        &["EVAL", "return {1,{2,'x'}}", "0"],
    ] {
        stream.extend(encode(command));
    }
    stream.extend_from_slice(b"*0\r\n\r\nPING  inline\r\n*-1\r\nECHO \"q\\x41\"\r\n");
    let direct = RedisServer::start();
    let mut client = direct.client();
    client.send_raw(&stream);
    client.close_write();
    let expected = client.expect_closed();
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        for cut in 0..=stream.len() {
            let mut client = pair.client();
            let (head, tail) = stream.split_at(cut);
            client.send_raw(head);
            std::thread::yield_now();
            client.send_raw(tail);
            client.close_write();
            let came = client.expect_closed();
            assert_eq!(
                String::from_utf8_lossy(&came),
                String::from_utf8_lossy(&expected),
                "{stage}, cut at {cut}: {}|{}",
                head.escape_ascii(),
                tail.escape_ascii()
            );
        }
        // And byte by byte.
        let mut client = pair.client();
        stream.iter().for_each(|byte| client.send_raw(&[*byte]));
        client.close_write();
        assert_eq!(String::from_utf8_lossy(&client.expect_closed()), String::from_utf8_lossy(&expected));
    }
}

#[test]
fn requests_before_the_end_of_the_stream_are_served() {
    // Behind a command that is waited for, with more behind it than is taken in one turn.
    let pair = Pair::start_with(Stage::SecondaryOnly, &["client_pipeline_max = 10"]);
    let mut client = pair.client();
    let mut requests = Vec::new();
    (0..5).for_each(|_| requests.extend(encode(&["INCR", "counter"])));
    requests.extend(encode(&["AUTH", "password"]));
    (0..1_500).for_each(|_| requests.extend(encode(&["INCR", "counter"])));
    client.send_raw(&requests);
    client.close_write();
    let replies = client.expect_closed();
    let last = replies.escape_ascii().to_string();
    assert!(
        replies.ends_with(b":1505\r\n"),
        "{}",
        last.get(last.len().saturating_sub(80)..).unwrap_or(&last)
    );
}

#[test]
fn a_blocking_command_s_time_may_be_absurd() {
    for stage in [Stage::SecondaryOnly, Stage::DualSecondaryDefault] {
        let (pair, direct) = (Pair::start_in(stage), RedisServer::start());
        for time in ["1e19", "1e15", "-1", "nan", "inf", "x", "9223372036854775807", "1e308"] {
            let mut client = pair.client();
            client.send(&["BLPOP", "list", time]);
            let mut there = direct.client().with_patience(Duration::from_millis(200));
            match there.try_call(&["BLPOP", "list", time]) {
                Ok(error) => assert_eq!(client.read_reply(), error, "{stage} {time}"),
                // There it waits.
                Err(_) => {
                    pair.client().words("RPUSH list element");
                    assert_eq!(client.read_reply(), Value::bulks(&["list", "element"]), "{stage} {time}");
                }
            }
        }
        assert_eq!(pair.proxy.metric("multistore_panics_total", &[]), 0.0);
    }
}

/// What is done with a transaction takes as long as it has commands, not as their square: with that, these would take
/// minutes, and everybody would wait.
#[test]
fn long_transactions_take_no_longer_for_each_command() {
    const COMMANDS: usize = 20_000;
    let words: [fn(usize) -> Vec<String>; 4] = [
        |at| {
            vec![
                "XADD".into(),
                format!("stream{at}"),
                "MAXLEN".into(),
                "~".into(),
                "9".into(),
                "*".into(),
                "f".into(),
                "v".into(),
            ]
        },
        |at| vec!["INCR".into(), format!("count{at}")],
        |at| match at < COMMANDS / 2 {
            true => vec!["SET".into(), format!("both{at}"), "1".into()],
            false => vec!["APPEND".into(), format!("other{at}"), "1".into()],
        },
        |at| vec!["SPOP".into(), format!("set{at}")],
    ];
    let mut pair = Pair::start_with(
        Stage::DualSecondaryDefault,
        &["client_pipeline_max = 100000", "reply_timeout = \"60s\"", "lane_timeout = \"60s\""],
    );
    for stage in [Stage::DualSecondaryDefault, Stage::DualPrimaryDefault] {
        pair.stage(stage);
        for words in words {
            let mut bytes = encode(&["MULTI"]);
            (0..COMMANDS).for_each(|at| bytes.extend(encode(&words(at))));
            bytes.extend(encode(&["EXEC"]));
            let mut client = pair.client().with_patience(Duration::from_secs(60));
            client.send_raw(&bytes);
            let replies = client.read_replies(COMMANDS + 2);
            assert!(matches!(replies.last(), Some(Value::Array(all)) if all.len() == COMMANDS), "{stage}");
            client.words("FLUSHALL");
        }
    }
    pair.assert_equal_stores();
}
