"""Hold children that wait for their parents, as SQL, inside the caller's transaction.

A held child is a row among the tasks, in a state of its own. Each of its parents is a row in
``alligator_waits``; a child in any other state has none there.
"""

import sqlite3
from collections.abc import Sequence

from alligator.backends.sqlite.records import save
from alligator.backends.sqlite.transaction import Transaction
from alligator.backends.store import (
    CANCELED_BY,
    KEEP_FAILED,
    Record,
    Waits,
    gone_badly,
    record_key,
)
from alligator.constants import CANCELED, DELAYED, HELD, WAITING

_FREE = (
    "SELECT t.id, t.queue, t.due FROM alligator_waits w JOIN alligator_tasks t ON t.id = w.child "
    "WHERE w.queue = ? AND w.parent = ? AND NOT EXISTS (SELECT 1 FROM alligator_waits o "
    "WHERE o.child = w.child AND (o.queue <> ? OR o.parent <> ?)) ORDER BY t.place"
)
_CHILDREN = (
    "SELECT t.id, t.queue, t.task_id, w.unconditional FROM alligator_waits w "
    "JOIN alligator_tasks t ON t.id = w.child WHERE w.queue = ? AND w.parent = ? ORDER BY t.place"
)

_END_ONE = "DELETE FROM alligator_waits WHERE queue = ? AND parent = ? AND child = ?"
_IF_FREE = (
    "SELECT id, queue, due FROM alligator_tasks WHERE id = ? "
    "AND NOT EXISTS (SELECT 1 FROM alligator_waits WHERE child = ?)"
)


def release(tx: Transaction, queue: str, parent: str) -> None:
    """Queue the children that waited for this parent alone: it has succeeded."""
    if not tx.has_children():
        return
    rows = tx.execute(_FREE, (queue, parent, queue, parent)).fetchall()
    tx.execute("DELETE FROM alligator_waits WHERE queue = ? AND parent = ?", (queue, parent))
    _queue(tx, rows)


def _queue(tx: Transaction, rows: Sequence[tuple[int, str, float]]) -> None:
    """Queue held children.

    :param rows: the row, the queue and the due time of each.
    """
    if not rows:
        return
    place = tx.tickets(len(rows))
    changes = []
    for offset, (row_id, child_queue, due) in enumerate(rows):
        state = DELAYED if due > tx.now else WAITING
        changes.append((state, due if state == DELAYED else 0.0, place + offset, row_id))
        tx.count(child_queue, HELD, -1)
        tx.count(child_queue, state, 1)
    tx.executemany("UPDATE alligator_tasks SET state = ?, due = ?, place = ? WHERE id = ?", changes)
    tx.news += len(rows)


def cancel(tx: Transaction, queue: str, parent: str, why: str) -> None:
    """Cancel the children of a parent that will not succeed, and their children in turn."""
    if not tx.has_children():
        return
    pending = [(queue, parent, why)]
    while pending:
        queue, parent, why = pending.pop()
        rows = tx.execute(_CHILDREN, (queue, parent)).fetchall()
        for row_id, child_queue, child, unconditional in rows:
            if unconditional:
                tx.execute(_END_ONE, (queue, parent, row_id))
                _queue(tx, tx.execute(_IF_FREE, (row_id, row_id)).fetchall())
                continue
            drop(tx, row_id, child_queue)
            save_canceled(tx, record_key(child_queue, child), why)
            pending.append((child_queue, child, gone_badly(child, CANCELED, why) or ""))


def drop(tx: Transaction, row_id: int, queue: str) -> None:
    """Take a held child off its queue."""
    forget(tx, row_id)
    tx.execute("DELETE FROM alligator_tasks WHERE id = ?", (row_id,))
    tx.count(queue, HELD, -1)


def forget(tx: Transaction, row_id: int) -> None:
    """Note that a child waits for no parent any more."""
    tx.execute("DELETE FROM alligator_waits WHERE child = ?", (row_id,))


def save_canceled(tx: Transaction, key: str, why: str) -> None:
    """Save a record that a child will not run, and why."""
    record = Record(CANCELED, error=CANCELED_BY.format(why), at=tx.now, pushed=tx.now)
    save(tx, key, record, KEEP_FAILED)


def waits_for(connection: sqlite3.Connection, queue: str, child: str, limit: int) -> Waits:
    """Return the parents that a child waits for."""
    rows = connection.execute(
        "SELECT w.queue, w.parent, count(*) OVER () FROM alligator_waits w "
        "JOIN alligator_tasks t ON t.id = w.child WHERE t.queue = ? AND t.task_id = ? "
        "ORDER BY w.queue, w.parent LIMIT ?",
        (queue, child, limit),
    ).fetchall()
    return Waits(rows[0][2] if rows else 0, [(name, parent) for name, parent, _ in rows])


def drop_held(tx: Transaction, queue: str, limit: int) -> int:
    """Take held children off a queue that is emptied, up to so many; return how many."""
    rows = tx.execute(
        "SELECT DISTINCT t.id FROM alligator_waits w JOIN alligator_tasks t ON t.id = w.child "
        "WHERE t.queue = ? LIMIT ?",
        (queue, limit),
    ).fetchall()
    for (row_id,) in rows:
        drop(tx, row_id, queue)
    return len(rows)


def cancel_all(tx: Transaction, queue: str) -> None:
    """Cancel all children of tasks on a queue that is emptied."""
    if not tx.has_children():
        return
    parents = tx.execute(
        "SELECT DISTINCT parent FROM alligator_waits WHERE queue = ?", (queue,)
    ).fetchall()
    for (each,) in parents:
        cancel(tx, queue, each, because_emptied(each))


def because_emptied(parent: str) -> str:
    """Return why the children of a parent cannot run: its queue is emptied."""
    return gone_badly(parent, CANCELED, "its queue was emptied") or ""
