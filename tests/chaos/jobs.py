"""The tasks that chaos runs: each notes its start and its end in a ledger."""

import os
import signal
import time
from pathlib import Path

from tests.chaos.ledger import COMPLETED, STARTED, Ledger


def work(ledger: str, name: str, seconds: float = 0.0) -> None:
    """Take so long, and say so before and after."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    if seconds:
        time.sleep(seconds)
    book.note(COMPLETED, name)


def deadly(ledger: str, name: str, how: str) -> None:
    """End the whole process: 'exit', 'segv' or 'oom' (what the kernel's OOM killer sends)."""
    Ledger(ledger).note(STARTED, name)
    if how == "exit":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGSEGV if how == "segv" else signal.SIGKILL)
    time.sleep(5)


def nap(seconds: float) -> None:
    """Take so long, and say nothing."""
    time.sleep(seconds)


def slow_at_first(ledger: str, name: str, marker: str) -> None:
    """Take a minute the first time, no time at all the second."""
    book = Ledger(ledger)
    first = not Path(marker).exists()
    Path(marker).touch()
    book.note(STARTED, name)
    if first:
        time.sleep(60)
    book.note(COMPLETED, name)
