//! Who may connect and what they may do: the proxy's own users, and passwords that the store checks.

mod support;

use std::process::{Command, Stdio};

use multistore::command::acl::Category;
use multistore::command::{Lookup, Table};
use support::{
    Client, INSTANCE, Pair, Proxy, ProxyConfig, RedisServer, SOON, Stage, TempDir, Value, poll_until,
};

/// SHA-256 of "reader's".
fn digest(password: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(password.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn users(stage: Stage, more: &[&str]) -> Pair {
    let reader = format!(
        "{{ password_sha256 = \"{}\", acl = [\"+@read\", \"+@transaction\", \"+eval\", \"+publish\", \"+select\", \"~cached:*\", \"&news\"] }}",
        digest("reader's")
    );
    let users = format!("users = {{ app = {{ password = \"app's\" }}, reader = {reader} }}");
    let settings: Vec<&str> = ["auth = \"users\"", &users].into_iter().chain(more.iter().copied()).collect();
    Pair::start_with(stage, &settings)
}

/// A server with the same users.
fn redis_with_users() -> RedisServer {
    let server = RedisServer::start();
    for line in [
        "ACL SETUSER app on >app's +@all ~* &*",
        "ACL SETUSER reader on >reader's +@read +@transaction +eval +publish +select ~cached:* resetchannels &news",
        "ACL SETUSER default off",
    ] {
        assert_eq!(server.words(line), Value::ok());
    }
    server
}

#[test]
fn the_texts_and_their_order_are_redis_s() {
    for stage in [Stage::SecondaryOnly, Stage::DualPrimaryDefault] {
        let server = redis_with_users();
        let pair = users(stage, &[]);
        let (mut here, mut there) = (pair.client(), server.client());
        for line in [
            "GET cached:1",
            "NOSUCHCOMMAND",
            "GET",
            "AUTH wrong",
            "AUTH reader wrong",
            "AUTH nobody reader's",
            "AUTH a b c",
            "HELLO 3",
            "HELLO 9",
            "HELLO 3 AUTH reader wrong",
            "HELLO 3 AUTH reader",
            "PING",
            "AUTH reader reader's",
            "GET cached:1",
            "GET other",
            "MGET cached:1 other",
            "SET cached:1 x",
            "CONFIG SET a b",
            "CONFIG NOSUCH",
            "PUBLISH news x",
            "PUBLISH other x",
            "DEL cached:1",
            "FLUSHALL",
            "SELECT 1",
            "SELECT 0",
            "MULTI",
            "GET cached:1",
            "SET cached:1 x",
            "EXEC",
            "MULTI",
            "GET cached:1",
            "EXEC",
            // A failed attempt leaves everything as it was.
            "AUTH app wrong",
            "SET cached:1 x",
            "AUTH app app's",
            "SET cached:1 x",
            "GET cached:1",
            "RESET",
            "GET cached:1",
        ] {
            let (ours, redis) = (here.words(line), there.words(line));
            assert_eq!(ours, redis, "{stage}: {line}");
        }
        assert!(pair.proxy.metric("multistore_client_errors_total", &[("kind", "auth")]) >= 4.0);
        assert!(pair.proxy.metric("multistore_client_errors_total", &[("kind", "denied")]) >= 6.0);
        let log = pair.proxy.log() + &pair.proxy.status().to_string() + &pair.proxy.metrics();
        for secret in ["app's", "reader's", &digest("reader's")] {
            assert!(!log.contains(secret), "a secret shows");
        }
    }
}

#[test]
fn hello_with_auth_admits_and_speaks() {
    let pair = users(Stage::SecondaryOnly, &[]);
    let mut client = pair.client();
    let hello = client.words("HELLO 3 AUTH app app's SETNAME me");
    assert!(!hello.is_error(), "{hello:?}");
    assert_eq!(client.words("CLIENT GETNAME"), "me".into());
    assert_eq!(client.words("SET key value"), Value::ok());
}

#[test]
fn hello_takes_the_last_password_it_is_given_and_no_name_for_one() {
    // As Redis does since 7.2; before, each was tried in turn.
    let pair = users(Stage::SecondaryOnly, &[]);
    for (words, user) in [
        (&["HELLO", "2", "AUTH", "reader", "wrong", "AUTH", "app", "app's"][..], Some("app")),
        (&["HELLO", "2", "SETNAME", "AUTH", "AUTH", "app", "app's"], Some("app")),
        (&["HELLO", "2", "AUTH", "app", "app's", "AUTH", "reader", "wrong"], None),
    ] {
        let mut client = pair.client();
        client.call(words);
        let known = client.words("ACL WHOAMI");
        assert_eq!((!known.is_error()).then(|| known.text()).as_deref(), user, "{words:?}");
    }
}

#[test]
fn no_password_is_given_inside_a_transaction() {
    // It would be checked by the store, as often as one likes.
    let pair = users(Stage::DualSecondaryDefault, &[]);
    for server in [&pair.primary, &pair.secondary] {
        assert_eq!(server.words("ACL SETUSER hidden on >store's +@all ~* &*"), Value::ok());
    }
    for request in [&["AUTH", "hidden", "store's"][..], &["HELLO", "3", "AUTH", "hidden", "store's"]] {
        let mut client = pair.client();
        assert_eq!(client.words("AUTH reader reader's"), Value::ok());
        assert_eq!(client.words("MULTI"), Value::ok());
        assert!(client.call(request).error().starts_with("MULTISTORE giving a password"));
        assert!(client.words("EXEC").error().starts_with("EXECABORT"));
    }
}

#[test]
fn scripts_do_not_widen_what_a_user_may() {
    let pair = users(Stage::DualSecondaryDefault, &[]);
    let mut client = pair.client();
    client.words("AUTH reader reader's");
    let answer = client.call(&["EVAL", "return redis.call('SET', 'other', '1')", "0"]);
    assert!(answer.error().contains("would not hold inside"), "{answer:?}");
    assert_eq!(pair.secondary.words("EXISTS other"), 0.into());
}

#[test]
fn a_wrong_password_costs_time_and_blocks_nobody() {
    let pair = users(Stage::SecondaryOnly, &[]);
    let mut guesser = pair.client();
    // The requests are there at once; the answers are not.
    (0..6).for_each(|_| guesser.send(&["AUTH", "app", "guess"]));
    let mut other = pair.client();
    assert_eq!(other.words("AUTH app app's"), Value::ok());
    assert!(guesser.unread().is_empty());
    (0..6).for_each(|_| assert!(guesser.read_reply().error().starts_with("WRONGPASS")));
}

#[test]
fn guessing_is_slow_on_however_many_connections() {
    // One attempt of this address is checked in a minute, once it has got a few wrong.
    let pair = users(Stage::SecondaryOnly, &["auth_delay = \"60s\"", "auth_delay_max = \"60s\""]);
    let mut guessers: Vec<Client> = (0..40).map(|_| pair.client()).collect();
    for (number, guesser) in guessers.iter_mut().enumerate() {
        guesser.send(&["AUTH", "app", &format!("guess {number}")]);
    }
    let errors = |kind: &str| pair.proxy.metric("multistore_client_errors_total", &[("kind", kind)]);
    poll_until(SOON, "most are refused unchecked", || errors("auth_throttled") >= 32.0);
    assert!(errors("auth") <= 6.0, "{} guesses were checked", errors("auth"));
    // Also one that would be right.
    let mut right = pair.client();
    let answer = right.words("AUTH app app's");
    assert!(answer.error().starts_with("MULTISTORE too many wrong passwords"), "{answer:?}");
    // Another address is none of that.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("another address");
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], pair.proxy.port())).into()).expect("connect");
    let mut neighbour = std::net::TcpStream::from(socket);
    std::io::Write::write_all(&mut neighbour, &support::encode(&["AUTH", "app", "app's"])).expect("send");
    let mut answer = [0; 5];
    std::io::Read::read_exact(&mut neighbour, &mut answer).expect("an answer");
    assert_eq!(&answer, b"+OK\r\n");
}

