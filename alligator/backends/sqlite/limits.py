"""Keep tasks back that a limit or a rate does not let start, as SQL, in the caller's transaction.

A task that is kept back is a row in a state of its own, in the line of the limit or the rate that
keeps it. Whatever ends a lease, or takes a waiting task away, promotes the first of the line.
"""

from alligator.backends.base import LIMIT, RATE
from alligator.backends.sqlite.schema import KEPT
from alligator.backends.sqlite.transaction import Transaction
from alligator.backends.task_controls import after_start, next_start, read_controls
from alligator.backends.types import Controls
from alligator.constants import WAITING

#: Tasks that one look keeps back at most; another look follows.
AT_ONCE = 1000

#: Lines of rates that one look promotes from.
_LINES = 100

#: Rates without a task on lease or in line, that a start forgets.
_SWEPT = 2

_FIRST = (
    "SELECT id, controls FROM alligator_tasks WHERE queue = ? AND state = -4 AND line = ? "
    "ORDER BY priority DESC, place LIMIT 1"
)
_PROMOTE = "UPDATE alligator_tasks SET state = 0, line = NULL WHERE id = ?"


def line_of(kind: str, key: str) -> str:
    """Return the name of a line; ``kind`` is LIMIT or RATE."""
    return f"{kind} {key}"


def kind_of(line: str | None) -> str:
    """Return LIMIT or RATE of a line; '': there is no line."""
    return (line or "").partition(" ")[0]


def limit_key(controls: Controls | None) -> str | None:
    """Return what the rows of a limit are counted by."""
    return controls.limit_key if controls is not None and controls.limit else None


def kept_by(tx: Transaction, queue: str, controls: Controls, own: int = 0) -> str | None:
    """Return the line that a task has to join; None: it may start.

    :param own: its row, if that is still on lease, which has ended.
    """
    if controls.limit:
        (held,) = tx.execute(
            "SELECT count(*) FROM (SELECT 1 FROM alligator_tasks WHERE queue = ? "
            "AND limit_key = ? AND state = 6 AND id <> ? LIMIT ?)",
            (queue, controls.limit_key, own, controls.limit),
        ).fetchone()
        if held >= controls.limit:
            return line_of(LIMIT, controls.limit_key)
    if controls.rate and next_start(_arrival(tx, queue, controls), tx.now, controls) > tx.now:
        return line_of(RATE, controls.rate_key)
    return None


def keep_back(tx: Transaction, queue: str, row_id: int, line: str, controls: Controls) -> None:
    """Put a waiting task in a line."""
    tx.execute("UPDATE alligator_tasks SET state = -4, line = ? WHERE id = ?", (line, row_id))
    tx.count(queue, WAITING, -1)
    tx.count(queue, KEPT, 1)
    if kind_of(line) == RATE:
        turn = next_start(_arrival(tx, queue, controls), tx.now, controls)
        tx.execute(
            "UPDATE alligator_rates SET turn = coalesce(turn, ?) WHERE queue = ? AND key = ?",
            (turn, queue, controls.rate_key),
        )
        promote(tx, queue, limit_key(controls))  # it leaves its place to one that has a token


def line_ahead(tx: Transaction, queue: str, controls: Controls, priority: int) -> str | None:
    """Return the line in which tasks are kept that go before a new one of that priority."""
    for kind, asked, key in (
        (LIMIT, controls.limit, controls.limit_key),
        (RATE, controls.rate, controls.rate_key),
    ):
        row = (
            asked
            and tx.execute(
                "SELECT priority FROM alligator_tasks WHERE queue = ? AND state = -4 AND line = ? "
                "ORDER BY priority DESC, place LIMIT 1",
                (queue, line_of(kind, key)),
            ).fetchone()
        )
        if row and row[0] >= priority:
            return line_of(kind, key)
    return None


def take_token(tx: Transaction, queue: str, controls: Controls) -> None:
    """Note that a task with a rate starts."""
    arrival = _arrival(tx, queue, controls)
    tx.execute(
        "DELETE FROM alligator_rates WHERE (queue, key) IN (SELECT queue, key FROM alligator_rates "
        "WHERE queue = ? AND turn IS NULL AND arrival <= ? LIMIT ?)",
        (queue, tx.now, _SWEPT),
    )
    tx.execute(
        "INSERT INTO alligator_rates (queue, key, arrival) VALUES (?, ?, ?) "
        "ON CONFLICT (queue, key) DO UPDATE SET arrival = excluded.arrival",
        (queue, controls.rate_key, after_start(arrival, tx.now, controls)),
    )


def give_back_token(tx: Transaction, queue: str, controls: Controls) -> None:
    """Note that a task was not run after all."""
    if controls.rate:
        tx.execute(
            "UPDATE alligator_rates SET arrival = arrival - ? WHERE queue = ? AND key = ?",
            (controls.rate_seconds / controls.rate, queue, controls.rate_key),
        )


def _arrival(tx: Transaction, queue: str, controls: Controls) -> float:
    row = tx.execute(
        "SELECT arrival FROM alligator_rates WHERE queue = ? AND key = ?",
        (queue, controls.rate_key),
    ).fetchone()
    return row[0] if row else 0.0


def promote(tx: Transaction, queue: str, key: str | None) -> None:
    """Let the next task that a limit keeps back try, as one of its key has gone; None: no key."""
    if key is None:
        return
    row = tx.execute(_FIRST, (queue, line_of(LIMIT, key))).fetchone()
    if row is not None:
        _promote(tx, queue, row[0])


def _promote(tx: Transaction, queue: str, row_id: int) -> None:
    tx.execute(_PROMOTE, (row_id,))
    tx.count(queue, KEPT, -1)
    tx.count(queue, WAITING, 1)
    tx.news += 1


def promote_turns(tx: Transaction, queue: str) -> None:
    """Let as many tasks that a rate keeps back try as there are tokens for."""
    rows = tx.execute(
        "SELECT key, arrival FROM alligator_rates WHERE queue = ? AND turn <= ? "
        "AND turn IS NOT NULL LIMIT ?",
        (queue, tx.now, _LINES),
    ).fetchall()
    for key, arrival in rows:
        turn: float | None = None
        while first := tx.execute(_FIRST, (queue, line_of(RATE, key))).fetchone():
            row_id, text = first
            controls = read_controls(text)
            if controls is not None and controls.rate:
                turn = next_start(arrival, tx.now, controls)
                if turn > tx.now:
                    break
                arrival = after_start(arrival, tx.now, controls)
            _promote(tx, queue, row_id)
            turn = None
        tx.execute(
            "UPDATE alligator_rates SET turn = ? WHERE queue = ? AND key = ?", (turn, queue, key)
        )
