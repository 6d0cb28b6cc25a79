"""Run Alligator: one worker with defaults, or with the fixed prefetch of the variant.

With the variant ``unrecorded`` it records nothing of what it does.
"""

import os

from alligator import Gator
from benchmarks.tasks import chosen

IMPORT = "alligator"
SETTINGS = "``latergator.py DSN``, defaults: prefetch auto, leases of 30 s, acks after the task"

_VARIANT = os.environ["BENCH_VARIANT"]
_UNRECORDED = _VARIANT == "unrecorded"

gator = Gator(os.environ["BENCH_DSN"], activity=not _UNRECORDED)


def setup() -> None:
    gator.len()


def enqueue(count: int) -> None:
    for _ in range(count):
        gator.task(chosen, 1, "abc", x=2)


def enqueue_bulk(count: int) -> None:
    for start in range(0, count, 1000):
        with gator.batch() as batch:
            for _ in range(min(1000, count - start)):
                batch.task(chosen, 1, "abc", x=2)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    place = f"--app={__name__}:gator" if _UNRECORDED else os.environ["BENCH_DSN"]
    argv = ["-m", "alligator", place, "--log-level=WARNING"]
    if _VARIANT and not _UNRECORDED:
        argv.append(f"--prefetch={_VARIANT}")
    if concurrency > 1:
        argv.append(f"--concurrency={concurrency}")
    if processes > 1:
        argv.append(f"--processes={processes}")
    return [argv]
