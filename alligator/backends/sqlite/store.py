"""The store in a SQLite file: tables beside those of the queues."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alligator.backends.base import Client as BaseClient
from alligator.backends.base import Delivery, Message
from alligator.backends.sqlite import dependencies as waiting
from alligator.backends.sqlite import queue, records
from alligator.backends.sqlite.disk_space import for_push, for_record
from alligator.backends.sqlite.hold import cancel_held, hold
from alligator.backends.sqlite.records import READ, SWEPT, writable
from alligator.backends.sqlite.schema import Step
from alligator.backends.store import (
    KEEP_FAILED,
    Child,
    Queues,
    Record,
    Store,
    Waits,
    Watch,
    Worker,
    gone_badly,
    record_key,
)
from alligator.constants import CANCELED

if TYPE_CHECKING:
    from alligator.backends.sqlite.client import Client

#: Seconds between two looks at the version of the file: at first, and at most.
_FIRST_LOOK, _LAST_LOOK = 0.001, 0.02

#: Seconds that it is remembered when a worker was last alive.
_REMEMBERED = 86_400.0

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

    @property
    def home(self) -> BaseClient:
        """The client that it belongs to."""
        return self._client

    def note(self, task_id: str, record: Record, keep_seconds: float) -> bool:
        """Put down an outcome unless a later run's stands."""
        with self._client.writing(for_record(*record[1:4])) as step:
            return records.note(step, task_id, record, keep_seconds)

    def _settle(
        self,
        client: Queues,
        delivery: Delivery,
        task_id: str,
        record: Record,
        keep_seconds: float,
    ) -> bool:
        """Note and ack in one transaction."""
        with self._client.writing(for_record(*record[1:4])) as step:
            why = gone_badly(task_id, record.state, record.error)
            if why and queue.is_held(step, delivery):
                waiting.cancel(step, delivery.queue_name, delivery.task_id, why)
            if queue.ack(step, [delivery]):
                return False
            records.note(step, task_id, record, keep_seconds)
        return True

    def record(self, task_id: str) -> Record | None:
        """Return what is known of a task."""
        return self.records([task_id])[0]

    def records(self, task_ids: Sequence[str]) -> list[Record | None]:
        """Return what is known of each."""
        now, found = self._client.clock.time(), list[Record | None]()
        with self._client.file.reading() as connection:
            for each in task_ids:
                row = connection.execute(READ, (writable(each), now)).fetchone()
                found.append(Record(*row) if row else None)
        return found

    def forget(self, task_ids: Iterable[str]) -> None:
        """Delete records."""
        if rows := [(writable(each),) for each in task_ids]:
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
                (writable(key), self._client.clock.time()),
            ).fetchone()
        return row is not None

    def confirm(self, key: str, ttl: float) -> None:
        """Set a mark anyhow."""
        with self._client.writing() as step:
            step.execute(
                "INSERT OR REPLACE INTO alligator_marks VALUES (?, ?)",
                (writable(key), step.now + ttl),
            )

    def unclaim(self, key: str) -> None:
        """Remove a mark."""
        with self._client.writing() as step:
            step.execute("DELETE FROM alligator_marks WHERE key = ?", (writable(key),))

    def _push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        """Claim and push in one transaction."""
        own_key = f"{queue_name}/{key}"
        if self._stands(own_key):
            return False
        with self._client.writing(for_push([message])) as step:
            if not _claim(step, own_key, ttl):
                return False
            queue.push(step, queue_name, [message])
        return True

    def _hold(self, client: Queues, children: Sequence[Child]) -> list[int]:
        """Keep tasks back, all in one transaction."""
        with self._client.writing(for_push(each.message for each in children)) as step:
            return [hold(step, each) for each in children]

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        """Cancel a child that is held."""
        why = gone_badly(task_id, CANCELED, record.error) or ""
        with self._client.writing(for_record(*record[1:4])) as step:
            if not cancel_held(step, queue_name, task_id, why):
                return False
            records.note(step, record_key(queue_name, task_id), record, KEEP_FAILED)
        return True

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        """Return for whom a child is held."""
        with self._client.file.reading() as connection:
            return waiting.waits_for(connection, queue_name, task_id, limit)

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        """Give a sign of life."""
        with self._client.writing() as step:
            step.execute("DELETE FROM alligator_workers WHERE seen < ?", (step.now - _REMEMBERED,))
            step.executemany(
                "INSERT OR REPLACE INTO alligator_workers VALUES (?, ?, ?, ?)",
                [(each, writable(worker), step.now, step.now + seconds) for each in queue_names],
            )

    def workers(self, queue_name: str) -> list[Worker]:
        """Return the live workers of a queue, those last seen first."""
        now = self._client.clock.time()
        with self._client.file.reading() as connection:
            rows = connection.execute(
                "SELECT own.name, own.seen, own.ends, every.queue FROM alligator_workers own "
                "JOIN alligator_workers every ON every.name = own.name AND every.ends > ? "
                "WHERE own.queue = ? AND own.ends > ? ORDER BY own.seen DESC, own.name",
                (now, queue_name, now),
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


def _claim(step: Step, key: str, ttl: float) -> bool:
    step.execute(_SWEEP_MARKS, (step.now, SWEPT))
    return bool(
        step.execute(
            "INSERT INTO alligator_marks VALUES (?, ?) ON CONFLICT (key) DO UPDATE "
            "SET ends = excluded.ends WHERE ends <= ?",
            (writable(key), step.now + ttl, step.now),
        ).rowcount
    )
