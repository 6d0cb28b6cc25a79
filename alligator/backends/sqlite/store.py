"""The store in a SQLite file: tables beside those of the queues."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from alligator.backends.sqlite import dependencies, queue, records
from alligator.backends.sqlite.database import Database
from alligator.backends.sqlite.disk_space import for_push, for_record
from alligator.backends.sqlite.records import READ, SWEPT, writable
from alligator.backends.sqlite.schema import HELD, Step
from alligator.backends.store import (
    KEEP_FAILED,
    Store,
    gone_badly,
    own_record_key,
    record_key,
    running_already,
    waits_for_itself,
)
from alligator.backends.types import (
    Child,
    Delivery,
    Message,
    Parent,
    Queues,
    Record,
    Waits,
    Watch,
    Worker,
)
from alligator.constants import CANCELED, FAILED, RUNNING, WAITING

#: Seconds between two looks at the version of the file: at first, and at most.
_FIRST_LOOK, _LAST_LOOK = 0.001, 0.02

#: Seconds for which the file keeps when a worker was last alive.
_REMEMBERED = 86_400.0

_SWEEP_MARKS = (
    "DELETE FROM alligator_marks WHERE key IN "
    "(SELECT key FROM alligator_marks WHERE ends <= ? LIMIT ?)"
)


_BELOW = (
    "WITH RECURSIVE below (queue, task_id) AS (SELECT ?, ? UNION SELECT t.queue, t.task_id "
    "FROM below b JOIN alligator_waits w ON w.queue = b.queue AND w.parent = b.task_id "
    "JOIN alligator_tasks t ON t.id = w.child) SELECT queue, task_id FROM below"
)


class SqliteStore(Store):
    """The contract, on a file.

    :param client: the client it belongs to.
    """

    def __init__(self, client: Queues, database: Database) -> None:
        self._client, self._database = client, database

    @property
    def home(self) -> Queues:
        return self._client

    def note(self, task_id: str, record: Record, keep_seconds: float) -> bool:
        with self._database.transaction(for_record(*record[1:4])) as step:
            return records.note(step, task_id, record, keep_seconds)

    def _settle(
        self,
        client: Queues,
        delivery: Delivery,
        task_id: str,
        record: Record,
        keep_seconds: float,
    ) -> bool:
        with self._database.transaction(for_record(*record[1:4])) as step:
            why = gone_badly(task_id, record.state, record.error)
            if why and queue.is_leased(step, delivery):
                dependencies.cancel(step, delivery.queue_name, delivery.task_id, why)
            if queue.ack(step, [delivery]):
                return False
            records.note(step, task_id, record, keep_seconds)
        return True

    def record(self, task_id: str) -> Record | None:
        return self.records([task_id])[0]

    def records(self, task_ids: Sequence[str]) -> list[Record | None]:
        now, found = self._database.clock.time(), list[Record | None]()
        with self._database.reading() as connection:
            for each in task_ids:
                row = connection.execute(READ, (writable(each), now)).fetchone()
                found.append(Record(*row) if row else None)
        return found

    def forget(self, task_ids: Iterable[str]) -> None:
        if rows := [(writable(each),) for each in task_ids]:
            with self._database.transaction() as step:
                step.executemany("DELETE FROM alligator_records WHERE task_id = ?", rows)

    @contextmanager
    def watch(self, task_ids: Sequence[str], queue_names: Sequence[str] = ()) -> Iterator[Watch]:
        # Any record counts, of these tasks or of others.
        yield _Watch(self._database)

    def claim(self, key: str, ttl: float) -> bool:
        if self._stands(key):  # without the writers' lock: most claims come late
            return False
        with self._database.transaction() as step:
            return _claim(step, key, ttl)

    def _stands(self, key: str) -> bool:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM alligator_marks WHERE key = ? AND ends > ?",
                (writable(key), self._database.clock.time()),
            ).fetchone()
        return row is not None

    def confirm(self, key: str, ttl: float) -> None:
        with self._database.transaction() as step:
            step.execute(
                "INSERT OR REPLACE INTO alligator_marks VALUES (?, ?)",
                (writable(key), step.now + ttl),
            )

    def unclaim(self, key: str) -> None:
        with self._database.transaction() as step:
            step.execute("DELETE FROM alligator_marks WHERE key = ?", (writable(key),))

    def _push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        own_key = f"{queue_name}/{key}"
        if self._stands(own_key):
            return False
        with self._database.transaction(for_push([message])) as step:
            if not _claim(step, own_key, ttl):
                return False
            queue.push(step, queue_name, [message])
        return True

    def _hold(self, client: Queues, children: Sequence[Child]) -> list[int]:
        with self._database.transaction(for_push(each.message for each in children)) as step:
            return [_hold(step, each) for each in children]

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        why = gone_badly(task_id, CANCELED, record.error) or ""
        with self._database.transaction(for_record(*record[1:4])) as step:
            if not _cancel_held(step, queue_name, task_id, why):
                return False
            records.note(step, record_key(queue_name, task_id), record, KEEP_FAILED)
        return True

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        with self._database.reading() as connection:
            return dependencies.waits_for(connection, queue_name, task_id, limit)

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        with self._database.transaction() as step:
            step.execute("DELETE FROM alligator_workers WHERE seen < ?", (step.now - _REMEMBERED,))
            step.executemany(
                "INSERT OR REPLACE INTO alligator_workers VALUES (?, ?, ?, ?)",
                [(each, writable(worker), step.now, step.now + seconds) for each in queue_names],
            )

    def workers(self, queue_name: str) -> list[Worker]:
        now = self._database.clock.time()
        with self._database.reading() as connection:
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
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT max(seen) FROM alligator_workers WHERE queue = ?", (queue_name,)
            ).fetchone()
        return None if row[0] is None else float(row[0])


class _Watch:
    """Looks at the version of the file, which costs microseconds, and then at the counter."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version, self._noted = database.version(), self._count()

    def _count(self) -> int:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT n FROM alligator_counters WHERE queue = '' AND state = -2"
            ).fetchone()
        return int(row[0])

    def _has_changed(self) -> bool:
        version = self._database.version()
        if version == self._version:
            return False
        before, self._version, self._noted = self._noted, version, self._count()
        return self._noted != before

    def wait(self, timeout: float) -> bool:
        """Block until a record is saved."""
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


