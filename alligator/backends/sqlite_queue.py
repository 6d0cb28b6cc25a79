"""The steps of the contract as SQL, each inside a transaction that the caller opened.

All values are parameters: nothing from a message, and no queue name, becomes SQL.
"""

import sqlite3
from collections.abc import Iterable, Sequence

from alligator.backends.base import MAX_LEASE, Data, Delivery, Message, Place, Reason
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING

#: Taken off the place of a task whose delay has ended: ahead of all others of its priority.
_FRONT = 1 << 60

_LEASED_COLUMNS = "id, task_id, data, attempt, deaths"


def _tickets(connection: sqlite3.Connection, how_many: int) -> int:
    """Return the first of so many new tickets."""
    row = connection.execute("UPDATE tickets SET n = n + ? RETURNING n", [how_many]).fetchone()
    return int(row[0]) - how_many + 1


def push(
    connection: sqlite3.Connection, queue: str, messages: Sequence[Message], now: float
) -> None:
    """Queue tasks, replace waiting ones, or note data down behind running ones."""
    place = _tickets(connection, len(messages))
    for offset, (task_id, data, delay_until, priority) in enumerate(messages):
        due = delay_until if delay_until and delay_until > now else 0.0
        state = DELAYED if due else WAITING
        inserted = connection.execute(
            "INSERT INTO tasks (queue, task_id, data, state, priority, place, due, pushed_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (queue, task_id) DO NOTHING",
            [queue, task_id, data, state, priority, place + offset, due, now],
        ).rowcount
        if not inserted:
            _push_again(connection, queue, messages[offset], due, place + offset)


def _push_again(
    connection: sqlite3.Connection, queue: str, message: Message, due: float, place: int
) -> None:
    task_id, data, _, priority = message
    connection.execute(
        "UPDATE tasks SET next_data = ?, next_due = ?, next_priority = ? "
        "WHERE queue = ? AND task_id = ? AND state = 6",
        [data, due, priority, queue, task_id],
    )
    connection.execute(
        "UPDATE tasks SET data = ?1, priority = ?2, due = ?3, "
        "state = CASE WHEN ?3 > 0 THEN 3 ELSE 0 END, "
        "place = CASE WHEN priority = ?2 AND due = ?3 THEN place ELSE ?4 END "
        "WHERE queue = ?5 AND task_id = ?6 AND state <> 6",
        [data, priority, due, place, queue, task_id],
    )


def has_work(connection: sqlite3.Connection, queue: str, now: float) -> bool:
    """Whether a reserve would find something, or has a lease of a clock set back to mend."""
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 0) "
        "OR EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 3 AND due <= ?2) "
        "OR EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 6 AND lease_ends <= ?2) "
        "OR EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 6 AND lease_ends > ?3)",
        [queue, now, now + MAX_LEASE],
    ).fetchone()
    return bool(row[0])


def next_change(connection: sqlite3.Connection, queue: str) -> float:
    """Return when something comes up by itself: a due time, or the end of a lease."""
    row = connection.execute(
        "SELECT (SELECT MIN(due) FROM tasks WHERE queue = ?1 AND state = 3), "
        "(SELECT MIN(lease_ends) FROM tasks WHERE queue = ?1 AND state = 6)",
        [queue],
    ).fetchone()
    return min((each for each in row if each is not None), default=float("inf"))


def lease_next(
    connection: sqlite3.Connection, queues: Iterable[str], limit: int, now: float, lease: float
) -> list[Delivery]:
    """Lease what is next: expired leases, due tasks, waiting ones; a death goes alone."""
    taken: list[Delivery] = []
    for queue in queues:
        if not taken and (expired := _reclaim(connection, queue, now, lease)):
            return [expired]
        _promote_due(connection, queue, now)
        rows = connection.execute(
            f"SELECT {_LEASED_COLUMNS} FROM tasks WHERE queue = ? AND state = 0 "  # noqa: S608
            "ORDER BY priority DESC, place LIMIT ?",
            [queue, limit - len(taken)],
        ).fetchall()
        deadly = next((index for index, row in enumerate(rows) if row[4]), None)
        alone = deadly is not None
        if deadly is not None:
            rows = rows[:1] if deadly == 0 and not taken else rows[:deadly]
        taken += _lease(connection, queue, rows, now, lease)
        if alone or len(taken) >= limit:
            break
    return taken


def lease_one(
    connection: sqlite3.Connection, queues: Iterable[str], task_id: str, now: float, lease: float
) -> list[Delivery]:
    """Lease this very task unless a live lease is on it."""
    for queue in queues:
        _end_expired(connection, queue, now, task_id)
        row = connection.execute(
            f"SELECT {_LEASED_COLUMNS} FROM tasks "  # noqa: S608
            "WHERE queue = ? AND task_id = ? AND (state <> 6 OR lease_ends <= ?)",
            [queue, task_id, now],
        ).fetchone()
        if row:
            connection.execute(
                "UPDATE tasks SET due = 0, deaths = deaths + (state = 6) WHERE id = ?", [row[0]]
            )
            died = connection.execute("SELECT deaths FROM tasks WHERE id = ?", [row[0]]).fetchone()
            return _lease(connection, queue, [(*row[:4], *died)], now, lease)
    return []


