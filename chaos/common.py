"""Share the steps of most loops: push and note it, wait with a deadline, check that all is done."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from alligator import Gator
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Entry, Ledger

Job = Callable[..., None]


def push(gator: Gator, ledger: Ledger, job: Job, names: Iterable[str], *args: Any) -> None:
    """Push ``job(ledger, name, *args)`` for every name, in bulk, and note it."""
    names = list(names)
    ledger.note(ATTEMPTED, *names)
    with gator.batch() as batch:
        for name in names:
            batch.task(job, ledger.path, name, *args)
    ledger.note(ACKNOWLEDGED, *names)


def wait_until(check: Callable[[], Any], within: float, pause: float = 0.02) -> bool:
    """Call ``check`` until it is true; return False if it was not within so many seconds."""
    deadline = time.monotonic() + within
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def is_empty(gator: Gator) -> bool:
    """Return whether nothing waits, is delayed or runs, at two looks.

    SQS counts one state after the other, so it may miss a task that changes its state meanwhile.
    """
    return _looks_empty(gator) and not time.sleep(0.1) and _looks_empty(gator)


def _looks_empty(gator: Gator) -> bool:
    stats = gator.stats()
    return not stats["waiting"] + stats["delayed"] + stats["running"]


def noted(ledger: Ledger, what: str, names: Iterable[str]) -> list[Entry]:
    """Return the entries of one kind about these tasks."""
    wanted = set(names)
    return [each for each in ledger.entries() if each.what == what and each.name in wanted]
