"""Run no library: send the commands themselves, to show what server and driver allow."""

import json
import os

import redis

IMPORT = "redis"
SETTINGS = "``BLMPOP COUNT n`` (or ``BLPOP``), ``json.loads``, the call; no leases, no acks"

conn = redis.Redis.from_url(os.environ["BENCH_DSN"])


def setup() -> None:
    conn.ping()


def _data() -> str:
    return json.dumps({"callable": "chosen", "args": (1, "abc"), "kwargs": {"x": 2}})


def enqueue(count: int) -> None:
    for _ in range(count):
        conn.rpush("bare", _data())


def enqueue_bulk(count: int) -> None:
    for start in range(0, count, 100):
        pipe = conn.pipeline(transaction=False)
        for _ in range(min(100, count - start)):
            pipe.rpush("bare", _data())
        pipe.execute()


def worker(processes: int, concurrency: int) -> list[list[str]]:
    return [["-m", "benchmarks.libraries.bare.loop"]] * processes
