"""What Celery's worker runs: every task appends its number to a file; and what a client needs to call them."""

import os

from celery import Celery

URL = os.environ["REDIS_URL"]
app = Celery("celery_tasks", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_connection_retry=False,
    task_default_queue="numbered",
    worker_prefetch_multiplier=2,
    result_expires=600,
)


@app.task
def numbered(number):
    with open(os.environ["JOBS_DONE"], "a") as done:
        done.write(f"{number}\n")
    return number


@app.task
def total(numbers):
    return sum(numbers)
