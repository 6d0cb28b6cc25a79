"""Provide the names of rpqueue on any Gator: code for it runs with only the import changed.

::

    from alligator.contrib.rpqueue import task

    @task(attempts=3)
    def echo_to_stdout(message):
        print(message)

    echo_to_stdout.execute('See you later', delay=60)

It only translates: a decorated function stays a plain function, which is queued, run, retried and
waited for as any other task. The page "Coming from rpqueue" gives Alligator's word for each name.
"""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Unpack, overload
from urllib.parse import quote, urlencode

from alligator.common.importing import import_module
from alligator.common.text import shorten
from alligator.contrib.rpqueue_functions import (
    Declared,
    EnqueuedTask,
    P,
    R,
    TaskFunction,
    connect,
    connected,
    declared,
    push,
)
from alligator.exceptions import InvalidDSN, InvalidTask, UnsupportedOption
from alligator.gator import Gator
from alligator.producer.options_and_batch import Options, ScheduleOptions
from alligator.scheduling.rules import Cron, Every, check_schedule_options
from alligator.tasks.task import TaskOptions
from alligator.tasks.validation import check_options
from alligator.workers.worker import Worker

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

#: The queue of tasks that name none, after :func:`set_redis_connection_settings`.
DEFAULT_QUEUE = "default"

#: Seconds between two looks at the queues, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25

_WEEKDAY = re.compile(r"sun|mon|tue|wed|thu|fri|sat", re.IGNORECASE)

_priorities: dict[str, float] = {}


# -- Which Gator. -----------------------------------------------------------------------------


def use(gator: Gator) -> Gator:
    """Push all tasks of this module by that Gator, and return it.

    Tasks may be declared before and after. Tasks that name no queue go to the Gator's own.

    :raises InvalidTask: a task was declared that this Gator cannot push.
    :raises UnsupportedOption: the same; or schedules were declared, and it has no store.
    """
    if not isinstance(gator, Gator):
        raise InvalidTask(f"{shorten(repr(gator))} is no Gator; give rpqueue.use(Gator(dsn)).")
    connect(gator)
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
    :raises InvalidDSN: one of these is not valid; no message shows the password.
    """
    if password is not None and not isinstance(password, str):
        raise InvalidDSN(f"The password is not text but a {type(password).__name__}.")
    credentials = f":{quote(password, safe='')}@" if password else ""
    query = {"timeout": socket_timeout, "ssl_ca_certs": ssl_ca_certs if ssl else None}
    if unix_socket_path is not None:
        if not str(unix_socket_path).startswith("/"):
            raise InvalidDSN(f"unix_socket_path={unix_socket_path!r} does not begin with '/'.")
        where = f"redis+unix://{credentials}{quote(str(unix_socket_path))}"
        query["db"] = db
    else:
        name = f"[{host}]" if ":" in str(host) else host or ""
        if not re.fullmatch(r"[\w.-]+|\[[\w:.%]+\]", name) or not str(port).isdecimal():
            raise InvalidDSN(f"host={host!r}, port={port!r} is not where a server could be.")
        where = f"redis{'s' * bool(ssl)}://{credentials}{name}:{port}/{quote(str(db), safe='')}"
    extra = urlencode({name: each for name, each in query.items() if each is not None})
    return use(Gator(f"{where}?{extra}" if extra else where, DEFAULT_QUEUE))


# -- Declaring. -------------------------------------------------------------------------------


@overload
def task(func: Callable[P, R], /) -> TaskFunction[P, R]: ...


@overload
def task(
    func: None = None,
    /,
    *,
    queue: str | None = None,
    attempts: int = 1,
    **options: Unpack[TaskOptions],
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...


def task(
    func: Any = None,
    /,
    *,
    queue: str | None = None,
    attempts: int = 1,
    **options: Unpack[TaskOptions],
) -> Any:
    """Declare a function as a task: ``@task``, or ``@task(attempts=3)``.

    :param queue: its queue; None: the Gator's own.
    :param attempts: how often it runs at most, if it calls ``.retry()``. An exception alone is
        never retried.
    :param options: those of :meth:`alligator.Gator.options`: ``save_results``, ``retry_delay``,
        ``timeout``, ``priority`` …
    :raises InvalidTask, TypeError: an option has a value that is not valid; or this is no function.
    """
    checked = _options(queue, attempts, options)
    if func is None:
        return lambda func: Declared(func, checked).function
    return Declared(func, checked).function


def periodic_task(
    run_every: float | timedelta,
    queue: str | None = None,
    never_skip: bool = False,
    attempts: int = 1,
    **options: Unpack[ScheduleOptions],
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]:
    """Execute a function without arguments every so many seconds.

    :param never_skip: also run for the times at which no worker ran; ``catch_up`` in Alligator.
    :param options: as in :func:`task`, and ``overlap``.
    :raises InvalidTask, TypeError: it is no interval, or see :func:`task`.
    """
    seconds = run_every.total_seconds() if isinstance(run_every, timedelta) else run_every
    Every(seconds)  # refuses a bad one now, before there is a Gator
    return _scheduled(
        lambda opts, name: opts.every(seconds, name), queue, never_skip, attempts, options
    )


def cron_task(
    crontab: str,
    queue: str | None = None,
    never_skip: bool = False,
    attempts: int = 1,
    **options: Unpack[ScheduleOptions],
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]:
    """Execute a function without arguments when the clock shows this; UTC.

    :param crontab: ``'0 5 * * tue'``; also with the weekday in third place, as rpqueue's
        documentation has it.
    :param options: as in :func:`periodic_task`, and ``tz``.
    :raises InvalidTask, TypeError: it cannot be read, or never matches, or see :func:`task`.
    :raises MissingDriver: cronsim is not installed.
    """
    expression = weekday_in_its_place(crontab) if isinstance(crontab, str) else crontab
    Cron(expression, options.get("tz"))
    return _scheduled(
        lambda opts, name: opts.cron(expression, name), queue, never_skip, attempts, options
    )


def weekday_in_its_place(expression: str) -> str:
    """Move a weekday from third place, where rpqueue has it, to the last.

    ::

        >>> weekday_in_its_place('0 5 tue * *')
        '0 5 * * tue'
    """
    fields = expression.split()
    if len(fields) == 5 and _WEEKDAY.search(fields[2]):
        fields[2], fields[4] = fields[4], fields[2]
    return " ".join(fields)


def _scheduled(
    declare: Callable[[Options, str], Any],
    queue: Any,
    never_skip: bool,
    attempts: int,
    options: Mapping[str, Any],
) -> Callable[[Any], Any]:
    when = check_schedule_options({"catch_up": bool(never_skip), **options})
    rest = {name: each for name, each in options.items() if name not in ("catch_up", *when)}
    checked = _options(queue, attempts, rest)
    return lambda func: Declared(func, checked, when, declare).function


def _options(queue: Any, attempts: int, options: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise InvalidTask(f"attempts={shorten(repr(attempts))} is not a whole number from 1 up.")
    if "retries" in options:
        raise TypeError("Give attempts=, which counts all runs, instead of retries=.")
    return check_options({"retries": attempts - 1, "queue_name": _text(queue), **options})


def _text(queue: Any) -> Any:
    return queue.decode() if isinstance(queue, bytes) else queue  # as rpqueue has it


# -- Running. -----------------------------------------------------------------------------------


def execute_tasks(
    queues: Sequence[str] | str | None = None,
    threads_per_process: int = 1,
    processes: int = 1,
    wait_per_thread: float | None = None,
    module: str | None = None,
    **options: Any,
) -> None:
    """Execute tasks in the calling thread until told to stop, as :class:`alligator.Worker` does.

    :param queues: in strict order; None: all that are known (:func:`known_queues`).
    :param threads_per_process: how many tasks run at the same time.
    :param processes: 1; for more there is ``latergator.py --app … --processes 4``.
    :param wait_per_thread: seconds per thread that running tasks get to finish after SIGTERM;
        None: 30 in all.
    :param module: a module to import first, for the tasks that it declares.
    :param options: of the worker: ``burst``, ``max_tasks``, ``lease``, ``log_level`` …
    :raises InvalidTask, UnsupportedOption, UnknownModuleError: a value is not valid.
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
    names = [queues] if isinstance(queues, str | bytes) else queues or known_queues()
    options = {"to_consume": [_text(each) for each in names], **options}
    Worker(connected(), concurrency=threads_per_process, **options).run_forever()


