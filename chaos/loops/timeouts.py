"""Time out functions that log and use a shared queue without end, four at a time.

A lock that stayed held would make their worker hang, or end and count deaths.
"""

import json
import time

from chaos import jobs
from chaos.common import is_empty, push, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis")
FULL = 400
SMALL = {"sqlite": 20, "redis": 0}

TIMEOUT = 0.02
WITHIN = 300.0  # seconds


def run(environment: Environment, size: int) -> Row:
    """Time out ``size`` functions, with as many others among them."""
    began = time.monotonic()
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    storms = [f"storm-{number}" for number in range(size)]
    with_timeout = gator.options(timeout=TIMEOUT)
    push(gator, ledger, jobs.work, [f"innocent-{number}" for number in range(size)])
    ledger.note(ATTEMPTED, *storms)
    for number, name in enumerate(storms):
        log = str(environment.folder / "storm.log")
        with_timeout.task(jobs.storm, ledger.path, name, ("log", "queue")[number % 8 == 7], log)
    ledger.note(ACKNOWLEDGED, *storms)
    wrong = []
    with Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *("--concurrency=4", f"--lease={environment.lease}"),
        size=2,
        variables=environment.variables,
    ) as fleet:
        if not wait_until(lambda: is_empty(gator), WITHIN, pause=0.1):
            wrong.append(f"left over: {gator.stats()}; {fleet.said()[-500:]}")
        gone = [each.exitcode for each in fleet.workers if each.exitcode is not None]
    letters = gator.dead(10_000)
    wrong += [f"a worker ended with {code}" for code in gone]
    wrong += [each.error for each in letters if not each.error.startswith("TaskTimeout")]
    row = row_of(
        "timeouts",
        environment.name,
        ledger.account(),
        size,
        {json.loads(each.data)["args"][1] for each in letters},
    )
    row.wrong += wrong
    row.seconds = time.monotonic() - began
    return row
