"""Run one delivered task, and decide what becomes of it.

:func:`attempt` runs the task and returns a verdict; ``alligator.execution.settle`` tells the
backend. The two are apart so that a worker can ack in bulk. A crash between them repeats the task
and never loses it.
"""

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC
from enum import Enum
from typing import Any

from alligator.backends.base import Client, Data, Delivery, Reason, time_on
from alligator.common import after_fork
from alligator.common.clock import Clock
from alligator.common.text import describe_error, describe_traceback, show_time
from alligator.exceptions import (
    AlligatorException,
    BadSignature,
    ImportFailed,
    LeaveNow,
    UnknownCallableError,
    UnknownModuleError,
)
from alligator.runtime.timeouts import Overrun, TimeIsUp, overrun, overruns_tell
from alligator.tasks.backoff import deploy_delay
from alligator.tasks.codec import Codec
from alligator.tasks.message import missed
from alligator.tasks.task import Carry, Task

#: Characters of a traceback that are kept with a dead letter.


#: About what goes on around a task, and not about the task.
_AROUND = (LeaveNow, TimeIsUp)


class Verdict(Enum):
    """What becomes of a delivery."""

    ACK = "done"
    RETRY = "failed, with a retry left"
    LATER = "not run: something is missing, perhaps for a moment"
    BURY = "given up"
    CARRIED = "not known yet: it goes on as a coroutine"


_NONE = Reason("")


@dataclass(slots=True)
class Outcome:
    """What came of one delivery."""

    delivery: Delivery
    verdict: Verdict
    task: Task | None = None
    error: BaseException | None = None
    data: Data | None = None  # what to put back, or to bury; None: the data as delivered
    delay: float = 0.0  # seconds before the next try
    reason: Reason = _NONE
    tries: int | None = None  # how often it was tried; None: as often as it was delivered

    def leased_anew(self, delivery: Delivery) -> None:
        """Note that the same task is on another lease, by which it is settled."""
        self.delivery = delivery


#: Called before a task with a timeout runs, with all its seconds; returns what follows an overrun.
Limit = Callable[[Delivery, float], Overrun]


def attempt(
    delivery: Delivery,
    codec: Codec,
    max_deaths: int,
    clock: Clock,
    limit: Limit | None = None,
    begin: Callable[[Task, Delivery], None] | None = None,
    carry: Carry | None = None,
    client: Client | None = None,
) -> Outcome:
    """Read a delivered task, run it unless it has expired, and judge.

    A child that the task forked, and that comes out of it, ends here.

    :param begin: told of the task right before it runs.
    :param carry: what waits for a coroutine in the place of this thread; see
        :meth:`alligator.Task.start`. Then :func:`conclude` judges.
    :param client: what it was delivered by, which may have a clock of its own.
    """
    if delivery.deaths >= max_deaths:
        why = f"WorkerDied: {delivery.deaths} deaths of its worker were counted while it ran."
        tries = _tries(delivery, codec, None) - 1  # not this time
        data = _as_pushed(delivery, codec)
        return Outcome(delivery, Verdict.BURY, data=data, reason=Reason(why), tries=tries)
    origin = after_fork.generation
    try:
        task = codec.decode(delivery)
        if after_fork.generation != origin:  # asked here, as a call takes longer
            after_fork.leave_unless(origin)
        if getattr(task, "expires_at", None) and (
            not_run := _expired(delivery, codec, task, clock, client)
        ):
            return not_run
    except _AROUND as err:
        after_fork.leave_unless(origin, err)
        raise
    except ImportFailed as err:
        after_fork.leave_unless(origin, err)
        return _not_imported(delivery, codec, clock, client, err)
    except (UnknownModuleError, UnknownCallableError, KeyboardInterrupt) as err:
        after_fork.leave_unless(origin, err)
        # A deploy may be under way, this worker older than the task (or somebody pressed
        # Ctrl-C): wait, then give up.
        return _missing(delivery, codec, err)
    except BaseException as err:
        after_fork.leave_unless(origin, err)
        # It cannot be read, or may not run here: a dead letter with its bytes. Also where a class
        # of its own kind raises SystemExit, or the like: it ends itself, and not its worker.
        return _given_up(delivery, codec, None, err)
    args, kwargs = getattr(task, "func_args", None), getattr(task, "func_kwargs", None)
    try:
        seconds = getattr(task, "timeout", None)
        if getattr(task, "hook_timeout", None):
            seconds = _limited(task)
        if carry is not None:  # it may fail after this has returned
            task.called_with = args, kwargs
        if begin:
            begin(task, delivery)
        # Else it is of a class of the user's own, that runs it in its own way.
        is_plain = getattr(type(task), "run", None) is Task.run
        call: tuple[Any, ...] = (task.start, carry) if is_plain else (task.run,)
        if seconds or overrun.get() is not None:
            with overruns_tell(limit(delivery, seconds) if seconds and limit else None):
                carried = copy_context().run(*call)
        else:
            carried = copy_context().run(*call)
    except LeaveNow:
        after_fork.leave_unless(origin)
        raise  # the worker is leaving and releases what it holds
    except BaseException as err:
        after_fork.leave_unless(origin, err)
        # Whatever a task raises is its failure: a retry if one is left, else a dead letter.
        return _failed(delivery, codec, task, err, called_with=(args, kwargs))
    if after_fork.generation != origin:
        after_fork.leave_unless(origin)
    return Outcome(delivery, Verdict.CARRIED if is_plain and carried else Verdict.ACK, task)


