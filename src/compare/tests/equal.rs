use super::super::Verdict::{Differ, Same};
use super::super::{Rule, Verdict, equal, equal_exec};
use super::{MILLIS, SECOND, SECONDS, bulks, frame};
use std::time::Duration;

/// Checks both directions: comparison is symmetric.
#[track_caller]
fn check(rule: Rule, rows: &[(&str, &str, Verdict)]) {
    for (a, b, expected) in rows {
        let (x, y) = (frame(a), frame(b));
        assert_eq!(equal(rule, &x, &y, SECOND), *expected, "{rule:?}: {a:?} {b:?}");
        assert_eq!(equal(rule, &y, &x, SECOND), *expected, "{rule:?}, swapped: {a:?} {b:?}");
    }
}

#[test]
fn exact_sees_one_value_in_both_protocols() {
    check(
        Rule::Exact,
        &[
            ("$-1|", "_|", Same),
            ("*-1|", "_|", Same),
            ("$-1|", "*-1|", Same),
            ("#t|", ":1|", Same),
            ("#f|", ":0|", Same),
            ("#t|", ":0|", Differ),
            ("#t|", "#f|", Differ),
            ("+OK|", "$2|OK|", Same),
            ("=6|txt:ab|", "$2|ab|", Same),
            ("=6|txt:ab|", "=6|mkd:ab|", Same),
            ("(123456789012345678901|", "$21|123456789012345678901|", Same),
            (",1.5|", "$3|1.5|", Same),
            (",0.10000000000000001|", "$3|0.1|", Same),
            (",0.1|", ",0.2|", Differ),
            (",inf|", "$3|inf|", Same),
            (",-inf|", ",inf|", Differ),
            (",nan|", "$4|-nan|", Same),
            ("$3|1.5|", "$4|1.50|", Differ),
            (":1|", "$1|1|", Differ),
            (":1|", ",1|", Differ),
            ("$0||", "$-1|", Differ),
            ("*0|", "*-1|", Differ),
            ("~2|$1|a|$1|b|", "*2|$1|a|$1|b|", Same),
            (">2|$1|a|$1|b|", "*2|$1|a|$1|b|", Same),
            ("*2|$1|a|$1|b|", "*2|$1|b|$1|a|", Differ),
            ("*2|$1|a|$1|b|", "*3|$1|a|$1|b|$1|c|", Differ),
            ("%1|$1|a|:1|", "*2|$1|a|:1|", Same),
            ("%1|$1|a|:1|", "*2|$1|a|:2|", Differ),
            ("%0|", "*0|", Same),
            ("*2|*0|:1|", "*2|%0|#t|", Same),
            ("*2|*1|:1|:2|", "*2|:1|*1|:2|", Differ),
        ],
    );
}

#[test]
fn a_map_is_also_an_array_of_pairs() {
    let xread_2 = "*2|*2|$1|s|*1|*2|$3|1-1|*2|$1|f|$1|v|*2|$1|t|*0|";
    let xread_3 = "%2|$1|s|*1|*2|$3|1-1|*2|$1|f|$1|v|$1|t|*0|";
    let other = "%2|$1|s|*1|*2|$3|1-1|*2|$1|f|$1|w|$1|t|*0|";
    check(Rule::Exact, &[(xread_2, xread_3, Same), (xread_2, other, Differ)]);
    check(
        Rule::Exact,
        &[
            ("%2|:1|:2|:3|:4|", "*2|*2|:1|:2|*2|:3|:4|", Same),
            ("%2|:1|:2|:3|:4|", "*2|*2|:1|:2|*2|:3|:5|", Differ),
            ("%2|:1|:2|:3|:4|", "*2|*1|:1|*3|:2|:3|:4|", Differ),
            ("*4|:1|:2|:3|:4|", "*2|*2|:1|:2|*2|:3|:4|", Differ),
        ],
    );
}

#[test]
fn errors_are_equal_by_their_first_word() {
    check(
        Rule::Exact,
        &[
            ("-WRONGTYPE Operation|", "-WRONGTYPE other text|", Same),
            ("-ERR a|", "-WRONGTYPE a|", Differ),
            ("-ERR a|", "!5|ERR b|", Same),
            ("-ERR|", "-ERR a|", Same),
            ("-ERR a|", "+ERR a|", Differ),
            ("-ERR a|", "$-1|", Differ),
            ("*2|:1|-ERR a|", "*2|:1|-ERR b|", Same),
        ],
    );
    for rule in [Rule::Multiset, Rule::PairsMultiset, Rule::ScanPage, MILLIS, Rule::Numbers] {
        check(
            rule,
            &[("-ERR a|", "-ERR b|", Same), ("-ERR a|", "-OOM b|", Differ), ("-ERR a|", "*0|", Differ)],
        );
    }
}

