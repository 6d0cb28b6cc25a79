"""Run arq."""

import os

from arq import create_pool
from arq.connections import RedisSettings
from arq.logs import default_log_config
from arq.worker import func

from benchmarks.tasks import chosen as body

IMPORT = "arq"
SETTINGS = (
    "``arq`` with ``max_jobs=1000`` (with its default of 10 it takes 100 tasks per half second), "
    "``keep_result=0``, log at warning"
)

where = RedisSettings.from_dsn(os.environ["BENCH_DSN"])
pool = None


async def chosen(ctx: dict, number: int, text: str, x: int = 0) -> None:
    body(number, text, x)


class WorkerSettings:
    functions = (func(chosen, keep_result=0),)
    redis_settings = where
    max_jobs = int(os.environ["BENCH_VARIANT"] or 1000)
    log_results = False


LOG = default_log_config(verbose=False)
LOG["loggers"]["arq"]["level"] = "WARNING"


async def setup() -> None:
    global pool
    pool = await create_pool(where)


async def enqueue(count: int) -> None:
    for _ in range(count):
        await pool.enqueue_job("chosen", 1, "abc", x=2)


def worker(processes: int, concurrency: int) -> list[list[str]]:
    here = "benchmarks.libraries.arq.adapter"
    return [["arq", f"{here}.WorkerSettings", "--custom-log-dict", f"{here}.LOG"]] * processes
