"""Keep what workers report as SQL, inside a transaction that the caller opened."""

import json
import math
import sqlite3
from collections.abc import Sequence

from alligator.backends.activity_sums import KEEP_ACTIVITY, KEEP_LOST, MAX_RECENT, added, row_for
from alligator.backends.sqlite.records import SWEPT, writable
from alligator.backends.sqlite.transaction import Transaction
from alligator.backends.types import Activity, LiveWorker, Report

_FIND = "SELECT numbers FROM alligator_activity WHERE minute = ? AND queue = ? AND function = ?"
_ADD = (
    "INSERT INTO alligator_activity VALUES (?, ?, ?, ?) "
    "ON CONFLICT (minute, queue, function) DO UPDATE SET numbers = excluded.numbers"
)
_LIST = (
    "INSERT INTO alligator_live VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
    "SET seen = excluded.seen, ends = excluded.ends, view = excluded.view"
)
_SWEEP_DOCUMENTS = (
    "DELETE FROM alligator_documents WHERE key IN "
    "(SELECT key FROM alligator_documents WHERE ends <= ? LIMIT ?)"
)


def add(tx: Transaction, report: Report) -> list[str | None]:
    """Take a report, and return the documents that it asks for."""
    _list(tx, report)
    if report.activity:
        tx.execute("DELETE FROM alligator_activity WHERE minute <= ?", (tx.now - KEEP_ACTIVITY,))
    for each in report.activity:
        if each[0] + KEEP_ACTIVITY > tx.now:
            _add_activity(tx, *each)
    if report.recent:
        _add_recent(tx, report.recent)
    for key, (text, seconds) in report.documents.items():
        put(tx, key, text, seconds if text else 0.0)
    return [_document(tx, key, tx.now) for key in report.ask]


def _list(tx: Transaction, report: Report) -> None:
    name, ends = writable(report.worker), tx.now + report.seconds
    tx.execute("DELETE FROM alligator_live WHERE ends <= ?", (tx.now - KEEP_LOST,))
    if not report.seconds > 0:
        tx.execute("DELETE FROM alligator_live WHERE name = ?", (name,))
    elif report.live is None:
        sql = "UPDATE alligator_live SET seen = ?, ends = ? WHERE name = ?"
        tx.execute(sql, (tx.now, ends, name))
    else:
        tx.execute(_LIST, (name, tx.now, ends, writable(report.live)))


def _add_activity(
    tx: Transaction, minute: int, queue_name: str, function: str, numbers: tuple[float, ...]
) -> None:
    def find(queue_name: str, function: str) -> tuple[str] | None:
        sql = (
            "SELECT numbers FROM alligator_activity WHERE minute = ? AND queue = ? AND function = ?"
        )
        found: tuple[str] | None = tx.execute(sql, (minute, queue_name, function)).fetchone()
        return found

    def count() -> int:
        sql = "SELECT count(*) FROM alligator_activity WHERE minute = ?"
        return int(tx.execute(sql, (minute,)).fetchone()[0])

    names = writable(queue_name), writable(function)
    row = row_for(*names, lambda *key: find(*key) is not None, count)
    found = find(*row)
    total = added(json.loads(found[0]) if found else (), numbers)
    tx.execute(_ADD, (minute, *row, json.dumps(total)))


def _add_recent(tx: Transaction, tasks: Sequence[str]) -> None:
    tx.executemany(
        "INSERT INTO alligator_recent (at, task) VALUES (?, ?)",
        [(tx.now, writable(each)) for each in tasks[-MAX_RECENT:]],
    )
    (last,) = tx.execute("SELECT max(id) FROM alligator_recent").fetchone()
    tx.execute("DELETE FROM alligator_recent WHERE id <= ?", (last - MAX_RECENT,))


def put(tx: Transaction, key: str, text: str, seconds: float) -> None:
    """Keep a document for so many seconds; 0 or less: delete it."""
    tx.execute(_SWEEP_DOCUMENTS, (tx.now, SWEPT))
    if seconds > 0:
        row = (writable(key), tx.now + seconds, writable(text))
        tx.execute("INSERT OR REPLACE INTO alligator_documents VALUES (?, ?, ?)", row)
    else:
        delete(tx, [key])


def delete(tx: Transaction, keys: Sequence[str]) -> None:
    """Delete documents."""
    rows = [(writable(each),) for each in keys]
    tx.executemany("DELETE FROM alligator_documents WHERE key = ?", rows)


def _document(connection: Transaction | sqlite3.Connection, key: str, now: float) -> str | None:
    sql = "SELECT document FROM alligator_documents WHERE key = ? AND ends > ?"
    row = connection.execute(sql, (writable(key), now)).fetchone()
    return row[0] if row else None


def documents(connection: sqlite3.Connection, keys: Sequence[str], now: float) -> list[str | None]:
    """Return documents in the order of their keys."""
    return [_document(connection, each, now) for each in keys]


def listed_until(connection: sqlite3.Connection, name: str) -> float | None:
    """Return until when a worker counts as alive; None: it is not listed."""
    sql = "SELECT ends FROM alligator_live WHERE name = ?"
    row = connection.execute(sql, (writable(name),)).fetchone()
    return row[0] if row else None


def live_workers(connection: sqlite3.Connection, now: float) -> list[LiveWorker]:
    """Return the workers that are listed."""
    sql = "SELECT name, view, seen, ends FROM alligator_live WHERE ends > ?"
    return [LiveWorker(*row) for row in connection.execute(sql, (now - KEEP_LOST,))]


def activity(
    connection: sqlite3.Connection, since: int, before: int | None, now: float
) -> list[Activity]:
    """Return what was reported of these minutes, by minute."""
    sql = (
        "SELECT * FROM alligator_activity "
        "WHERE minute >= ? AND minute > ? AND minute < ? ORDER BY minute"
    )
    end = math.inf if before is None else before
    rows = connection.execute(sql, (since, now - KEEP_ACTIVITY, end)).fetchall()
    return [(minute, *names, tuple(json.loads(numbers))) for minute, *names, numbers in rows]


def recent(connection: sqlite3.Connection, limit: int, now: float) -> list[str]:
    """Return the tasks that ended last, the newest first."""
    sql = "SELECT task FROM alligator_recent WHERE at > ? ORDER BY id DESC LIMIT ?"
    rows = connection.execute(sql, (now - KEEP_ACTIVITY, limit)).fetchall()
    return [task for (task,) in rows]
