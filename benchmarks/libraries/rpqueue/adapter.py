"""Run rpqueue."""

import os
from urllib.parse import urlsplit

import rpqueue

from benchmarks.tasks import chosen as body

IMPORT = "rpqueue"
SETTINGS = "``rpqueue.execute_tasks()``, one thread (its default)"

where = urlsplit(os.environ["BENCH_DSN"])
rpqueue.set_redis_connection_settings(host=where.hostname, port=where.port)


@rpqueue.task(queue=b"bench")
def chosen(number: int, text: str, x: int = 0) -> None:
    body(number, text, x)


def setup() -> None:
    rpqueue.get_connection().ping()


def enqueue(count: int) -> None:
    for _ in range(count):
        chosen.execute(1, "abc", x=2)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    return [["-m", "benchmarks.libraries.rpqueue.run", str(processes)]]
