"""Start one queue to measure: its server or file, its tasks, and its workers."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alligator import Gator
from alligator.backends.base import Message
from alligator.common.ids import new_task_id
from alligator.tasks import Task
from benchmarks import venvs
from benchmarks.environment import Environment
from benchmarks.errors import NotMeasured
from benchmarks.meter import FROM
from benchmarks.tasks import tick
from benchmarks.worker import Worker

#: Tasks that one call pushes while a queue is filled.
CHUNK = 1000
#: Seconds that a worker may take to start.
PATIENCE = 30.0
QUEUE = "all"


@dataclass(frozen=True)
class Drained:
    """Hold the pace of workers: tasks/s, and CPU µs per task in all of them and in the server."""

    rate: float
    worker_us: float
    server_us: float


@dataclass(frozen=True)
class Spent:
    """Hold the tasks done and the CPU µs used up to a moment."""

    at: float
    done: int
    worker: float
    server: float


class ScaleEnvironment(Environment):
    """Hold a queue of its own, with a Gator on it."""

    def __init__(self, backend: str = "redis", mark: int = 1) -> None:
        super().__init__(backend, mark)
        self.gator = Gator(self.dsn, QUEUE)
        self.gator.stats()

    def server_us(self) -> float:
        """Return the CPU µs of redis' one thread so far; 0 for SQLite, which has no server."""
        if self._asking is None:
            return 0.0
        cpu = self.info("cpu")
        ours = [
            cpu.get(f"used_cpu_{part}_main_thread", cpu[f"used_cpu_{part}"])
            for part in ("user", "sys")
        ]
        return sum(ours) * 1e6

    def script_us(self) -> float:
        """Return the µs that scripts have run, without reading commands and writing answers."""
        stats = self.info("commandstats")
        return float(
            sum(stats.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("eval", "evalsha"))
        )

    def await_connections(self, count: int) -> None:
        """Wait until so many other clients are connected."""
        deadline = time.monotonic() + PATIENCE
        while self.info("clients")["connected_clients"] < count + 2:  # our own two
            if time.monotonic() > deadline:
                raise NotMeasured("a producer did not start")
            time.sleep(0.02)

    def size(self) -> int:
        """Return the bytes of the queue: redis' memory, or the file with its log."""
        if self._asking is not None:
            return self.info("memory")["used_memory"]
        return sum(each.stat().st_size for each in self.folder.glob("queue.db*"))

    def fill(self, count: int, func: Callable[..., Any] = tick, *args: Any) -> None:
        """Queue many calls cheaply: prepare one, and copy it."""
        task = Task()
        self.gator.prepare(task, func, args or (1, "abc"), {} if args else {"x": 2})
        model = self.gator.codec.encode(task, QUEUE)
        old: Any = task.task_id if isinstance(model, str) else task.task_id.encode()
        for start in range(0, count, CHUNK):
            ids = [new_task_id() for _ in range(min(CHUNK, count - start))]
            news = ids if isinstance(model, str) else [each.encode() for each in ids]
            batch = [
                Message(each, model.replace(old, new))  # type: ignore[arg-type]
                for each, new in zip(ids, news, strict=True)
            ]
            self.gator.client.push_many(QUEUE, batch)

    def push(self, count: int) -> None:
        """Push by the public call, one by one."""
        for _ in range(count):
            self.gator.task(tick, 1, "abc", x=2)

    def push_batches(self, count: int, size: int) -> None:
        """Push by the public call for many."""
        for start in range(0, count, size):
            with self.gator.batch() as batch:
                for _ in range(min(size, count - start)):
                    batch.task(tick, 1, "abc", x=2)

    @contextmanager
    def workers(
        self, count: int, prefetch: int | None = None, *, held: bool = False
    ) -> Iterator[list[Worker]]:
        """Start workers, and stop them as ``SIGTERM`` does.

        :param held: wait until all are up, and hold them until :func:`go` lets them.
        """
        argv = ["-m", "alligator", self.dsn, "--log-level=WARNING"]
        argv += [f"--prefetch={prefetch}"] if prefetch else []
        variables = venvs.environment() | {"BENCH_MARKS": str(self.marks)}
        binaries = Path(sys.executable).parent
        started = [self.start(binaries, [argv], variables) for _ in range(count)]
        try:
            if held:
                self._hold(started)
            yield started
        finally:
            for each in started:
                each.stop()

    def _hold(self, started: list[Worker]) -> None:
        deadline = time.monotonic() + PATIENCE
        assert self.gator.store is not None
        while len(self.gator.store.workers(QUEUE)) < len(started):
            if time.monotonic() > deadline or not all(each.alive() for each in started):
                raise NotMeasured(f"a worker did not start: {started[0].last_words()}")
            time.sleep(0.02)
        time.sleep(0.2)  # they reserve for the first time
        for each in started:
            each.hold()

    def drain(self, workers: list[Worker], total: int) -> Drained:
        """Let workers run so many tasks, and return their pace after the first fifth."""
        before = self.meter.done()
        for each in workers:
            each.go()

        def spent() -> Spent:
            cpu = sum(each.cpu_seconds() for each in workers) * 1e6
            return Spent(time.perf_counter(), self.meter.done() - before, cpu, self.server_us())

        def alive() -> bool:
            return all(each.alive() for each in workers)

        self.meter.watch(before + round(FROM * total), alive=alive, every=0.002)
        first = spent()
        self.meter.watch(before + total, alive=alive, every=0.002)
        return pace(first, spent())

    def close(self) -> None:
        """Close the Gator, too."""
        self.gator.close()
        super().close()


def pace(first: Spent, last: Spent) -> Drained:
    """Return the pace between two moments.

    :raises NotMeasured: no task was done between them.
    """
    count = last.done - first.done
    if count <= 0 or last.at <= first.at:
        raise NotMeasured("all was done before it could be timed")
    return Drained(
        rate=count / (last.at - first.at),
        worker_us=(last.worker - first.worker) / count,
        server_us=(last.server - first.server) / count,
    )