def _lease(
    connection: sqlite3.Connection,
    queue: str,
    rows: Sequence[tuple[int, str, Data, int, int]],
    now: float,
    lease: float,
) -> list[Delivery]:
    if not rows:
        return []
    ends = now + min(lease, MAX_LEASE)
    first = _tickets(connection, len(rows))
    connection.executemany(
        "UPDATE tasks SET state = 6, ticket = ?, attempt = attempt + 1, lease_ends = ? "
        "WHERE id = ?",
        [(first + offset, ends, row[0]) for offset, row in enumerate(rows)],
    )
    return [
        Delivery(queue, task_id, data, (row_id, first + offset), attempt + 1, deaths)
        for offset, (row_id, task_id, data, attempt, deaths) in enumerate(rows)
    ]


def _reclaim(
    connection: sqlite3.Connection, queue: str, now: float, lease: float
) -> Delivery | None:
    connection.execute(  # a clock set back must not make a lease immortal
        "UPDATE tasks SET lease_ends = ?1 WHERE queue = ?2 AND state = 6 AND lease_ends > ?1",
        [now + MAX_LEASE, queue],
    )
    _end_expired(connection, queue, now, None)
    row = connection.execute(
        f"SELECT {_LEASED_COLUMNS} FROM tasks "  # noqa: S608
        "WHERE queue = ? AND state = 6 AND lease_ends <= ? ORDER BY lease_ends LIMIT 1",
        [queue, now],
    ).fetchone()
    if row is None:
        return None
    connection.execute("UPDATE tasks SET deaths = deaths + 1 WHERE id = ?", [row[0]])
    return _lease(connection, queue, [(*row[:4], row[4] + 1)], now, lease)[0]


def _end_expired(
    connection: sqlite3.Connection, queue: str, now: float, task_id: str | None
) -> None:
    """Let data pushed behind an expired lease take over."""
    rows = connection.execute(
        "SELECT id FROM tasks WHERE queue = ?1 AND state = 6 AND lease_ends <= ?2 "
        "AND next_data IS NOT NULL AND (?3 IS NULL OR task_id = ?3)",
        [queue, now, task_id],
    ).fetchall()
    for (row_id,) in rows:
        _settle(connection, row_id, now)


def _promote_due(connection: sqlite3.Connection, queue: str, now: float) -> None:
    rows = connection.execute(
        "SELECT id FROM tasks WHERE queue = ? AND state = 3 AND due <= ? ORDER BY due, place",
        [queue, now],
    ).fetchall()
    if rows:
        place = _tickets(connection, len(rows)) - _FRONT
        connection.executemany(
            "UPDATE tasks SET state = 0, due = 0, place = ? WHERE id = ?",
            [(place + offset, row_id) for offset, (row_id,) in enumerate(rows)],
        )


def _settle(connection: sqlite3.Connection, row_id: int, now: float) -> None:
    """The task is done with; what was pushed under its id meanwhile takes its row."""
    place = _tickets(connection, 1)
    connection.execute(
        "UPDATE tasks SET data = next_data, priority = next_priority, place = ?1, "
        "due = CASE WHEN next_due > ?2 THEN next_due ELSE 0 END, "
        "state = CASE WHEN next_due > ?2 THEN 3 ELSE 0 END, pushed_at = ?2, ticket = 0, "
        "attempt = 0, deaths = 0, next_data = NULL, next_due = NULL, next_priority = NULL "
        "WHERE id = ?3 AND next_data IS NOT NULL",
        [place, now, row_id],
    )


def _end(connection: sqlite3.Connection, delivery: Delivery, now: float) -> bool:
    """Remove a task that is still held, or let the data behind it take over."""
    row_id, ticket = delivery.receipt
    gone = connection.execute(
        "DELETE FROM tasks WHERE id = ? AND ticket = ? AND next_data IS NULL", [row_id, ticket]
    ).rowcount
    if not gone and _held(connection, delivery):
        _settle(connection, row_id, now)
        return True
    return bool(gone)


def _held(connection: sqlite3.Connection, delivery: Delivery) -> bool:
    row = connection.execute(
        "SELECT 1 FROM tasks WHERE id = ? AND ticket = ? AND state = 6", list(delivery.receipt)
    ).fetchone()
    return row is not None


def ack(
    connection: sqlite3.Connection, deliveries: Iterable[Delivery], now: float
) -> list[Delivery]:
    """Remove tasks that are done; return those overtaken."""
    return [each for each in deliveries if not _end(connection, each, now)]


