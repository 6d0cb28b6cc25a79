"""A task: what to call, how it stands, and how it looks on the queue."""

import logging
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar, copy_context
from datetime import UTC, date
from functools import partial
from typing import Any, NoReturn, Protocol, Self

from alligator.common import after_fork, strict_json
from alligator.common.clock import Seconds
from alligator.common.ids import is_own_id, new_task_id
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error, shorten, show_time
from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import BadPayload, InvalidTask, LeaveNow, RunAgain, TaskFailed
from alligator.runtime.event_loop import PLAIN, as_coroutine, finish, never_ran
from alligator.runtime.interrupts import calls_users
from alligator.runtime.timeouts import Reminder, TimeIsUp, call_within
from alligator.tasks import message as message_module
from alligator.tasks.backoff import retry_delay
from alligator.tasks.functions import check_arguments, explain_json, takes_two
from alligator.tasks.parent_ids import KeptParents
from alligator.tasks.validation import CHECKS, check_options, seconds_of

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds after which it is said in the log that a hook has not returned.
HOOK_PATIENCE = 10.0

#: Takes a task, and the coroutine that its function returned, and sees to the rest.
Carry = Callable[["Task", Coroutine[Any, Any, Any]], None]

_current: ContextVar["Task | None"] = ContextVar("alligator_current_task", default=None)


def current_task() -> "Task | None":
    """Return the task that is running in this thread or coroutine, or None outside of one."""
    return _current.get()


class TaskHandle(Protocol):
    """What pushed a task, and can tell of it and cancel it: a Gator, as far as a task knows it."""

    def place_of(self, task: "Task") -> tuple[str, str]:
        """Return the DSN and the queue that a task was pushed to."""

    def wait(self, tasks: "Task", timeout: Seconds | None, *, started: bool) -> bool:
        """Block until a task has ended, or started."""

    def refresh(self, task: "Task") -> None:
        """Set the ``status``, ``result`` and ``error`` of a task to what is known now."""

    def cancel(self, task: "Task") -> "Task | None":
        """Take a task off its queue before it runs; None: it does not wait."""


