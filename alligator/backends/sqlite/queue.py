"""Keep queues as SQL: pushes, leases, what ends a lease, dead letters, and lookups.

Each function works inside a transaction that the caller opened; functions that only look take
a connection. All values are parameters: nothing from a message, and no queue name, becomes SQL.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from alligator.backends.base import MAX_LEASE, RATE
from alligator.backends.sqlite import dependencies as children
from alligator.backends.sqlite import limits, records
from alligator.backends.sqlite.records import VALID_LETTER, writable
from alligator.backends.sqlite.schema import KEPT
from alligator.backends.sqlite.transaction import Identity, Position, Transaction
from alligator.backends.store import gone_badly
from alligator.backends.task_controls import PUT_ASIDE, debounced, read_controls, write_controls
from alligator.backends.types import (
    MOST_COUNTED,
    ControlledMessage,
    Controls,
    Data,
    DeadTask,
    Delivery,
    Message,
    Place,
    Reason,
    Renew,
    controlled,
    controls_of,
)
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING

#: Rows that one transaction deletes or moves, since all other writers wait for it.
AT_ONCE = 500

#: Subtracted from the place of a task whose delay has ended: it goes first in its priority.
_FRONT = 1 << 60

#: Steps into indices: when a delay or a lease ends, a rate has a token, whether a task waits, and
#: when a pause ends.
_OUTLOOK = (
    "SELECT (SELECT min(due) FROM alligator_tasks WHERE queue = ? AND state = 3), "
    "(SELECT min(lease_ends) FROM alligator_tasks WHERE queue = ? AND state = 6), "
    "(SELECT max(lease_ends) FROM alligator_tasks WHERE queue = ? AND state = 6), "
    "(SELECT min(turn) FROM alligator_rates WHERE queue = ? AND turn IS NOT NULL), "
    "EXISTS (SELECT 1 FROM alligator_tasks WHERE queue = ? AND state = 0), "
    "(SELECT until FROM alligator_paused WHERE queue = ?)"
)

#: How many waiting tasks go before one, and after it, each counted up to a limit. Two ranges of an
#: index: with OR, or with both counts in one, it would read all of it.
_AHEAD = (
    "SELECT (SELECT count(*) FROM (SELECT 1 FROM alligator_tasks "
    "WHERE queue = ? AND state = 0 AND priority > ? LIMIT ?)) "
    "+ (SELECT count(*) FROM (SELECT 1 FROM alligator_tasks "
    "WHERE queue = ? AND state = 0 AND priority = ? AND place < ? LIMIT ?))"
)
_BEHIND = (
    "SELECT (SELECT count(*) FROM (SELECT 1 FROM alligator_tasks "
    "WHERE queue = ? AND state = 0 AND priority < ? LIMIT ?)) "
    "+ (SELECT count(*) FROM (SELECT 1 FROM alligator_tasks "
    "WHERE queue = ? AND state = 0 AND priority = ? AND place > ? LIMIT ?)), "
    "(SELECT n FROM alligator_counters WHERE queue = ? AND state = 0)"
)

#: Dead letters; a condition follows.
_LETTERS = "SELECT task_id, queue, data, error, traceback, died_at, attempts FROM alligator_dead"

_NEVER = float("inf")

_INSERT = (
    "INSERT INTO alligator_tasks "
    "(queue, task_id, state, priority, place, due, pushed_at, data) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (queue, task_id) DO NOTHING"
)
_INSERT_CONTROLLED = (
    "INSERT INTO alligator_tasks "
    "(queue, task_id, state, priority, place, due, pushed_at, data, "
    "controls, unique_key, key_since, key_attempt, limit_key) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (queue, task_id) DO NOTHING"
)

#: The task that has a unique key: one that waits, or follows a running one of its id. Nothing is
#: written when a task starts or ends: until then its row has the key.
_WITH_KEY = (
    "SELECT task_id, key_since, controls, state >= 6 OR attempt > coalesce(key_attempt, 0) "
    "FROM alligator_tasks WHERE queue = ? AND unique_key = ? "
    "AND (key_attempt IS NULL OR (state <> 6 AND attempt <= key_attempt)) UNION ALL "
    "SELECT task_id, key_since, next_controls, 0 "
    "FROM alligator_tasks WHERE queue = ? AND next_key = ? LIMIT 1"
)

#: id, state, task_id, attempt, deaths, data, controls
_Row = tuple[int, int, str, int, int, Data, str | None]

#: The controls as text, unique_key, key_since, key_attempt, limit_key
_Controls = tuple[str | None, str | None, float | None, int | None, str | None]
_NO_CONTROLS: _Controls = (None, None, None, None, None)


class Pending(NamedTuple):
    """A task that has a unique key."""

    task_id: str
    since: float  # when it took the key
    controls: Controls | None
    is_fixed: bool  # it is held, or has started, so that no push replaces it


def with_key(tx: Transaction, queue: str, key: str) -> Pending | None:
    """Return the task that has a unique key; None: it is free, or there is no key ('')."""
    row = key and tx.execute(_WITH_KEY, (queue, key, queue, key)).fetchone()
    if not row:
        return None
    return Pending(row[0], row[1], read_controls(row[2]), bool(row[3]))


def push_unique(
    tx: Transaction, queue: str, messages: Sequence[Message]
) -> tuple[Position, dict[int, str]]:
    """Queue those of some tasks whose unique keys are free.

    :returns: also the ids of the tasks that are pending instead, by index.
    """
    pending: dict[int, str] = {}
    position: Position | None = None
    for index, message in enumerate(messages):
        if isinstance(message, ControlledMessage) and (key := message.controls.unique_key):
            if (found := with_key(tx, queue, key)) is not None:
                pending[index] = found.task_id
                _push_over(tx, queue, found, message)
                continue
            message = debounced(message, tx.now, tx.now)
        begun = push(tx, queue, [message])
        position = position or begun
    return position or Position(tx.file, tx.tickets()), pending


def _push_over(tx: Transaction, queue: str, pending: Pending, message: ControlledMessage) -> None:
    """Replace the pending task by a message, if both are debounced and it can be."""
    own, task_id = pending.controls, pending.task_id
    if pending.is_fixed or not message.controls.debounce or own is None or not own.debounce:
        return
    data = message.data if message.data_for is None else message.data_for(task_id)
    replaced = debounced(message._replace(task_id=task_id, data=data), pending.since, tx.now)
    push(tx, queue, [replaced])
    tx.execute(
        "UPDATE alligator_tasks SET key_since = ? WHERE queue = ? AND task_id = ?",
        (pending.since, queue, task_id),
    )


def key_columns(message: Message, now: float) -> tuple[str | None, float | None, int | None]:
    """Return ``unique_key``, ``key_since`` and ``key_attempt`` of a task that is pushed."""
    controls = controls_of(message)
    if controls is None or not controls.unique_key:
        return None, None, None
    return controls.unique_key, now, 0 if controls.unique_until_start else None


def push(tx: Transaction, queue: str, messages: Sequence[Message]) -> Position:
    """Queue tasks, replace waiting ones, or keep them to follow running ones."""
    now, place = tx.now, tx.tickets(len(messages))
    records.overrule(tx, queue, (each.task_id for each in messages))
    tx.news += len(messages)
    rows = []
    for offset, (task_id, data, delay_until, priority) in enumerate(messages):
        due = delay_until if delay_until and delay_until > now else 0.0
        state = DELAYED if due else WAITING
        rows.append((queue, task_id, state, priority, place + offset, due, now, data))
    controls: list[_Controls] = []
    if ControlledMessage in set(map(type, messages)):
        controls = [_columns(each, now) for each in messages]
        pairs = zip(rows, controls, strict=True)
        inserted = tx.executemany(_INSERT_CONTROLLED, [(*row, *own) for row, own in pairs]).rowcount
    else:
        inserted = tx.executemany(_INSERT, rows).rowcount
    delayed = sum(row[2] == DELAYED for row in rows)
    tx.count(queue, DELAYED, delayed)
    tx.count(queue, WAITING, len(rows) - delayed)
    if inserted < len(rows):
        for index, row in enumerate(rows):
            _push_again(tx, row, controls[index] if controls else _NO_CONTROLS)
    if controls:
        _join_lines(tx, rows, [controls_of(each) for each in messages])
    return Position(tx.file, place)


_NewRow = tuple[str, str, int, int, int, float, float, Data]


def _columns(message: Message, now: float) -> _Controls:
    own = controls_of(message)
    return write_controls(own), *key_columns(message, now), limits.limit_key(own)


def _join_lines(
    tx: Transaction, rows: Sequence[_NewRow], controls: Sequence[Controls | None]
) -> None:
    """Keep new tasks back at once where others of their key are kept that go first."""
    for (queue, task_id, state, priority, place, *_), own in zip(rows, controls, strict=True):
        if own is None or state != WAITING:
            continue
        if line := limits.line_ahead(tx, queue, own, priority):
            found = tx.execute(
                "SELECT id FROM alligator_tasks WHERE queue = ? AND task_id = ? AND place = ? "
                "AND state = 0",
                (queue, task_id, place),
            ).fetchone()
            if found is not None:
                limits.keep_back(tx, queue, found[0], line, own)
                tx.news -= 1


def _push_again(tx: Transaction, row: _NewRow, controls: _Controls) -> None:
    """Push an id that was on the queue before; do nothing if it is of this very push."""
    queue, task_id, state, priority, place, due, _, data = row
    row_id, old_state, old_priority, old_place, old_due, old_text, old_key = tx.execute(
        "SELECT id, state, priority, place, due, controls, limit_key FROM alligator_tasks "
        "WHERE queue = ? AND task_id = ?",
        (queue, task_id),
    ).fetchone()
    if old_place == place:  # no other has this ticket: it went in just now
        return
    tx.count(queue, state, -1)
    if old_state == RUNNING:
        tx.execute(
            "UPDATE alligator_tasks SET next_data = ?, next_due = ?, next_priority = ?, "
            "next_controls = ?, next_key = ?, key_since = ? WHERE id = ?",
            (data, due, priority, *controls[:3], row_id),
        )
        return
    if old_state == HELD:
        children.forget(tx, row_id)
    same = (WAITING if old_state == KEPT else old_state) == state
    if same and (old_priority, old_due) == (priority, due):
        place = old_place
        if old_state == KEPT and controls[0] == old_text:
            state = KEPT
    tx.count(queue, old_state, -1)
    tx.count(queue, state, 1)
    tx.execute(
        "UPDATE alligator_tasks SET data = ?, priority = ?, due = ?, state = ?, place = ?, "
        "controls = ?, unique_key = ?, key_since = ?, key_attempt = attempt + ?, limit_key = ? "
        "WHERE id = ?",
        (data, priority, due, state, place, *controls, row_id),
    )
    limits.promote(tx, queue, old_key)


def next_change(connection: sqlite3.Connection, queue: str, now: float) -> float:
    """Return when a task can be leased: ``now``, or when a delay or a lease ends."""
    row = connection.execute(_OUTLOOK, (queue,) * 6).fetchone()
    due, ends, last_end, turn, waiting, paused = row
    if paused is not None and paused > now:
        return float(paused)
    if waiting or (last_end is not None and last_end > now + MAX_LEASE):
        return now
    return min(_NEVER if each is None else each for each in (due, ends, turn))


def lease_next(tx: Transaction, queues: Iterable[str], limit: int, lease: float) -> list[Delivery]:
    """Lease the next tasks; a task with a death on its record goes alone."""
    taken: list[Delivery] = []
    for queue in queues:
        row = tx.execute(_OUTLOOK, (queue,) * 6).fetchone()
        due, ends, last_end, turn, waiting, paused = row
        if paused is not None and paused > tx.now:
            continue
        if ends is not None and not taken:
            _mend_leases(tx, queue, last_end)
            if expired := _reclaim(tx, queue, ends, lease):
                return [expired]
        if turn is not None and turn <= tx.now:
            limits.promote_turns(tx, queue)
        if due is not None and due <= tx.now:
            _promote_due(tx, queue)
        elif not waiting and not tx.news:
            continue
        rows = _first_in_line(tx, queue, limit - len(taken))
        if any(row[6] for row in rows):
            if _lease_controlled(tx, queue, taken, limit, lease):
                break
            continue
        deadly = next((index for index, row in enumerate(rows) if row[4]), None)
        if deadly is not None:
            rows = rows[:1] if deadly == 0 and not taken else rows[:deadly]
        taken += _lease(tx, queue, rows, lease)
        if deadly is not None or len(taken) >= limit:
            break
    return taken


def _lease_controlled(
    tx: Transaction, queue: str, taken: list[Delivery], limit: int, lease: float
) -> bool:
    """Lease tasks one by one, and keep those back that may not start yet.

    Returns whether later queues have to wait: it is full, or a task has to go alone, or there are
    tasks to be looked at.
    """
    looks = 0
    while len(taken) < limit:
        rows = _first_in_line(tx, queue, max(limit - len(taken), 50))
        if not rows:
            return False
        for row in rows:
            controls = read_controls(row[6])
            if controls is not None and (line := limits.kept_by(tx, queue, controls)):
                limits.keep_back(tx, queue, row[0], line, controls)
                looks += 1
                continue
            if row[4] and taken:
                return True
            taken += _lease(tx, queue, [row], lease)
            if row[4] or len(taken) >= limit:
                return True
        if looks >= limits.AT_ONCE:
            tx.more = not taken
            return True
    return True


def lease_one(
    tx: Transaction, queues: Iterable[str], task_id: str, lease: float, *, to_run: bool = True
) -> list[Delivery]:
    """Lease this very task unless a live lease is on it, or (``to_run``) it is kept back."""
    for queue in queues:
        if row := _expired_or_idle(tx, queue, task_id):
            if row[1] == RUNNING and queue_following(tx, queue, row[0]):
                row = _expired_or_idle(tx, queue, task_id)
                assert row is not None
            controls = read_controls(row[6])
            if to_run and controls is not None and limits.kept_by(tx, queue, controls, row[0]):
                return []
            return _lease(tx, queue, [row], lease, to_run=to_run)
    return []


def _expired_or_idle(tx: Transaction, queue: str, task_id: str) -> _Row | None:
    row: _Row | None = tx.execute(
        "SELECT id, state, task_id, attempt, deaths, data, controls FROM alligator_tasks "
        "WHERE queue = ? AND task_id = ? AND state <> 7 AND (state <> 6 OR lease_ends <= ?)",
        (queue, task_id, tx.now),
    ).fetchone()
    return row


def _first_in_line(tx: Transaction, queue: str, limit: int) -> list[_Row]:
    return tx.execute(
        "SELECT id, state, task_id, attempt, deaths, data, controls FROM alligator_tasks "
        "WHERE queue = ? AND state = 0 ORDER BY priority DESC, place LIMIT ?",
        (queue, limit),
    ).fetchall()


def _lease(
    tx: Transaction, queue: str, rows: Sequence[_Row], lease: float, *, to_run: bool = True
) -> list[Delivery]:
    if not rows:
        return []
    ticket = tx.tickets()  # one for all: together with the id of the row it is unique
    ends = tx.now + min(lease, MAX_LEASE)
    deliveries, changes = [], []
    for row_id, state, task_id, attempt, deaths, data, text in rows:
        if text and to_run and (controls := read_controls(text)) and controls.rate:
            limits.take_token(tx, queue, controls)
        died = deaths + (state == RUNNING)
        changes.append((ticket, attempt + 1, died, ends, row_id))
        deliveries.append(Delivery(queue, task_id, data, (row_id, ticket), attempt + 1, died))
    tx.executemany(
        "UPDATE alligator_tasks SET state = 6, due = 0, ticket = ?, attempt = ?, deaths = ?, "
        "lease_ends = ? WHERE id = ?",
        changes,
    )
    states = [row[1] for row in rows]
    for state in set(states):
        tx.count(queue, state, -states.count(state))
    tx.count(queue, RUNNING, len(rows))
    return deliveries


def _mend_leases(tx: Transaction, queue: str, last_end: float) -> None:
    latest = tx.now + MAX_LEASE
    if last_end > latest:  # a clock set back must not make a lease immortal
        tx.execute(
            "UPDATE alligator_tasks SET lease_ends = ? "
            "WHERE queue = ? AND state = 6 AND lease_ends > ?",
            (latest, queue, latest),
        )


def _reclaim(tx: Transaction, queue: str, ends: float, lease: float) -> Delivery | None:
    while ends <= tx.now:
        row = tx.execute(
            "SELECT id, state, task_id, attempt, deaths, data, controls FROM alligator_tasks "
            "WHERE queue = ? AND state = 6 AND lease_ends <= ? ORDER BY lease_ends LIMIT 1",
            (queue, tx.now),
        ).fetchone()
        if row is None:
            break
        if queue_following(tx, queue, row[0]):
            continue
        controls = read_controls(row[6])
        line = controls and limits.kept_by(tx, queue, controls, row[0])
        if not (controls and line):
            return _lease(tx, queue, [row], lease)[0]
        tx.execute(
            "UPDATE alligator_tasks SET state = 0, due = 0, ticket = 0, deaths = deaths + 1 "
            "WHERE id = ?",
            row[:1],
        )
        tx.count(queue, RUNNING, -1)
        tx.count(queue, WAITING, 1)
        limits.keep_back(tx, queue, row[0], line, controls)
        limits.promote(tx, queue, limits.limit_key(controls))
    return None


def _promote_due(tx: Transaction, queue: str) -> None:
    rows = tx.execute(
        "SELECT id FROM alligator_tasks WHERE queue = ? AND state = 3 AND due <= ? "
        "ORDER BY due, place",
        (queue, tx.now),
    ).fetchall()
    place = tx.tickets(len(rows)) - _FRONT
    tx.executemany(
        "UPDATE alligator_tasks SET state = 0, due = 0, place = ? WHERE id = ?",
        [(place + offset, row_id) for offset, (row_id,) in enumerate(rows)],
    )
    tx.count(queue, DELAYED, -len(rows))
    tx.count(queue, WAITING, len(rows))


def queue_following(tx: Transaction, queue: str, row_id: int) -> bool:
    """Queue the task that was pushed under the id of a running one; False: there is none."""
    row = tx.execute(
        "SELECT next_due, task_id, next_controls, limit_key FROM alligator_tasks "
        "WHERE id = ? AND next_data IS NOT NULL",
        (row_id,),
    ).fetchone()
    if row is None:
        return False
    records.overrule(tx, queue, [row[1]])
    due = row[0] if row[0] > tx.now else 0.0
    state = DELAYED if due else WAITING
    controls = read_controls(row[2])
    until_start = controls is not None and controls.unique_until_start
    tx.execute(
        "UPDATE alligator_tasks SET data = next_data, priority = next_priority, place = ?, "
        "due = ?, state = ?, pushed_at = ?, ticket = 0, attempt = 0, deaths = 0, "
        "controls = next_controls, next_controls = NULL, "
        "unique_key = next_key, next_key = NULL, key_attempt = ?, limit_key = ?, "
        "next_data = NULL, next_due = NULL, next_priority = NULL WHERE id = ?",
        (
            *(tx.tickets(), due, state, tx.now, 0 if until_start else None),
            *(limits.limit_key(controls), row_id),
        ),
    )
    limits.promote(tx, queue, row[3])
    tx.count(queue, RUNNING, -1)
    tx.count(queue, state, 1)
    tx.news += 1
    return True


def is_leased(tx: Transaction, delivery: Delivery) -> bool:
    """Return whether a delivery still has its lease."""
    row = tx.execute(
        "SELECT 1 FROM alligator_tasks WHERE id = ? AND ticket = ?", delivery.receipt
    ).fetchone()
    return row is not None


_DELETE = (
    "DELETE FROM alligator_tasks WHERE id = ? AND ticket = ? AND next_data IS NULL "
    "AND limit_key IS NULL"
)
_DELETE_LIMITED = (
    "DELETE FROM alligator_tasks WHERE id = ? AND ticket = ? AND next_data IS NULL "
    "RETURNING limit_key"
)


def _end(tx: Transaction, delivery: Delivery) -> bool:
    """Remove a task on lease, or queue the one that follows it."""
    if tx.execute(_DELETE, delivery.receipt).rowcount:
        tx.count(delivery.queue_name, RUNNING, -1)
        return True
    if limited := tx.execute(_DELETE_LIMITED, delivery.receipt).fetchone():
        tx.count(delivery.queue_name, RUNNING, -1)
        limits.promote(tx, delivery.queue_name, limited[0])
        return True
    return is_leased(tx, delivery) and queue_following(tx, delivery.queue_name, delivery.receipt[0])


def ack(tx: Transaction, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Remove tasks that are done; return those overtaken."""
    left = set(tx.without_effect(_DELETE, [each.receipt for each in deliveries]))
    removed = [each.queue_name for index, each in enumerate(deliveries) if index not in left]
    for name in set(removed):
        tx.count(name, RUNNING, -removed.count(name))
    refused: dict[int, Delivery] = {}
    done = deliveries
    if left:
        ended = {index: deliveries[index] for index in sorted(left)}
        refused = {index: each for index, each in ended.items() if not _end(tx, each)}
        done = [each for index, each in enumerate(deliveries) if index not in refused]
    if done and tx.has_children():
        for each in done:
            children.release(tx, each.queue_name, each.task_id)
    records.have_succeeded(tx, done)
    return list(refused.values())


