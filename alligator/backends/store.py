"""Define the contract of every store: outcomes, marks and heartbeats, beside the queues.

A *store* keeps the outcomes of tasks that have left their queue, the keys that were claimed, and
which workers are alive. locmem, sqlite and redis serve as store and as queue, each as
``Client.store``; for a queue that cannot (beanstalkd, SQS) a Gator names one:
``Gator('sqs://…', store='redis://…')``. The promises, which
``alligator.testing.StoreContract`` checks:

*Fenced.* A :class:`Record` of an earlier run never replaces that of a later one: a worker
that was stopped, overtaken and continued changes nothing with :meth:`Store.note`.

*Of one queue.* Records are kept under what :func:`record_key` makes of a queue and an id. To a
store it is text like any other; only stores that keep children make such keys themselves.

*Of the last push.* Where store and queue are one, a push of an id of the user's own
(not :func:`alligator.common.ids.is_generated`) overrules the outcomes of earlier pushes, in the
same step. The store forgets their failure or cancellation, and their dead letter no longer says how
that id stands (to ``Client.find``, to children). An ack overrules a failure that was noted
meanwhile. A task whose id is the key of a record stands in for one on another backend: its pushes
and acks leave that record alone.

*Kept for their time.* Records and marks stay until their time is over, and end by themselves a few
seconds after it at the latest.

*No change is missed.* :meth:`Store.watch` listens before its block begins. So a change after the
caller looked ends the next wait. A wait may end without a change: look again.

*Monitoring.* With :attr:`Store.monitors`, what workers report adds up, and ends by itself; see
:meth:`Store.report`. No task rests on it.

*Once.* Of all callers that claim one key, one gets True until the claim ends.

*Time, threads, forks, errors.* As with the queues: see ``alligator.backends.base``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from alligator.backends.types import (
    ENDED,
    Activity,
    Child,
    Data,
    Delivery,
    Duplicate,
    Listed,
    LiveWorker,
    Message,
    Parent,
    Queues,
    Record,
    Report,
    Waits,
    Watch,
    Worker,
)
from alligator.common.ids import is_generated
from alligator.common.text import shorten
from alligator.constants import CANCELED, FAILED
from alligator.constants import HELD as HELD_STATE
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption

__all__ = [
    "BAD",
    "CANCELED_BY",
    "ENDED",
    "HELD",
    "KEEP_FAILED",
    "UNCONFIRMED",
    "Activity",
    "Child",
    "LiveWorker",
    "Parent",
    "Queues",
    "Record",
    "Report",
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

#: Seconds that the records of failures and cancellations are kept.
KEEP_FAILED = 30 * 86_400.0

#: Seconds that a claim stands between a push and its confirmation, where these are two steps.
UNCONFIRMED = 30.0


#: The queue of a store's own backend on which it holds children whose queue is on another.
HELD = "alligator-held"

#: States that a later push of the same id overrules.
BAD = frozenset({FAILED, CANCELED})

#: Between queue and id in the key of a record: neither can have it.
_SEPARATOR = "\x1f"


def record_key(queue_name: str, task_id: str) -> str:
    """Return under which key a store keeps what is known of a task.

    ::

        gator.store.record(record_key('images', 'order-17'))

    An id that Alligator made is unique, and is the key itself. So are all recorded ids of
    Alligator 1.1. A key is returned as it is.
    """
    return task_id if is_generated(task_id) else own_record_key(queue_name, task_id)


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
    """Return why a child cannot run after its parent ended so; None: that parent succeeded."""
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
        f"Task {task_id} is running; a task that waits for others needs an id of its own."
    )


def waits_for_itself(task_id: str) -> InvalidTask:
    """Return the error for a child one of whose parents waits for a task of its id."""
    task_id = shorten(id_in_key(task_id))
    return InvalidTask(
        f"Task {task_id} would wait for a task that waits for it; neither could ever run."
    )


class Store(ABC):
    """The contract. Constructing one connects to nothing; the first use does.

    :raises ConnectionLost: from any method: the server cannot be reached, and it is unknown
        whether the call took effect. All of them may be repeated.
    """

    #: Whether :meth:`watch` also tells of tasks that start or end without a record.
    follows_queues: ClassVar[bool] = False

    #: Whether it holds children for a queue on another backend. Such a store must be told of the
    #: end of each parent, see :meth:`release_children`, and be maintained.
    bridged: ClassVar[bool] = False

    #: Whether it keeps reports and documents. Without, both are dropped.
    monitors: ClassVar[bool] = False

    @property
    def home(self) -> Queues | None:
        """The client that this store belongs to; None: it has no queues of its own."""
        return None

    # -- Outcomes. ------------------------------------------------------------------------

    @abstractmethod
    def note(self, key: str, record: Record, keep_seconds: float) -> bool:
        """Save the record of a task, and wake the callers that watch it.

        A record with the same fence is replaced: that run has come further.

        :param key: what :func:`record_key` makes of its queue and its id.
        :param keep_seconds: for how long; 0 or less: not at all, but callers are woken.
        :returns: False: the record of a later run stands, and nothing was changed.
        """

    @abstractmethod
    def record(self, key: str) -> Record | None:
        """Return what is known of a task; None: nothing, or no longer.

        :param key: its key, see :func:`record_key`.
        """

    def records(self, keys: Sequence[str]) -> list[Record | None]:
        """Return :meth:`record` of each, in their order, with as few round trips as can be."""
        return [self.record(each) for each in keys]

    @abstractmethod
    def forget(self, keys: Iterable[str]) -> None:
        """Delete records: their tasks are to run again."""

    @abstractmethod
    def watch(
        self, keys: Sequence[str], queue_names: Sequence[str] = ()
    ) -> AbstractContextManager[Watch]:
        """Listen for :meth:`note` of any of these tasks. Look inside the block, then wait::

            with store.watch([key]) as watch:
                while not (found := store.record(key)) and time.monotonic() < deadline:
                    watch.wait(min(1.0, deadline - time.monotonic()))

        The wait asks nothing of the server, unless the server cannot call (sqlite: the wait looks
        at the version of the file).

        :param queue_names: with :attr:`follows_queues`, a task on one of these queues of the
            same backend that starts, or leaves its queue without a record, ends the wait, too. A
            caller that relies on that looks again from time to time: dropped tasks are not told.
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
        """Claim a key and push a task: of all callers that try with that key, one does it.

        That is one atomic step where this store belongs to ``client``. For another client it is
        three: claim for :data:`UNCONFIRMED` seconds, push, confirm. After a crash in between, the
        key is free again when these are over, so that the task is pushed at least once.

        :param ttl: seconds that the key stays taken.
        :param queue_name: keys are told apart by queue: this is not the key of :meth:`claim`.
        :returns: whether this call pushed the task.
        :raises ConnectionLost, QueueFull, InvalidTask: see ``Client.push``. Try again.
        """
        return self._steps(client)._push_once(self, client, key, ttl, queue_name, message)

    # -- Children that wait for their parents. --------------------------------------------

    def hold(self, client: Queues, children: Sequence[Child]) -> Sequence[int | Duplicate]:
        """Keep tasks back until all their parents have succeeded; in order, a parent first.

        A child waits for each parent that waits, is delayed, runs or is held itself. A parent that
        is on no queue has succeeded, unless a record or a dead letter says that it failed or was
        canceled: then the child is canceled, with a record. With nothing to wait for, the child is
        queued at once. A held child is WAITING for ``client.find``, is not counted, and cannot be
        reserved; pushing its id again replaces it.

        Then the call that takes a parent off its queue decides, in the same atomic step. An ack of
        the last parent releases the child. ``bury``, ``drop_all`` and :meth:`settle` of a
        cancellation cancel it, with its own children in turn.

        A child that is ``unconditional`` is never canceled so: a parent that fails or is canceled
        counts for it as one that succeeded.

        :returns: WAITING (held, or queued) or CANCELED, of each; or a
            :class:`~alligator.backends.base.Duplicate`: it is not held, since the task of that id
            has its unique key (see ``Client.push_many``), whatever that one waits for.
        :raises InvalidTask: the id of a child is that of a task which runs now, or for which
            one of its parents waits, directly or through others.
        :raises ConnectionLost, QueueFull: as with a push.
        """
        return self._steps(client)._hold(self, client, children)

    def settle(
        self, client: Queues, delivery: Delivery, key: str, record: Record, keep_seconds: float
    ) -> bool:
        """Note that a task succeeded or was canceled, and ack it; then its children follow.

        That is one atomic step where this store belongs to ``client`` and the record says
        CANCELED. Otherwise it happens in this order, so that a crash in between repeats the task
        and never loses it.

        :param key: the key of its record, see :func:`record_key`.
        :returns: False: the delivery had been overtaken.
        """
        return self._steps(client)._settle(self, client, delivery, key, record, keep_seconds)

    def cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        """Cancel a child that is held, with its own children; False: it is not held.

        :param task_id: its id on that queue; the record goes under ``record_key`` of both.
        """
        return self._steps(client)._cancel_held(self, client, queue_name, task_id, record)

    def waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        """Return the parents that a child waits for; none: it is not held, or it is not known.

        :param limit: how many of them to name.
        """
        return self._steps(client)._waits_for(self, client, queue_name, task_id, limit)

    def peek_held(self, client: Queues, queue_name: str, task_id: str) -> Data | None:
        """Return the data of a task that may be held; None: it is not."""
        return client.peek(queue_name, task_id) if client is self.home else None

    def list_held(
        self, client: Queues, queue_name: str, limit: int, after: str | None
    ) -> tuple[list[Listed], str | None]:
        """Return some of the children of a queue that are held; see ``Client.list_tasks``."""
        return client.list_tasks(queue_name, HELD_STATE, limit, after)

    def release_children(self, key: str, record: Record) -> None:  # noqa: B027 - an ack does it
        """Let the children follow of a task that has ended, before it is acked or buried.

        Only a :attr:`bridged` store does something: elsewhere the ack or the bury does it.

        :param key: the key of its record.
        """

    def maintain(self) -> bool:
        """Take up what a killed worker left half-way. Workers call this again and again.

        :returns: whether it was time, and there is something to maintain: no without a
            :attr:`bridged` store.
        :raises QueueFull: a queue does not take its children now; they stay until it does.
        """
        return False

    def next_maintenance(self) -> float:
        """Return after how many seconds :meth:`maintain` is due again."""
        return math.inf

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

    def _hold(self, client: Queues, children: Sequence[Child]) -> Sequence[int | Duplicate]:
        raise UnsupportedOption(_NO_CHILDREN)

    def _settle(
        self, client: Queues, delivery: Delivery, key: str, record: Record, keep_seconds: float
    ) -> bool:
        self.note(key, record, keep_seconds)
        return not client.ack([delivery])

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        return False

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        return Waits(0, [])

    # -- Who is alive. --------------------------------------------------------------------

    @abstractmethod
    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        """Save a heartbeat of a worker; it counts as alive for so many seconds.

        :param worker: its name, unique.
        :param seconds: 0: the worker ends.
        """

    @abstractmethod
    def workers(self, queue_name: str) -> list[Worker]:
        """Return the live workers of a queue, the one last seen first."""

    def last_seen(self, queue_name: str) -> float | None:
        """Return when a worker of that queue last sent a heartbeat, a Unix timestamp.

        None: no worker ever did, or none for a day.
        """
        found = self.workers(queue_name)
        return found[0].seen if found else None

    # -- What workers report, and documents about tasks: with `monitors`. -----------------------

    def report(self, report: Report) -> list[str | None]:
        """Take the report of a worker, and return the documents that it asks for.

        It is one round trip, and one atomic step. A report that is repeated after a
        ``ConnectionLost`` may count its activity and its ended tasks twice.

        *Activity* is added to what stands for that minute, queue and function. It is kept for 48
        hours after its minute; earlier minutes are ignored. A minute has 1,000 rows at most. What
        would be more is added to function '(others)' of its queue, at last to that of queue ''.
        *Ended tasks* are kept for 48 hours as well, 10,000 at most. *Documents* are replaced; ''
        as text deletes one. They are kept before the answer is made.

        A worker sends its live view now and then even though nothing changed, as a store that was
        emptied lists no worker without it. A report with ``seconds`` 0 ends the listing. A report
        that only asks may leave it as it is, while most of the time of the one before is left.

        :returns: in the order of ``report.ask``; None: there is none, or no longer.
        """
        return [None] * len(report.ask)

    def live_workers(self) -> list[LiveWorker]:
        """Return the workers that reported a live view, also those lost in the last hour."""
        return []

    def activity(self, since: int, before: int | None = None) -> list[Activity]:
        """Return what was reported of the minutes from a Unix timestamp on, by minute.

        :param before: a Unix timestamp: only of minutes that began before it.
        """
        return []

    def recent(self, limit: int) -> list[str]:
        """Return the tasks that ended last, the newest first, as they were reported."""
        return []

    def put_document(self, key: str, text: str, keep_seconds: float) -> None:  # noqa: B027
        """Keep a text under a key for so many seconds; it replaces another one."""

    def documents(self, keys: Sequence[str]) -> list[str | None]:
        """Return the texts under these keys, in their order; None: there is none."""
        return [None] * len(keys)

    def delete_documents(self, keys: Sequence[str]) -> None:  # noqa: B027
        """Delete the texts under these keys; none there is fine."""

    def close(self) -> None:  # noqa: B027 - a client closes what they share
        """Let go of connections; the next use opens them again."""
