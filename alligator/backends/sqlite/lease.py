"""Who is next, as SQL: expired leases, due tasks, waiting ones."""

import sqlite3
from collections.abc import Iterable, Sequence

from alligator.backends.base import MAX_LEASE, Data, Delivery
from alligator.backends.sqlite.queue import settle
from alligator.backends.sqlite.schema import Step
from alligator.constants import DELAYED, RUNNING, WAITING

#: Taken off the place of a task whose delay has ended: ahead of all others of its priority.
_FRONT = 1 << 60

#: Four steps into indices: when something comes up by itself, and whether something waits.
_OUTLOOK = (
    "SELECT (SELECT min(due) FROM alligator_tasks WHERE queue = ? AND state = 3), "
    "(SELECT min(lease_ends) FROM alligator_tasks WHERE queue = ? AND state = 6), "
    "(SELECT max(lease_ends) FROM alligator_tasks WHERE queue = ? AND state = 6), "
    "EXISTS (SELECT 1 FROM alligator_tasks WHERE queue = ? AND state = 0)"
)

_NEVER = float("inf")

#: id, state, task_id, attempt, deaths, data
_Row = tuple[int, int, str, int, int, Data]


def next_change(connection: sqlite3.Connection, queue: str, now: float) -> float:
    """Return when a reserve has something to do: ``now``, or when a delay or lease ends."""
    due, ends, last_end, waiting = connection.execute(_OUTLOOK, (queue,) * 4).fetchone()
    if waiting or (last_end is not None and last_end > now + MAX_LEASE):
        return now
    return min(_NEVER if due is None else due, _NEVER if ends is None else ends)


def lease_next(step: Step, queues: Iterable[str], limit: int, lease: float) -> list[Delivery]:
    """Lease what is next; a task with a death on its record goes alone."""
    taken: list[Delivery] = []
    for queue in queues:
        due, ends, last_end, waiting = step.execute(_OUTLOOK, (queue,) * 4).fetchone()
        if ends is not None and not taken:
            _mend_leases(step, queue, last_end)
            if expired := _reclaim(step, queue, ends, lease):
                return [expired]
        if due is not None and due <= step.now:
            _promote_due(step, queue)
        elif not waiting and not step.news:
            continue
        rows = _first_in_line(step, queue, limit - len(taken))
        deadly = next((index for index, row in enumerate(rows) if row[4]), None)
        if deadly is not None:
            rows = rows[:1] if deadly == 0 and not taken else rows[:deadly]
        taken += _lease(step, queue, rows, lease)
        if deadly is not None or len(taken) >= limit:
            break
    return taken


def lease_one(step: Step, queues: Iterable[str], task_id: str, lease: float) -> list[Delivery]:
    """Lease this very task unless a live lease is on it."""
    for queue in queues:
        if row := _expired_or_idle(step, queue, task_id):
            if row[1] == RUNNING and settle(step, queue, row[0]):
                row = _expired_or_idle(step, queue, task_id)
                assert row is not None
            return _lease(step, queue, [row], lease)
    return []


def _expired_or_idle(step: Step, queue: str, task_id: str) -> _Row | None:
    row: _Row | None = step.execute(
        "SELECT id, state, task_id, attempt, deaths, data FROM alligator_tasks "
        "WHERE queue = ? AND task_id = ? AND state <> 7 AND (state <> 6 OR lease_ends <= ?)",
        (queue, task_id, step.now),
    ).fetchone()
    return row


def _first_in_line(step: Step, queue: str, limit: int) -> list[_Row]:
    return step.execute(
        "SELECT id, state, task_id, attempt, deaths, data FROM alligator_tasks "
        "WHERE queue = ? AND state = 0 ORDER BY priority DESC, place LIMIT ?",
        (queue, limit),
    ).fetchall()


def _lease(step: Step, queue: str, rows: Sequence[_Row], lease: float) -> list[Delivery]:
    if not rows:
        return []
    ticket = step.tickets()  # one for all: together with the id of the row it is unique
    ends = step.now + min(lease, MAX_LEASE)
    deliveries, changes = [], []
    for row_id, state, task_id, attempt, deaths, data in rows:
        died = deaths + (state == RUNNING)
        changes.append((ticket, attempt + 1, died, ends, row_id))
        deliveries.append(Delivery(queue, task_id, data, (row_id, ticket), attempt + 1, died))
        step.count(queue, state, -1)
    step.executemany(
        "UPDATE alligator_tasks SET state = 6, due = 0, ticket = ?, attempt = ?, deaths = ?, "
        "lease_ends = ? WHERE id = ?",
        changes,
    )
    step.count(queue, RUNNING, len(rows))
    return deliveries


def _mend_leases(step: Step, queue: str, last_end: float) -> None:
    latest = step.now + MAX_LEASE
    if last_end > latest:  # a clock set back must not make a lease immortal
        step.execute(
            "UPDATE alligator_tasks SET lease_ends = ? "
            "WHERE queue = ? AND state = 6 AND lease_ends > ?",
            (latest, queue, latest),
        )


def _reclaim(step: Step, queue: str, ends: float, lease: float) -> Delivery | None:
    while ends <= step.now:
        row = step.execute(
            "SELECT id, state, task_id, attempt, deaths, data FROM alligator_tasks "
            "WHERE queue = ? AND state = 6 AND lease_ends <= ? ORDER BY lease_ends LIMIT 1",
            (queue, step.now),
        ).fetchone()
        if row is None:
            break
        if not settle(step, queue, row[0]):
            return _lease(step, queue, [row], lease)[0]
    return None


def _promote_due(step: Step, queue: str) -> None:
    rows = step.execute(
        "SELECT id FROM alligator_tasks WHERE queue = ? AND state = 3 AND due <= ? "
        "ORDER BY due, place",
        (queue, step.now),
    ).fetchall()
    place = step.tickets(len(rows)) - _FRONT
    step.executemany(
        "UPDATE alligator_tasks SET state = 0, due = 0, place = ? WHERE id = ?",
        [(place + offset, row_id) for offset, (row_id,) in enumerate(rows)],
    )
    step.count(queue, DELAYED, -len(rows))
    step.count(queue, WAITING, len(rows))
