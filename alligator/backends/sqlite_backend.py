"""Queues in one SQLite file, shared by processes of one machine. No server to run.

``sqlite:///var/lib/app/q.db`` (absolute) or ``sqlite://q.db`` (relative to the current
directory). Tasks survive ``kill -9`` and a reboot; a power cut too with
``?synchronous=FULL``, at the price of a disk flush per transaction.
"""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from alligator.backends import sqlite_queue as queue
from alligator.backends.base import (
    Client as BaseClient,
)
from alligator.backends.base import (
    Data,
    DeadTask,
    Delivery,
    Message,
    Place,
    QueueStats,
    Reason,
    Reserved,
    never,
)
from alligator.backends.sqlite_file import SqliteFile, parse_file_dsn
from alligator.backends.sqlite_wake import Wake
from alligator.clock import Clock
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING

#: A cell of SQLite holds at most so many bytes (SQLITE_MAX_LENGTH, as Python builds it).
MAX_SIZE = 1_000_000_000

_files: "weakref.WeakSet[SqliteFile]" = weakref.WeakSet()


def _renew_locks() -> None:
    for file in list(_files):
        file.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Client(BaseClient):
    """The contract, on a file."""

    idle_wait = 60.0

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        path, synchronous = parse_file_dsn(conn_string)
        self._file = SqliteFile(path, synchronous)
        self._wake = Wake(path)
        self._own_changes = 0  # what the version of the database does not show to ourselves
        self._count_lock = threading.Lock()
        _files.add(self._file)

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection of this process."""
        return self._file.connection

    def setup_tables(self) -> None:
        """Create the tables. Not needed: they appear by themselves; it does no harm."""
        _ = self._file.connection

    def max_size(self) -> int | None:
        """Return SQLite's own limit, in bytes."""
        return MAX_SIZE

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._file.close()

    def _announce(self, how_many: int = 1) -> None:
        with self._count_lock:
            self._own_changes += 1
        for _ in range(min(how_many, 8)):  # each wakes one worker, and fetches for many
            self._wake.call()

    def _version(self) -> tuple[int, int]:
        with self._file.reading() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
        return version, self._own_changes

    # -- Pushing and taking. ------------------------------------------------------------------

    def len(self, queue_name: str) -> int:
        """Return how many tasks wait or are delayed, from a counter."""
        with self._file.reading() as connection:
            counts = queue.counts(connection, queue_name)
        return counts[WAITING] + counts[DELAYED]

    def drop_all(self, queue_name: str) -> None:
        """Remove every task of the queue, whatever its state."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM tasks WHERE queue = ?", [queue_name])
            connection.execute("DELETE FROM dead WHERE queue = ?", [queue_name])

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks on a queue, in order, all or none."""
        if messages:
            with self._file.transaction() as connection:
                queue.push(connection, queue_name, messages, self.clock.time())
            self._announce(len(messages))
        return [message.task_id for message in messages]

    def reserve(
        self,
        queue_names: Sequence[str],
        limit: int = 1,
        lease: float = 30.0,
        wait: float = 0.0,
        *,
        acks: Sequence[Delivery] = (),
        task_id: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> Reserved:
        """Ack and lease in one transaction; see the contract."""
        deadline = time.monotonic() + wait
        refused: list[Delivery] = []
        while True:
            seen = self._version() if wait else None
            if acks or task_id is not None or self._has_work(queue_names):
                with self._file.transaction() as connection:
                    now = self.clock.time()
                    refused += queue.ack(connection, acks, now)
                    if task_id is None:
                        found = queue.lease_next(connection, queue_names, limit, now, lease)
                    else:
                        found = queue.lease_one(connection, queue_names, task_id, now, lease)
                acks = ()
                if found:
                    return Reserved(found, refused)
            if task_id is not None or time.monotonic() >= deadline or stop():
                return Reserved([], refused)
            upcoming = self._next_change(queue_names) - self.clock.time()
            until = min(deadline, time.monotonic() + max(upcoming, 0.001))
            self._wake.wait(until, seen, self._version, stop)

    def _has_work(self, queue_names: Sequence[str]) -> bool:
        # Looked at without the writers' lock, so that idle workers are in nobody's way.
        now = self.clock.time()
        with self._file.reading() as connection:
            return any(queue.has_work(connection, name, now) for name in queue_names)

    def _next_change(self, queue_names: Sequence[str]) -> float:
        with self._file.reading() as connection:
            return min(queue.next_change(connection, name) for name in queue_names)

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Remove tasks that are done; return those overtaken."""
        with self._file.transaction() as connection:
            refused = queue.ack(connection, deliveries, self.clock.time())
        self._announce()  # something may have waited behind a running one
        return refused

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Hand a task back, to its place or (with new data) to the tail."""
        with self._file.transaction() as connection:
            now = self.clock.time()
            released = queue.release(connection, delivery, data, delay_until, now)
        self._announce()
        return released

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Let leases run ``lease`` seconds from now; return the lost ones."""
        with self._file.transaction() as connection:
            return queue.extend(connection, deliveries, self.clock.time(), lease)

    # -- Dead letters, and looking. -----------------------------------------------------------

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Make a reserved task a dead letter."""
        with self._file.transaction() as connection:
            buried = queue.bury(connection, delivery, data, reason, self.clock.time())
        self._announce()
        return buried

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        """Return the dead letters, newest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT task_id, queue, data, error, traceback, died_at, attempts FROM dead "
                "WHERE queue = ? ORDER BY id DESC LIMIT ?",
                [queue_name, limit],
            ).fetchall()
        return [DeadTask(*row) for row in rows]

    def revive(self, queue_name: str, task_id: str | None = None) -> int:
        """Put dead letters back at the tail of their queue."""
        with self._file.transaction() as connection:
            revived = queue.revive(connection, queue_name, task_id, self.clock.time())
        self._announce(revived)
        return revived

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        """Delete dead letters older than so many seconds."""
        with self._file.transaction() as connection:
            limit = self.clock.time() - older_than
            return connection.execute(
                "DELETE FROM dead WHERE queue = ? AND died_at <= ?", [queue_name, limit]
            ).rowcount

    def find(self, queue_name: str, task_id: str) -> Place | None:
        """Return where a task stands."""
        with self._file.reading() as connection:
            return queue.find(connection, queue_name, task_id)

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        """Return the data of a task and leave it where it is."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT data FROM tasks WHERE queue = ?1 AND task_id = ?2 UNION ALL "
                "SELECT data FROM dead WHERE queue = ?1 AND task_id = ?2",
                [queue_name, task_id],
            ).fetchone()
        return row[0] if row else None

    def stats(self, queue_name: str) -> QueueStats:
        """Return how many tasks are in which state."""
        with self._file.reading() as connection:
            counts = queue.counts(connection, queue_name)
            pushed = queue.oldest(connection, queue_name)
        return QueueStats(
            waiting=counts[WAITING],
            delayed=counts[DELAYED],
            running=counts[RUNNING],
            dead=counts[FAILED],
            oldest=None if pushed is None else max(0.0, self.clock.time() - pushed),
        )
