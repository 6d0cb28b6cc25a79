"""Compare figures with their targets: ratios within one run, and some absolute figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.catalog import (
    BARE,
    HUEY_SQLITE,
    LIBRARIES,
    OURS,
    OURS_SQLITE,
    UNRECORDED,
    UNRECORDED_SQLITE,
)
from benchmarks.results import Missing, Results

_OTHERS = tuple(library.name for library in LIBRARIES)
_US, _LOOP = OURS.name, BARE.name


@dataclass(frozen=True)
class Target:
    """Hold one target.

    :param figure: computes the figure from the results; raises ``Missing``.
    :param at_most: lower is better.
    :param shown: the format of figure, goal and stretch.
    """

    what: str
    figure: Callable[[Results], float]
    goal: float
    stretch: float | None
    at_most: bool = False
    shown: str = "{:.2f}×"


@dataclass(frozen=True)
class Verdict:
    """Hold a target beside its figure, as text; ``verdict`` is one of the words of ``_judge``."""

    what: str
    found: str
    goal: str
    stretch: str
    verdict: str


def judge(results: Results, targets: tuple[Target, ...] | None = None) -> Iterator[Verdict]:
    """Yield each measured target beside its figure."""
    for target in TARGETS if targets is None else targets:
        sign = "≤ " if target.at_most else "≥ "
        goal, stretch = (
            "–" if limit is None else sign + target.shown.format(limit)
            for limit in (target.goal, target.stretch)
        )
        try:
            found = target.figure(results)
        except Missing:
            yield Verdict(target.what, "–", goal, stretch, "not measured")
        else:
            yield Verdict(
                target.what, target.shown.format(found), goal, stretch, _judge(target, found)
            )


def _judge(target: Target, found: float) -> str:
    def reached(limit: float) -> bool:
        return found <= limit if target.at_most else found >= limit

    if target.stretch is not None and reached(target.stretch):
        return "stretch met"
    return "met" if reached(target.goal) else "missed"


def _median(scenario: str, name: str, figure: str) -> Callable[[Results], float]:
    return lambda results: results.median(scenario, name, figure)


def _ratio(over: tuple[str, str, str], under: tuple[str, str, str]) -> Callable[[Results], float]:
    return lambda results: results.ratio(over, under)


def _to_best(scenario: str, figure: str, *, least: bool = False) -> Callable[[Results], float]:
    """Return a function that divides Alligator's figure by the best of the others."""

    def found(results: Results) -> float:
        best = results.best(scenario, _OTHERS, figure, least=least)
        return results.ratio((scenario, _US, figure), (scenario, best, figure))

    return found


def _depth(name: str, what: str) -> Callable[[Results], float]:
    return _ratio(("depth", name, f"{what}_many"), ("depth", name, f"{what}_few"))


def _cpu_beyond(results: Results) -> float:
    ours, bare = ("drain", _US, "cpu_us"), ("batches", "bare loop 100", "cpu_us")
    return results.median(*ours) - results.median(*bare)


def _batch(size: int) -> Callable[[Results], float]:
    return _ratio(("batches", f"prefetch {size}", "rate"), ("batches", f"bare loop {size}", "rate"))


def _on_sqlite(scenario: str) -> Callable[[Results], float]:
    return _ratio((scenario, OURS_SQLITE.name, "rate"), (scenario, HUEY_SQLITE.name, "rate"))


def _recorded(backend: str) -> Callable[[Results], float]:
    on, off = (OURS_SQLITE, UNRECORDED_SQLITE) if backend else (OURS, UNRECORDED)
    return _ratio(("recording", on.name, "cpu_us"), ("recording", off.name, "cpu_us"))


TARGETS = (
    Target("drain, one process, to the fastest peer", _to_best("drain", "rate"), 10, 25),
    Target("drain, prefetch 1, to the bare loop", _batch(1), 0.6, 0.9),
    Target("drain, prefetch 32, to the bare loop", _batch(32), 0.55, 0.9),
    Target("drain, prefetch 100, to the bare loop", _batch(100), 0.45, 0.8),
    Target("two processes to one", _ratio(("two", _US, "rate"), ("drain", _US, "rate")), 1.5, 1.8),
    Target("enqueue one by one, to the fastest peer", _to_best("enqueue", "rate"), 1.2, 1.5),
    Target(
        "enqueue one by one, to bare RPUSH",
        _ratio(("enqueue", _US, "rate"), ("enqueue", _LOOP, "rate")),
        0.6,
        0.8,
    ),
    Target("batch enqueue, to the fastest peer's bulk call", _to_best("bulk", "rate"), 3, 4),
    Target(
        "batch enqueue, to bare pipelined RPUSH",
        _ratio(("bulk", _US, "rate"), ("bulk", _LOOP, "rate")),
        0.6,
        0.8,
    ),
    Target(
        "enqueue → start at idle, p50, to the fastest peer",
        _to_best("latency", "p50", least=True),
        1,
        0.5,
        at_most=True,
    ),
    Target(
        "enqueue → start at idle, p99, to the fastest peer",
        _to_best("latency", "p99", least=True),
        1,
        0.5,
        at_most=True,
    ),
    Target("much queued to little: drain, redis", _depth(_US, "drain"), 0.8, 0.95),
    Target("much queued to little: enqueue, redis", _depth(_US, "enqueue"), 0.8, 0.95),
    Target("much queued to little: drain, SQLite", _depth(OURS_SQLITE.name, "drain"), 0.6, 0.8),
    Target("much queued to little: enqueue, SQLite", _depth(OURS_SQLITE.name, "enqueue"), 0.6, 0.8),
    Target(
        "redis memory per queued task",
        _median("enqueue", _US, "bytes"),
        330,
        250,
        True,
        "{:.0f} bytes",
    ),
    Target(
        "idle worker: redis commands/s", _median("idle", _US, "sent"), 0.2, 0.05, True, "{:.2f}"
    ),
    Target("idle worker: CPU", _median("idle", _US, "cpu_percent"), 0.2, 0.05, True, "{:.2f} %"),
    Target("worker RSS", _median("idle", _US, "rss_mb"), 30, 22, True, "{:.0f} MB"),
    Target("import alligator", _median("import", _US, "ms"), 50, 25, True, "{:.0f} ms"),
    Target("SQLite: drain, to Huey's", _on_sqlite("sqlite-drain"), 4, 6),
    Target("SQLite: enqueue, to Huey's", _on_sqlite("sqlite-enqueue"), 0.9, 1.2),
    Target(
        "after kill -9: runs again within (default lease)",
        _median("crash", _US, "seconds"),
        30.5,
        None,
        True,
        "{:.1f} s",
    ),
    Target(
        "32 threads, tasks that wait 50 ms, to the ideal",
        _median("threads", _US, "share"),
        0.9,
        0.97,
    ),
    Target(
        "200 coroutines that wait 50 ms, to the ideal",
        _median("coroutines", _US, "share"),
        0.9,
        0.97,
    ),
    Target("recording, redis: CPU of a drain, to that without", _recorded(""), 1.03, 1.01, True),
    Target(
        "recording, SQLite: CPU of a drain, to that without", _recorded("SQLite"), 1.03, 1.01, True
    ),
    Target("CPU per no-op task beyond the bare loop", _cpu_beyond, 12, 6, True, "{:.1f} µs"),
)
