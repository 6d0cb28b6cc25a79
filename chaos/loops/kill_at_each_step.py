"""Kill a worker once at each step of its work: before, during and after each call.

Each step has a queue and a worker of its own, one death, and five tasks that make the worker take
every step: one succeeds, one fails once, one is long, one becomes a dead letter, one is short.
"""

import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from alligator import Gator
from chaos import steps
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, COMPLETED, Account, Entry, Ledger
from chaos.rows import Row, row_of

_CALLS = ("reserve", "ride", "ack", "release", "hand back", "bury", "extend")
_ALL = [f"{call} {when}" for call in _CALLS for when in ("before", "mid", "after")]
_ALL += ["deserialize before", "deserialize after", "on_start", "function begins"]
_ALL += ["function ends", "run after", "on_success", "on_error"]
_IN_TWO = [each for each in _ALL if "mid" not in each or each in ("release mid", "bury mid")]

STEPS = {"sqlite": _ALL, "redis": _ALL, "beanstalk": _IN_TWO, "sqs": _IN_TWO}
BACKENDS = tuple(STEPS)
FULL = {backend: len(those) for backend, those in STEPS.items()}
SMALL = {"sqlite": 4, "redis": 4, "beanstalk": 4, "sqs": 1}

AT_ONCE = 8  # workers
WITHIN = 60.0  # seconds for one step
#: How often each task runs if no worker dies; a death may add one run.
_STARTS = {"good": 1, "flaky": 2, "long": 1, "doomed": 1, "short": 1}
#: A task that was settled before the death must not run because of it.
_SETTLED = ("ride after", "ack after", "bury after", "release after")


@dataclass
class Case:
    """Hold one step, its queue and its worker."""

    step: str
    folder: Path
    gator: Gator
    fleet: Fleet
    names: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    deadline: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether the worker has died at the step."""
        return (self.folder / "reached").exists()


def run(environment: Environment, size: int) -> Row:
    """Kill at ``size`` steps: a selection spread over all steps, or all, or several rounds."""
    started = time.monotonic()
    ledger = Ledger(environment.folder / "ledger")
    waiting = [
        make_case(environment, ledger, step, number)
        for number, step in enumerate(chosen(STEPS[environment.name], size))
    ]
    cases, running = list(waiting), list[Case]()
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(begin(waiting.pop(0), environment, ledger))
            done = {entry.name for entry in ledger.entries() if entry.what == COMPLETED}
            running = [case for case in running if not is_over(case, ledger, done)]
            time.sleep(0.05)
    finally:
        for case in running:
            case.fleet.__exit__()
    account = ledger.account()
    row = row_of(
        "kill at each step",
        environment.name,
        account,
        len(account.kills),
        set().union(*(case.dead for case in cases)),
    )
    for case in cases:
        row.wrong += [f"{case.step}: {each}" for each in case.wrong + judge(case, account)]
    row.note = f"{len({case.step for case in cases})} different steps"
    row.seconds = time.monotonic() - started
    return row


def chosen(those: list[str], size: int) -> list[str]:
    """Return ``size`` of these steps."""
    if size >= len(those):
        return list(itertools.islice(itertools.cycle(those), size))
    return [those[index * len(those) // size] for index in range(size)]


def make_case(environment: Environment, ledger: Ledger, step: str, number: int) -> Case:
    """Prepare a queue and a worker."""
    folder = environment.folder / str(number)
    folder.mkdir()
    gator = environment.gator()
    variables = {
        **environment.variables,
        "CHAOS_DSN": environment.dsn,
        "CHAOS_STEP": step,
        "CHAOS_FOLDER": str(folder),
    }
    flags = ("--app", "chaos.steps:gator", "--lease", str(environment.lease), "--prefetch", "8")
    fleet = Fleet(
        environment.dsn, gator.queue_name, folder, ledger, *flags, size=1, variables=variables
    )
    return Case(step, folder, gator, fleet)


def begin(case: Case, environment: Environment, ledger: Ledger) -> Case:
    """Push the tasks, and start the worker."""
    case.names = [f"{case.folder.name}/{kind}" for kind in _STARTS]
    good, flaky, long, doomed, short = case.names
    ledger.note(ATTEMPTED, *case.names)
    hooks = {"on_start": steps.on_start, "on_success": steps.on_success, "on_error": steps.on_error}
    case.gator.options(**hooks).task(steps.good, good, 0.01)
    case.gator.options(**hooks, retries=1).task(steps.flaky, flaky)
    case.gator.task(steps.good, long, 0.6 * environment.lease)
    case.gator.task(steps.doomed, doomed)
    case.gator.task(steps.good, short, 0.0)
    ledger.note(ACKNOWLEDGED, *case.names)
    case.fleet.__enter__()
    case.deadline = time.monotonic() + WITHIN
    return case


def is_over(case: Case, ledger: Ledger, done: set[str]) -> bool:
    """Replace the worker of a case; once all tasks have run, check the dead letters."""
    case.fleet.fill()
    late = time.monotonic() > case.deadline
    missing = [each for each in case.names if each not in done and not each.endswith("doomed")]
    stats = case.gator.stats()
    idle = not (stats["waiting"] or stats["delayed"] or stats["running"])
    if not missing and idle and not case.reached and not late:
        # An ack goes with the next reserve unless the lease thread sends it, so it may take longer.
        name = f"{case.folder.name}/short-{len(case.names)}"
        ledger.note(ATTEMPTED, name)
        case.gator.task(steps.good, name, 0.0)
        ledger.note(ACKNOWLEDGED, name)
        case.names.append(name)
        return False
    if not late and (missing or not idle or not case.reached):
        return False
    case.fleet.__exit__()
    if not case.reached:
        case.wrong.append("never reached")
    if missing or not idle:
        case.wrong.append(f"after {WITHIN:.0f} s: {missing}, {stats}; {case.fleet.said()[-500:]}")
    check_dead_letters(case)
    case.gator.client.drop_all(case.gator.queue_name)
    case.gator.close()
    return True


def check_dead_letters(case: Case) -> None:
    """Check that the only dead letter is the task that always fails, for that reason."""
    letters = case.gator.dead()
    case.dead = {f"{case.folder.name}/doomed"} if letters else set()
    reasons = [letter.error for letter in letters]
    if reasons != ["ValueError: as always"]:
        case.wrong.append(f"dead letters {reasons}")


def judge(case: Case, account: Account) -> list[str]:
    """Return the tasks that ran too often."""
    starts: Counter[str] = Counter(entry.name for entry in account.starts)
    wrong = []
    for name in case.names:
        allowed = _STARTS[name.partition("/")[2].partition("-")[0]] + 1
        settled = case.step in _SETTLED and name in _victims(case, account.kills)
        if starts[name] > allowed - settled:
            wrong.append(f"{name} ran {starts[name]} times")
    return wrong


def _victims(case: Case, kills: list[Entry]) -> set[str]:
    named = {name for kill in kills for name in kill.name.split(",")}
    return named & set(case.names)
