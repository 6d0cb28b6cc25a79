"""Run one delivered task, and decide whether to ack, release or bury it.

:func:`attempt` runs the task and returns a verdict; ``alligator.execution.settle`` tells the
backend. They are separate so that a worker can ack in bulk. A crash between them repeats the task
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
    ConnectionLost,
    ImportFailed,
    LeaveNow,
    TaskCanceled,
    UnknownCallableError,
    UnknownModuleError,
)
from alligator.runtime.timeouts import Overrun, TimeIsUp, overrun, overruns_tell
from alligator.tasks.attempt_numbers import attempts_before, number_of
from alligator.tasks.backoff import deploy_delay
from alligator.tasks.codec import Codec
from alligator.tasks.message import missed
from alligator.tasks.middleware import Ended, RunMiddleware
from alligator.tasks.task import Carry, Task

#: Exceptions by which a worker stops or a timeout ends the run; they are not the task's own.
_NOT_BY_THE_TASK = (LeaveNow, TimeIsUp)


class Verdict(Enum):
    """Name what the worker does with a delivery."""

    ACK = "done"
    RETRY = "failed, with a retry left"
    LATER = "not run: its code is missing, perhaps for a moment"
    BURY = "failed, with no retry left"
    CANCEL = "canceled while it ran"
    CARRIED = "not known yet: it runs on as a coroutine"


# For what is done for every task: to look a member up in its Enum takes 0.08 µs more.
_ACK, _CARRIED = Verdict.ACK, Verdict.CARRIED

_NONE = Reason("")

#: Seconds until a task is tried again whose arguments are in a store that cannot be reached.
_STORE_PAUSE = 5.0


@dataclass(slots=True)
class Outcome:
    """Hold the verdict on one delivery, and all that settling it needs."""

    delivery: Delivery
    verdict: Verdict
    task: Task | None = None
    error: BaseException | None = None
    data: Data | None = None  # the message to release or bury; None: the data as delivered
    delay: float = 0.0  # seconds before the next attempt
    reason: Reason = _NONE
    tries: int | None = None  # the attempts that count; None: the task tells
    expired: bool = False

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1, as people see it."""
        if self.tries is None:
            return number_of(self.delivery, self.task)
        return self.tries + (self.error is None)  # without an error, it was buried unrun

    def leased_again(self, delivery: Delivery) -> None:
        """Take over another lease on the same task, by which to settle it."""
        self.delivery = delivery


#: Called with a delivery and its timeout in seconds before it runs; returns what an overrun does.
Limit = Callable[[Delivery, float], Overrun]


def attempt(
    delivery: Delivery,
    codec: Codec,
    max_deaths: int,
    clock: Clock,
    limit: Limit | None = None,
    begin: Callable[[Task, Delivery], None] | None = None,
    client: Client | None = None,
    middleware: RunMiddleware | None = None,
    carry: Carry | None = None,
) -> Outcome:
    """Decode a delivered task, run it unless it has expired, and return the verdict.

    A child process that the task forked, and that returns from it, ends here.

    :param max_deaths: bury the task unrun after this many deaths.
    :param begin: called with the task right before it runs.
    :param client: delivered the task; its server may have its own clock.
    :param middleware: called around the run.
    :param carry: waits for a coroutine instead of this thread; see :meth:`alligator.Task.start`.
        Then :func:`conclude` returns the verdict.
    """
    if delivery.deaths >= max_deaths:
        why = f"WorkerDied: {delivery.deaths} deaths of its worker were counted while it ran."
        tries = _tries(delivery, codec, None) - 1  # this delivery does not count
        data = _as_pushed(delivery, codec)
        return Outcome(delivery, Verdict.BURY, data=data, reason=Reason(why), tries=tries)
    origin = after_fork.generation
    try:
        task = codec.decode(delivery)
        if after_fork.generation != origin:  # asked here, as a call takes longer
            after_fork.exit_child_unless(origin)
        if getattr(task, "expires_at", None) and (
            not_run := _expired(delivery, codec, task, clock, client)
        ):
            return not_run
        if getattr(task, "awaits_results", False) and (
            not_run := _without_results(delivery, codec, task, origin)
        ):
            return not_run
    except _NOT_BY_THE_TASK as err:
        after_fork.exit_child_unless(origin, err)
        raise
    except ImportFailed as err:
        after_fork.exit_child_unless(origin, err)
        return _not_imported(delivery, codec, clock, client, err)
    except (UnknownModuleError, UnknownCallableError, KeyboardInterrupt) as err:
        after_fork.exit_child_unless(origin, err)
        # A deploy may be under way, with this worker older than the task (or the user pressed
        # Ctrl-C): wait, and bury the task in the end.
        return _missing(delivery, codec, err)
    except BaseException as err:
        after_fork.exit_child_unless(origin, err)
        # The message cannot be read, or may not run here: bury it with its bytes. So, too, if a
        # Task class of the user's own raises SystemExit or the like: the worker must not end.
        return _buried(delivery, codec, None, err)
    args: Any
    kwargs: Any
    try:
        args, kwargs, task.delivery = task.func_args, task.func_kwargs, delivery
    except AttributeError:  # the user's own class may have them not, or no room for the other
        args, kwargs = getattr(task, "func_args", None), getattr(task, "func_kwargs", None)
    try:
        seconds = getattr(task, "timeout", None)
        if getattr(task, "hook_timeout", None):
            seconds = _limited(task)
        if carry is not None:  # it may fail after this has returned
            task.called_with = args, kwargs
        if begin:
            begin(task, delivery)
        # The user's own class may override run(), and does not carry coroutines.
        is_plain = getattr(type(task), "run", None) is Task.run
        call: tuple[Any, ...] = (task.start, carry) if is_plain else (task.run,)
        if middleware is not None:
            call = middleware.run, task, carry
        if seconds or overrun.get() is not None:
            with overruns_tell(limit(delivery, seconds) if seconds and limit else None):
                carried = copy_context().run(*call)
        else:
            carried = copy_context().run(*call)
    except LeaveNow:
        after_fork.exit_child_unless(origin)
        raise  # the worker stops, and releases its deliveries
    except BaseException as err:
        after_fork.exit_child_unless(origin, err)
        # Any exception of a task is a failure: a retry if one is left, else a dead letter.
        return _failed(delivery, codec, task, err, called_with=(args, kwargs))
    if after_fork.generation != origin:
        after_fork.exit_child_unless(origin)
    return Outcome(delivery, _CARRIED if is_plain and carried else _ACK, task)


