"""Write the figures of the scale page: ``python -m benchmarks.scale.render FILE FOLDER``.

It writes ``scale.inc``: parts between the comments ``begin NAME`` and ``end NAME``, which the page
includes one by one.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.scale import model
from benchmarks.scale.costs import BATCHES, MANY
from benchmarks.scale.report import (
    DURATIONS,
    Check,
    Found,
    checks,
    inputs,
    median,
    reach,
    waited,
)
from benchmarks.table import list_table

_ROUGH = " **A quick run: the figures are rough, and nothing is to be concluded from them.**"
_SHARED = " **Others were at work on the machine, too: the figures are rough.**"
Line = tuple[str, ...]


def render(found: Found, folder: Path) -> None:
    """Write the file."""
    (folder / "scale.inc").write_text(as_rst(found))


def as_rst(found: Found) -> str:
    """Return all parts, one after the other."""
    return (
        "\n\n".join(
            f".. begin {name}\n\n{part(found)}\n\n.. end {name}" for name, part in PARTS.items()
        )
        + "\n"
    )


def _about(found: Found) -> str:
    about = found["about"]
    text = (
        f"``make bench-scale`` on {about['date']}: {about['cores']} cores, {about['system']}, "
        f"{about['python']}, redis {about['redis']}, {about['driver']}, Alligator "
        f"{about['alligator']}; {about['minutes']} minutes, costs and rates are medians of "
        f"{about['passes']} passes.{_ROUGH if about['quick'] else ''}"
        f"{_SHARED if about['shared'] else ''}"
    )
    missing = [f"* {note}" for note in found["notes"]]
    return "\n\n".join([text, *(["Not measured:", "\n".join(missing)] if missing else [])])


def _table(heads: Sequence[str], lines: Iterator[Line]) -> str:
    return "\n".join(list_table(heads, lines))


def _costs(found: Found) -> str:
    def lines() -> Iterator[Line]:
        for name, how in (("1", "push, one by one"), ("100", "push, in batches of 100")):
            yield line("push", name, how, "producer_us")
        yield line("push", "many", f"push, one by one, {MANY} producers at once", "")
        for batch in BATCHES:
            yield line("serve", str(batch), f"reserve and ack, {batch} per round trip", "")
        for batch in BATCHES:
            yield line("work", f"nothing|1|{batch}", f"a worker, prefetch {batch}", "worker_us")
        for batch in (1, 100):
            how = f"{MANY} workers at once, prefetch {batch}"
            yield line("work", f"nothing|{MANY}|{batch}", how, "worker_us")

    def line(part: str, name: str, how: str, client: str) -> Line:
        script = "–" if part == "work" else f"{median(found, part, name, 'script_us'):,.1f}"
        cpu = f"{median(found, part, name, client):,.1f}" if client else "–"
        return (how, f"{median(found, part, name, 'server_us'):,.1f}", script, cpu)

    return _table(
        ("Per task, in µs", "redis' thread", "of it in scripts", "CPU of the client"), lines()
    )


def _fitted(found: Found) -> str:
    costs = inputs(found)
    named = (
        ("reserve and ack, redis' thread", costs.hot.server),
        (f"the same with {MANY} workers at once", costs.busy),
        ("the same with tasks that wait", costs.asleep.server),
        ("push, redis' thread", costs.push),
        ("push, CPU of the producer", costs.producer),
        ("a worker's CPU", costs.hot.worker),
        ("the same with tasks that wait", costs.asleep.worker),
        ("a worker's waiting for replies", costs.hot.wait),
        ("the same with tasks that wait", costs.asleep.wait),
    )
    return _table(
        ("In µs", "A round trip", "and each task"),
        ((name, f"{cost.trip:,.1f}", f"{cost.each:,.1f}") for name, cost in named),
    )


def _checks(found: Found) -> str:
    return _table(
        ("Tasks/s", "Workers", "Measured", "Model", "Off by"),
        (
            (each.what, str(each.workers), *_compared(each, "{:,.0f}"))
            for each in checks(found)["rate"]
        ),
    )


def _used(found: Found) -> str:
    both = checks(found)
    rows = zip(both["server_us"], both["worker_us"], strict=True)
    return _table(
        ("µs per task", "Workers", "redis", "Model", "Off by", "A worker", "Model", "Off by"),
        (
            (
                server.what,
                str(server.workers),
                *_compared(server, "{:,.0f}"),
                *_compared(worker, "{:,.0f}"),
            )
            for server, worker in rows
        ),
    )


def _compared(each: Check, shown: str) -> Line:
    return (shown.format(each.measured), shown.format(each.model), f"{each.off:+.0%}")


def _waits(found: Found) -> str:
    def cell(each: dict[str, float]) -> str:
        return " / ".join(f"{each[name] * 1e3:,.1f}" for name in ("mean", "p50", "p99"))

    return _table(
        ("Workers", "Load", "Measured", "M/M/c", "Simulated", "Mean off by"),
        (
            (
                str(each.workers),
                f"{each.load:.0%}",
                cell(each.measured),
                cell(each.formula),
                cell(each.simulated),
                f"{each.formula['mean'] / each.measured['mean'] - 1:+.0%}, "
                f"{each.simulated['mean'] / each.measured['mean'] - 1:+.0%}",
            )
            for each in waited(found)
        ),
    )


def _depth(found: Found) -> str:
    def lines() -> Iterator[Line]:
        for kind, rows in found["depth"].items():
            for row in rows:
                shown = (f"{row[name]:,.0f}" for name in ("bytes", "one", "batch", "drain"))
                flat = "–" if row is rows[0] else f"{row['drain'] / rows[0]['drain']:.2f}"
                off = "–" if row is rows[0] else f"{rows[0]['bytes'] / row['bytes'] - 1:+.0%}"
                yield (kind, f"{row['depth']:,}", *shown, flat, off)

    return _table(
        (
            "",
            "Queued",
            "Bytes a task",
            "Enqueue",
            "In batches",
            "Drain",
            "Drain, to the first row",
            "Bytes of the first row off by",
        ),
        lines(),
    )


def _reach(found: Found) -> str:
    costs = inputs(found)
    rows = (reach(costs, each) for each in DURATIONS)
    return _table(
        (
            "A task takes",
            "Tasks per round trip",
            "One worker, tasks/s",
            "redis' µs per task",
            "One redis, tasks/s",
            "Workers that keep it busy",
            "CPU seconds per million",
        ),
        (
            (
                f"{each.task_us / 1e3:g} ms",
                f"{each.batch:,.1f}",
                f"{each.alone:,.1f}",
                f"{each.server_us:,.0f}",
                f"{each.most:,.0f}",
                f"{each.workers:,.1f}",
                f"{each.cpu_s:,.0f}",
            )
            for each in rows
        ),
    )


def _memory(found: Found) -> str:
    rows = found["depth"].get("redis") or found["depth"]["sqlite"]
    each = rows[-1]["bytes"]
    return _table(
        ("Queued", "Tasks alone, GiB", "With room for a fork, GiB"),
        (
            (
                f"{depth:,}",
                f"{model.memory(depth, each) / 2**30:,.2f}",
                f"{model.memory(depth, each, headroom=2) / 2**30:,.2f}",
            )
            for depth in (100_000, 1_000_000, 10_000_000, 100_000_000)
        ),
    )


def _requests(found: Found) -> str:
    def lines() -> Iterator[Line]:
        for name, ways in found["requests"].items():
            for way, row in ways.items():
                both = [
                    sum(_billed(row[half]).values()) / row["tasks"] for half in ("push", "work")
                ]
                how = "one by one" if way == "1" else f"by {way}"
                what = ", ".join(
                    f"{count / row['tasks']:g} {operation}"
                    for half in ("push", "work")
                    for operation, count in _billed(row[half]).items()
                )
                million = model.sqs_requests(1e6, sum(both))
                yield (f"{name}, {how}", what, f"{sum(both):g}", f"{million:,.0f}")

    return _table(("", "Requests of a task", "Together", "Per million tasks"), lines())


def _billed(operations: dict[str, int]) -> dict[str, int]:
    """Return the requests without the ones that a worker sends once, at its start."""
    return {name: count for name, count in operations.items() if not name.startswith("GetQueue")}


PARTS: dict[str, Callable[[Found], str]] = {
    "about": _about,
    "costs": _costs,
    "fitted": _fitted,
    "checks": _checks,
    "used": _used,
    "waits": _waits,
    "depth": _depth,
    "reach": _reach,
    "memory": _memory,
    "requests": _requests,
}

if __name__ == "__main__":
    render(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
