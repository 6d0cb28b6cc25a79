"""Define the contract of every backend. It is written here and nowhere else.

A *client* keeps queues of tasks. To it a task is an id and some data (``str`` or ``bytes``). It
returns the data as it got it, and never looks inside. A task is in one state at a time::

    push ──► DELAYED ──due──► WAITING ──reserve──► RUNNING ──ack──► gone
                                 ▲                    │
                                 ├──release / lease expired
                                 └──revive── dead ◄──bury

The promises, which ``alligator.testing.BackendContract`` checks:

*At least once.* Once :meth:`Client.push` has returned, the task stays until a caller acks,
buries or removes it. A reserved task is on a *lease*. If its worker dies or hangs, the lease runs
out, and the task is delivered again.

*Fenced.* A delivery is stale when its lease ran out and another worker has reserved the task
since. ``ack``, ``release``, ``extend`` and ``bury`` of it change nothing and say so. They are
idempotent per receipt: to repeat one after a lost reply does no harm.

*Order.* Expired leases come first. Then the priority decides (high to low); within a priority,
delayed tasks that are due, then first in, first out. Several queues: strictly in the order given.
(A server with an order of its own, as beanstalkd and SQS have, keeps that; its client says so.)

*One place per id.* Pushing the id of a waiting or delayed task replaces its data, delay
and priority, and keeps its place where those two are the same. Pushing the id of a
running task queues it to run once more afterwards, never at the same time; ack, release,
bury and recovery of the running one leave the new data alone (a retry of the old data is
dropped in its favour, as a push would have replaced it).

*One per key.* Where :attr:`Client.controls` has ``UNIQUE``, a message may have a unique key
(:class:`Controls`). While a task with that key is pending on the queue (waiting, delayed, held,
running, to be retried), a push with the key queues nothing, and returns the
``Duplicate`` of that task. The key is free once the task is acked, buried or removed;
with ``unique_until_start`` in the step that leases it, and a retry does not take it again. It is
taken exactly while a task with it is on the queue: a worker that was killed leaves no key behind. A
push behind a running task of its own id takes its key at once. A dead letter keeps its key for its
revival, and stays dead while another task has it.

*The last push counts* (``DEBOUNCE``). A message with ``debounce`` waits so many seconds. If
its key is taken by a task that has ``debounce`` as well and has not started, the push replaces
data, priority and controls of that task. The task then waits again, up to ``debounce_max`` seconds
after the push that queued it, and not less than its own delay. Any other task is left as it is.

*Deaths are counted.* ``Delivery.deaths`` is how often a lease of this task ran out and the worker
had not handed the task back. A lease does not count if its worker noted, by
:meth:`Client.note_stop`, that it was being stopped. A run that ended in order and is to be repeated
(``release`` with data) sets the deaths to 0. A delivery with deaths on its record is returned
alone: such a task may be what kills its worker, and must take no neighbour with it.

*Limits and rates.* (``Client.controls``) A task with a limit is leased only while fewer than so
many others of its key are on lease, counted in that very step: a place ends with its lease, however
that ends. A task with a rate is leased only while its key has a token. A task that has to wait is
kept back. It counts as waiting, keeps its place in the order, and holds up nothing behind it. As
soon as a lease of its key ends, or a token comes, the first one of the key, by priority and order,
may go, and a waiting client is woken. Each decides by its own limit when it is its turn. All keys
belong to one queue.

*Time.* The server's clock decides where the server has one, else the injected clock. Delays and
leases count by that clock (:meth:`Client.server_time` and :func:`time_on`), so that nothing depends
on how producers and workers have set theirs. "Now" is stored as 0, so that a clock that steps back
hides nothing. A lease never ends later than :data:`MAX_LEASE` from now.

*Threads and forks.* Many threads may use one client, and it works after a fork: it connects on
first use, and again in each process.

*Errors.* A driver's exceptions never leave a client: they become ``ConnectionLost``,
``QueueFull``, ``QueueNotFound`` or ``InvalidTask``, with the cause chained. ``QueueFull``, from
any method, says that the server answered and takes no more for now (full, draining, throttling).
The call did not take effect, leases stand as they did, and it is safe to ask again in a while.
Where a connection broke before the reply came, a client may repeat an idempotent call once, over a
new connection. It repeats no call that could lease a task to a worker that does not know of it.
"""

