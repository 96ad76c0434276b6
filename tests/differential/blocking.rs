//! Commands that wait.

use crate::bench::{Bench, Talk};
use crate::support::*;

#[test]
fn timeouts_and_errors_of_blocking_commands() {
    // Long enough for both to see a socket's end before the time is up, on a busy machine too.
    let texts = [
        "BLPOP l 0.06\nBRPOP l m 0.06\nBRPOPLPUSH l m 0.06\nBLMOVE l m LEFT RIGHT 0.06\nBZPOPMIN z 0.06\nBZPOPMAX z y 0.06\n\
         BLMPOP 0.06 1 l LEFT\nBZMPOP 0.06 1 z MIN\nXREAD BLOCK 60 STREAMS s $\nXREAD BLOCK 60 STREAMS s 0",
        "HELLO 3\nBLPOP l 0.06\nBRPOPLPUSH l m 0.06\nBZPOPMIN z 0.06\nBLMPOP 0.06 1 l LEFT\nXREAD BLOCK 60 STREAMS s $",
        "BLPOP l x\nBLPOP l -1\nBLPOP l\nBLPOP\nBLPOP l 1e400\nBLPOP l inf\nBLPOP l nan\nBLPOP l 99999999999999999999\nPING",
        "BRPOPLPUSH l m x\nBRPOPLPUSH l m -1\nBLMOVE l m UP DOWN 0\nBLMOVE l m LEFT RIGHT x\nBLMPOP x 1 l LEFT\nBLMPOP 0.06 0 l LEFT\n\
         BLMPOP 0.06 x l LEFT\nBLMPOP 0.06 1 l UP\nBLMPOP 0.06 2 l LEFT\nBZMPOP 0.06 1 z LEFT\nXREAD BLOCK x STREAMS s $\nXREAD BLOCK -1 STREAMS s $\n\
         XREAD BLOCK 60 STREAMS s\nXREAD BLOCK 60 STREAMS s bogus\nXREADGROUP GROUP g c BLOCK 60 STREAMS s >",
        "BLPOP str 0.06\nBZPOPMIN str 0.06\nXREAD BLOCK 60 STREAMS str 0\nXREAD BLOCK 60 STREAMS str $\nBLPOP missing str 0.06\nBRPOPLPUSH str m 0.06",
        "RPUSH l a b c\nBLPOP l 0\nBRPOP missing l 0\nBRPOPLPUSH l m 0\nLRANGE m 0 -1\nBLMPOP 0 2 l m LEFT COUNT 2\nRPUSH l x\nBLMOVE l str LEFT LEFT 0.06\nLRANGE l 0 -1",
        "ZADD z 1 a 2 b 3.5 c\nBZPOPMIN z 0\nBZPOPMAX missing z 0\nHELLO 3\nBZMPOP 0 1 z MIN",
        "XADD s 1-1 f v\nXREAD BLOCK 0 STREAMS s 0\nXREAD BLOCK 60 STREAMS s $\nXGROUP CREATE s g 0\nXREADGROUP GROUP g c BLOCK 0 STREAMS s >\n\
         XREADGROUP GROUP g c BLOCK 60 STREAMS s >\nXREADGROUP GROUP nope c BLOCK 60 STREAMS s >\nXREADGROUP GROUP g c BLOCK 60 STREAMS s 0",
        "XADD s 1-1 f v\nXREAD BLOCK 60 STREAMS str s 0 $\nXREAD BLOCK 60 STREAMS str missing 2-1 $\nXREAD BLOCK 60 STREAMS s missing 0 $",
        "0: CLIENT REPLY SKIP\n0: BLPOP l 0.06\nPING",
        "WAIT 0 0\nWAIT 0 1\nWAIT 1 10\nWAIT x 0\nWAIT 0 x\nWAIT 0 -1\nWAIT\nWAITAOF 0 0 0\nPING",
        "SET str w\nBLPOP l 0.06\nGET str\nBLPOP m 0.06\nINCR n",
        "SELECT 1\nRPUSH l one\nSELECT 0\nBLPOP l 0.06\nSELECT 1\nBLPOP l 0.06",
    ];
    let talks: Vec<Talk> = texts.iter().map(|text| Talk::of(text)).collect();
    Bench::start().compare("SET str v", &talks);
}

