//! Every command of the table that the lone server has, with right and wrong numbers and types of arguments.

use crate::bench::{Bench, Request, Talk};
use multistore::command::{Kind, Table};

/// A key of every type, and some that don't exist.
const KEYS: [&str; 9] = ["str", "num", "list", "set", "hash", "zset", "stream", "hll", "missing"];

const DATA: &str = "SET str hello
    SET num 10
    RPUSH list a b c
    SADD set 1 2 3
    HSET hash f 1 g v
    ZADD zset 1 a 2.5 b 3 c
    XADD stream 1-1 f v
    XADD stream 2-1 f w
    XGROUP CREATE stream grp 0
    PFADD hll a b
    GEOADD geo 13.361389 38.115556 p 15.087269 37.502669 q";

/// What follows the key, per attempt.
const TAILS: [&[&str]; 9] = [
    &[],
    &["1"],
    &["f"],
    &["1", "2"],
    &["f", "x"],
    &["0", "-1"],
    &["1", "a", "2"],
    &["a", "b", "c", "d"],
    &["1", "a", "0", "b", "x", "2"],
];

/// Not here: they end or stop the server, differ by nature, or have a test of their own.
const LEFT_OUT: [&str; 28] = [
    "shutdown",
    "debug",
    "monitor",
    "sync",
    "psync",
    "replicaof",
    "slaveof",
    "failover",
    "replconf",
    "migrate",
    "restore",
    "randomkey",
    "srandmember",
    "hrandfield",
    "zrandmember",
    "spop",
    "time",
    "lastsave",
    "info",
    "lolwut",
    "role",
    "module",
    "bgsave",
    "bgrewriteaof",
    "dump",
    "config",
    "acl",
    "save",
];

fn swept() -> Vec<String> {
    let table = Table::builtin();
    let named = table.iter().filter(|(_, spec)| {
        let top = spec.name.split('|').next().unwrap_or_default();
        let kind = matches!(
            spec.kind,
            Kind::Read
                | Kind::Write
                | Kind::KeyspaceRead
                | Kind::KeyspaceWrite
                | Kind::Script
                | Kind::ScriptRead
                | Kind::Publish
                | Kind::ServerWrite
        );
        // On a busy machine a second passes between two requests.
        kind && !LEFT_OUT.contains(&top) && spec.name != "object|idletime"
    });
    named.map(|(_, spec)| spec.name.replace('|', " ")).collect()
}

fn attempts(name: &str) -> Talk {
    let mut requests = vec![Request::parse(name)];
    for key in KEYS {
        for tail in TAILS {
            requests.push(Request::parse(&format!("{name} {key} {}", tail.join(" "))));
        }
    }
    let replies_vary = name == "xadd" || name == "xgroup create";
    // Automatic ids are times.
    requests.retain(|request| !replies_vary || !request.bytes.windows(3).any(|part| part == b"\n*\r"));
    Talk { name: name.to_owned(), requests, stepped: false }
}

#[test]
fn every_command_with_right_and_wrong_arguments() {
    let talks: Vec<Talk> = swept().iter().map(|name| attempts(name)).collect();
    assert!(talks.len() > 180, "only {} commands", talks.len());
    Bench::start().compare(DATA, &talks);
}

