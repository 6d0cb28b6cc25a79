"""Keep records of tasks as SQL, inside a transaction that the caller opened."""

from collections.abc import Iterable, Sequence

from alligator.backends.sqlite.transaction import Transaction
from alligator.backends.store import Record, queue_in_key, record_key
from alligator.backends.types import Delivery
from alligator.common.ids import is_generated, own_ids
from alligator.constants import CANCELED, FAILED

#: How many rows that have ended a write deletes as well.
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
_FORGET = "DELETE FROM alligator_records WHERE task_id = ? AND state IN (?, ?)"
_OVERRULE = (
    "INSERT OR REPLACE INTO alligator_overruled SELECT queue, task_id, died_at "
    "FROM alligator_dead WHERE queue = ? AND task_id = ?"
)
#: The dead letter of the last push of an id.
VALID_LETTER = (
    "SELECT error, attempts FROM alligator_dead d WHERE queue = ? AND task_id = ? AND NOT EXISTS "
    "(SELECT 1 FROM alligator_overruled o WHERE o.queue = d.queue AND o.task_id = d.task_id "
    "AND o.died_at = d.died_at)"
)
_SWEEP = (
    "DELETE FROM alligator_records WHERE id IN "
    "(SELECT id FROM alligator_records WHERE ends <= ? LIMIT ?)"
)


def save(tx: Transaction, task_id: str, record: Record, keep_seconds: float) -> bool:
    """Save the record of a task; False: the record of a later run stands."""
    own = writable(task_id)
    standing = tx.execute(
        "SELECT pushed, attempt FROM alligator_records WHERE task_id = ? AND ends > ?",
        (own, tx.now),
    ).fetchone()
    if standing is not None and standing > record.fence:
        return False
    tx.execute(_SWEEP, (tx.now, SWEPT))
    tx.execute("DELETE FROM alligator_records WHERE task_id = ?", (own,))
    if keep_seconds > 0:
        error, traceback = writable(record.error), writable(record.traceback)
        row = record._replace(error=error, traceback=traceback)
        tx.execute(_WRITE, (*row, own, tx.now + keep_seconds))
    tx.execute("UPDATE alligator_counters SET n = n + 1 WHERE queue = '' AND state = -2")
    return True


def overrule(tx: Transaction, queue: str, task_ids: Iterable[str]) -> None:
    """Forget failures and cancellations of the user's own ids among these, which are pushed."""
    if not (own := [each for each in task_ids if not is_generated(each)]):
        return
    tx.executemany(_OVERRULE, [(queue, each) for each in own])
    ids = [each for each in own if not queue_in_key(each)]
    keys = [writable(key) for each in ids for key in (record_key(queue, each), each)]
    tx.executemany(_FORGET, [(key, FAILED, CANCELED) for key in keys])


def have_succeeded(tx: Transaction, deliveries: Sequence[Delivery]) -> None:
    """Forget failures of the user's own ids among these, which are acked: of a past push."""
    if not (own := set(own_ids([each.task_id for each in deliveries]))):
        return
    keys = [
        record_key(each.queue_name, each.task_id)
        for each in deliveries
        if each.task_id in own and not queue_in_key(each.task_id)
    ]
    tx.executemany(_FORGET, [(writable(key), FAILED, FAILED) for key in keys])


def forget_letters(tx: Transaction, which: str, values: tuple[object, ...]) -> None:
    """Forget that some dead letters were overruled: they are about to be deleted.

    :param which: a condition for their rows, of ours.
    """
    sql = "DELETE FROM alligator_overruled WHERE (queue, task_id) IN "
    letters = f"(SELECT queue, task_id FROM alligator_dead WHERE {which})"  # noqa: S608 - ours
    tx.execute(sql + letters, values)


def read(tx: Transaction, task_id: str) -> Record | None:
    """Return what is known of a task."""
    row = tx.execute(READ, (writable(task_id), tx.now)).fetchone()
    return Record(*row) if row else None


def writable(text: str) -> str:
    """Return text as SQLite can keep it, with an escape for what UTF-8 cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode()
