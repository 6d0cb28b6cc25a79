"""Keep outcomes in a SQLite file, in tables beside those of the queues."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from alligator.backends.sqlite import dependencies, limits, queue, records, worker_reports
from alligator.backends.sqlite.database import Database
from alligator.backends.sqlite.disk_reserve import for_push, for_record
from alligator.backends.sqlite.records import READ, SWEPT, writable
from alligator.backends.sqlite.transaction import Transaction
from alligator.backends.store import (
    KEEP_FAILED,
    Store,
    gone_badly,
    own_record_key,
    record_key,
    running_already,
    waits_for_itself,
)
from alligator.backends.task_controls import unique_key, write_controls
from alligator.backends.types import (
    Activity,
    Child,
    Delivery,
    Duplicate,
    LiveWorker,
    Message,
    Parent,
    Queues,
    Record,
    Report,
    Waits,
    Watch,
    Worker,
    controls_of,
)
from alligator.constants import CANCELED, FAILED, HELD, RUNNING, WAITING

#: Seconds between two looks at the version of the file: at first, and at most.
_FIRST_LOOK, _LAST_LOOK = 0.001, 0.02

#: Seconds for which the file keeps when a worker was last alive.
_REMEMBERED = 86_400.0

#: The part of its time that a worker has left when a report that says nothing is not written.
_MOST = 0.75

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

    monitors = True

    def __init__(self, client: Queues, database: Database) -> None:
        self._client, self._database = client, database

    @property
    def home(self) -> Queues:
        return self._client

    def note(self, key: str, record: Record, keep_seconds: float) -> bool:
        with self._database.transaction(for_record(*record[1:4])) as tx:
            return records.save(tx, key, record, keep_seconds)

    def _settle(
        self,
        client: Queues,
        delivery: Delivery,
        key: str,
        record: Record,
        keep_seconds: float,
    ) -> bool:
        with self._database.transaction(for_record(*record[1:4])) as tx:
            why = gone_badly(key, record.state, record.error)
            if why and queue.is_leased(tx, delivery):
                dependencies.cancel(tx, delivery.queue_name, delivery.task_id, why)
            if queue.ack(tx, [delivery]):
                return False
            records.save(tx, key, record, keep_seconds)
        return True

    def record(self, key: str) -> Record | None:
        return self.records([key])[0]

    def records(self, keys: Sequence[str]) -> list[Record | None]:
        now, found = self._database.clock.time(), list[Record | None]()
        with self._database.reading() as connection:
            for each in keys:
                row = connection.execute(READ, (writable(each), now)).fetchone()
                found.append(Record(*row) if row else None)
        return found

    def forget(self, keys: Iterable[str]) -> None:
        if rows := [(writable(each),) for each in keys]:
            with self._database.transaction() as tx:
                tx.executemany("DELETE FROM alligator_records WHERE task_id = ?", rows)

    @contextmanager
    def watch(self, keys: Sequence[str], queue_names: Sequence[str] = ()) -> Iterator[Watch]:
        # Any record counts, of these tasks or of others.
        yield _Watch(self._database)

    def claim(self, key: str, ttl: float) -> bool:
        if self._stands(key):  # without the writers' lock: most claims come late
            return False
        with self._database.transaction() as tx:
            return _claim(tx, key, ttl)

    def _stands(self, key: str) -> bool:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM alligator_marks WHERE key = ? AND ends > ?",
                (writable(key), self._database.clock.time()),
            ).fetchone()
        return row is not None

    def confirm(self, key: str, ttl: float) -> None:
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT OR REPLACE INTO alligator_marks VALUES (?, ?)",
                (writable(key), tx.now + ttl),
            )

    def unclaim(self, key: str) -> None:
        with self._database.transaction() as tx:
            tx.execute("DELETE FROM alligator_marks WHERE key = ?", (writable(key),))

    def _push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        own_key = f"{queue_name}/{key}"
        if self._stands(own_key):
            return False
        with self._database.transaction(for_push([message])) as tx:
            if not _claim(tx, own_key, ttl):
                return False
            queue.push_unique(tx, queue_name, [message])
        return True

    def _hold(self, client: Queues, children: Sequence[Child]) -> Sequence[int | Duplicate]:
        with self._database.transaction(for_push(each.message for each in children)) as tx:
            return [_hold(tx, each) for each in children]

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        why = gone_badly(task_id, CANCELED, record.error) or ""
        with self._database.transaction(for_record(*record[1:4])) as tx:
            if not _cancel_held(tx, queue_name, task_id, why):
                return False
            records.save(tx, record_key(queue_name, task_id), record, KEEP_FAILED)
        return True

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        with self._database.reading() as connection:
            return dependencies.waits_for(connection, queue_name, task_id, limit)

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        with self._database.transaction() as tx:
            tx.execute("DELETE FROM alligator_workers WHERE seen < ?", (tx.now - _REMEMBERED,))
            tx.executemany(
                "INSERT OR REPLACE INTO alligator_workers VALUES (?, ?, ?, ?)",
                [(each, writable(worker), tx.now, tx.now + seconds) for each in queue_names],
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

    def report(self, report: Report) -> list[str | None]:
        if self._has_nothing_new(report):  # without the writers' lock, and without a commit
            return self.documents(report.ask)
        texts = [*report.recent, *(text for text, _ in report.documents.values())]
        with self._database.transaction(for_record(report.live, *texts)) as tx:
            return worker_reports.add(tx, report)

    def _has_nothing_new(self, report: Report) -> bool:
        """Return whether a report only asks, from a worker that is listed for most of its time."""
        told = report.activity or report.recent or report.documents or report.live is not None
        if told or report.seconds <= 0:
            return False
        with self._database.reading() as connection:
            ends = worker_reports.listed_until(connection, report.worker)
        return ends is None or ends - self._database.clock.time() > _MOST * report.seconds

    def live_workers(self) -> list[LiveWorker]:
        with self._database.reading() as connection:
            return worker_reports.live_workers(connection, self._database.clock.time())

    def activity(self, since: int, before: int | None = None) -> list[Activity]:
        now = self._database.clock.time()
        with self._database.reading() as connection:
            return worker_reports.activity(connection, since, before, now)

    def recent(self, limit: int) -> list[str]:
        with self._database.reading() as connection:
            return worker_reports.recent(connection, limit, self._database.clock.time())

    def put_document(self, key: str, text: str, keep_seconds: float) -> None:
        with self._database.transaction(for_record(text)) as tx:
            worker_reports.put(tx, key, text, keep_seconds)

    def documents(self, keys: Sequence[str]) -> list[str | None]:
        with self._database.reading() as connection:
            return worker_reports.documents(connection, keys, self._database.clock.time())

    def delete_documents(self, keys: Sequence[str]) -> None:
        with self._database.transaction() as tx:
            worker_reports.delete(tx, keys)


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


def _claim(tx: Transaction, key: str, ttl: float) -> bool:
    tx.execute(_SWEEP_MARKS, (tx.now, SWEPT))
    return bool(
        tx.execute(
            "INSERT INTO alligator_marks VALUES (?, ?) ON CONFLICT (key) DO UPDATE "
            "SET ends = excluded.ends WHERE ends <= ?",
            (writable(key), tx.now + ttl, tx.now),
        ).rowcount
    )


def _hold(tx: Transaction, child: Child) -> int | Duplicate:
    """Keep a child back, queue it, or cancel it; see ``Store.hold``."""
    name, message = child.queue_name, child.message
    if pending := queue.with_key(tx, name, unique_key(message)):
        return Duplicate(pending.task_id)
    waits = list[tuple[str, str]]()
    for parent in child.parents:
        stands = _where(tx, parent)
        if stands is not None:
            waits.append((stands, parent.task_id))
        elif not child.unconditional and (why := _failure(tx, parent)):
            return _refuse(tx, name, message.task_id, why)
    if not waits:
        queue.push(tx, name, [message])
        return WAITING
    if tx.has_children() and not _below(tx, name, message.task_id).isdisjoint(waits):
        raise waits_for_itself(message.task_id)
    row_id = _keep(tx, name, message)
    records.overrule(tx, name, [message.task_id])
    tx.executemany(
        "INSERT OR IGNORE INTO alligator_waits (queue, parent, child, unconditional) "
        "VALUES (?, ?, ?, ?)",
        [(*each, row_id, child.unconditional) for each in waits],
    )
    tx.holds_children()
    return WAITING


def _cancel_held(tx: Transaction, name: str, task_id: str, why: str) -> bool:
    """Cancel a held child with its own children; False: it is not held."""
    found = _row(tx, name, task_id)
    if found is None or found[1] != HELD:
        return False
    dependencies.drop(tx, found[0], name)
    dependencies.cancel(tx, name, task_id, why)
    return True


def _below(tx: Transaction, name: str, task_id: str) -> set[tuple[str, str]]:
    """Return the task itself and all that wait for it, directly or through others."""
    return set(tx.execute(_BELOW, (name, task_id)).fetchall())


def _where(tx: Transaction, parent: Parent) -> str | None:
    for name in parent.queue_names:
        if _row(tx, name, parent.task_id):
            return name
    return None


def _row(tx: Transaction, name: str, task_id: str) -> tuple[int, int] | None:
    row: tuple[int, int] | None = tx.execute(
        "SELECT id, state FROM alligator_tasks WHERE queue = ? AND task_id = ?", (name, task_id)
    ).fetchone()
    return row


def _failure(tx: Transaction, parent: Parent) -> str | None:
    for name in parent.queue_names:
        if row := tx.execute(records.VALID_LETTER, (name, parent.task_id)).fetchone():
            return gone_badly(parent.task_id, FAILED, row[0])
    keys = [own_record_key(name, parent.task_id) for name in parent.queue_names]
    for key in (*keys, parent.task_id):
        found = records.read(tx, key)
        if found and (why := gone_badly(parent.task_id, found.state, found.error)):
            return why
    return None


def _keep(tx: Transaction, name: str, message: Message) -> int:
    task_id, data, due, priority = message
    if found := _remove(tx, name, task_id):
        raise running_already(found)
    place = tx.tickets()
    tx.count(name, HELD, 1)
    row = tx.execute(
        "INSERT INTO alligator_tasks "
        "(queue, task_id, state, priority, place, due, pushed_at, controls, limit_key, "
        "unique_key, key_since, key_attempt, data) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            *(name, task_id, HELD, priority, place, due or 0.0, tx.now),
            *(write_controls(controls_of(message)), limits.limit_key(controls_of(message))),
            *(*queue.key_columns(message, tx.now), data),
        ),
    ).fetchone()
    return int(row[0])


def _remove(tx: Transaction, name: str, task_id: str) -> str:
    """Remove the row of that id; return the id if it runs, and stays."""
    found = _row(tx, name, task_id)
    if found is None:
        return ""
    row_id, state = found
    if state == RUNNING:
        return task_id
    dependencies.forget(tx, row_id)
    deleted = "DELETE FROM alligator_tasks WHERE id = ? RETURNING limit_key"
    (key,) = tx.execute(deleted, (row_id,)).fetchone()
    tx.count(name, state, -1)
    limits.promote(tx, name, key)
    return ""


def _refuse(tx: Transaction, name: str, task_id: str, why: str) -> int:
    _remove(tx, name, task_id)
    records.overrule(tx, name, [task_id])
    dependencies.save_canceled(tx, record_key(name, task_id), why)
    dependencies.cancel(tx, name, task_id, gone_badly(task_id, CANCELED, why) or "")
    return CANCELED
