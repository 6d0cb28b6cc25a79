"""Define a task: its function and options, its status, and how it runs."""

import itertools
import logging
import sys
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from datetime import UTC, date
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypedDict,
    Unpack,
    cast,
    overload,
)

from alligator.backends.types import Delivery
from alligator.common import after_fork, strict_json
from alligator.common.clock import Seconds
from alligator.common.ids import is_generated, new_task_id
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error, shorten, show_time
from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import (
    BadPayload,
    InvalidTask,
    LeaveNow,
    RunAgain,
    TaskCanceled,
    TaskFailed,
)
from alligator.runtime.cancellation import Cancellation, owners
from alligator.runtime.event_loop import PLAIN, as_coroutine, finish, never_ran
from alligator.runtime.safe_points import calls_users, release_logging
from alligator.runtime.timeouts import Overrun, Reminder, TimeIsUp, call_within
from alligator.tasks import message as message_module
from alligator.tasks.adapters import Observer
from alligator.tasks.backoff import retry_delay
from alligator.tasks.exception_names import is_named
from alligator.tasks.functions import check_arguments, explain_json, takes_two
from alligator.tasks.parent_ids_in_store import KeptParents
from alligator.tasks.parent_results import ResultOf, check_parent
from alligator.tasks.validation import CHECKS, check_options, seconds_of

