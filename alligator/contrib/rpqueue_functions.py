"""Define the decorated functions of ``alligator.contrib.rpqueue``, and what ``execute`` returns."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar

from alligator.common.text import shorten
from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import InvalidDSN, InvalidTask, RunAgain
from alligator.gator import Gator
from alligator.producer.options_and_batch import Options
from alligator.tasks.functions import check_arguments, check_runs, split_name
from alligator.tasks.task import Task, current_task
from alligator.tasks.validation import check_options

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

#: What rpqueue calls the states of a task; it had no word for the last three.
_STATES = {
    DELAYED: "early",
    WAITING: "waiting",
    RUNNING: "started",
    SUCCESS: "done",
    RETRYING: "retrying",
    FAILED: "failed",
    CANCELED: "canceled",
}


class EnqueuedTask:
    """A task that ``execute`` pushed, or one that is known by its id.

    :param name: of its function.
    :param taskid: its id.
    :param queue: the queue it is on; None: the Gator's own.
    """

    def __init__(
        self, name: str, taskid: str, queue: str | None = None, task: Task | None = None
    ) -> None:
        self.name: str = name
        self.taskid: str = taskid
        self._gator = connected()
        self._task = task or Task(taskid, queue_name=queue, save_results=1)

    def __repr__(self) -> str:
        return f"<EnqueuedTask taskid={shorten(self.taskid)} function={shorten(self.name)}>"

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self._task.queue_name or self._gator.queue_name

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments that it was executed with here, without those given by name."""
        return tuple(self._task.func_args)

    @property
    def status(self) -> str:
        """``'early'`` (delayed), ``'waiting'``, ``'started'``, ``'retrying'``, ``'done'``,
        ``'failed'`` or ``'canceled'``; ``'unknown'`` of an id that is on no record.
        """
        found = self._gator.status(self._task)
        return "unknown" if found is None else _STATES[found]

    def wait(self, timeout: float | None = 30) -> bool:
        """Block until the task has started, or is done; False: it did not in so many seconds."""
        return self._gator.wait([self._task], timeout, started=True)

    @property
    def result(self) -> Any:
        """What the task returned, if it was declared with ``save_results``.

        If the task has started, this waits for its end, retries included. None: it has not.

        :raises TaskFailed, TaskCanceled: the task did not return.
        :raises ResultTimeout: the task is unknown, or not known any more.
        :raises UnsupportedOption: the result is not saved.
        """
        status = self._gator.status(self._task)
        if status in (WAITING, DELAYED):
            return None
        return self._gator.result(self._task, None if status in (RUNNING, RETRYING) else 0.0)

    def cancel(self) -> bool:
        """Take the task off its queue before it starts; False: it is too late."""
        return self._gator.cancel(self._task) is not None


class TaskFunction(Protocol[P, R]):
    """What the decorators return: the function itself, with ``execute`` and ``retry``."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it here and now."""

    def execute(
        self, *args: Any, delay: float | None = None, taskid: str | None = None, **kwargs: Any
    ) -> EnqueuedTask:
        """Put it on its queue, for a worker to run.

        :param delay: seconds before it may run.
        :param taskid: an id of your own.
        :raises InvalidTask, NotAllowed, UnsupportedOption: see :meth:`alligator.Gator.task`.
        """

    def retry(self, *args: Any, delay: float | None = None, **kwargs: Any) -> bool:
        """From inside the function: run it again, with these arguments, after this run.

        :param delay: seconds before that; None: its ``retry_delay``, which is 0.
        :returns: False: it will not run again: its attempts are used up, or it was called as a
            plain function.
        :raises InvalidTask: the arguments do not fit, or do not survive JSON.
        """


