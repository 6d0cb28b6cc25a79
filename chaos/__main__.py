"""Run all loops and print the table: ``make chaos``. Exit with 1 if anything was lost or wrong."""

import argparse
import importlib
import math
import multiprocessing
import pkgutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType

from chaos import loops
from chaos.proof import losses_seen
from chaos.report import save
from chaos.runner import run_one
from chaos.table import HEADER, line, versions

#: Loops that run at the same time. They mostly wait, so two cores can run three of them.
AT_ONCE = 3


def all_loops() -> Iterator[tuple[str, ModuleType]]:
    """Yield the name and module of every loop."""
    for found in pkgutil.iter_modules(loops.__path__):
        yield found.name, importlib.import_module(f"{loops.__name__}.{found.name}")


def full_size(loop: ModuleType, backend: str) -> int:
    """Return the number of faults at full size."""
    return loop.FULL[backend] if isinstance(loop.FULL, dict) else loop.FULL


def jobs_asked_for(argv: Sequence[str] | None) -> tuple[list[tuple[str, str, int]], Path | None]:
    """Read the command line; return loops with backend and size, and where to write the rows.

    :raises SystemExit: no loop runs on the backends that were asked for.
    """
    every = dict(all_loops())
    backends = sorted({backend for loop in every.values() for backend in loop.BACKENDS})
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--only", action="append", choices=every, help="may be repeated")
    parser.add_argument("--backend", action="append", choices=backends, help="may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full number of faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.scale < math.inf:
        parser.error(f"--scale {arguments.scale} is not above 0")
    jobs = [
        (name, backend, max(1, round(full_size(loop, backend) * arguments.scale)))
        for name, loop in every.items()
        for backend in loop.BACKENDS
        if (not arguments.only or name in arguments.only)
        and (not arguments.backend or backend in arguments.backend)
    ]
    if not jobs:
        parser.error(f"none of {arguments.only} runs on {arguments.backend}")
    return jobs, arguments.json


def main(argv: Sequence[str] | None = None) -> int:
    """Run the loops; return 1 if anything was wrong, 2 if the harness itself does not work."""
    jobs, file = jobs_asked_for(argv)
    print(versions(), flush=True)
    started, seen = time.monotonic(), losses_seen()
    if not seen:
        print("The harness does not work: it saw no loss with a client that loses. No report.")
        return 2
    print(f"Proof: {seen} losses were seen of a client that deletes before it runs.\n", flush=True)
    rows = []
    print(HEADER, flush=True)
    # Start the longest first, so that no long loop is left over at the end.
    jobs.sort(key=lambda job: -job[2] - 1000 * (job[0] == "default_lease"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, mp_context=context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(run_one, *job) for job in jobs]):
            rows.append(future.result())
            print(line(rows[-1]), flush=True)
    rows.sort(key=lambda row: (row.loop, row.backend))
    print("\n" + "\n".join([HEADER, *map(line, rows)]))
    took = time.monotonic() - started
    print(f"\n{took:.0f} s in total")
    if file:
        save(file, rows, versions(), took)
    return int(any(row.wrong or row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
