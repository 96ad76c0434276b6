use super::super::{Merged, Prefer, merge_mget};
use super::frame;

fn merge(a: &str, b: &str, prefer: impl Fn(usize) -> Prefer) -> Option<(String, Vec<usize>)> {
    let Merged { reply, taken } = merge_mget(&frame(a), &frame(b), prefer)?;
    Some((String::from_utf8(reply).expect("text").replace("\r\n", "|"), taken))
}

#[test]
fn nil_elements_come_from_the_secondary() {
    let fallback = |_| Prefer::PrimaryElseSecondary;
    for (a, b, merged, taken) in [
        ("*3|$1|a|$-1|$-1|", "*3|$1|x|$1|y|$-1|", "*3|$1|a|$1|y|$-1|", vec![1]),
        ("*2|$-1|$-1|", "*2|$1|x|$2|yy|", "*2|$1|x|$2|yy|", vec![0, 1]),
        ("*2|$1|a|$0||", "*2|$1|x|$1|y|", "*2|$1|a|$0||", vec![]),
        ("*1|_|", "*1|$-1|", "*1|_|", vec![]),
        ("*1|_|", "*1|$1|x|", "*1|$1|x|", vec![0]),
        ("*0|", "*0|", "*0|", vec![]),
    ] {
        assert_eq!(merge(a, b, fallback), Some((merged.to_owned(), taken)), "{a} {b}");
    }
}

#[test]
fn each_place_may_prefer_otherwise() {
    let each =
        [Prefer::PrimaryOnly, Prefer::PrimaryElseSecondary, Prefer::SecondaryOnly, Prefer::SecondaryOnly];
    let (a, b) = ("*4|$-1|$-1|$1|c|$-1|", "*4|$1|x|$1|y|$-1|$1|z|");
    let expected = ("*4|$-1|$1|y|$-1|$1|z|".to_owned(), vec![1, 3]);
    assert_eq!(merge(a, b, |place| each[place]), Some(expected));
}

#[test]
fn what_cannot_be_merged_is_not() {
    let good = "*2|$-1|$1|a|";
    for bad in [
        "*1|$-1|",
        "*3|$-1|$-1|$-1|",
        "-ERR x|",
        "$-1|",
        "*-1|",
        "%1|$-1|$1|a|",
        "*2|$-1|",
        "*2|$-1|$5|a|",
        "*2|$-1|$1|a|x",
        "",
        "*9223372036854775807|",
    ] {
        assert_eq!(merge(good, bad, |_| Prefer::PrimaryElseSecondary), None, "{bad}");
        assert_eq!(merge(bad, good, |_| Prefer::PrimaryElseSecondary), None, "{bad}");
    }
    let huge = "*9223372036854775807|";
    assert_eq!(merge(huge, huge, |_| Prefer::PrimaryOnly), None);
}
