"""Queues as SQL: pushes, leases, what ends a lease, dead letters, and looking.

Each function works inside a transaction that the caller opened; functions that only look take
a connection. All values are parameters: nothing from a message, and no queue name, becomes SQL.
"""

import sqlite3
from collections.abc import Iterable, Sequence

from alligator.backends.base import MAX_LEASE
from alligator.backends.sqlite import dependencies as children
from alligator.backends.sqlite import records
from alligator.backends.sqlite.records import STANDING, writable
from alligator.backends.sqlite.schema import HELD, Identity, Position, Step
from alligator.backends.store import gone_badly
from alligator.backends.types import Data, DeadTask, Delivery, Message, Place, Reason, Renew
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING

#: Rows that one transaction deletes or moves, since all other writers wait for it.
AT_ONCE = 500

#: Subtracted from the place of a task whose delay has ended: it goes first in its priority.
_FRONT = 1 << 60

#: Four steps into indices: when a delay or a lease ends, and whether a task waits.
_OUTLOOK = (
    "SELECT (SELECT min(due) FROM alligator_tasks WHERE queue = ? AND state = 3), "
    "(SELECT min(lease_ends) FROM alligator_tasks WHERE queue = ? AND state = 6), "
    "(SELECT max(lease_ends) FROM alligator_tasks WHERE queue = ? AND state = 6), "
    "EXISTS (SELECT 1 FROM alligator_tasks WHERE queue = ? AND state = 0)"
)

_NEVER = float("inf")

#: id, state, task_id, attempt, deaths, data
_Row = tuple[int, int, str, int, int, Data]


def push(step: Step, queue: str, messages: Sequence[Message]) -> Position:
    """Queue tasks, replace waiting ones, or keep them to follow running ones."""
    now, place = step.now, step.tickets(len(messages))
    records.overrule(step, queue, (each.task_id for each in messages))
    step.news += len(messages)
    rows = []
    for offset, (task_id, data, delay_until, priority) in enumerate(messages):
        due = delay_until if delay_until and delay_until > now else 0.0
        state = DELAYED if due else WAITING
        rows.append((queue, task_id, state, priority, place + offset, due, now, data))
    inserted = step.executemany(
        "INSERT INTO alligator_tasks "
        "(queue, task_id, state, priority, place, due, pushed_at, data) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (queue, task_id) DO NOTHING",
        rows,
    ).rowcount
    delayed = sum(row[2] == DELAYED for row in rows)
    step.count(queue, DELAYED, delayed)
    step.count(queue, WAITING, len(rows) - delayed)
    if inserted < len(rows):
        for row in rows:
            _push_again(step, row)
    return Position(step.file, place)


def _push_again(step: Step, row: tuple[str, str, int, int, int, float, float, Data]) -> None:
    """Push an id that was on the queue before; do nothing if it is of this very push."""
    queue, task_id, state, priority, place, due, _, data = row
    row_id, old_state, old_priority, old_place, old_due = step.execute(
        "SELECT id, state, priority, place, due FROM alligator_tasks "
        "WHERE queue = ? AND task_id = ?",
        (queue, task_id),
    ).fetchone()
    if old_place == place:  # no other has this ticket: it went in just now
        return
    step.count(queue, state, -1)
    if old_state == RUNNING:
        step.execute(
            "UPDATE alligator_tasks SET next_data = ?, next_due = ?, next_priority = ? "
            "WHERE id = ?",
            (data, due, priority, row_id),
        )
        return
    if old_state == HELD:
        children.forget(step, row_id)
    step.count(queue, old_state, -1)
    step.count(queue, state, 1)
    if (old_state, old_priority, old_due) == (state, priority, due):
        place = old_place
    step.execute(
        "UPDATE alligator_tasks SET data = ?, priority = ?, due = ?, state = ?, place = ? "
        "WHERE id = ?",
        (data, priority, due, state, place, row_id),
    )


def next_change(connection: sqlite3.Connection, queue: str, now: float) -> float:
    """Return when a task can be leased: ``now``, or when a delay or a lease ends."""
    due, ends, last_end, waiting = connection.execute(_OUTLOOK, (queue,) * 4).fetchone()
    if waiting or (last_end is not None and last_end > now + MAX_LEASE):
        return now
    return min(_NEVER if due is None else due, _NEVER if ends is None else ends)