class Declared:
    """A function, and how to execute it.

    :param options: the options of its tasks, checked.
    :param when: the options of its schedule.
    :param declare: declares that schedule, given the options and the function's name.
    """

    def __init__(
        self,
        func: Any,
        options: dict[str, Any],
        when: dict[str, Any] | None = None,
        declare: Callable[[Options, str], Any] | None = None,
    ) -> None:
        if not inspect.isfunction(func):
            raise InvalidTask(f"{shorten(repr(func))} is not a function: nothing to decorate.")
        check_runs(func)
        self._path = f"{func.__module__}:{func.__qualname__}"
        if declare is not None:
            split_name(self._path)  # refuses one that could not be imported by it
            check_arguments(func, (), {})
        self.options: dict[str, Any] = options
        self._when, self._declare = when or {}, declare
        self.name: str = f"{func.__module__}.{func.__qualname__}"
        self.function: Any = _with_attempts(func)
        self.function.execute, self.function.retry = self.execute, self.retry
        if _gator is not None:
            self.register(_gator)
        declared[self.name] = self

    def register(self, gator: Gator) -> None:
        """Check the options with a Gator, and declare the schedule there."""
        options = gator.options(**self.options, **self._when)
        if self._declare is not None:
            if self.function.__module__ == "__main__" and not gator.client.in_process:
                raise InvalidTask(f"{self.name} is in the script that runs; move it to a module.")
            # By its name: its module may not be fully imported yet.
            self._declare(options, self._path)

    def execute(
        self, *args: Any, delay: float | None = None, taskid: str | None = None, **kwargs: Any
    ) -> EnqueuedTask:
        """See :class:`TaskFunction`."""
        return push(self.name, self.function, self.options, delay, taskid, args, kwargs)

    def retry(self, *args: Any, delay: float | None = None, **kwargs: Any) -> bool:
        """See :class:`TaskFunction`."""
        run, task = _run.get(), current_task()
        if run is None or run.task is not task or task.func is not self.function:
            return False
        if task.retries < 1:
            return False
        try:
            task.retry(task.retry_delay if delay is None else delay, args=args, kwargs=kwargs)
        except RunAgain as request:
            run.request = request
        return True


#: All that were declared in this process, by their names.
declared: dict[str, Declared] = {}

_gator: Gator | None = None


def connect(gator: Gator) -> None:
    """Push all tasks, declared before and after, by that Gator."""
    global _gator
    for each in list(declared.values()):
        each.register(gator)
    _gator = gator


def connected() -> Gator:
    """Return the Gator that tasks are pushed by.

    :raises InvalidDSN: none was named yet.
    """
    if _gator is None:
        raise InvalidDSN(
            "rpqueue has no connection yet: call rpqueue.set_redis_connection_settings(host, "
            "port, db), or rpqueue.use(Gator('redis://localhost:6379/0')), first."
        )
    return _gator


def push(
    name: str,
    func: Callable[..., Any] | str,
    options: dict[str, Any],
    delay: float | None,
    taskid: str | None,
    args: Any,
    kwargs: Any,
) -> EnqueuedTask:
    """Put a task on its queue."""
    own = check_options({"delay_by": delay, "task_id": taskid})
    task = connected().options(**{**options, **own}).task(func, *args, **kwargs)
    return EnqueuedTask(name, task.task_id, task=task)


# -- How attempts are counted. ----------------------------------------------------------------


class _Run:
    """One run of a task in a worker, and the retry it asked for."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.request: RunAgain | None = None


_run: ContextVar[_Run | None] = ContextVar("alligator_rpqueue_run", default=None)


def _with_attempts(func: Callable[..., Any]) -> Any:
    """Wrap a function so that, as a task, it runs again only if it asks for it."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _attempt(call):
            return func(*args, **kwargs)

    @functools.wraps(func)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        with _attempt(call_async):
            return await func(*args, **kwargs)

    return call_async if inspect.iscoroutinefunction(func) else call


@contextmanager
def _attempt(function: Callable[..., Any]) -> Iterator[None]:
    task, around = current_task(), _run.get()
    if task is None or task.func is not function or (around and around.task is task):
        yield  # a plain call, perhaps of the task by itself
        return
    run = _Run(task)
    token = _run.set(run)
    try:
        yield
    except RunAgain:
        raise
    except BaseException as err:
        if run.request and isinstance(err, Exception):
            raise run.request from err
        task.retries = 0  # only a call of retry() uses the other attempts
        raise
    finally:
        _run.reset(token)
    if run.request:
        raise run.request
