"""Looking at queues: only reads, each a few steps into an index."""

import sqlite3

from alligator.backends.base import Data, DeadTask, Place
from alligator.backends.sqlite.records import STANDING
from alligator.backends.sqlite.schema import HELD, Identity, Position
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING


def counts(connection: sqlite3.Connection, queue: str) -> dict[int, int]:
    """Return how many tasks are in which state; what waits behind a running one waits."""
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
    """Return when the first in line was pushed."""
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
