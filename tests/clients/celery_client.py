"""Calls Celery's tasks in all ways, round by round, until standard input ends; checks every result.

Usage: celery_client.py PORT FILE_OF_SENT_TASKS"""

import os
import sys
import threading

os.environ["REDIS_URL"] = f"redis://127.0.0.1:{sys.argv[1]}/0"

from celery import chord, group  # noqa: E402
from celery_tasks import numbered, total  # noqa: E402

PATIENCE = 50
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
sent = open(sys.argv[2], "w", buffering=1)
last = 0


def fresh(count):
    global last
    numbers = range(last + 1, last + 1 + count)
    last += count
    return list(numbers)


def note(numbers):
    sent.write("".join(f"{number}\n" for number in numbers))


while not ended.is_set():
    alone = fresh(10)
    results = [numbered.delay(number) for number in alone]
    note(alone)
    together = fresh(10)
    grouped = group(numbered.s(number) for number in together)()
    note(together)
    later = fresh(3)
    delayed = [numbered.apply_async((number,), countdown=0.2) for number in later]
    note(later)
    summed = fresh(5)
    chorded = chord((numbered.s(number) for number in summed), total.s())()
    note(summed)
    assert [result.get(timeout=PATIENCE) for result in results] == alone
    assert grouped.get(timeout=PATIENCE) == together
    assert [result.get(timeout=PATIENCE) for result in delayed] == later
    assert chorded.get(timeout=PATIENCE) == sum(summed)
    print("round", flush=True)
