"""Measure the costs behind the scale page: ``python -m benchmarks.scale.measure``."""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from alligator import version
from benchmarks.errors import NotMeasured
from benchmarks.scale import arrivals, costs, depth, requests
from benchmarks.scale.render import render
from tests.support.servers.process import need


@dataclass(frozen=True)
class Plan:
    """Hold how much to do: passes, seconds per figure, seconds of arrivals, tasks for requests."""

    passes: int
    seconds: float
    arrivals: float
    tasks: int


FULL, QUICK = Plan(3, 0.5, 6.0, 100), Plan(1, 0.5, 3.0, 50)


#: A load above this before the start comes from other programs.
CALM = 0.5


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.scale.measure", description=__doc__)
    add = made.add_argument
    add("--quick", action="store_true", help="little of each: rough figures, within a minute")
    add("--most", type=int, default=1_000_000, metavar="N", help="tasks queued; default: a million")
    add("--most-sqlite", type=int, default=1_000_000, metavar="N", help="the same in a file")
    add("--minutes", type=float, default=5.0, help="in all; deeper queues are left out; default: 5")
    add("--gib", type=float, default=6.0, help="memory, and disk, for a queue; default: 6")
    add("--out", type=Path, default=Path("build/scale.json"), help="where the JSON goes")
    add("--docs", type=Path, metavar="FOLDER", help="write the tables there, too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, save, and print where the figures are."""
    given, started = parser().parse_args(argv), time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    plan = QUICK if given.quick else FULL
    found: dict[str, Any] = {"about": about(plan), "notes": []}
    found["overslept"] = costs.overslept()
    found |= {"push": {}, "serve": {}, "work": {}, "waits": [], "depth": {}}
    for number in range(plan.passes):
        _costs(found, plan, number, say)
    _waits(found, plan, say)
    found["requests"] = requests.measure(plan.tasks)
    say(f"requests: {found['requests']}")
    for kind, most in (("sqlite", given.most_sqlite), ("redis", given.most)):
        left = given.minutes * 60 - (time.monotonic() - started)
        share = left * 0.5 if kind == "sqlite" else left
        rows, notes = depth.measure(kind, most, share, given.gib * 2**30, say)
        found["depth"][kind] = rows
        found["notes"] += notes
    found["about"]["minutes"] = f"{(time.monotonic() - started) / 60:.1f}"
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    if given.docs:
        render(found, given.docs)
    say(f"done: {given.out}")
    return 0


def _costs(found: dict[str, Any], plan: Plan, number: int, say: Any) -> None:
    """Measure all costs once, and add the figures to those of the other passes."""

    def note(part: str, name: str, figures: dict[str, float]) -> None:
        found[part].setdefault(name, []).append(figures)
        shown = "  ".join(f"{key} {value:,.4g}" for key, value in figures.items())
        say(f"pass {number + 1}  {part:<6}{name:<28}{shown}")

    for batch in (1, 100):
        note("push", str(batch), costs.push(batch, plan.seconds))
    note("push", "many", costs.push_by_many(plan.seconds))
    for batch in costs.BATCHES:
        note("serve", str(batch), costs.serve(batch, plan.seconds))
    runs = [("nothing", 1, batch) for batch in costs.BATCHES]
    runs += [("nothing", costs.MANY, batch) for batch in (1, 100)]
    runs += [(work[0], crowd, None) for work in costs.WORK for crowd in costs.CROWDS]
    for name, crowd, prefetch in runs:
        try:
            figures = costs.work(name, crowd, prefetch, plan.seconds)
        except NotMeasured as err:
            found["notes"].append(f"{name}, {crowd} workers: {err}.")
            say(found["notes"][-1])
            continue
        note("work", f"{name}|{crowd}|{prefetch or 'auto'}", figures)


def _waits(found: dict[str, Any], plan: Plan, say: Any) -> None:
    found["idle"] = arrivals.idle(plan.tasks)
    found["service"] = arrivals.service(plan.tasks)
    say(f"idle: {found['idle'] * 1e3:.2f} ms, service: {found['service'] * 1e3:.2f} ms")
    for crowd in costs.CROWDS:
        for load in arrivals.LOADS:
            rate = load * crowd / found["service"]
            try:
                figures = arrivals.measure(crowd, rate, plan.arrivals)
            except NotMeasured as err:
                found["notes"].append(f"waits, {crowd} workers at {load:.0%}: {err}.")
                continue
            found["waits"].append(figures)
            say(f"waits: {found['waits'][-1]}")


def about(plan: Plan) -> dict[str, str]:
    """Return date, machine and versions."""
    server = subprocess.run([need("redis-server"), "--version"], capture_output=True, text=True)
    number = re.search(r"v=(\S+)", server.stdout)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": str(os.cpu_count()),
        "system": f"{sys.platform} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "redis": number.group(1) if number else "of unknown version",
        "driver": f"redis-py {redis.__version__}",
        "alligator": version(),
        "passes": str(plan.passes),
        "quick": "yes" if plan == QUICK else "",
        "shared": "yes" if os.getloadavg()[0] > CALM else "",
    }


if __name__ == "__main__":
    sys.exit(main())
