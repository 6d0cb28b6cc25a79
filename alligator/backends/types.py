"""Define the values that clients and stores take and return.

``alligator.backends.base`` and ``alligator.backends.store`` export them as well.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from alligator.constants import CANCELED, FAILED, SUCCESS

#: What a task is to a backend.
Data = str | bytes

#: Takes the id and the data of a dead letter, and returns the data to queue it with.
Renew = Callable[[str, Data], Data]

#: States after which the state of a task does not change.
ENDED = frozenset({SUCCESS, FAILED, CANCELED})


class Controls(NamedTuple):
    """What a task asks of its queue: how many may run, how often, and whether it is queued twice.

    All keys belong to one queue. '' and 0 mean: not asked for. A client keeps them with the task
    until it leaves the queue for good; a dead letter keeps them, too, for its revival.
    """

    limit_key: str = ""
    limit: int = 0  # tasks of that key that may run at the same time
    rate_key: str = ""
    rate: float = 0.0  # tasks of that key that may start ...
    rate_seconds: float = 0.0  # ... within so many seconds
    unique_key: str = ""
    unique_until_start: bool = False  # the key is free when the task starts, not when it ends
    debounce: float = 0.0  # seconds that a further push of that unique key delays the task
    debounce_max: float = 0.0  # seconds that all of them together delay it at most


class Message(NamedTuple):
    """A task on its way to a queue."""

    task_id: str
    data: Data
    delay_until: float | None = None  # Unix timestamp in seconds; None: now
    priority: int = 0


class LastingMessage(Message):
    """A message that asks for a lease, where the server sets its length at the push.

    :ivar lease: seconds, at least.
    """

    lease: float = 0.0


def lasting(message: Message, lease: float) -> LastingMessage:
    """Return a message that asks for a lease of so many seconds."""
    found = LastingMessage(*message)
    found.lease = lease
    return found


class ControlledMessage(Message):
    """A message with controls, for a client that lists them in ``Client.controls``."""

    controls: Controls = Controls()
    #: Returns the data with which a debounced message replaces the task of another id. It must not
    #: use the client. None: the data serve for any id.
    data_for: Callable[[str], Data] | None = None

    def _replace(self, **changes: Any) -> "ControlledMessage":
        return controlled(super()._replace(**changes), self.controls, self.data_for)


def controlled(
    message: Message, controls: Controls, data_for: Callable[[str], Data] | None = None
) -> ControlledMessage:
    """Return a message with controls."""
    found = ControlledMessage(*message)
    found.controls, found.data_for = controls, data_for
    return found


def controls_of(message: Message) -> Controls | None:
    """Return the controls of a message; None: it has none."""
    return message.controls if isinstance(message, ControlledMessage) else None


class Queued(str):
    """The id that a task has on its queue, as a push returns it, with its position there.

    :ivar position: opaque; for ``Client.lost_nothing_since``.
    """

    __slots__ = ("position",)

    position: Any


class Duplicate(Queued):
    """The id of the task that has the unique key of a message, which was not queued itself."""

    __slots__ = ()


def all_queued(task_ids: Iterable[str], position: Any) -> list[str]:
    """Return ids with the same position."""
    found: list[Any] = list(map(Queued, task_ids))  # faster than one by one
    for each in found:
        each.position = position
    return found


def queued_or_pending(
    task_ids: Sequence[str], pending: Mapping[int, str], position: Any
) -> list[str]:
    """Return ids with the same position; those of pending tasks, by index, as duplicates."""
    found = all_queued(task_ids, position)
    for index, task_id in pending.items():
        duplicate = Duplicate(task_id)
        duplicate.position = position
        found[index] = duplicate
    return found


def queued(task_id: str, position: Any) -> Queued:
    """Return an id with a position."""
    found = Queued(task_id)
    found.position = position
    return found


class Listed(NamedTuple):
    """A task as a look at its queue found it; see ``Client.list_tasks``."""

    task_id: str
    data: Data
    state: int  # WAITING, DELAYED, RUNNING or FAILED (dead); a held or limited task is WAITING
    priority: int = 0
    due: float | None = None  # DELAYED: a Unix timestamp in seconds
    attempts: int = 0  # how often it was delivered; FAILED: as ``DeadTask`` has it
    until: float | None = None  # RUNNING: when its lease ends, where that can be told
    error: str = ""  # FAILED: why it was buried
    died_at: float | None = None  # FAILED: when, a Unix timestamp in seconds
    deaths: int = 0  # how often its lease ran out, as Delivery has it; FAILED: 0


class Delivery(NamedTuple):
    """A task on lease to the worker that reserved it."""

    queue_name: str
    task_id: str
    data: Data
    receipt: Any  # the client's own proof of this very lease; opaque to others
    attempt: int = 1  # grows with every lease of this task
    deaths: int = 0  # how often its lease ran out; see alligator.backends.base


class Reserved(NamedTuple):
    """What :meth:`~alligator.backends.base.Client.reserve` returns."""

    deliveries: list[Delivery]
    refused: list[Delivery]  # those of ``acks`` that had been overtaken


class Reason(NamedTuple):
    """Why a task was buried."""

    error: str  # one line
    traceback: str = ""


#: Tasks that :meth:`~alligator.backends.base.Client.find` counts from an end of a queue where its
#: backend has to count one by one: a million takes 0.1 s.
MOST_COUNTED = 10_000


class Place(NamedTuple):
    """Where a task stands; see :meth:`~alligator.backends.base.Client.find`."""

    state: int  # WAITING, DELAYED, RUNNING or FAILED (dead) of alligator.constants
    #: WAITING: how many tasks go first, where that can be told. With ``is_least`` there are more,
    #: and only so many were counted: see :data:`MOST_COUNTED`.
    ahead: int | None = None
    due: float | None = None  # DELAYED: when it may run, a Unix timestamp in seconds
    until: float | None = None  # RUNNING: when its lease ends, likewise, where that can be told
    #: WAITING: the control that keeps it back, LIMIT or RATE; RATE: ``due`` is when the next task
    #: of its key may start.
    kept_by: str = ""
    is_least: bool = False
    #: How often it was delivered since it was pushed or revived, as :class:`Listed` has it, also if
    #: it was handed back before it ran; None: a look at one task does not tell.
    attempts: int | None = None
    deaths: int = 0  # how often its lease ran out, likewise


@dataclass(frozen=True, slots=True)
class DeadTask:
    """A dead letter: a task with no retry left, and all that is needed to explain and rerun it."""

    task_id: str
    queue_name: str
    data: Data
    error: str
    traceback: str
    died_at: float  # Unix timestamp in seconds
    #: How often it was tried. From a worker, this counts its runs; the deaths of its worker since
    #: the last run that ended in order; and how often its code was found missing since then. It
    #: does not count deliveries that were handed back before they ran.
    attempts: int


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How full a queue is."""

    waiting: int
    delayed: int
    running: int
    dead: int
    oldest: float | None  # seconds since the next task was pushed; None: empty or not known
    held: int = 0  # tasks that the queue itself keeps back until their parents have succeeded