#[test]
fn attributes_are_dropped_wherever_they_stand() {
    let attribute = b"|1\r\n+ttl\r\n*2\r\n:1\r\n|1\r\n+x\r\n+y\r\n:2\r\n";
    let plain = frame("*2|$1|a|$1|b|");
    let with = [&attribute[..], b"*2\r\n", attribute, b"$1\r\na\r\n", attribute, attribute, b"$1\r\nb\r\n"];
    let swapped = [&attribute[..], b"*2\r\n$1\r\nb\r\n", attribute, b"$1\r\na\r\n"];
    assert_eq!(equal(Rule::Exact, &plain, &with.concat(), SECOND), Same);
    assert_eq!(equal(Rule::Exact, &plain, &swapped.concat(), SECOND), Differ);
    assert_eq!(equal(Rule::Multiset, &plain, &swapped.concat(), SECOND), Same);
    assert_eq!(equal(Rule::PairsMultiset, &plain, &with.concat(), SECOND), Same);
    assert_eq!(equal(Rule::Exact, &plain, attribute, SECOND), Differ);
}

#[test]
fn multisets_ignore_order_and_count_duplicates() {
    check(
        Rule::Multiset,
        &[
            ("*2|$1|a|$1|b|", "*2|$1|b|$1|a|", Same),
            ("*2|$1|a|$1|b|", "~2|$1|b|$1|a|", Same),
            ("*3|$1|a|$1|a|$1|b|", "*3|$1|a|$1|b|$1|b|", Differ),
            ("*2|$1|a|$1|b|", "*3|$1|a|$1|b|$1|b|", Differ),
            ("*2|*2|:1|:2|:3|", "*2|:3|*2|:1|:2|", Same),
            ("*2|*2|:1|:2|:3|", "*2|:3|*2|:2|:1|", Differ),
            ("*2|$-1|:1|", "*2|#t|_|", Same),
            ("*2|:1|-ERR a|", "*2|-ERR b|:1|", Same),
            ("*2|:1|-ERR a|", "*2|-OOM a|:1|", Differ),
            ("*0|", "~0|", Same),
            ("*0|", "_|", Differ),
            (":1|", "#t|", Same),
        ],
    );
}

#[test]
fn pairs_stay_together() {
    check(
        Rule::PairsMultiset,
        &[
            ("*4|$1|a|$1|1|$1|b|$1|2|", "*4|$1|b|$1|2|$1|a|$1|1|", Same),
            ("*4|$1|a|$1|1|$1|b|$1|2|", "%2|$1|b|$1|2|$1|a|$1|1|", Same),
            ("%2|$1|a|$1|1|$1|b|$1|2|", "%2|$1|b|$1|2|$1|a|$1|1|", Same),
            ("*4|$1|a|$1|1|$1|b|$1|2|", "*4|$1|a|$1|2|$1|b|$1|1|", Differ),
            ("*3|$1|a|$1|1|$1|b|", "*3|$1|b|$1|1|$1|a|", Differ),
        ],
    );
}

#[test]
fn pages_of_a_scan() {
    check(
        Rule::ScanPage,
        &[
            ("*2|$1|0|*2|$1|a|$1|b|", "*2|$1|0|*2|$1|b|$1|a|", Same),
            ("*2|$1|0|*2|$1|a|$1|b|", "*2|$1|0|*2|$1|b|$1|c|", Differ),
            ("*2|$1|7|*1|$1|a|", "*2|$1|9|*1|$1|c|", Same),
            ("*2|$1|0|*1|$1|a|", "*2|$1|9|*1|$1|c|", Same),
            ("*2|$1|0|*1|$1|a|", "*2|$1|9|:1|", Differ),
            ("*2|$1|0|*1|$1|a|", "*3|$1|9|*0|*0|", Differ),
            ("*2|$1|0|*0|", "_|", Differ),
        ],
    );
}

#[test]
fn pages_of_pairs() {
    check(
        Rule::ScanPairsPage,
        &[
            ("*2|$1|0|*4|$1|a|$1|1|$1|b|$1|2|", "*2|$1|0|*4|$1|b|$1|2|$1|a|$1|1|", Same),
            ("*2|$1|0|*4|$1|a|$1|1|$1|b|$1|2|", "*2|$1|0|*4|$1|a|$1|2|$1|b|$1|1|", Differ),
            ("*2|$1|0|*2|$1|a|$1|1|", "*2|$1|5|*4|$1|a|$1|2|$1|b|$1|1|", Same),
        ],
    );
}

