"""The store in a SQLite file: tables beside those of the queues."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alligator.backends import sqlite_queue as queue
from alligator.backends.base import Client as BaseClient
from alligator.backends.base import Delivery, Message
from alligator.backends.sqlite_room import for_push, for_record
from alligator.backends.sqlite_schema import Step
from alligator.backends.store import Record, Store, Watch, Worker

if TYPE_CHECKING:
    from alligator.backends.sqlite_backend import Client

#: How many rows that have ended are deleted by the way.
_SWEPT = 20

#: Seconds between two looks at the version of the file: at first, and at most.
_FIRST_LOOK, _LAST_LOOK = 0.001, 0.02

#: Seconds that it is remembered when a worker was last alive.
_REMEMBERED = 86_400.0

_READ = (
    "SELECT state, result, error, traceback, at, attempt, pushed, place "
    "FROM alligator_records WHERE task_id = ? AND ends > ?"
)
_WRITE = (
    "INSERT INTO alligator_records "
    "(state, result, error, traceback, at, attempt, pushed, place, task_id, ends) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SWEEP_RECORDS = (
    "DELETE FROM alligator_records WHERE id IN "
    "(SELECT id FROM alligator_records WHERE ends <= ? LIMIT ?)"
)
_SWEEP_MARKS = (
    "DELETE FROM alligator_marks WHERE key IN "
    "(SELECT key FROM alligator_marks WHERE ends <= ? LIMIT ?)"
)


class SqliteStore(Store):
    """The contract, on a file.

    :param client: the client it belongs to.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client

    def note(self, task_id: str, record: Record, keep_seconds: float) -> bool:
        """Put down an outcome unless a later run's stands."""
        with self._client.writing(for_record(*record[1:4])) as step:
            return _note(step, task_id, record, keep_seconds)

    def settle(
        self,
        client: BaseClient,
        delivery: Delivery,
        task_id: str,
        record: Record,
        keep_seconds: float,
    ) -> bool:
        """Note and ack in one transaction."""
        if client is not self._client:
            return super().settle(client, delivery, task_id, record, keep_seconds)
        with self._client.writing(for_record(*record[1:4])) as step:
            if queue.ack(step, [delivery]):
                return False
            _note(step, task_id, record, keep_seconds)
        return True

    def record(self, task_id: str) -> Record | None:
        """Return what is known of a task."""
        return self.records([task_id])[0]

    def records(self, task_ids: Sequence[str]) -> list[Record | None]:
        """Return what is known of each."""
        now, found = self._client.clock.time(), list[Record | None]()
        with self._client.file.reading() as connection:
            for each in task_ids:
                row = connection.execute(_READ, (_text(each), now)).fetchone()
                found.append(Record(*row) if row else None)
        return found

    def forget(self, task_ids: Iterable[str]) -> None:
        """Delete records."""
        if rows := [(_text(each),) for each in task_ids]:
            with self._client.writing() as step:
                step.executemany("DELETE FROM alligator_records WHERE task_id = ?", rows)

    @contextmanager
    def watch(self, task_ids: Sequence[str], queue_names: Sequence[str] = ()) -> Iterator[Watch]:
        """Listen; whatever is noted counts, of these tasks or others."""
        yield _Watch(self._client)

    def claim(self, key: str, ttl: float) -> bool:
        """Set a mark if it is not set."""
        if self._stands(key):  # looked at without the writers' lock: most claims come late
            return False
        with self._client.writing() as step:
            return _claim(step, key, ttl)

    def _stands(self, key: str) -> bool:
        with self._client.file.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM alligator_marks WHERE key = ? AND ends > ?",
                (_text(key), self._client.clock.time()),
            ).fetchone()
        return row is not None

    def confirm(self, key: str, ttl: float) -> None:
        """Set a mark anyhow."""
        with self._client.writing() as step:
            step.execute(
                "INSERT OR REPLACE INTO alligator_marks VALUES (?, ?)", (_text(key), step.now + ttl)
            )

    def unclaim(self, key: str) -> None:
        """Remove a mark."""
        with self._client.writing() as step:
            step.execute("DELETE FROM alligator_marks WHERE key = ?", (_text(key),))

    def push_once(
        self, client: BaseClient, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        """Claim and push in one transaction."""
        if client is not self._client:
            return super().push_once(client, key, ttl, queue_name, message)
        own_key = f"{queue_name}/{key}"
        if self._stands(own_key):
            return False
        with self._client.writing(for_push([message])) as step:
            if not _claim(step, own_key, ttl):
                return False
            queue.push(step, queue_name, [message])
        return True

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        """Give a sign of life."""
        with self._client.writing() as step:
            step.execute("DELETE FROM alligator_workers WHERE seen < ?", (step.now - _REMEMBERED,))
            step.executemany(
                "INSERT OR REPLACE INTO alligator_workers VALUES (?, ?, ?, ?)",
                [(each, _text(worker), step.now, step.now + seconds) for each in queue_names],
            )

    def workers(self, queue_name: str) -> list[Worker]:
        """Return the live workers of a queue, those last seen first."""
        with self._client.file.reading() as connection:
            rows = connection.execute(
                "SELECT own.name, own.seen, own.ends, every.queue FROM alligator_workers own "
                "JOIN alligator_workers every ON every.name = own.name AND every.ends > ?2 "
                "WHERE own.queue = ?1 AND own.ends > ?2 ORDER BY own.seen DESC, own.name",
                (queue_name, self._client.clock.time()),
            ).fetchall()
        found: dict[str, Worker] = {}
        for name, seen, ends, each in rows:
            known = found.get(name) or Worker(name, (), seen, ends)
            found[name] = known._replace(queue_names=(*known.queue_names, each))
        return list(found.values())

    def last_seen(self, queue_name: str) -> float | None:
        """Return when a worker of that queue was last alive."""
        with self._client.file.reading() as connection:
            row = connection.execute(
                "SELECT max(seen) FROM alligator_workers WHERE queue = ?", (queue_name,)
            ).fetchone()
        return None if row[0] is None else float(row[0])


class _Watch:
    """Looks at the version of the file, which costs microseconds, and then at the counter."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._version, self._noted = client.version(), self._count()

    def _count(self) -> int:
        with self._client.file.reading() as connection:
            row = connection.execute(
                "SELECT n FROM alligator_counters WHERE queue = '' AND state = -2"
            ).fetchone()
        return int(row[0])

    def _has_changed(self) -> bool:
        version = self._client.version()
        if version == self._version:
            return False
        before, self._version, self._noted = self._noted, version, self._count()
        return self._noted != before

    def wait(self, timeout: float) -> bool:
        """Block until something is noted."""
        deadline, pause = time.monotonic() + timeout, _FIRST_LOOK
        while not self._has_changed():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, pause))
            pause = min(1.5 * pause, _LAST_LOOK)
        return True


def _note(step: Step, task_id: str, record: Record, keep_seconds: float) -> bool:
    own = _text(task_id)
    standing = step.execute(
        "SELECT pushed, attempt FROM alligator_records WHERE task_id = ? AND ends > ?",
        (own, step.now),
    ).fetchone()
    if standing is not None and standing > record.fence:
        return False
    step.execute(_SWEEP_RECORDS, (step.now, _SWEPT))
    step.execute("DELETE FROM alligator_records WHERE task_id = ?", (own,))
    if keep_seconds > 0:
        error, traceback = _text(record.error), _text(record.traceback)
        row = record._replace(error=error, traceback=traceback)
        step.execute(_WRITE, (*row, own, step.now + keep_seconds))
    step.execute("UPDATE alligator_counters SET n = n + 1 WHERE queue = '' AND state = -2")
    return True


def _claim(step: Step, key: str, ttl: float) -> bool:
    step.execute(_SWEEP_MARKS, (step.now, _SWEPT))
    return bool(
        step.execute(
            "INSERT INTO alligator_marks VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE "
            "SET ends = ?2 WHERE ends <= ?3",
            (_text(key), step.now + ttl, step.now),
        ).rowcount
    )


def _text(text: str) -> str:
    """Return text as SQLite can keep it: what UTF-8 cannot carry is written out."""
    return text.encode("utf-8", "backslashreplace").decode()
