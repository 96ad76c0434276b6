"""redis-py in both protocols: pipelines, transactions, locks, pub/sub, blocking, scripts, streams.

Usage: redis_py.py PORT. One line per round; ends when standard input does."""

import sys
import threading

import redis

PORT = int(sys.argv[1])
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()


def connect(protocol):
    return redis.Redis(port=PORT, protocol=protocol, decode_responses=True, socket_timeout=30)


def strings(r, p):
    assert r.set(p + "k", "v", ex=100)
    assert r.get(p + "k") == "v" and 0 < r.ttl(p + "k") <= 100
    assert r.set(p + "k", "w", nx=True) is None
    assert r.get(p + "missing") is None
    assert r.mset({p + "a": 1, p + "b": 2}) and r.mget(p + "a", p + "missing", p + "b") == ["1", None, "2"]
    assert r.incrbyfloat(p + "f", 1.5) == 1.5
    assert r.zadd(p + "z", {"a": 1.5, "b": 2}) == 2
    scores = r.zrange(p + "z", 0, -1, withscores=True)
    assert [(member, score) for member, score in scores] == [("a", 1.5), ("b", 2.0)], scores
    assert r.hset(p + "h", mapping={"f": "1", "g": "2"}) == 2 and r.hgetall(p + "h") == {"f": "1", "g": "2"}
    assert r.sadd(p + "s", *range(100)) == 100 and r.scard(p + "s") == 100
    assert r.spop(p + "s") is not None and r.scard(p + "s") == 99
    assert len(set(r.sscan_iter(p + "s", count=10))) == 99
    assert p + "k" in set(r.scan_iter(match=p + "*", count=50))
    try:
        r.incr(p + "h")
        raise AssertionError("no error")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error)


def pipelines(r, p):
    with r.pipeline(transaction=False) as pipe:
        for at in range(200):
            pipe.rpush(p + "l", at)
        assert pipe.execute() == list(range(1, 201))
    with r.pipeline() as pipe:
        pipe.lrange(p + "l", 0, 1).llen(p + "l").set(p + "k", "x").get(p + "k")
        assert pipe.execute() == [["0", "1"], 200, True, "x"]
    with r.pipeline(transaction=False) as pipe:
        pipe.get(p + "k").incr(p + "k").get(p + "k")
        replies = pipe.execute(raise_on_error=False)
        assert replies[0] == replies[2] == "x" and isinstance(replies[1], redis.ResponseError)

    def add(pipe):
        value = int(pipe.get(p + "n") or 0)
        pipe.multi()
        pipe.set(p + "n", value + 1)

    # An EXEC may abort at a flip: redis-py tries again.
    threads = [threading.Thread(target=lambda: [r.transaction(add, p + "n") for _ in range(5)]) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert r.get(p + "n") == "15", r.get(p + "n")


def locks(r, p):
    counter = {"inside": 0, "most": 0}

    def work():
        for _ in range(5):
            with r.lock(p + "lock", timeout=60, blocking_timeout=60, sleep=0.005):
                counter["inside"] += 1
                counter["most"] = max(counter["most"], counter["inside"])
                counter["inside"] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert counter["most"] == 1
    lock = r.lock(p + "lock", timeout=60)
    assert lock.acquire(blocking=False) and not r.lock(p + "lock").acquire(blocking=False)
    assert lock.extend(10) and lock.owned() and lock.reacquire()
    lock.release()
    assert not r.exists(p + "lock")


def pubsub(r, p):
    with r.pubsub(ignore_subscribe_messages=True) as ears:
        ears.subscribe(p + "news")
        ears.psubscribe(p + "n*")
        # The confirmations.
        assert ears.get_message(timeout=30) is None and ears.get_message(timeout=30) is None
        for at in range(20):
            r.publish(p + "news", at)
        heard = []
        while len(heard) < 40:
            message = ears.get_message(timeout=30)
            assert message is not None, heard
            heard.append((message["type"], message["data"]))
        assert [data for kind, data in heard if kind == "message"] == [str(at) for at in range(20)]
        assert [data for kind, data in heard if kind == "pmessage"] == [str(at) for at in range(20)]
        ears.ping()


def blocking(r, p):
    took = []

    def take():
        while (item := r.blpop(p + "queue", timeout=20)) and item[1] != "end":
            took.append(item[1])

    threads = [threading.Thread(target=take) for _ in range(3)]
    [thread.start() for thread in threads]
    for at in range(60):
        r.rpush(p + "queue", at)
    r.rpush(p + "queue", "end", "end", "end")
    [thread.join() for thread in threads]
    assert sorted(map(int, took)) == list(range(60)), took
    assert r.llen(p + "queue") == 0
    assert r.brpop(p + "queue", timeout=0.05) is None
    assert r.bzpopmin(p + "zz", timeout=0.05) is None


def scripts_and_streams(r, p):
    script = r.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
    assert script(keys=[p + "c"], args=[5]) == 5 and script(keys=[p + "c"], args=[2]) == 7
    first = r.xadd(p + "x", {"f": "v"})
    r.xgroup_create(p + "x", "g", id="0")
    entries = r.xreadgroup("g", "me", {p + "x": ">"})
    entries = entries if isinstance(entries, dict) else dict(entries)
    assert first in str(entries)
    assert r.xack(p + "x", "g", first) == 1 and r.xlen(p + "x") == 1
    assert r.client_setname("me") and r.client_getname() == "me"
    assert r.client_list() and r.info()["redis_version"] and r.ping()


number = 0
connections = {2: connect(2), 3: connect(3)}
while not ended.is_set():
    number += 1
    for protocol, r in connections.items():
        prefix = f"py:{protocol}:{number}:"
        for part in (strings, pipelines, locks, pubsub, blocking, scripts_and_streams):
            part(r, prefix)
    print("round", flush=True)