class Finding(NamedTuple):
    """What a client found out about its server or file; see ``Client.examine``."""

    subject: str  # such as 'version' or 'persistence'
    found: str  # a sentence without its full stop
    advice: str = ""  # what to change, likewise; '': nothing
    must_change: bool = False  # until then tasks may get lost, or cannot be queued or run

    @property
    def warning(self) -> str:
        """The finding and the advice in one sentence."""
        return f"{self.found}; {self.advice}." if self.advice else f"{self.found}."


def clock_finding(server: float, before: float, after: float) -> Finding:
    """Return how far a server's clock is from ours.

    :param server: what the server's clock showed, a Unix timestamp in seconds.
    :param before: what ours showed before the server was asked, and ``after`` the reply.
    """
    difference = 0.0 if before <= server <= after else server - (before + after) / 2
    if abs(difference) < 1.0:
        return Finding("clock", "the clocks of the server and of this machine agree")
    way = "ahead of" if difference > 0 else "behind"
    return Finding(
        "clock",
        f"the server's clock is {abs(difference):,.1f} s {way} that of this machine",
        "delays go by the server's clock; let both follow the same time servers (NTP)",
    )


class Ahead(ABC):
    """A ``reserve`` whose reply has not been read; see ``Client.begin_reserve``."""

    #: When it was sent, by ``time.monotonic()``: the leases began no earlier.
    sent: float

    @abstractmethod
    def ready(self) -> bool:
        """Return whether :meth:`read` would return, or raise, without waiting."""

    @abstractmethod
    def read(self) -> Reserved:
        """Wait for the reply and return it; from any thread, the same each time.

        :raises ConnectionLost: it is unknown whether the acks counted; send them again. If the
            server leased something, it comes back when its lease runs out. Raised each time.
        """


