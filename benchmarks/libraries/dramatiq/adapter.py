"""Run Dramatiq."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.tasks import chosen

IMPORT = "dramatiq"
SETTINGS = "``dramatiq -p 1 -t 8``, as it is by default for each process"

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_DSN"]))
actor = dramatiq.actor(chosen, actor_name="chosen")


def setup() -> None:
    dramatiq.get_broker().client.ping()


def enqueue(count: int) -> None:
    for _ in range(count):
        actor.send(1, "abc", x=2)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    threads = os.environ["BENCH_VARIANT"] or "8"
    argv = [
        "dramatiq",
        "benchmarks.libraries.dramatiq.adapter",
        "-p",
        str(processes),
        "-t",
        threads,
    ]
    return [argv]