def release(
    connection: sqlite3.Connection,
    delivery: Delivery,
    data: Data | None,
    delay_until: float | None,
    now: float,
) -> bool:
    """Hand a task back: unrun to its place, as a retry to the tail."""
    if not _held(connection, delivery):
        return False
    row_id = delivery.receipt[0]
    due = delay_until if delay_until and delay_until > now else 0.0
    state = DELAYED if due else WAITING
    place = None if data is None and not due else _tickets(connection, 1)
    superseded = connection.execute(
        "SELECT next_data IS NOT NULL FROM tasks WHERE id = ?", [row_id]
    ).fetchone()
    if superseded[0]:
        _settle(connection, row_id, now)
        return True
    connection.execute(
        "UPDATE tasks SET state = ?, due = ?, ticket = 0, data = coalesce(?, data), "
        "place = coalesce(?, place) WHERE id = ?",
        [state, due, data, place, row_id],
    )
    return True


def extend(
    connection: sqlite3.Connection, deliveries: Iterable[Delivery], now: float, lease: float
) -> list[Delivery]:
    """Let leases run so many seconds from now; return the lost ones."""
    ends = now + min(lease, MAX_LEASE)
    return [
        each
        for each in deliveries
        if not connection.execute(
            "UPDATE tasks SET lease_ends = ? WHERE id = ? AND ticket = ? AND state = 6",
            [ends, *each.receipt],
        ).rowcount
    ]


def bury(
    connection: sqlite3.Connection,
    delivery: Delivery,
    data: Data | None,
    reason: Reason,
    now: float,
) -> bool:
    """Turn a leased task into a dead letter; an older one of its id is replaced."""
    if not _held(connection, delivery):
        return False
    connection.execute(
        "INSERT OR REPLACE INTO dead "
        "(queue, task_id, data, error, traceback, died_at, attempts, priority) "
        "SELECT queue, task_id, coalesce(?, data), ?, ?, ?, attempt, priority "
        "FROM tasks WHERE id = ?",
        [data, reason.error, reason.traceback, now, delivery.receipt[0]],
    )
    return _end(connection, delivery, now)


def revive(connection: sqlite3.Connection, queue: str, task_id: str | None, now: float) -> int:
    """Queue dead letters again whose ids are not in use."""
    rows = connection.execute(
        "SELECT id, task_id, data, priority FROM dead WHERE queue = ?1 "
        "AND (?2 IS NULL OR task_id = ?2) AND NOT EXISTS "
        "(SELECT 1 FROM tasks WHERE queue = ?1 AND tasks.task_id = dead.task_id) ORDER BY id",
        [queue, task_id],
    ).fetchall()
    messages = [Message(each, data, priority=priority) for _, each, data, priority in rows]
    if messages:
        push(connection, queue, messages, now)
        connection.executemany("DELETE FROM dead WHERE id = ?", [(row[0],) for row in rows])
    return len(rows)


def find(connection: sqlite3.Connection, queue: str, task_id: str) -> Place | None:
    """Return where a task stands."""
    row = connection.execute(
        "SELECT state, due, priority, place FROM tasks WHERE queue = ? AND task_id = ?",
        [queue, task_id],
    ).fetchone()
    if row is None:
        dead = connection.execute(
            "SELECT 1 FROM dead WHERE queue = ? AND task_id = ?", [queue, task_id]
        ).fetchone()
        return Place(FAILED) if dead else None
    state, due, priority, place = row
    if state != WAITING:
        return Place(state, due=due or None)
    (ahead,) = connection.execute(
        "SELECT count(*) FROM tasks WHERE queue = ?1 AND state = 0 "
        "AND (priority > ?2 OR (priority = ?2 AND place < ?3))",
        [queue, priority, place],
    ).fetchone()
    return Place(WAITING, ahead=ahead)


def counts(connection: sqlite3.Connection, queue: str) -> dict[int, int]:
    """Return how many tasks are in which state; what waits behind a running one waits."""
    found = dict.fromkeys((WAITING, DELAYED, RUNNING), 0)
    found.update(
        connection.execute("SELECT state, n FROM counts WHERE queue = ?", [queue]).fetchall()
    )
    (behind,) = connection.execute(
        "SELECT count(next_data) FROM tasks WHERE queue = ? AND state = 6", [queue]
    ).fetchone()
    (found[FAILED],) = connection.execute(
        "SELECT count(*) FROM dead WHERE queue = ?", [queue]
    ).fetchone()
    found[WAITING] += behind
    return found


def oldest(connection: sqlite3.Connection, queue: str) -> float | None:
    """Return when the first in line was pushed."""
    row = connection.execute(
        "SELECT pushed_at FROM tasks WHERE queue = ? AND state = 0 "
        "ORDER BY priority DESC, place LIMIT 1",
        [queue],
    ).fetchone()
    return float(row[0]) if row else None
