"""Run Huey, on redis or on SQLite as the DSN says."""

import os

from huey import RedisHuey, SqliteHuey

from benchmarks.tasks import chosen

IMPORT = "huey"
SETTINGS = "``huey_consumer -w 1 -k process -q`` (one worker), results off"

dsn = os.environ["BENCH_DSN"]
if dsn.startswith("sqlite://"):
    huey = SqliteHuey("bench", filename=dsn.removeprefix("sqlite://"), results=False)
else:
    huey = RedisHuey("bench", url=dsn, results=False)
task = huey.task(name="chosen")(chosen)


def setup() -> None:
    huey.pending_count()


def enqueue(count: int) -> None:
    for _ in range(count):
        task(1, "abc", x=2)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    kind = os.environ["BENCH_VARIANT"] or "process"
    argv = ["huey_consumer", "benchmarks.libraries.huey.adapter.huey", "-q"]
    return [[*argv, "-w", str(processes), "-k", kind]]