if TYPE_CHECKING:  # checkers have it; Python has its default from 3.13 on
    from typing_extensions import TypeVar

    R_co = TypeVar("R_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds after which the log says that a hook has not returned.
HOOK_PATIENCE = 10.0

#: What :meth:`Task.start` names only in the lines where it calls the function.
_CALLS = frozenset({"func_args", "call_within"})

#: The longest text that goes with a progress, in characters.
LONGEST_PROGRESS = 200

#: Takes a task, the coroutine that its function returned, and its timeout; runs it to its end.
Carry = Callable[["Task", Coroutine[Any, Any, Any], float | None], None]

_current: ContextVar["Task | None"] = ContextVar("alligator_current_task", default=None)


def current_task() -> "Task | None":
    """Return the task that is running in this thread or coroutine, or None outside of one."""
    return _current.get()


@overload
def result_of(task: "Task[R]") -> R: ...


@overload
def result_of(task: str | tuple[str, str]) -> Any: ...


def result_of(task: "Task | str | tuple[str, str]") -> Any:
    """Stand for what a task returned, as an argument of another task.

    ::

        small = gator.options(save_results=3600).task(scale, 'sea.jpg')
        gator.task(publish, 'Summer', alligator.result_of(small))

    The second task waits for the first, as with ``depends_on``, and is called with its result.

    :param task: the task, its id, or ``(queue_name, id)``. It saves its result: it was pushed with
        ``save_results``, or is in the same batch, which sees to that.
    :raises InvalidTask: it is none of these.
    """
    check_parent(task)
    return ResultOf(task)


#: Tasks that have reported progress in this process. No WeakSet: its callbacks would swallow the
#: exception of a timeout that comes up in them.
_reporting: "dict[int, weakref.ref[Task]]" = {}
_numbers = itertools.count()
_TIDY_AT = 64  # dead ones among these are dropped at every so many


def that_report_progress() -> "list[Task]":
    """Return the tasks of this process that have reported progress; some may have ended."""
    found = []
    for number, known in list(_reporting.items()):
        if (task := known()) is None:
            _reporting.pop(number, None)
        else:
            found.append(task)
    return found


class TaskHandle(Protocol):
    """The methods of a Gator that the tasks it pushed call."""

    def place_of(self, task: "Task") -> tuple[str, str]:
        """Return the DSN and the queue that a task was pushed to."""

    def wait(self, tasks: "Task", timeout: Seconds | None, *, started: bool) -> bool:
        """Block until a task has ended, or started."""

    def refresh(self, task: "Task") -> None:
        """Set the ``status``, ``result`` and ``error`` of a task to what is known now."""

    def cancel(self, task: "Task", *, running: bool = False) -> "Task | None":
        """Take a task off its queue, or end its run; None: it neither waits nor runs."""

    def progress(self, task: "Task") -> tuple[float, str] | None:
        """Return how far a task is that runs; None: that is not known."""

    def await_(
        self, tasks: "Task", timeout: Seconds | None, *, started: bool
    ) -> Coroutine[Any, Any, bool]:
        """Wait until a task has ended, or started, and set what is known of it."""

    def acancel(self, task_id: "Task", *, running: bool) -> "Coroutine[Any, Any, Task | None]":
        """Take a task off its queue, or end its run; None: it neither waits nor runs."""


class Task(Generic[R_co]):
    """A function to be called later, with its arguments and options.

    The options are those of :meth:`alligator.Gator.options`. For type checkers, ``Task[int]`` is
    one whose function returns an int, or is a coroutine function that does; ``Task`` is any.

    :raises TypeError, InvalidTask, MultipleDelayError, UnsupportedOption: see
        :func:`alligator.tasks.validation.check_options`.
    """

    # The defaults. A task itself holds only values that differ, since a worker makes one for every
    # message.
    retries: int = 0
    is_async: bool = True
    on_start: "Hook | None" = None
    on_success: "Hook | SuccessHook | None" = None
    on_error: "Hook | ErrorHook | None" = None
    delay_by: float | None = None
    delay_until: float | None = None
    priority: int = 0
    retry_delay: float = 0.0
    retry_backoff: float = 1.0
    retry_max_delay: float | None = None
    #: Names of the exceptions after which it is retried; None: of all but ``give_up_on``.
    retry_on: list[str] | None = None
    #: Names of the exceptions after which it is a dead letter, whatever ``retries`` are left.
    give_up_on: list[str] | None = None
    #: How many tasks of ``limit_key`` may run at the same time; None: any number.
    limit: int | None = None
    #: Counted together for ``limit``; None: by the name of the function.
    limit_key: str | None = None
    #: How many tasks of ``rate_key`` may start, and within how many seconds; None: any number.
    rate: tuple[int, float] | None = None
    #: Counted together for ``rate``; None: by the name of the function.
    rate_key: str | None = None
    timeout: float | None = None
    #: Seconds that each call of a hook may take; None: no limit.
    hook_timeout: float | None = None
    expires: float | None = None
    #: The Unix timestamp after which it is not started; set when it is pushed.
    expires_at: float | None = None
    queue_name: str | None = None
    save_results: float | None = None
    #: Seconds that its history is kept; None: as long as its result, if that is saved.
    history: float | None = None
    #: Seconds that a store beside the queue keeps its outcome, without a result; None: the
    #: Gator decides.
    note_end: float | None = None
    #: Whether a push returns the pending task of the same function and arguments; or of this key.
    unique: bool | str = False
    #: ``'end'``, or ``'start'``: until when a task with ``unique`` counts as pending.
    unique_until: str = "end"
    #: Seconds that it waits after the last push of its key.
    debounce: float | None = None
    #: Seconds after the first push at which it starts though there are further ones.
    debounce_max: float | None = None
    #: Whether it is pushed after the transaction that is open; or that of a database, by its alias.
    on_commit: bool | str | None = None
    #: Whether the last push returned a pending task instead: ``task_id`` is the id of that.
    is_duplicate: bool = False

    pushed_at: float = 0.0  # Unix seconds; 0: not yet
    id_was_given: bool = False  # the id, to its constructor
    lookalike_id: bool = False  # the user chose its id, which looks like one of Alligator's
    backend_id: str | None = None  # its id on the queue, if that differs
    replaced_id: str | None = None  # its own id, if it is a duplicate
    queue_position: Any = None  # where it was pushed to, for Client.lost_nothing_since
    retried: int = 0  # how many retries there have been
    last_error: str = ""  # the error of the run before, in one line
    status: int | None = WAITING  # one of alligator.constants; None: not known
    func: Any = None
    #: What its function returned. None, whatever its type says, until it has succeeded.
    result: R_co = cast(Any, None)
    error: BaseException | None = None
    #: Its arguments before it ran: the same objects, to tell whether they were replaced.
    #: None: it has not run.
    called_with: tuple[Any, Any] | None = None
    #: What it was delivered with, where it runs; None: it is not from a queue.
    delivery: Delivery | None = None
    #: Whether some of its arguments are results of other tasks, which are still to be fetched.
    awaits_results: bool = False
    #: How its function is made of what its name leads to, ``'django:default'``; None: it is that.
    adapter: str | None = None
    #: Told of each run, before the hooks; from the adapter, and not in the message.
    observer: Observer | None = None
    #: Whether it runs once its parents have ended, though some did not succeed.
    unconditional: bool = False
    _progress: tuple[float, str] | None = None
    _cancellation: Cancellation | None = None  # of this very run
    # Number and digest of the ids it depends on, if the store keeps them.
    kept_parents: KeptParents | None = None
    _depends_on: list[Any] | None = None
    _headers: dict[str, str] | None = None
    _handle: TaskHandle | None = None

    def __init__(
        self,
        task_id: str | None = None,
        retries: int = 0,
        is_async: bool | str = True,
        on_start: "Hook | None" = None,
        on_success: "Hook | SuccessHook | None" = None,
        on_error: "Hook | ErrorHook | None" = None,
        depends_on: "Parent | Iterable[Parent] | None" = None,
        delay_by: Seconds | None = None,
        delay_until: float | date | None = None,
        **options: Unpack["KeywordOptions"],
    ) -> None:
        if "async" in options:
            is_async = options.pop("async")  # type: ignore[typeddict-item]
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
        if self.delay_by is not None:  # until it is pushed: a delay counts from the push
            self.delay_until = time.time() + self.delay_by

    @classmethod
    def with_checked(cls, options: Mapping[str, Any]) -> Self:
        """Return a new task with options as ``check_options`` returns them.

        A subclass is constructed as usual, since it may have a constructor of its own.
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
        """Tasks, ids or ``(queue_name, id)``; for a task from a queue, ids. None: nothing.

        A list of more than some hundred ids is in the store; the first access fetches it.

        :raises AlligatorException: the store does not have them, or not any more.
        :raises ConnectionLost: the store cannot be reached.
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
    def headers(self) -> dict[str, str]:
        """Text that travels with the task, by name: a trace id, a tenant, a locale.

        It may be changed, or assigned, until the task is pushed: at most 32 entries, 8 KiB in all.

        :raises InvalidTask: what is assigned has more, or is not printable text.
        """
        if self._headers is None:
            self._headers = {}
        return self._headers

    @headers.setter
    def headers(self, value: Mapping[str, str] | None) -> None:
        self._headers = None if value is None else CHECKS["headers"](value)

    @property
    def is_pushed(self) -> bool:
        """Whether this object itself was pushed to a queue."""
        return self._handle is not None

    @property
    def known_for(self) -> float:
        """Seconds that the store keeps its outcome; 0: it gets none."""
        return self.save_results or self.note_end or 0.0

    @property
    def has_own_id(self) -> bool:
        """Whether the user chose its id: it may be pushed again, or to several queues."""
        return self.lookalike_id or not is_generated(self.task_id)

    @property
    def place(self) -> tuple[str, str] | None:
        """The DSN and the queue that this object itself was pushed to; None: it was not."""
        return None if self._handle is None else self._handle.place_of(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shorten(self.task_id)}>"

    @overload
    def to_call(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    @overload
    def to_call(self, func: str, /, *args: Any, **kwargs: Any) -> None: ...

    def to_call(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> None:
        """Set the function to call, and its arguments.

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

        Afterwards ``status`` is None if its status is unknown. With False: it was dropped or
        lost, or its record has expired; the wait ends at once if the queue can be asked. With
        True: it has left its queue, and more cannot be known (on beanstalkd if no store is
        told; on a redis that evicts keys, or does not let this user ask for ``INFO``). This
        object keeps a status that was certain until there is a newer one, or a new push.

        :param timeout: seconds, or a timedelta; None: as long as it takes.
        :param started: wait only until it starts.
        :returns: False: not in that time, or it was canceled, dropped or lost.
        :raises InvalidTask: it was not pushed.
        """
        if self._handle is None:
            return self._ended_here()
        ended = self._handle.wait(self, timeout, started=started)
        self._handle.refresh(self)
        return ended

    async def await_(self, timeout: Seconds | None = None, *, started: bool = False) -> bool:
        """Wait as :meth:`wait` does, without blocking the event loop.

        ::

            if await task.await_(5):
                print(task.result)

        A task itself cannot be awaited: a worker awaits what can be of what a function returns, so
        a function that returned a task it pushed would wait for that.

        :raises InvalidTask: it was not pushed.
        :raises ConnectionLost: the server did not answer when the time was over.
        """
        if self._handle is None:
            return self._ended_here()
        return await self._handle.await_(self, timeout, started=started)

    def _ended_here(self) -> bool:
        """Return whether it ended well or badly, without a queue; False: it was canceled."""
        if self.status in (SUCCESS, FAILED, CANCELED):
            return self.status != CANCELED
        raise InvalidTask(f"Task {shorten(self.task_id)} was not pushed: nothing to wait for.")

    def cancel(self, *, running: bool = False) -> bool:
        """Take the task off its queue before it runs; return False if it is too late.

        :param running: whether to end it if it runs; see :meth:`alligator.Gator.cancel`. Then True
            says that it is asked to end; its ``status`` says how it ended.
        :raises InvalidTask: it was not pushed.
        :raises UnsupportedOption: ``running``, and no store can pass that on.
        """
        if self._handle is None:
            raise InvalidTask(f"Task {shorten(self.task_id)} was not pushed: nothing to cancel.")
        if running:
            return self._handle.cancel(self, running=True) is not None
        if self._handle.cancel(self) is None:
            return False
        self.to_canceled()
        return True

    async def acancel(self, *, running: bool = False) -> bool:
        """Take the task off its queue, or end its run, as :meth:`cancel` does."""
        if self._handle is None:
            raise InvalidTask(f"Task {shorten(self.task_id)} was not pushed: nothing to cancel.")
        return await self._handle.acancel(self, running=running) is not None

    # -- Running. ---------------------------------------------------------------------------

    def run(self) -> R_co:
        """Run the function between its hooks, and return what it returned.

        ``on_start(task)`` first; then the function; then ``on_success(task, result)``, or
        ``on_error(task, err)`` and the exception again. A hook that raises is logged and
        changes nothing. The ``timeout`` applies to the function alone. All of them run in one
        context, a copy of the caller's: the hooks that follow see a ``ContextVar`` that one of
        them sets, while other tasks and the caller do not.

        An awaitable result is awaited, so a decorator may hide an ``async def``.

        :raises TaskTimeout: the function ran for more than its ``timeout``.
        :raises TaskFailed: it returned a generator, which has not run.
        :raises RunAgain: it called :meth:`retry`, and a retry is left.
        """
        copy_context().run(self.start)
        return self.result

    def begin(self) -> None:
        """Make it the task that runs in this context; :meth:`start` does it as well."""
        _current.set(self)
        self.to_running()

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
            if self.on_start is not None or self.observer is not None:
                self._observe("started")
                self._call_hook(self.on_start)
                if after_fork.generation != origin:
                    return False  # a child that a hook forked runs no task
            try:  # the names in these lines stand in _CALLS
                if self.timeout is None:
                    result = self.func(*self.func_args, **self.func_kwargs)
                else:
                    call = partial(self.func, *self.func_args, **self.func_kwargs)
                    result = call_within(self.timeout, call)
            finally:
                if self._cancellation is not None:
                    self._break_off(locals().get("result"))
            if type(result) not in PLAIN:
                if (coroutine := as_coroutine(result)) is not None:
                    if carry is not None:
                        carry(self, coroutine, self.timeout)
                        return True
                    result = finish(coroutine, self.timeout, self)
                    if self._cancellation is not None:
                        self._break_off(None)
                if (failure := never_ran(result, self.func)) is not None:
                    raise failure  # noqa: TRY301 - so that it is judged as what it raises is
        except BaseException as err:
            if after_fork.generation == origin:  # the parent tells the outcome
                self._judge(err, handled)
            raise
        else:
            if after_fork.generation == origin:
                self._succeed(result)
            else:
                self.result = result
            return False

    def end(self, result: Any, error: BaseException | None) -> None:
        """Do the rest of :meth:`run`, after a coroutine returned or raised an error.

        :raises BaseException: as :meth:`run` does.
        """
        if error is None:  # not "if not error": an error may be false
            error = never_ran(result, self.func)
        if error is None and self._cancellation is None:
            self._succeed(result)
            return
        try:
            raise self._why_canceled() if error is None else error  # noqa: TRY301 - for sys.exception()
        except BaseException as err:
            self._judge(err, None)
            raise

    def _succeed(self, result: Any) -> None:
        self.result = result
        self.to_success()
        if self.observer is not None:
            self._observe("succeeded", result)
        if self.on_success is not None:
            self._call_hook(self.on_success, result)

    def _judge(self, error: BaseException, handled: BaseException | None) -> None:
        """Set the status after an error; the caller raises it again, unless this raises another.

        :param handled: the exception that was being handled before the run.
        """
        if self._cancellation is not None and not isinstance(error, LeaveNow):
            self._note_canceled(error)
            return
        if isinstance(error, LeaveNow | TimeIsUp):
            return  # about the worker around this task, not about the task
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

    def refuse(self, error: BaseException) -> None:
        """Fail without a run, as its arguments are not to be had; call ``on_error``."""
        copy_context().run(self._refuse, error)

    def _refuse(self, error: BaseException) -> None:
        _current.set(self)
        self._fail(error)

    # -- Being canceled while it runs. --------------------------------------------------------

    @property
    def is_canceled(self) -> bool:
        """Whether it was canceled. In a running task: whether it is to end now.

        ::

            if current_task().is_canceled:
                return
        """
        return self._cancellation is not None or self.status == CANCELED

    @staticmethod
    def that_run() -> "list[Task]":
        """Return the tasks that are being run in this process, or are about to be."""
        found = owners(Task.start.__code__)
        return list({id(each): each for each in found if isinstance(each, Task)}.values())

    def cancel_run(self, overrun: Overrun | None, is_over: Callable[[], bool]) -> None:
        """End this very run, from another thread; one that has been told is not told again.

        :param overrun: what to do if it does not end.
        :param is_over: returns whether the run is over.
        """
        mine = Cancellation(self, Task.start.__code__, _CALLS, overrun, is_over)
        if vars(self).setdefault("_cancellation", mine) is mine:
            mine.begin()

    def _break_off(self, result: Any) -> None:
        """After the function of a run that was canceled, let nothing more be raised in it.

        :param result: what the function returned, if it did.
        """
        if self._cancellation is not None:
            self._cancellation.disarm()
        if isinstance(sys.exception(), LeaveNow):
            return
        if (coroutine := as_coroutine(result)) is not None:
            coroutine.close()
        raise self._why_canceled()

    def _why_canceled(self) -> TaskCanceled:
        return TaskCanceled(f"Task {shorten(self.task_id)} was canceled while it ran.")

    def _note_canceled(self, error: BaseException) -> None:
        cancellation = self._cancellation
        if cancellation is not None:
            cancellation.disarm()  # again: the exception may have interrupted it
            if cancellation.was_raised:
                release_logging()
        self.to_canceled()
        self.error = error if type(error) is TaskCanceled else self._why_canceled()
        self._observe("canceled", self.error)
        if self.error is not error:
            raise self.error from error

    def _fail(self, err: BaseException) -> None:
        self.error = err
        self.to_failed()
        self._observe("failed", err)
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

        It uses one of the ``retries``, and is no failure: no hook is called. If none is left,
        the task fails, with the exception that was being handled, or else with
        :exc:`~alligator.exceptions.TaskFailed`.

        :param delay: seconds until the next run, or a timedelta; overrides ``retry_delay``.
        :param args: other positional arguments for the next run.
        :param kwargs: other keyword arguments; if only one of the two is given, the other is
            empty.
        :raises RunAgain: always, for Alligator to catch; ``except Exception`` lets it pass.
        :raises InvalidTask: a delay that is no duration, or arguments that do not fit.
        :raises RuntimeError: another task, or none, is running here.
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

    def _observe(self, what: str, *extra: Any) -> None:
        if self.observer is not None:
            self._call_hook(getattr(self.observer, what), *extra)

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
        except BaseException:  # no error of a hook changes the outcome
            if after_fork.generation != origin:
                raise  # a child that the hook forked: it has to end
            log.exception("Hook %r of task %s raised; it goes on.", hook, shorten(self.task_id))
        finally:
            reminder.disarm()

    def _say_it_hangs(self, hook: Callable[..., Any]) -> None:
        names = (name for name in ("on_start", "on_success") if getattr(self, name) is hook)
        other = "on_error" if self.on_error is hook else getattr(hook, "__name__", "")
        log.warning(
            "Hook %s %r of task %s has not returned after %g s, since %s; the task does not end "
            "before it does. Set hook_timeout=seconds to break such hooks off.",
            next(names, other),
            hook,
            shorten(self.task_id),
            HOOK_PATIENCE,
            show_time(time.time() - HOOK_PATIENCE, zone=UTC),
        )

    def may_retry(self, error: BaseException) -> bool:
        """Return whether a retry is left, and is to be used after this error.

        :meth:`retry` is asked for by the task itself: ``retry_on`` and ``give_up_on`` do not
        count then.
        """
        if not self.retries > 0:
            return False
        if isinstance(error, RunAgain):
            return True
        if self.give_up_on is not None and is_named(error, CHECKS["give_up_on"](self.give_up_on)):
            return False
        return self.retry_on is None or is_named(error, CHECKS["retry_on"](self.retry_on))

    def progress(self, fraction: float | None = None, text: str = "") -> tuple[float, str] | None:
        """Say how far the running task is; without arguments, return how far it is.

        In the task, from any thread or coroutine of it, as often as it likes::

            current_task().progress(0.4, 'page 40 of 100')

        The worker writes the last value to the store, at most twice a second. Without a store it
        is kept here alone. Where the task was pushed::

            task.progress()  # (0.4, 'page 40 of 100')

        :param fraction: from 0 to 1.
        :param text: what it is at, 200 characters at most.
        :returns: the fraction and the text; None: it does not run, or has not said.
        :raises InvalidTask: a value that is none of these, or the task does not run here.
        :raises UnsupportedOption: there is no store from which to read it.
        """
        handle = self._handle if self.delivery is None else None
        if fraction is None:
            return self._progress if handle is None else handle.progress(self)
        if handle is not None and _current.get() is not self:
            raise InvalidTask(f"Task {shorten(self.task_id)} does not run here.")
        if (
            isinstance(fraction, bool)
            or not isinstance(fraction, int | float)
            or not 0 <= fraction <= 1
        ):
            raise InvalidTask(
                f"progress({shorten(repr(fraction), 60)}) is no number from 0 to 1; 0.4 stands for "
                "40 percent."
            )
        if not isinstance(text, str) or len(text) > LONGEST_PROGRESS:
            raise InvalidTask(
                f"The text of a progress, {shorten(repr(text), 60)}, is no text of at most "
                f"{LONGEST_PROGRESS} characters."
            )
        is_first, self._progress = self._progress is None, (float(fraction), text)
        if is_first and self.delivery is not None:
            _reporting[next(_numbers)] = weakref.ref(self)
            if len(_reporting) % _TIDY_AT == 0:
                that_report_progress()
        return self._progress

    def spend_retry(self, error: BaseException | None = None) -> float:
        """Use one retry and return the seconds to wait before it.

        :param error: the error that ended the run.
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
        """Undo the changes that a run made inside its arguments, before the next run.

        Arguments that :meth:`retry`, or a hook, replaced as a whole stay replaced.

        :param args: ``func_args`` as the run began.
        :param kwargs: ``func_kwargs`` as the run began.
        """
        before = self.called_with or (None, None)
        if self.func_args is before[0]:
            self.func_args = args
        if self.func_kwargs is before[1]:
            self.func_kwargs = kwargs

    # -- Its status, for hooks and the Gator. -----------------------------------------------

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

    if TYPE_CHECKING:  # a method, so that overrides of it are checked

        def serialize(self) -> str | bytes:
            """Return the message of the task."""
    else:  # without one call more for each push
        serialize = message_module.write

    @classmethod
    def deserialize(cls, data: str | bytes) -> Self:
        """Return the task of a message from a queue.

        ``task_id`` and ``retries`` are required, and ``is_async`` may be 0.x's ``async``.

        :raises BadPayload: it is not JSON, or a field is missing or of the wrong type.
        :raises UnknownModuleError, UnknownCallableError: its function does not exist here.
        """
        return message_module.read(data, cls._new)

    @classmethod
    def _new(cls, task_id: str, retries: int, is_async: Any) -> Self:
        if cls is not Task:  # a subclass, which may have a constructor of its own
            return cls(task_id=task_id, retries=retries, is_async=is_async)
        task = cls.__new__(cls)
        task.task_id = CHECKS["task_id"](task_id)
        if retries != 0:
            task.retries = CHECKS["retries"](retries)
        if is_async is not True:
            task.is_async = CHECKS["is_async"](is_async)
        return task


# -- The options of tasks, for type checkers. -------------------------------------------------


class Hook(Protocol):
    """A function that is called with a task: ``on_start``, ``on_success`` or ``on_error``."""

    def __call__(self, task: Task, /) -> object:
        """Do something about the task; what it returns is ignored."""


class SuccessHook(Protocol):
    """An ``on_success`` that takes what the task returned as well."""

    def __call__(self, task: Task, result: Any, /) -> object:
        """Do something about the task; what it returns is ignored."""


class ErrorHook(Protocol):
    """An ``on_error`` that takes the exception of the task as well."""

    def __call__(self, task: Task, err: Any, /) -> object:
        """Do something about the task; what it returns is ignored."""


#: What ``depends_on`` names: a task, its id, or ``(queue_name, id)``.
Parent = Task | str | tuple[str, str]

#: An exception class, or its name.
ExceptionName = type[BaseException] | str


class KeywordOptions(TypedDict, total=False):
    """The options that :class:`alligator.Task` takes by name only."""

    retry_delay: Seconds
    retry_backoff: float
    retry_max_delay: Seconds | None
    retry_on: ExceptionName | Iterable[ExceptionName] | None
    give_up_on: ExceptionName | Iterable[ExceptionName] | None
    priority: int
    limit: int | None
    limit_key: str | None
    rate: str | tuple[int, Seconds] | None
    rate_key: str | None
    timeout: Seconds | None
    hook_timeout: Seconds | None
    expires: Seconds | None
    queue_name: str | None
    save_results: Seconds | None
    history: Seconds | None
    headers: Mapping[str, str] | None
    unique: bool | str | None
    unique_until: Literal["end", "start"] | None
    debounce: Seconds | None
    debounce_max: Seconds | None
    on_commit: bool | str | None
    run_after: Seconds | None  # as delay_by


class CommonOptions(KeywordOptions, total=False):
    """The options that each of the next ones has."""

    retries: int
    is_async: bool | str
    on_start: Hook | None
    on_error: Hook | ErrorHook | None
    delay_by: Seconds | None


class GatorOptions(CommonOptions, total=False):
    """The options of all tasks of a :class:`alligator.Gator`."""

    on_success: Hook | SuccessHook | None


class BatchOptions(CommonOptions, total=False):
    """The options of :meth:`alligator.Gator.batch`, whose ``on_success`` is a task."""

    task_id: str | None
    depends_on: Parent | Iterable[Parent] | None
    delay_until: float | date | None


class TaskOptions(BatchOptions, total=False):
    """The options of one task."""

    on_success: Hook | SuccessHook | None
