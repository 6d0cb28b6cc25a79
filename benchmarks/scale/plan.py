"""Compute what your own load needs, from the figures of a run: ``python -m benchmarks.scale.plan``.

For another machine, measure there first: ``python -m benchmarks.scale.measure``.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.scale import model
from benchmarks.scale.report import Inputs, inputs

HERE = Path(__file__).resolve().parent.parent.parent / "docs" / "figures" / "scale.json"
MONTH = 30 * 86_400


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.scale.plan", description=__doc__)
    add = made.add_argument
    add("--figures", type=Path, default=HERE, help="default: those of the documentation")
    add("--rate", type=float, required=True, help="tasks/s that arrive")
    add("--task-ms", type=float, required=True, help="how long one takes on average")
    add("--busy", type=float, default=0.7, help="how busy workers may be; default: 0.7")
    add("--backlog", type=float, default=1e6, help="tasks that may pile up; default: a million")
    add("--price", type=float, help="of a million SQS requests; then what a month costs is said")
    add("--sqs-batch", type=float, default=1, help="tasks per SQS request, 1 to 10; default: 1")
    return made


def plan(costs: Inputs, task_bytes: float, given: argparse.Namespace) -> Iterator[str]:
    """Yield the needs of a load, a line each."""
    task_us = given.task_ms * 1e3
    batch = model.per_trip(task_us)
    cycle = costs.way(task_us).cycle(batch, task_us) / 1e6
    workers = max(1, math.ceil(given.rate * cycle / given.busy))
    wait = costs.start + model.mean_wait(given.rate, cycle, workers)
    late = costs.start + model.wait_quantile(0.99, given.rate, cycle, workers)
    server = costs.busy.per_task(batch) + costs.busy_push
    yield f"workers      {workers:,} (at most {given.busy:.0%} busy)"
    yield f"waiting      {wait * 1e3:,.1f} ms on average, 99 % within {late * 1e3:,.1f} ms"
    yield f"redis        {given.rate / model.capacity(server):.1%} of one thread"
    need = model.memory(given.backlog, task_bytes, headroom=2) / 2**30
    yield f"memory       {need:,.2f} GiB for {given.backlog:,.0f} tasks, with room for a fork"
    if given.price is not None:
        requests = model.sqs_requests(given.rate * MONTH, 3 / given.sqs_batch)
        polls = model.sqs_polls(workers, MONTH)
        price = model.sqs_price(requests + polls, given.price)
        yield f"SQS          {requests + polls:,.0f} requests in 30 days: {price:,.2f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the plan."""
    given = parser().parse_args(argv)
    found = json.loads(given.figures.read_text())
    task_bytes = found["depth"]["redis"][-1]["bytes"]
    print("\n".join(plan(inputs(found), task_bytes, given)))


if __name__ == "__main__":
    main()