/// What a waiting client gets when `wake` happens, and what the one that did it gets.
fn woken(port: u16, wait: &str, wake: &[&str]) -> String {
    let (mut waiter, mut waker) = (Client::connect(port), Client::connect(port));
    waker.words("FLUSHALL");
    let id = waiter.words("CLIENT ID").int().to_string();
    waiter.send(&wait.split(' ').collect::<Vec<_>>());
    poll_until(SOON, "the client waits", || {
        let list = waker.words("CLIENT LIST").text();
        let line = list.lines().find(|line| line.starts_with(&format!("id={id} "))).map(str::to_owned);
        line.is_some_and(|line| line.contains(" flags=b "))
    });
    let mut came = Vec::new();
    for line in wake {
        let line = line.replace("ID", &id);
        came.extend(waker.read_raw_after(&line.split(' ').collect::<Vec<_>>()));
    }
    came.extend(waiter.read_raw_reply());
    waiter.send(&["PING"]);
    came.extend(waiter.read_raw_reply());
    came.escape_ascii().to_string()
}

#[test]
fn waiting_clients_are_served_and_unblocked() {
    let mut bench = Bench::start();
    let cases: &[(&str, &[&str])] = &[
        ("BLPOP l 0", &["RPUSH l a b"]),
        ("BRPOP k l 0", &["LPUSH l a b", "LRANGE l 0 -1"]),
        ("BLMOVE l m LEFT RIGHT 0", &["RPUSH l a", "LLEN l"]),
        ("BZPOPMIN z 0", &["ZADD z 2 b 1 a"]),
        ("XREAD BLOCK 0 STREAMS s $", &["XADD s 1-1 f v"]),
        ("XREAD BLOCK 0 STREAMS s 0", &["XADD s 1-1 f v"]),
        ("BLPOP l 0", &["CLIENT UNBLOCK ID"]),
        ("BLPOP l 0", &["CLIENT UNBLOCK ID TIMEOUT"]),
        ("BLPOP l 0", &["CLIENT UNBLOCK ID ERROR"]),
        ("BLPOP l 0", &["SET l string", "DEL l", "CLIENT UNBLOCK ID ERROR"]),
        ("WAIT 9 0", &["CLIENT UNBLOCK ID"]),
        ("BLPOP l 0", &["MULTI", "RPUSH l a", "RPUSH l b", "EXEC", "LLEN l"]),
        ("BLMPOP 0 2 k l LEFT COUNT 3", &["RPUSH l a b c d", "LLEN l"]),
    ];
    for (wait, wake) in cases {
        let lone = woken(bench.lone.port(), wait, wake);
        bench.in_each_stage(|bench, stage| {
            assert_eq!(woken(bench.pair.proxy.port(), wait, wake), lone, "{stage}: {wait} {wake:?}");
        });
    }
}

#[test]
fn a_script_that_loops_can_be_killed() {
    let mut bench = Bench::start();
    bench.in_each_stage(|bench, stage| {
        let (mut looping, mut killer) = (bench.pair.client(), bench.pair.client());
        looping.send(&["EVAL", "while true do end", "0"]);
        poll_until(SOON, "the script is killed", || killer.words("SCRIPT KILL") == Value::ok());
        let reply = looping.read_reply();
        assert!(reply.is_error(), "{stage}: {reply:?}");
        // Neither store loops on.
        poll_until(SOON, "both stores serve", || {
            bench.pair.primary.words("PING") == Value::simple("PONG")
                && bench.pair.secondary.words("PING") == Value::simple("PONG")
        });
        assert_eq!(killer.words("SET k v"), Value::ok(), "{stage}");
    });
}
