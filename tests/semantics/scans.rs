//! A cursor belongs to the store that issued it.

use super::*;
use std::collections::BTreeSet;

/// Keys and members per store: enough for several pages.
const MANY: usize = 300;

/// Different keys in the two stores, and a set, a hash and a sorted set with different members.
fn fill(pair: &Pair) {
    for (server, name) in [(&pair.primary, "new"), (&pair.secondary, "old")] {
        let mut client = server.client();
        let commands: Vec<Vec<String>> = (0..MANY)
            .flat_map(|at| {
                let member = format!("{name}:{at}");
                [
                    vec!["SET".into(), member.clone(), "x".into()],
                    vec!["SADD".into(), "set".into(), member.clone()],
                    vec!["HSET".into(), "hash".into(), member.clone(), "v".repeat(80)],
                    vec!["ZADD".into(), "zset".into(), at.to_string(), member],
                ]
            })
            .collect();
        for command in commands {
            assert!(!client.call(&command).is_error());
        }
    }
}

/// The elements of a page that tell from which store they come, and the next cursor.
fn page(reply: &Value) -> (String, BTreeSet<String>) {
    let items = reply.items()[1].items().iter().map(Value::text);
    (reply.items()[0].text(), items.filter(|item| item.contains(':')).collect())
}

fn of_store<'a>(items: impl IntoIterator<Item = &'a String>, name: &str) -> usize {
    items.into_iter().filter(|item| item.starts_with(name)).count()
}

#[test]
fn a_scan_goes_on_at_the_store_that_began_it_across_a_flip_and_on_other_connections() {
    let mut pair = calm(Stage::DualSecondaryDefault);
    fill(&pair);
    for (read, begun_at) in
        [("SCAN C", "old"), ("SSCAN set C", "new"), ("HSCAN hash C", "new"), ("ZSCAN zset C", "new")]
    {
        pair.stage(Stage::DualSecondaryDefault);
        let (mut cursor, mut found) = page(&pair.client().words(&scan(read, "0")));
        let mut pages = 1;
        while cursor != "0" {
            if pages == 3 {
                pair.stage(Stage::DualPrimaryDefault);
            }
            let (next, more) = page(&pair.client().words(&scan(read, &cursor)));
            found.extend(more);
            cursor = next;
            pages += 1;
        }
        assert!(pages > 4, "{read}: {pages} pages");
        assert_eq!(of_store(&found, begun_at), MANY, "{read}: every element of the store that began it");
        assert_eq!(found.len(), MANY, "{read}: and none of the other");
    }
}

fn scan(read: &str, cursor: &str) -> String {
    let words = read.split(' ').map(|word| if word == "C" { cursor } else { word });
    words.collect::<Vec<_>>().join(" ") + " COUNT 20"
}

#[test]
fn two_scans_of_different_stores_at_once_do_not_mix() {
    // Tables of one size hand out the same cursors: what a cursor is of decides, not its number.
    let mut pair = calm(Stage::DualSecondaryDefault);
    fill(&pair);
    let (mut old, mut new) = (pair.client(), pair.client());
    let (mut old_at, mut olds) = page(&old.words("SCAN 0 COUNT 20"));
    pair.stage(Stage::DualPrimaryDefault);
    let (mut new_at, mut news) = page(&new.words("SCAN 0 COUNT 20"));
    while old_at != "0" || new_at != "0" {
        for (client, at, found) in [(&mut new, &mut new_at, &mut news), (&mut old, &mut old_at, &mut olds)] {
            if *at != "0" {
                let (next, more) = page(&client.words(&format!("SCAN {at} COUNT 20")));
                found.extend(more);
                *at = next;
            }
        }
    }
    assert_eq!((of_store(&olds, "old"), of_store(&olds, "new")), (MANY, 0));
    assert_eq!((of_store(&news, "old"), of_store(&news, "new")), (0, MANY));
}

#[test]
fn scans_of_two_keys_do_not_mix() {
    // One set only the secondary has, one only the primary: their scans run side by side.
    let pair = calm(Stage::DualPrimaryDefault);
    let mut found: [BTreeSet<String>; 2] = Default::default();
    for (server, name) in [(&pair.primary, "new"), (&pair.secondary, "old")] {
        let mut client = server.client();
        for at in 0..MANY {
            client.words(&format!("SADD only:{name} {name}:{at}"));
        }
    }
    let mut client = pair.client();
    let mut cursors = ["0".to_owned(), "0".to_owned()];
    let mut first = true;
    while first || cursors.iter().any(|cursor| cursor != "0") {
        for (at, name) in ["new", "old"].into_iter().enumerate() {
            if first || cursors[at] != "0" {
                let (next, more) =
                    page(&client.words(&format!("SSCAN only:{name} {} COUNT 20", cursors[at])));
                found[at].extend(more);
                cursors[at] = next;
            }
        }
        first = false;
    }
    assert_eq!(found.each_ref().map(BTreeSet::len), [MANY, MANY]);
}

#[test]
fn a_scan_begun_in_a_single_store_stage_goes_on_there_while_dual() {
    let mut pair = calm(Stage::SecondaryOnly);
    fill(&pair);
    let (mut cursor, mut found) = page(&pair.client().words("SCAN 0 COUNT 20"));
    pair.stage(Stage::DualSecondaryDefault);
    pair.stage(Stage::DualPrimaryDefault);
    while cursor != "0" {
        let (next, more) = page(&pair.client().words(&format!("SCAN {cursor} COUNT 20")));
        found.extend(more);
        cursor = next;
    }
    assert_eq!((of_store(&found, "old"), found.len()), (MANY, MANY));
}

#[test]
fn an_unknown_cursor_goes_to_the_default_store() {
    for stage in DUAL {
        let pair = calm(stage);
        for server in [&pair.primary, &pair.secondary] {
            server.words("SET key value");
        }
        pair.client().words("SCAN 123456789");
        pair.client().words("SSCAN nowhere 123456789");
        assert_eq!(pair.default_store(stage).calls_of("scan"), 1, "{stage}");
        assert_eq!(pair.default_store(stage).calls_of("sscan"), 1, "{stage}");
        assert_eq!(pair.other_store(stage).calls_of("sscan"), 0, "{stage}");
    }
}
