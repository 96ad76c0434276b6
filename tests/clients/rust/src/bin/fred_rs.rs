//! fred: pipelines, transactions, scripts, messages, in both protocols. It pipelines whatever its tasks send.
//!
//! Usage: fred_rs PORT. One line per round; ends when standard input does.

use fred::clients::SubscriberClient;
use fred::prelude::*;
use fred::types::scripts::Script;
use fred::types::{Expiration, RespVersion, SetOptions};
use futures::TryStreamExt;
use futures::future::try_join_all;
use multistore_clients::{PATIENCE, Rounds, port};
use tokio::time::timeout;

/// A lock is given back by who holds it.
const RELEASE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

async fn commands(redis: &Client, p: &str) -> Result<(), Error> {
    let key = |name: &str| format!("{p}{name}");
    let tasks = (0..100).map(|at| {
        let (redis, key) = (redis.clone(), key(&format!("m{at}")));
        async move {
            let _: () = redis.set(&key, at, Some(Expiration::EX(100)), None, false).await?;
            redis.get::<i64, _>(&key).await
        }
    });
    assert_eq!(try_join_all(tasks).await?, (0..100).collect::<Vec<i64>>());
    let many: Vec<Option<i64>> = redis.mget(vec![key("m1"), key("missing"), key("m2")]).await?;
    assert_eq!(many, [Some(1), None, Some(2)]);

    let pipeline = redis.pipeline();
    let _: () = pipeline.incr(key("n")).await?;
    let _: () = pipeline.hgetall(key("n")).await?;
    let _: () = pipeline.incr(key("n")).await?;
    let replies = pipeline.try_all::<i64>().await;
    assert_eq!(replies[0].as_ref().ok(), Some(&1));
    assert!(replies[1].as_ref().is_err_and(|error| error.details().starts_with("WRONGTYPE")), "{replies:?}");
    assert_eq!(replies[2].as_ref().ok(), Some(&2));

    let transaction = redis.multi();
    let _: () = transaction.set(key("t"), "v", None, None, false).await?;
    let _: () = transaction.get(key("t")).await?;
    let _: () = transaction.sadd(key("s"), vec!["a", "b", "c"]).await?;
    let whole: (String, String, i64) = transaction.exec(true).await?;
    assert_eq!(whole, ("OK".to_owned(), "v".to_owned(), 3));
    let popped: Option<String> = redis.spop(key("s"), None).await?;
    assert!(popped.is_some());
    assert_eq!(redis.scard::<i64, _>(key("s")).await?, 2);

    let script = Script::from_lua(RELEASE);
    let lock = key("lock");
    let taken: Option<String> = redis.set(&lock, "me", None, Some(SetOptions::NX), false).await?;
    assert_eq!(taken.as_deref(), Some("OK"));
    let taken: Option<String> = redis.set(&lock, "you", None, Some(SetOptions::NX), false).await?;
    assert_eq!(taken, None);
    assert_eq!(script.evalsha_with_reload::<i64, _, _>(redis, vec![lock.clone()], vec!["you"]).await?, 0);
    assert_eq!(script.evalsha_with_reload::<i64, _, _>(redis, vec![lock], vec!["me"]).await?, 1);

    let _: i64 = redis.zadd(key("z"), None, None, false, false, vec![(1.5, "a"), (2.0, "b")]).await?;
    let scores: Vec<(String, f64)> = redis.zrange(key("z"), 0, -1, None, false, None, true).await?;
    assert_eq!(scores, [("a".to_owned(), 1.5), ("b".to_owned(), 2.0)]);
    let found: Vec<Key> = redis.scan_buffered(key("m*"), Some(50), None).try_collect().await?;
    assert!(found.len() >= 100, "{} keys", found.len());
    Ok(())
}

/// A consumer blocks on a client of its own while a producer fills its list.
async fn blocking(consumer: &Client, redis: &Client, p: &str) -> Result<(), Error> {
    let queue = format!("{p}queue");
    let consume = async {
        let mut took = Vec::new();
        for _ in 0..20 {
            let (_, item): (String, i64) = consumer.blpop(&queue, 20.0).await?;
            took.push(item);
        }
        Ok::<_, Error>(took)
    };
    let produce = async {
        for at in 0..20 {
            let _: i64 = redis.rpush(&queue, at).await?;
        }
        Ok::<_, Error>(())
    };
    let (took, made) = tokio::join!(consume, produce);
    made?;
    assert_eq!(took?, (0..20).collect::<Vec<i64>>());
    Ok(())
}

async fn messages(ears: &SubscriberClient, redis: &Client, p: &str) -> Result<(), Error> {
    let channel = format!("{p}news");
    let mut heard = ears.message_rx();
    ears.subscribe(&channel).await?;
    // fred does not await the confirmation: the first messages tell that it has come.
    while redis.publish::<i64, _, _>(&channel, "ready?").await? == 0 {}
    for at in 0..20 {
        let _: i64 = redis.publish(&channel, at).await?;
    }
    let mut numbers = Vec::new();
    while numbers.len() < 20 {
        let message = timeout(PATIENCE, heard.recv()).await.expect("a message").expect("the client");
        assert_eq!(message.channel.to_string(), channel);
        if message.value.as_str().as_deref() != Some("ready?") {
            numbers.push(message.value.convert::<i64>()?);
        }
    }
    assert_eq!(numbers, (0..20).collect::<Vec<i64>>());
    ears.unsubscribe(&channel).await
}

fn builder(version: RespVersion) -> Builder {
    let mut config = Config::from_url(&format!("redis://127.0.0.1:{}/0", port())).expect("a URL");
    config.version = version;
    let mut builder = Builder::from_config(config);
    builder
        .with_connection_config(|connection| connection.max_command_attempts = 1)
        .with_performance_config(|performance| performance.default_command_timeout = PATIENCE);
    builder
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let rounds = Rounds::begin();
    let mut clients = Vec::new();
    for version in [RespVersion::RESP2, RespVersion::RESP3] {
        let builder = builder(version);
        let (redis, consumer, ears) =
            (builder.build()?, builder.build()?, builder.build_subscriber_client()?);
        redis.init().await?;
        consumer.init().await?;
        ears.init().await?;
        clients.push((redis, consumer, ears));
    }
    for number in 1.. {
        for (at, (redis, consumer, ears)) in clients.iter().enumerate() {
            let p = format!("fred:{number}:{}:", at + 2);
            commands(redis, &p).await?;
            blocking(consumer, redis, &p).await?;
            messages(ears, redis, &p).await?;
        }
        if !rounds.next() {
            break;
        }
    }
    for (redis, consumer, ears) in clients {
        redis.quit().await?;
        consumer.quit().await?;
        ears.quit().await?;
    }
    Ok(())
}
