//! Commands about the connection, which the proxy answers itself.

use crate::bench::{Bench, Talk};
use crate::support::*;

fn talks(texts: &[&str]) -> Vec<Talk> {
    texts.iter().map(|text| Talk::of(text)).collect()
}

#[test]
fn hello_select_auth_quit_and_reset() {
    Bench::start().compare(
        "SET k v",
        &talks(&[
            "HELLO",
            "HELLO 2",
            "HELLO 3\nGET missing\nHELLO\nHELLO 2\nGET missing",
            "HELLO 4\nHELLO 1\nHELLO 0\nHELLO -1\nHELLO x\nHELLO 3x\nHELLO 99999999999999999999\nPING",
            "HELLO \\q\nHELLO 03",
            "HELLO 3 SETNAME me\nCLIENT GETNAME\nHELLO 2 SETNAME\nHELLO 2 SETNAME two\\swords\nCLIENT GETNAME",
            "HELLO 3 BOGUS\nHELLO 3 AUTH\nHELLO 3 AUTH default\nHELLO 3 SETNAME\nPING",
            "HELLO 3 AUTH nobody wrong\nPING\nGET missing",
            "HELLO 3 AUTH default any\nGET missing",
            "HELLO 3 AUTH default any SETNAME me\nCLIENT GETNAME",
            "HELLO 4 AUTH default any\nGET missing",
            "HELLO 3 SETNAME a AUTH nobody wrong\nPING",
            "AUTH\nAUTH x\nAUTH nobody x\nAUTH default x\nAUTH a b c\nPING",
            "SELECT 1\nSET k one\nGET k\nSELECT 0\nGET k\nSELECT 15\nGET k",
            "SELECT 16\nGET k\nSELECT -1\nSELECT x\nSELECT 1x\nSELECT \\q\nSELECT 99999999999\nSELECT 2147483648\n\
             SELECT 2147483647\nSELECT 4294967296\nSELECT 99999999999999999999\nSELECT\nSELECT 1 2\nSELECT 01\nGET k",
            "QUIT\nPING",
            "QUIT now please\nPING",
            "GET k\nQUIT\nGET k",
            "RESET\nPING",
            "RESET x",
            "SELECT 1\nHELLO 3\nCLIENT SETNAME me\nRESET\nCLIENT GETNAME\nGET missing\nGET k",
            "MULTI\nSET k w\nRESET\nEXEC\nGET k",
            "WATCH k\nRESET\nMULTI\nGET k\nEXEC",
            "PING\nPING x\nPING x y\nECHO\nECHO x\nECHO x y",
            "HELLO 3\nPING\nPING x\nPING x y",
            "READONLY\nREADWRITE\nASKING",
        ]),
    );
}