def _limited(task: Task) -> float | None:
    """Return the seconds that the function and hooks of a task may take; None: no limit."""
    seconds: float | None = getattr(task, "timeout", None)
    if each := getattr(task, "hook_timeout", None):
        ends = task.on_success is not None or task.on_error is not None
        hooks = (task.on_start is not None) + ends + 2 * (task.observer is not None)
        return (seconds or 0.0) + hooks * each if hooks else seconds
    return seconds


def conclude(
    delivery: Delivery, codec: Codec, task: Task, result: Any, error: BaseException | None
) -> Outcome:
    """Return the verdict on a task that ran on as a coroutine, by its result or error."""
    origin = after_fork.generation
    try:
        if isinstance(result, Ended):
            result.check()
        else:
            task.end(result, error)
    except LeaveNow:
        raise
    except BaseException as err:
        after_fork.exit_child_unless(origin, err)
        return _failed(delivery, codec, task, err)
    after_fork.exit_child_unless(origin)
    return Outcome(delivery, Verdict.ACK, task)


def _missing(delivery: Delivery, codec: Codec, error: BaseException) -> Outcome:
    """Return the verdict on a task whose code is missing; its message counts the attempts."""
    count = missed(delivery.data) + 1
    data = codec.with_missed(delivery, count)
    delay = deploy_delay(delivery.attempt if data is None else count)
    if delay is None:
        return _buried(delivery, codec, None, error)
    return Outcome(delivery, Verdict.LATER, error=error, data=data, delay=delay)


def _tries(delivery: Delivery, codec: Codec, task: Task | None) -> int:
    """Return the attempts at a task, this one included; see ``DeadTask.attempts``."""
    try:
        return number_of(delivery, codec.decode_names(delivery) if task is None else task)
    except _NOT_BY_THE_TASK:
        raise
    except BaseException:
        if codec.task_class is Task:  # an unreadable task was never retried
            return attempts_before(delivery.data, 0, delivery.deaths) + 1
    return delivery.attempt  # the user's own Task class may not count retries


def _as_pushed(delivery: Delivery, codec: Codec) -> Data | None:
    """Return the message without its count of missing code; None: the data as delivered."""
    try:
        return codec.with_missed(delivery, 0) if missed(delivery.data) else None
    except BadSignature:
        return None  # bury it with its bytes


def _not_imported(
    delivery: Delivery, codec: Codec, clock: Clock, client: Client | None, error: ImportFailed
) -> Outcome:
    """Return the verdict on a task whose module raises at import: a failure, without hooks."""
    try:
        task = codec.decode_names(delivery)
        if getattr(task, "expires_at", None) and (
            not_run := _expired(delivery, codec, task, clock, client)
        ):
            return not_run
    except _NOT_BY_THE_TASK:
        raise
    except BaseException:  # the user's own Task class imports in its own way
        return _buried(delivery, codec, None, error)
    return _failed(delivery, codec, task, error, codec.decode_names)


