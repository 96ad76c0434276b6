//! Two stores without a running proxy.

use super::data::load;
use super::*;

fn offline(args: &[&str]) -> (Option<i32>, String) {
    told(&Command::new(env!("CARGO_BIN_EXE_multistore")).args(args).output().expect("run multistore"))
}

#[test]
fn a_store_is_copied_and_compared() {
    let (from, to) = (RedisServer::start(), RedisServer::start());
    load(&mut from.client(), 2000);
    to.words("SET old:0 stale");
    to.words("SET surplus 1");
    let (code, text) = offline(&["copy", &from.url(), &to.url()]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("note:") && text.contains("2,000 keys"), "{text}");
    assert_eq!(to.words("GET old:0"), "value 0".into());
    assert_eq!(to.words("GET surplus"), "1".into(), "what was there is left alone");
    let (code, text) = offline(&["compare", &from.url(), &to.url()]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("surplus") && text.contains("both stores: ") && !text.contains("both_stores"),
        "{text}"
    );
    to.words("DEL surplus");
    let (code, text) = offline(&["compare", &from.url(), &to.url()]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("note:") && text.contains("databases [0, 3]"), "{text}");
    assert!(differences(&dump(&from), &dump(&to)).is_empty());
}

#[test]
fn one_database_is_copied_to_another() {
    let (from, to) = (RedisServer::start(), RedisServer::start());
    load(&mut from.client(), 100);
    let (from_url, to_url) = (format!("{}/3", from.url()), format!("{}/5", to.url()));
    let (code, text) = offline(&["copy", &from_url, &to_url]);
    assert_eq!(code, Some(0), "{text}");
    to.words("SELECT 5");
    assert_eq!(to.words("DBSIZE"), 10.into());
    assert_eq!(offline(&["compare", &from_url, &to_url]).0, Some(0));
}

#[test]
fn what_cannot_be_done_says_why() {
    let server = RedisServer::start();
    let (code, text) = offline(&["compare", &server.url(), &server.url()]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("same server"), "{text}");
    let (code, text) = offline(&["compare", "http://x", &server.url()]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("http://x: unknown scheme") && !text.contains("instances"), "{text}");
    let nobody = format!("redis://:secret@127.0.0.1:{}", free_port());
    let (code, text) = offline(&["copy", &nobody, &server.url()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("refused") && !text.contains("secret"), "{text}");
}