def _hold(step: Step, child: Child) -> int:
    """Keep a child back, queue it, or cancel it; see ``Store.hold``."""
    name, message = child.queue_name, child.message
    waits = list[tuple[str, str]]()
    for parent in child.parents:
        stands = _where(step, parent)
        if stands is not None:
            waits.append((stands, parent.task_id))
        elif why := _failure(step, parent):
            return _refuse(step, name, message.task_id, why)
    if not waits:
        queue.push(step, name, [message])
        return WAITING
    if step.has_children() and not _below(step, name, message.task_id).isdisjoint(waits):
        raise waits_for_itself(message.task_id)
    row_id = _keep(step, name, message)
    records.overrule(step, name, [message.task_id])
    step.executemany(
        "INSERT OR IGNORE INTO alligator_waits (queue, parent, child) VALUES (?, ?, ?)",
        [(*each, row_id) for each in waits],
    )
    step.holds_children()
    return WAITING


def _cancel_held(step: Step, name: str, task_id: str, why: str) -> bool:
    """Cancel a held child with its own children; False: it is not held."""
    found = _row(step, name, task_id)
    if found is None or found[1] != HELD:
        return False
    dependencies.drop(step, found[0], name)
    dependencies.cancel(step, name, task_id, why)
    return True


def _below(step: Step, name: str, task_id: str) -> set[tuple[str, str]]:
    """Return the task itself and all that wait for it, directly or through others."""
    return set(step.execute(_BELOW, (name, task_id)).fetchall())


def _where(step: Step, parent: Parent) -> str | None:
    for name in parent.queue_names:
        if _row(step, name, parent.task_id):
            return name
    return None


def _row(step: Step, name: str, task_id: str) -> tuple[int, int] | None:
    row: tuple[int, int] | None = step.execute(
        "SELECT id, state FROM alligator_tasks WHERE queue = ? AND task_id = ?", (name, task_id)
    ).fetchone()
    return row


def _failure(step: Step, parent: Parent) -> str | None:
    for name in parent.queue_names:
        if row := step.execute(records.STANDING, (name, parent.task_id)).fetchone():
            return gone_badly(parent.task_id, FAILED, row[0])
    keys = [own_record_key(name, parent.task_id) for name in parent.queue_names]
    for key in (*keys, parent.task_id):
        found = records.read(step, key)
        if found and (why := gone_badly(parent.task_id, found.state, found.error)):
            return why
    return None


def _keep(step: Step, name: str, message: Message) -> int:
    task_id, data, due, priority = message
    if found := _remove(step, name, task_id):
        raise running_already(found)
    place = step.tickets()
    step.count(name, HELD, 1)
    row = step.execute(
        "INSERT INTO alligator_tasks "
        "(queue, task_id, state, priority, place, due, pushed_at, data) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (name, task_id, HELD, priority, place, due or 0.0, step.now, data),
    ).fetchone()
    return int(row[0])


def _remove(step: Step, name: str, task_id: str) -> str:
    """Remove the row of that id; return the id if it runs, and stays."""
    found = _row(step, name, task_id)
    if found is None:
        return ""
    row_id, state = found
    if state == RUNNING:
        return task_id
    dependencies.forget(step, row_id)
    step.execute("DELETE FROM alligator_tasks WHERE id = ?", (row_id,))
    step.count(name, state, -1)
    return ""


def _refuse(step: Step, name: str, task_id: str, why: str) -> int:
    _remove(step, name, task_id)
    records.overrule(step, name, [task_id])
    dependencies.note_canceled(step, record_key(name, task_id), why)
    dependencies.cancel(step, name, task_id, gone_badly(task_id, CANCELED, why) or "")
    return CANCELED