class Task:
    """A function to be called later, with its arguments and options.

    The options are those of :meth:`alligator.Gator.options`.

    :raises TypeError, InvalidTask, MultipleDelayError, UnsupportedOption: see
        :func:`alligator.tasks.validation.check_options`.
    """

    # What a task has until it is told otherwise. Only what differs is kept in the task itself,
    # since a worker makes one for every message.
    retries: int = 0
    is_async: bool = True
    on_start: Callable[..., Any] | None = None
    on_success: Callable[..., Any] | None = None
    on_error: Callable[..., Any] | None = None
    delay_by: float | None = None
    delay_until: float | None = None
    priority: int = 0
    retry_delay: float = 0.0
    retry_backoff: float = 1.0
    retry_max_delay: float | None = None
    timeout: float | None = None
    #: Seconds that each call of a hook may take; None: any number.
    hook_timeout: float | None = None
    expires: float | None = None
    #: The Unix timestamp after which it is not started; set when it is pushed.
    expires_at: float | None = None
    queue_name: str | None = None
    save_results: float | None = None
    #: Seconds that its end is known in a store elsewhere, if not its result; None: as the
    #: Gator sees fit.
    note_end: float | None = None

    pushed_at: float = 0.0  # Unix seconds; 0: not yet
    id_was_given: bool = False  # the id, to its constructor
    own_id: bool = False  # pushed with an id of the user's own that looks like one of ours
    backend_id: str | None = None  # its id on the queue, where that is another
    queue_position: Any = None  # where it was pushed to, for Client.lost_nothing_since
    retried: int = 0  # how many retries there have been
    last_error: str = ""  # what the run before that ended with, in one line
    status: int | None = WAITING  # one of alligator.constants; None: not known
    func: Any = None
    result: Any = None
    error: BaseException | None = None
    #: Its arguments as they were before it ran; the very objects, to tell whether they were
    #: replaced. None: it has not run.
    called_with: tuple[Any, Any] | None = None
    # What its message says of what it depends on, where that is kept in the store.
    kept_parents: KeptParents | None = None
    _depends_on: list[Any] | None = None
    _handle: TaskHandle | None = None

    def __init__(
        self,
        task_id: str | None = None,
        retries: int = 0,
        is_async: bool | str = True,
        on_start: Callable[..., Any] | None = None,
        on_success: Callable[..., Any] | None = None,
        on_error: Callable[..., Any] | None = None,
        depends_on: Any = None,
        delay_by: Seconds | None = None,
        delay_until: float | date | None = None,
        **options: Any,
    ) -> None:
        if "async" in options:
            is_async = options.pop("async")
        given: dict[str, Any] = {"task_id": task_id, "retries": retries, "is_async": is_async}
        given |= {"on_start": on_start, "on_success": on_success, "on_error": on_error}
        given |= {"delay_by": delay_by, "delay_until": delay_until, "depends_on": depends_on}
        checked, kind = check_options({**given, **options}), type(self)
        self.task_id: str = checked.get("task_id") or new_task_id()
        self.func_args: Any = []
        self.func_kwargs: dict[str, Any] = {}
        self._set(
            {name: each for name, each in checked.items() if each is not getattr(kind, name, None)}
        )

    def _set(self, checked: Mapping[str, Any]) -> None:
        for name, value in checked.items():
            if name == "task_id":
                self.id_was_given = True
            elif name == "depends_on":
                self.depends_on = list(value) or None
            elif name == "save_results":
                self.note_end, self.save_results = value, value or None
            else:
                setattr(self, name, value)
        if self.delay_by is not None:  # as far as is known here; a push counts from its own time
            self.delay_until = time.time() + self.delay_by

    @classmethod
    def with_checked(cls, options: Mapping[str, Any]) -> Self:
        """Return a new task with options as ``check_options`` returns them.

        A subclass may have a constructor of its own, which then decides.
        """
        if cls is not Task:
            return cls(**options)
        task = cls.__new__(cls)
        task.task_id = options.get("task_id") or new_task_id()
        task.func_args, task.func_kwargs = [], {}
        if options:
            task._set(options)
        return task

    @property
    def id(self) -> str:
        """Another name for ``task_id``."""
        return self.task_id

    @property
    def depends_on(self) -> list[Any] | None:
        """Tasks, ids or ``(queue_name, id)``; of a task from a queue, ids. None: nothing.

        Of more than some hundred, the ids are in the store; the first look fetches them.

        :raises AlligatorException: they are not there, or not any more.
        :raises ConnectionLost: the store is out of reach.
        """
        if self._depends_on is None and self.kept_parents is not None:
            self._depends_on = list(self.kept_parents.ids(self.task_id))
        return self._depends_on

    @depends_on.setter
    def depends_on(self, value: list[Any] | None) -> None:
        self._depends_on = value
        if self.kept_parents is not None:
            self.kept_parents = None

    @property
    def is_pushed(self) -> bool:
        """Whether this very object was put on a queue."""
        return self._handle is not None

    @property
    def known_for(self) -> float:
        """Seconds that a store will know how it ended; 0: it is not told."""
        return self.save_results or self.note_end or 0.0

    @property
    def has_own_id(self) -> bool:
        """Whether its id is the user's own: it may be pushed again, or to several queues."""
        return self.own_id or is_own_id(self.task_id)

    @property
    def place(self) -> tuple[str, str] | None:
        """The DSN and the queue that this very object was pushed to; None: it was not."""
        return None if self._handle is None else self._handle.place_of(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shorten(self.task_id)}>"

    def to_call(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> None:
        """Set what to call.

        ::

            task.to_call(my_function, 1, 'c', another=True)

        :param func: an importable function, or its name as text: ``'myapp.tasks.resize'``.
        """
        self.func = func
        self.func_args = args
        self.func_kwargs = kwargs

    # -- Afterwards. ------------------------------------------------------------------------

    def to_pushed(self, handle: TaskHandle) -> None:
        """Remember the Gator that pushed the task. Called by that Gator."""
        self._handle = handle

    def wait(self, timeout: Seconds | None = None, *, started: bool = False) -> bool:
        """Block until the task has ended, well or badly; ``status`` and ``result`` say which.

        ::

            task = gator.options(save_results=60).task(add, 18, 9)
            if task.wait(5):
                print(task.result)

        Afterwards ``status`` is None where nobody knows how it stands. With False: it was dropped
        or lost, or what was on record has expired; that ends the wait at once where the queue
        can be asked. With True: it has left its queue, and there is no more to know (beanstalkd
        where nobody tells a store; a redis that evicts keys, or does not let this user ask for
        ``INFO``). What this object knew for certain stays, until there is news or a new push.

        :param timeout: seconds, or a timedelta; None: as long as it takes.
        :param started: wait only until it starts.
        :returns: False: not in that time, or it was canceled, dropped or lost.
        :raises InvalidTask: it was not pushed.
        """
        if self._handle is None:
            if self.status in (SUCCESS, FAILED, CANCELED):
                return self.status != CANCELED
            raise InvalidTask(f"Task {shorten(self.task_id)} was not pushed: nothing to wait for.")
        ended = self._handle.wait(self, timeout, started=started)
        self._handle.refresh(self)
        return ended

    def cancel(self) -> bool:
        """Take the task off its queue before it runs; return False if it is too late for that.

        :raises InvalidTask: it was not pushed.
        """
        if self._handle is None:
            raise InvalidTask(f"Task {shorten(self.task_id)} was not pushed: nothing to cancel.")
        if self._handle.cancel(self) is None:
            return False
        self.to_canceled()
        return True

    # -- Running. ---------------------------------------------------------------------------

    def run(self) -> Any:
        """Run the function between its hooks, and return what it returned.

        ``on_start(task)`` first; then the function; then ``on_success(task, result)``, or
        ``on_error(task, err)`` and the exception again. A hook that raises is logged and
        changes nothing. The ``timeout`` is about the function alone. All of them run in one
        context of their own, a copy of that around it: a ``ContextVar`` that is set in there is
        seen by those that follow, and not by other tasks, or by who called this.

        What the function returns is awaited where that can be done, so that a decorator may hide
        an ``async def``.

        :raises TaskTimeout: the function ran for more than its ``timeout``.
        :raises TaskFailed: it returned a generator, of which nothing has run.
        :raises RunAgain: it called :meth:`retry`, and a retry is left.
        """
        copy_context().run(self.start)
        return self.result

    @calls_users
    def start(self, carry: "Carry | None" = None) -> bool:
        """Do as :meth:`run` does, in this very context; return whether a coroutine goes on.

        :param carry: given the coroutine, in the context that it is to run in; :meth:`end` is
            to be called in that, too. None: it is waited for.
        """
        handled, origin = sys.exception(), after_fork.generation
        _current.set(self)
        self.to_running()
        try:
            if self.on_start is not None:
                self._call_hook(self.on_start)
                if after_fork.generation != origin:
                    return False  # what a hook forked runs no task
            if self.timeout is None:
                result = self.func(*self.func_args, **self.func_kwargs)
            else:
                call = partial(self.func, *self.func_args, **self.func_kwargs)
                result = call_within(self.timeout, call)
            if type(result) not in PLAIN:
                if (coroutine := as_coroutine(result)) is not None:
                    if carry is not None:
                        carry(self, coroutine)
                        return True
                    result = finish(coroutine, self.timeout)
                if (failure := never_ran(result, self.func)) is not None:
                    raise failure  # noqa: TRY301 - so that it is judged as what it raises is
        except BaseException as err:
            if after_fork.generation == origin:  # what became of it is its parent's to tell
                self._judge(err, handled)
            raise
        else:
            if after_fork.generation == origin:
                self._succeed(result)
            else:
                self.result = result
            return False

    def end(self, result: Any, error: BaseException | None) -> None:
        """Do the rest of :meth:`run`, after a coroutine returned or raised something.

        :raises BaseException: as :meth:`run` does.
        """
        if error is None:  # and not whether it is true: an error may be empty
            error = never_ran(result, self.func)
        if error is None:
            self._succeed(result)
            return
        try:
            raise error  # noqa: TRY301 - so that a hook can ask for it as ever
        except BaseException as err:
            self._judge(err, None)
            raise

    def _succeed(self, result: Any) -> None:
        self.result = result
        self.to_success()
        if self.on_success is not None:
            self._call_hook(self.on_success, result)

    def _judge(self, error: BaseException, handled: BaseException | None) -> None:
        """Take note of what was raised; it is to go on, unless another is raised here.

        :param handled: what was being handled around it all.
        """
        if isinstance(error, LeaveNow | TimeIsUp):
            return  # about what goes on around this task, not about the task
        if not isinstance(error, RunAgain):
            # Also SystemExit and KeyboardInterrupt: a task ends itself, not its worker.
            self._fail(error)
            return
        if self.retries > 0:
            self.to_retrying()
            if error.call is not None:
                self.func_args, self.func_kwargs = error.call
            return
        before = error.__context__
        none_left = TaskFailed("It asked to run again, and had no retry left.")
        err = none_left if before is None or before is handled else before
        self._fail(err)
        raise err from None

    def _fail(self, err: BaseException) -> None:
        self.error = err
        self.to_failed()
        self._call_hook(self.on_error, err)

    def retry(
        self,
        delay: Seconds = 0.0,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """From inside the running task: end this run, and run the task again later.

        ::

            current_task().retry(delay=60)

        It uses up one of the ``retries``, and is no failure: no hook is called. With none
        left the task fails: with the exception that was being handled, or else
        :exc:`~alligator.exceptions.TaskFailed`.

        :param delay: seconds until then, or a timedelta, whatever ``retry_delay`` says.
        :param args: other arguments for the next run.
        :param kwargs: the same by name; with one of the two given, the other is empty.
        :raises RunAgain: always, for Alligator to catch; ``except Exception`` lets it pass.
        :raises InvalidTask: a delay that is none, or arguments that do not fit.
        :raises RuntimeError: it is not this task that is running here.
        """
        if _current.get() is not self:
            raise RuntimeError(f"Task {shorten(self.task_id)} is not the one that runs here.")
        delay = seconds_of("delay", delay)
        if args is None and kwargs is None:
            raise RunAgain(delay, None)
        try:
            call = strict_json.loads(strict_json.dumps([list(args or ()), dict(kwargs or {})]))
        except (TypeError, ValueError, BadPayload) as err:
            raise InvalidTask(f"{explain_json(err)}.") from err
        check_arguments(self.func, *call)
        raise RunAgain(delay, tuple(call))

    @calls_users
    def _call_hook(self, hook: Callable[..., Any] | None, *extra: Any) -> None:
        if hook is None:
            return
        origin = after_fork.generation
        reminder = Reminder(HOOK_PATIENCE, self._say_it_hangs, hook)
        try:
            given = (self, *extra) if extra and takes_two(hook) else (self,)
            if self.hook_timeout is None:
                result = hook(*given)
            else:
                result = call_within(self.hook_timeout, partial(hook, *given))
            if (failure := never_ran(result, hook)) is not None:
                raise failure  # noqa: TRY301 - so that it is logged as what it raises is
        except LeaveNow:
            raise
        except BaseException:  # whatever it is, it changes no outcome
            if after_fork.generation != origin:
                raise  # a child that the hook forked, and that is to end
            log.exception("Hook %r of task %s raised; it goes on.", hook, shorten(self.task_id))
        finally:
            reminder.disarm()

    def _say_it_hangs(self, hook: Callable[..., Any]) -> None:
        names = (name for name in ("on_start", "on_success") if getattr(self, name) is hook)
        log.warning(
            "Hook %s %r of task %s has not returned after %g s, since %s; the task does not end "
            "before it does. Set hook_timeout=seconds to break such hooks off.",
            next(names, "on_error"),
            hook,
            shorten(self.task_id),
            HOOK_PATIENCE,
            show_time(time.time() - HOOK_PATIENCE, zone=UTC),
        )

    def spend_retry(self, error: BaseException | None = None) -> float:
        """Use up one retry and return the seconds to wait before it.

        :param error: what the run ended with.
        """
        self.last_error = ""
        if isinstance(error, RunAgain):
            delay = error.delay
        else:
            delay = retry_delay(
                self.retry_delay, self.retry_backoff, self.retried, self.retry_max_delay
            )
            self.last_error = describe_error(error) if error is not None else ""
        self.retries -= 1
        self.retried += 1
        self.to_retrying()
        return delay

    def restore_arguments(self, args: Any, kwargs: Any) -> None:
        """Undo what a run did to the arguments themselves, before the task is run again.

        What was put in their place is left: by :meth:`retry`, or by a hook that sets
        ``func_args`` or ``func_kwargs``.

        :param args: what ``func_args`` was as the run began.
        :param kwargs: the same of ``func_kwargs``.
        """
        before = self.called_with or (None, None)
        if self.func_args is before[0]:
            self.func_args = args
        if self.func_kwargs is before[1]:
            self.func_kwargs = kwargs

    # -- Its status, useful to a hook. ------------------------------------------------------

    def to_waiting(self) -> None:
        """Set the status to ``WAITING``: on the queue."""
        self.status = WAITING

    def to_delayed(self) -> None:
        """Set the status to ``DELAYED``: on the queue, for later."""
        self.status = DELAYED

    def to_running(self) -> None:
        """Set the status to ``RUNNING``."""
        self.status = RUNNING

    def to_success(self) -> None:
        """Set the status to ``SUCCESS``."""
        self.status = SUCCESS

    def to_failed(self) -> None:
        """Set the status to ``FAILED``."""
        self.status = FAILED

    def to_retrying(self) -> None:
        """Set the status to ``RETRYING``: failed, and to be run again."""
        self.status = RETRYING

    def to_canceled(self) -> None:
        """Set the status to ``CANCELED``: taken off the queue before it ran."""
        self.status = CANCELED

    # -- Its message. -----------------------------------------------------------------------

    serialize = message_module.write

    @classmethod
    def deserialize(cls, data: str | bytes) -> Self:
        """Return the task that some data from a queue describes.

        ``task_id`` and ``retries`` are required, and ``is_async`` may be 0.x's ``async``.

        :raises BadPayload: not JSON, fields missing or of the wrong type.
        :raises UnknownModuleError, UnknownCallableError: its function is not there.
        """
        return message_module.read(data, cls._new)

    @classmethod
    def _new(cls, task_id: str, retries: int, is_async: Any) -> Self:
        if cls is not Task:  # a class of the user's own, with perhaps a constructor of its own
            return cls(task_id=task_id, retries=retries, is_async=is_async)
        task = cls.__new__(cls)
        task.task_id = CHECKS["task_id"](task_id)
        if retries != 0:
            task.retries = CHECKS["retries"](retries)
        if is_async is not True:
            task.is_async = CHECKS["is_async"](is_async)
        return task