def release(
    tx: Transaction, delivery: Delivery, data: Data | None, delay_until: float | None, *, ran: bool
) -> bool:
    """Queue a leased task again: unrun in its place, with other data at the tail."""
    if not is_leased(tx, delivery):
        return False
    queue, row_id = delivery.queue_name, delivery.receipt[0]
    if queue_following(tx, queue, row_id):
        return True
    (text,) = tx.execute("SELECT controls FROM alligator_tasks WHERE id = ?", (row_id,)).fetchone()
    due = delay_until if delay_until and delay_until > tx.now else 0.0
    state = DELAYED if due else WAITING
    place = None if data is None and not due else tx.tickets()
    tx.execute(
        "UPDATE alligator_tasks SET state = ?, due = ?, ticket = 0, data = coalesce(?, data), "
        "place = coalesce(?, place), deaths = ? WHERE id = ?",
        (state, due, data, place, 0 if ran else delivery.deaths, row_id),
    )
    tx.count(queue, RUNNING, -1)
    tx.count(queue, state, 1)
    tx.news += 1
    if controls := read_controls(text):
        aside = data is None and 0 < due - tx.now <= PUT_ASIDE
        if not (aside and delivery.deaths > 0):
            limits.promote(tx, queue, limits.limit_key(controls))
        if not ran:
            limits.give_back_token(tx, queue, controls)
    return True