def _limited(task: Task) -> float | None:
    """Return the seconds that the limits of a task allow for in all; None: it has none."""
    seconds: float | None = getattr(task, "timeout", None)
    if each := getattr(task, "hook_timeout", None):
        ends = task.on_success is not None or task.on_error is not None
        hooks = (task.on_start is not None) + ends
        return (seconds or 0.0) + hooks * each if hooks else seconds
    return seconds


def conclude(
    delivery: Delivery, codec: Codec, task: Task, result: Any, error: BaseException | None
) -> Outcome:
    """Judge a task that was carried on as a coroutine, by what that returned or raised."""
    origin = after_fork.generation
    try:
        task.end(result, error)
    except LeaveNow:
        raise
    except BaseException as err:
        after_fork.leave_unless(origin, err)
        return _failed(delivery, codec, task, err)
    after_fork.leave_unless(origin)
    return Outcome(delivery, Verdict.ACK, task)


def _missing(delivery: Delivery, codec: Codec, error: BaseException) -> Outcome:
    """Judge a task whose code is missing, perhaps for a moment; its message says how often."""
    count = missed(delivery.data) + 1
    data = codec.with_missed(delivery, count)
    delay = deploy_delay(delivery.attempt if data is None else count)
    if delay is None:
        return _given_up(delivery, codec, None, error)
    return Outcome(delivery, Verdict.LATER, error=error, data=data, delay=delay)


def _tries(delivery: Delivery, codec: Codec, task: Task | None) -> int:
    """Return how often a task was tried, this time included; see ``DeadTask.attempts``."""
    known = missed(delivery.data) + delivery.deaths + 1
    try:
        told = codec.decode_names(delivery) if task is None else task
        if told.retried or type(told).serialize is Task.serialize:
            return told.retried + known
    except _AROUND:
        raise
    except BaseException:
        if codec.task_class is Task:
            return known  # never before, since it cannot be read
    return delivery.attempt  # a class of its own kind may take no note of retries


def _as_pushed(delivery: Delivery, codec: Codec) -> Data | None:
    """Return what a dead letter is to hold; None: the data as delivered."""
    try:
        return codec.with_missed(delivery, 0) if missed(delivery.data) else None
    except BadSignature:
        return None  # with its bytes