#[test]
fn expiry_times_may_drift_by_the_tolerance() {
    check(
        SECONDS,
        &[
            (":10|", ":11|", Same),
            (":10|", ":12|", Differ),
            (":-1|", ":0|", Differ),
            (":-2|", ":-1|", Differ),
            (":-2|", ":0|", Differ),
            ("*2|:10|:-1|", "*2|:9|:-1|", Same),
            (":10|", "$2|10|", Differ),
            (":9223372036854775807|", ":-9223372036854775808|", Differ),
        ],
    );
    check(MILLIS, &[(":1000|", ":2000|", Same), (":1000|", ":2001|", Differ), (":-1|", ":1|", Differ)]);
    let (ten, eleven, twelve) = (frame(":10|"), frame(":11|"), frame(":12|"));
    for (tolerance, other, expected) in [
        // Rounding to seconds alone makes one.
        (Duration::from_millis(10), &eleven, Same),
        (Duration::from_millis(1001), &twelve, Same),
        (Duration::from_millis(1000), &twelve, Differ),
        (Duration::MAX, &twelve, Same),
    ] {
        assert_eq!(equal(SECONDS, &ten, other, tolerance), expected, "{tolerance:?}");
    }
    assert_eq!(equal(MILLIS, &ten, &eleven, Duration::ZERO), Differ);
    assert_eq!(equal(MILLIS, &ten, &twelve, Duration::MAX), Same);
}

#[test]
fn numbers_are_compared_as_numbers() {
    check(
        Rule::Numbers,
        &[
            ("$3|0.1|", "$19|0.10000000000000001|", Same),
            ("$3|1.5|", ",1.5|", Same),
            ("$1|3|", "$3|3.0|", Same),
            ("$5|1e+17|", "$18|100000000000000000|", Same),
            ("$2|-0|", "$1|0|", Same),
            (":3|", ",3|", Same),
            ("$1|3|", "$1|4|", Differ),
            ("$3|inf|", "$4|-inf|", Differ),
            // Members that look like numbers but are longer than a double is exact, or not printed by a server.
            ("$17|90071992547409931|", "$17|90071992547409932|", Differ),
            ("$3|007|", "$1|7|", Differ),
            ("$5|007.5|", "$3|7.5|", Differ),
            ("$2|+1|", "$3|1.0|", Differ),
            ("$2|1.|", "$3|1.0|", Differ),
            ("$2|1e|", "$1|1|", Differ),
            ("$8|infinity|", "$3|inf|", Differ),
            ("$0||", "$1|0|", Differ),
            ("$1|a|", "$1|b|", Differ),
            ("$-1|", ",0|", Differ),
        ],
    );
}

#[test]
fn scores_are_flat_in_one_protocol_and_pairs_in_the_other() {
    check(
        Rule::Numbers,
        &[
            ("*4|$1|a|$3|1.5|$1|b|$1|2|", "*2|*2|$1|a|,1.5|*2|$1|b|,2|", Same),
            ("*4|$1|a|$3|1.5|$1|b|$1|2|", "*2|*2|$1|a|,1.5|*2|$1|b|,3|", Differ),
            ("*4|$1|a|$3|1.5|$1|b|$1|2|", "*2|*3|$1|a|,1.5|$1|b|,2|", Differ),
            ("*4|$1|a|$3|1.5|$1|b|$1|2|", "*2|$1|a|,1.5|", Differ),
            ("*2|$1|a|$1|1|", "*1|*2|$1|a|,1|", Same),
            ("*2|$1|a|$1|1|", "*1|%1|$1|a|,1|", Differ),
            ("*2|$1|a|$1|1|", "*1|$1|x|$1|a|,1|", Differ),
        ],
    );
}

#[test]
fn ignored_is_always_the_same() {
    check(Rule::Ignore, &[(":1|", ":2|", Same), ("-ERR a|", "*0|", Same), ("x", ":1|", Same)]);
}

