"""Children that wait for their parents, as SQL, inside a transaction that the caller opened.

A held child is a row among the tasks, in a state of its own. Each of its parents is a row in
``alligator_waits``; a child in any other state has none there.
"""

import sqlite3

from alligator.backends.sqlite.records import note
from alligator.backends.sqlite.schema import HELD, Step
from alligator.backends.store import (
    CANCELED_BY,
    KEEP_FAILED,
    Record,
    Waits,
    gone_badly,
    record_key,
)
from alligator.constants import CANCELED, DELAYED, WAITING

_FREE = (
    "SELECT t.id, t.queue, t.due FROM alligator_waits w JOIN alligator_tasks t ON t.id = w.child "
    "WHERE w.queue = ? AND w.parent = ? AND NOT EXISTS (SELECT 1 FROM alligator_waits o "
    "WHERE o.child = w.child AND (o.queue <> ? OR o.parent <> ?)) ORDER BY t.place"
)
_CHILDREN = (
    "SELECT t.id, t.queue, t.task_id FROM alligator_waits w "
    "JOIN alligator_tasks t ON t.id = w.child WHERE w.queue = ? AND w.parent = ? ORDER BY t.place"
)


def release(step: Step, queue: str, parent: str) -> None:
    """Queue the children that waited for this parent alone: it has succeeded."""
    if not step.has_children():
        return
    rows = step.execute(_FREE, (queue, parent, queue, parent)).fetchall()
    step.execute("DELETE FROM alligator_waits WHERE queue = ? AND parent = ?", (queue, parent))
    if not rows:
        return
    place = step.tickets(len(rows))
    changes = []
    for offset, (row_id, child_queue, due) in enumerate(rows):
        state = DELAYED if due > step.now else WAITING
        changes.append((state, due if state == DELAYED else 0.0, place + offset, row_id))
        step.count(child_queue, HELD, -1)
        step.count(child_queue, state, 1)
    step.executemany(
        "UPDATE alligator_tasks SET state = ?, due = ?, place = ? WHERE id = ?", changes
    )
    step.news += len(rows)


def cancel(step: Step, queue: str, parent: str, why: str) -> None:
    """Cancel the children of a parent that will not succeed, and their children in turn."""
    if not step.has_children():
        return
    pending = [(queue, parent, why)]
    while pending:
        queue, parent, why = pending.pop()
        for row_id, child_queue, child in step.execute(_CHILDREN, (queue, parent)).fetchall():
            drop(step, row_id, child_queue)
            note_canceled(step, record_key(child_queue, child), why)
            pending.append((child_queue, child, gone_badly(child, CANCELED, why) or ""))


def drop(step: Step, row_id: int, queue: str) -> None:
    """Take a held child off its queue."""
    forget(step, row_id)
    step.execute("DELETE FROM alligator_tasks WHERE id = ?", (row_id,))
    step.count(queue, HELD, -1)


def forget(step: Step, row_id: int) -> None:
    """Note that a child waits for no parent any more."""
    step.execute("DELETE FROM alligator_waits WHERE child = ?", (row_id,))


def note_canceled(step: Step, key: str, why: str) -> None:
    """Save a record that a child will not run, and why."""
    record = Record(CANCELED, error=CANCELED_BY.format(why), at=step.now, pushed=step.now)
    note(step, key, record, KEEP_FAILED)


def waits_for(connection: sqlite3.Connection, queue: str, child: str, limit: int) -> Waits:
    """Return the parents that a child waits for."""
    rows = connection.execute(
        "SELECT w.queue, w.parent, count(*) OVER () FROM alligator_waits w "
        "JOIN alligator_tasks t ON t.id = w.child WHERE t.queue = ? AND t.task_id = ? "
        "ORDER BY w.queue, w.parent LIMIT ?",
        (queue, child, limit),
    ).fetchall()
    return Waits(rows[0][2] if rows else 0, [(name, parent) for name, parent, _ in rows])


def drop_held(step: Step, queue: str, limit: int) -> int:
    """Take held children off a queue that is emptied, up to so many; return how many."""
    rows = step.execute(
        "SELECT DISTINCT t.id FROM alligator_waits w JOIN alligator_tasks t ON t.id = w.child "
        "WHERE t.queue = ? LIMIT ?",
        (queue, limit),
    ).fetchall()
    for (row_id,) in rows:
        drop(step, row_id, queue)
    return len(rows)


def cancel_all(step: Step, queue: str) -> None:
    """Cancel all children of tasks on a queue that is emptied."""
    if not step.has_children():
        return
    parents = step.execute(
        "SELECT DISTINCT parent FROM alligator_waits WHERE queue = ?", (queue,)
    ).fetchall()
    for (each,) in parents:
        cancel(step, queue, each, because_emptied(each))


def because_emptied(parent: str) -> str:
    """Return why the children of a parent cannot run: its queue is emptied."""
    return gone_badly(parent, CANCELED, "its queue was emptied") or ""
