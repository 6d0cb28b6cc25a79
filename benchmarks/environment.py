"""Start a new server or file and workers for one measurement, and stop them at its end."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import redis

from benchmarks import venvs
from benchmarks.catalog import Library
from benchmarks.errors import NotMeasured
from benchmarks.meter import Meter, Pace, pace
from benchmarks.subprocess_client import SubprocessClient
from benchmarks.tasks import STAMP
from benchmarks.worker import Worker
from tests.support.servers import redis as redis_servers

#: Tasks that leave a stamp of 8 bytes; the others leave one.
STAMPED = ("stamp", "hang")


class Environment:
    """Hold a server or an SQLite file, a folder, a file of marks, and workers.

    :param backend: the backend of the queue: ``redis`` or ``sqlite``.
    :param mark: bytes that a task leaves when it is done.
    """

    def __init__(self, backend: str = "redis", mark: int = 1) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="alligator-bench-"))
        self.server = redis_servers.start(self.folder) if backend == "redis" else None
        self.dsn = self.server.dsn if self.server else f"sqlite://{self.folder}/queue.db"
        self._asking = redis.Redis(port=self.server.port) if self.server else None
        memory = Path("/dev/shm")
        handle, name = tempfile.mkstemp(
            prefix="alligator-bench-", dir=memory if memory.is_dir() else self.folder
        )
        os.close(handle)
        self.marks = Path(name)
        self.meter = Meter(self.marks, mark)
        self._workers: list[Worker] = []

    def start(
        self, binaries: Path, commands: Iterable[list[str]], variables: Mapping[str, str]
    ) -> Worker:
        """Start a worker.

        :param variables: its environment variables.
        """
        log = self.folder / f"worker{len(self._workers)}.log"
        self._workers.append(Worker(binaries, commands, variables, log))
        return self._workers[-1]

    def info(self, section: str) -> dict[str, Any]:
        """Return one section of the server's INFO."""
        assert self._asking is not None
        return self._asking.info(section)

    def close(self) -> None:
        """Stop all processes, and remove all files."""
        for worker in self._workers:
            worker.kill()
        if self.server is not None and self._asking is not None:
            self._asking.close()
            self.server.stop()
        self.marks.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class LibraryEnvironment(Environment):
    """Run one library in its virtual environment, with a producer and workers of its own.

    :param task: the name of the task to push, in ``benchmarks.tasks``.
    """

    def __init__(self, library: Library, task: str = "tick") -> None:
        self.library = library
        self._binaries = venvs.binaries(library.folder)
        super().__init__(library.backend, STAMP.size if task in STAMPED else 1)
        self._variables = venvs.environment() | {
            "BENCH_DSN": self.dsn,
            "BENCH_MARKS": str(self.marks),
            "BENCH_TASK": task,
            "BENCH_VARIANT": library.variant,
        }
        self._producer: SubprocessClient | None = None

    @property
    def producer(self) -> SubprocessClient:
        """The process that pushes with the library."""
        if self._producer is None:
            python = self._binaries / "python"
            log = self.folder / "producer.log"
            self._producer = SubprocessClient(python, self.library.folder, self._variables, log)
        return self._producer

    def worker(self, processes: int = 1, concurrency: int = 1) -> Worker:
        """Start a worker as the library's documentation says."""
        commands = self.producer("worker", processes, concurrency)
        return self.start(self._binaries, commands, self._variables)

    def drain(self, total: int, processes: int = 1, concurrency: int = 1) -> Pace:
        """Start a worker, wait until ``total`` tasks are done, and return its pace."""
        worker = self.worker(processes, concurrency)
        return pace(self.watch(worker, total), total)

    def watch(self, worker: Worker, total: int, **options: Any) -> list:
        """Watch the marks while ``worker`` works; report its last line if it dies."""
        try:
            return self.meter.watch(total, alive=worker.alive, cpu=worker.cpu_seconds, **options)
        except NotMeasured as err:
            raise NotMeasured(f"{err}: {worker.last_words()}"[:500]) from None

    def warm(self, worker: Worker, count: int = 1) -> None:
        """Have the worker run first tasks, which shows that it is up."""
        before = self.meter.done()
        self.producer("enqueue", count)
        self.watch(worker, before + count)

    def close(self) -> None:
        """Stop the producer, too."""
        if self._producer is not None:
            self._producer.close()
        super().close()