# -- Queues, and tasks by name. ---------------------------------------------------------------


def set_priority(queue: str, qpri: float) -> None:
    """Set the priority of a queue for workers of this process: lower numbers come first.

    Queues without a number come last.
    """
    if isinstance(qpri, bool) or not isinstance(qpri, int | float) or math.isnan(qpri):
        raise InvalidTask(f"set_priority({queue!r}, {qpri!r}): that is no number.")
    _priorities[_text(queue)] = qpri


def known_queues() -> list[str]:
    """Return the queues of all tasks declared in this process, in the order of priority."""
    own = connected().queue_name
    names = {each.options.get("queue_name") or own for each in declared.values()} | {*_priorities}
    return sorted(names or {own}, key=lambda name: (_priorities.get(name, math.inf), name))


def call_task(name: str, queue: str | None = None, *args: Any, **kwargs: Any) -> EnqueuedTask:
    """Execute a task by its name, ``'usertasks1.echo_to_stdout'``; its code may be missing here.

    ``delay`` and ``taskid`` are as with ``execute``.

    :param queue: its queue, if the task was not declared in this process; it then gets one attempt.
    :raises InvalidTask: the name is not valid, or see :meth:`alligator.Gator.task`.
    """
    known = declared.get(name)
    if known is not None:
        return known.execute(*args, **kwargs)
    delay, taskid = kwargs.pop("delay", None), kwargs.pop("taskid", None)
    return push(name, name, _options(queue, 1, {}), delay, taskid, args, kwargs)


def flush_tasks(complete: bool = False, timeout: float | None = None) -> bool:
    """Block until all tasks on the known queues have started. Delayed ones do not count.

    :param complete: block until none is running either.
    :param timeout: seconds; None: as long as it takes.
    :returns: False: they did not in that time.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    pause, client = _FIRST_PAUSE, connected().client
    while any(
        found.waiting or (complete and found.running) for found in map(client.stats, known_queues())
    ):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True
