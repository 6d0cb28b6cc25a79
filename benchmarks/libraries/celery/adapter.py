"""Run Celery."""

import os

from celery import Celery

from benchmarks.tasks import chosen

IMPORT = "celery"
SETTINGS = "``celery worker -P solo``, prefetch multiplier 128, results ignored, JSON"

app = Celery("bench", broker=os.environ["BENCH_DSN"])
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 128
app.conf.broker_connection_retry_on_startup = True
task = app.task(chosen, name="chosen")


def setup() -> None:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=3)


def enqueue(count: int) -> None:
    for _ in range(count):
        task.delay(1, "abc", x=2)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    argv = ["celery", "-A", "benchmarks.libraries.celery.adapter", "worker", "--loglevel=ERROR"]
    argv += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    pool = os.environ["BENCH_VARIANT"] or "solo"
    return [[*argv, "-P", pool, "-c", "1", "-n", f"w{each}@bench"] for each in range(processes)]
