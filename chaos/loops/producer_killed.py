"""Kill producers while they push single tasks and batches.

A task that was acknowledged runs. Another one may run or not, but never in part. Of a batch all
tasks run or none, if the backend has transactions.
"""

import random
import time

from chaos.environment import Environment
from chaos.fleet import Fleet, Producer
from chaos.ledger import COMPLETED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = {"sqlite": 300, "redis": 300, "beanstalk": 300, "sqs": 30}
SMALL = {"sqlite": 6, "redis": 6, "beanstalk": 6, "sqs": 2}

BATCH = 20
BATCHES = {"sqs": 5}  # the emulator gets slow with many
ALL_OR_NONE = ("sqlite", "redis")
LEASE = {"sqs": 30.0}  # seconds; no worker is killed, and a busy emulator may answer after four


def run(environment: Environment, size: int) -> Row:
    """Kill ``size`` producers, every other one of batches."""
    started = time.monotonic()
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    size_of_batch = BATCHES.get(environment.name, BATCH)
    for number in range(size):
        batch = size_of_batch if number % 2 else 0
        producer = Producer(environment.dsn, gator.queue_name, ledger, f"{number}-", batch=batch)
        producer.start(environment.variables)
        seen = ledger.wait_for(f"{number}-", within=20)
        # Somewhere between two instructions; a push takes 0.1 to 1 ms.
        time.sleep(random.uniform(0, 0.003))
        producer.kill()
        if not seen:
            raise RuntimeError(f"producer {number} pushed nothing")
    lease = ("--lease", str(LEASE.get(environment.name, environment.lease)))
    with Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *lease,
        size=2,
        variables=environment.variables,
    ) as fleet:
        deadline = time.monotonic() + 120
        while any(gator.stats()[state] for state in ("waiting", "running")):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for worker in list(fleet.workers):  # a graceful stop, so that all that ran is acked
            fleet.stop(worker, within=20)
    account = ledger.account()
    row = row_of("producer killed", environment.name, account, size)
    row.seconds = time.monotonic() - started
    if row.duplicated:
        row.wrong.append(f"{row.duplicated} ran twice, and no worker was killed")
    if letters := gator.dead():
        row.wrong.append(f"{len(letters)} could not be read, as: {letters[0].error}")
    halves = torn_batches(ledger)
    if halves and environment.name in ALL_OR_NONE:
        row.wrong.append(f"batches of which only a part arrived: {halves[:3]}")
    told = len(account.attempted) - len(account.acknowledged)
    ran = len(set(account.completed) - account.acknowledged)
    row.note = f"{told} cut off, of which {ran} had arrived"
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


def torn_batches(ledger: Ledger) -> list[str]:
    """Return batches that ran in part; names are <producer>-<batch>-<task>."""
    ran: dict[str, int] = {}
    for entry in ledger.entries():
        if entry.what == COMPLETED and entry.name.count("-") == 2:
            batch = entry.name.rpartition("-")[0]
            ran[batch] = ran.get(batch, 0) + 1
    return sorted(batch for batch, count in ran.items() if count % BATCH)