class Record(NamedTuple):
    """What is known of one run of a task."""

    state: int  # one of alligator.constants; see also `ended`
    result: str | None = None  # SUCCESS: JSON text, where the task saves its result
    error: str = ""  # one line; of a success: why its result is not as it was returned
    traceback: str = ""
    at: float = 0.0  # when that was, a Unix timestamp in seconds
    attempt: int = 0  # Delivery.attempt: the fence within one push
    pushed: float = 0.0  # when the task was pushed, Unix seconds: the fence between two
    place: str = ""  # its id on the queue, where that is not its own

    @property
    def fence(self) -> tuple[float, int]:
        """What decides which of two records is the later one."""
        return self.pushed, self.attempt

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.state in ENDED


class Worker(NamedTuple):
    """A worker that sent a heartbeat."""

    name: str  # unique, such as 'host:pid:1'
    queue_names: tuple[str, ...]
    seen: float  # when it sent the last one, a Unix timestamp in seconds
    until: float  # when it counts as gone unless it sends another


#: What happened in one minute (Unix seconds at which it began), on a queue, to the tasks of one
#: function: numbers to add, but for the maxima (``alligator.backends.activity_sums.MAX_AT``).
Activity = tuple[int, str, str, tuple[float, ...]]

_NO_DOCUMENTS: Mapping[str, tuple[str, float]] = MappingProxyType({})


class Report(NamedTuple):
    """What a worker tells a store, and asks of it; see ``Store.report``."""

    worker: str  # its name, unique
    live: str | None = None  # what it does now, JSON text; None: unchanged
    seconds: float = 0.0  # that it counts as alive from now; 0: it ends, and is listed no more
    activity: Sequence[Activity] = ()
    recent: Sequence[str] = ()  # tasks that have ended, JSON text of each, oldest first
    documents: Mapping[str, tuple[str, float]] = _NO_DOCUMENTS  # text and seconds to keep it
    ask: Sequence[str] = ()  # keys of documents to return


class LiveWorker(NamedTuple):
    """A worker that reported what it does."""

    name: str
    text: str  # what it does, JSON text as it reported it
    seen: float  # when it sent the last report, a Unix timestamp in seconds
    until: float  # when it counts as lost, unless it sends another; it stays listed for an hour


class Parent(NamedTuple):
    """A task that another one waits for."""

    task_id: str
    queue_names: tuple[str, ...]  # where it may be; the first that has it counts


class Child(NamedTuple):
    """A task that waits for others."""

    queue_name: str
    message: Message
    parents: tuple[Parent, ...]
    unconditional: bool = False  # it runs once they have ended, whether they succeeded or not


class Waits(NamedTuple):
    """The parents that a child waits for."""

    total: int  # how many have not ended
    first: list[tuple[str, str]]  # queue and id of some of them


class Watch(Protocol):
    """What ``with store.watch(ids) as watch`` gives."""

    def wait(self, timeout: float) -> bool:
        """Block until something may have changed (True), or ``timeout`` seconds are over (False).

        A change since the block began, or since the last wait ended, ends the wait at once.
        """


class Queues(Protocol):
    """What a store asks of a client, be it its own or another."""

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks on one queue; see ``Client.push_many``."""

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Remove tasks that are done; see ``Client.ack``."""

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        """Return the data of a task; see ``Client.peek``."""

    def list_tasks(
        self, queue_name: str, state: int, limit: int = 100, after: str | None = None
    ) -> tuple[list[Listed], str | None]:
        """Return some tasks of a queue in one state; see ``Client.list_tasks``."""

    def check_exists(self) -> None:
        """Refuse a place that is not there; see ``Client.check_exists``."""
