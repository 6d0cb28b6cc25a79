"""Kill workers with SIGKILL while their queue is paused and resumed by turns.

Pushes go on all the time, and so do delays. A second after a pause began, no task starts until the
queue is resumed. Then tasks start again. Whatever was killed, no task is lost.
"""

import random
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from alligator import Gator
from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Account, Ledger
from chaos.loops.worker_killed import finish, judge
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk")
FULL = 1000
SMALL = {"sqlite": 3, "redis": 3, "beanstalk": 0}

WORKERS = 3
AHEAD = 150  # tasks that are pushed and not completed, at most
STEP = 0.01  # seconds between two pushes
BETWEEN_KILLS = 0.1, 0.25  # seconds, at random

SECONDS = 0.02  # of work in a task
#: Every so many tasks one is long, with others reserved behind it when the pause begins. A small
#: run has none of them.
LONG, EVERY_LONG, MANY = 1.2, 50, 50
#: Every so many tasks one is delayed, by so many seconds at random.
EVERY_DELAYED, DELAYS = 4, (0.1, 0.8)

#: Seconds until all workers obey a pause, and what a busy machine may add.
OBEYED_WITHIN = 1.0 + 0.25
PAUSED = OBEYED_WITHIN + 0.35  # seconds that each pause lasts

#: After a resume, so many tasks must complete within so many seconds.
COMPLETIONS, GOES_ON_WITHIN = 20, 15.0


class Pause(NamedTuple):
    """When a pause began, after the call returned, and ended, before the call of the resume."""

    began: float
    ended: float


class _Loop:
    """Pushes and kills, at each step, whether the queue is paused or not."""

    def __init__(self, gator: Gator, ledger: Ledger, fleet: Fleet, size: int) -> None:
        self.gator, self.ledger, self.fleet, self.size = gator, ledger, fleet, size
        self.kills, self.names = 0, list[str]()
        self.due: dict[str, float] = {}
        self.pauses: list[Pause] = []
        self.wrong: list[str] = []
        self._next_kill = 0.0

    def turn(self) -> None:
        """Let tasks run, then pause the queue and resume it."""
        before, deadline = self.ledger.count_completed(), time.monotonic() + GOES_ON_WITHIN
        while self.ledger.count_completed() < before + COMPLETIONS:
            if time.monotonic() > deadline:
                self.wrong.append(f"no {COMPLETIONS} tasks in {GOES_ON_WITHIN} s after a resume")
                break
            self._step()
        self.gator.pause()
        began = time.time()
        until = time.monotonic() + PAUSED
        while time.monotonic() < until:
            self._step()
        self.pauses.append(Pause(began, time.time()))
        if not self.gator.resume():
            self.wrong.append("the pause had ended by itself")

    def _step(self) -> None:
        time.sleep(STEP)
        if len(self.names) < self.ledger.count_completed() + AHEAD:
            self._push()
        if self.kills < self.size and time.monotonic() > self._next_kill:
            self.fleet.kill()
            self.fleet.fill()
            self.kills += 1
            self._next_kill = time.monotonic() + random.uniform(*BETWEEN_KILLS)

    def _push(self) -> None:
        number = len(self.names)
        name, options = str(number), {}
        if number % EVERY_DELAYED == 1:
            options["delay_until"] = self.due[name] = time.time() + random.uniform(*DELAYS)
        is_long = self.size >= MANY and number % EVERY_LONG == EVERY_LONG - 1
        self.ledger.note(ATTEMPTED, name)
        work = jobs.work, self.ledger.path, name, LONG if is_long else SECONDS
        self.gator.options(**options).task(*work)
        self.ledger.note(ACKNOWLEDGED, name)
        self.names.append(name)


def run(environment: Environment, size: int, patience: float = 90.0) -> Row:
    """Kill ``size`` workers.

    :param patience: seconds to wait for what is missing in the end.
    """
    started = time.monotonic()
    flags, options = ["--lease", str(environment.lease)], {}
    if environment.name == "beanstalk":  # there, only a store can pause a queue
        options["store"] = f"sqlite://{environment.folder}/store.db"
        flags += ["--store", options["store"]]
    gator = environment.gator(**options)
    ledger = Ledger(environment.folder / "ledger")
    fleet = Fleet(
        environment.dsn, gator.queue_name, environment.folder, ledger, *flags, size=WORKERS
    )
    loop = _Loop(gator, ledger, fleet, size)
    deadline = started + 60 + size * 2
    with fleet:
        while loop.kills < size and not loop.wrong and time.monotonic() < deadline:
            loop.turn()
        buried = finish(gator, ledger, loop.names, within=patience)
    account = ledger.account()
    row = row_of("pauses", environment.name, account, loop.kills)
    row.buried = len(buried)
    row.recovery = account.recoveries(but=buried)  # with the pauses in between
    judge(row, account, loop.kills)
    row.wrong += loop.wrong
    row.wrong += started_in_pauses(account, loop.pauses, OBEYED_WITHIN)
    row.wrong += started_early(account, loop.due)
    if loop.kills < size:
        row.wrong.append(f"only {loop.kills} kills of {size}, {row.completed} tasks done")
    row.note = (
        f"{len(loop.pauses)} pauses, last start {latest_start(account, loop.pauses):.2f} s after "
        f"one began; {len(loop.due)} tasks delayed"
    )
    row.seconds = time.monotonic() - started
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


def started_in_pauses(account: Account, pauses: Iterable[Pause], within: float) -> list[str]:
    """Report tasks that started while the queue was paused, and had been for ``within`` seconds."""
    return [
        f"{start.name} started {start.at - pause.began:.3f} s after a pause began, and "
        f"{pause.ended - start.at:.3f} s before it ended"
        for pause in pauses
        for start in account.starts
        if pause.began + within < start.at < pause.ended
    ]


def started_early(account: Account, due: Mapping[str, float]) -> list[str]:
    """Report delayed tasks that started before they were due."""
    return [
        f"{start.name} started {due[start.name] - start.at:.3f} s before it was due"
        for start in account.starts
        if start.at < due.get(start.name, 0.0)
    ]


def latest_start(account: Account, pauses: Iterable[Pause]) -> float:
    """Return seconds from the begin of a pause to the last start in it, the longest of all."""
    return max(
        (
            start.at - pause.began
            for pause in pauses
            for start in account.starts
            if pause.began < start.at < pause.ended
        ),
        default=0.0,
    )