def _now(delivery: Delivery, task: Task, clock: Clock, client: Client | None) -> float:
    """Return the time of the clock by which ``expires_at`` counts.

    Where the server measures the age of a task, move ``expires_at`` to this worker's clock, also
    for a retry.
    """
    if client is None:
        return clock.time()
    waited = getattr(task, "_depends_on", None) or getattr(task, "kept_parents", None)
    # A task that waited for parents was pushed long before the server had it on the queue.
    age = client.age(delivery) if task.pushed_at and not waited else None
    if age is None:
        return time_on(client, delivery.queue_name, clock)
    here = clock.time()
    elapsed = min(max(here - task.pushed_at, age[0]), age[1])  # more exact, if the clocks agree
    task.expires_at = (task.expires_at or 0.0) + here - (task.pushed_at + elapsed)
    return here


def _expired(
    delivery: Delivery, codec: Codec, task: Task, clock: Clock, client: Client | None
) -> Outcome | None:
    """Return the verdict on a task that has expired; None: it has not."""
    try:
        now = _now(delivery, task, clock, client)
    except AlligatorException as err:  # unknown whether it has expired: look again later
        return Outcome(delivery, Verdict.LATER, error=err)
    expires_at = task.expires_at or 0.0
    if now < expires_at:
        return None
    when, late = show_time(expires_at, zone=UTC), now - expires_at
    why = Reason(f"Expired: it was to start before {when}; a worker had it {late:.1f} s later.")
    task.expires_at = None  # a user who revives it wants it to run
    task.to_failed()
    try:
        data = codec.encode(task, delivery.queue_name)
    except _NOT_BY_THE_TASK:
        raise
    except BaseException:
        data = None  # the user's own Task class: bury it as delivered
    tries = _tries(delivery, codec, task) - 1  # this delivery does not count
    return Outcome(delivery, Verdict.BURY, task, data=data, reason=why, tries=tries, expired=True)


def _without_results(delivery: Delivery, codec: Codec, task: Task, origin: int) -> Outcome | None:
    """Return the verdict on a task whose parents' results are not there; None: it has them now."""
    try:
        codec.fetch_results(task)
    except ConnectionLost as err:  # unknown whether they are there: look again later
        return Outcome(delivery, Verdict.LATER, error=err, delay=_STORE_PAUSE)
    except AlligatorException as err:
        try:
            task.refuse(err)
        except BaseException as raised:  # by a hook's forked child, or as a worker stops
            after_fork.exit_child_unless(origin, raised)
            raise
        return _failed(delivery, codec, task, err, called_with=(task.func_args, task.func_kwargs))
    return None


def _failed(
    delivery: Delivery,
    codec: Codec,
    task: Task,
    error: BaseException,
    decode: Callable[[Delivery], Task] | None = None,
    called_with: tuple[Any, Any] | None = None,
) -> Outcome:
    """Return the verdict on a failure: a retry if one is left, else a dead letter.

    :param decode: proves that the task can be queued again; None: ``codec.decode``.
    :param called_with: the arguments before the run; None: the task knows them, or did not run.
    """
    if type(error) is TaskCanceled and getattr(task, "_cancellation", None) is not None:
        return canceled(delivery, task, error)
    decode, tries = decode or codec.decode, _tries(delivery, codec, task)
    try:
        if not task.may_retry(error):
            return _buried(delivery, codec, task, error)
        delay = task.spend_retry(error)
        if called_with is not None:
            task.called_with = called_with
        pushed = decode(delivery)  # the function may have changed its arguments
        task.restore_arguments(pushed.func_args, pushed.func_kwargs)
        data = codec.encode(task, delivery.queue_name)
        decode(delivery._replace(data=data))
    except _NOT_BY_THE_TASK:
        raise
    except BaseException as err:
        # A hook made it unfit for the queue: bury it as delivered, with its own error.
        why = f"It was not retried, since it can no longer be queued: {describe_error(err)}"
        with suppress(Exception):  # an exception of any class may override add_note
            error.add_note(why)
        outcome = _buried(delivery, codec, task, error)
        outcome.tries = tries  # spend_retry may have counted one more
        return outcome
    return Outcome(delivery, Verdict.RETRY, task, error, data, delay, tries=tries)


def canceled(delivery: Delivery, task: Task, error: BaseException | None = None) -> Outcome:
    """Return the verdict on a task that was canceled while it ran.

    :param error: with which it ended; None: it has not.
    """
    why = Reason("Canceled while it ran.")
    return Outcome(delivery, Verdict.CANCEL, task, error, reason=why)


def _buried(delivery: Delivery, codec: Codec, task: Task | None, error: BaseException) -> Outcome:
    reason = Reason(describe_error(error), describe_traceback(error))
    data, tries = _as_pushed(delivery, codec), _tries(delivery, codec, task)
    return Outcome(delivery, Verdict.BURY, task, error, data, reason=reason, tries=tries)
