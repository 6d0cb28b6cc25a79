"""Run streaQ."""

import os

from streaq import Worker

from benchmarks.tasks import chosen as body

IMPORT = "streaq"
SETTINGS = "``streaq run`` with ``concurrency=16`` (its default), silent, results not kept"

app = Worker(redis_url=os.environ["BENCH_DSN"], concurrency=int(os.environ["BENCH_VARIANT"] or 16))


@app.task(silent=True, ttl=0)
async def chosen(number: int, text: str, x: int = 0) -> None:
    body(number, text, x)


async def setup() -> None:
    await app.__aenter__()


async def enqueue(count: int) -> None:
    for _ in range(count):
        await chosen.enqueue(1, "abc", x=2)


async def enqueue_bulk(count: int) -> None:
    for start in range(0, count, 1000):
        several = range(min(1000, count - start))
        await app.enqueue_many([chosen.enqueue(1, "abc", x=2) for _ in several])


def worker(processes: int, concurrency: int) -> list[list[str]]:
    return [["streaq", "run", "benchmarks.libraries.streaq.adapter:app", "-w", str(processes)]]
