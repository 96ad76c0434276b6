//! redis-rs: one connection of the synchronous client, multiplexed ones in both protocols, a connection manager.
//!
//! Usage: redis_rs PORT. One line per round; ends when standard input does.

use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use multistore_clients::{PATIENCE, Rounds, port};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, Commands, Connection, ErrorKind, PushInfo, PushKind,
    RedisError, RedisResult, Script, ServerErrorKind, Value, pipe,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// A lock is given back by who holds it.
const RELEASE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// The synchronous client.
fn synchronous(redis: &mut Connection, p: &str) -> RedisResult<()> {
    let key = |name: &str| format!("{p}{name}");
    let () = redis.set_ex(key("k"), "v", 100)?;
    assert_eq!(redis.get::<_, String>(key("k"))?, "v");
    assert!((1..=100).contains(&redis.ttl::<_, i64>(key("k"))?));
    assert_eq!(redis.get::<_, Option<String>>(key("missing"))?, None);
    let many: Vec<Option<i64>> = {
        let () = redis.mset(&[(key("a"), 1), (key("b"), 2)])?;
        redis.mget(&[key("a"), key("missing"), key("b")])?
    };
    assert_eq!(many, [Some(1), None, Some(2)]);
    let replies: (Vec<i64>, i64, Vec<String>) = pipe()
        .rpush(key("l"), &[1, 2])
        .cmd("LLEN")
        .arg(key("l"))
        .lrange(key("l"), 0, -1)
        .query(redis)
        .map(|(first, n, all): (i64, i64, Vec<String>)| (vec![first], n, all))?;
    assert_eq!(replies, (vec![2], 2, vec!["1".to_owned(), "2".to_owned()]));
    // EXEC may abort at a flip: it is tried again.
    for round in 1..=5 {
        let counted: (i64,) = redis::transaction(redis, &[key("n")], |redis, pipe| {
            let old: Option<i64> = redis.get(key("n"))?;
            pipe.set(key("n"), old.unwrap_or(0) + 1).ignore().get(key("n")).query(redis)
        })?;
        assert_eq!(counted.0, round);
    }
    assert_eq!(redis.blpop::<_, Option<(String, String)>>(key("nothing"), 0.01)?, None);
    let () = redis.hset_multiple(key("h"), &[("f", "1"), ("g", "2")])?;
    let found: Vec<String> = redis.scan_match::<_, String>(key("*"))?.collect::<RedisResult<_>>()?;
    assert!(["k", "a", "b", "l", "n", "h"].iter().all(|name| found.contains(&key(name))), "{found:?}");
    Ok(())
}

/// Many tasks share one connection: their commands leave as pipelines.
async fn multiplexed(redis: &MultiplexedConnection, p: &str) -> RedisResult<()> {
    let key = |name: &str| format!("{p}{name}");
    let tasks = (0..100).map(|at| {
        let (mut redis, key) = (redis.clone(), key(&format!("m{at}")));
        async move {
            let () = redis.set(&key, at).await?;
            redis.get::<_, i64>(&key).await
        }
    });
    assert_eq!(try_join_all(tasks).await?, (0..100).collect::<Vec<i64>>());
    let counts = join_all((0..50).map(|_| {
        let (mut redis, key) = (redis.clone(), key("count"));
        async move { redis.incr::<_, _, i64>(&key, 1).await.expect("INCR") }
    }));
    let mut counts = counts.await;
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<i64>>());

    let mut redis = redis.clone();
    let whole: (Option<String>, i64) = pipe()
        .atomic()
        .set(key("t"), "v")
        .ignore()
        .get(key("t"))
        .sadd(key("s"), &["a", "b", "c"])
        .query_async(&mut redis)
        .await?;
    assert_eq!(whole, (Some("v".to_owned()), 3));
    assert!(redis.spop::<_, Option<String>>(key("s")).await?.is_some());
    assert_eq!(redis.scard::<_, i64>(key("s")).await?, 2);
    let failed = redis.lpush::<_, _, i64>(key("t"), 1).await.expect_err("a string is no list");
    assert!(is_wrong_type(&failed), "{failed}");
    let broken = pipe().atomic().cmd("SET").arg(key("t")).query_async::<Value>(&mut redis).await;
    let broken = broken.expect_err("a transaction with a command that is none");
    assert_eq!(broken.kind(), ErrorKind::Server(ServerErrorKind::ExecAbort), "{broken}");

    let release = Script::new(RELEASE);
    assert_eq!(redis.set_nx::<_, _, bool>(key("lock"), "me").await?, true);
    assert_eq!(redis.set_nx::<_, _, bool>(key("lock"), "you").await?, false);
    assert_eq!(release.key(key("lock")).arg("you").invoke_async::<i64>(&mut redis).await?, 0);
    assert_eq!(release.key(key("lock")).arg("me").invoke_async::<i64>(&mut redis).await?, 1);

    let id: String = redis.xadd(key("x"), "*", &[("f", "v")]).await?;
    let read: redis::streams::StreamReadReply =
        redis.xread(&[key("x")], &["0"]).await.map(Option::unwrap_or_default)?;
    assert_eq!(read.keys[0].ids[0].id, id);
    let scores: Vec<(String, f64)> = {
        let _: i64 = redis.zadd_multiple(key("z"), &[(1.5, "a"), (2.0, "b")]).await?;
        redis.zrange_withscores(key("z"), 0, -1).await?
    };
    assert_eq!(scores, [("a".to_owned(), 1.5), ("b".to_owned(), 2.0)]);
    Ok(())
}

