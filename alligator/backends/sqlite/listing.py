"""List the tasks of a SQLite queue in a state, in order, a page at a time, and change nothing.

A page goes on after the last row of the page before, by the columns that order the rows; so it
reads an index from there, however many rows come first.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from alligator.backends.base import MAX_PRIORITY
from alligator.backends.cursors import no_cursor, read_cursor, write_cursor
from alligator.backends.types import Listed
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING

#: A page ends early once its tasks have so many bytes of data.
MOST_DATA = 4 << 20

#: What orders the rows of a part: two numbers and the id of the row; some parts need less.
Key = tuple[float, float, int]

_START: Key = (0, 0, -1)

#: The parts of the list of a state, one after the other.
_PARTS = {
    WAITING: ("ready", "kept", "following"),
    DELAYED: ("delayed",),
    RUNNING: ("running",),
    HELD: ("held",),
    FAILED: ("dead",),
}

# No error, not dead, and the deaths: one less while the holder of the lease is being stopped.
_ALIVE = "'', NULL, max(deaths, 0)"

# Of each part: the order, and what a list has of a row.
_COLUMNS = {
    "ready": f"priority, place, id, task_id, data, 0, priority, NULL, attempt, NULL, {_ALIVE}",
    "kept": f"priority, place, id, task_id, data, 0, priority, NULL, attempt, NULL, {_ALIVE}",
    "following": "0, 0, id, task_id, next_data, 0, next_priority, NULL, 0, NULL",
    "delayed": f"due, 0, id, task_id, data, 3, priority, due, attempt, NULL, {_ALIVE}",
    "running": f"ticket, 0, id, task_id, data, 6, priority, NULL, attempt, lease_ends, {_ALIVE}",
    "held": f"0, 0, id, task_id, data, 0, priority, NULL, attempt, NULL, {_ALIVE}",
    "dead": "0, 0, id, task_id, data, 2, priority, NULL, attempts, NULL, error, died_at",
}
_SELECT = {
    "same priority": (
        "FROM alligator_tasks WHERE queue = ? AND state = 0 AND priority = ? "
        "AND (place, id) > (?, ?) ORDER BY place, id"
    ),
    "lower priority": (
        "FROM alligator_tasks WHERE queue = ? AND state = 0 AND priority < ? "
        "ORDER BY priority DESC, place, id"
    ),
    "same priority, kept": (
        "FROM alligator_tasks WHERE queue = ? AND state = -4 AND priority = ? "
        "AND (place, id) > (?, ?) ORDER BY place, id"
    ),
    "lower priority, kept": (
        "FROM alligator_tasks WHERE queue = ? AND state = -4 AND priority < ? "
        "ORDER BY priority DESC, place, id"
    ),
    "following": (
        "FROM alligator_tasks WHERE queue = ? AND next_data IS NOT NULL AND id > ? ORDER BY id"
    ),
    "same due time": (
        "FROM alligator_tasks WHERE queue = ? AND state = 3 AND due = ? AND id > ? ORDER BY id"
    ),
    "later due time": (
        "FROM alligator_tasks WHERE queue = ? AND state = 3 AND due > ? ORDER BY due, id"
    ),
    "running": (
        "FROM alligator_tasks WHERE queue = ? AND state = 6 AND (ticket, id) > (?, ?) "
        "ORDER BY ticket, id"
    ),
    "held": (
        "FROM (SELECT DISTINCT child FROM alligator_waits WHERE child > ? ORDER BY child) "
        "JOIN alligator_tasks ON id = child WHERE queue = ?"
    ),
    "dead": "FROM alligator_dead WHERE queue = ? AND id < ? ORDER BY id DESC",
}
_PART_OF = {
    "same priority": "ready",
    "lower priority": "ready",
    "same priority, kept": "kept",
    "lower priority, kept": "kept",
    "same due time": "delayed",
    "later due time": "delayed",
}
_SQL = {
    name: f"SELECT {_COLUMNS[_PART_OF.get(name, name)]} {rest} LIMIT ?"
    for name, rest in _SELECT.items()
}


def list_tasks(
    connection: sqlite3.Connection, queue: str, state: int, limit: int, after: str | None
) -> tuple[list[Listed], str | None]:
    """Return a page; see ``Client.list_tasks``."""
    parts = _PARTS[state]
    part, key = parts[0], _START
    if after is not None:
        part, *numbers = read_cursor(after, str, float, float, int)
        if part not in parts:
            raise no_cursor(after)
        key = (numbers[0], numbers[1], numbers[2])
    page: list[Listed] = []
    size = 0
    last: tuple[str | float, ...] = ()
    for name in parts[parts.index(part) :]:
        for *order, task in _rows(connection, queue, name, key, limit + 1 - len(page)):
            if len(page) == limit or size > MOST_DATA:
                return page, write_cursor(*last)
            page.append(task)
            size += len(task.data)
            last = name, *order
        key = _START
    return page, None


def _rows(
    connection: sqlite3.Connection, queue: str, part: str, key: Key, limit: int
) -> Iterator[tuple[float, float, int, Listed]]:
    """Yield the rows of a part after a key."""
    first, second, row_id = key
    if part in ("ready", "kept"):
        same, others = "same priority", "lower priority"
        if part == "kept":
            same, others = f"{same}, kept", f"{others}, kept"
        values: Sequence[object] = (queue, first, second, row_id)
        first = first if row_id >= 0 else MAX_PRIORITY + 1
    elif part == "delayed":
        same, others = "same due time", "later due time"
        values = (queue, first, row_id)
    else:
        if part == "running":
            values = (queue, first, row_id)
        elif part == "following":
            values = (queue, row_id)
        elif part == "held":
            values = (row_id, queue)
        else:  # dead
            values = (queue, row_id if row_id >= 0 else _LAST)
        yield from _read(connection, part, (*values, limit))
        return
    # In two steps: with OR, or a comparison of pairs, it would read the index from its beginning.
    rows = list(_read(connection, same, (*values, limit))) if row_id >= 0 else []
    yield from rows
    if len(rows) < limit:
        yield from _read(connection, others, (queue, first, limit - len(rows)))


_LAST = (1 << 63) - 1  # no row has a higher id


def _read(
    connection: sqlite3.Connection, name: str, values: Sequence[object]
) -> Iterator[tuple[float, float, int, Listed]]:
    for first, second, row_id, *fields in connection.execute(_SQL[name], values):
        yield first, second, row_id, Listed(*fields)
