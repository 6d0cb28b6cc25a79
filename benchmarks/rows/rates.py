"""How fast: draining, enqueueing, and both with much queued."""

from benchmarks.catalog import Peer
from benchmarks.meter import pace
from benchmarks.place import Place
from benchmarks.rows import Figures, Scale

#: Tasks/s of each library on this machine, from a probe.
_probed: dict[str, float] = {}


def drain(peer: Peer, scale: Scale) -> Figures:
    """Tasks/s of one worker process, and CPU µs of each task in it."""
    return _drain(peer, _enough(peer, scale), 1)


def drain_by_two(peer: Peer, scale: Scale) -> Figures:
    """The same with two processes, for half as many tasks again."""
    return _drain(peer, _enough(peer, scale) * 3 // 2, 2)


def _enough(peer: Peer, scale: Scale) -> int:
    """How many tasks keep a worker busy for so long, as a first, short probe tells."""
    if peer.name not in _probed:
        count = max(200, round(peer.about / 2))
        _probed[peer.name] = _drain(peer, count, 1)["rate"]
    return max(200, round(_probed[peer.name] * scale.seconds))


def _drain(peer: Peer, total: int, processes: int) -> Figures:
    with Place(peer) as place:
        place.producer("fill", total)
        found = place.drain(total, processes)
    return {"rate": found.rate, "cpu_us": found.cpu_us}


def enqueue(peer: Peer, scale: Scale) -> Figures:
    """Tasks/s pushed one call after the other, and bytes of redis memory for each of them."""
    count = round(5_000 * scale.seconds / 2)
    with Place(peer) as place:
        place.producer("enqueue", 100)  # scripts are loaded, caches are warm
        before = _used(place)
        took = place.producer("enqueue", count)
        figures = {"rate": count / took}
        if place.server is not None:
            figures["bytes"] = (_used(place) - before) / count
    return figures


def _used(place: Place) -> int:
    return place.info("memory")["used_memory"] if place.server is not None else 0


def enqueue_bulk(peer: Peer, scale: Scale) -> Figures:
    """Tasks/s pushed with the call that the library has for many."""
    count = round(30_000 * scale.seconds / 2)
    with Place(peer) as place:
        place.producer("enqueue_bulk", 1000)
        return {"rate": count / place.producer("enqueue_bulk", count)}


def depth(peer: Peer, scale: Scale) -> Figures:
    """Rates with 1,000 and with very many tasks queued.

    The producer keeps the queue at its depth while the worker drains it, at both depths.
    """
    few, many = _at_depth(peer, 1_000, scale), _at_depth(peer, scale.depth, scale)
    return {
        "drain_few": few["drain"],
        "drain_many": many["drain"],
        "enqueue_few": few["enqueue"],
        "enqueue_many": many["enqueue"],
    }


def _at_depth(peer: Peer, queued: int, scale: Scale) -> Figures:
    extra, total = round(3_000 * scale.seconds / 2), _enough(peer, scale) // 2
    with Place(peer) as place:
        place.producer("fill", queued)
        took = place.producer("enqueue", extra)
        worker = place.worker()
        holding = place.producer.begin("hold", queued + extra, queued, total)
        samples = place.watch(worker, total)
        holding()
        return {"drain": pace(samples, total).rate, "enqueue": extra / took}
