"""What is on record of tasks, as SQL, each inside a transaction that the caller opened."""

from alligator.backends.sqlite_schema import Step
from alligator.backends.store import Record

#: How many rows that have ended are deleted by the way.
SWEPT = 20

READ = (
    "SELECT state, result, error, traceback, at, attempt, pushed, place "
    "FROM alligator_records WHERE task_id = ? AND ends > ?"
)
_WRITE = (
    "INSERT INTO alligator_records "
    "(state, result, error, traceback, at, attempt, pushed, place, task_id, ends) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SWEEP = (
    "DELETE FROM alligator_records WHERE id IN "
    "(SELECT id FROM alligator_records WHERE ends <= ? LIMIT ?)"
)


def note(step: Step, task_id: str, record: Record, keep_seconds: float) -> bool:
    """Put down what became of a task; False: the record of a later run stands."""
    own = writable(task_id)
    standing = step.execute(
        "SELECT pushed, attempt FROM alligator_records WHERE task_id = ? AND ends > ?",
        (own, step.now),
    ).fetchone()
    if standing is not None and standing > record.fence:
        return False
    step.execute(_SWEEP, (step.now, SWEPT))
    step.execute("DELETE FROM alligator_records WHERE task_id = ?", (own,))
    if keep_seconds > 0:
        error, traceback = writable(record.error), writable(record.traceback)
        row = record._replace(error=error, traceback=traceback)
        step.execute(_WRITE, (*row, own, step.now + keep_seconds))
    step.execute("UPDATE alligator_counters SET n = n + 1 WHERE queue = '' AND state = -2")
    return True


def read(step: Step, task_id: str) -> Record | None:
    """Return what is known of a task."""
    row = step.execute(READ, (writable(task_id), step.now)).fetchone()
    return Record(*row) if row else None


def writable(text: str) -> str:
    """Return text as SQLite can keep it: what UTF-8 cannot carry is written out."""
    return text.encode("utf-8", "backslashreplace").decode()
