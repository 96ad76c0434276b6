use super::*;

fn parse(frame: &[u8]) -> Result<Value<'_>, ValueError> {
    Value::parse(frame)
}

#[test]
fn every_type() {
    for (frame, value) in [
        (&b"+OK\r\n"[..], Value::Simple(b"OK")),
        (b"-ERR \xff\r\n", Value::Error(b"ERR \xff")),
        (b"!6\r\nERR \xff\n\r\n", Value::Error(b"ERR \xff\n")),
        (b":-5\r\n", Value::Int(-5)),
        (b"$2\r\n\r\n\r\n", Value::Bulk(b"\r\n")),
        (b"$-1\r\n", Value::Nil),
        (b"*-1\r\n", Value::Nil),
        (b"_\r\n", Value::Nil),
        (b",1e5\r\n", Value::Double(b"1e5")),
        (b"#t\r\n", Value::Bool(true)),
        (b"#f\r\n", Value::Bool(false)),
        (b"(123\r\n", Value::BigNumber(b"123")),
        (b"=7\r\ntxt:abc\r\n", Value::Verbatim { format: b"txt", text: b"abc" }),
        (b"*2\r\n:1\r\n*0\r\n", Value::Array(vec![Value::Int(1), Value::Array(vec![])])),
        (b"~2\r\n:1\r\n:1\r\n", Value::Set(vec![Value::Int(1), Value::Int(1)])),
        (b">1\r\n+x\r\n", Value::Push(vec![Value::Simple(b"x")])),
        (
            b"%2\r\n+b\r\n:1\r\n+b\r\n:2\r\n",
            Value::Map(vec![(Value::Simple(b"b"), Value::Int(1)), (Value::Simple(b"b"), Value::Int(2))]),
        ),
        (b"|1\r\n+a\r\n:1\r\n:2\r\n", Value::Int(2)),
        (b"*1\r\n|1\r\n+a\r\n:1\r\n:2\r\n", Value::Array(vec![Value::Int(2)])),
    ] {
        assert_eq!(parse(frame), Ok(value), "{}", frame.escape_ascii());
        for cut in 0..frame.len() {
            assert!(parse(&frame[..cut]).is_err(), "{} cut at {cut}", frame.escape_ascii());
        }
        let longer = [frame, &b"+"[..]].concat();
        assert_eq!(parse(&longer), Err(ValueError::Trailing(1)));
    }
}

#[test]
fn malformed_frames() {
    for frame in [
        &b""[..],
        b"\r\n",
        b"x\r\n",
        b":\r\n",
        b":x\r\n",
        b":9223372036854775808\r\n",
        b"#x\r\n",
        b"_x\r\n",
        b"$-2\r\n",
        b"$99999999999999999\r\n",
        b"$9223372036854775807\r\nx\r\n",
        b"*9223372036854775807\r\n",
        b"*99999999\r\n:1\r\n",
        b"%-1\r\n",
        b"$1\r\nab\r\n",
        b"=2\r\nab\r\n",
        b"=4\r\nabcd\r\n",
        b"*?\r\n",
        b"|1\r\n+a\r\n+b\r\n",
    ] {
        assert!(parse(frame).is_err(), "{}", frame.escape_ascii());
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(parse(&nested(MAX_DEPTH + 1)), Err(ValueError::TooDeep));
    assert_eq!(parse(&nested(1_000_000)), Err(ValueError::TooDeep));
    assert_eq!(parse(&b"|1\r\n".repeat(1_000_000)), Err(ValueError::TooDeep));
    let attributes = [b"|1\r\n+a\r\n+b\r\n".repeat(10_000), b":1\r\n".to_vec()].concat();
    assert_eq!(parse(&attributes), Ok(Value::Int(1)));
}

#[test]
fn accessors() {
    let flat = OwnedValue::parse(b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$2\r\n22\r\n").expect("sound");
    let map = OwnedValue::parse(b"%2\r\n+a\r\n:1\r\n$1\r\nb\r\n$2\r\n22\r\n").expect("sound");
    for value in [flat, map] {
        assert_eq!(value.get("a").and_then(OwnedValue::as_i64), Some(1));
        assert_eq!(value.get("b").and_then(OwnedValue::as_i64), Some(22));
        assert_eq!(value.get("b").and_then(OwnedValue::as_str), Some("22"));
        assert_eq!(value.get("c"), None);
    }
    let error = OwnedValue::parse(b"-ERR \xff\r\n").expect("sound");
    assert!(error.is_error());
    assert_eq!(error.as_bytes(), Some(&b"ERR \xff"[..]));
    assert_eq!(error.error_text().as_deref(), Some("ERR \u{fffd}"));
    assert_eq!(error.as_i64(), None);
    let set = OwnedValue::parse(b"~1\r\n:3\r\n").expect("sound");
    assert_eq!(set.as_array(), Some(&[OwnedValue::Int(3)][..]));
    assert!(OwnedValue::parse(b"+OK\r\n").expect("sound").is_ok());
}
