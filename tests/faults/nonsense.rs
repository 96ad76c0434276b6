//! Stores that break the protocol.

use std::sync::atomic::AtomicU64;

use super::*;

/// A proxy before a scripted default store and a real other one.
fn scripted(stage: Stage, store: &ScriptedStore) -> (Proxy, RedisServer) {
    let other = RedisServer::start();
    let (primary, secondary) = match stage.default_store() {
        StoreId::Primary => (store.url(), other.url()),
        StoreId::Secondary => (other.url(), store.url()),
    };
    let config = ProxyConfig::new(INSTANCE, &primary, &secondary).stage(stage);
    let config = TIMES.iter().fold(config, |config, line| config.setting(line));
    (Proxy::start(config), other)
}

/// Answers GET of a key with the key, and anything else as usual.
fn echoing(request: &Request) -> Answer {
    match request.name().as_str() {
        "GET" => Answer::bytes(format!("${}\r\n{}\r\n", request.arg(1).len(), request.arg(1))),
        _ => Answer::Usual,
    }
}

/// The script `odd` once, for the first GET of `odd`; echoing from then on.
fn once(odd: Answer) -> impl Fn(&Request) -> Answer + Send + Sync {
    let done = AtomicBool::new(false);
    move |request| {
        let is_it = request.name() == "GET" && request.arg(1) == "odd";
        if is_it && !done.swap(true, Ordering::SeqCst) { odd.clone() } else { echoing(request) }
    }
}

fn errors_of(proxy: &Proxy, store: &str, kind: &str) -> f64 {
    proxy.metric("multistore_store_errors_total", &[("store", store), ("kind", kind)])
}

#[track_caller]
fn works_again(proxy: &Proxy) {
    let mut client = proxy.client();
    poll_until(SOON, "it works again", || client.words("GET right") == "right".into());
    for number in 0..50 {
        let key = format!("key{number}");
        assert_eq!(client.call(&["GET", &key]), key.as_str().into());
    }
}

#[test]
fn garbage_ends_the_lane() {
    for garbage in ["hello\r\n", "$5\r\nhello!!", ":12x\r\n", "*1000000000000\r\n", "$-7\r\n"] {
        let store = ScriptedStore::start(once(Answer::bytes(garbage)));
        let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
        let reply = proxy.client().words("GET odd");
        assert!(fails(&reply), "{garbage:?}: {reply:?}");
        assert_eq!(errors_of(&proxy, "secondary", "protocol"), 1.0, "{garbage:?}");
        works_again(&proxy);
    }
}

#[test]
fn a_reply_cut_in_the_middle_is_an_error_and_a_large_one_ends_the_client() {
    let mut large = b"$1000000\r\n".to_vec();
    large.resize(400_000, b'x');
    let small = Answer::BytesAndCut(b"$100\r\nhalf".to_vec());
    let store = ScriptedStore::start(once(small));
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    assert!(proxy.client().words("GET odd").error().contains("may or may not have been applied"));
    works_again(&proxy);

    store.script(once(Answer::BytesAndCut(large)));
    let mut client = proxy.client();
    client.send(&["GET", "odd"]);
    let came = client.expect_closed();
    assert!(
        came.starts_with(b"$1000000\r\nxxx"),
        "{}",
        came.get(..40.min(came.len())).unwrap_or_default().escape_ascii()
    );
    works_again(&proxy);
}

#[test]
fn a_store_that_hangs_in_the_middle_of_a_reply_holds_nobody_longer_than_the_timeout() {
    let mut large = b"$1000000\r\n".to_vec();
    large.resize(400_000, b'x');
    for part in [b"$100\r\nhalf".to_vec(), large] {
        let hung = Arc::new(AtomicU64::new(0));
        let script = {
            let (hung, part) = (hung.clone(), part.clone());
            move |request: &Request| {
                let connection = request.connection as u64;
                if hung.load(Ordering::SeqCst) == connection {
                    return Answer::Hang;
                }
                if request.name() == "GET" && request.arg(1) == "odd" && hung.load(Ordering::SeqCst) == 0 {
                    hung.store(connection, Ordering::SeqCst);
                    return Answer::Bytes(part.clone());
                }
                echoing(request)
            }
        };
        let store = ScriptedStore::start(script);
        let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
        let (mut first, mut second) = (proxy.client(), proxy.client());
        first.send(&["GET", "odd"]);
        poll_until(SOON, "the store hangs", || hung.load(Ordering::SeqCst) > 0);
        let since = Instant::now();
        let behind = second.words("GET behind");
        assert!(behind.error().contains("did not answer within 1000 ms"), "{behind:?}");
        if part.len() < 1000 {
            assert!(first.read_reply().error().contains("did not answer within 1000 ms"));
        } else {
            first.expect_closed();
        }
        assert!(since.elapsed() < LONGEST_WAIT);
        works_again(&proxy);
    }
}

#[test]
fn one_reply_too_many_is_noticed() {
    let store = ScriptedStore::start(once(Answer::bytes("$3\r\nodd\r\n$5\r\nextra\r\n")));
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    assert_eq!(proxy.client().words("GET odd"), "odd".into());
    poll_until(SOON, "it is noticed", || errors_of(&proxy, "secondary", "out_of_step") >= 1.0);
    works_again(&proxy);
}

#[test]
fn one_reply_too_few_is_noticed_under_load() {
    let store = ScriptedStore::start(once(Answer::Swallow));
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    let mut starved = proxy.client();
    starved.send(&["GET", "odd"]);
    store.wait_for("GET");
    // Others keep the lane busy, so that no silence gives it away.
    let mut client = proxy.client();
    poll_until(SOON, "it is noticed", || {
        client.words("GET x");
        errors_of(&proxy, "secondary", "out_of_step") >= 1.0
    });
    works_again(&proxy);
}

#[test]
fn a_store_that_ends_every_connection_is_not_hammered() {
    let store = ScriptedStore::start(|_| Answer::Usual);
    let (proxy, _other) = scripted(Stage::SecondaryOnly, &store);
    store.script(|request| match request.name().as_str() {
        "GET" => Answer::Cut,
        _ => Answer::Usual,
    });
    let mut client = proxy.client();
    let (since, accepted) = (Instant::now(), store.accepted());
    while since.elapsed() < Duration::from_millis(600) {
        assert!(fails(&client.words("GET a")));
    }
    // 10 ms, 20 ms, 40 ms, 80 ms, then 100 ms, each halved at most by the jitter.
    let dialed = store.accepted() - accepted;
    assert!(dialed < 30, "{dialed} connections within 600 ms");
}