import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, ClassVar

from alligator.backends.cursors import read_cursor, write_cursor
from alligator.backends.dsn import mask_password
from alligator.backends.store import Store
from alligator.backends.types import (
    Ahead,
    ControlledMessage,
    Controls,
    Data,
    DeadTask,
    Delivery,
    Duplicate,
    Finding,
    LastingMessage,
    Listed,
    Message,
    Place,
    Queued,
    QueueStats,
    Reason,
    Renew,
    Reserved,
    all_queued,
    controlled,
    controls_of,
    lasting,
    queued,
    queued_or_pending,
)
from alligator.common.clock import Clock, SystemClock
from alligator.common.text import with_stop
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidTask,
    UnsupportedOption,
)

__all__ = [
    "BATCH",
    "BATCH_SIZE",
    "DEBOUNCE",
    "DELAY",
    "EVERYTHING",
    "GET",
    "LEASES",
    "LIMIT",
    "LISTING",
    "MAX_LEASE",
    "MAX_PRIORITY",
    "MIN_PRIORITY",
    "OWN_ID",
    "PAUSE",
    "PRIORITY",
    "RATE",
    "UNIQUE",
    "Ahead",
    "Client",
    "ControlledMessage",
    "Controls",
    "Data",
    "DeadTask",
    "Delivery",
    "Duplicate",
    "Finding",
    "LastingMessage",
    "Listed",
    "Message",
    "Place",
    "QueueStats",
    "Queued",
    "Reason",
    "Renew",
    "Reserved",
    "all_queued",
    "controlled",
    "controls_of",
    "lasting",
    "never",
    "push_in_steps",
    "queued",
    "queued_or_pending",
    "reaching",
    "time_on",
]

#: The longest lease, in seconds: the service limit of SQS (12 hours) serves for all.
MAX_LEASE = 43_200.0

#: Dead letters that are searched for one, where a client has no better way.
_LETTERS = 1_000

MIN_PRIORITY = -100
MAX_PRIORITY = 100

#: The most messages, and bytes of their data, that ``push_many`` queues in one step.
BATCH, BATCH_SIZE = 500, 4 << 20

_NAMES = {WAITING: "waiting", DELAYED: "delayed", RUNNING: "running", HELD: "held"}

#: What a client can be asked for; ``Client.supports`` lists which of them it keeps.
LEASES = "leases"  # a killed worker's tasks come back
DELAY = "delay"  # push(..., delay_until=...)
PRIORITY = "priority"  # push(..., priority=...)
OWN_ID = "task_id"  # the id of a push is the id on the queue
GET = "get"  # get, find and peek by id
EVERYTHING = frozenset({LEASES, DELAY, PRIORITY, OWN_ID, GET})

#: What a client can be asked for beyond these; ``Client.controls`` lists which of them it keeps.
LIMIT, RATE = "limit", "rate"  # see Controls
UNIQUE, DEBOUNCE = "unique", "debounce"  # likewise
PAUSE = "pause"  # pause, resume, paused
LISTING = "listing"  # list_tasks, in every state


def push_in_steps(
    messages: Sequence[Message],
    push: Callable[[int, int], list[str]],
    alone: Container[int] = (),
) -> list[str]:
    """Push a batch in steps, so that other callers wait only for one; see ``Client.push_many``.

    :param push: queues the messages from one index up to another, all or none; returns their ids.
    :param alone: the indices of messages that are a step each.
    """
    ids: list[str] = []
    for first, last in _steps(messages, alone):
        try:
            ids += push(first, last)
        except AlligatorException as err:
            if ids:
                how_many = f"Of {len(messages)} tasks the first {len(ids)} are queued."
                err.args, err.queued = (f"{with_stop(str(err))} {how_many}",), len(ids)
            raise
    return ids


_DATA = (str, bytes)  # made once: str | bytes would be made again for each message


def _steps(messages: Sequence[Message], alone: Container[int]) -> Iterator[tuple[int, int]]:
    first = size = 0
    for index, message in enumerate(messages):
        length = len(message.data) if isinstance(message.data, _DATA) else 0  # refused later
        full = index - first == BATCH or size + length > BATCH_SIZE
        if index > first and (full or (alone and (index in alone or first in alone))):
            yield first, index
            first, size = index, 0
        size += length
    if messages:
        yield first, len(messages)


