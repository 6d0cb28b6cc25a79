"""What a Store promises: outcomes, marks and signs of life, beside the queues.

A *store* keeps what is known about tasks that are no longer on a queue, what was claimed,
and who is alive. locmem, sqlite and redis serve as store and as queue, each as
``Client.store``; for a queue that cannot (beanstalkd, SQS) a Gator names one:
``Gator('sqs://…', store='redis://…')``. The promises, which
``alligator.testing.StoreContract`` checks:

*Fenced.* A :class:`Record` of an earlier run never replaces that of a later one: a worker
that was stopped, overtaken and continued changes nothing with :meth:`Store.note`.

*Of one queue.* Records are kept under what :func:`record_key` makes of a queue and an id. To a
store it is text like any other; only those that keep children make such keys themselves.

*Of the last push.* Where store and queue are one, a push of an id of the user's own
(:func:`alligator.common.ids.is_own_id`) overrules what is known of earlier ones, in the same step:
their failure or cancellation is forgotten, and their dead letter says no more how that id stands
(to ``Client.find``, to children). So does an ack with a failure that was noted meanwhile.

*Gone when it is over.* Records and marks end by themselves, at the latest a few seconds
after their time; before it they stay.

*Nothing is missed.* :meth:`Store.watch` listens before its block begins, so that what
changes after the caller looked ends the next wait. Ended waits may be false alarms: look
again.

*Once.* Of all that claim one key, one is told True until the claim ends.

*Time, threads, forks, errors.* As with the queues: see ``alligator.backends.base``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from alligator.backends.types import (
    ENDED,
    Child,
    Delivery,
    Message,
    Parent,
    Queues,
    Record,
    Waits,
    Watch,
    Worker,
)
from alligator.common.ids import is_own_id
from alligator.common.text import shorten
from alligator.constants import CANCELED, FAILED
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption

__all__ = [
    "BAD",
    "CANCELED_BY",
    "ENDED",
    "KEEP_FAILED",
    "UNCONFIRMED",
    "Child",
    "Parent",
    "Queues",
    "Record",
    "Store",
    "Waits",
    "Watch",
    "Worker",
    "gone_badly",
    "id_in_key",
    "own_record_key",
    "queue_in_key",
    "record_key",
    "running_already",
    "waits_for_itself",
]

#: Seconds that failures and cancellations are kept on record.
KEEP_FAILED = 30 * 86_400.0

#: Seconds that a claim stands between a push and its confirmation, where these are two steps.
UNCONFIRMED = 30.0


#: States that a later push of the same id overrules.
BAD = frozenset({FAILED, CANCELED})

#: Between queue and id in the key of a record: neither can have it.
_SEPARATOR = "\x1f"


def record_key(queue_name: str, task_id: str) -> str:
    """Return under which key a store keeps what is known of a task.

    ::

        gator.store.record(record_key('images', 'order-17'))

    An id of Alligator's own making is unique, and is the key itself, as are all ids on record of
    Alligator 1.1. What is such a key already is returned as it is.
    """
    return own_record_key(queue_name, task_id) if is_own_id(task_id) else task_id


def own_record_key(queue_name: str, task_id: str) -> str:
    """Return the key of a task whose id is the user's own, whatever it looks like."""
    if _SEPARATOR in task_id:
        return task_id
    return f"{queue_name}{_SEPARATOR}{task_id}"


def id_in_key(key: str) -> str:
    """Return the id that a key is about."""
    return key.rpartition(_SEPARATOR)[2]


def queue_in_key(key: str) -> str:
    """Return the queue that a key is about; '': it says none."""
    return key.rpartition(_SEPARATOR)[0]


#: The error on the record of a child that was canceled, with the reason.
CANCELED_BY = "Canceled: {}"

_NO_CHILDREN = "This store keeps no 'depends_on'; use that of locmem, sqlite or redis."


