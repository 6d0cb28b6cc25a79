"""Kill a durable server under load and start it again, many times."""

import random
import time

from chaos.environment import Environment
from chaos.load import Load
from chaos.rows import Row

BACKENDS = ("redis", "beanstalk")
FULL = 50  # restarts
SMALL = {"redis": 3, "beanstalk": 2}


def run(environment: Environment, size: int) -> Row:
    """Restart the server so many times; recovery lasts from its return to the next task's end."""
    began, faults, recovery = time.monotonic(), [], []
    with Load(environment, lease=max(3.0, environment.lease)) as load:
        load.progress(0, by_all=True)
        for _ in range(size):
            time.sleep(random.uniform(0, 0.3))  # so that the kill comes at any step
            killed_at = time.time()
            environment.server.kill()
            time.sleep(random.uniform(0, 0.3))
            since = load.size()
            environment.server.start()
            faults.append((killed_at, time.time()))
            recovery.append(load.progress(since))
        load.progress(load.size(), by_all=True)
        load.drain()
        row = load.row("server restarts", faults)
    row.recovery, row.seconds = sorted(recovery), time.monotonic() - began
    return row
