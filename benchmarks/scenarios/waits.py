"""Measure latency, tasks that wait, and recovery from a crash."""

import statistics
import time

from benchmarks.catalog import Library
from benchmarks.environment import LibraryEnvironment
from benchmarks.errors import TOO_LONG, NotMeasured
from benchmarks.scenarios import Figures, Scale
from benchmarks.tasks import STAMP, WAIT


def latency(library: Library, scale: Scale) -> Figures:
    """Return the milliseconds from the push to the start of the task in an idle worker."""
    with LibraryEnvironment(library, "stamp") as environment:
        environment.warm(environment.worker(), 10)
        took = sorted(
            environment.producer("latencies", round(100 * scale.seconds), 3 * scale.seconds)
        )
    return {"p50": statistics.median(took), "p99": took[int(0.99 * len(took))]}


def threads(library: Library, scale: Scale) -> Figures:
    """Return the part of the ideal that 32 threads reach with tasks that wait 50 ms."""
    return _waiting(library, scale, "wait", 32)


def coroutines(library: Library, scale: Scale) -> Figures:
    """Return the part of the ideal that 200 coroutines at a time reach."""
    return _waiting(library, scale, "wait_async", 200)


def _waiting(library: Library, scale: Scale, task: str, concurrency: int) -> Figures:
    ideal = concurrency / WAIT
    total = round(ideal * scale.seconds)
    with LibraryEnvironment(library, task) as environment:
        environment.producer("fill", total)
        found = environment.drain(total, concurrency=concurrency)
    return {"share": found.rate / ideal}


def crash(library: Library, scale: Scale) -> Figures:
    """Return seconds from ``kill -9`` of a worker until another one starts its task.

    :raises NotMeasured: it did not start within ``scale.crash`` seconds.
    """
    with LibraryEnvironment(library, "hang") as environment:
        environment.producer("enqueue", 1)
        first = environment.worker()
        environment.watch(first, 1)
        second = environment.worker()
        first.kill()
        killed = time.monotonic_ns()
        try:
            environment.watch(second, 2, patience=scale.crash, every=0.01)
        except NotMeasured as err:
            if "nothing happened" not in str(err):
                raise
            raise NotMeasured(f"{TOO_LONG} {scale.crash:.0f} s") from None
        started = STAMP.unpack_from(environment.marks.read_bytes(), STAMP.size)[0]
    return {"seconds": (started - killed) / 1e9}
