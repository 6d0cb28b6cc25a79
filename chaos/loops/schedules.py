"""Kill one after the other of three workers that queue and run ``every(1)``, with SIGKILL.

Every second has one tick: none is missing, none is queued twice. A tick that runs twice had ended
right before its worker was killed, and was not acked yet. ``FULL`` and ``SMALL`` are seconds here.
"""

import random
import time
from datetime import datetime
from statistics import median

from alligator.scheduling.rules import tick_id
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, COMPLETED, Account, Ledger
from chaos.loops.worker_killed import ACKED_WITHIN
from chaos.rows import Row, row_of
from chaos.scheduled import DSN, LEDGER, QUEUE, STORE, declare

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = 60
#: The other two take half a minute to find out about a claim whose holder died.
SMALL = {"sqlite": 7, "redis": 7, "beanstalk": 0, "sqs": 0}

WORKERS = 3


def run(environment: Environment, size: int) -> Row:
    """Run for ``size`` seconds, and kill a worker every three (in the long run: five)."""
    started = time.monotonic()
    ledger, variables = _prepare(environment)
    gator = declare(variables)
    (schedule,) = gator.schedules
    app = ("--app", "chaos.scheduled:gator", "--lease", str(environment.lease))
    flags = {"size": WORKERS, "variables": {**environment.variables, **variables}}
    with Fleet(
        environment.dsn, gator.queue_name, environment.folder, ledger, *app, **flags
    ) as fleet:
        if not ledger.wait_for(schedule.name, COMPLETED, within=30):
            raise RuntimeError(f"no tick came: {fleet.said()}")
        first = int(time.time()) + 1
        expected = [tick_id(schedule.name, first + each) for each in range(size)]
        ledger.note(ATTEMPTED, *expected)
        ledger.note(ACKNOWLEDGED, *expected)
        kills = _kill(fleet, first + size, pause=3 if size < 60 else 5)
        _wait_for(ledger, expected, within=20 if gator.store is gator.client.store else 60)
    account = ledger.account()
    _leave_out_the_rest(account, expected)
    row = row_of("schedules", environment.name, account, kills)
    row.seconds = time.monotonic() - started
    _judge(row, account)
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


def _prepare(environment: Environment) -> tuple[Ledger, dict[str, str]]:
    made = environment.gator()
    ledger = Ledger(environment.folder / "ledger")
    elsewhere = "" if made.store else f"sqlite://{environment.folder}/store.db"
    variables = {
        DSN: environment.dsn,
        QUEUE: made.queue_name,
        STORE: elsewhere,
        LEDGER: ledger.path,
    }
    made.close()
    return ledger, variables


def _kill(fleet: Fleet, until: float, pause: float) -> int:
    """Kill one in each ``pause`` seconds, at any moment of these; return how many."""
    kills, begin = 0, time.time()
    while begin + pause < until:
        time.sleep(max(0.0, begin + random.uniform(0, pause) - time.time()))
        fleet.kill()
        fleet.fill()
        kills += 1
        begin += pause
    time.sleep(max(0.0, until - time.time()))
    return kills


def _wait_for(ledger: Ledger, names: list[str], within: float) -> None:
    deadline = time.monotonic() + within
    while set(names) - set(ledger.account().completed) and time.monotonic() < deadline:
        time.sleep(0.1)


def _leave_out_the_rest(account: Account, expected: list[str]) -> None:
    """Forget the ticks before and after the run."""
    wanted = set(expected)
    for name in set(account.completed) - wanted:
        del account.completed[name]
    account.starts = [each for each in account.starts if each.name in wanted]
    account.ends = [each for each in account.ends if each.name in wanted]


def _judge(row: Row, account: Account) -> None:
    gaps = account.gaps()
    soon = [gap for gap in gaps if gap <= ACKED_WITHIN]
    if row.duplicated > len(soon):
        row.wrong.append(f"{row.duplicated} ran twice, {len(soon)} for a kill right after the end")
    started: dict[str, float] = {}
    for start in account.starts:
        started.setdefault(start.name, start.at)
    names = sorted(started)  # by time: they differ in that alone
    late = sorted(started[name] - _moment(name) for name in names)
    if late and late[0] < 0:
        row.wrong.append(f"a tick came {-late[0]:.3f} s too early")
    row.note = f"{len(names)} ticks; late by {median(late):.3f} s, {late[-1]:.3f} s at most"


def _moment(name: str) -> float:
    return datetime.fromisoformat(name.rpartition("@")[2]).timestamp()
