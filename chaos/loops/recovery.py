"""Measure how soon the task of a killed worker starts again, with a backlog of ten thousand others.

There is one kill at a time, so that nothing else explains a delay. The other worker must start the
interrupted task within a lease and half a second, before the tasks that wait.
"""

import time

from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, STARTED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk")
FULL = 15
SMALL = 1

BACKLOG = 10_000
SLACK = 0.5  # seconds beyond the lease


def run(environment: Environment, size: int) -> Row:
    """Kill the worker of ``size`` long tasks, one after the other."""
    started = time.monotonic()
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    backlog = min(BACKLOG, 2_000 * size)
    with gator.batch() as batch:
        for _ in range(backlog):
            batch.task(jobs.nap, 0.005)
    lease = ("--lease", str(environment.lease))
    urgent = gator.options(priority=100)
    with Fleet(
        environment.dsn, gator.queue_name, environment.folder, ledger, *lease, size=2
    ) as fleet:
        for number in range(size):
            name = f"long-{number}"
            ledger.note(ATTEMPTED, name)
            urgent.task(jobs.slow_at_first, ledger.path, name, str(environment.folder / name))
            ledger.note(ACKNOWLEDGED, name)
            victim = wait_for_start(ledger, name)
            fleet.kill(next(each for each in fleet.workers if each.pid == victim))
            wait_for_start(ledger, name, after=victim)
            fleet.fill()
        left = gator.len()
    row = row_of("recovery behind backlog", environment.name, ledger.account(), size)
    # Tasks that ran when the fleet was stopped do not count; the long ones do.
    late = [each for each in row.recovery if each > environment.lease + SLACK]
    if late or len(row.recovery) < size:
        row.wrong.append(f"of {size}, {len(row.recovery)} came back, {len(late)} of them late")
    if not left:
        row.wrong.append("the backlog ran out, so no task was waiting")
    row.note = f"lease {environment.lease:g} s, {left} of {backlog} still waiting"
    row.seconds = time.monotonic() - started
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


def wait_for_start(ledger: Ledger, name: str, after: int = 0, within: float = 30.0) -> int:
    """Return the process that has started a task, other than ``after``."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        for entry in ledger.entries():
            if entry.what == STARTED and entry.name == name and entry.pid != after:
                return entry.pid
        time.sleep(0.01)
    raise RuntimeError(f"{name} was not started within {within} s")
