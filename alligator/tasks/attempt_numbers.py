"""Count the attempts at a task, as people see them.

``Delivery.attempt`` counts leases, since it fences: also those of a worker that fetched the task
ahead and handed it back. Here an attempt is what ``DeadTask.attempts`` counts: a run, a death of
the worker since the last run that ended in order, or a look for code that was missing since then.
"""

from typing import Any

from alligator.backends.base import Data, Delivery
from alligator.backends.types import Listed
from alligator.constants import FAILED, RUNNING
from alligator.exceptions import LeaveNow
from alligator.runtime.timeouts import TimeIsUp
from alligator.tasks.message import fields_in, fields_of, missed
from alligator.tasks.task import Task
from alligator.tasks.validation import MOST_RETRIES

#: Characters of a message that is read for its retries although it was never delivered before.
_LONGEST = 100_000


def attempts_before(data: Data, retried: int, deaths: int) -> int:
    """Return how often a task was attempted before it was delivered, or since it waits.

    :param retried: the retries that its message notes.
    :param deaths: the leases that ran out, as its delivery or its queue has them.
    """
    return retried + missed(data) + deaths


def number_of(delivery: Delivery, task: Any = None) -> int:
    """Return the number of this attempt at a task, from 1.

    Where the message does not note retries, as of a user's own Task class, count deliveries.

    :param task: the task of the message, before a retry is spent; None: it was not read.
    """
    retried = _noted(delivery.data, delivery.attempt - 1) if task is None else _told(task)
    if retried is None:
        return delivery.attempt
    return attempts_before(delivery.data, retried, delivery.deaths) + 1


def attempts_of(listed: Listed) -> int:
    """Return how many attempts at a task there were; of one on lease, that one included."""
    if listed.state == FAILED:  # who buried it counted them
        return listed.attempts
    is_leased = listed.state == RUNNING
    retried = _noted(listed.data, listed.attempts - is_leased)
    if retried is None:
        return listed.attempts
    return attempts_before(listed.data, retried, listed.deaths) + is_leased


def _told(task: Any) -> int | None:
    """Return the retries of a task; None: the user's own class may not count them."""
    try:
        retried = task.retried
        tells = retried or type(task).serialize is Task.serialize
    except (LeaveNow, TimeIsUp):
        raise
    except BaseException:
        return None
    return retried if tells and isinstance(retried, int) else None


def _noted(data: Data, deliveries: int) -> int | None:
    """Return the retries that a message notes, which any writer of the queue may have sent.

    :param deliveries: how often it was delivered before.
    :returns: None: it is no message of a :class:`Task`, and does not tell.
    """
    if not deliveries and len(data) > _LONGEST:
        return 0  # it would take long to read
    fields = fields_of(data)
    if "retries" not in fields:
        return None
    retried = fields_in(fields, "options").get("retried")
    return retried if isinstance(retried, int) and 0 <= retried <= MOST_RETRIES else 0
