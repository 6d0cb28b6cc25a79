"""Replace workers one after the other under load, by SIGTERM: nothing runs twice.

A worker hands back the tasks that it has not started, finishes the others, and exits with 0,
whether it gets one signal, two or many. On SIGQUIT it leaves at once, and its long task starts on
the other worker. No lease runs out during the loop, so a task that is not handed back is missing
in the end. (On SQS the leases are short: a task that the service sends to a process that has just
ended is delivered again only after its lease.)
"""

import os
import random
import signal
import time
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

from chaos import jobs
from chaos.common import is_empty, noted, push, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import KILLED, STARTED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = {"sqlite": 100, "redis": 100, "beanstalk": 100, "sqs": 40}
SMALL = {"sqlite": 2, "redis": 2, "beanstalk": 2, "sqs": 1}

LEASE = {"sqs": 4.0}  # seconds; elsewhere a minute, on beanstalk what the DSN says
GRACE = 2.0
CONCURRENCY = (1, 4)
LONGEST = 0.3  # seconds of work in a task
BACKLOG = 20  # tasks that always wait
PORTION = 40

#: Seconds in which a worker told to leave must end, and its task must start on the other worker.
GONE_WITHIN = 1.0
BACK_WITHIN = {"sqs": 6.0}


class Rolling:
    """Replace the workers of two fleets, one of them with threads, and push their tasks."""

    def __init__(self, environment: Environment) -> None:
        self.environment, self.gator = environment, environment.gator()
        self.ledger = Ledger(environment.folder / "ledger")
        self.numbers = count()
        self.wrong: list[str] = []
        self.fleets = [self._fleet(threads) for threads in CONCURRENCY]

    def _fleet(self, threads: int) -> Fleet:
        lease = LEASE.get(self.environment.name, 60.0)
        return Fleet(
            self.environment.dsn,
            self.gator.queue_name,
            self.environment.folder,
            self.ledger,
            *(f"--concurrency={threads}", "--prefetch=8", f"--lease={lease}", f"--grace={GRACE}"),
            size=1,
            variables=self.environment.variables,
        )

    def load(self) -> None:
        """Push tasks of all lengths until enough wait."""
        if self.gator.len() >= BACKLOG:
            return
        for _ in range(PORTION // 4):
            names = [str(next(self.numbers)) for _ in range(4)]
            push(self.gator, self.ledger, jobs.work, names[:2])
            push(self.gator, self.ledger, jobs.work, names[2:], random.uniform(0, LONGEST))

    def is_busy(self, worker: BaseProcess) -> bool:
        """Return whether a worker has begun to work."""
        return f" {worker.pid} ".encode() in Path(self.ledger.path).read_bytes()[-20_000:]

    def restart(self, fleet: Fleet) -> float:
        """Stop its worker gracefully and start another; return how long the stop took."""
        (worker,) = fleet.workers
        # The other worker may run all tasks before this one has started.
        if not wait_until(lambda: self.load() or self.is_busy(worker), 20):
            self.wrong.append("a worker did not begin")
        time.sleep(random.uniform(0, 0.1))  # so that the signal arrives at any step
        code, took = fleet.stop(worker, within=GRACE + 10, times=random.choice((1, 2, 60)))
        if code != 0 or took > GRACE + 1:
            self.wrong.append(f"exit code {code} after {took:.2f} s")
        fleet.fill()
        return took

    def insist(self, fleet: Fleet, other: Fleet) -> None:
        """Stop it at once while a long task runs: the task must start on the other, at once."""
        self.restart_empty(other)
        (worker,) = fleet.workers
        name = f"long-{next(self.numbers)}"
        push(
            self.gator, self.ledger, jobs.slow_at_first, [name], str(self.environment.folder / name)
        )
        if not wait_until(lambda: self.starts(name) == [worker.pid], 20):
            self.wrong.append(f"{name} did not start")
            return
        other.fill()
        for _ in range(2):  # as systemd and a supervisor do
            os.kill(worker.pid or 0, signal.SIGTERM)
            worker.join(0.3)
        if not worker.is_alive():
            self.wrong.append(f"{name} was not waited for")
        self.ledger.note(KILLED, "-", pid=worker.pid)
        told = time.monotonic()
        os.kill(worker.pid or 0, signal.SIGQUIT)
        worker.join(10)
        if worker.is_alive() or time.monotonic() - told > GONE_WITHIN:
            self.wrong.append(f"told to leave, left after {time.monotonic() - told:.2f} s")
        if not wait_until(lambda: len(self.starts(name)) == 2, 20):
            self.wrong.append(f"{name} did not come back")
        fleet.workers.clear()

    def restart_empty(self, fleet: Fleet) -> None:
        """Replace its worker while no worker has a task, and see that every worker gets one."""
        for each in self.fleets:
            each.fill()
        code, _ = fleet.stop(fleet.workers[0], within=GRACE + 10)
        if code not in (0, -signal.SIGTERM):  # the latter if it had hardly started
            self.wrong.append(f"exit code {code} of an idle worker")

    def starts(self, name: str) -> list[int]:
        """Return the processes that have started a task."""
        return [entry.pid for entry in noted(self.ledger, STARTED, [name])]


def run(environment: Environment, size: int) -> Row:
    """Replace workers ``size`` times in order, and some of them at once, too."""
    began = time.monotonic()
    rolling, took = Rolling(environment), []
    gator, (first, second) = rolling.gator, rolling.fleets
    rolling.load()
    with first, second:
        for number in range(size):
            rolling.load()
            took.append(rolling.restart(rolling.fleets[number % 2]))
        if not wait_until(lambda: is_empty(gator), 30):
            rolling.wrong.append(f"left over: {gator.stats()}")
        for _ in range(max(1, size // 25)):
            rolling.insist(first, second)
            rolling.insist(second, first)
        if not wait_until(lambda: is_empty(gator), 10):
            rolling.wrong.append(f"long tasks left over: {gator.stats()}")
    row = row_of("rolling restarts", environment.name, rolling.ledger.account(), size)
    row.wrong += rolling.wrong
    if row.duplicated:
        row.wrong.append(f"{row.duplicated} ran twice")
    late = [each for each in row.recovery if each > BACK_WITHIN.get(environment.name, 3.0)]
    if late:
        row.wrong.append(f"after a SIGQUIT, tasks started again only after {late} s")
    row.note = f"stopped within {max(took):.2f} s, told to leave {len(row.recovery)} times"
    row.seconds = time.monotonic() - began
    return row