def lease_next(step: Step, queues: Iterable[str], limit: int, lease: float) -> list[Delivery]:
    """Lease the next tasks; a task with a death on its record goes alone."""
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
            if row[1] == RUNNING and queue_following(step, queue, row[0]):
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
        if not queue_following(step, queue, row[0]):
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


def queue_following(step: Step, queue: str, row_id: int) -> bool:
    """Queue the task that was pushed under the id of a running one; False: there is none."""
    row = step.execute(
        "SELECT next_due, task_id FROM alligator_tasks WHERE id = ? AND next_data IS NOT NULL",
        (row_id,),
    ).fetchone()
    if row is None:
        return False
    records.overrule(step, queue, [row[1]])
    due = row[0] if row[0] > step.now else 0.0
    state = DELAYED if due else WAITING
    step.execute(
        "UPDATE alligator_tasks SET data = next_data, priority = next_priority, place = ?, "
        "due = ?, state = ?, pushed_at = ?, ticket = 0, attempt = 0, deaths = 0, "
        "next_data = NULL, next_due = NULL, next_priority = NULL WHERE id = ?",
        (step.tickets(), due, state, step.now, row_id),
    )
    step.count(queue, RUNNING, -1)
    step.count(queue, state, 1)
    step.news += 1
    return True


def is_leased(step: Step, delivery: Delivery) -> bool:
    """Return whether a delivery still has its lease."""
    row = step.execute(
        "SELECT 1 FROM alligator_tasks WHERE id = ? AND ticket = ?", delivery.receipt
    ).fetchone()
    return row is not None


_DELETE = "DELETE FROM alligator_tasks WHERE id = ? AND ticket = ? AND next_data IS NULL"


def _end(step: Step, delivery: Delivery) -> bool:
    """Remove a task on lease, or queue the one that follows it."""
    if step.execute(_DELETE, delivery.receipt).rowcount:
        step.count(delivery.queue_name, RUNNING, -1)
        return True
    return is_leased(step, delivery) and queue_following(
        step, delivery.queue_name, delivery.receipt[0]
    )