def gone_badly(task_id: str, state: int, error: str) -> str | None:
    """Return why a child cannot run whose parent ended so; None: that parent succeeded."""
    how = {FAILED: "failed", CANCELED: "was canceled"}.get(state)
    if how is None:
        return None
    error = error.removeprefix(CANCELED_BY.format(""))
    parent = shorten(id_in_key(task_id))
    return f"its parent {parent} {how}" + (f": {shorten(error, 500)}" if error else ".")


def running_already(task_id: str) -> InvalidTask:
    """Return the error for a child whose id is in use."""
    task_id = shorten(id_in_key(task_id))
    return InvalidTask(
        f"Task {task_id} is running; what is to wait for others needs an id of its own."
    )


def waits_for_itself(task_id: str) -> InvalidTask:
    """Return the error for a child one of whose parents waits for a task of its id."""
    task_id = shorten(id_in_key(task_id))
    return InvalidTask(
        f"Task {task_id} is to wait for a task that waits for it; neither could ever run."
    )


class Store(ABC):
    """The contract. Constructing one connects to nothing; the first use does.

    :raises ConnectionLost: from any method: the server is out of reach, and it is unknown
        whether the call took effect. All of them may be repeated.
    """

    #: Whether :meth:`watch` also tells of tasks that start or end with nothing noted.
    follows_queues: ClassVar[bool] = False

    @property
    def home(self) -> Queues | None:
        """The client that this store belongs to; None: it has no queues of its own."""
        return None

    # -- Outcomes. ------------------------------------------------------------------------

    @abstractmethod
    def note(self, task_id: str, record: Record, keep_seconds: float) -> bool:
        """Put down what became of a task, and wake who watches it.

        A record with the same fence is replaced: that run has come further.

        :param task_id: what :func:`record_key` makes of its queue and its id.
        :param keep_seconds: for how long; 0 or less: not at all, but watchers are woken.
        :returns: False: the record of a later run stands, and nothing was changed.
        """

    @abstractmethod
    def record(self, task_id: str) -> Record | None:
        """Return what is known of a task; None: nothing, or no longer.

        :param task_id: its key, see :func:`record_key`.
        """

    def records(self, task_ids: Sequence[str]) -> list[Record | None]:
        """Return :meth:`record` of each, in their order, with as few round trips as can be."""
        return [self.record(each) for each in task_ids]

    @abstractmethod
    def forget(self, task_ids: Iterable[str]) -> None:
        """Delete records: their tasks are to run anew."""

    @abstractmethod
    def watch(
        self, task_ids: Sequence[str], queue_names: Sequence[str] = ()
    ) -> AbstractContextManager[Watch]:
        """Listen for :meth:`note` of any of these tasks. Look inside the block, then wait::

            with store.watch([task_id]) as watch:
                while not (found := store.record(task_id)) and time.monotonic() < deadline:
                    watch.wait(min(1.0, deadline - time.monotonic()))

        Nothing is asked of the server meanwhile, but where it cannot call (sqlite: a look at
        the version of the file).

        :param queue_names: with :attr:`follows_queues`, a task on one of these queues of the
            same backend that starts, or leaves its queue with nothing noted, ends the wait,
            too. Who counts on that looks again from time to time: what is dropped is not told.
        """

    # -- Marks: set if absent, and gone after a while. ------------------------------------

    @abstractmethod
    def claim(self, key: str, ttl: float) -> bool:
        """Set a mark for ``ttl`` seconds; False: it stands already, and is left as it is."""

    @abstractmethod
    def confirm(self, key: str, ttl: float) -> None:
        """Set a mark for ``ttl`` seconds from now, whether it stood or not."""

    @abstractmethod
    def unclaim(self, key: str) -> None:
        """Remove a mark; none there is fine."""

    def push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        """Claim a key and push a task: of all that try with that key, one does it.

        In one atomic step where ``client`` is the one that this store belongs to. Elsewhere:
        claim for :data:`UNCONFIRMED` seconds, push, confirm; a crash in between frees the
        key after these, so that the task is pushed at least once.

        :param ttl: seconds that the key stays taken.
        :param queue_name: keys are told apart by queue: this is not the key of :meth:`claim`.
        :returns: whether this call pushed it.
        :raises ConnectionLost, QueueFull, InvalidTask: see ``Client.push``. Try again.
        """
        return self._steps(client)._push_once(self, client, key, ttl, queue_name, message)

    # -- Children that wait for their parents. --------------------------------------------

    def hold(self, client: Queues, children: Sequence[Child]) -> list[int]:
        """Keep tasks back until all their parents have succeeded; in order, a parent first.

        A parent that waits, is delayed, runs or is held itself is waited for. One that is on no
        queue has succeeded, unless a record or a dead letter says that it failed or was canceled:
        then the child is canceled, and that is put on record. With nothing to wait for, the
        child is queued at once. A held child is WAITING for ``client.find``, is not counted, and
        nobody can reserve it; pushing its id again replaces it.

        From then on, whatever takes a parent off its queue decides: an ack releases the child
        when it was the last, ``bury`` and :meth:`settle` of a cancellation cancel it, as does
        ``drop_all``, and its own children in turn. That is one atomic step with the ack.

        :returns: WAITING (held, or queued) or CANCELED, of each.
        :raises InvalidTask: the id of a child is that of a task which runs now, or for which
            one of its parents waits, be it by way of others.
        :raises ConnectionLost, QueueFull: as with a push.
        """
        return self._steps(client)._hold(self, client, children)

    def settle(
        self, client: Queues, delivery: Delivery, task_id: str, record: Record, keep_seconds: float
    ) -> bool:
        """Note that a task succeeded or was canceled, and ack it; then its children follow.

        One atomic step where ``client`` is the one that this store belongs to and the record
        says CANCELED; elsewhere in this order, so that a crash in between repeats and never
        loses.

        :param task_id: the key of its record, see :func:`record_key`.
        :returns: False: the delivery had been overtaken.
        """
        return self._steps(client)._settle(self, client, delivery, task_id, record, keep_seconds)

    def cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        """Cancel a child that is held, with its own children; False: it is not held.

        :param task_id: its id on that queue; the record goes under ``record_key`` of both.
        """
        return self._steps(client)._cancel_held(self, client, queue_name, task_id, record)

    def waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        """Return for whom a child is held; none: it is not held, or nobody knows.

        :param limit: how many of them to name.
        """
        return self._steps(client)._waits_for(self, client, queue_name, task_id, limit)

    # -- How these five are done. A store overrides the methods below for its own client, -------
    #    with which each can be one atomic step; as they are here, they serve for all others.

    def _steps(self, client: Queues) -> "type[Store]":
        return type(self) if client is self.home else Store

    def _push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        own_key = f"{queue_name}/{key}"
        if not self.claim(own_key, min(ttl, UNCONFIRMED)):
            return False
        try:
            client.push_many(queue_name, [message])
        except AlligatorException:
            self.unclaim(own_key)
            raise
        self.confirm(own_key, ttl)
        return True

    def _hold(self, client: Queues, children: Sequence[Child]) -> list[int]:
        raise UnsupportedOption(_NO_CHILDREN)

    def _settle(
        self, client: Queues, delivery: Delivery, task_id: str, record: Record, keep_seconds: float
    ) -> bool:
        self.note(task_id, record, keep_seconds)
        return not client.ack([delivery])

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        return False

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        return Waits(0, [])

    # -- Who is alive. --------------------------------------------------------------------

    @abstractmethod
    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        """Give a sign of life of a worker; it counts as alive for so many seconds.

        :param worker: its name, unique; 0 seconds: it says goodbye.
        """

    @abstractmethod
    def workers(self, queue_name: str) -> list[Worker]:
        """Return the live workers of a queue, those last seen first."""

    def last_seen(self, queue_name: str) -> float | None:
        """Return when a worker of that queue last gave a sign of life, a Unix timestamp.

        None: nobody ever did, or not for a day.
        """
        found = self.workers(queue_name)
        return found[0].seen if found else None

    def close(self) -> None:  # noqa: B027 - a client closes what they share
        """Let go of connections; the next use opens them again."""