def _not_imported(
    delivery: Delivery, codec: Codec, clock: Clock, client: Client | None, error: ImportFailed
) -> Outcome:
    """Judge a task whose module is there and broken: a failure, of which no hook can be told."""
    try:
        task = codec.decode_names(delivery)
        if getattr(task, "expires_at", None) and (
            not_run := _expired(delivery, codec, task, clock, client)
        ):
            return not_run
    except _AROUND:
        raise
    except BaseException:  # a Task class that imports in a way of its own
        return _given_up(delivery, codec, None, error)
    return _failed(delivery, codec, task, error, codec.decode_names)


def _now(delivery: Delivery, task: Task, clock: Clock, client: Client | None) -> float:
    """Return what the clock shows that ``expires_at`` is about.

    Where the server counts seconds, that is made to be this worker's clock, also for a retry.
    """
    if client is None:
        return clock.time()
    waited = getattr(task, "_depends_on", None) or getattr(task, "kept_parents", None)
    age = client.age(delivery) if task.pushed_at and not waited else None  # held before it was put
    if age is None:
        return time_on(client, delivery.queue_name, clock)
    here = clock.time()
    reckoned = min(max(here - task.pushed_at, age[0]), age[1])  # if clocks agree, it is more exact
    task.expires_at = (task.expires_at or 0.0) + here - (task.pushed_at + reckoned)
    return here


def _expired(
    delivery: Delivery, codec: Codec, task: Task, clock: Clock, client: Client | None
) -> Outcome | None:
    """Judge a task that has expired; None: it has not."""
    try:
        now = _now(delivery, task, clock, client)
    except AlligatorException as err:  # not known whether it has: that is seen the next time
        return Outcome(delivery, Verdict.LATER, error=err)
    expires_at = task.expires_at or 0.0
    if now < expires_at:
        return None
    when, late = show_time(expires_at, zone=UTC), now - expires_at
    why = Reason(f"Expired: it was to start before {when}; a worker had it {late:.1f} s later.")
    task.expires_at = None  # whoever revives it wants it to run
    task.to_failed()
    try:
        data = codec.encode(task, delivery.queue_name)
    except _AROUND:
        raise
    except BaseException:
        data = None  # a Task class of its own kind: kept as it came
    tries = _tries(delivery, codec, task) - 1  # not this time
    return Outcome(delivery, Verdict.BURY, task, data=data, reason=why, tries=tries)


def _failed(
    delivery: Delivery,
    codec: Codec,
    task: Task,
    error: BaseException,
    decode: Callable[[Delivery], Task] | None = None,
    called_with: tuple[Any, Any] | None = None,
) -> Outcome:
    """Judge a failure.

    :param decode: what shows that the task can be queued again; None: that of the codec.
    :param called_with: its arguments before it ran; None: the task knows them, or did not run.
    """
    decode, tries = decode or codec.decode, _tries(delivery, codec, task)
    try:
        if not task.retries > 0:
            return _given_up(delivery, codec, task, error)
        delay = task.spend_retry(error)
        if called_with is not None:
            task.called_with = called_with
        pushed = decode(delivery)  # as the function may have changed what it was given
        task.restore_arguments(pushed.func_args, pushed.func_kwargs)
        data = codec.encode(task, delivery.queue_name)
        decode(delivery._replace(data=data))
    except _AROUND:
        raise
    except BaseException as err:
        # A hook made it unfit for the queue: kept as it came, with the failure that counts.
        why = f"It was not retried, since it can no longer be queued: {describe_error(err)}"
        with suppress(Exception):  # which may be of any kind
            error.add_note(why)
        outcome = _given_up(delivery, codec, task, error)
        outcome.tries = tries  # it may have spent one on the way
        return outcome
    return Outcome(delivery, Verdict.RETRY, task, error, data, delay)


def _given_up(delivery: Delivery, codec: Codec, task: Task | None, error: BaseException) -> Outcome:
    text = describe_traceback(error)
    reason, data = Reason(describe_error(error), text), _as_pushed(delivery, codec)
    tries = _tries(delivery, codec, task)
    return Outcome(delivery, Verdict.BURY, task, error, data, reason=reason, tries=tries)
