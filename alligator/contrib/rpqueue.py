"""The names of rpqueue, on any Gator: code written for it runs with only the import changed.

::

    from alligator.contrib.rpqueue import task

    @task(attempts=3)
    def echo_to_stdout(message):
        print(message)

    echo_to_stdout.execute('See you later', delay=60)

It translates, and does nothing by itself: what is decorated stays a plain function, which is
queued, run, retried and waited for as any other task. The page "Coming from rpqueue" says what
each name is in Alligator's own words.
"""

import functools
import inspect
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload
from urllib.parse import quote

from alligator.callables import check_arguments
from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import InvalidDSN, InvalidTask, RunAgain, UnsupportedOption
from alligator.gator import Gator
from alligator.options import Options, check_options, check_schedule_options
from alligator.tasks import Task, current_task
from alligator.ticks import Cron, Every, weekday_in_its_place
from alligator.utils import import_module, shorten
from alligator.workers import Worker

__all__ = [
    "EnqueuedTask",
    "call_task",
    "cron_task",
    "execute_tasks",
    "flush_tasks",
    "known_queues",
    "periodic_task",
    "set_priority",
    "set_redis_connection_settings",
    "task",
    "use",
]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

#: The queue of tasks that name none, after :func:`set_redis_connection_settings`.
DEFAULT_QUEUE = "default"

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

#: Seconds between two looks at the queues, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25

_gator: Gator | None = None
_declared: "dict[str, _Declared]" = {}
_priorities: dict[str, float] = {}


class TaskFunction(Protocol[P, R]):
    """What the decorators return: the function, to be called as ever, and two more ways."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it here and now."""

    def execute(
        self, *args: Any, delay: float | None = None, taskid: str | None = None, **kwargs: Any
    ) -> "EnqueuedTask":
        """Put it on its queue, to be run by a worker.

        :param delay: seconds before that.
        :param taskid: an id of your own.
        :raises InvalidTask, NotAllowed, UnsupportedOption: see :meth:`alligator.Gator.task`.
        """

    def retry(self, *args: Any, delay: float | None = None, **kwargs: Any) -> bool:
        """From inside this very task: run it once more, with these arguments, when it has ended.

        :param delay: seconds before that; None: its ``retry_delay``, which is 0.
        :returns: False: its attempts are used up, and nothing happens.
        :raises InvalidTask: the arguments do not fit, or do not survive JSON.
        :raises RuntimeError: it is not this task that is running here.
        """


# -- Which Gator. -----------------------------------------------------------------------------


def use(gator: Gator) -> Gator:
    """Have all tasks of this module go by that Gator, and return it.

    Tasks may be declared before and after. Those that name no queue go to the Gator's own.

    :raises InvalidTask: a task was declared that this Gator cannot take.
    :raises UnsupportedOption: the same; also, schedules without a store.
    """
    global _gator
    if not isinstance(gator, Gator):
        raise InvalidTask(f"{shorten(repr(gator))} is no Gator; give rpqueue.use(Gator(dsn)).")
    for each in list(_declared.values()):
        each.register(gator)
    _gator = gator
    return gator


def set_redis_connection_settings(
    host: str = "localhost",
    port: int = 6379,
    db: int = 0,
    password: str | None = None,
    socket_timeout: float | None = None,
    unix_socket_path: str | None = None,
    ssl: bool = False,
    ssl_ca_certs: str | None = None,
) -> Gator:
    """Use a Redis server, with ``'default'`` for tasks that name no queue; return the Gator.

    Connects to nothing; the first use does.

    :param socket_timeout: seconds to wait for an answer; None: ten.
    :raises InvalidDSN: one of these cannot be; no message shows the password.
    """
    if password is not None and not isinstance(password, str):
        raise InvalidDSN(f"The password is not text but a {type(password).__name__}.")
    credentials = f":{quote(password, safe='')}@" if password else ""
    query = {"timeout": socket_timeout, "ssl_ca_certs": ssl_ca_certs if ssl else None}
    if unix_socket_path is not None:
        where = f"redis+unix://{credentials}{quote(str(unix_socket_path))}"
        query["db"] = db
    else:
        name = f"[{host}]" if ":" in str(host) else host
        if not re.fullmatch(r"[\w.-]+|\[[\w:.%]+\]", str(name)) or not str(port).isdecimal():
            raise InvalidDSN(f"host={host!r}, port={port!r} is not where a server could be.")
        where = f"redis{'s' * bool(ssl)}://{credentials}{name}:{port}/{quote(str(db), safe='')}"
    given = [
        f"{key}={quote(str(each), safe='')}" for key, each in query.items() if each is not None
    ]
    return use(Gator("?".join([where, "&".join(given)]).rstrip("?"), DEFAULT_QUEUE))