/// A consumer blocks on a connection of its own while a producer fills its list.
async fn blocking(client: &Client, redis: &MultiplexedConnection, p: &str) -> RedisResult<()> {
    let queue = format!("{p}queue");
    let mut consumer = client.get_multiplexed_async_connection_with_config(&patient()).await?;
    let consume = async {
        let mut took = Vec::new();
        for _ in 0..20 {
            let (_, item): (String, i64) = consumer.blpop(&queue, 20.0).await?;
            took.push(item);
        }
        RedisResult::Ok(took)
    };
    let mut producer = redis.clone();
    let produce = async {
        for at in 0..20 {
            let _: i64 = producer.rpush(&queue, at).await?;
        }
        RedisResult::Ok(())
    };
    let (took, made) = tokio::join!(consume, produce);
    made?;
    assert_eq!(took?, (0..20).collect::<Vec<i64>>());
    Ok(())
}

/// RESP2: a connection for messages alone.
async fn pubsub(client: &Client, redis: &MultiplexedConnection, p: &str) -> RedisResult<()> {
    let channel = format!("{p}news");
    let mut ears = client.get_async_pubsub().await?;
    ears.subscribe(&channel).await?;
    ears.psubscribe(format!("{p}n*")).await?;
    let mut redis = redis.clone();
    for at in 0..20 {
        let _: i64 = redis.publish(&channel, at).await?;
    }
    let heard = timeout(PATIENCE, ears.on_message().take(40).collect::<Vec<_>>()).await.expect("40 messages");
    let of = |pattern: bool| -> Vec<i64> {
        let mine = heard.iter().filter(|message| message.from_pattern() == pattern);
        mine.map(|message| message.get_payload().expect("a number")).collect()
    };
    assert_eq!(of(false), (0..20).collect::<Vec<i64>>());
    assert_eq!(of(true), (0..20).collect::<Vec<i64>>());
    Ok(())
}

/// RESP3: messages come between the replies of the same connection.
async fn pushes(
    redis: &MultiplexedConnection,
    pushed: &mut UnboundedReceiver<PushInfo>,
    p: &str,
) -> RedisResult<()> {
    let channel = format!("{p}pushed");
    let mut redis = redis.clone();
    redis.subscribe(&channel).await?;
    for at in 0..20 {
        let _: i64 = redis.publish(&channel, at).await?;
        assert_eq!(redis.incr::<_, _, i64>(format!("{p}beside"), 1).await?, at + 1);
    }
    let mut heard = Vec::new();
    while heard.len() < 20 {
        let push = timeout(PATIENCE, pushed.recv()).await.expect("a push").expect("the connection");
        if push.kind == PushKind::Message && push.data[0] == Value::BulkString(channel.clone().into_bytes()) {
            heard.push(redis::from_redis_value::<i64>(push.data[1].clone()).expect("a number"));
        }
    }
    assert_eq!(heard, (0..20).collect::<Vec<i64>>());
    redis.unsubscribe(&channel).await?;
    Ok(())
}

fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE)).set_connection_timeout(Some(PATIENCE))
}

async fn managed(manager: &mut ConnectionManager, p: &str) -> RedisResult<()> {
    let values: Vec<i64> = pipe().set(p, 7).ignore().incr(p, 1).get(p).query_async(manager).await?;
    assert_eq!(values, [8, 8]);
    Ok(())
}

#[tokio::main]
async fn main() -> RedisResult<()> {
    let rounds = Rounds::begin();
    let old = Client::open(format!("redis://127.0.0.1:{}/0", port()))?;
    let new = Client::open(format!("redis://127.0.0.1:{}/0?protocol=resp3", port()))?;
    let mut synchronous_connection = old.get_connection_with_timeout(PATIENCE)?;
    let two = old.get_multiplexed_async_connection_with_config(&patient()).await?;
    let (push, mut pushed) = unbounded_channel();
    let three = new.get_multiplexed_async_connection_with_config(&patient().set_push_sender(push)).await?;
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(PATIENCE)).set_number_of_retries(0);
    let mut manager = new.get_connection_manager_with_config(config).await?;
    for number in 1.. {
        let p = format!("rs:{number}:");
        tokio::task::block_in_place(|| synchronous(&mut synchronous_connection, &format!("{p}sync:")))?;
        for (protocol, client, redis) in [(2, &old, &two), (3, &new, &three)] {
            let p = format!("{p}{protocol}:");
            multiplexed(redis, &p).await?;
            blocking(client, redis, &p).await?;
            pubsub(client, redis, &p).await?;
        }
        pushes(&three, &mut pushed, &p).await?;
        managed(&mut manager, &format!("{p}managed")).await?;
        if !rounds.next() {
            break;
        }
    }
    Ok(())
}
