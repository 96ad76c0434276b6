use super::super::{Miss, is_error, is_miss};
use super::frame;

const NILS: [&str; 3] = ["$-1|", "*-1|", "_|"];

#[track_caller]
fn check(miss: Miss, misses: &[&str], hits: &[&str]) {
    for reply in misses {
        assert!(is_miss(miss, &frame(reply), None), "{miss:?} {reply:?} is a miss");
    }
    for reply in hits {
        assert!(!is_miss(miss, &frame(reply), None), "{miss:?} {reply:?} is a hit");
    }
}

#[test]
fn nothing_is_nil() {
    check(Miss::Nil, &NILS, &["$0||", ":0|", "*0|", "$1|a|", "%0|"]);
    check(Miss::EmptyString, &NILS, &["$1|a|", ":0|", "*0|"]);
    check(Miss::EmptyString, &["$0||", "+|", "=4|txt:|"], &[]);
    check(Miss::OnlyError, &["-ERR x|"], &["$-1|", ":0|", "*0|", "_|"]);
    check(Miss::Never, &[], &["$-1|", ":0|", "*0|", "_|", "-ERR x|"]);
}

#[test]
fn nothing_in_numbers() {
    check(Miss::Zero, &[":0|", "#f|"], &[":1|", "#t|", "$1|0|", "_|", ":-1|", "*0|"]);
    check(Miss::ZeroOrMinusOne, &[":0|", ":-1|"], &[":1|", ":-2|", "_|", "$1|0|"]);
    check(Miss::MinusTwo, &[":-2|", "*2|:-2|:-2|"], &[":-1|", ":0|", ":2|", "*2|:-2|:-1|", "$2|-2|"]);
    check(Miss::TypeNone, &["+none|", "$4|none|"], &["+string|", "+None|", "_|"]);
}

#[test]
fn nothing_in_lists() {
    check(Miss::Empty, &["*0|", "%0|", "~0|", "*-1|", "_|"], &["*1|$-1|", "%1|:1|:1|", "$0||", ":0|"]);
    check(
        Miss::AllNil,
        &["*2|$-1|$-1|", "*2|_|_|", "*1|*-1|", "*0|", "_|"],
        &["*2|$-1|$1|a|", "*2|$1|a|$-1|", "$1|a|", "*1|*0|"],
    );
    check(Miss::AllZero, &["*2|:0|:0|", "*2|#f|#f|"], &["*2|:0|:1|", "*2|:1|:0|", ":0|", "_|"]);
    check(
        Miss::AnyNil,
        &["*2|$1|a|$-1|", "*2|_|$1|a|", "*1|$-1|", "_|"],
        &["*1|$1|a|", "*0|", "$1|a|", "*1|*1|$-1|"],
    );
}

#[test]
fn only_a_first_page_can_miss() {
    let miss = |cursor: Option<&str>, reply: &str| {
        is_miss(Miss::ScanEmpty, &frame(reply), cursor.map(str::as_bytes))
    };
    let empty = "*2|$1|0|*0|";
    assert!(miss(Some("0"), empty));
    assert!(miss(Some("00"), empty));
    assert!(!miss(Some("7"), empty));
    assert!(!miss(Some(""), empty));
    assert!(!miss(None, empty));
    assert!(!miss(Some("0"), "*2|$1|7|*0|"));
    assert!(!miss(Some("0"), "*2|$1|0|*1|$1|a|"));
    assert!(!miss(Some("0"), "*2|$1|0|$-1|"));
    assert!(!miss(Some("0"), "*0|"));
}

const ALL: [Miss; 12] = [
    Miss::OnlyError,
    Miss::ZeroOrMinusOne,
    Miss::Nil,
    Miss::EmptyString,
    Miss::AllNil,
    Miss::AllZero,
    Miss::AnyNil,
    Miss::Zero,
    Miss::Empty,
    Miss::MinusTwo,
    Miss::TypeNone,
    Miss::ScanEmpty,
];

#[test]
fn errors_miss() {
    for error in [&b"-ERR x\r\n"[..], b"!5\r\nERR x\r\n", b"|1\r\n+a\r\n+b\r\n-ERR x\r\n"] {
        assert!(is_error(error));
        for miss in ALL {
            assert!(is_miss(miss, error, None), "{miss:?}");
        }
    }
    assert!(!is_error(b"+OK\r\n"));
    assert!(!is_error(b"|1\r\n+a\r\n-ERR x\r\n:1\r\n"));
    assert!(!is_error(b""));
}

#[test]
fn malformed_is_no_miss() {
    for bad in [
        "",
        "$",
        "$-1",
        "$-1|x",
        "_",
        "_|_|",
        "_x|",
        ":0",
        ":0|:0|",
        "$0|",
        "*0",
        "*0|*0|",
        "*2|$-1|",
        "*2|:0|",
        "*2|:-2|",
        "+none",
        "*3|$1|0|*0|",
        "*2|$1|0|*0",
        "*2|$1|0|*0|x",
        "*2|$-1|$5|a|",
        "*1|$-1|x",
    ] {
        for miss in ALL {
            assert!(!is_miss(miss, &frame(bad), Some(b"0")), "{miss:?} {bad:?}");
        }
    }
}

#[test]
fn attributes_do_not_hide_a_miss() {
    assert!(is_miss(Miss::Nil, b"|1\r\n+ttl\r\n:3600\r\n_\r\n", None));
    assert!(is_miss(Miss::AnyNil, b"*1\r\n|1\r\n+ttl\r\n:3600\r\n_\r\n", None));
}