#[test]
fn who_never_gives_a_password_is_let_go() {
    let pair = users(Stage::SecondaryOnly, &["handshake_timeout = \"300ms\""]);
    let (mut silent, mut known) = (pair.client(), pair.client());
    known.words("AUTH app app's");
    assert_eq!(silent.expect_closed(), b"");
    assert_eq!(known.words("PING"), Value::simple("PONG"));
}

#[test]
fn a_user_who_changes_is_disconnected_and_the_others_are_not() {
    let pair = users(Stage::SecondaryOnly, &[]);
    let (mut app, mut reader) = (pair.client(), pair.client());
    assert_eq!(app.words("AUTH app app's"), Value::ok());
    assert_eq!(reader.words("AUTH reader reader's"), Value::ok());
    let text = pair.proxy.config_text().replace("\"+@read\"", "\"+get\"");
    pair.proxy.write_config(&text);
    assert_eq!(reader.expect_closed(), b"");
    assert_eq!(app.words("PING"), Value::simple("PONG"));
    let mut reader = pair.client();
    assert_eq!(reader.words("AUTH reader reader's"), Value::ok());
    assert!(reader.words("MGET cached:1").error().starts_with("NOPERM"));
}

#[test]
fn the_store_s_passwords_admit_only_whom_nothing_restricts() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    for server in [&primary, &secondary] {
        for line in [
            "ACL SETUSER full on >pw +@all ~* &*",
            "ACL SETUSER keys on >pw +@all ~a:* &*",
            "ACL SETUSER commands on >pw +@all -flushall ~* &*",
            "ACL SETUSER few on >pw +get ~*",
            "ACL SETUSER default >own",
        ] {
            assert_eq!(server.words(line), Value::ok());
        }
    }
    let url = |server: &RedisServer| format!("redis://:own@127.0.0.1:{}", server.port());
    let config =
        ProxyConfig::new(INSTANCE, &url(&primary), &url(&secondary)).setting("auth = \"passthrough\"");
    let proxy = Proxy::start(config);
    for hello in [false, true] {
        for (user, admitted) in [("full", true), ("keys", false), ("commands", false), ("few", false)] {
            let mut client = proxy.client();
            let answer = match hello {
                true => client.call(&["HELLO", "3", "AUTH", user, "pw"]),
                false => client.call(&["AUTH", user, "pw"]),
            };
            assert_eq!(!answer.is_error(), admitted, "{user}: {answer:?}");
            if !admitted {
                assert!(
                    answer.error().starts_with(&format!("MULTISTORE the user '{user}' is restricted")),
                    "{answer:?}"
                );
                assert!(client.words("GET a").error().starts_with("NOAUTH"));
            }
        }
    }
    let mut client = proxy.client();
    assert_eq!(client.words("AUTH own"), Value::ok());
    assert_eq!(client.words("SET a 1"), Value::ok());
    assert!(!proxy.log().contains("own"), "{}", proxy.log());
}

