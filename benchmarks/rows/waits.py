"""How soon: latency, tasks that wait, and recovery from a crash."""

import statistics
import time

from benchmarks.catalog import Peer
from benchmarks.errors import TOO_LONG, NotMeasured
from benchmarks.place import Place
from benchmarks.rows import Figures, Scale
from benchmarks.tasks import STAMP, WAIT


def latency(peer: Peer, scale: Scale) -> Figures:
    """Milliseconds from the push to the start of the task in an idle worker."""
    with Place(peer, "stamp") as place:
        place.warm(place.worker(), 10)
        took = sorted(place.producer("latencies", round(100 * scale.seconds), 3 * scale.seconds))
    return {"p50": statistics.median(took), "p99": took[int(0.99 * len(took))]}


def threads(peer: Peer, scale: Scale) -> Figures:
    """How much of the ideal 32 threads reach with tasks that wait 50 ms."""
    return _waiting(peer, scale, "wait", 32)


def coroutines(peer: Peer, scale: Scale) -> Figures:
    """How much of the ideal 200 coroutines at a time reach."""
    return _waiting(peer, scale, "wait_async", 200)


def _waiting(peer: Peer, scale: Scale, task: str, concurrency: int) -> Figures:
    ideal = concurrency / WAIT
    total = round(ideal * scale.seconds)
    with Place(peer, task) as place:
        place.producer("fill", total)
        found = place.drain(total, concurrency=concurrency)
    return {"share": found.rate / ideal}


def crash(peer: Peer, scale: Scale) -> Figures:
    """Seconds from ``kill -9`` of a worker to the next start of what it ran, another one being up.

    :raises NotMeasured: not within the cap.
    """
    with Place(peer, "hang") as place:
        place.producer("enqueue", 1)
        first = place.worker()
        place.watch(first, 1)
        second = place.worker()
        first.kill()
        killed = time.monotonic_ns()
        try:
            place.watch(second, 2, patience=scale.crash, every=0.01)
        except NotMeasured as err:
            if "nothing happened" not in str(err):
                raise
            raise NotMeasured(f"{TOO_LONG} {scale.crash:.0f} s") from None
        started = STAMP.unpack_from(place.marks.read_bytes(), STAMP.size)[0]
    return {"seconds": (started - killed) / 1e9}
