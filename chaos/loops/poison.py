"""Run tasks that kill their worker: they are buried after three deaths, and no other task is.

They end it by SIGSEGV, by ``os._exit`` and by SIGKILL, which the kernel's OOM killer sends, and
wait among innocent tasks. Three kinds of worker run a queue each: one reserves a task at a time,
one reserves many, one runs eight in threads.
"""

import itertools
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from alligator import Gator
from chaos import jobs
from chaos.common import is_empty
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, COMPLETED, Account, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = {"sqlite": 60, "redis": 60, "beanstalk": 60, "sqs": 9}  # poison tasks, on three queues
SMALL = {"sqlite": 2, "redis": 2, "beanstalk": 2, "sqs": 0}  # sqs: nine leases, 20 seconds

KINDS = {
    "single": ("--prefetch", "1"),
    "prefetch": ("--prefetch", "32"),
    "threads": ("--concurrency", "8", "--prefetch", "32"),
}
INNOCENT = 5  # for each poison task
SECONDS = (0.0, 0.002, 0.03)  # of work in an innocent task, in turn
#: Seconds until a poison task strikes. In threads, others are fetched meanwhile.
LATE = {"threads": 0.4}
WORKERS = 2
WITHIN = 120.0  # seconds for all
#: SQS counts deaths late, and a task that comes back by its lease gets 4 leases, then 16.
WITHIN_ON_SQS = 420.0

#: How often a task runs that is always alone: on SQS seven receives do not count, and ten bury it.
RUNS = {"sqs": 9}


@dataclass
class Case:
    """Hold one kind of worker, and its queue."""

    kind: str
    gator: Gator
    fleet: Fleet
    poison: list[str]
    innocent: list[str]
    dead: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def is_over(self, done: set[str]) -> bool:
        """Return whether all tasks have run or are buried, and none is left."""
        return done.issuperset(self.innocent) and is_empty(self.gator)


def run(environment: Environment, size: int) -> Row:
    """Push ``size`` poison tasks in all, a third to each kind of worker; of two, none to single."""
    started = time.monotonic()
    ledger = Ledger(environment.folder / "ledger")
    shares = ((kind, (size + index) // len(KINDS)) for index, kind in enumerate(KINDS))
    cases = [make_case(environment, ledger, kind, share) for kind, share in shares if share]
    try:
        watch(cases, ledger, WITHIN_ON_SQS if environment.name == "sqs" else WITHIN)
    finally:
        for case in cases:
            case.fleet.__exit__()
    account = ledger.account()
    for case in cases:
        judge(case, account, RUNS.get(environment.name, 3))
    deaths = [start.name for start in account.starts if "poison" in start.name]
    buried = {name for case in cases for name in case.dead}
    row = row_of("poison", environment.name, account, len(deaths), buried)
    row.wrong += [f"{case.kind}: {each}" for case in cases for each in case.wrong]
    runs = Counter(deaths).values()
    row.note = f"{len(set(deaths))} tasks, each of {min(runs)} to {max(runs)} runs"
    row.seconds = time.monotonic() - started
    return row


def make_case(environment: Environment, ledger: Ledger, kind: str, count: int) -> Case:
    """Push poison and innocent tasks in any order, and prepare the workers."""
    gator, folder = environment.gator(), environment.folder / kind
    folder.mkdir()
    poison = [f"{kind}/poison-{number}" for number in range(count)]
    innocent = [f"{kind}/innocent-{number}" for number in range(count * INNOCENT)]
    ways, late = itertools.cycle(("exit", "segv", "oom")), LATE.get(kind, 0.0)
    calls = [(jobs.deadly, name, next(ways), late) for name in poison]
    calls += [
        (jobs.work, name, seconds) for name, seconds in zip(innocent, itertools.cycle(SECONDS))
    ]
    random.shuffle(calls)
    ledger.note(ATTEMPTED, *poison, *innocent)
    with gator.batch() as batch:
        for job, name, *arguments in calls:
            batch.task(job, ledger.path, name, *arguments)
    ledger.note(ACKNOWLEDGED, *poison, *innocent)
    fleet = Fleet(
        environment.dsn,
        gator.queue_name,
        folder,
        ledger,
        *("--lease", str(environment.lease), *KINDS[kind]),
        size=WORKERS,
        variables=environment.variables,
    )
    return Case(kind, gator, fleet, poison, innocent)


def watch(cases: list[Case], ledger: Ledger, within: float) -> None:
    """Replace the workers that died until all is done, then collect the dead letters."""
    deadline, running = time.monotonic() + within, list(cases)
    while running and time.monotonic() < deadline:
        done = {entry.name for entry in ledger.entries() if entry.what == COMPLETED}
        running = [case for case in running if not case.is_over(done)]
        for case in running:
            case.fleet.fill()
        time.sleep(0.02)
    for case in cases:
        if case in running:
            said = case.fleet.said()[-500:]
            case.wrong.append(f"not over in {within:.0f} s: {case.gator.stats()}; {said}")
        for letter in case.gator.dead(10_000):
            case.dead.append(json.loads(letter.data)["args"][1])
            if "3 deaths" not in letter.error:
                case.wrong.append(f"{case.dead[-1]} was buried for another reason: {letter.error}")
        case.gator.client.drop_all(case.gator.queue_name)
        case.gator.close()


def judge(case: Case, account: Account, runs: int) -> None:
    """Report tasks that were buried wrongly or not at all, or ran too often or too rarely."""
    if sorted(case.dead) != sorted(case.poison):
        wrong = sorted(set(case.dead) - set(case.poison))
        missing = sorted(set(case.poison) - set(case.dead))
        case.wrong.append(f"{len(case.dead)} buried, of them innocent {wrong}; not {missing}")
    starts = Counter(start.name for start in account.starts)
    # The first death counts for all tasks that were reserved together. From then on each runs
    # alone, and only its own deaths count.
    least, again = (runs, 0) if case.kind == "single" else (2, runs - 2)
    for name in case.poison:
        if not least <= starts[name] <= runs:
            case.wrong.append(f"{name} ran {starts[name]} times, not {least} to {runs}")
    for name in case.innocent:
        if not 1 <= starts[name] <= 1 + again:
            case.wrong.append(f"{name} ran {starts[name]} times, not 1 to {1 + again}")
