"""Run tasks of five leases once: the worker renews them, also while a task holds the GIL."""

import re
import time
from collections import Counter
from pathlib import Path

from chaos import jobs
from chaos.common import is_empty, push, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = 100
SMALL = 3

# Seconds; elsewhere the environment's own. The emulator is slow to extend many.
LEASE = {"sqs": 6.0}
LEASES = 5  # that a task takes
SMALL_LEASES = 1.4  # enough to be lost; where fewer than CROWD tasks are asked for
CROWD = 10
THREADS = 25


def run(environment: Environment, size: int) -> Row:
    """Run ``size`` tasks, longer than their leases, in two workers with many threads."""
    began = time.monotonic()
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    lease = LEASE.get(environment.name, environment.lease) if size >= CROWD else environment.lease
    seconds = lease * (LEASES if size >= CROWD else SMALL_LEASES)
    names = [str(number) for number in range(size)]
    # A few tasks that hold the GIL are enough, since two cores have to run all of them.
    burning, others = names[::33], [name for number, name in enumerate(names) if number % 33]
    push(gator, ledger, jobs.burn, burning, seconds)
    push(gator, ledger, jobs.rest, others[::8], seconds)
    push(gator, ledger, jobs.work, [n for at, n in enumerate(others) if at % 8], seconds)
    wrong = []
    with Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *(f"--concurrency={THREADS}", f"--lease={lease}"),
        variables=environment.variables,
    ) as fleet:
        rounds = 1 + size // (THREADS * fleet.size)
        if not wait_until(lambda: is_empty(gator), 20 + 3 * rounds * seconds, pause=0.1):
            wrong.append(f"left over: {gator.stats()}")
        log = Path(fleet.log).read_text() if Path(fleet.log).exists() else ""
    account = ledger.account()
    row = row_of("long tasks", environment.name, account, size)
    starts = Counter(entry.name for entry in account.starts)
    if again := sorted(name for name, times in starts.items() if times > 1):
        wrong.append(f"started more than once: {again}")
    if lost := set(re.findall(r"Task (\S+) lost its lease", log)):
        wrong.append(f"{len(lost)} lost their lease")
    if dead := gator.dead():
        wrong.append(f"dead letters: {[letter.error for letter in dead][:3]}")
    row.wrong += wrong
    row.note = f"each {seconds:g} s, lease {lease:g} s, {len(burning)} held the GIL"
    row.seconds = time.monotonic() - began
    return row
