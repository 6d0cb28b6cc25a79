"""Run SAQ."""

import os

from saq import Queue

from benchmarks.tasks import chosen as body

IMPORT = "saq"
SETTINGS = "``saq`` with ``concurrency=50``, hiredis"

queue = Queue.from_url(os.environ["BENCH_DSN"])


async def chosen(ctx: dict, *, number: int, text: str, x: int = 0) -> None:
    body(number, text, x)


settings = {
    "queue": queue,
    "functions": [chosen],
    "concurrency": int(os.environ["BENCH_VARIANT"] or 50),
}


async def setup() -> None:
    await queue.connect()


async def enqueue(count: int) -> None:
    for _ in range(count):  # its tasks take arguments by name only
        await queue.enqueue("chosen", number=1, text="abc", x=2, ttl=-1)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    return [["saq", "benchmarks.libraries.saq.adapter.settings", "--workers", str(processes)]]
