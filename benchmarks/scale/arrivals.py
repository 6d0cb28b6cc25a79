"""Measure how long tasks wait for a worker: Poisson arrivals, exponential durations."""

import random
import statistics
import time
from collections.abc import Sequence

from benchmarks.scale.environment import ScaleEnvironment
from benchmarks.scale.tasks import late
from benchmarks.tasks import STAMP

#: Seconds that a task takes on average.
DURATION = 0.01
#: Loads, as parts of what the workers can do.
LOADS = (0.5, 0.8)


def draws(rate: float, seconds: float, seed: int) -> list[tuple[float, float]]:
    """Return when tasks arrive and how long they take, in seconds: the same for the same seed."""
    dice, at, found = random.Random(seed), 0.0, []
    while (at := at + dice.expovariate(rate)) < seconds:
        found.append((at, dice.expovariate(1 / DURATION)))
    return found


def measure(workers: int, rate: float, seconds: float, seed: int = 1) -> dict[str, float]:
    """Return mean, p50 and p99 of the seconds until a task starts.

    :param rate: arrivals in tasks/s.
    """
    tasks = draws(rate, seconds, seed)
    with (
        ScaleEnvironment(mark=STAMP.size) as environment,
        environment.workers(workers, 1, held=True) as running,
    ):
        for each in running:
            each.go()
        started = time.monotonic()
        for at, takes in tasks:
            time.sleep(max(0.0, started + at - time.monotonic()))
            environment.gator.task(late, time.monotonic_ns(), takes)
        environment.meter.watch(
            len(tasks), alive=lambda: all(each.alive() for each in running), every=0.01
        )
        waited = environment.marks.read_bytes()
    return {
        "workers": workers,
        "rate": rate,
        "seconds": seconds,
        "seed": seed,
        "tasks": len(tasks),
        **summary([each[0] / 1e9 for each in STAMP.iter_unpack(waited)]),
    }


def idle(count: int) -> float:
    """Return the median of the seconds from push to start while a worker is free."""
    with (
        ScaleEnvironment(mark=STAMP.size) as environment,
        environment.workers(1, 1, held=True) as running,
    ):
        running[0].go()
        for number in range(count):
            environment.gator.task(late, time.monotonic_ns(), 0.0)
            environment.meter.watch(number + 1, alive=running[0].alive, every=0.01)
        return summary(
            [each[0] / 1e9 for each in STAMP.iter_unpack(environment.marks.read_bytes())]
        )["p50"]


def service(count: int) -> float:
    """Return the seconds that a worker needs in total for a task of average length."""
    with (
        ScaleEnvironment(mark=STAMP.size) as environment,
        environment.workers(1, 1, held=True) as running,
    ):
        environment.fill(count, late, 0, DURATION)
        return 1 / environment.drain(running, count).rate


def summary(waited: Sequence[float]) -> dict[str, float]:
    """Return mean, p50 and p99."""
    ranked = sorted(waited)
    return {
        "mean": statistics.fmean(ranked),
        "p50": statistics.median(ranked),
        "p99": ranked[int(0.99 * len(ranked))],
    }