#[test]
fn commands_in_full_one_by_one_in_both_protocols() {
    let texts = [
        "GET str\nGET missing\nGET list\nGETRANGE str 0 2\nGETRANGE missing 0 2\nSTRLEN missing\nMGET str missing num list\nEXISTS str missing str",
        "SET a 1 EX 100\nTTL a\nPERSIST a\nTTL a\nTTL missing\nSET a 2 KEEPTTL GET\nSET str x NX\nSET str x XX GET\nSET a b c\nSET a 1 EX 0\nSET a 1 EX x\nSETEX a 0 x\nEXPIRE missing 1\nEXPIRE a -1\nGET a\nTYPE missing\nTYPE zset",
        "INCR num\nINCR str\nINCRBY num x\nINCRBYFLOAT num 1.5\nDECR num\nAPPEND str x\nSETRANGE str 2 yy\nSETRANGE str -1 x\nSETBIT bits 7 1\nGETBIT bits 7\nBITCOUNT bits\nBITOP AND dest bits str\nBITFIELD bits GET u8 0 SET u8 0 255\nLCS str num\nGETDEL str\nGETEX num EX 100",
        "HGETALL hash\nHGETALL missing\nHMGET hash f nope\nHINCRBY hash f 2\nHINCRBY hash g 2\nHINCRBYFLOAT hash f 0.5\nHSETNX hash f 1\nHDEL hash f nope\nHKEYS hash\nHSCAN hash 0\nHSCAN missing 0\nHSTRLEN hash g\nHGET str f",
        "LRANGE list 0 -1\nLINDEX list 9\nLPOS list b\nLINSERT list BEFORE b x\nLSET list 9 x\nLSET missing 0 x\nLMOVE list other LEFT RIGHT\nLMPOP 2 missing list LEFT COUNT 2\nLPOP list 2\nLPOP missing\nLPOP missing 2\nLPUSHX missing x\nRPOPLPUSH list list",
        "SMEMBERS set\nSISMEMBER set 1\nSMISMEMBER set 1 9\nSINTERCARD 1 set\nSUNIONSTORE dest set set\nSMOVE set other 1\nSCARD missing\nSSCAN set 0\nSDIFF set missing\nSORT set DESC\nSORT list ALPHA LIMIT 0 2\nSORT str\nSORT hash BY x GET #",
        "ZRANGE zset 0 -1 WITHSCORES\nZSCORE zset b\nZSCORE zset nope\nZMSCORE zset a nope\nZINCRBY zset 1.5 a\nZADD zset NX XX 1 a\nZADD zset INCR 1 a\nZADD zset x a\nZRANK zset b\nZRANGEBYSCORE zset (1 +inf WITHSCORES\nZRANGEBYSCORE zset x y\nZPOPMIN zset\nZPOPMAX missing\nZUNION 2 zset zset WITHSCORES\nZINTERCARD 2 zset missing\nZRANGESTORE dest zset 0 -1\nZLEXCOUNT zset - +\nZSCAN zset 0\nZMPOP 1 zset MIN",
        "GEOPOS geo p nope\nGEODIST geo p q km\nGEODIST geo p nope\nGEOHASH geo p\nGEOSEARCH geo FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHCOORD WITHDIST\nGEOADD geo 200 100 x\nGEORADIUS geo 15 37 200 km\nGEOSEARCHSTORE dest geo FROMMEMBER p BYBOX 400 400 km",
        "XADD stream 1-1 f v\nXADD stream 9-1 f\nXADD stream 9-1 f v\nXADD missing NOMKSTREAM 1-1 f v\nXLEN stream\nXRANGE stream - +\nXRANGE stream x y\nXREAD COUNT 1 STREAMS stream 0\nXREAD STREAMS missing 0\nXREADGROUP GROUP grp me COUNT 1 STREAMS stream >\nXREADGROUP GROUP nope me STREAMS stream >\nXPENDING stream grp\nXACK stream grp 1-1\nXINFO GROUPS stream\nXINFO STREAM missing\nXGROUP CREATE missing g 0\nXGROUP CREATE stream grp 0\nXGROUP DESTROY stream nope\nXDEL stream 1-1\nXTRIM stream MAXLEN 1\nXTRIM stream MAXLEN x\nXSETID stream 99-1",
        "PFCOUNT hll\nPFCOUNT missing\nPFCOUNT hll missing\nPFADD hll c\nPFMERGE dest hll\nPFADD str x\nOBJECT ENCODING list\nOBJECT ENCODING missing\nOBJECT REFCOUNT str\nOBJECT FREQ str\nOBJECT HELP\nOBJECT BOGUS x\nMEMORY USAGE missing\nMEMORY BOGUS\nTOUCH str missing",
        "RENAME str other\nRENAME missing x\nRENAMENX other num\nCOPY other copy\nCOPY other copy\nCOPY other copy DB 1 REPLACE\nMOVE other 2\nMOVE missing 2\nMOVE num 0\nMOVE num 99\nMOVE num x\nDEL num missing\nUNLINK list\nDBSIZE\nSWAPDB 0 1\nSWAPDB 0 x\nSWAPDB 0 99\nGET copy\nFLUSHDB x\nFLUSHDB ASYNC\nFLUSHALL SYNC\nDBSIZE",
        "EVAL return\\sKEYS[1] 1 k\nEVAL return\\s{1,'a',{2}} 0\nEVAL x 0\nEVAL return\\s1 x\nEVAL return\\s1 -1\nEVAL return\\s1 9 a\nEVAL return\\sredis.call('get',KEYS[1]) 1 list\nEVAL return\\sredis.error_reply('MY\\serror') 0\nEVAL return\\sredis.pcall('bogus') 0\nEVALSHA 0000000000000000000000000000000000000000 0\nEVALSHA x 0\nEVAL_RO return\\sredis.call('set','a','b') 0\nSCRIPT LOAD return\\s7\nEVALSHA e94a1938d43a20afd3ac2e2e1bd1c96c5e5bf4d4 0\nSCRIPT EXISTS e94a1938d43a20afd3ac2e2e1bd1c96c5e5bf4d4 x\nSCRIPT BOGUS\nSCRIPT KILL\nSCRIPT LOAD x(",
        "FUNCTION LOAD #!lua\\sname=lib\\nredis.register_function('f',function(k,a)\\sreturn\\sredis.call('set',k[1],a[1])\\send)\nFCALL f 1 fk fv\nGET fk\nFCALL nope 0\nFCALL_RO f 1 fk fv\nFUNCTION LIST\nFUNCTION LOAD x\nFUNCTION LOAD #!lua\\sname=lib\\nx\nFUNCTION DELETE nope\nFUNCTION STATS\nFUNCTION KILL\nFUNCTION BOGUS\nFUNCTION DELETE lib\nFUNCTION LIST",
        "CONFIG GET maxmemory\nCONFIG GET\nCONFIG SET x\nCONFIG SET bogus 1\nCONFIG BOGUS\nCONFIG SET hash-max-listpack-entries 64\nCONFIG GET hash-max-listpack-entries\nCONFIG RESETSTAT x\nCONFIG REWRITE",
        "COMMAND COUNT\nCOMMAND INFO get nope\nCOMMAND GETKEYS set a b\nCOMMAND GETKEYS ping\nCOMMAND BOGUS\nCOMMAND LIST FILTERBY PATTERN xreadg*\nCOMMAND DOCS nope",
        "ACL WHOAMI\nACL LIST\nACL CAT nope\nACL GETUSER nobody\nACL BOGUS\nACL DRYRUN default get k\nACL SETUSER x bogus\nACL DELUSER nobody",
        "LATENCY LATEST\nLATENCY RESET\nLATENCY HISTORY x\nLATENCY BOGUS\nSLOWLOG LEN x\nSLOWLOG BOGUS\nSLOWLOG GET x\nSLOWLOG GET -2\nMEMORY DOCTOR x\nDEBUG OBJECT str\nDEBUG SLEEP 0\nLASTSAVE x\nINFO bogus\nINFO cluster\nROLE x\nLOLWUT VERSION x\nCLUSTER INFO\nCLUSTER BOGUS\nMODULE LIST\nMODULE BOGUS",
        "SCAN x\nSCAN 0 COUNT x\nSCAN 0 BOGUS\nSCAN 0 COUNT 1000 TYPE stream\nKEYS zs*\nKEYS",
        "BOGUS\nbogus a b c\nGET\nGET a b\nSET a\nDEL\nHSET hash f\nMSET a 1 b\nMSETNX a 1 num 2\nPFMERGE\nXADD stream\nZADD zset 1",
        "DUMP missing\nRESTORE dest 0 bogus\nRESTORE str 0 bogus\nRESTORE dest x bogus\nEXPIRETIME missing\nPEXPIRETIME str\nEXPIRE str x\nEXPIRE str 100 BOGUS\nEXPIREAT str 99999999999999999999\nPTTL missing",
        "TIME x\nECHO\nPFSELFTEST x\nWAIT\nSUBSTR str 0 1\nLASTSAVE 1 2\nBGSAVE BOGUS\nSAVE x\nDBSIZE x\nRANDOMKEY x\nFLUSHALL BOGUS\nROLE",
    ];
    let mut talks: Vec<Talk> = texts.iter().map(|text| Talk::of(text)).collect();
    talks.extend(texts.iter().map(|text| Talk::of(&format!("HELLO 3\n{text}"))));
    Bench::start().compare(DATA, &talks);
}