def _connected() -> Gator:
    if _gator is None:
        raise InvalidDSN(
            "rpqueue has no connection yet: call rpqueue.set_redis_connection_settings(host, "
            "port, db), or rpqueue.use(Gator('redis://localhost:6379/0')), first."
        )
    return _gator


# -- Declaring. -------------------------------------------------------------------------------


@overload
def task(func: Callable[P, R], /) -> TaskFunction[P, R]: ...


@overload
def task(
    func: None = None, /, *, queue: str | None = None, attempts: int = 1, **options: Any
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...


def task(
    func: Any = None, /, *, queue: str | None = None, attempts: int = 1, **options: Any
) -> Any:
    """Declare that a function may be executed later: ``@task``, or ``@task(attempts=3)``.

    :param queue: where it waits; None: on the Gator's own queue.
    :param attempts: how often it runs at most, where it asks for it by ``.retry()``. An
        exception is never retried by itself.
    :param options: those of :meth:`alligator.Gator.options`: ``save_results``, ``retry_delay``,
        ``timeout``, ``priority`` …
    :raises InvalidTask, TypeError: a value that one of them cannot have; not a function.
    """
    checked = _options(queue, attempts, options)
    if func is None:
        return lambda func: _Declared(func, checked).function
    return _Declared(func, checked).function


def periodic_task(
    run_every: float | timedelta,
    queue: str | None = None,
    never_skip: bool = False,
    attempts: int = 1,
    **options: Any,
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]:
    """Declare that a function without arguments is executed every so many seconds.

    :param never_skip: make up for times at which no worker ran; ``catch_up`` in Alligator.
    :param options: as in :func:`task`, and ``overlap``.
    :raises InvalidTask, TypeError: no such interval, or see :func:`task`.
    """
    seconds = run_every.total_seconds() if isinstance(run_every, timedelta) else run_every
    Every(seconds)  # a bad one is refused here, rather than once there is a Gator
    return _scheduled(
        lambda opts, name: opts.every(seconds, name), queue, never_skip, attempts, options
    )


def cron_task(
    crontab: str,
    queue: str | None = None,
    never_skip: bool = False,
    attempts: int = 1,
    **options: Any,
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]:
    """Declare that a function without arguments is executed when the clock shows this; UTC.

    :param crontab: ``'0 5 * * tue'``; also with the weekday in third place, as rpqueue's
        documentation has it.
    :param options: as in :func:`periodic_task`, and ``tz``.
    :raises InvalidTask, TypeError: it cannot be read, or never comes, or see :func:`task`.
    :raises MissingDriver: cronsim is not installed.
    """
    expression = weekday_in_its_place(crontab) if isinstance(crontab, str) else crontab
    Cron(expression, options.get("tz"))
    return _scheduled(
        lambda opts, name: opts.cron(expression, name), queue, never_skip, attempts, options
    )


def _scheduled(
    declare: Callable[[Options, str], Any],
    queue: Any,
    never_skip: bool,
    attempts: int,
    options: dict[str, Any],
) -> Any:
    when = check_schedule_options({"catch_up": bool(never_skip), **options})
    rest = {name: each for name, each in options.items() if name not in ("catch_up", *when)}
    checked = _options(queue, attempts, rest)
    return lambda func: _Declared(func, checked, when, declare).function


def _options(queue: Any, attempts: int, options: dict[str, Any]) -> dict[str, Any]:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise InvalidTask(f"attempts={shorten(repr(attempts))} is not a whole number from 1 up.")
    if "retries" in options:
        raise TypeError("Give attempts=, which counts all runs, instead of retries=.")
    queue = queue.decode() if isinstance(queue, bytes) else queue
    return check_options({"retries": attempts - 1, "queue_name": queue, **options})


class _Declared:
    """A function, and how it is to be executed."""

    def __init__(
        self,
        func: Any,
        options: dict[str, Any],
        when: dict[str, Any] | None = None,
        declare: Callable[[Options, str], Any] | None = None,
    ) -> None:
        if not inspect.isfunction(func):
            raise InvalidTask(f"{shorten(repr(func))} is not a function: nothing to decorate.")
        self.options, self.when, self.declare = options, when or {}, declare
        self.name = f"{func.__module__}.{func.__qualname__}"
        if declare is not None:
            check_arguments(func, (), {})
        function: Any = _with_attempts(func)
        function.execute = self.execute
        function.retry = self.retry
        self.function = function
        if _gator is not None:
            self.register(_gator)
        _declared[self.name] = self

    def register(self, gator: Gator) -> None:
        """Check the options with a Gator, and declare its schedule there."""
        options = gator.options(**self.options, **self.when)
        if self.declare is not None:
            module = self.function.__module__
            if module == "__main__" and not gator.client.in_process:
                raise InvalidTask(f"{self.name} is in the script that runs; move it to a module.")
            # By its name, since its module may be only half imported by now.
            self.declare(options, f"{module}:{self.function.__qualname__}")

    def execute(
        self, *args: Any, delay: float | None = None, taskid: str | None = None, **kwargs: Any
    ) -> "EnqueuedTask":
        """See :class:`TaskFunction`."""
        options = {**self.options, "delay_by": delay, "task_id": taskid}
        pushed = _connected().options(**options).task(self.function, *args, **kwargs)
        return EnqueuedTask(self.name, pushed.task_id, task=pushed)

    def retry(self, *args: Any, delay: float | None = None, **kwargs: Any) -> bool:
        """See :class:`TaskFunction`."""
        run = _run.get()
        if run is None or run.task is not current_task() or run.task.func is not self.function:
            raise RuntimeError(f"{self.name}.retry() is for {self.name} when a worker runs it.")
        if run.task.retries < 1:
            return False
        try:
            run.task.retry(
                run.task.retry_delay if delay is None else delay, args=args, kwargs=kwargs
            )
        except RunAgain as request:
            run.request = request
        return True


# -- Running. ---------------------------------------------------------------------------------


class _Run:
    """One run of a task in a worker, and what it asked for."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.request: RunAgain | None = None


_run: ContextVar[_Run | None] = ContextVar("alligator_rpqueue_run", default=None)


def _with_attempts(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function so that, as a task, it is run again when it asks, and only then."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _attempt(call):
            return func(*args, **kwargs)

    @functools.wraps(func)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        with _attempt(call_async):
            return await cast(Awaitable[Any], func(*args, **kwargs))

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
        task.retries = 0  # what is left of its attempts is for those that ask
        raise
    finally:
        _run.reset(token)
    if run.request:
        raise run.request


def execute_tasks(
    queues: Sequence[str] | str | None = None,
    threads_per_process: int = 1,
    processes: int = 1,
    wait_per_thread: float | None = None,
    module: str | None = None,
    **options: Any,
) -> None:
    """Execute tasks in the calling thread until told to stop, as :class:`alligator.Worker` does.

    :param queues: in strict order; None: all that are known by now (:func:`known_queues`).
    :param threads_per_process: how many tasks run at the same time.
    :param processes: 1; for more there is ``latergator.py --app … --processes 4``.
    :param wait_per_thread: seconds per thread that running tasks get to finish after SIGTERM;
        None: 30 in all.
    :param module: one to import first, for the tasks that it declares.
    :param options: others of the worker: ``burst``, ``max_tasks``, ``lease``, ``log_level`` …
    :raises InvalidTask, UnsupportedOption, UnknownModuleError: a value that cannot be.
    """
    if processes != 1:
        raise UnsupportedOption(
            "execute_tasks() runs in this process; for several, run it several times, or "
            "latergator.py --app myapp.queues:gator --processes 4."
        )
    if module is not None:
        import_module(module)
    if wait_per_thread is not None:
        options["grace"] = threads_per_process * wait_per_thread
    names = [queues] if isinstance(queues, str) else list(queues or known_queues())
    Worker(_connected(), to_consume=names, concurrency=threads_per_process, **options).run_forever()


# -- Queues, and tasks by name. ---------------------------------------------------------------


def set_priority(queue: str, qpri: float) -> None:
    """Have workers of this process look at a queue before others: lower numbers come first.

    Queues without a number come last.
    """
    if isinstance(qpri, bool) or not isinstance(qpri, int | float) or math.isnan(qpri):
        raise InvalidTask(f"set_priority({queue!r}, {qpri!r}): that is no number.")
    _priorities[queue] = qpri


def known_queues() -> list[str]:
    """Return the queues of all tasks declared in this process, in the order of priority."""
    own = _connected().queue_name
    names = {each.options.get("queue_name") or own for each in _declared.values()} | {*_priorities}
    return sorted(names or {own}, key=lambda name: (_priorities.get(name, math.inf), name))


def call_task(name: str, queue: str | None = None, /, *args: Any, **kwargs: Any) -> "EnqueuedTask":
    """Execute a task by its name, ``'usertasks1.echo_to_stdout'``; its code need not be at hand.

    ``delay`` and ``taskid`` are as with ``execute``.

    :param queue: where it goes, if the task was not declared in this process, which then knows
        of one attempt only.
    :raises InvalidTask: that is no name, or see :meth:`alligator.Gator.task`.
    """
    known = _declared.get(name)
    if known is not None:
        return known.execute(*args, **kwargs)
    options = _options(queue, 1, {})
    options |= {"delay_by": kwargs.pop("delay", None), "task_id": kwargs.pop("taskid", None)}
    pushed = _connected().options(**options).task(name, *args, **kwargs)
    return EnqueuedTask(name, pushed.task_id, task=pushed)


def flush_tasks(complete: bool = False, timeout: float | None = None) -> bool:
    """Block until no task waits on the known queues: all have started. Delayed ones do not count.

    :param complete: until none is running either.
    :param timeout: seconds; None: as long as it takes.
    :returns: False: not in that time.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    pause, client = _FIRST_PAUSE, _connected().client
    while any(
        found.waiting or (complete and found.running) for found in map(client.stats, known_queues())
    ):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True


class EnqueuedTask:
    """What ``execute`` returns; or a task that is known by its id.

    :param name: of its function.
    :param taskid: its id.
    :param queue: the queue it is on; None: the Gator's own.
    """

    def __init__(
        self, name: str, taskid: str, queue: str | None = None, task: Task | None = None
    ) -> None:
        self.name, self.taskid = name, taskid
        self._gator = _connected()
        self._task = task or Task(taskid, queue_name=queue, save_results=1)

    def __repr__(self) -> str:
        return f"<EnqueuedTask taskid={shorten(self.taskid)} function={shorten(self.name)}>"

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self._task.queue_name or self._gator.queue_name

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments that it was executed with here, but for those by name."""
        return tuple(self._task.func_args)

    @property
    def status(self) -> str:
        """``'early'`` (delayed), ``'waiting'``, ``'started'``, ``'retrying'``, ``'done'``,
        ``'failed'``, ``'canceled'``; ``'unknown'`` of an id that is on no record.
        """
        found = self._gator.status(self._task)
        if found is None:
            # A failure would be on record, so what was pushed here and is gone went well.
            return "done" if self._task.is_pushed else "unknown"
        return _STATES[found]

    def wait(self, timeout: float | None = 30) -> bool:
        """Block until the task has started, or is done; False: not in so many seconds."""
        return self._gator.wait([self._task], timeout, started=True)

    @property
    def result(self) -> Any:
        """What the task returned, if it was declared with ``save_results``.

        Of a task that is running, the end is waited for. None: it has not started yet.

        :raises TaskFailed, TaskCanceled: it did not return.
        :raises ResultTimeout: nothing is known of it (any more).
        :raises UnsupportedOption: its result is not saved.
        """
        if self._gator.status(self._task) in (WAITING, DELAYED):
            return None
        return self._gator.result(self._task, None)

    def cancel(self) -> bool:
        """Take the task off its queue before it starts; False: it is too late for that."""
        return self._gator.cancel(self._task) is not None
