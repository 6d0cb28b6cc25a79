"""The rows that ``gator.queues()``, ``workers()``, ``running()`` and the like return.

All times are Unix timestamps in seconds. Text that comes from a task is shortened, and secret
arguments are masked; it is not escaped.
"""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from alligator.constants import (
    CANCELED,
    DELAYED,
    FAILED,
    HELD,
    RETRYING,
    RUNNING,
    SUCCESS,
    WAITING,
)

Row = TypeVar("Row")

#: The states of a task as words: of JSON documents, and classes of badges in pages.
STATE_WORDS = {
    WAITING: "waiting",
    DELAYED: "delayed",
    RUNNING: "running",
    RETRYING: "retrying",
    SUCCESS: "success",
    FAILED: "failed",
    CANCELED: "canceled",
    HELD: "held",
}


class Page(list[Row]):
    """Some rows of a long list, in order.

    ::

        page = gator.tasks('waiting')
        while page.next is not None:
            page = gator.tasks('waiting', after=page.next)
    """

    #: What to give as ``after`` for the rows that follow; opaque. None: these were the last.
    next: str | None = None

    #: How many more tasks are there which the backend does not show: beanstalkd shows one.
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue that has tasks, workers or a schedule."""

    name: str
    waiting: int
    delayed: int
    running: int
    dead: int
    oldest: float | None  # seconds since the next task was pushed; None: empty or not known
    paused: bool
    workers: int  # live ones that serve it


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task on a queue, as a look found it. ``state`` is one of ``alligator.constants``."""

    task_id: str
    function: str  # 'module.name'; '': the message cannot be read
    queue_name: str
    state: int
    args: str  # as Python would write it, shortened and masked
    kwargs: str
    priority: int
    due: float | None  # when a delayed task may run
    attempts: int
    pushed: float | None = None  # when it was pushed; None: the message does not say
    error: str = ""  # of a dead one: one line
    died: float | None = None  # of a dead one: when


@dataclass(frozen=True, slots=True)
class NowRow:
    """A task that a worker runs now, as that worker reported it."""

    task_id: str
    function: str
    queue_name: str
    attempt: int
    started: float


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker that lives, or was lost a short while ago."""

    host: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int
    version: str
    started: float
    last_seen: float
    done: int
    failed: int
    running: tuple[NowRow, ...]
    is_lost: bool = False  # it sent no heartbeat in time, and did not end in order
    name: str = ""  # unique, such as 'host:pid:1f'


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A task on lease."""

    task_id: str
    function: str
    queue_name: str
    attempt: int
    started: float | None  # None: fetched, and not started yet, as far as is known
    worker: str  # 'host:pid'; '': not known
    lease_left: float | None  # seconds; None: the server does not say
    progress: tuple[float, str] | None


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """What happened to the tasks of one function on one queue in one minute."""

    minute: int  # Unix seconds at which it began
    queue_name: str
    function: str
    succeeded: int = 0
    failed: int = 0  # runs that raised an exception, retried or not
    retried: int = 0
    dead: int = 0  # tasks that became dead letters, but for expired ones
    expired: int = 0  # tasks that became dead letters as their expiry had passed
    canceled: int = 0  # while they ran
    lost: int = 0  # leases that ran out
    wait_sum: float = 0.0  # seconds from when it was to run until it started
    wait_max: float = 0.0
    duration_sum: float = 0.0  # seconds
    duration_max: float = 0.0
    #: How many waits, and durations, were at most so long: one count for each of
    #: ``alligator.monitoring.activity_counts.BUCKETS``, and one for all that were longer.
    wait_buckets: tuple[int, ...] = ()
    duration_buckets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DepthRow:
    """How full a queue was in one minute: the most that a look in that minute found."""

    minute: int  # Unix seconds at which it began
    queue_name: str
    waiting: int
    delayed: int
    running: int
    oldest: float  # seconds since the first in line was pushed; 0: none waited, or it is not known


@dataclass(frozen=True, slots=True)
class RecentRow:
    """A run of a task that has ended."""

    task_id: str
    function: str
    queue_name: str
    state: int
    attempt: int
    pushed: float
    started: float
    ended: float
    worker: str
    args: str
    error: str  # one line; '' after a success
    parents: tuple[str, ...] = ()  # the ids of tasks that it waited for, the first 20


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule of this Gator: when it ticks next, and what the store knows of its past."""

    name: str
    function: str
    queue_name: str
    args: str
    kwargs: str
    rule: str  # as it was given: '0 5 * * tue', or 'every 60 s'
    tz: str  # the time zone of the rule; '': it needs none
    following: tuple[float, ...]  # the next ticks
    queued: float | None  # the last tick that was queued; None: none yet
    queued_id: str  # the id of its task; '': none yet
    skipped: float | None  # the last tick, if it was skipped since the run before still went on
    missed: float | None  # the last tick, if no worker has queued it nor skipped it
    is_known: bool  # whether a worker has looked at it at all


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt in the history of a task."""

    started: float  # 0: not known, since its worker was lost before it told
    ended: float | None  # None: it runs, or its worker was lost
    worker: str
    outcome: str  # 'running', 'succeeded', 'retried', 'failed', 'canceled', 'expired' or 'lost'
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class History:
    """The life of a task that was pushed with ``history`` or ``save_results``."""

    task_id: str
    function: str
    queue_name: str
    args: str
    kwargs: str
    pushed: float
    attempts: tuple[AttemptRow, ...]
    result: str | None  # JSON text, shortened; None: none was saved
    revived: tuple[float, ...] = ()  # when ``gator.revive`` put it back on its queue


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """All that is known of one task."""

    task_id: str
    queue_name: str
    status: int | None
    explanation: str  # see gator.explain
    row: TaskRow | None = None  # while it is on its queue
    headers: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    progress: tuple[float, str] | None = None
    history: History | None = None
    error: str = ""
    traceback: str = ""
