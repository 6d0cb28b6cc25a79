"""Keeping a child back, as SQL, inside a transaction that the caller opened."""

from alligator.backends.base import Message
from alligator.backends.sqlite import dependencies as children
from alligator.backends.sqlite import queue, records
from alligator.backends.sqlite.schema import HELD, Step
from alligator.backends.store import (
    Child,
    Parent,
    gone_badly,
    own_record_key,
    record_key,
    running_already,
    waits_for_itself,
)
from alligator.constants import CANCELED, FAILED, RUNNING, WAITING

_BELOW = (
    "WITH RECURSIVE below (queue, task_id) AS (SELECT ?, ? UNION SELECT t.queue, t.task_id "
    "FROM below b JOIN alligator_waits w ON w.queue = b.queue AND w.parent = b.task_id "
    "JOIN alligator_tasks t ON t.id = w.child) SELECT queue, task_id FROM below"
)


def hold(step: Step, child: Child) -> int:
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


def cancel_held(step: Step, name: str, task_id: str, why: str) -> bool:
    """Take a held child off its queue, and its own children; False: it is not held."""
    found = _row(step, name, task_id)
    if found is None or found[1] != HELD:
        return False
    children.drop(step, found[0], name)
    children.cancel(step, name, task_id, why)
    return True


def _below(step: Step, name: str, task_id: str) -> set[tuple[str, str]]:
    """Return who waits for a task, be it by way of others; and the task itself."""
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
    children.forget(step, row_id)
    step.execute("DELETE FROM alligator_tasks WHERE id = ?", (row_id,))
    step.count(name, state, -1)
    return ""


def _refuse(step: Step, name: str, task_id: str, why: str) -> int:
    _remove(step, name, task_id)
    records.overrule(step, name, [task_id])
    children.note_canceled(step, record_key(name, task_id), why)
    children.cancel(step, name, task_id, gone_badly(task_id, CANCELED, why) or "")
    return CANCELED
