"""Kill busy workers while producers push the same unique keys again and again.

No key has two pending tasks: once a task was queued, none that was queued before it under that
key starts again. No key is lost: what a push names as pending has not ended a while before, and
when all is done, every key is free.
"""

import threading
import time
from itertools import count, pairwise
from typing import NamedTuple

from alligator import Gator
from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Account, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis")
FULL = {"sqlite": 1000, "redis": 1000}
SMALL = {"sqlite": 5, "redis": 5}

WORKERS = 3
KEYS = 12
PRODUCERS = 3  # threads
PAUSE = 0.004  # seconds between two pushes of a producer
SECONDS = 0.02  # of work in a task
PER_KILL = 3  # completions between two kills

#: Seconds within which a task that has ended is acked, unless its worker was killed.
ACKED_WITHIN = 1.0


class Push(NamedTuple):
    """What a producer saw: the task that it queued, or the one that was pending."""

    key: str
    name: str
    task_id: str
    is_duplicate: bool
    began: float
    ended: float


class Producers:
    """Push all keys in turn, from several threads, until the block ends."""

    def __init__(self, environment: Environment, gator: Gator, ledger: Ledger) -> None:
        self.gators = [environment.gator(gator.queue_name) for _ in range(PRODUCERS)]
        self.ledger, self.numbers = ledger, count()
        self.pushes: list[Push] = []
        self.failed: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._push, args=[each]) for each in self.gators]

    def __enter__(self) -> "Producers":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()
        for gator in self.gators:
            gator.close()

    def _push(self, gator: Gator) -> None:
        try:
            while not self._over.wait(PAUSE):
                number = next(self.numbers)
                self.pushes.append(push(gator, self.ledger, f"key-{number % KEYS}", f"{number}"))
        except Exception as err:
            self.failed.append(f"a push raised {type(err).__name__}: {err}")


def push(gator: Gator, ledger: Ledger, key: str, name: str) -> Push:
    """Push a task of that key, and note it if it was queued."""
    began = time.time()
    ledger.note(ATTEMPTED, name)
    task = gator.options(unique=key).task(jobs.work, ledger.path, name, SECONDS)
    if not task.is_duplicate:
        ledger.note(ACKNOWLEDGED, name)
    return Push(key, name, task.task_id, task.is_duplicate, began, time.time())


def run(environment: Environment, size: int) -> Row:
    """Kill ``size`` workers."""
    started, kills = time.monotonic(), 0
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    lease = ("--lease", str(environment.lease))
    fleet = Fleet(
        environment.dsn, gator.queue_name, environment.folder, ledger, *lease, size=WORKERS
    )
    deadline = started + 60 + size * 2
    with fleet:
        with Producers(environment, gator, ledger) as producers:
            while kills < size and time.monotonic() < deadline:
                if ledger.count_completed() >= PER_KILL * (kills + 1):
                    fleet.kill()
                    fleet.fill()
                    kills += 1
                time.sleep(0.005)
        while _is_busy(gator) and time.monotonic() < deadline:
            time.sleep(0.05)
    pushes, account = producers.pushes, ledger.account()
    names = {each.task_id: each.name for each in pushes if not each.is_duplicate}
    buried = {names[letter.task_id] for letter in gator.dead(10_000)}
    row = row_of("unique keys", environment.name, account, kills, buried)
    row.wrong += producers.failed + two_pending(pushes, account) + lost_keys(pushes, account, names)
    for number in range(KEYS):
        if push(gator, ledger, f"key-{number}", f"last-{number}").is_duplicate:
            row.wrong.append(f"key-{number} is taken by a task that is gone")
    if kills < size:
        row.wrong.append(f"only {kills} kills of {size}, {row.completed} tasks done")
    duplicates = sum(each.is_duplicate for each in pushes)
    row.note = f"{len(pushes)} pushes, {duplicates} of them duplicates"
    row.seconds = time.monotonic() - started
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


def _is_busy(gator: Gator) -> bool:
    stats = gator.stats()
    return bool(stats["waiting"] or stats["delayed"] or stats["running"])


def two_pending(pushes: list[Push], account: Account) -> list[str]:
    """Report tasks that started although a later one of their key had been queued."""
    last_start = {entry.name: entry.at for entry in account.starts}  # in order of time
    by_key: dict[str, list[Push]] = {}
    for each in sorted(pushes, key=lambda push: push.ended):
        if not each.is_duplicate:
            by_key.setdefault(each.key, []).append(each)
    return [
        f"{one.name} started {last_start[one.name] - other.ended:.3f} s after {other.name} of "
        f"{one.key} was queued"
        for queued in by_key.values()
        for one, other in pairwise(queued)
        if last_start.get(one.name, 0.0) > other.ended
    ]


def lost_keys(pushes: list[Push], account: Account, names: dict[str, str]) -> list[str]:
    """Report pushes that found a task which no push queued, or which had ended before."""
    last_end = {entry.name: entry.at for entry in account.ends}
    wrong = []
    for each in pushes:
        if not each.is_duplicate:
            continue
        name = names.get(each.task_id)
        if name is None:
            wrong.append(f"{each.key} was taken by {each.task_id}, which no push queued")
            continue
        ended = last_end.get(name)
        if ended is not None and ended < each.began - ACKED_WITHIN:
            wrong.append(
                f"{each.key} was taken by {name}, which had ended {each.began - ended:.3f} s before"
            )
    return wrong
