//! What a rollout between two versions must hold: all types, cold and warm, there and back.

use super::*;

/// Every type, made on one store before the proxy knows of it.
const COLD: &[&str] = &[
    "SET text hello",
    "SET expiring v PX 3600000",
    "SET number 41",
    "PFADD log a b c",
    "SETBIT bits 1000 1",
    "RPUSH list a b a 1 2.5",
    "SADD ints 1 2 3",
    "SADD set a b c 1",
    "HSET hash f v g 1 h 2.5",
    "ZADD zset 1 one 2.5 two inf most 0.1 tenth",
    "EXPIRE zset 5000",
    "XADD stream 1-1 f v",
    "XADD stream 2-0 f v2",
    "XADD stream 3-7 f v3",
    "XGROUP CREATE stream g 0",
    "XGROUP CREATECONSUMER stream g idle",
    "XREADGROUP GROUP g one COUNT 2 STREAMS stream >",
    "XDEL stream 2-0",
];

/// Writes that depend on what the keys hold, so that each is copied before or afterwards.
const TOUCH: &[&str] = &[
    "APPEND text !",
    "APPEND expiring !",
    "INCR number",
    "PFADD log d",
    "SETBIT bits 5 1",
    "LPUSH list first",
    "SADD ints 4",
    "SPOP set",
    "HSET hash i 3",
    "HINCRBYFLOAT hash h 0.25",
    "ZINCRBY zset 1 one",
    "XADD stream * f v",
    "XREADGROUP GROUP g two COUNT 10 STREAMS stream >",
    "XACK stream g 1-1",
];

/// A key of its own in each stage, of every type.
fn write(client: &mut Client, round: usize) {
    for line in [
        "SET made:# v",
        "INCRBYFLOAT float:# 0.1",
        "LPUSH queue:# a b c",
        "RPOP queue:#",
        "SADD members:# a b c d e",
        "SPOP members:# 2",
        "HSET fields:# f v",
        "ZADD scores:# 1.5 a 2.5 b",
        "ZPOPMIN scores:#",
        "XADD entries:# * f v",
        "XADD entries:# MAXLEN ~ 100 * f v",
        "SET short:# v EX 3000",
        "RENAME made:# named:#",
        "EVAL return(redis.call('INCR',KEYS[1])) 1 counter:#",
        "EVAL redis.call('SET',KEYS[1],redis.call('TIME')[1]) 1 time:#",
    ] {
        let line = line.replace('#', &round.to_string());
        let reply = client.words(&line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    let replies = client.pipeline(&[
        &["MULTI"],
        &["INCR", "number"],
        &["SPOP", "ints"],
        &["SADD", "ints", "a", "b"],
        &["XADD", "stream", "*", "in", "multi"],
        &["EXEC"],
    ]);
    assert_eq!(replies[5].items().len(), 4, "{replies:?}");
}

#[test]
fn a_whole_rollout_there_and_back() {
    each_way(|primary, secondary, servers| {
        let mut pair = pair(servers, Stage::SecondaryOnly);
        for line in COLD {
            assert!(!pair.secondary.words(line).is_error(), "{secondary}: {line}");
        }
        let mut clients = [pair.client(), pair.proxy.client3()];
        let there = Stage::ALL;
        let rollout = there.into_iter().chain(there.into_iter().rev().skip(1));
        for (round, stage) in rollout.enumerate() {
            let when = format!("primary {primary}, secondary {secondary}, {stage}, round {round}");
            pair.stage(stage);
            for (at, client) in clients.iter_mut().enumerate() {
                write(client, 2 * round + at);
            }
            if stage.is_dual() {
                for line in TOUCH {
                    let reply = clients[0].words(line);
                    assert!(!reply.is_error(), "{when}: {line}: {reply:?}");
                }
                settle(&pair, &when);
                let status = pair.proxy.instance_status(INSTANCE);
                assert_eq!(status["sync"]["copies_unsupported"], 0, "{when}");
            }
            if round > 2 && stage.is_dual() {
                // From here on nobody has anything that the other one lacks.
                assert_same(&pair, &when);
            }
        }
    });
}

#[test]
fn every_type_is_copied_in_either_direction() {
    each_way(|primary, secondary, servers| {
        for stage in [Stage::DualSecondaryDefault, Stage::DualPrimaryDefault] {
            let when = format!("primary {primary}, secondary {secondary}, {stage}");
            for server in &servers {
                server.words("FLUSHALL");
            }
            for line in COLD {
                assert!(!servers[1].words(line).is_error(), "{when}: {line}");
            }
            let urls = servers.each_ref().map(RedisServer::url);
            let config = ProxyConfig::new(INSTANCE, &urls[0], &urls[1]).stage(stage);
            let proxy = Proxy::start(EAGER.iter().fold(config, |config, line| config.setting(line)));
            let mut client = proxy.client();
            for line in TOUCH {
                let reply = client.words(line);
                assert!(!reply.is_error(), "{when}: {line}: {reply:?}");
            }
            let mut last = serde_json::Value::Null;
            let settled = poll_for(COPIED, || {
                last = proxy.instance_status(INSTANCE)["sync"].clone();
                (last["suspects"] == 0 && last["copies_under_way"] == 0).then_some(())
            });
            assert!(settled.is_some(), "{when}: {last:#}");
            assert_exactly_same(&mut servers[1].client(), &mut servers[0].client(), &when);
            let by_type = servers[0].calls_of("rename") + servers[0].calls_of("renamenx");
            assert!(primary != "redis-6.2" || by_type > 5, "{when}: payloads of a newer server were taken");
        }
    });
}

#[test]
fn a_whole_store_of_another_version_is_repaired() {
    each_way(|primary, secondary, servers| {
        let when = format!("primary {primary}, secondary {secondary}");
        let mut pair = pair(servers, Stage::DualPrimaryDefault);
        pair.stage(Stage::PrimaryOnly);
        let mut client = pair.client();
        for line in COLD {
            assert!(!client.words(line).is_error(), "{when}: {line}");
        }
        // The secondary was left behind: it is made equal as a whole.
        pair.stage(Stage::DualPrimaryDefault);
        assert_same(&pair, &when);
    });
}
