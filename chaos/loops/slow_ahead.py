"""Reserve a slow task together with quick ones behind it: the quick ones do not wait for it.

Two workers are busy while a slow task and quick ones are pushed. One worker becomes free and
reserves them all; then the other becomes free, and finds nothing. The first must hand back the
tasks that it cannot start, and the other must start them within a second of the slow task's start.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chaos import jobs
from chaos.common import is_empty, noted, push, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import STARTED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = 20
SMALL = 1

PREFETCH = 8
SLOW = 5.0  # seconds
PAIRS = 4  # of workers, each on a queue of its own

#: Seconds from the slow task's start to that of the last quick one. On SQS each quick one costs a
#: request to hand it back and about one to fetch it, and the emulator is slow.
WITHIN = {"sqs": 3.0}


class Pair:
    """Hold two workers and their queue."""

    def __init__(self, environment: Environment, number: int) -> None:
        self.folder = environment.folder / f"pair-{number}"
        self.folder.mkdir()
        self.prefix = f"{number}-"
        self.gator, self.ledger = environment.gator(), Ledger(environment.folder / "ledger")
        self.fleet = Fleet(
            environment.dsn,
            self.gator.queue_name,
            self.folder,
            self.ledger,
            *(f"--prefetch={PREFETCH}", "--lease=30"),
            variables=environment.variables,
        )
        self.delays: list[float] = []
        self.held = 0  # how often the worker of the slow task had reserved others, too
        self.wrong: list[str] = []

    def run(self, rounds: Sequence[int]) -> "Pair":
        """Go through these rounds."""
        with self.fleet:
            for number in rounds:
                self._round(f"{self.prefix}{number}", last=number == rounds[-1])
                if self.wrong:
                    break
        return self

    def _round(self, name: str, last: bool) -> None:
        gates = [self._keep_busy(f"{name}-gate-{which}") for which in "ab"]
        slow, end = f"{name}-slow", self.folder / f"{name}-end"
        quick = [f"{name}-quick-{index}" for index in range(1, PREFETCH)]
        push(self.gator, self.ledger, jobs.wait_for, [slow], str(end))
        push(self.gator, self.ledger, jobs.work, quick)
        gates[0].touch()
        began = self._started([slow], 20)
        self.held += self.gator.stats()["running"] > 2
        gates[1].touch()
        starts = self._started(quick, 20)
        if not began or not starts:
            self.wrong.append(f"round {name}: not all started: {self.gator.stats()}")
        else:
            self.delays.append(max(starts) - began[0])
            # What a worker has learnt of slow tasks must not delay the next round.
            time.sleep(0 if last else max(0.0, began[0] + SLOW - time.time()))
        end.touch()
        if not wait_until(lambda: is_empty(self.gator), 20):
            self.wrong.append(f"left over: {self.gator.stats()}")

    def _keep_busy(self, name: str) -> Path:
        gate = self.folder / name
        push(self.gator, self.ledger, jobs.wait_for, [name], str(gate))
        if not self._started([name], 20):
            self.wrong.append(f"{name} did not start")
        return gate

    def _started(self, names: list[str], within: float) -> list[float]:
        """Return when each has started; nothing if not all have."""
        found: list[float] = []

        def all_have() -> bool:
            found[:] = [entry.at for entry in noted(self.ledger, STARTED, names)]
            return len(found) >= len(names)

        return found if wait_until(all_have, within) else []


def run(environment: Environment, size: int) -> Row:
    """Have a slow task run ahead of quick ones ``size`` times."""
    began = time.monotonic()
    count = min(size, PAIRS)
    rounds = [range(size)[number::count] for number in range(count)]
    with ThreadPoolExecutor(count) as threads:
        work = [threads.submit(Pair(environment, n).run, rounds[n]) for n in range(count)]
        pairs = [each.result() for each in work]
    row = row_of("slow ahead", environment.name, pairs[0].ledger.account(), size)
    row.recovery = sorted(delay for pair in pairs for delay in pair.delays)
    row.wrong += [each for pair in pairs for each in pair.wrong]
    if late := [
        round(delay, 2) for delay in row.recovery if delay > WITHIN.get(environment.name, 1.0)
    ]:
        row.wrong.append(f"quick ones waited for a slow one: {late} s")
    held = sum(pair.held for pair in pairs)
    if held * 2 < size:
        row.wrong.append(f"only {held} times of {size} was anything reserved ahead")
    if row.duplicated:
        row.wrong.append(f"{row.duplicated} ran twice")
    row.note = f"{held} times with quick ones reserved"
    row.seconds = time.monotonic() - began
    return row
