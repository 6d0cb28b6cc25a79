"""Let eight processes use one SQLite file on a real disk: none is refused or starves.

Four push, two of them in batches, and four work, each as fast as it can. SQLite by itself would
give the lock at random. It is wrong if a process sees SQLite's error ("database is locked"), or
hardly gets its turn.
"""

import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path

from alligator import Gator
from chaos import jobs
from chaos.common import is_empty, push, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Account, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite",)
FULL = 60  # seconds, not faults: only the number of processes causes trouble here
SMALL = 3

WORKERS = 4
PRODUCERS = {"a": 1, "b": 1, "c": 20, "d": 20}  # tasks in a push
BACKLOG = 400  # tasks, at which producers pause, so that the work ends when they do

#: The least of the fair share that a process has to get. Where the lock is a lottery, some get
#: a hundredth. A third leaves room for a scheduler with two cores for nine processes.
LEAST_SHARE = 1 / 3

#: Seconds that one push may take: half of what SQLite itself would wait before it gives up.
SLOWEST = 5.0


def run(environment: Environment, size: int) -> Row:
    """Let all processes run for ``size`` seconds, then until the queue is empty."""
    began = time.monotonic()
    # /tmp may be in memory; /var/tmp is on a disk, as it has to outlive a reboot.
    disk = "/var/tmp" if Path("/var/tmp").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=disk) as folder:
        gator = Gator(f"sqlite://{folder}/queue.db", "crowd")
        ledger, wrong = Ledger(environment.folder / "ledger"), list[str]()
        with Fleet(gator.conn_string, "crowd", environment.folder, ledger, size=WORKERS) as fleet:
            since, until, told = _push_from_all(gator, ledger, size)
            if not wait_until(lambda: is_empty(gator), 60):
                wrong.append(f"not empty a minute later: {gator.stats()}")
            if ended := [each.exitcode for each in fleet.workers if not each.is_alive()]:
                wrong.append(f"workers ended: {ended}")
        gator.close()
    account = ledger.account()
    row = row_of("many processes", environment.name, account, size)
    row.wrong += wrong
    _judge(row, account, told, (since, until))
    if said := fleet.said():
        row.wrong.append(f"a worker logged: {said[-500:]}")
    row.seconds = time.monotonic() - began
    return row


def _push_from_all(gator: Gator, ledger: Ledger, size: float) -> tuple[float, float, list[dict]]:
    """Run the producers; return when they began and ended, and what each measured."""
    context = multiprocessing.get_context("forkserver")
    reports = [Path(f"{ledger.path}-{who}.json") for who in PRODUCERS]
    # The count begins when all processes are up, the workers too.
    push(gator, ledger, jobs.work, [f"w-{number}" for number in range(BACKLOG)], 0.005)
    ready = wait_until(lambda: len(_ran(ledger.account())) == WORKERS, 20, pause=0.1)
    if not ready:
        raise RuntimeError("not all workers ran a task")
    all_are_up = context.Barrier(len(PRODUCERS) + 1)
    processes = [
        context.Process(
            target=produce,
            args=(gator.conn_string, ledger.path, who, batch, all_are_up, size, str(report)),
            daemon=True,
        )
        for (who, batch), report in zip(PRODUCERS.items(), reports, strict=True)
    ]
    for process in processes:
        process.start()
    all_are_up.wait(60)
    since = time.time()
    for process in processes:
        process.join(size + 60)
        process.kill()
    return since, since + size, [_told(report) for report in reports]


def produce(
    dsn: str, path: str, who: str, batch: int, all_are_up: Barrier, size: float, report: str
) -> None:
    """Push for that many seconds, and write down how often, the slowest, and what failed."""
    gator, ledger = Gator(dsn, "crowd"), Ledger(path)
    pushes, slowest, errors = 0, 0.0, list[str]()
    all_are_up.wait(60)
    until = time.monotonic() + size
    while time.monotonic() < until and not errors:
        names = [f"{who}-{pushes}-{index}" for index in range(batch)]
        started = time.monotonic()
        try:
            if gator.len() > BACKLOG:
                time.sleep(0.002)
                continue
            if batch == 1:
                _push_one(gator, ledger, names[0])
            else:
                push(gator, ledger, jobs.work, names)
        except BaseException as err:
            errors.append(repr(err))
        pushes += 1
        slowest = max(slowest, time.monotonic() - started)
    gator.close()
    told = {"who": who, "batch": batch, "pushes": pushes, "slowest": slowest, "errors": errors}
    Path(report).write_text(json.dumps(told))


def _push_one(gator: Gator, ledger: Ledger, name: str) -> None:
    ledger.note(ATTEMPTED, name)
    gator.task(jobs.work, ledger.path, name)
    ledger.note(ACKNOWLEDGED, name)


def _told(report: Path) -> dict:
    if report.exists():
        return json.loads(report.read_text())
    return {"who": report.stem, "batch": 0, "pushes": 0, "slowest": 0.0, "errors": ["it died"]}


def _ran(account: Account, since: float = 0.0, until: float = float("inf")) -> Counter:
    """Return how many tasks each worker ended in that time, by its pid."""
    return Counter(end.pid for end in account.ends if since <= end.at < until)


def _judge(row: Row, account: Account, told: list[dict], span: tuple[float, float]) -> None:
    served = _ran(account, *span)
    counts = {"workers": [*served.values(), *[0] * (WORKERS - len(served))]}
    for batch in sorted(set(PRODUCERS.values())):
        kind = "producers" if batch == 1 else "producers of batches"
        counts[kind] = [each["pushes"] for each in told if each["batch"] in (batch, 0)]
    notes = []
    for kind, found in counts.items():
        fair = sum(found) / len(found)
        notes.append(f"{kind} {min(found)} to {max(found)}")
        if min(found) < LEAST_SHARE * fair:
            row.wrong.append(f"one of the {kind} starved: {sorted(found)}, {fair:.0f} is fair")
    slowest = max(each["slowest"] for each in told)
    if slowest > SLOWEST:
        row.wrong.append(f"a push took {slowest:.1f} s")
    row.wrong += [f"producer {each['who']}: {each['errors']}" for each in told if each["errors"]]
    if row.duplicated:
        row.wrong.append(f"{row.duplicated} ran twice")
    row.note = f"{'; '.join(notes)}; slowest push {slowest:.3f} s; {os.cpu_count()} cores"