def extend(tx: Transaction, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
    """Let leases run so many seconds from now; return the lost ones."""
    ends = tx.now + min(lease, MAX_LEASE)
    lost = tx.without_effect(
        "UPDATE alligator_tasks SET lease_ends = ? WHERE id = ? AND ticket = ?",
        [(ends, *each.receipt) for each in deliveries],
    )
    return [deliveries[index] for index in lost]


def note_stop(tx: Transaction, deliveries: Sequence[Delivery]) -> None:
    """Subtract one death in advance, which the end of such a lease adds again."""
    tx.executemany(
        "UPDATE alligator_tasks SET deaths = ? WHERE id = ? AND ticket = ?",
        [(each.deaths - 1, *each.receipt) for each in deliveries],
    )


def bury(tx: Transaction, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
    """Turn a leased task into a dead letter; an older one of its id is replaced."""
    if not is_leased(tx, delivery):
        return False
    replaced = tx.execute(
        "DELETE FROM alligator_dead WHERE queue = ? AND task_id = ?",
        (delivery.queue_name, delivery.task_id),
    ).rowcount
    tx.execute(
        "DELETE FROM alligator_overruled WHERE queue = ? AND task_id = ?",
        (delivery.queue_name, delivery.task_id),
    )
    tx.execute(
        "INSERT INTO alligator_dead "
        "(queue, task_id, data, error, traceback, died_at, attempts, priority, controls) "
        "SELECT queue, task_id, coalesce(?, data), ?, ?, ?, ?, priority, controls "
        "FROM alligator_tasks WHERE id = ?",
        (data, *map(writable, reason), tx.now, delivery.attempt, delivery.receipt[0]),
    )
    tx.count(delivery.queue_name, FAILED, 1 - replaced)
    why = gone_badly(delivery.task_id, FAILED, reason.error) or ""
    children.cancel(tx, delivery.queue_name, delivery.task_id, why)
    return _end(tx, delivery)


def last_dead(tx: Transaction, queue: str) -> int:
    """Return the highest row id of a dead letter; 0: there is none."""
    row = tx.execute("SELECT max(id) FROM alligator_dead WHERE queue = ?", (queue,)).fetchone()
    return row[0] or 0


def revive(
    tx: Transaction, queue: str, task_id: str | None, renew: Renew | None, after: int, upto: int
) -> tuple[int, int]:
    """Queue some dead letters between two row ids again, whose ids are not in use.

    Returns how many, and the row id after which to go on; 0: that was all.
    """
    rows = tx.execute(
        "SELECT id, task_id, data, priority, controls FROM alligator_dead WHERE queue = ? "
        "AND (? IS NULL OR task_id = ?) AND id > ? AND id <= ? "
        "AND NOT EXISTS (SELECT 1 FROM alligator_tasks "
        "WHERE queue = ? AND alligator_tasks.task_id = alligator_dead.task_id) "
        "ORDER BY id LIMIT ?",
        (queue, task_id, task_id, after, upto, queue, AT_ONCE),
    ).fetchall()
    messages, revived, keys = list[Message](), [], set[str]()
    for row in rows:
        _, each, data, rank, text = row
        message, controls = Message(each, data, priority=rank), read_controls(text)
        if controls is not None:
            message, key = controlled(message, controls), controls.unique_key
            if key in keys or with_key(tx, queue, key):
                continue  # it stays dead
            keys |= {key} - {""}
        messages.append(message._replace(data=renew(each, data)) if renew else message)
        revived.append(row)
    if revived:
        push(tx, queue, messages)
        tx.executemany(
            "DELETE FROM alligator_overruled WHERE queue = ? AND task_id = ?",
            [(queue, row[1]) for row in revived],
        )
        tx.executemany("DELETE FROM alligator_dead WHERE id = ?", [row[:1] for row in revived])
        tx.count(queue, FAILED, -len(revived))
    return len(revived), rows[-1][0] if len(rows) == AT_ONCE else 0


def purge_dead(tx: Transaction, queue: str, older_than: float) -> int:
    """Delete some dead letters that died more than so many seconds ago."""
    records.forget_letters(
        tx,
        "id IN (SELECT id FROM alligator_dead WHERE queue = ? AND died_at <= ? LIMIT ?)",
        (queue, tx.now - older_than, AT_ONCE),
    )
    purged = tx.execute(
        "DELETE FROM alligator_dead WHERE id IN "
        "(SELECT id FROM alligator_dead WHERE queue = ? AND died_at <= ? LIMIT ?)",
        (queue, tx.now - older_than, AT_ONCE),
    ).rowcount
    tx.count(queue, FAILED, -purged)
    return purged


def delete_dead(tx: Transaction, queue: str, task_ids: Sequence[str]) -> int:
    """Delete dead letters by their ids; return how many there were."""
    deleted = 0
    for each in task_ids:
        which, values = "queue = ? AND task_id = ?", (queue, writable(each))
        records.forget_letters(tx, which, values)
        deleted += tx.execute(
            "DELETE FROM alligator_dead WHERE queue = ? AND task_id = ?", values
        ).rowcount
    tx.count(queue, FAILED, -deleted)
    return deleted


def run_now(tx: Transaction, queue: str, task_id: str) -> bool:
    """Let the delay of a task end; False: it is not delayed."""
    found = tx.execute(
        "UPDATE alligator_tasks SET due = min(due, ?) "
        "WHERE queue = ? AND task_id = ? AND state = 3",
        (tx.now, queue, writable(task_id)),
    ).rowcount
    tx.news += found
    return bool(found)


def drop_some(tx: Transaction, queue: str) -> bool:
    """Remove some tasks of the queue, or the last ones; return whether there are more."""
    limit = AT_ONCE
    if tx.has_children():
        limit //= 10  # each may have some to be canceled, with a record
        dropped = children.drop_held(tx, queue, limit)
        if dropped:
            _note_emptied(tx, queue)
        if dropped == limit:
            return True
    rows = tx.execute(
        "SELECT id, task_id, state, limit_key FROM alligator_tasks WHERE queue = ? LIMIT ?",
        (queue, limit),
    ).fetchall()
    if len(rows) == limit:
        if tx.has_children():
            for _, task_id, _, _ in rows:
                children.cancel(tx, queue, task_id, children.because_emptied(task_id))
        tx.executemany("DELETE FROM alligator_tasks WHERE id = ?", [row[:1] for row in rows])
        for _, _, state, key in rows:
            tx.count(queue, state, -1)
            limits.promote(tx, queue, key)
        _note_emptied(tx, queue)
        return True
    records.forget_letters(
        tx,
        "id IN (SELECT id FROM alligator_dead WHERE queue = ? LIMIT ?)",
        (queue, AT_ONCE),
    )
    dead = tx.execute(
        "DELETE FROM alligator_dead WHERE id IN "
        "(SELECT id FROM alligator_dead WHERE queue = ? LIMIT ?)",
        (queue, AT_ONCE),
    ).rowcount
    if dead == AT_ONCE:
        tx.count(queue, FAILED, -dead)
        _note_emptied(tx, queue)
        return True
    children.cancel_all(tx, queue)
    tasks = tx.execute("DELETE FROM alligator_tasks WHERE queue = ?", (queue,)).rowcount
    tx.execute("DELETE FROM alligator_rates WHERE queue = ?", (queue,))
    tx.forget_counts(queue)
    if tasks or dead:
        _note_emptied(tx, queue)
    return False


def _note_emptied(tx: Transaction, queue: str) -> None:
    tx.execute("INSERT OR REPLACE INTO alligator_emptied VALUES (?, ?)", (queue, tx.tickets()))


def pause(tx: Transaction, queue: str, until: float) -> None:
    """Let no task of a queue be leased before a time, a Unix timestamp."""
    tx.execute("INSERT OR REPLACE INTO alligator_paused VALUES (?, ?)", (queue, until))


def resume(tx: Transaction, queue: str) -> bool:
    """End the pause of a queue; False: it was not paused."""
    row = tx.execute("SELECT until FROM alligator_paused WHERE queue = ?", (queue,)).fetchone()
    tx.execute("DELETE FROM alligator_paused WHERE queue = ?", (queue,))
    tx.news += 1
    return row is not None and row[0] > tx.now


def paused(connection: sqlite3.Connection, queue: str) -> float | None:
    """Return until when a queue is paused, or was; None: it was not."""
    row = connection.execute(
        "SELECT until FROM alligator_paused WHERE queue = ?", (queue,)
    ).fetchone()
    return float(row[0]) if row else None


def counts(connection: sqlite3.Connection, queue: str) -> dict[int, int]:
    """Return how many tasks are in which state; one that follows a running one waits."""
    found = dict.fromkeys((WAITING, DELAYED, RUNNING, FAILED, HELD), 0)
    rows = connection.execute(
        "SELECT state, n FROM alligator_counters WHERE queue = ? AND state >= 0 UNION ALL "
        "SELECT 0, n FROM alligator_counters WHERE queue = ? AND state = -4 UNION ALL "
        "SELECT 0, count(*) FROM alligator_tasks WHERE queue = ? AND next_data IS NOT NULL",
        (queue, queue, queue),
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
    first = connection.execute(
        "SELECT pushed_at FROM (SELECT * FROM (SELECT pushed_at, priority, place "
        "FROM alligator_tasks WHERE queue = ? AND state = 0 ORDER BY priority DESC, place LIMIT 1) "
        "UNION ALL SELECT * FROM (SELECT pushed_at, priority, place "
        "FROM alligator_tasks WHERE queue = ? AND state = -4 ORDER BY priority DESC, place LIMIT 1)"
        ") ORDER BY priority DESC, place LIMIT 1",
        (queue, queue),
    ).fetchone()
    return float(first[0]) if first else None


def find(connection: sqlite3.Connection, queue: str, task_id: str) -> Place | None:
    """Return where a task stands."""
    row = connection.execute(
        "SELECT state, due, priority, place, lease_ends, line, attempt, max(deaths, 0) "
        "FROM alligator_tasks WHERE queue = ? AND task_id = ?",
        (queue, task_id),
    ).fetchone()
    if row is None:
        dead = connection.execute(VALID_LETTER, (queue, task_id)).fetchone()
        return Place(FAILED, attempts=dead[-1]) if dead else None
    state, due, priority, place, lease_ends, line, attempts, deaths = row
    found = Place(state, attempts=attempts, deaths=deaths)
    if state == KEPT:
        (turn,) = connection.execute(
            "SELECT (SELECT turn FROM alligator_rates WHERE queue = ? AND key = ?)",
            (queue, line.partition(" ")[2] if limits.kind_of(line) == RATE else None),
        ).fetchone()
        return found._replace(state=WAITING, due=turn, kept_by=limits.kind_of(line))
    if state == HELD:
        return found._replace(state=WAITING)
    if state == RUNNING:
        return found._replace(until=lease_ends)
    if state != WAITING:
        return found._replace(due=due or None)
    where = (queue, priority, MOST_COUNTED, queue, priority, place, MOST_COUNTED)
    (ahead,) = connection.execute(_AHEAD, where).fetchone()
    if ahead < MOST_COUNTED:
        return found._replace(ahead=ahead)
    behind, waiting = connection.execute(_BEHIND, (*where, queue)).fetchone()
    if behind < MOST_COUNTED:
        return found._replace(ahead=max(waiting - behind - 1, MOST_COUNTED))
    return found._replace(ahead=MOST_COUNTED, is_least=True)


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
    sql = f"{_LETTERS} WHERE queue = ? ORDER BY id DESC LIMIT ?"
    return [DeadTask(*row) for row in connection.execute(sql, (queue, limit)).fetchall()]


def letter(connection: sqlite3.Connection, queue: str, task_id: str) -> DeadTask | None:
    """Return one dead letter."""
    row = connection.execute(
        f"{_LETTERS} WHERE queue = ? AND task_id = ?", (queue, task_id)
    ).fetchone()
    return DeadTask(*row) if row else None