#[test]
fn a_listener_that_others_reach_asks_for_something() {
    let dir = TempDir::new();
    let check = |settings: &str| {
        let file = dir.join("proxy.toml");
        let text = format!(
            "[instances.one]\nlisten = \"0.0.0.0:6380\"\nprimary = \"redis://127.0.0.1:1\"\n\
             secondary = \"redis://127.0.0.1:2\"\n{settings}\n"
        );
        std::fs::write(&file, text).expect("write proxy.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_multistore"))
            .args(["check", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .expect("run the proxy");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (valid, said) = check("");
    assert!(
        !valid && said.contains("asks nobody for a password") && said.contains("unprotected = true"),
        "{said}"
    );
    for settings in [
        "unprotected = true",
        "auth = \"passthrough\"",
        "auth = \"users\"\nusers = { app = { password = \"secret\" } }",
    ] {
        let (valid, said) = check(settings);
        assert!(valid, "{settings}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    for (settings, part) in [
        ("auth = \"users\"", "needs a user"),
        ("users = { app = { password = \"hunter2\" } }", "has no effect"),
        ("auth = \"users\"\nusers = { app = {} }", "needs one of password"),
        ("auth = \"users\"\nusers = { app = { password_sha256 = \"hunter2\" } }", "64 hexadecimal"),
        ("auth = \"users\"\nusers = { app = { password = \"hunter2\", acl = [\"+@strange\"] } }", "@strange"),
        ("auth = \"users\"\nusers = { app = { password_file = \"/nonexistent\" } }", "/nonexistent"),
    ] {
        let (valid, said) = check(settings);
        assert!(!valid && said.contains(part), "{settings}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn categories_are_the_server_s() {
    let server = RedisServer::start();
    let table = Table::builtin();
    let has = |name: &str| -> Vec<String> {
        let reply = server.call(&["ACL", "CAT", name]);
        reply.items().iter().map(Value::text).collect()
    };
    let known: Vec<String> = has("slow").into_iter().chain(has("fast")).collect();
    let mut wrong = Vec::new();
    for category in Category::ALL {
        let theirs = has(category.name());
        for name in &known {
            let words: Vec<&[u8]> = name.split('|').map(str::as_bytes).collect();
            let Lookup::Command(id) = table.lookup(words.as_slice()) else { continue };
            let spec = table.spec(id);
            if spec.container || spec.name != *name {
                continue;
            }
            let (ours, theirs) = (category.has(spec), theirs.contains(name));
            // Newer servers call WAIT blocking.
            if ours != theirs && name != "wait" {
                wrong.push(format!("@{} {name}: {ours}", category.name()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_client_that_waits_for_its_answer_may_leave() {
    let pair = users(Stage::SecondaryOnly, &[]);
    let mut guesser = pair.client();
    (0..12).for_each(|_| guesser.send(&["AUTH", "app", "guess"]));
    assert!(guesser.read_reply().error().starts_with("WRONGPASS"));
    drop(guesser);
    let mut last: Client = pair.client();
    assert_eq!(last.words("AUTH app app's"), Value::ok());
    poll_until(SOON, "one client left", || pair.proxy.metric("multistore_connections", &[]) == 1.0);
}