def ack(step: Step, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Remove tasks that are done; return those overtaken."""
    left = set(step.without_effect(_DELETE, [each.receipt for each in deliveries]))
    refused = []
    done = []
    for index, each in enumerate(deliveries):
        if index not in left:
            step.count(each.queue_name, RUNNING, -1)
        elif not (
            is_leased(step, each) and queue_following(step, each.queue_name, each.receipt[0])
        ):
            refused.append(each)
            continue
        done.append((each.queue_name, each.task_id))
        children.release(step, each.queue_name, each.task_id)
    records.have_succeeded(step, done)
    return refused


def release(
    step: Step, delivery: Delivery, data: Data | None, delay_until: float | None, *, ran: bool
) -> bool:
    """Queue a leased task again: unrun in its place, with other data at the tail."""
    if not is_leased(step, delivery):
        return False
    queue, row_id = delivery.queue_name, delivery.receipt[0]
    if queue_following(step, queue, row_id):
        return True
    due = delay_until if delay_until and delay_until > step.now else 0.0
    state = DELAYED if due else WAITING
    place = None if data is None and not due else step.tickets()
    step.execute(
        "UPDATE alligator_tasks SET state = ?, due = ?, ticket = 0, data = coalesce(?, data), "
        "place = coalesce(?, place), deaths = ? WHERE id = ?",
        (state, due, data, place, 0 if ran else delivery.deaths, row_id),
    )
    step.count(queue, RUNNING, -1)
    step.count(queue, state, 1)
    step.news += 1
    return True


def extend(step: Step, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
    """Let leases run so many seconds from now; return the lost ones."""
    ends = step.now + min(lease, MAX_LEASE)
    lost = step.without_effect(
        "UPDATE alligator_tasks SET lease_ends = ? WHERE id = ? AND ticket = ?",
        [(ends, *each.receipt) for each in deliveries],
    )
    return [deliveries[index] for index in lost]


def note_stop(step: Step, deliveries: Sequence[Delivery]) -> None:
    """Subtract one death in advance, which the end of such a lease adds again."""
    step.executemany(
        "UPDATE alligator_tasks SET deaths = ? WHERE id = ? AND ticket = ?",
        [(each.deaths - 1, *each.receipt) for each in deliveries],
    )


def bury(step: Step, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
    """Turn a leased task into a dead letter; an older one of its id is replaced."""
    if not is_leased(step, delivery):
        return False
    replaced = step.execute(
        "DELETE FROM alligator_dead WHERE queue = ? AND task_id = ?",
        (delivery.queue_name, delivery.task_id),
    ).rowcount
    step.execute(
        "DELETE FROM alligator_overruled WHERE queue = ? AND task_id = ?",
        (delivery.queue_name, delivery.task_id),
    )
    step.execute(
        "INSERT INTO alligator_dead "
        "(queue, task_id, data, error, traceback, died_at, attempts, priority) "
        "SELECT queue, task_id, coalesce(?, data), ?, ?, ?, ?, priority "
        "FROM alligator_tasks WHERE id = ?",
        (data, *map(writable, reason), step.now, delivery.attempt, delivery.receipt[0]),
    )
    step.count(delivery.queue_name, FAILED, 1 - replaced)
    why = gone_badly(delivery.task_id, FAILED, reason.error) or ""
    children.cancel(step, delivery.queue_name, delivery.task_id, why)
    return _end(step, delivery)


def last_dead(step: Step, queue: str) -> int:
    """Return the highest row id of a dead letter; 0: there is none."""
    row = step.execute("SELECT max(id) FROM alligator_dead WHERE queue = ?", (queue,)).fetchone()
    return row[0] or 0


def revive(
    step: Step, queue: str, task_id: str | None, renew: Renew | None, after: int, upto: int
) -> tuple[int, int]:
    """Queue some dead letters between two row ids again, whose ids are not in use.

    Returns how many, and the row id after which to go on; 0: that was all.
    """
    rows = step.execute(
        "SELECT id, task_id, data, priority FROM alligator_dead WHERE queue = ? "
        "AND (? IS NULL OR task_id = ?) AND id > ? AND id <= ? "
        "AND NOT EXISTS (SELECT 1 FROM alligator_tasks "
        "WHERE queue = ? AND alligator_tasks.task_id = alligator_dead.task_id) "
        "ORDER BY id LIMIT ?",
        (queue, task_id, task_id, after, upto, queue, AT_ONCE),
    ).fetchall()
    if rows:
        messages = [
            Message(each, renew(each, data) if renew else data, priority=rank)
            for _, each, data, rank in rows
        ]
        push(step, queue, messages)
        step.executemany(
            "DELETE FROM alligator_overruled WHERE queue = ? AND task_id = ?",
            [(queue, row[1]) for row in rows],
        )
        step.executemany("DELETE FROM alligator_dead WHERE id = ?", [row[:1] for row in rows])
        step.count(queue, FAILED, -len(rows))
    return len(rows), rows[-1][0] if len(rows) == AT_ONCE else 0


def purge_dead(step: Step, queue: str, older_than: float) -> int:
    """Delete some dead letters that died more than so many seconds ago."""
    records.forget_letters(
        step,
        "id IN (SELECT id FROM alligator_dead WHERE queue = ? AND died_at <= ? LIMIT ?)",
        (queue, step.now - older_than, AT_ONCE),
    )
    purged = step.execute(
        "DELETE FROM alligator_dead WHERE id IN "
        "(SELECT id FROM alligator_dead WHERE queue = ? AND died_at <= ? LIMIT ?)",
        (queue, step.now - older_than, AT_ONCE),
    ).rowcount
    step.count(queue, FAILED, -purged)
    return purged


def drop_some(step: Step, queue: str) -> bool:
    """Remove some tasks of the queue, or the last ones; return whether there are more."""
    limit = AT_ONCE
    if step.has_children():
        limit //= 10  # each may have some to be canceled, with a record
        dropped = children.drop_held(step, queue, limit)
        if dropped:
            _note_emptied(step, queue)
        if dropped == limit:
            return True
    rows = step.execute(
        "SELECT id, task_id, state FROM alligator_tasks WHERE queue = ? LIMIT ?", (queue, limit)
    ).fetchall()
    if len(rows) == limit:
        if step.has_children():
            for _, task_id, _ in rows:
                children.cancel(step, queue, task_id, children.because_emptied(task_id))
        step.executemany("DELETE FROM alligator_tasks WHERE id = ?", [row[:1] for row in rows])
        for _, _, state in rows:
            step.count(queue, state, -1)
        _note_emptied(step, queue)
        return True
    records.forget_letters(
        step,
        "id IN (SELECT id FROM alligator_dead WHERE queue = ? LIMIT ?)",
        (queue, AT_ONCE),
    )
    dead = step.execute(
        "DELETE FROM alligator_dead WHERE id IN "
        "(SELECT id FROM alligator_dead WHERE queue = ? LIMIT ?)",
        (queue, AT_ONCE),
    ).rowcount
    if dead == AT_ONCE:
        step.count(queue, FAILED, -dead)
        _note_emptied(step, queue)
        return True
    children.cancel_all(step, queue)
    tasks = step.execute("DELETE FROM alligator_tasks WHERE queue = ?", (queue,)).rowcount
    step.forget_counts(queue)
    if tasks or dead:
        _note_emptied(step, queue)
    return False


def _note_emptied(step: Step, queue: str) -> None:
    step.execute("INSERT OR REPLACE INTO alligator_emptied VALUES (?, ?)", (queue, step.tickets()))


def counts(connection: sqlite3.Connection, queue: str) -> dict[int, int]:
    """Return how many tasks are in which state; one that follows a running one waits."""
    found = dict.fromkeys((WAITING, DELAYED, RUNNING, FAILED, HELD), 0)
    rows = connection.execute(
        "SELECT state, n FROM alligator_counters WHERE queue = ? AND state >= 0 UNION ALL "
        "SELECT 0, count(*) FROM alligator_tasks WHERE queue = ? AND next_data IS NOT NULL",
        (queue, queue),
    )
    for state, how_many in rows:
        found[state] += how_many
    return found


def queue_names(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the queues that tasks were pushed to."""
    rows = connection.execute("SELECT DISTINCT queue FROM alligator_counters WHERE queue <> ''")
    return [name for (name,) in rows]


def oldest(connection: sqlite3.Connection, queue: str) -> float | None:
    """Return when the next task was pushed."""
    row = connection.execute(
        "SELECT pushed_at FROM alligator_tasks WHERE queue = ? AND state = 0 "
        "ORDER BY priority DESC, place LIMIT 1",
        (queue,),
    ).fetchone()
    return float(row[0]) if row else None


def find(connection: sqlite3.Connection, queue: str, task_id: str) -> Place | None:
    """Return where a task stands."""
    row = connection.execute(
        "SELECT state, due, priority, place, lease_ends FROM alligator_tasks "
        "WHERE queue = ? AND task_id = ?",
        (queue, task_id),
    ).fetchone()
    if row is None:
        dead = connection.execute(STANDING, (queue, task_id)).fetchone()
        return Place(FAILED) if dead else None
    state, due, priority, place, lease_ends = row
    if state == HELD:
        return Place(WAITING)
    if state == RUNNING:
        return Place(RUNNING, until=lease_ends)
    if state != WAITING:
        return Place(state, due=due or None)
    (ahead,) = connection.execute(  # two ranges of the index; with OR it would read all of it
        "SELECT (SELECT count(*) FROM alligator_tasks "
        "WHERE queue = ? AND state = 0 AND priority > ?) "
        "+ (SELECT count(*) FROM alligator_tasks "
        "WHERE queue = ? AND state = 0 AND priority = ? AND place < ?)",
        (queue, priority, queue, priority, place),
    ).fetchone()
    return Place(WAITING, ahead=ahead)


def position(connection: sqlite3.Connection, file: Identity) -> Position:
    """Return how far the history of the queues has come."""
    (ticket,) = connection.execute(
        "SELECT n FROM alligator_counters WHERE queue = '' AND state = -1"
    ).fetchone()
    return Position(file, ticket)


def emptied(connection: sqlite3.Connection, queue: str) -> int:
    """Return the ticket with which a queue was last emptied; 0: it never was."""
    row = connection.execute(
        "SELECT ticket FROM alligator_emptied WHERE queue = ?", (queue,)
    ).fetchone()
    return int(row[0]) if row else 0


def peek(connection: sqlite3.Connection, queue: str, task_id: str) -> Data | None:
    """Return the data of a task, dead ones included."""
    row = connection.execute(
        "SELECT data FROM alligator_tasks WHERE queue = ? AND task_id = ? UNION ALL "
        "SELECT data FROM alligator_dead WHERE queue = ? AND task_id = ?",
        (queue, task_id, queue, task_id),
    ).fetchone()
    return row[0] if row else None


def dead(connection: sqlite3.Connection, queue: str, limit: int) -> list[DeadTask]:
    """Return the dead letters, newest first."""
    rows = connection.execute(
        "SELECT task_id, queue, data, error, traceback, died_at, attempts FROM alligator_dead "
        "WHERE queue = ? ORDER BY id DESC LIMIT ?",
        (queue, limit),
    ).fetchall()
    return [DeadTask(*row) for row in rows]
