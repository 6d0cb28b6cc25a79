"""Pushing and settling as SQL, each inside a transaction that the caller opened.

All values are parameters: nothing from a message, and no queue name, becomes SQL.
"""

from collections.abc import Sequence

from alligator.backends.base import MAX_LEASE, Data, Delivery, Message, Reason, Renew
from alligator.backends.sqlite import dependencies as children
from alligator.backends.sqlite import records
from alligator.backends.sqlite.records import writable
from alligator.backends.sqlite.schema import HELD, Position, Step
from alligator.backends.store import gone_badly
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING

#: Rows that one transaction deletes or moves, since all others who write wait for it.
AT_ONCE = 500


def push(step: Step, queue: str, messages: Sequence[Message]) -> Position:
    """Queue tasks, replace waiting ones, or note data down behind running ones."""
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
    """Do for an id that was there already what is to be done; nothing if it is this push."""
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


def settle(step: Step, queue: str, row_id: int) -> bool:
    """Let what was pushed behind a running task take over its row; False: nothing was."""
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


def is_held(step: Step, delivery: Delivery) -> bool:
    """Whether a delivery still has its lease."""
    row = step.execute(
        "SELECT 1 FROM alligator_tasks WHERE id = ? AND ticket = ?", delivery.receipt
    ).fetchone()
    return row is not None


_DELETE = "DELETE FROM alligator_tasks WHERE id = ? AND ticket = ? AND next_data IS NULL"


def _end(step: Step, delivery: Delivery) -> bool:
    """Remove a task that is still held, or let the data behind it take over."""
    if step.execute(_DELETE, delivery.receipt).rowcount:
        step.count(delivery.queue_name, RUNNING, -1)
        return True
    return is_held(step, delivery) and settle(step, delivery.queue_name, delivery.receipt[0])


def ack(step: Step, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Remove tasks that are done; return those overtaken."""
    left = set(step.without_effect(_DELETE, [each.receipt for each in deliveries]))
    refused = []
    done = []
    for index, each in enumerate(deliveries):
        if index not in left:
            step.count(each.queue_name, RUNNING, -1)
        elif not (is_held(step, each) and settle(step, each.queue_name, each.receipt[0])):
            refused.append(each)
            continue
        done.append((each.queue_name, each.task_id))
        children.release(step, each.queue_name, each.task_id)
    records.have_succeeded(step, done)
    return refused


def release(
    step: Step, delivery: Delivery, data: Data | None, delay_until: float | None, *, ran: bool
) -> bool:
    """Hand a task back: unrun to its place, with other data to the tail."""
    if not is_held(step, delivery):
        return False
    queue, row_id = delivery.queue_name, delivery.receipt[0]
    if settle(step, queue, row_id):
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
    """Take one death off in advance, which the end of such a lease adds again."""
    step.executemany(
        "UPDATE alligator_tasks SET deaths = ? WHERE id = ? AND ticket = ?",
        [(each.deaths - 1, *each.receipt) for each in deliveries],
    )


def bury(step: Step, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
    """Turn a leased task into a dead letter; an older one of its id is replaced."""
    if not is_held(step, delivery):
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
    """Queue dead letters again whose ids are not in use: some of those between two row ids.

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
