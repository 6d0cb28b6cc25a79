"""Measure bytes and rates of deep queues: at 10,000 tasks, at ten times as many, and so on."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.scale.environment import ScaleEnvironment

Figures = dict[str, float]
Say = Callable[[str], None]

#: Tasks pushed one by one, and in one batch, and drained, at each depth.
ONE, BATCH, SOME = 2000, 1000, 10_000
#: Seconds that the rates at one depth take at most, roughly.
EACH = 6.0


def depths(most: int, first: int = 10_000) -> Iterator[int]:
    """Yield 10,000 and its tenfold up to ``most``, which is the last."""
    while first < most:
        yield first
        first *= 10
    yield most


def room(tasks: int, task_bytes: float, limit: float, available: float) -> str:
    """Return why so many tasks do not fit; an empty text if they do.

    :param limit: bytes that may be used.
    :param available: bytes that are free; a fifth of them is left alone.
    """
    need = tasks * task_bytes * 1.1
    allowed = min(limit, 0.8 * available)
    if need <= allowed:
        return ""
    return f"{tasks:,} tasks need about {need / 2**30:.1f} GiB, and {allowed / 2**30:.1f} are free"


def available(environment: ScaleEnvironment) -> float:
    """Return the free bytes of the memory or disk that keeps the queue."""
    if environment.server is None:
        return shutil.disk_usage(environment.folder).free
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def measure(
    kind: str, most: int, seconds: float, limit: float, say: Say
) -> tuple[list[Figures], list[str]]:
    """Return the figures at each depth, and why others have none.

    :param seconds: the time that is left.
    :param limit: the most bytes to use.
    """
    found, notes, end = list[Figures](), list[str](), time.monotonic() + seconds
    with ScaleEnvironment(kind) as environment:
        environment.fill(1)
        base, queued, task_bytes, rate = environment.size(), 1, 600.0, 20_000.0
        for depth in depths(most):
            why = room(depth, task_bytes, limit, available(environment))
            left = end - time.monotonic()
            if not why and (depth - queued) / rate + (EACH if found else 0) > left:
                why = f"{depth:,} tasks would take longer than the {left:.0f} s that were left"
            if why:
                notes.append(f"{kind}: {why}.")
                say(notes[-1])
                break
            started, more = time.monotonic(), depth - queued
            environment.fill(more)
            rate, queued = more / (time.monotonic() - started), depth
            task_bytes = (environment.size() - base) / depth
            found.append({"depth": depth, "bytes": task_bytes, "fill": rate, **_rates(environment)})
            say(
                f"{kind}: " + "  ".join(f"{name} {value:,.0f}" for name, value in found[-1].items())
            )
            queued = environment.gator.len()
    return found, notes


def _rates(environment: ScaleEnvironment) -> Figures:
    one = ONE / _took(lambda: environment.push(ONE))
    batch = SOME / _took(lambda: environment.push_batches(SOME, BATCH))
    with environment.workers(1) as running:
        drained = environment.drain(running, SOME + ONE)
    return {"one": one, "batch": batch, "drain": drained.rate, "server_us": drained.server_us}


def _took(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
