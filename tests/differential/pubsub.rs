//! Subscribers, in both protocols.

use crate::bench::{Bench, Talk};
use crate::support::*;

#[test]
fn subscribing_and_what_a_subscriber_may_say() {
    let texts = [
        "SUBSCRIBE\nPSUBSCRIBE\nSSUBSCRIBE\nPUBLISH a\nPUBSUB\nPUBSUB BOGUS",
        "SUBSCRIBE a\n2: SUBSCRIBE b c\nPING\nPING x\nPING x y\nUNSUBSCRIBE b\n2: UNSUBSCRIBE a c\nPING",
        "3: SUBSCRIBE a a a\nUNSUBSCRIBE a\nUNSUBSCRIBE a\nPING",
        "PSUBSCRIBE a*\nSUBSCRIBE a\nSSUBSCRIBE a\nUNSUBSCRIBE\nPUNSUBSCRIBE\nSUNSUBSCRIBE\nPING",
        "UNSUBSCRIBE\nPUNSUBSCRIBE\nSUNSUBSCRIBE\nUNSUBSCRIBE x\n2: PUNSUBSCRIBE x y",
        "SUBSCRIBE a\nGET k\nSET k w\nCLIENT ID\nCLIENT BOGUS\nBOGUS\nGET\nCONFIG GET x\nMULTI\nEXEC\nWATCH k\nHELLO 3\nSELECT 1\n\
         AUTH x\nMONITOR\nBLPOP l 0\nPUBLISH a m\nECHO x\nCLIENT\nSUBSCRIBE\nUNSUBSCRIBE a\nGET k",
        "SUBSCRIBE a\nRESET\nGET k",
        "SUBSCRIBE a\nQUIT",
        "SUBSCRIBE \\q\nSUBSCRIBE \\0\\r\\n\nPSUBSCRIBE [\nUNSUBSCRIBE \\q\nUNSUBSCRIBE\nPUNSUBSCRIBE",
        "HELLO 3\nSUBSCRIBE a\nGET k\nPING\nPING x\nCLIENT GETNAME\n2: SUBSCRIBE b c\nSELECT 1\nGET k\n2: UNSUBSCRIBE a b\nUNSUBSCRIBE\nPING",
        "HELLO 3\nUNSUBSCRIBE\nPUNSUBSCRIBE\nPSUBSCRIBE *\nMULTI\nGET k\nEXEC\nPUNSUBSCRIBE",
        "HELLO 3\nSUBSCRIBE a\nBLPOP l 0.01\nGET k\nWATCH k\nMULTI\nSET k w\nEXEC\nUNSUBSCRIBE",
        "PUBSUB CHANNELS\nPUBSUB NUMSUB\nPUBSUB NUMSUB a b\nPUBSUB NUMPAT\nPUBSUB SHARDCHANNELS",
        "PUBLISH nobody hears\nSPUBLISH nobody hears",
    ];
    let talks: Vec<Talk> = texts.iter().map(|text| Talk::of(text)).collect();
    Bench::start().compare("SET k v", &talks);
}

/// What a subscriber sees of messages that others publish.
fn heard(port: u16, resp3: bool) -> String {
    let (mut ear, mut mouth) = (Client::connect(port), Client::connect(port));
    let mut came = Vec::new();
    if resp3 {
        ear.words("HELLO 3");
    }
    for line in ["SUBSCRIBE news", "PSUBSCRIBE n*", "SSUBSCRIBE news"] {
        ear.send(&line.split(' ').collect::<Vec<_>>());
        came.push(ear.read_raw_reply());
    }
    for message in ["one", "", "two\r\n\0"] {
        let receivers = mouth.call(&["PUBLISH", "news", message]);
        came.push(format!("{receivers:?}").into_bytes());
        came.push(ear.read_raw_reply());
        came.push(ear.read_raw_reply());
    }
    came.push(format!("{:?}", mouth.call(&["SPUBLISH", "news", "shard"])).into_bytes());
    came.push(ear.read_raw_reply());
    ear.send(&["PING"]);
    came.push(ear.read_raw_reply());
    mouth.words("PUBSUB NUMSUB news");
    came.push(mouth.read_raw_after(&["PUBSUB", "NUMSUB", "news"]));
    came.concat().escape_ascii().to_string()
}

#[test]
fn messages_arrive_as_from_the_store() {
    let mut bench = Bench::start();
    for resp3 in [false, true] {
        let lone = heard(bench.lone.port(), resp3);
        bench.in_each_stage(|bench, stage| {
            assert_eq!(heard(bench.pair.proxy.port(), resp3), lone, "{stage}");
        });
    }
}

/// What a MONITOR gets that talks on.
fn monitored(port: u16, last: &str) -> String {
    let mut client = Client::connect(port);
    client.send(&["MONITOR"]);
    let mut came = vec![client.read_raw_reply()];
    for line in ["PING", "GET k", "BOGUS", last] {
        client.send(&line.split(' ').collect::<Vec<_>>());
        // Commands of anybody come in between.
        came.push(
            std::iter::repeat_with(|| client.read_raw_reply())
                .find(|reply| !reply.starts_with(b"+1") && !reply.starts_with(b"+2"))
                .unwrap_or_default(),
        );
    }
    came.concat().escape_ascii().to_string()
}

#[test]
fn a_monitor_may_talk_on() {
    let mut bench = Bench::start();
    for last in ["RESET", "QUIT"] {
        let lone = monitored(bench.lone.port(), last);
        bench.in_each_stage(|bench, stage| {
            assert_eq!(monitored(bench.pair.proxy.port(), last), lone, "{stage}");
        });
    }
}
