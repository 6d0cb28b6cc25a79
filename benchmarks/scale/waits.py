"""How long tasks wait for a worker: Poisson arrivals, exponential durations."""

import random
import statistics
import time

from benchmarks.errors import NotMeasured
from benchmarks.scale.site import Site
from benchmarks.scale.tasks import late
from benchmarks.tasks import STAMP

#: Seconds that a task takes on average.
DURATION = 0.02
#: Of what the workers can do.
LOADS = (0.5, 0.8)


def measure(workers: int, rate: float, seconds: float, seed: int = 1) -> dict[str, float]:
    """Return mean, p50 and p99 of the seconds until a task starts.

    :param rate: tasks/s that arrive.
    """
    dice = random.Random(seed)
    with Site(mark=STAMP.size) as site, site.workers(workers, 1, held=True) as crew:
        for each in crew:
            each.go()
        due, end, pushed = time.monotonic(), time.monotonic() + seconds, 0
        while (due := due + dice.expovariate(rate)) < end:
            time.sleep(max(0.0, due - time.monotonic()))
            site.gator.task(late, time.monotonic_ns(), dice.expovariate(1 / DURATION))
            pushed += 1
        if pushed < 20:
            raise NotMeasured("too few arrivals")
        site.meter.watch(pushed, alive=lambda: all(each.alive() for each in crew), every=0.01)
        waited = sorted(each[0] / 1e9 for each in STAMP.iter_unpack(site.marks.read_bytes()))
    return {
        "mean": statistics.fmean(waited),
        "p50": statistics.median(waited),
        "p99": waited[int(0.99 * len(waited))],
        "tasks": len(waited),
    }
