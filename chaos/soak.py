"""Check that the memory and the descriptors of a worker do not grow under long, steady load.

``python -m chaos.soak --seconds 600`` runs one worker with four threads on each backend, all at
the same time, and watches their processes. After a warm-up of a tenth of the time (at least 5 s),
it compares the median of the first fifth of the rest with that of the last fifth. Memory and
descriptors must be the same, to 5 percent, or to one connection, as pools open and close them. It
exits with 1 if they are not, or if anything was lost.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from alligator import Gator
from chaos import jobs
from chaos.common import is_empty, push, wait_until
from chaos.environment import Environment, open_environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Account, Ledger
from chaos.table import versions

BACKENDS = ("sqlite", "redis", "beanstalk")

TOLERANCE = 0.05
ONE = {"memory": 0, "descriptors": 1}  # that may come or go, whatever the percentage
WARM_UP, LEAST_WARM_UP = 0.1, 5.0  # of the time; seconds

TICK = 0.02  # seconds between two pushes: with the batches, some hundred tasks a second
BATCH = 10
LOAD = "x" * 10_240
KINDS = ("short", "again", "short", "batch", "short", "load", "slow", "short", "never", "short")
PURGE = 10 * len(KINDS)  # ticks between two purges of the dead letters


@dataclass
class Sample:
    """Hold what a process uses at a moment (monotonic seconds): bytes of memory, descriptors."""

    at: float
    memory: int
    descriptors: int


@dataclass
class Found:
    """Hold the results; ``memory`` and ``descriptors`` are those of the first and last fifth."""

    backend: str
    samples: list[Sample] = field(default_factory=list)
    memory: tuple[float, float] = (0.0, 0.0)
    descriptors: tuple[float, float] = (0.0, 0.0)
    tasks: int = 0
    twice: int = 0
    purged: int = 0
    wrong: list[str] = field(default_factory=list)


def sample(pid: int) -> Sample:
    """Return what a process uses now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Sample(time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE"), descriptors)


class Feeder:
    """Push a mixture of tasks in a thread, at a steady rate; use it as a context manager."""

    def __init__(self, gator: Gator, ledger: Ledger) -> None:
        self.gator, self.ledger = gator, ledger
        self.purged = 0
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Feeder":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Push no more."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        tick, due = 0, time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            tick, due = tick + 1, max(due + TICK, time.monotonic() - 1)
            try:
                self._push(KINDS[tick % len(KINDS)], f"{tick}")
                if tick % PURGE == 0:
                    self.purged += self.gator.client.purge_dead(self.gator.queue_name)
            except Exception as err:
                self.errors.append(repr(err))

    def _push(self, kind: str, name: str) -> None:
        if kind == "batch":
            names = [f"{name}-{number}" for number in range(BATCH)]
            push(self.gator, self.ledger, jobs.work, names)
            return
        name, path = f"{name}-{kind}", self.ledger.path
        self.ledger.note(ATTEMPTED, name)
        if kind == "again":
            self.gator.options(retries=1)(jobs.second_time, path, name)
        elif kind == "never":
            self.gator.task(jobs.never, path, name)
        elif kind == "load":
            self.gator.task(jobs.carry, path, name, LOAD)
        else:
            self.gator.task(jobs.work, path, name, 0.02 if kind == "slow" else 0.0)
        self.ledger.note(ACKNOWLEDGED, name)


def soak(environment: Environment, seconds: float) -> Found:
    """Run a worker for so long, and sample its process all the time."""
    found, gator, ledger = (
        Found(environment.name),
        environment.gator(),
        Ledger(environment.folder / "ledger"),
    )
    flags = ["--concurrency", "4", "--log-level", "CRITICAL"]
    fleet = Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *flags,
        size=1,
        variables=environment.variables,
    )
    with fleet, Feeder(gator, ledger) as feeder:
        (worker,) = fleet.workers
        end = time.monotonic() + seconds
        while time.monotonic() < end and worker.is_alive():
            found.samples.append(sample(worker.pid or 0))
            time.sleep(max(0.05, seconds / 1000))
        feeder.stop()
        found.purged, found.wrong = feeder.purged, feeder.errors[:3]
        if not worker.is_alive():
            found.wrong.append(f"the worker ended with {worker.exitcode}: {fleet.said()[-500:]}")
        elif not wait_until(lambda: is_empty(gator), 30):
            found.wrong.append(f"it did not keep up: {gator.stats()}")
    compare(found, max(LEAST_WARM_UP, WARM_UP * seconds))
    add_up(found, ledger.account())
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return found


def compare(found: Found, warm_up: float) -> None:
    """Compare the first fifth after the warm-up with the last."""
    warm = [each for each in found.samples if each.at > found.samples[0].at + warm_up]
    fifth = len(warm) // 5
    if not fifth:
        found.wrong.append("too short to tell")
        return
    parts = warm[:fifth], warm[-fifth:]
    found.memory = tuple(median(each.memory for each in part) for part in parts)
    found.descriptors = tuple(median(each.descriptors for each in part) for part in parts)
    for what, (first, last) in (("memory", found.memory), ("descriptors", found.descriptors)):
        if abs(last - first) > max(TOLERANCE * first, ONE[what]):
            found.wrong.append(f"{what}: {first:.0f} became {last:.0f}")


def add_up(found: Found, account: Account) -> None:
    """Report tasks that did not run."""
    failed = {entry.name for entry in account.failures if entry.name.endswith("-never")}
    found.tasks, found.twice = len(account.acknowledged), account.duplicated
    if lost := account.lost(failed):
        found.wrong.append(f"{len(lost)} lost: {sorted(lost)[:5]}")
    if not (failed and found.purged):
        found.wrong.append("no dead letter was made and purged")


def soak_on(backend: str, seconds: float) -> Found:
    """Run a soak on a backend of its own."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            with open_environment(backend, Path(folder)) as environment:
                return soak(environment, seconds)
        except Exception as err:
            return Found(backend, wrong=[f"{type(err).__name__}: {err}"])


HEADER = "backend    tasks    twice  purged  samples  memory, MB                  descriptors"


def line(found: Found) -> str:
    """Return the row of the table, and what is wrong below it."""
    (first, last), (few, many) = found.memory, found.descriptors
    change = f"({(last / first - 1) * 100:+.2f} %)" if first else ""
    memory = f"{first / 1e6:.1f} -> {last / 1e6:.1f} {change}"
    text = f"{found.backend:<11}{found.tasks:<9}{found.twice:<7}{found.purged:<8}"
    text += f"{len(found.samples):<9}{memory:<28}{few:g} -> {many:g}"
    return "\n".join([text, *(f"    WRONG: {each}" for each in found.wrong)])


def main() -> int:
    """Run a soak on each backend that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--backend", action="append", metavar="NAME", help="may be repeated")
    arguments = parser.parse_args()
    backends = arguments.backend or BACKENDS
    print(f"{versions()}\n\n{HEADER}", flush=True)
    with ThreadPoolExecutor(len(backends)) as pool:
        results = list(pool.map(lambda each: soak_on(each, arguments.seconds), backends))
    print("\n".join(map(line, results)))
    return int(any(found.wrong for found in results))


if __name__ == "__main__":
    sys.exit(main())
