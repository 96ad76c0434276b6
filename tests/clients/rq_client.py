"""Enqueues RQ's jobs in all ways, round by round, until standard input ends; checks results.

Usage: rq_client.py PORT FILE_OF_SENT_JOBS"""

import sys
import threading
import time
from datetime import timedelta

import redis
import rq
from rq_jobs import numbered

PATIENCE = 50
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
sent = open(sys.argv[2], "w", buffering=1)
queue = rq.Queue("numbered", connection=redis.Redis(port=int(sys.argv[1])))
last = 0


def fresh(count):
    global last
    numbers = range(last + 1, last + 1 + count)
    last += count
    return list(numbers)


def note(numbers):
    sent.write("".join(f"{number}\n" for number in numbers))


while not ended.is_set():
    alone = fresh(8)
    jobs = [queue.enqueue(numbered, number) for number in alone]
    note(alone)
    many = fresh(8)
    jobs += queue.enqueue_many([rq.Queue.prepare_data(numbered, (number,)) for number in many])
    note(many)
    first, second = fresh(2)
    before = queue.enqueue(numbered, first)
    jobs += [before, queue.enqueue(numbered, second, depends_on=before)]
    note([first, second])
    later = fresh(2)
    for number in later:
        queue.enqueue_in(timedelta(milliseconds=100), numbered, number)
    note(later)
    until = time.monotonic() + PATIENCE
    for number, job in zip(alone + many + [first, second], jobs):
        while not job.is_finished:
            assert not job.is_failed and time.monotonic() < until, job.get_status()
            time.sleep(0.01)
        assert job.return_value() == number
    print("round", flush=True)
