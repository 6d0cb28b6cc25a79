"""Run Taskiq, on a list or on a stream as the variant says."""

import os

from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from benchmarks.tasks import chosen as body

IMPORT = "taskiq"
SETTINGS = "``taskiq worker --workers 1``, 100 tasks at a time (its default), uvloop, orjson"

kind, _, limit = os.environ["BENCH_VARIANT"].partition(":")
kinds = {"list": ListQueueBroker, "stream": RedisStreamBroker}
# With redis-py 8 a blocking pop would end in the driver's own timeout.
broker = kinds[kind](os.environ["BENCH_DSN"], socket_timeout=None)
broker = broker.with_serializer(ORJSONSerializer())


@broker.task(task_name="chosen")
async def chosen(number: int, text: str, x: int = 0) -> None:
    body(number, text, x)


async def setup() -> None:
    await broker.startup()


async def enqueue(count: int) -> None:
    for _ in range(count):
        await chosen.kiq(1, "abc", x=2)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    argv = ["taskiq", "worker", "benchmarks.libraries.taskiq.adapter:broker"]
    argv += ["--workers", str(processes), "--log-level", "WARNING"]
    return [[*argv, *(["--max-async-tasks", limit] if limit else [])]]