#[test]
fn malformed_frames_differ() {
    let good = bulks(&["a", "b"]);
    for bad in [
        "",
        "*",
        "*2|",
        "*2|$1|a|",
        "*2|$1|a|$1|b",
        "*2|$1|a|$1|bb|",
        "*2|$1|a|$2|b|",
        "*-2|",
        "*x|",
        "$5|a|",
        "$-5|",
        "$99999999999999999999|",
        "*9223372036854775807|",
        "%9223372036854775807|",
        "?|",
        ":|",
        ":x|",
        "#x|",
        "_x|",
        "=2|tx|",
        "=-1|",
        "!-1|",
        "+a\r",
        "+a\rb\n",
        "$?|",
        "*?|",
        "*2|$1|a|$1|b|:1|",
        "*2\n$1\na\n$1\nb\n",
    ] {
        for rule in [Rule::Exact, Rule::Multiset, Rule::PairsMultiset, Rule::ScanPage, Rule::Numbers] {
            assert_eq!(equal(rule, &good, &frame(bad), SECOND), Differ, "{rule:?} {bad:?}");
            assert_eq!(equal(rule, &frame(bad), &good, SECOND), Differ, "{rule:?} {bad:?}");
            // Two malformed frames that differ do not agree either.
            let other = [&frame(bad)[..], b"x"].concat();
            assert_eq!(equal(rule, &frame(bad), &other, SECOND), Differ, "{rule:?} {bad:?}");
        }
        assert_eq!(equal_exec(&[Rule::Exact; 2], &good, &frame(bad), SECOND), Differ, "{bad:?}");
    }
    for bad in [&b"|1\r\n"[..], b"|-1\r\n:1\r\n", b"|9223372036854775807\r\n:1\r\n"] {
        assert_eq!(equal(Rule::Exact, &good, bad, SECOND), Differ, "{bad:?}");
    }
}

#[test]
fn depth_costs_no_stack() {
    const DEPTH: usize = 100_000;
    let nest = |open: &str, leaf: &str| frame(&(open.repeat(DEPTH) + leaf));
    let (one, two) = (nest("*1|", ":1|"), nest("*1|", ":2|"));
    let set = nest("~1|", ":1|");
    for rule in [Rule::Exact, Rule::Multiset, Rule::Numbers] {
        assert_eq!(equal(rule, &one, &set, SECOND), Same, "{rule:?}");
        assert_eq!(equal(rule, &one, &two, SECOND), Differ, "{rule:?}");
    }
    assert_eq!(equal_exec(&[Rule::Exact], &one, &set, SECOND), Same);
    assert_eq!(equal_exec(&[Rule::Exact], &one, &two, SECOND), Differ);
    // Values that have siblings after them do cost depth, and that is limited.
    let siblings = |open: &str| frame(&(open.repeat(DEPTH) + ":0|" + &":1|".repeat(DEPTH)));
    assert_eq!(equal(Rule::Exact, &siblings("*2|"), &siblings("~2|"), SECOND), Differ);
    let attributes = b"|1\r\n:1\r\n:1\r\n".repeat(DEPTH);
    assert_eq!(equal(Rule::Exact, &[&attributes[..], b"#t\r\n"].concat(), b":1\r\n", SECOND), Same);
    let nested = [b"|1\r\n".repeat(DEPTH), b":1\r\n".repeat(2 * DEPTH + 1)].concat();
    assert_eq!(equal(Rule::Exact, &nested, b"#t\r\n", SECOND), Same);
}

#[test]
fn transactions_go_element_by_element() {
    let rules = [Rule::Multiset, SECONDS, Rule::Ignore, Rule::Exact];
    let a = frame("*4|*2|$1|a|$1|b|:10|:1700000000|+OK|");
    for (b, expected) in [
        ("*4|~2|$1|b|$1|a|:11|:1800000000|+OK|", Same),
        ("*4|~2|$1|b|$1|c|:11|:1800000000|+OK|", Differ),
        ("*4|~2|$1|b|$1|a|:12|:1800000000|+OK|", Differ),
        ("*4|~2|$1|b|$1|a|:11|:1800000000|-OOM no|", Differ),
        ("*3|~2|$1|b|$1|a|:11|:1800000000|", Differ),
        ("*-1|", Differ),
        ("-EXECABORT x|", Differ),
    ] {
        assert_eq!(equal_exec(&rules, &a, &frame(b), SECOND), expected, "{b}");
        assert_eq!(equal_exec(&rules, &frame(b), &a, SECOND), expected, "{b}");
    }
    // What has no rule is compared exactly.
    assert_eq!(equal_exec(&[], &frame("*1|:1|"), &frame("*1|#t|"), SECOND), Same);
    assert_eq!(equal_exec(&[], &frame("*1|:1|"), &frame("*1|:2|"), SECOND), Differ);
    assert_eq!(equal_exec(&rules, b"*-1\r\n", b"_\r\n", SECOND), Same);
    assert_eq!(equal_exec(&rules, b"-EXECABORT a\r\n", b"-EXECABORT b\r\n", SECOND), Same);
}
