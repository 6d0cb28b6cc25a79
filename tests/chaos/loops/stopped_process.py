"""SIGSTOP for longer than the lease, then SIGCONT: overtaken, refused, and nothing lost."""

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

from tests.chaos import jobs
from tests.chaos.common import is_empty, noted, push, wait_until
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import COMPLETED, STARTED, Ledger
from tests.chaos.places import Place
from tests.chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = {"sqlite": 50, "redis": 50, "beanstalk": 50, "sqs": 20}

#: So many are stopped at the same time, while two others go on.
AT_ONCE = 10


def run(place: Place, size: int) -> Row:
    """Stop ``size`` workers in the middle of a task."""
    began = time.monotonic()
    gator, ledger = place.gator(), Ledger(place.folder / "ledger")
    flags = ["--lease", str(place.lease), "--prefetch", "1"]
    count = min(size, AT_ONCE)
    wrong: list[str] = []
    with Fleet(
        place.dsn,
        gator.queue_name,
        place.folder,
        ledger,
        *flags,
        size=count + 2,
        environment=place.environment,
    ) as fleet:
        done = 0
        while done < size and not wrong:
            names = [str(number) for number in range(done, min(size, done + count))]
            wrong += _round(place, gator, ledger, names)
            done += len(names)
        if not wait_until(lambda: is_empty(gator), 10):
            wrong.append(f"left over: {gator.stats()}")
        refused = _refused(fleet.log)
    account = ledger.account()
    row = row_of("stopped_process", place.name, account, done)
    row.wrong += wrong + _judge(account.completed, refused, gator)
    row.note = f"{refused} late acks refused"
    row.seconds = time.monotonic() - began
    return row


def _round(place: Place, gator, ledger: Ledger, names: list[str]) -> list[str]:
    """Stop a worker on each of these tasks, let others take over, and wake them again."""
    gate = place.folder / f"gate-{names[0]}"
    push(gator, ledger, jobs.wait_for, names, str(gate))
    if not wait_until(lambda: len(noted(ledger, STARTED, names)) == len(names), 20):
        return [f"not all started: {names}"]
    stopped = [entry.pid for entry in noted(ledger, STARTED, names)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        gate.touch()
        overtaken = wait_until(lambda: _ends(ledger, names) == len(names), 10 * place.lease + 20)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    if not overtaken:
        return [f"nobody took over all of {names} within ten leases"]
    if not wait_until(lambda: _ends(ledger, names) == 2 * len(names), 20):
        return [f"a stopped worker did not go on: {names}"]
    return []


def _ends(ledger: Ledger, names: list[str]) -> int:
    return len(noted(ledger, COMPLETED, names))


def _refused(log: str) -> int:
    """Return of how many tasks a worker said that it had lost them."""
    said = Path(log).read_text() if Path(log).exists() else ""
    return len(set(re.findall(r"Task (\S+) lost its lease", said)))


def _judge(completed: Counter, refused: int, gator) -> list[str]:
    wrong = []
    if odd := {name: times for name, times in completed.items() if times != 2}:
        wrong.append(f"not run exactly twice: {odd}")
    if refused != len(completed):
        wrong.append(f"{refused} of {len(completed)} late acks were refused")
    if dead := gator.dead():
        wrong.append(f"dead letters: {[letter.error for letter in dead][:3]}")
    return wrong
