"""All that one measurement of one library needs, fresh, and taken down afterwards."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from benchmarks import venvs
from benchmarks.catalog import Peer
from benchmarks.errors import NotMeasured
from benchmarks.link import Link
from benchmarks.meter import Meter, Pace, pace
from benchmarks.tasks import STAMP
from benchmarks.worker import Worker
from tests.support.servers import redis as redis_servers

#: Tasks that leave a stamp of 8 bytes; the others leave one.
STAMPED = ("stamp", "hang")


class Place:
    """A server (or an SQLite file), a file of marks, and a producer in the library's environment.

    :param task: the name of the task to push, in ``benchmarks.tasks``.
    """

    def __init__(self, peer: Peer, task: str = "tick") -> None:
        self.peer = peer
        self._binaries = venvs.binaries(peer.folder)
        self.folder = Path(tempfile.mkdtemp(prefix="alligator-bench-"))
        self.server = redis_servers.start(self.folder) if peer.place == "redis" else None
        memory = Path("/dev/shm")
        marks = memory if memory.is_dir() else self.folder
        self.marks = Path(tempfile.mkstemp(prefix="alligator-bench-", dir=marks)[1])
        self.meter = Meter(self.marks, STAMP.size if task in STAMPED else 1)
        self._env = venvs.environment() | {
            "BENCH_DSN": self.server.dsn if self.server else f"sqlite://{self.folder}/queue.db",
            "BENCH_MARKS": str(self.marks),
            "BENCH_TASK": task,
            "BENCH_VARIANT": peer.variant,
        }
        self._workers: list[Worker] = []
        self._link: Link | None = None

    @property
    def producer(self) -> Link:
        """The library's own side of the pushing."""
        if self._link is None:
            python = self._binaries / "python"
            log = self.folder / "producer.log"
            self._link = Link(python, self.peer.folder, self._env, log)
        return self._link

    def worker(self, processes: int = 1, concurrency: int = 1) -> Worker:
        """Start a worker as the library's documentation says."""
        commands = self.producer("worker", processes, concurrency)
        log = self.folder / f"worker{len(self._workers)}.log"
        self._workers.append(Worker(self._binaries, commands, self._env, log))
        return self._workers[-1]

    def drain(self, total: int, processes: int = 1, concurrency: int = 1) -> Pace:
        """Start a worker, wait until ``total`` tasks are done, and return its pace."""
        worker = self.worker(processes, concurrency)
        return pace(self.watch(worker, total), total)

    def watch(self, worker: Worker, total: int, **options: Any) -> list:
        """Watch the marks while ``worker`` works; say its last words if it dies."""
        try:
            return self.meter.watch(total, alive=worker.alive, cpu=worker.cpu_seconds, **options)
        except NotMeasured as err:
            raise NotMeasured(f"{err}: {worker.last_words()}"[:500]) from None

    def warm(self, worker: Worker, count: int = 1) -> None:
        """Have the worker do a first task, so that it is known to be up."""
        before = self.meter.done()
        self.producer("enqueue", count)
        self.watch(worker, before + count)

    def info(self, section: str) -> dict[str, Any]:
        """Return a part of what the server says of itself."""
        assert self.server is not None
        with redis.Redis(port=self.server.port) as conn:
            return conn.info(section)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.kill()
        if self._link is not None:
            self._link.close()
        if self.server is not None:
            self.server.stop()
        self.marks.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
