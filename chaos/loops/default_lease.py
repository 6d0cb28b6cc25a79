"""Kill workers with default settings during a task: it starts again within a lease.

The default lease is 30 seconds, so all kills run side by side, each on a queue of its own with
two workers: one to kill, one to take over.
"""

import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from alligator import Worker
from chaos import jobs
from chaos.common import is_empty, noted, push, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import STARTED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = 2
SMALL = 0  # it takes the 30 seconds

LEASE = inspect.signature(Worker).parameters["lease"].default  # seconds

#: Seconds within which the task starts again: a lease and a little, whole seconds on SQS, and
#: on beanstalkd as soon as the connection of the one killed is gone.
WITHIN = {"sqlite": LEASE + 0.5, "redis": LEASE + 0.5, "beanstalk": 2.0, "sqs": LEASE + 2.5}

#: And no sooner, else it was not the lease that brought it back: it was extended for the last
#: time at most a third of it before the kill.
NOT_BEFORE = {"sqlite": 0.6 * LEASE, "redis": 0.6 * LEASE, "beanstalk": 0.0, "sqs": 0.6 * LEASE}


def run(environment: Environment, size: int) -> Row:
    """Kill ``size`` workers at the same time."""
    started, ledger = time.monotonic(), Ledger(environment.folder / "ledger")
    # The DSN sets the lease on beanstalkd, so it must not name one.
    environment = replace(environment, dsn=environment.dsn.partition("?ttr=")[0])
    with ThreadPoolExecutor(size) as pool:
        wrong = [
            each for each in pool.map(partial(kill_one, environment, ledger), range(size)) if each
        ]
    row = row_of("default lease", environment.name, ledger.account(), size)
    row.wrong += wrong
    soonest, latest = NOT_BEFORE[environment.name], WITHIN[environment.name]
    if len(row.recovery) != size or not all(soonest <= each <= latest for each in row.recovery):
        row.wrong.append(f"back after {row.recovery} s, not {soonest:g} to {latest:g}")
    row.note = f"lease {LEASE:g} s"
    row.seconds = time.monotonic() - started
    return row


def kill_one(environment: Environment, ledger: Ledger, number: int) -> str:
    """Kill the worker that runs a task; return what is wrong if the other does not take over."""
    gator, name = environment.gator(), f"task-{number}"
    folder = environment.folder / name
    folder.mkdir()
    fleet = Fleet(
        environment.dsn, gator.queue_name, folder, ledger, size=2, variables=environment.variables
    )
    with fleet:
        push(gator, ledger, jobs.slow_at_first, [name], str(folder / "marker"))
        if not wait_until(lambda: noted(ledger, STARTED, [name]), 20):
            return f"{name} did not start: {fleet.said()}"
        victim = noted(ledger, STARTED, [name])[0].pid
        fleet.kill(next(each for each in fleet.workers if each.pid == victim))
        over = wait_until(lambda: len(noted(ledger, STARTED, [name])) > 1, LEASE + 20)
        over = over and wait_until(lambda: is_empty(gator), 10)
        said = "" if over else f"{name}: {gator.stats()}; {fleet.said()}"
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return said