def _goes_alone(message: Message) -> bool:
    controls = controls_of(message)
    return controls is not None and bool(controls.debounce)


def never() -> bool:
    """Do not stop: the default for ``stop``."""
    return False


class Client(ABC):
    """The contract. Constructing one connects to nothing; the first use does.

    :param conn_string: the DSN, kept as the attribute ``conn_string``.
    :param clock: where time comes from, for backends without a clock of their own.
    """

    #: Which of :data:`EVERYTHING` this backend keeps.
    supports: ClassVar[frozenset[str]] = EVERYTHING

    #: Which of LIMIT, RATE, UNIQUE, DEBOUNCE, PAUSE and LISTING this backend keeps.
    controls: ClassVar[frozenset[str]] = frozenset()

    #: A task that has died this often is a dead letter rather than run again.
    max_deaths: ClassVar[int] = 3

    #: Seconds that an idle worker may block in one ``reserve``; a task ends the wait at once.
    #: None: this backend cannot wake a worker, so the worker's ``nap_time`` counts.
    idle_wait: ClassVar[float | None] = 5.0

    #: Whether tasks stay in this very process, so that functions of ``__main__`` will do.
    in_process: ClassVar[bool] = False

    #: Whether :meth:`note_stop` has an effect.
    notes_stops: ClassVar[bool] = False

    #: Whether another process can use a lease, by :meth:`share` and :meth:`shared`.
    shares_leases: ClassVar[bool] = False

    #: The lease that the server gives, in seconds, whatever was asked; None: the one asked for.
    lease_seconds: float | None = None

    #: The letters of a queue name, and how many.
    queue_name_pattern: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9_.-]{1,80}")
    queue_name_rule: ClassVar[str] = "1 to 80 letters, digits, '_', '.' or '-'"

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        self.conn_string = conn_string
        self.clock: Clock = clock or SystemClock()

    @property
    def store(self) -> Store | None:
        """The store beside the queues, on the same connections and files; None: it has none."""
        return None

    def check_queue_name(self, queue_name: str) -> None:
        """Raise :exc:`InvalidTask` unless this backend can have a queue of that name."""
        if not isinstance(queue_name, str) or not self.queue_name_pattern.fullmatch(queue_name):
            raise InvalidTask(f"Queue name {queue_name!r} is not {self.queue_name_rule}.")

    def max_size(self) -> int | None:
        """Return the largest task the backend takes, in bytes of its data; None: any.

        As JSON no task has more than the 64 MiB that are read of one message.
        """
        return None

    # -- The five operations documented since 0.x, and what they rest on. -----------------

    @abstractmethod
    def len(self, queue_name: str) -> int:
        """Return how many tasks wait or are delayed (not those running, nor the dead)."""

    @abstractmethod
    def drop_all(self, queue_name: str) -> None:
        """Remove every task of the queue: waiting, delayed, running and dead."""

    def push(
        self,
        queue_name: str,
        task_id: str,
        data: Data,
        delay_until: float | None = None,
        *,
        priority: int = 0,
    ) -> str:
        """Put a task on a queue and return the id that it has there.

        Where the backend has :meth:`lost_nothing_since`, that is a
        :class:`~alligator.backends.base.Queued`.

        :param delay_until: the Unix timestamp (seconds) before which it must not run.
        :param priority: -100 to 100, higher first.
        :raises InvalidTask: too large for this backend, or not text that it can carry.
        :raises QueueFull: the server has no room.
        :raises ConnectionLost: the server cannot be reached, or its reply got lost and a second
            try could make two tasks of it; fails fast.
        """
        return self.push_many(queue_name, [Message(task_id, data, delay_until, priority)])[0]

    def pop(self, queue_name: str) -> Data | None:
        """Take the next task off the queue for good and return its data; None: empty.

        At most once: a caller that pops a task and dies has lost it. Workers reserve instead.
        """
        return self._take(self.reserve([queue_name]))

    def get(self, queue_name: str, task_id: str) -> Data | None:
        """Take one waiting or delayed task off the queue for good and return its data.

        Returns None where there is no such task, or it is running.
        """
        return self._take(self.withdraw(queue_name, task_id))

    def _take(self, reserved: Reserved) -> Data | None:
        for delivery in reserved.deliveries:
            if not self.ack([delivery]):
                return delivery.data
        return None

    def withdraw(self, queue_name: str, task_id: str, lease: float = 30.0) -> Reserved:
        """Lease a task that is not to run, but to be taken off its queue: canceled, or moved.

        As ``reserve(..., task_id=)``, but its limit and its rate do not matter, and no place and no
        token is taken. By default it is reserved.
        """
        return self.reserve([queue_name], 1, lease, task_id=task_id)

    # -- What a worker needs. -------------------------------------------------------------

    @abstractmethod
    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put many tasks on one queue, in order, and return their ids.

        Where the backend has transactions, ``BATCH`` messages with ``BATCH_SIZE`` bytes of
        data are queued all or none (locmem: any number). A larger batch goes in steps of that size
        (sqlite, redis), since other callers wait while a step goes in. They can see the first
        steps before the last one is done. Where a step fails, or without transactions a message,
        that raises, and the messages before it stay queued. After steps, the attribute ``queued``
        of the error says how many they are. It is safe to push the whole batch again: there is one
        place per id. (Messages with ``debounce`` are a step each.)

        A message whose unique key is taken, also by one before it in the same batch, is not
        queued. Instead of its id, the ``Duplicate`` of the pending task is returned.
        """

    def push_each(
        self, queue_name: str, messages: Sequence[Message]
    ) -> list[str | AlligatorException]:
        """Put many tasks of several callers on one queue, in order, as :meth:`push` does each.

        A message that is refused keeps no other off the queue.

        :returns: of each message its id, as :meth:`push_many` returns it, or why it is not queued;
            :exc:`ConnectionLost`: it is unknown whether it is, or it was not sent any more.
        """
        alone: Container[int] = range(len(messages))
        if OWN_ID in self.supports:  # else a second try could make two tasks of one
            alone = {index for index, each in enumerate(messages) if _goes_alone(each)}
        found: list[str | AlligatorException] = []
        steps = deque(_steps(messages, alone))
        while steps:
            first, last = steps.popleft()
            try:
                found += self.push_many(queue_name, messages[first:last])
            except ConnectionLost as err:
                found += [err] * (len(messages) - first)
                break
            except AlligatorException as err:
                if last - first == 1:
                    found.append(err)
                else:  # none of them is queued, as they were one step
                    steps.extendleft((at, at + 1) for at in reversed(range(first, last)))
        return found

    def reserve(
        self,
        queue_names: Sequence[str],
        limit: int = 1,
        lease: float = 30.0,
        wait: float = 0.0,
        *,
        acks: Sequence[Delivery] = (),
        task_id: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> Reserved:
        """Ack what is done, then lease up to ``limit`` tasks.

        :param queue_names: strict order: a later queue only gives what earlier ones lack.
        :param limit: at least 1; fewer are returned when fewer are there, and one alone
            when it has deaths on its record.
        :param lease: seconds until the tasks come back unless acked, released or extended.
        :param wait: with nothing there, block up to so many seconds for a task to be
            pushed, become due, or come back from an expired lease; 0 never blocks.
        :param acks: deliveries to ack in the same round trip, before anything is leased
            and before any wait.
        :param task_id: lease this very task, waiting or delayed (its delay is waived) or
            with its lease expired, and no other; ``wait`` does not apply. Its limit and its rate
            do.
        :param stop: asked at least every 0.2 s during the wait, which it ends (1 s where
            the protocol cannot do better).
        :raises ConnectionLost: it is unknown whether the acks counted; send them again.
        :raises NodeLost: the same, for the acks that it names; nothing was leased.
        """
        until = time.monotonic() + wait
        found, refused = self._lease(queue_names, limit, lease, wait, acks, task_id)
        while (
            not found and task_id is None and (left := until - time.monotonic()) > 0 and not stop()
        ):
            came = self._wait(queue_names, limit, lease, left, stop)
            if came is None:
                left = max(0.0, until - time.monotonic())
                came = self._lease(queue_names, limit, lease, left, (), None).deliveries
            found = came
        return Reserved(found, refused)

    def _lease(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        wait: float,
        acks: Sequence[Delivery],
        task_id: str | None,
    ) -> Reserved:
        """Ack, then look once and lease what is there, without blocking.

        A client implements this and :meth:`_wait`, or :meth:`reserve` itself. :meth:`reserve`
        calls it once with the acks, and again, without acks, whenever :meth:`_wait` says so.
        Parameters, errors and promises are those of :meth:`reserve`, but for:

        :param wait: how many seconds :meth:`reserve` will wait if nothing is there; 0: it will
            not. (So a server can note in the same step that a worker waits.)
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has to implement reserve, or _lease and _wait."
        )

    def _wait(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        seconds: float,
        stop: Callable[[], bool],
    ) -> list[Delivery] | None:
        """Block until a task may have come, or for ``seconds`` at most (more than 0).

        It may return early for no reason: :meth:`reserve` calls it again while time is left. A
        task that was pushed since the last look must end the wait at once, or within 0.2 s.

        :param stop: asked at least every 0.2 s; True ends the wait (1 s where the protocol cannot
            do better).
        :returns: None: :meth:`reserve` looks again, by :meth:`_lease`. A list: it does not, since
            the wait itself leased these tasks, or (empty) found none.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has to implement reserve, or _lease and _wait."
        )

    def begin_reserve(
        self,
        queue_names: Sequence[str],
        limit: int = 1,
        lease: float = 30.0,
        *,
        acks: Sequence[Delivery] = (),
    ) -> Ahead | None:
        """Send a ``reserve`` that does not wait, and do not wait for its reply either.

        So the server prepares the next batch while the caller runs the last one. Leases run from
        when the server handles the request, whether the reply is read or not. Only the caller
        knows of them: it has to read the reply, by
        :meth:`~alligator.backends.types.Ahead.read`, in good time and before it leaves, also from
        another thread, to extend or release what it brought. If the caller does not, each task
        counts a death when its lease runs out, as with a worker that was killed. So the server
        never sends a task ahead that has a death on its record, or whose lease ran out: call
        :meth:`reserve` every now and then.

        :returns: None where it cannot be sent ahead, by this client (as by default) or for these
            arguments: nothing was done, so call :meth:`reserve`.
        :raises ConnectionLost: it is unknown whether the acks counted and whether tasks were
            leased.
        """
        return None

    def out_of_reach(self, queue_names: Sequence[str]) -> dict[str, str]:
        """Return which of these queues cannot be reached though others can, and why.

        That happens where a server of several nodes has lost one. :meth:`reserve` then leaves these
        queues out, and serves the others in their order. The client notices within seconds that
        a node answers again. One more :meth:`reserve` leaves its queues out, and takes them off
        this list, so that the caller can first deal with the deliveries that it has of them.
        Connects to nothing: it is known from calls that failed.
        """
        return {}

    @abstractmethod
    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Remove tasks that are done; return the deliveries that were refused as overtaken.

        A repeated ack of a task that is gone may be among the refused: the server forgot it.

        :raises NodeLost: it is unknown of the deliveries that it names; all others were told.
        """

    @abstractmethod
    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Hand a task back; adds no death. Returns False if the delivery was overtaken.

        :param data: None: it was not run, and keeps its data, its place and its deaths.
            Otherwise it is a retry, of a run that ended in order: the new data joins the tail
            of its priority, and has no deaths on its record.
        :param delay_until: the Unix timestamp (seconds) before which it must not run.
        """

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        """Hand a task back that was not run, with other data; it keeps its deaths.

        Where a client has no such method of its own, it is released as if it were a retry.

        :param delay_until: the Unix timestamp (seconds) before which it must not run.
        :returns: False: the delivery was overtaken.
        :raises InvalidTask, ConnectionLost, QueueFull: as :meth:`release` does.
        """
        return self.release(delivery, data, delay_until)

    @abstractmethod
    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Let leases run ``lease`` seconds from now; return the deliveries that were lost.

        A lease that has run out but was not reserved by anyone since may be extended.

        :raises NodeLost: it is unknown of the deliveries that it names; all others were told.
        """

    def stretch(self, delivery: Delivery, lease: float) -> bool:
        """Let a lease run so long from now, even where the server set its length at the push.

        Where that needs a new task instead of this one, the new one may have another id on the
        queue, as after a retry. The delivery then stands for the new one. By default this extends.

        :returns: False: the delivery was lost.
        """
        return not self.extend([delivery], lease)

    def lapses(self, delivery: Delivery) -> int:
        """Return how often the lease of this task ran out before, as far as can be told.

        By default that is its deaths; a server that counts no deaths may know more.
        """
        return delivery.deaths

    def note_stop(self, deliveries: Sequence[Delivery]) -> None:  # noqa: B027 - a default
        """Note that the worker with these leases is being stopped, and may be killed any moment.

        If such a lease runs out, that adds no death: the task did not cause the kill. The note
        belongs to this very lease, extended or not, and ends with it. Deliveries that were
        overtaken are skipped. It is idempotent. By default it does nothing, since the server
        cannot keep such a note (``notes_stops``).

        :raises ConnectionLost: it is unknown whether it was noted; it may be repeated.
        """

    def share(self, deliveries: Sequence[Delivery]) -> list[bytes]:
        """Return what another process needs to extend or release each; see :meth:`shared`.

        :raises UnsupportedOption: a lease belongs to its process here (``shares_leases``).
        """
        raise UnsupportedOption(f"{type(self).__qualname__} keeps leases to its process.")

    def shared(self, queue_name: str, raw: bytes) -> Delivery:
        """Return the delivery that another process has shared: without data, to be extended, or
        released as it was.

        :raises UnsupportedOption: as :meth:`share`.
        """
        raise UnsupportedOption(f"{type(self).__qualname__} keeps leases to its process.")

    def run_now(self, queue_name: str, task_id: str) -> bool:
        """Let the delay of a task end now, and wake a caller that waits in :meth:`reserve`.

        Then it is like any task whose delay has ended: a limit or a rate may keep it back.

        :returns: False: no task of that id is delayed.
        :raises UnsupportedOption: by default: the backend cannot change a delay.
        """
        raise UnsupportedOption(
            f"{mask_password(self.conn_string)} cannot end the delay of a task; redis://, "
            "sqlite:// and locmem:// can."
        )

    # -- Pauses. --------------------------------------------------------------------------

    def pause(self, queue_name: str, until: float | None = None) -> None:
        """Let no :meth:`reserve` lease from a queue, but for a task that it names by its id.

        Pushes go on, delays and leases run, and what is on lease may be acked, released and
        buried. A caller that waits in :meth:`reserve` goes on waiting, without looking again and
        again. A second pause replaces the first. Neither :meth:`drop_all` nor a restart of the
        server ends it, if that keeps its tasks.

        :param until: when the pause ends by itself, a Unix timestamp in seconds; None: by
            :meth:`resume`.
        :raises UnsupportedOption: by default; see ``PAUSE`` in ``controls``.
        """
        raise self._no_pause()

    def resume(self, queue_name: str) -> bool:
        """End the pause of a queue, and wake the callers that wait for its tasks.

        :returns: False: it was not paused.
        :raises UnsupportedOption: by default; see ``PAUSE`` in ``controls``.
        """
        raise self._no_pause()

    def paused(self, queue_name: str) -> float | None:
        """Return until when a queue is paused, infinity: until :meth:`resume`; None: it is not.

        :raises UnsupportedOption: by default; see ``PAUSE`` in ``controls``.
        """
        raise self._no_pause()

    def _no_pause(self) -> UnsupportedOption:
        return UnsupportedOption(
            f"{mask_password(self.conn_string)} cannot pause a queue; name a store, as in "
            "Gator(…, store='redis://localhost:6379/0'), or use a redis:// or sqlite:// queue."
        )

    # -- Dead letters. --------------------------------------------------------------------

    @abstractmethod
    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Make a reserved task a dead letter. Returns False if the delivery was overtaken.

        :param delivery: its ``attempt`` becomes ``DeadTask.attempts``; a caller that knows better
            how often the task was tried may set it.
        :param data: what to keep; None: the data as delivered. A dead letter of the same
            id is replaced.
        """

    @abstractmethod
    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        """Return the dead letters of a queue, newest first."""

    def letter(self, queue_name: str, task_id: str) -> DeadTask | None:
        """Return one dead letter.

        :returns: None: there is none, or, by default, it is not among the newest 1,000.
        """
        found = self.dead(queue_name, _LETTERS)
        return next((each for each in found if each.task_id == task_id), None)

    @abstractmethod
    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        """Put a dead letter (None: all of them) back at the tail of its queue; return how many.

        Its deaths are forgotten. One whose id is waiting, delayed or running stays dead.

        :param renew: returns the data to queue each with; None: its own. It must not raise, nor use
            this client. It may be asked about a dead letter that is not revived then.
        """

    @abstractmethod
    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        """Delete dead letters that died more than so many seconds ago; return how many."""

    def delete_dead(self, queue_name: str, task_ids: Sequence[str]) -> int:
        """Delete dead letters by their ids; return how many there were.

        :raises UnsupportedOption: by default: the backend has no way to one of them.
        """
        raise UnsupportedOption(
            f"{mask_password(self.conn_string)} cannot delete single dead letters; purge those of "
            "the whole queue, or use redis://, sqlite:// or locmem://."
        )

    # -- Looking. -------------------------------------------------------------------------

    @abstractmethod
    def find(self, queue_name: str, task_id: str) -> Place | None:
        """Return where a task stands; None: not on this queue.

        It is quick wherever that is: what would have to be counted one by one is counted up to
        :data:`~alligator.backends.types.MOST_COUNTED` from each end.
        """

    @abstractmethod
    def peek(self, queue_name: str, task_id: str) -> Data | None:
        """Return the data of a waiting, delayed, running or dead task and leave it there."""

    @abstractmethod
    def stats(self, queue_name: str) -> QueueStats:
        """Return how many tasks are in which state, and the age of the first in line."""

    def server_time(self, queue_name: str) -> float | None:
        """Return what the server's clock shows, by which tasks of a queue are due.

        It is right within milliseconds, though the server is not asked each time. It is early by
        no more than clocks drift in a minute.

        :returns: a Unix timestamp in seconds; None, as by default: the server has no such clock,
            and the injected one counts.
        :raises ConnectionLost: it is not known, and the server cannot be reached.
        """
        return None

    def age(self, delivery: Delivery) -> tuple[float, float] | None:
        """Return how long ago a task was pushed, as the server counts, whatever clocks show.

        Connects to nothing.

        :returns: at least and at most so many seconds; None, as by default: it does not count, or
            only since a retry.
        """
        return None

    def position(self, queue_name: str) -> Any:
        """Return how far the history of a queue has come, for :meth:`lost_nothing_since`.

        :returns: opaque; None: this backend does not know.
        """
        return None

    def lost_nothing_since(self, queue_name: str, position: Any) -> bool | None:
        """Return whether each task that left a queue since then was acked, buried, popped or moved.

        It proves that a task did not get lost. Ask for it once a task has left its queue.

        :param position: what :meth:`position` returned, or a push, as
            :class:`~alligator.backends.base.Queued`.
        :returns: False: the queue was emptied since, or its server was restarted, or lost what
            it had, or may have; None: this backend cannot tell, or was given no position.
        """
        return None

    def list_tasks(
        self, queue_name: str, state: int, limit: int = 100, after: str | None = None
    ) -> tuple[list[Listed], str | None]:
        """Return some tasks of a queue in one state, and leave them as they are.

        They come in the order in which they would run: of those running, the one on lease for the
        longest comes first; of the dead, the last to die. A task that stays where it is while
        others come, go and move is on one page, and on no second one. A client with
        ``LISTING`` in its ``controls`` can list all of these states.

        :param state: ``WAITING`` (also where a limit keeps it back, or one of its id runs),
            ``DELAYED``, ``RUNNING``, ``FAILED`` (dead), or ``HELD`` (it waits for its parents).
        :param limit: at least 1. Fewer are returned where they have many megabytes of data.
        :param after: the cursor of the page before; None: from the beginning.
        :returns: the tasks, and the cursor of the next page; None: there is none.
        :raises InvalidTask: ``after`` is no such cursor.
        :raises UnsupportedOption: the backend cannot list tasks in that state.
        """
        if state == FAILED:
            return _list_dead(self.dead, queue_name, limit, after)
        raise UnsupportedOption(
            f"{mask_password(self.conn_string)} cannot list tasks that are {_NAMES[state]}; "
            "redis://, sqlite:// and locmem:// can."
        )

    def queue_names(self) -> list[str] | None:
        """Return the names of the queues that tasks were pushed to and that are not forgotten.

        All queues with tasks are among them. For people, and not often: it may take some time.

        :returns: None: the backend cannot say, or not without looking at all that it holds.
        """
        return None

    def next_change(self, queue_names: Sequence[str]) -> float:
        """Return when a ``reserve`` will have something to do if no caller does anything.

        That is when a delay or a lease ends: a Unix timestamp in seconds, not later than now
        where there is something already, and infinity where there is nothing at all. It is
        for moving an injected clock from event to event.

        :raises UnsupportedOption: time is not the injected clock's here, but the server's.
        """
        raise UnsupportedOption(
            f"{mask_password(self.conn_string)} goes by a clock of its own, which no test can "
            "move; use locmem:// or sqlite:// with a FakeClock."
        )

    def check_exists(self) -> None:  # noqa: B027 - most have nothing that a push would make
        """Refuse a place that is not there, where a push would make it: a file.

        For callers that only look: they make nothing, and a wrong name is noticed.

        :raises QueueNotFound: it is not there.
        """

    def backup(self, target: str) -> None:
        """Copy all queues and records to a new file, as they stand at one moment.

        Producers and workers go on meanwhile. A task that runs at that moment is on lease in the
        copy, too.

        :param target: where; only its owner may read it (mode 0600).
        :raises UnsupportedOption: by default; a server has means of its own.
        :raises InvalidTask: there is something at that place; nothing is overwritten.
        """
        raise UnsupportedOption(
            f"{mask_password(self.conn_string)} keeps its tasks on a server, which has its own "
            "means for a backup; only sqlite:// is copied with this."
        )

    def durability_warning(self) -> str | None:
        """Return one line on why this server may lose tasks as it is set up; None: it won't.

        A worker logs it at its start. Connects.
        """
        return None

    def examine(self) -> list[Finding]:
        """Return what there is to know about the server or file, and what to change there.

        For people, and not often: it may take a second. Connects, and changes nothing. By default
        that it can be reached, and :meth:`durability_warning`.

        :raises ConnectionLost, QueueNotFound: it cannot be reached, or a queue is not there.
        """
        warning = self.durability_warning()
        found = [Finding("connection", "the backend can be reached")]
        if warning:
            found.append(Finding("persistence", warning.rstrip("."), must_change=True))
        return found

    def place_of(self, queue_name: str) -> str | None:
        """Return text that names where the tasks of a queue are, however the DSN is written.

        Two clients of equal text would see the same tasks. Connects.

        :returns: None, as by default: it cannot be told.
        """
        return None

    def close(self) -> None:  # noqa: B027 - not every client has something to close
        """Close connections and files. The client may be used again and reconnects."""

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__qualname__} {mask_password(self.conn_string)}>"
        )


def _list_dead(
    dead: Callable[[str, int], list[DeadTask]], queue_name: str, limit: int, after: str | None
) -> tuple[list[Listed], str | None]:
    """Return a page of dead letters, from a method that returns the newest ones."""
    last = None if after is None else tuple(read_cursor(after, float, str))
    wanted = limit + 1
    while True:
        letters = dead(queue_name, wanted)
        left = [each for each in letters if last is None or (each.died_at, each.task_id) < last]
        if len(left) > limit or len(letters) < wanted:
            break
        wanted *= 2
    page = [
        Listed(
            each.task_id,
            each.data,
            FAILED,
            attempts=each.attempts,
            error=each.error,
            died_at=each.died_at,
        )
        for each in left[:limit]
    ]
    more = len(left) > limit
    return page, write_cursor(left[limit - 1].died_at, page[-1].task_id) if more else None


def reaching(
    message: Message, client: Client, timeout: float | None, hook_timeout: float | None
) -> Message:
    """Return a message that asks the server for a lease beyond the limits of its task.

    Where the worker sets the length of a lease, the message is returned as it is.
    """
    if timeout and client.lease_seconds:
        hooks = 2 * min(hook_timeout or 0.0, MAX_LEASE)
        return lasting(message, min(timeout, MAX_LEASE) + hooks + client.lease_seconds)
    return message


def time_on(client: Client, queue_name: str, clock: Clock) -> float:
    """Return the time by which tasks of a queue are due: the server's, or that of this clock.

    :raises ConnectionLost: the server's time is not known, and it cannot be reached.
    """
    found = client.server_time(queue_name)
    return clock.time() if found is None else found
