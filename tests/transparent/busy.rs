//! A store that works on a script answers others with BUSY.

use super::*;

/// Starts a script that ends only when it is killed.
fn endless(pair: &Pair) -> Client {
    let mut script = pair.client();
    script.send(&["EVAL", "while true do end", "0"]);
    script
}

#[test]
fn others_are_told_and_the_script_can_be_killed() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let (mut client, mut transaction) = (pair.client(), pair.client());
        assert_eq!(client.words("CONFIG SET lua-time-limit 10"), Value::ok());
        assert_eq!(transaction.words("MULTI"), Value::ok());
        let mut script = endless(&pair);
        script.send(&["PING"]);
        // One that came too early to be refused is told as well.
        let mut early = pair.client();
        early.send(&["GET", "key"]);
        let told = early.read_reply();
        assert!(told.is_nil() || told.error().starts_with("BUSY "), "{stage}: {told:?}");
        poll_until(SOON, "the store is busy", || client.words("GET key").is_error());
        assert!(client.words("SET key x").error().starts_with("BUSY "), "{stage}");
        assert!(transaction.words("SET key x").error().starts_with("BUSY "), "{stage}");
        assert_eq!(client.words("SCRIPT KILL"), Value::ok(), "{stage}");
        assert!(script.read_reply().is_error(), "{stage}");
        assert_eq!(script.read_reply(), Value::simple("PONG"), "{stage}");
        assert!(transaction.words("EXEC").error().starts_with("EXECABORT "), "{stage}");
        assert_eq!(client.words("GET key"), Value::Nil, "{stage}");
    }
}

/// What its own client has asked for, in one go with the script, is done and answered: nothing of it is refused.
#[test]
fn who_runs_the_script_is_not_told_that_it_is_busy() {
    for stage in Stage::ALL {
        let pair = Pair::start_in(stage);
        let mut client = pair.client();
        assert_eq!(client.words("CONFIG SET lua-time-limit 10"), Value::ok());
        for round in 0..3 {
            let script = "for i = 1, 5000000 do end return redis.call('INCR', KEYS[1])";
            let replies = client.pipeline(&[&["PING"], &["EVAL", script, "1", "n"], &["GET", "n"]]);
            assert_eq!(replies[1], (round + 1).into(), "{stage}");
            assert_eq!(replies[2].text(), (round + 1).to_string(), "{stage}");
        }
    }
}
