"""Stop workers for longer than the lease, then continue them: late acks are refused, none is lost.

beanstalkd 1.12 may keep a lease that ran out, if the connection that holds it is silent. Its clock
counts microseconds; it looks at the job in the very one in which the lease ends, finds it not over
yet, and does not look again. Such a task must run once, and its ack must be accepted. The loop
counts both kinds there.
"""

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

from chaos import jobs
from chaos.common import is_empty, noted, push, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import COMPLETED, STARTED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = {"sqlite": 50, "redis": 50, "beanstalk": 50, "sqs": 20}
SMALL = {"sqlite": 4, "redis": 4, "beanstalk": 4, "sqs": 2}

#: How many workers are stopped at the same time, while two others go on.
AT_ONCE = 10

#: Backends whose leases may outlast their time; from so many stops up, one must lose its lease.
KEEPS_LEASES = ("beanstalk",)
ENOUGH = 20


def run(environment: Environment, size: int) -> Row:
    """Stop ``size`` workers in the middle of a task."""
    began = time.monotonic()
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    flags = ["--lease", str(environment.lease), "--prefetch", "1"]
    count = min(size, AT_ONCE)
    wrong: list[str] = []
    with Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *flags,
        size=count + 2,
        variables=environment.variables,
    ) as fleet:
        done = 0
        while done < size and not wrong:
            names = [str(number) for number in range(done, min(size, done + count))]
            wrong += _round(environment, gator, ledger, names)
            done += len(names)
        if not wait_until(lambda: is_empty(gator), 10):
            wrong.append(f"left over: {gator.stats()}")
        account = ledger.account()
        wait_until(lambda: _refused(fleet.log) >= account.duplicated, 5)  # said after the ack
        refused = _refused(fleet.log)
    row = row_of("stopped process", environment.name, account, done)
    kept = sum(1 for times in account.completed.values() if times == 1)
    row.wrong += wrong + _judge(environment, account.completed, refused, gator)
    row.note = f"{refused} late acks refused"
    if environment.name in KEEPS_LEASES:
        row.note += f", {kept} leases kept by the server"
    row.seconds = time.monotonic() - began
    return row


def _round(environment: Environment, gator, ledger: Ledger, names: list[str]) -> list[str]:
    """Stop a worker on each of these tasks, let others take over, and wake them again."""
    gate = environment.folder / f"gate-{names[0]}"
    push(gator, ledger, jobs.wait_for, names, str(gate))
    if not wait_until(lambda: len(noted(ledger, STARTED, names)) == len(names), 20):
        return [f"not all started: {names}"]
    stopped = [entry.pid for entry in noted(ledger, STARTED, names)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        gate.touch()
        over = time.monotonic() + environment.lease + 0.5
        settled = wait_until(lambda: _is_settled(environment, gator, ledger, names, over), 40)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    if not settled:
        return [f"the other workers did not take over all of {names} within 40 s"]
    if not wait_until(lambda: set(stopped) <= _ended_in(ledger, names), 20):
        return [f"a stopped worker did not go on: {names}"]
    return []


def _is_settled(
    environment: Environment, gator, ledger: Ledger, names: list[str], over: float
) -> bool:
    """Return whether each was taken over, or its lease was kept where that may happen."""
    ends = _ends(ledger, names)
    if ends == len(names) or environment.name not in KEEPS_LEASES:
        return ends == len(names)
    kept = gator.stats()["running"]
    # Ask again after the server: a task neither kept nor done is being taken over.
    return time.monotonic() > over and _ends(ledger, names) + kept == len(names)


def _ended_in(ledger: Ledger, names: list[str]) -> set[int]:
    return {entry.pid for entry in noted(ledger, COMPLETED, names)}


def _ends(ledger: Ledger, names: list[str]) -> int:
    return len(noted(ledger, COMPLETED, names))


def _refused(log: str) -> int:
    """Return the number of tasks whose lease a worker logged as lost."""
    said = Path(log).read_text() if Path(log).exists() else ""
    return len(set(re.findall(r"Task (\S+) lost its lease", said)))


def _judge(environment: Environment, completed: Counter, refused: int, gator) -> list[str]:
    right = {1, 2} if environment.name in KEEPS_LEASES else {2}
    wrong = []
    if odd := {name: times for name, times in completed.items() if times not in right}:
        wrong.append(f"not run exactly {' or '.join(map(str, right))} times: {odd}")
    twice = sum(1 for times in completed.values() if times > 1)
    if refused != twice:
        wrong.append(f"{refused} of {twice} late acks were refused")
    if not twice and len(completed) >= ENOUGH:
        wrong.append("no stopped worker lost its lease")
    if dead := gator.dead():
        wrong.append(f"dead letters: {[letter.error for letter in dead][:3]}")
    return wrong
