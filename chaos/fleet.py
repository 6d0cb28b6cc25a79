"""Start, kill, stop and replace worker processes.

They come from multiprocessing's fork server, a clean process without threads that has imported
everything. A new interpreter for each of a thousand kills would take most of the CPU time. Each
process runs the real command line, ``alligator.cli.main``.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from alligator import Gator
from chaos import jobs
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, KILLED, Ledger

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["alligator.cli", "chaos.fleet", "redis", "greenstalk", "boto3", "sqlite3"]
)


def _run(argv: list[str], log: str, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from alligator.cli import main

    sys.argv[1:] = argv  # the process ends after this
    code = main()
    sys.stdout.flush()
    os._exit(code)


class Fleet:
    """Run a number of workers on one queue; use it as a context manager.

    :param flags: further arguments of latergator.py.
    """

    def __init__(
        self,
        dsn: str,
        queue: str,
        folder: Path,
        ledger: Ledger,
        *flags: str,
        size: int = 2,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.argv = [dsn, "--queue", queue, "--log-level", "WARNING", *flags]
        self.log = str(folder / "workers.log")
        self.ledger, self.size = ledger, size
        self.variables = variables or {}
        self.workers: list[BaseProcess] = []

    def __enter__(self) -> "Fleet":
        self.fill()
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join()

    def start(self) -> BaseProcess:
        """Start one more worker."""
        arguments = (self.argv, self.log, self.variables)
        worker = _context.Process(target=_run, args=arguments, daemon=True)
        worker.start()
        self.workers.append(worker)
        return worker

    def fill(self) -> None:
        """Replace the workers that have ended."""
        self.workers = [each for each in self.workers if each.is_alive()]
        while len(self.workers) < self.size:
            self.start()

    def kill(self, worker: BaseProcess | None = None) -> int:
        """Kill one worker, a random one unless given, note it, and return its pid."""
        worker = worker or random.choice(self.workers)
        # Note the kill first: so each task that starts again later was interrupted by it.
        self.ledger.note(KILLED, "-", pid=worker.pid)
        worker.kill()
        worker.join()
        self.workers.remove(worker)
        return worker.pid or 0

    def stop(
        self, worker: BaseProcess, within: float, *, times: int = 1
    ) -> tuple[int | None, float]:
        """Send SIGTERM so many times; return the exit code and how long the stop took.

        The code is None if the worker did not end in time.
        """
        started = time.monotonic()
        for _ in range(times):
            with contextlib.suppress(ProcessLookupError):  # it may have ended at the first one
                os.kill(worker.pid or 0, signal.SIGTERM)
        worker.join(within)
        took = time.monotonic() - started
        if not worker.is_alive():
            self.workers.remove(worker)
        return worker.exitcode, took

    def said(self) -> str:
        """Return the last lines that the workers logged."""
        try:
            return Path(self.log).read_text(errors="replace")[-3000:]
        except FileNotFoundError:
            return ""


class Producer:
    """Run a process that pushes tasks without end, until it is killed."""

    def __init__(self, dsn: str, queue: str, ledger: Ledger, prefix: str, *, batch: int = 0):
        self.arguments = (dsn, queue, ledger.path, prefix, batch)
        self.process: BaseProcess | None = None

    def start(self, variables: dict[str, str]) -> None:
        """Begin to push, ``batch`` tasks at a time; 0: one by one."""
        self.process = _context.Process(
            target=produce, args=(*self.arguments, variables), daemon=True
        )
        self.process.start()

    def kill(self) -> None:
        """Kill it at whatever step it is."""
        if self.process is not None:
            self.process.kill()
            self.process.join()


def produce(
    dsn: str, queue: str, path: str, prefix: str, batch: int, variables: dict[str, str]
) -> None:
    """Push without end, and note each push before and after."""
    os.environ.update(variables)
    gator, ledger, number = Gator(dsn, queue), Ledger(path), 0
    while True:
        number += 1
        if batch:
            names = [f"{prefix}{number}-{index}" for index in range(batch)]
            ledger.note(ATTEMPTED, *names)
            with gator.batch() as together:
                for name in names:
                    together.task(jobs.work, path, name)
        else:
            names = [f"{prefix}{number}"]
            ledger.note(ATTEMPTED, *names)
            gator.task(jobs.work, path, *names)
        ledger.note(ACKNOWLEDGED, *names)
