"""Kill workers that have reserved many short tasks ahead: none of the tasks is buried.

Each kill counts a death for a whole batch. If all of these counted, a few kills would bury
innocent tasks.
"""

import random
import time

from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Ledger
from chaos.loops.worker_killed import judge
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk")
FULL = 150
SMALL = 8

SECONDS = 0.002  # of work in a task
#: Seconds between kills, so that workers get going in between. They are irregular: else the
#: interrupted tasks would start again, a lease later, just in time for every next kill.
PAUSES = (0.15, 0.35)


def run(environment: Environment, size: int) -> Row:
    """Kill ``size`` workers over 20 times as many tasks of 2 ms."""
    started = time.monotonic()
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    names = [str(number) for number in range(20 * size)]
    lease = ("--lease", str(environment.lease))
    kills = 0
    with Fleet(
        environment.dsn, gator.queue_name, environment.folder, ledger, *lease, size=2
    ) as fleet:
        # Push in portions, so that the workers have much to do at every kill.
        for first in range(0, len(names), 20):
            portion = names[first : first + 20]
            ledger.note(ATTEMPTED, *portion)
            with gator.batch() as batch:
                for name in portion:
                    batch.task(jobs.work, ledger.path, name, SECONDS)
            ledger.note(ACKNOWLEDGED, *portion)
            next_kill = time.monotonic() + random.uniform(*PAUSES)
            before = ledger.count_completed()
            while ledger.count_completed() < before + 3 and time.monotonic() < next_kill:
                time.sleep(0.001)
            fleet.kill()
            fleet.fill()
            kills += 1
            time.sleep(max(0.0, next_kill - time.monotonic()))
        deadline = time.monotonic() + 30
        while ledger.count_completed() + len(gator.dead()) < len(names):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
    buried = len(gator.dead())
    account = ledger.account()
    row = row_of("short tasks", environment.name, account, kills)
    row.buried, row.seconds = buried, time.monotonic() - started
    judge(row, account, kills)
    if buried:
        row.wrong.append(f"{buried} innocent tasks were buried")
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row
