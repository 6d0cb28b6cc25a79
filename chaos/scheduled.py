"""Declare the Gator of the schedules loop, as an application would, from environment variables."""

import os

from alligator import Gator, current_task
from chaos.ledger import COMPLETED, STARTED, Ledger

DSN, QUEUE, STORE, LEDGER = (f"SCHEDULED_{name}" for name in ("DSN", "QUEUE", "STORE", "LEDGER"))


def tick(ledger: str) -> None:
    """Note that it ran, and for which tick."""
    Ledger(ledger).note(STARTED, current_task().task_id)
    Ledger(ledger).note(COMPLETED, current_task().task_id)


def declare(variables: dict[str, str]) -> Gator:
    """Return a Gator with ``every(1)`` on it."""
    gator = Gator(variables[DSN], variables[QUEUE], store=variables[STORE] or None)
    gator.every(1, tick, variables[LEDGER])
    return gator


if DSN in os.environ:
    gator = declare(dict(os.environ))
