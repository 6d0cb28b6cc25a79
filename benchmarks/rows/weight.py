"""How much it takes: an idle worker's commands, CPU and memory; the import."""

import time

from benchmarks.catalog import Peer
from benchmarks.place import Place
from benchmarks.rows import Figures, Scale

#: Seconds that a worker gets to come to rest after its first tasks.
REST = 2.0


def idle(peer: Peer, scale: Scale) -> Figures:
    """An idle worker's redis commands/s (those that scripts call included), CPU and memory."""
    with Place(peer) as place:
        worker = place.worker()
        place.warm(worker, 100)
        time.sleep(REST)
        calls, cpu, started = _calls(place), worker.cpu_seconds(), time.monotonic()
        time.sleep(scale.idle)
        took = time.monotonic() - started
        return {
            "commands": (_calls(place) - calls) / took,
            "cpu_percent": (worker.cpu_seconds() - cpu) / took * 100,
            "rss_mb": worker.rss_mb(),
        }


def _calls(place: Place) -> int:
    """Commands that the server has run, but for those of this question."""
    ours = ("cmdstat_info", "cmdstat_client|setinfo", "cmdstat_hello")
    found = place.info("commandstats").items()
    return sum(stat["calls"] for name, stat in found if name not in ours)


def imports(peer: Peer, scale: Scale) -> Figures:
    """Milliseconds that the import takes in a fresh interpreter: the median of five."""
    with Place(peer) as place:
        took = sorted(place.producer("import_ms") for _ in range(5))
    return {"ms": took[2]}
