"""Measure rates: to drain, to enqueue, and both with many tasks queued."""

from benchmarks.catalog import Library
from benchmarks.environment import LibraryEnvironment
from benchmarks.meter import pace
from benchmarks.scenarios import Figures, Scale

#: Tasks/s of each library on this machine, from a probe.
_probed: dict[str, float] = {}


def drain(library: Library, scale: Scale) -> Figures:
    """Return tasks/s of one worker process, and its CPU µs per task."""
    return _drain(library, _enough(library, scale), 1)


def drain_by_two(library: Library, scale: Scale) -> Figures:
    """Return the same with two processes, for half as many tasks again."""
    return _drain(library, _enough(library, scale) * 3 // 2, 2)


def _enough(library: Library, scale: Scale) -> int:
    """Return how many tasks keep a worker busy for so long, by a short probe."""
    if library.name not in _probed:
        count = max(200, round(library.about / 2))
        _probed[library.name] = _drain(library, count, 1)["rate"]
    return max(200, round(_probed[library.name] * scale.seconds))


def _drain(library: Library, total: int, processes: int) -> Figures:
    with LibraryEnvironment(library) as environment:
        environment.producer("fill", total)
        found = environment.drain(total, processes)
    return {"rate": found.rate, "cpu_us": found.cpu_us}


def enqueue(library: Library, scale: Scale) -> Figures:
    """Return tasks/s pushed one call after the other, and bytes of redis memory for each."""
    count = round(5_000 * scale.seconds / 2)
    with LibraryEnvironment(library) as environment:
        environment.producer("enqueue", 100)  # scripts are loaded, caches are warm
        before = _used(environment)
        took = environment.producer("enqueue", count)
        figures = {"rate": count / took}
        if environment.server is not None:
            figures["bytes"] = (_used(environment) - before) / count
    return figures


def _used(environment: LibraryEnvironment) -> int:
    return environment.info("memory")["used_memory"] if environment.server is not None else 0


def enqueue_bulk(library: Library, scale: Scale) -> Figures:
    """Return tasks/s pushed with the library's call for many."""
    count = round(30_000 * scale.seconds / 2)
    with LibraryEnvironment(library) as environment:
        environment.producer("enqueue_bulk", 1000)
        return {"rate": count / environment.producer("enqueue_bulk", count)}


def depth(library: Library, scale: Scale) -> Figures:
    """Return rates with 1,000 and with very many tasks queued.

    The producer keeps the queue at its depth while the worker drains it, at both depths.
    """
    few, many = _at_depth(library, 1_000, scale), _at_depth(library, scale.depth, scale)
    return {
        "drain_few": few["drain"],
        "drain_many": many["drain"],
        "enqueue_few": few["enqueue"],
        "enqueue_many": many["enqueue"],
    }


def _at_depth(library: Library, queued: int, scale: Scale) -> Figures:
    extra, total = round(3_000 * scale.seconds / 2), _enough(library, scale) // 2
    with LibraryEnvironment(library) as environment:
        environment.producer("fill", queued)
        took = environment.producer("enqueue", extra)
        worker = environment.worker()
        holding = environment.producer.begin("hold", queued + extra, queued, total)
        samples = environment.watch(worker, total)
        holding()
        return {"drain": pace(samples, total).rate, "enqueue": extra / took}