#[test]
fn client_and_its_subcommands() {
    Bench::start().compare(
        "SET k v",
        &talks(&[
            "CLIENT\nCLIENT BOGUS\nCLIENT BOGUS x\nCLIENT \\q\nCLIENT ID x\nCLIENT HELP x\nCLIENT HELP",
            "CLIENT GETNAME\nCLIENT SETNAME me\nCLIENT GETNAME\nCLIENT SETNAME \\q\nCLIENT GETNAME\nCLIENT GETNAME x",
            "HELLO 3\nCLIENT GETNAME\nCLIENT SETNAME x\nCLIENT GETNAME",
            "CLIENT SETNAME\nCLIENT SETNAME a b\nCLIENT SETNAME a\\sb\nCLIENT SETNAME a\\nb\nCLIENT SETNAME a\\0b\nCLIENT GETNAME",
            "CLIENT SETINFO lib-name x\nCLIENT SETINFO\nCLIENT SETINFO a b c",
            "CLIENT NO-TOUCH on\nCLIENT NO-TOUCH\nCLIENT CAPA redirect\nCLIENT IMPORT-SOURCE on",
            "CLIENT NO-EVICT\nCLIENT NO-EVICT on\nCLIENT NO-EVICT off\nCLIENT NO-EVICT x\nCLIENT NO-EVICT on off",
            "CLIENT INFO\nCLIENT INFO x",
            "CLIENT SETNAME me\nSELECT 3\nCLIENT INFO",
            "HELLO 3\nCLIENT INFO",
            "CLIENT LIST TYPE\nCLIENT LIST TYPE x\nCLIENT LIST TYPE master\nCLIENT LIST ID\nCLIENT LIST ID x\n\
             CLIENT LIST ID 0\nCLIENT LIST x\nCLIENT LIST TYPE pubsub\nCLIENT LIST TYPE replica\nCLIENT LIST ID 999999",
            "CLIENT KILL\nCLIENT KILL x\nCLIENT KILL 1.2.3.4:5\nCLIENT KILL ID\nCLIENT KILL ID x\nCLIENT KILL ID 0\n\
             CLIENT KILL ID -1\nCLIENT KILL ID 99999999\nCLIENT KILL TYPE x\nCLIENT KILL TYPE pubsub\nCLIENT KILL ADDR x\n\
             CLIENT KILL LADDR x\nCLIENT KILL USER default ADDR x\nCLIENT KILL USER nobody\n\
             CLIENT KILL USER no\\sbody TYPE normal\nCLIENT KILL TYPE normal USER nobody\n\
             CLIENT KILL TYPE x USER nobody\nCLIENT KILL USER nobody x\nPING\n\
             ACL SETUSER idle on\nCLIENT KILL USER idle\nACL DELUSER idle\nCLIENT KILL USER idle\nCLIENT KILL SKIPME x\n\
             CLIENT KILL SKIPME maybe ID 1\nCLIENT KILL BOGUS x\nCLIENT KILL ID 1 x\nCLIENT KILL MAXAGE x\nPING",
            "CLIENT UNBLOCK\nCLIENT UNBLOCK x\nCLIENT UNBLOCK 99999999\nCLIENT UNBLOCK 99999999 TIMEOUT\n\
             CLIENT UNBLOCK 99999999 ERROR\nCLIENT UNBLOCK 99999999 BOGUS\nCLIENT UNBLOCK x BOGUS\nCLIENT UNBLOCK 1 ERROR x",
            "CLIENT REPLY\nCLIENT REPLY x\nCLIENT REPLY ON\nCLIENT REPLY ON ON\nPING",
            "0: CLIENT REPLY OFF\n0: PING\n0: SET k w\n0: CLIENT REPLY x\nCLIENT REPLY ON\nGET k",
            "0: CLIENT REPLY SKIP\n0: SET k w\nGET k\n0: CLIENT REPLY SKIP\n0: CLIENT REPLY SKIP\n0: PING\nGET k",
            "0: CLIENT REPLY SKIP\nCLIENT REPLY ON\nGET k",
            "0: CLIENT REPLY OFF\n0: CLIENT REPLY SKIP\n0: PING\n0: PING\nCLIENT REPLY ON\nPING",
            "0: CLIENT REPLY SKIP\n0: BOGUS\nPING\n0: CLIENT REPLY SKIP\n0: SELECT x\nPING",
            "0: CLIENT REPLY OFF\n0: BOGUS\n0: GET\n0: SELECT 1\n0: MULTI\n0: SET k w\n0: EXEC\nCLIENT REPLY ON\nGET k",
            "0: CLIENT REPLY OFF\nRESET\nPING",
            "0: CLIENT REPLY SKIP\n0: RESET\nPING",
            "0: CLIENT REPLY OFF\n0: QUIT\n0: PING",
            "0: CLIENT REPLY OFF\n0: HELLO 3\n0: INCR n\nCLIENT REPLY ON\nGET n\nGET missing",
            "CLIENT TRACKINGINFO\nHELLO 3\nCLIENT TRACKINGINFO\nCLIENT TRACKINGINFO x",
            "CLIENT GETREDIR\nCLIENT GETREDIR x",
            "HELLO 3 AUTH nobody wrong bogus\nHELLO 3 bogus AUTH nobody wrong\nHELLO 9 AUTH nobody wrong\nGET k",
            "CLIENT PAUSE\nCLIENT PAUSE x\nCLIENT PAUSE -1\nCLIENT PAUSE 1 BOGUS\nCLIENT UNPAUSE x",
            "GET k\nCLIENT KILL TYPE normal SKIPME yes ID 1\nGET k",
            "WATCH k\nSUBSCRIBE c\nPING\nPING x\nUNSUBSCRIBE\nPING",
            "CLIENT TRACKING ON\nPSUBSCRIBE c\nPING\nPUNSUBSCRIBE\nPING",
        ]),
    );
}

#[test]
fn a_client_that_ends_itself_gets_its_reply() {
    let mut bench = Bench::start();
    let lone = ended(bench.lone.client());
    bench.in_each_stage(|bench, stage| {
        assert_eq!(ended(bench.pair.client()), lone, "{stage}");
    });
}

/// What a client gets that kills itself, in two ways.
fn ended(mut client: Client) -> Vec<Vec<u8>> {
    let id = client.words("CLIENT ID").int().to_string();
    client.send(&["CLIENT", "KILL", "ID", &id, "SKIPME", "no"]);
    client.send(&["PING"]);
    vec![client.expect_closed()]
}

#[test]
fn a_password_is_demanded_before_anything_else() {
    let lone = RedisServer::start_with(&["--requirepass", "secret"]);
    let guarded = || RedisServer::start_with(&["--requirepass", "secret"]);
    let (primary, secondary) = (guarded(), guarded());
    let url = |server: &RedisServer| format!("redis://:secret@127.0.0.1:{}", server.port());
    let config =
        ProxyConfig::new(INSTANCE, &url(&primary), &url(&secondary)).setting("auth = \"passthrough\"");
    let mut proxy = Proxy::start(config);
    for stage in Stage::ALL {
        proxy.stage(stage);
        for line in [
            "GET a",
            "GET",
            "EXEC",
            "BOGUS x",
            "CLIENT BOGUS",
            "CLIENT ID",
            "CLIENT",
            "AUTH",
            "AUTH wrong",
            "AUTH default wrong",
            "HELLO",
            "HELLO 3",
            "HELLO x",
            "HELLO 4",
            "HELLO 3 AUTH default wrong",
            "HELLO 3 BOGUS",
            "PING",
            "MULTI",
            "SELECT 1",
            "SUBSCRIBE a",
            "RESET",
            "QUIT",
            "WATCH a",
            "BLPOP a 1",
            "MONITOR",
            "AUTH secret",
            "AUTH default secret",
            "HELLO 3 AUTH default secret",
            "HELLO 2 AUTH default secret SETNAME x",
        ] {
            let said = |port| {
                let mut client = Client::connect(port);
                client.send(&crate::bench::words(line));
                let mut came = client.read_raw_reply();
                client.send(&["PING", "x"]);
                client.close_write();
                came.extend(client.expect_closed());
                crate::normal::normalised(&came).escape_ascii().to_string()
            };
            assert_eq!(said(proxy.port()), said(lone.port()), "{stage}: {line}");
        }
    }
}
