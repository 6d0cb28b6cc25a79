"""Define the tasks that the loops run: each notes its start and its end in a ledger."""

import asyncio
import fcntl
import logging
import os
import queue
import signal
import time
from pathlib import Path

from alligator import current_task
from chaos.ledger import COMPLETED, FAILED, STARTED, Ledger


def work(ledger: str, name: str, seconds: float = 0.0) -> None:
    """Sleep so long, and note the start and the end."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    if seconds:
        time.sleep(seconds)
    book.note(COMPLETED, name)


def limited(ledger: str, name: str, seconds: float, slots: str, key: str, limit: int) -> None:
    """Do as :func:`work`, with one of so many locks; note in the file ``above`` if none is free."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    for number in range(limit + 1):
        path = Path(slots, "above" if number == limit else f"{key}.{number}")
        with path.open("a") as file:
            if number == limit:
                file.write(f"{name} {time.time():.6f}\n")
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            time.sleep(seconds)
            break
    book.note(COMPLETED, name)


def second_time(ledger: str, name: str) -> None:
    """Fail while a retry is left."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    if current_task().retries:
        book.note(FAILED, name)
        raise ValueError("not yet")
    book.note(COMPLETED, name)


def never(ledger: str, name: str) -> None:
    """Fail at every attempt."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    book.note(FAILED, name)
    raise ValueError("never")


def deadly(ledger: str, name: str, how: str, seconds: float = 0.0) -> None:
    """End the whole process by 'exit', 'segv' or 'oom' (the signal of the kernel's OOM killer).

    :param seconds: how long it runs first, like a task that uses up the memory.
    """
    Ledger(ledger).note(STARTED, name)
    time.sleep(seconds)
    if how == "exit":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGSEGV if how == "segv" else signal.SIGKILL)
    time.sleep(5)


_shared: queue.Queue[int] = queue.Queue()


def storm(ledger: str, name: str, how: str, log: str) -> None:
    """Log, or use a queue that all tasks share, without end."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    logger = logging.getLogger("storm")
    if not logger.handlers:
        logger.propagate = False
        logger.addHandler(logging.FileHandler(log))
    try:
        while True:
            if how == "log":
                logger.warning("on and on")
            else:
                _shared.put(1)
                _shared.get()
    finally:
        book.note(FAILED, name)


def nap(seconds: float) -> None:
    """Sleep so long, and note nothing."""
    time.sleep(seconds)


def slow_at_first(ledger: str, name: str, marker: str) -> None:
    """Sleep for a minute at the first attempt, and not at all at the second."""
    book = Ledger(ledger)
    first = not Path(marker).exists()
    Path(marker).touch()
    book.note(STARTED, name)
    if first:
        time.sleep(60)
    book.note(COMPLETED, name)


def wait_for(ledger: str, name: str, path: str, within: float = 60.0) -> None:
    """Wait until that file exists."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    deadline = time.monotonic() + within
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    book.note(COMPLETED, name)


def burn(ledger: str, name: str, seconds: float) -> None:
    """Compute for so long in pure Python, which holds the GIL nearly all the time."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))
    book.note(COMPLETED, name)


def carry(ledger: str, name: str, load: str) -> None:
    """Take no time, whatever the length of the argument."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    book.note(COMPLETED, name)


def rest(ledger: str, name: str, seconds: float) -> None:
    """Sleep so long in a coroutine, run as the documentation advises."""
    book = Ledger(ledger)
    book.note(STARTED, name)
    asyncio.run(asyncio.sleep(seconds))
    book.note(COMPLETED, name)
