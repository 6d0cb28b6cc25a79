"""Run RQ."""

import os

from redis import Redis
from rq import Queue

from benchmarks.tasks import chosen

IMPORT = "rq"
KIND = os.environ["BENCH_VARIANT"]
SETTINGS = f"``rq worker{' -w ' + KIND if KIND else ''}``, hiredis, results not kept"

queue = Queue("bench", connection=Redis.from_url(os.environ["BENCH_DSN"]))


def setup() -> None:
    queue.connection.ping()


def enqueue(count: int) -> None:
    for _ in range(count):
        queue.enqueue(chosen, 1, "abc", x=2, result_ttl=0)


def enqueue_bulk(count: int) -> None:
    for start in range(0, count, 1000):
        several = range(min(1000, count - start))
        queue.enqueue_many(
            [Queue.prepare_data(chosen, (1, "abc"), {"x": 2}, result_ttl=0) for _ in several]
        )


def worker(processes: int, concurrency: int) -> list[list[str]]:
    argv = ["bench", "--url", os.environ["BENCH_DSN"], "--quiet"]
    if KIND:
        argv += ["-w", KIND]
    if processes > 1:
        return [["rq", "worker-pool", *argv, "-n", str(processes)]]
    return [["rq", "worker", *argv]]
