"""Enqueue, look up and cancel tasks with a Gator, the one object that an application needs."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from copy import copy
from dataclasses import asdict
from functools import partial
from inspect import signature
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from alligator.backends import client_class
from alligator.backends.base import GET, OWN_ID, Client, DeadTask, Message
from alligator.backends.dsn import mask_password
from alligator.backends.legacy import LegacyClient
from alligator.backends.queue_pauses import Pauses
from alligator.backends.store import Store
from alligator.common.clock import Clock, Moment, Seconds, SystemClock, in_seconds
from alligator.common.group_by import group_by
from alligator.common.text import shorten
from alligator.constants import ALL, FAILED, WAITING
from alligator.exceptions import InvalidDSN, InvalidTask, UnsupportedOption
from alligator.execution.activity_report import Recording
from alligator.execution.settle import Settler
from alligator.execution.without_worker import InlineRunner
from alligator.monitoring import cancel_requests, progress
from alligator.monitoring.monitor import Monitor
from alligator.monitoring.queues import QueueViews
from alligator.monitoring.rows import (
    ActivityRow,
    DepthRow,
    History,
    Page,
    QueueRow,
    RecentRow,
    RunningRow,
    ScheduleRow,
    TaskInfo,
    TaskRow,
    WorkerRow,
)
from alligator.monitoring.schedules import schedule_rows
from alligator.producer.children_in_other_store import bridge
from alligator.producer.options_and_batch import (
    AsyncBatch,
    Batch,
    Callback,
    Options,
    ScheduleOptions,
)
from alligator.producer.push import Producer
from alligator.results import explain
from alligator.results.query import Results
from alligator.results.recorder import Recorder
from alligator.runtime.blocking_calls import loaded, returns_coroutine, warn_in_loop
from alligator.scheduling.rules import Rule
from alligator.scheduling.scheduler import Schedule, Schedules
from alligator.security.policy import Policy
from alligator.security.signing import Signer
from alligator.tasks.codec import Codec
from alligator.tasks.middleware import AnyMiddleware, RunMiddleware, read_middleware
from alligator.tasks.parent_ids_in_store import KeptParents, load
from alligator.tasks.parent_results import ResultOf
from alligator.tasks.task import BatchOptions, GatorOptions, Task
from alligator.tasks.validation import CHECKS, check_defaults

if TYPE_CHECKING:
    from alligator.asynchronous.awaitable_calls import AwaitableCalls
    from alligator.asynchronous.events import TaskEvent

P = ParamSpec("P")
R = TypeVar("R")

_ALL_DEAD = 1_000_000


class Gator:
    """Enqueue tasks, look them up and cancel them: on one queue of a backend, and on its others
    by ``queue_name=``.

    ::

        gator = Gator('redis://localhost:6379/0')
        gator.task(send_post_email, user.pk, post.pk)

    The constructor connects to nothing; the first use does. Threads may share a Gator, and it may
    be used after a fork. Its configuration is fixed; only ``queue_name`` and ``task_class`` may be
    assigned later.

    :param conn_string: the DSN of the backend.
    :param queue_name: the queue that tasks go to.
    :param task_class: a class to use instead of :class:`alligator.Task`.
    :param backend_class: a client class to use instead of the one that the DSN names.
    :param store: the DSN of a store for results (or the store itself), if the backend has none
        (beanstalk, sqs), or to use another one.
    :param allowed: the functions that may run, hooks included: ``['myapp.tasks.*', …]``; None:
        any but the known ways to run code. See :class:`alligator.security.Policy`.
    :param secret_keys: keys that sign tasks; unsigned tasks are then not run. The first key
        signs, all are accepted: ``[new, old]``. At least 16 bytes each.
    :param clock: where time comes from; for tests.
    :param options: options of all tasks, ``{'retries': 3, …}``, which those of :meth:`options`
        and :meth:`batch` override.
    :param middleware: objects with ``push(task, call_next)`` or ``run(task, call_next)`` or both,
        which are called around each push and each run, the first one outermost; or with
        ``activity(rows)``, which is told once a second what ended in this process.
    :param activity: whether workers of this Gator record what they do, where there is a store;
        see :doc:`/monitoring`.
    :param show_arguments: what is shown of the arguments of tasks. True: their first characters,
        with secrets masked; False: nothing; a function of the task: the text that it returns.
    :param async_threads: the most threads that :meth:`atask` and the other awaitable calls take;
        see :doc:`/asyncio`.
    :param warn_in_loop: whether a coroutine that makes a plain, blocking call is warned of, once
        for each place.
    :raises InvalidDSN: the DSN is malformed, its scheme unknown, or its driver missing.
    :raises InvalidTask: the backend cannot have a queue of that name; ``allowed`` or
        ``secret_keys`` is not such a list; an option cannot have this value; a middleware has
        neither method; ``activity``, ``show_arguments``, ``async_threads`` or ``warn_in_loop`` is
        of another type.
    :raises TypeError: there is no such option.
    """

    #: Writes and reads tasks.
    codec: Codec
    #: Records outcomes in the store.
    recorder: Recorder
    #: Has outcomes recorded, and tells the backend of them.
    settler: Settler
    #: Tells how tasks stand, and waits for them.
    results: Results
    #: The schedules that ``every`` and ``cron`` declare.
    schedules: Schedules

    def __init__(
        self,
        conn_string: str,
        queue_name: str = ALL,
        task_class: type[Task] = Task,
        backend_class: Callable[[str], Any] | None = None,
        *,
        store: str | Store | None = None,
        allowed: Sequence[str] | None = None,
        secret_keys: Sequence[str | bytes] | None = None,
        clock: Clock | None = None,
        options: GatorOptions | None = None,
        middleware: Sequence[AnyMiddleware] | None = None,
        activity: bool = True,
        show_arguments: Callable[[Task], str] | bool = True,
        async_threads: int = 32,
        warn_in_loop: bool = True,
    ) -> None:
        self.conn_string = conn_string
        self.backend_class = backend_class
        self._policy = Policy(allowed)
        self._signer = None if secret_keys is None else Signer(secret_keys)
        self._given_clock = clock
        self._clock: Clock = clock or SystemClock()
        self.backend: Any = self.build_backend(conn_string)
        #: The backend with the full contract, whatever it has of its own.
        self.client: Client = (
            self.backend if isinstance(self.backend, Client) else LegacyClient(self.backend)
        )
        self.client.check_queue_name(queue_name)
        self._default_options = check_defaults(options)
        found = read_middleware(middleware)
        self._push_middleware, self._run_middleware, self._listeners, self._batch_middleware = found
        #: What ``middleware`` was given, in that order.
        self.middleware: tuple[AnyMiddleware, ...] = tuple(middleware or ())
        if "queue_name" in self._default_options:
            self.client.check_queue_name(self._default_options["queue_name"])
        if "on_commit" in self._default_options:
            self.check_on_commit(self._default_options["on_commit"])
        given = self.client.store if store is None else self._store_at(store)
        self._store = bridge(self.client, given)
        flags = {"activity": activity, "warn_in_loop": warn_in_loop}
        for name, value in {**flags, "show_arguments": show_arguments}.items():
            if not (isinstance(value, bool) or (name == "show_arguments" and callable(value))):
                also = ", nor a function of a task" if name == "show_arguments" else ""
                raise InvalidTask(f"{name}={value!r:.60} is neither True nor False{also}.")
        self._activity, self._show_arguments = activity, show_arguments
        if isinstance(async_threads, bool) or not isinstance(async_threads, int):
            raise InvalidTask(f"async_threads={async_threads!r:.60} is no whole number.")
        if not 1 <= async_threads <= 1000:
            raise InvalidTask(f"async_threads={async_threads!r:.60} is not within 1 to 1000.")
        self._async_threads, self._warn_in_loop = async_threads, warn_in_loop
        self._shared_calls: dict[str, AwaitableCalls] = {}  # also with what on_queue() makes
        self.schedules = Schedules(
            self.client, self._store, self._clock, self._push_tick, self._check_tick
        )
        self._pauses = Pauses(self.client, self._store, self._clock)
        self._queue_name, self._task_class = queue_name, task_class
        self._used: dict[str, None] = {}
        self._build()

    def _build(self) -> None:
        """Build the parts that depend on the queue, the task class, the policy or the signer."""
        client, store, clock = self.client, self._store, self._clock
        queue_name, policy, keeps_task_ids = (
            self._queue_name,
            self._policy,
            OWN_ID in client.supports,
        )
        self.codec = codec = Codec(
            self._task_class,
            policy,
            self._signer,
            keeps_task_ids,
            self._load_parents,
            self._results_of,
        )
        self.recorder = recorder = Recorder(client, store, clock, self._signer)
        self.settler = settler = Settler(client, store, clock, recorder)
        self.results = results = Results(recorder, queue_name)
        self._monitor = Monitor(results, clock)
        self._views = QueueViews(
            results, self._pauses, self.schedules, self._used, self._show_arguments
        )
        self._producer = producer = Producer(
            client, store, codec, policy, clock, recorder, queue_name, self._used, handle=self
        )
        self._inline = InlineRunner(
            client,
            codec,
            clock,
            settler,
            results,
            queue_name,
            partial(producer.push, again=True),
            self._run_middleware,
            self.new_recording(),
            self._pauses,
        )

    def __repr__(self) -> str:
        return f"<Gator {mask_password(self.conn_string)} {self.queue_name!r}>"

    # -- Configuration. -----------------------------------------------------------------------

    @property
    def queue_name(self) -> str:
        """The queue that tasks go to, unless an option names another; may be assigned."""
        return self._queue_name

    @queue_name.setter
    def queue_name(self, value: str) -> None:
        self._queue_name = value
        self._build()

    @property
    def task_class(self) -> type[Task]:
        """The class of the tasks that are made here; may be assigned."""
        return self._task_class

    @task_class.setter
    def task_class(self, value: type[Task]) -> None:
        self._task_class = value
        self._build()

    @property
    def policy(self) -> Policy:
        """Which functions may run; set by ``allowed``."""
        return self._policy

    @property
    def signer(self) -> Signer | None:
        """What signs tasks; set by ``secret_keys``. None: they are not signed."""
        return self._signer

    @property
    def default_options(self) -> Mapping[str, Any]:
        """The options of all tasks, checked; set by ``options``."""
        return self._default_options

    @property
    def run_middleware(self) -> RunMiddleware | None:
        """What calls the middleware around runs; set by ``middleware``. None: there is none."""
        return self._run_middleware

    @property
    def store(self) -> Store | None:
        """Where outcomes are kept; None: nowhere."""
        return self._store

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        return self._clock

    def new_recording(self) -> Recording | None:
        """Return what records the tasks of one worker; None: nothing is recorded.

        Where the store keeps nothing of it, a middleware may still be told of it.
        """
        store = self._store
        if not self._activity or (store is not None and not store.monitors):
            store = None
        if store is None and not self._listeners:
            return None
        return Recording(self.recorder, store, self._show_arguments, self._listeners)

    def build_backend(self, conn_string: str) -> Any:
        """Return a new client for a DSN.

        ::

            backend = gator.build_backend('locmem://')
        """
        factory: Any = self.backend_class or client_class(conn_string)
        ours = isinstance(factory, type) and issubclass(factory, Client)
        if ours and self._given_clock is not None:
            return factory(conn_string, clock=self._given_clock)
        return factory(conn_string)

    def _store_at(self, place: str | Store) -> Store:
        if isinstance(place, Store):
            return place
        client = client_class(place)(place, clock=self._given_clock)
        store: Store | None = getattr(client, "store", None)
        if store is None:
            raise InvalidDSN(f"{mask_password(place)} is no store; locmem, sqlite and redis are.")
        return store

    def _load_parents(self, task_id: str, kept: KeptParents) -> list[str]:
        return load(self._store, task_id, kept)

    def _results_of(self, awaited: Sequence[ResultOf]) -> list[Any]:
        return self.recorder.results_of(awaited)

    # -- Putting tasks on the queue. ----------------------------------------------------------

    @overload  # of coroutine functions, the result is what they return
    def task(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...

    @overload
    def task(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...

    @overload
    def task(self, func: str, /, *args: Any, **kwargs: Any) -> Task: ...

    def task(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task:
        """Push a task with the options of this Gator, and return it.

        ::

            on_queue = gator.task(increment, incr_by=2)

        :param func: an importable function; or its name, ``'myapp.tasks.resize'``, if its code
            is not installed here.
        :raises InvalidTask: the function cannot be imported, the arguments do not fit or do not
            survive JSON, or the task is larger than the backend takes. Nothing was queued.
        :raises NotAllowed: the function may not run here; see ``allowed``.
        :raises ConnectionLost, QueueFull, QueueNotFound: the backend did not take it.
        """
        return self.push(
            self._task_class.with_checked(self._default_options), func, *args, **kwargs
        )

    def options(self, **options: Unpack[ScheduleOptions]) -> Options:
        """Return a reusable context whose ``task`` method uses these options.

        ::

            with gator.options(retries=2, on_success=party_time) as opts:
                opts.task(increment, incr_by=2678)
        """
        return Options(self, **options)

    def batch(
        self,
        *,
        on_success: Callback | None = None,
        on_done: Callback | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Return a context like that of :meth:`options`, which pushes all tasks in bulk at its end.

        ::

            with gator.batch(on_success=(publish, album.pk)) as batch:
                for photo in photos:
                    batch.task(create_thumbnail, photo.path)

        :param on_success: a function, or ``(function, *arguments)``, to be run as one more task
            once all tasks of the batch have succeeded.
        :param on_done: the same, once all have ended, whether they succeeded or not.
        """
        return Batch(self, on_success=on_success, on_done=on_done, **options)

    @overload
    def push(
        self, task: Task, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...

    @overload
    def push(
        self, task: Task, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...

    @overload
    def push(self, task: Task, func: str, /, *args: Any, **kwargs: Any) -> Task: ...

    def push(
        self, task: Task, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Task:
        """Push a task that you made and return it; run it at once if it is not async.

        ::

            finished = gator.push(Task(is_async=False, retries=3), increment, incr_by=2)
        """
        # Here rather than in warn_in_loop: this is asked at each push.
        events = loaded("asyncio.events")
        if events is not None and events._get_running_loop() is not None and task.is_async:
            self._note_blocking("gator.task", "await gator.atask(…)")
        self.prepare(task, func, args, kwargs)
        if self._push_middleware is not None or task.on_commit:
            return self._push_prepared(task)
        return self._producer.push(task) if task.is_async else self._run_here(task)

    def _push_prepared(self, task: Task) -> Task:
        """Push a prepared task through the middleware, if there is any."""
        if task.on_commit:
            self.check_on_commit(task.on_commit)
        if self._push_middleware is None:
            return self._producer.push(task) if task.is_async else self._run_here(task)
        push = partial(self._push_middleware.push, task, partial(self._push_changed, task))
        pushed: Task = self._naming_queues([task], push)
        return pushed

    def _naming_queues(
        self, tasks: Sequence[Task], call: Callable[[], Any], queue_name: str | None = None
    ) -> Any:
        """Call middleware around a push, which finds the queue in ``task.queue_name``."""
        known = [task.queue_name for task in tasks]
        shown = [queue_name or given or self._queue_name for given in known]
        for task, name in zip(tasks, shown, strict=True):
            task.queue_name = name
        try:
            return call()
        finally:
            for task, given, name in zip(tasks, known, shown, strict=True):
                if task.queue_name == name:  # else a middleware has chosen another one
                    task.queue_name = given

    def _push_changed(self, task: Task) -> Task:
        """Push a task that a middleware may have changed."""
        self._producer.prepare_again(task)
        return self._producer.push(task) if task.is_async else self._run_here(task)

    def prepare(
        self, task: Task, func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Any
    ) -> None:
        """Check a call and make the task ready for it, without pushing it."""
        self._producer.prepare(task, func, args, kwargs)

    def push_batch(self, tasks: Sequence[Task]) -> None:
        """Push prepared tasks in bulk, queue by queue; then run the tasks that are not async.

        Each passes the middleware before the first is pushed.
        """
        self._note_blocking("The end of gator.batch", "async with gator.abatch() as batch")
        for task in tasks:
            if task.on_commit:
                self.check_on_commit(task.on_commit)
        if self._push_middleware is not None:
            for task in tasks:
                ready = partial(self._producer.prepare_again, task)
                self._naming_queues([task], partial(self._push_middleware.push, task, ready))
        queued = [task for task in tasks if task.is_async]
        push = partial(self._producer.push_batch, queued)
        if self._batch_middleware is not None and queued:
            self._naming_queues(queued, partial(self._batch_middleware.push, queued, push))
        else:
            push()
        here = [task for task in tasks if not task.is_async]
        try:
            for task in here:
                if not task.unconditional:
                    self._run_here(task)
        finally:  # an error of one of them ends them all
            for task in here:
                if task.unconditional:
                    self._run_here(task)

    def new_task(self, options: Mapping[str, Any]) -> Task:
        """Return a new task of this Gator's class, with checked options; called by its contexts."""
        return self._task_class.with_checked(options)

    def check_queue_name(self, queue_name: str) -> None:
        """Refuse a queue name that the backend cannot have; called by its contexts."""
        self.client.check_queue_name(queue_name)

    def check_on_commit(self, on_commit: bool | str) -> None:
        """Refuse to push after a commit, as this Gator knows no transactions.

        :raises UnsupportedOption: ``on_commit`` is not False.
        """
        if on_commit:
            raise UnsupportedOption(
                f"on_commit={on_commit!r} needs a Gator that knows transactions: with Django, "
                "'from alligator.contrib.django import gators' and gators['default']. Without, "
                "leave it out, and push after the commit."
            )

    def _run_here(self, task: Task) -> Task:
        if self._producer.dependencies.may_run(task):
            return self.execute(task)
        task.to_canceled()
        return task

    def on_queue(self, queue_name: str) -> "Gator":
        """Return this Gator for another queue: on the same connections, with the same settings.

        ::

            gator.on_queue('mail').revive(letter.task_id)

        :raises InvalidTask: the backend cannot have a queue of that name.
        """
        if queue_name == self._queue_name:
            return self
        self.client.check_queue_name(queue_name)
        other = copy(self)
        other.queue_name = queue_name
        return other

    # -- Running tasks without a worker. ------------------------------------------------------

    def len(self) -> int:
        """Return how many tasks wait on the queue, delayed ones included."""
        self._note_no_twin("len")
        return self.client.len(self.queue_name)

    def pop(self) -> Task | None:
        """Run the task at the front of the queue and return it; None: the queue is empty.

        :raises Exception: what the task raised, once it has no retry left; it is then a dead
            letter.
        :raises QueueFull: the task has run, but for 2 seconds the backend had no room for its
            retry, its dead letter or its record. The task was released, and runs again.
        """
        return self._inline.run_one()

    def get(self, task_id: str) -> Task | None:
        """Run one task now, delayed or not, and return it; None: no such task is waiting.

        :raises QueueFull: see :meth:`pop`.
        :raises NotImplementedError: on SQS, which cannot look a task up.
        """
        return self._inline.run_one(task_id)

    def cancel(self, task_id: str | Task, *, running: bool = False) -> Task | None:
        """Take a task off the queue before it runs and return it; None: no such task waits.

        ::

            task = gator.task(add, 18, 9)
            gator.cancel(task.task_id)

        With ``running=True``, a task that runs is canceled as well. The request goes to the store,
        and its worker finds it within a second. A coroutine is canceled. Inside a function,
        ``current_task().is_canceled`` is true, and :exc:`~alligator.exceptions.TaskCanceled` is
        raised as soon as it is at a step of Python. The task is then canceled, with its children,
        however it ends, and is not retried. No hook of it is called.

        :param task_id: on this Gator's queue; or the task itself, which knows its queue.
        :param running: whether to cancel it if it runs.
        :returns: with ``status`` ``CANCELED``, or ``RUNNING``: it is asked to end.
        :raises UnsupportedOption: ``running``, and there is no store to pass that on.
        """
        self._note_blocking("gator.cancel", "await gator.acancel(…)")
        return self._inline.cancel(task_id, running=running)

    def run_now(self, task: Task | str) -> bool:
        """Let the delay of a task end now: one that was pushed with a delay, or is to be retried.

        ::

            gator.run_now(task.task_id)

        A worker takes it as it takes any task whose delay has ended.

        :param task: the task, or its id on this Gator's queue.
        :returns: False: it is not delayed.
        :raises UnsupportedOption: the backend cannot change a delay.
        """
        self._note_no_twin("run_now, …")
        return self.client.run_now(*self.results.where(task))

    def execute(self, task: Task[R]) -> Task[R]:
        """Run a task object, with its retries, and return it.

        After a failure with a retry left, an async task goes back on the queue; any other runs
        again at once. Each retry gets the arguments as they were given, if JSON can carry them.

        If the function forks and the child does not end itself, this call returns in the child,
        too. No hook or retry runs there, and nothing is recorded. A child that a coroutine forks
        ends there.

        :raises Exception: what the task raised, once it has no retry left.
        """
        return self._inline.execute(task)

    def run_all(self) -> int:
        """Run what is due on the queue, in this process, until nothing is left.

        For tests and scripts. A task that fails is retried and in the end buried, as a
        worker would do; its exception is not raised.

        :returns: how many tasks were run, each try counted.
        :raises QueueFull: the backend has no room for an outcome; see :meth:`pop`.
        """
        return self._inline.run_all()

    def run_until(self, when: Moment, to_consume: str | Sequence[str] | None = None) -> int:
        """Advance a FakeClock to a moment, and run what is due on the way, as a worker would.

        :param when: ``'+1d'``, ``'+1h30m'``, a timedelta, seconds; or a datetime, a timestamp.
        :param to_consume: a queue name, or several in strict order; None: the Gator's queue.
        :returns: how many tasks were run, each try counted.
        :raises UnsupportedOption: the Gator's clock, or its backend's, cannot be moved.
        :raises InvalidTask: ``when`` is no moment, or lies in the past.
        """
        from alligator.testing.run_until import play  # which imports the worker

        return play(self, when, to_consume)

    # -- Schedules. ---------------------------------------------------------------------------

    @overload
    def every(
        self, seconds: Seconds, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Schedule: ...

    @overload
    def every(self, seconds: Seconds, func: str, /, *args: Any, **kwargs: Any) -> Schedule: ...

    def every(
        self, seconds: Seconds, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Schedule:
        """Schedule a task: the workers of this Gator queue it every so many seconds.

        ::

            gator.every(25, check_mail)

        It is due at the multiples of ``seconds`` since 1970, UTC. Workers must get the Gator from
        this code: ``latergator.py --app myapp.queues:gator``.

        :param seconds: a number, or a timedelta.
        :raises InvalidTask, NotAllowed: it is no interval, or see :meth:`alligator.Gator.task`.
        :raises UnsupportedOption: there is no store, which schedules need.
        """
        return self.options().every(seconds, func, *args, **kwargs)

    @overload
    def cron(
        self, expression: str, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Schedule: ...

    @overload
    def cron(self, expression: str, func: str, /, *args: Any, **kwargs: Any) -> Schedule: ...

    def cron(
        self, expression: str, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Schedule:
        """Schedule a task: the workers of this Gator queue it when the clock shows this; UTC.

        ::

            gator.cron('0 5 * * tue', send_report)

        For another time zone: ``gator.options(tz='Europe/Berlin').cron(…)``.

        :param expression: minute, hour, day of month, month, day of week.
        :raises InvalidTask, NotAllowed: the expression cannot be read, or never matches; or see
            :meth:`alligator.Gator.task`.
        :raises UnsupportedOption: there is no store, which schedules need.
        :raises MissingDriver: cronsim is not installed.
        """
        return self.options().cron(expression, func, *args, **kwargs)

    def add_schedule(
        self,
        rule: Rule,
        func: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_options: Mapping[str, Any],
        schedule_options: Mapping[str, Any],
    ) -> Schedule:
        """Declare a schedule of this Gator; called by its contexts."""
        if any(type(each) is ResultOf for each in (*args, *kwargs.values())):
            raise InvalidTask(
                "A schedule makes many tasks, and result_of() is about one: let the scheduled "
                "function push what takes that result."
            )
        return self.schedules.add(
            rule, func, args, kwargs, task_options, queue_name=self._queue_name, **schedule_options
        )

    def _push_tick(self, schedule: Schedule, task_id: str, put: Callable[[Message], bool]) -> bool:
        producer, task = self._producer, self._tick_task(schedule, task_id)
        if self._push_middleware is None:
            return put(producer.message(task, schedule.queue_name))

        def push() -> Task | None:
            producer.prepare_again(task)
            if not put(producer.message(task, schedule.queue_name)):
                return None
            task.to_pushed(self)
            return task

        call = partial(self._push_middleware.push, task, push)
        return self._naming_queues([task], call, schedule.queue_name) is not None

    def _check_tick(self, schedule: Schedule, task_id: str) -> None:
        self._producer.check_supported(self._tick_task(schedule, task_id))

    def _tick_task(self, schedule: Schedule, task_id: str) -> Task:
        task = self.new_task({**schedule.task_options, "task_id": task_id})
        self.prepare(task, schedule.func, schedule.args, schedule.kwargs)
        return task

    # -- Outcomes of tasks. -------------------------------------------------------------------

    def status(self, task: Task | str) -> int | None:
        """Return the status of a task: ``WAITING``, ``DELAYED``, ``RUNNING``, ``RETRYING``,
        ``SUCCESS``, ``FAILED`` or ``CANCELED``.

        :param task: the task, or its id on this Gator's queue.
        :returns: None: the task is unknown, or it succeeded and nothing was saved (any more), or
            it was dropped or lost. A task object adds what it knows: see
            :meth:`alligator.Task.wait`.
        """
        self._note_blocking("gator.status", "await gator.astatus(…)")
        return self.results.status(task)

    def wait(
        self,
        tasks: Sequence[Task | str] | Task,
        timeout: Seconds | None = None,
        *,
        started: bool = False,
    ) -> bool:
        """Block until all of these tasks have ended, with success or failure.

        An unknown id counts as not ended. So a task without ``save_results`` can only be waited
        for by the object that :meth:`task` returned; see :meth:`alligator.Task.wait`.

        :param timeout: seconds, or a timedelta; None: as long as it takes.
        :param started: wait only until all have started.
        :returns: False: they did not end in that time, or one was canceled, dropped or lost.
        """
        self._note_blocking("gator.wait", "await gator.await_(…)")
        return self.results.wait(tasks, timeout, started=started)

    @overload
    def result(self, task: Task[R], timeout: Seconds | None = 0.0) -> R: ...

    @overload
    def result(self, task: str, timeout: Seconds | None = 0.0) -> Any: ...

    def result(self, task: Task | str, timeout: Seconds | None = 0.0) -> Any:
        """Return the result of a task that was pushed with ``save_results``.

        A wait for a task object that was dropped ends as that is noticed, where it can be: on sqs
        never, and on beanstalk once its queue is empty.

        :param timeout: seconds to wait for it, or a timedelta; None: as long as it takes.
        :raises TaskFailed: the task failed; with its ``error`` and ``traceback``.
        :raises TaskCanceled: the task was canceled.
        :raises ResultTimeout: the task has not ended in that time, or is unknown.
        """
        self._note_blocking("gator.result", "await gator.aresult(…)")
        return self.results.result(task, timeout)

    def progress(self, task: Task | str) -> tuple[float, str] | None:
        """Return how far a task is that runs, as it said with :meth:`alligator.Task.progress`.

        ::

            fraction, text = gator.progress(task.id) or (0.0, '')

        :param task: the task, or its id on this Gator's queue.
        :returns: a fraction from 0 to 1, and a text; None: it does not run, or has not said.
        :raises UnsupportedOption: there is no store to read it from.
        """
        self._note_blocking("gator.progress", "await gator.aprogress(…)")
        return progress.of_task(self.results, task)

    def explain(self, task: Task | str | Schedule) -> str:
        """Return in one sentence why a task has not run, or how it ended.

        ::

            print(gator.explain(task))
            # waiting behind 1,204 tasks on 'images', no live worker there since 14:02

        For people to read: the words may change. Control characters are written out.

        :param task: the task, or its id on this Gator's queue; or a schedule: when it is due
            next, and who would run it.
        :raises UnsupportedOption: the backend cannot look up a task, and there is no store.
        """
        self._note_no_twin("explain, …")
        if isinstance(task, Schedule):
            return explain.of_schedule(self.results, task.queue_name, task.rule.next_after)
        return explain.sentence(explain.gather(self.results, task))

    def refresh(self, task: Task) -> None:
        """Set the ``status``, ``result`` and ``error`` of a task to what is known now."""
        self.results.refresh(task)

    def place_of(self, task: Task) -> tuple[str, str]:
        """Return the DSN and the queue that a task was pushed to."""
        return self.client.conn_string, task.queue_name or self._queue_name

    # -- Looking after the queue. -------------------------------------------------------------

    def dead(self, limit: int = 100) -> list[DeadTask]:
        """Return the dead letters of this queue, newest first."""
        self._note_no_twin("dead")
        return self.client.dead(self.queue_name, limit)

    def revive(self, task_id: Task | str | None = None, *, retries: int | None = None) -> int:
        """Put a dead task back on the queue, or all of them; return how many.

        It gets all its ``retries`` back.

        ::

            gator.revive(letter.task_id, retries=5)

        :param task_id: of the dead letter; or the task itself. None: all of this queue.
        :param retries: a number of retries other than the one it was pushed with.
        :raises InvalidTask: ``retries`` is no such number.
        :raises UnsupportedOption: the client is one of your own that cannot change them.
        """
        self._note_blocking("gator.revive", "await gator.arevive(…)")
        queue_name, client, codec, given = self.queue_name, self.client, self.codec, task_id
        if task_id is not None:
            queue_name, task_id = self.results.where(task_id)
        if retries is not None:
            retries = CHECKS["retries"](retries)
        chosen = list[DeadTask]()
        if self.store is not None:  # their failure is no longer their status
            letters = self._letters(queue_name, task_id)
            if given is not None and (letter := self.results.letter_among(letters, given)):
                task_id = letter.task_id
            chosen = [each for each in letters if task_id in (None, each.task_id)]
            keys = [key for each in chosen for key in self.recorder.keys_of_dead(each)]
            self.store.forget(keys)
            if keys:  # a request to cancel that run came too late
                self.store.delete_documents([cancel_requests.document_key(key) for key in keys])
            for each in chosen:
                self.recorder.note_revived(each)
        if "renew" in signature(client.revive).parameters:
            revived = client.revive(
                queue_name,
                task_id,
                lambda each, data: codec.renewed(queue_name, each, data, retries),
            )
        elif retries is not None:  # a client made for Alligator 1.1
            raise UnsupportedOption(
                f"{type(client).__module__}.{type(client).__qualname__} does not take 'renew' in "
                "its revive(), so retries= cannot be changed; leave it out."
            )
        else:
            revived = client.revive(queue_name, task_id)
        if revived < len(chosen):  # the others are dead yet: another task has their id or key
            dead = {each.task_id for each in self._letters(queue_name, task_id)} if revived else ()
            chosen = [each for each in chosen if revived and each.task_id not in dead]
        self._monitor.note_revived(chosen)
        if revived and isinstance(given, Task):
            given.status, given.error = WAITING, None
        return revived

    def _letters(self, queue_name: str, task_id: str | None) -> list[DeadTask]:
        """Return the dead letters of a queue; only that of an id, where one is named."""
        client = self.client
        if task_id is not None and {GET, OWN_ID} <= client.supports:
            place = client.find(queue_name, task_id)
            if place is None or place.state == FAILED:
                data = client.peek(queue_name, task_id)
                alone = [] if data is None else [data]
                return [DeadTask(task_id, queue_name, each, "", "", 0.0, 0) for each in alone]
        return client.dead(queue_name, _ALL_DEAD)

    def purge(
        self,
        tasks: Task | str | Sequence[Task | str] | None = None,
        *,
        older_than: Seconds = 0.0,
    ) -> int:
        """Delete dead letters of this queue, and return how many.

        ::

            gator.purge(letter.task_id)
            gator.purge(older_than=timedelta(days=30))

        :param tasks: of the dead letters: a task, an id, or several. None: all.
        :param older_than: with ``tasks=None``, only letters that died more than so many seconds
            ago; a number or a timedelta.
        :raises UnsupportedOption: the backend cannot delete single ones.
        """
        self._note_no_twin("purge, …")
        if tasks is None:
            return self.client.purge_dead(self.queue_name, in_seconds(older_than))
        some = [tasks] if isinstance(tasks, Task | str) else tasks
        places = group_by(map(self.results.where, some), itemgetter(0))
        return sum(
            self.client.delete_dead(queue_name, [task_id for _, task_id in found])
            for queue_name, found in places.items()
        )

    def stats(self) -> dict[str, Any]:
        """Return ``waiting``, ``delayed``, ``running``, ``dead`` (counts) and ``oldest`` (the
        seconds that the first task has waited, or None).
        """
        self._note_no_twin("stats")
        found = asdict(self.client.stats(self.queue_name))
        del found["held"]  # never was among these
        return found

    # -- What workers do. -----------------------------------------------------------------------

    def workers(self) -> list[WorkerRow]:
        """Return the workers that live, and then the ones lost in the last hour.

        ::

            for worker in gator.workers():
                print(worker.host, worker.pid, worker.done, len(worker.running))

        A worker tells what it does at most once a second. After an orderly end it is gone at
        once. After a kill it is lost, ``is_lost``, when it was not seen for 90 seconds.

        :raises UnsupportedOption: there is no store that keeps this.
        """
        self._note_no_twin("workers")
        return self._monitor.workers()

    def running(self) -> list[RunningRow]:
        """Return the tasks that run now, by queue, the one that runs longest first.

        These are the tasks on lease, at most 1,000 of each queue, where the backend can list them;
        else what the workers tell. A task that was fetched and has not started yet, or started
        within the last second, has no ``started`` and no ``worker``.

        :raises UnsupportedOption: there is no store that keeps this.
        """
        self._note_no_twin("running")
        return self._monitor.running()

    def activity(self, minutes: int = 60) -> list[ActivityRow]:
        """Return what happened in the last minutes, by minute, queue and function.

        ::

            failed = sum(row.failed for row in gator.activity(minutes=5))

        :param minutes: up to 2880, two days; the one that goes on counts.
        :raises InvalidTask: it is no such number.
        :raises UnsupportedOption: there is no store that keeps this.
        """
        self._note_no_twin("activity, …")
        return self._monitor.activity(minutes)

    def depths(self, minutes: int = 60) -> list[DepthRow]:
        """Return how full the queues were in the last minutes, by minute and queue.

        ::

            for row in gator.depths():
                print(row.minute, row.queue_name, row.waiting, row.oldest)

        Each worker looks once a minute at its queues, and at queues on which tasks wait without a
        live worker. A minute without a look has no row.

        :param minutes: up to 2880, two days; the one that goes on counts.
        :raises InvalidTask: it is no such number.
        :raises UnsupportedOption: there is no store that keeps this.
        """
        self._note_no_twin("depths, …")
        return self._monitor.depths(minutes)

    def activity_and_depths(
        self, minutes: int = 60, ago: int = 0, step: int = 1
    ) -> tuple[list[ActivityRow], list[DepthRow]]:
        """Return what :meth:`activity` and :meth:`depths` do, read from the store at once.

        ::

            activity, depths = gator.activity_and_depths(minutes=60, ago=120)

        :param minutes: as for either.
        :param ago: how many minutes before now the last of them is, from 0 to 2880.
        :param step: with 5, one row of activity is what happened in five minutes; from 1 to 2880.
            Its ``minute`` is a whole multiple of them. Depths stay as they were recorded.
        :raises InvalidTask: one of them is no such number.
        :raises UnsupportedOption: there is no store that keeps this.
        """
        self._note_no_twin("activity_and_depths, …")
        return self._monitor.activity_and_depths(minutes, ago, step)

    def record_depths(self, queues: Iterable[QueueRow] | None = None) -> None:
        """Record for :meth:`depths` how full the queues are now, as workers do each minute.

        This is for queues that no worker sees. With ``activity=False`` it does nothing.

        :param queues: what :meth:`queues` has just returned; None: it is called for this.
        :raises UnsupportedOption: there is no store that keeps this.
        """
        if self._activity:
            self._monitor.record_depths(self.queues() if queues is None else queues)

    def recent(
        self,
        limit: int = 100,
        function: Callable[..., Any] | str | None = None,
        state: int | str | None = None,
        parent: str | None = None,
    ) -> list[RecentRow]:
        """Return the runs of tasks that ended last, the newest first.

        ::

            for row in gator.recent(10, state='failed'):
                print(row.function, row.args, row.error)

        Failures and retries are all listed, successes up to 50 a second for each worker. Of many
        short ones some are, and each task that keeps a history and waited for others.

        :param limit: 1 to 10,000; so many are kept, for 48 hours.
        :param function: only runs of this function, or of this name: ``'myapp.tasks.resize'``.
        :param state: only ``SUCCESS``, ``RETRYING``, ``FAILED`` or ``CANCELED``; or the name:
            ``'failed'``.
        :param parent: only runs of tasks that waited for the task of this id: its children.
        :raises InvalidTask: one of them cannot have this value.
        :raises UnsupportedOption: there is no store that keeps this.
        """
        self._note_no_twin("recent, …")
        return self._monitor.recent(limit, function, state, parent)

    def history(self, task: Task | str) -> History | None:
        """Return each attempt at a task that was pushed with ``history`` or ``save_results``.

        It is there soon after the first attempt has started: within a second.

        :param task: the task, or its id on this Gator's queue.
        :returns: None: it has not started, was pushed without these options, or its history has
            expired.
        :raises InvalidTask: it is no task and no id.
        :raises UnsupportedOption: there is no store that keeps this.
        """
        self._note_no_twin("history, …")
        return self._monitor.history(task)

    # -- Looking at queues, and pausing them. ---------------------------------------------------

    def queues(self) -> list[QueueRow]:
        """Return every queue that has tasks, workers or a schedule, or is paused; by name.

        ::

            for queue in gator.queues():
                print(queue.name, queue.waiting, queue.running, queue.workers)

        Schedules are those of this Gator. SQS names no queues: there, the ones are shown that this
        process has used, and those of schedules and of workers with the same store.
        """
        self._note_blocking("gator.queues", "await gator.aqueues()")
        return self._views.queues()

    def schedule_rows(self, ahead: int = 3) -> list[ScheduleRow]:
        """Return the schedules of this Gator, the one that ticks next first.

        ::

            for schedule in gator.schedule_rows():
                print(schedule.name, schedule.queued, schedule.following)

        What was queued, skipped or missed is known by all processes; the schedules themselves
        only by the processes that declare them.

        :param ahead: the number of next ticks of each, from 1 to 1000.
        :raises InvalidTask: it is no such number.
        :raises ConnectionLost: the store cannot be reached.
        """
        if isinstance(ahead, bool) or not isinstance(ahead, int) or not 1 <= ahead <= 1000:
            raise InvalidTask(f"ahead={ahead!r:.60} is no whole number from 1 to 1000.")
        self._note_no_twin("schedule_rows")
        return schedule_rows(
            self.schedules, self._tick_task, self._show_arguments, self.clock.time(), ahead
        )

    def tasks(
        self,
        state: str | int,
        limit: int = 100,
        after: str | None = None,
        *,
        queue_name: str | None = None,
    ) -> Page[TaskRow]:
        """Return tasks of a queue in one state, in the order in which they would run; touch none.

        ::

            page = gator.tasks('waiting')
            if page.next is not None:
                page = gator.tasks('waiting', after=page.next)

        Running tasks come in the order of their starts, dead ones with the newest first. No code
        is imported, and a message that cannot be read is a row without a function.

        :param state: ``'waiting'``, ``'delayed'``, ``'running'``, ``'held'`` (until its parents
            have ended) or ``'dead'``; or the constant.
        :param limit: up to 10,000; fewer are returned where they are very large.
        :param after: the ``next`` of the page before; None: from the beginning.
        :param queue_name: None: this Gator's queue.
        :raises InvalidTask: there is no such state, or limit, or cursor.
        :raises UnsupportedOption: the backend cannot list tasks in that state.
        """
        self._note_no_twin("tasks, …")
        return self._views.tasks(state, limit, after, queue_name or self._queue_name)

    def task_info(self, task: Task | str) -> TaskInfo:
        """Return all that is known of a task: its status, its place, its arguments, its options.

        ::

            print(gator.task_info(task.task_id).explanation)

        :param task: the task, or its id on this Gator's queue. Of an unknown one, the ``status``
            is None, and the ``explanation`` says what that may mean.
        :raises UnsupportedOption: the backend cannot look up a task, and there is no store.
        """
        self._note_no_twin("task_info, …")
        monitors = self._store is not None and self._store.monitors
        return self._views.info(task, self._monitor.history if monitors else None)

    def pause(self, queue_name: str | None = None, seconds: Seconds | None = None) -> None:
        """Let no worker start tasks of a queue, until :meth:`resume`.

        ::

            gator.pause('mail', seconds=600)

        Every worker obeys within a second. What runs is finished. Pushes, delays and schedules go
        on, and their tasks wait. :meth:`pop` and :meth:`run_all` run nothing either; :meth:`get`
        runs the task that it names. A second pause replaces the first. It outlasts a restart of
        the workers, and of a server that keeps its tasks.

        :param queue_name: None: this Gator's queue.
        :param seconds: after how many the pause ends by itself, or a timedelta; None: it does not.
        :raises InvalidTask: there can be no such queue, or no such time.
        :raises UnsupportedOption: beanstalk and sqs need a store, ``Gator(…, store='redis://…')``.
        """
        self._note_no_twin("pause, …")
        self._pauses.pause(queue_name or self._queue_name, seconds)

    def resume(self, queue_name: str | None = None) -> bool:
        """End the pause of a queue, and wake its workers.

        :param queue_name: None: this Gator's queue.
        :returns: False: it was not paused.
        :raises InvalidTask, UnsupportedOption: see :meth:`pause`.
        """
        self._note_no_twin("resume, …")
        return self._pauses.resume(queue_name or self._queue_name)

    def paused(self, queue_name: str | None = None) -> float | None:
        """Return until when a queue is paused, as a Unix timestamp; None: it is not paused.

        :param queue_name: None: this Gator's queue.
        :returns: infinity: until :meth:`resume`.
        """
        self._note_no_twin("paused, …")
        return self._pauses.until(queue_name or self._queue_name)

    @property
    def pauses(self) -> Pauses:
        """What pauses queues; for workers."""
        return self._pauses

    def close(self) -> None:
        """Close connections and files; the next use opens them again."""
        self.client.close()
        if self.store is not None:
            self.store.close()
        if (calls := self._shared_calls.get("calls")) is not None:
            calls.close()

    # -- Awaitable calls. -----------------------------------------------------------------------
    # What a request to a web application asks has a twin here, with the same parameters. All
    # others run in a thread of the application: await asyncio.to_thread(gator.purge).

    def _note_blocking(self, plain: str, twin: str) -> None:
        if self._warn_in_loop:
            warn_in_loop(plain, twin)

    def _note_no_twin(self, call: str) -> None:
        """Warn of a blocking call that has no twin, ``'purge, …'``."""
        self._note_blocking(
            f"gator.{call.partition(',')[0]}", f"await asyncio.to_thread(gator.{call})"
        )

    def _awaitable(self, twin: str, plain: str) -> "AwaitableCalls":
        """Return what makes calls awaitable.

        :raises NoRunningLoop: no event loop of asyncio runs in this thread.
        """
        from alligator.asynchronous.awaitable_calls import check_loop, shared_calls

        check_loop(twin, plain)
        return shared_calls(self._shared_calls, self._async_threads)

    @overload
    def atask(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Task[R]]: ...

    @overload
    def atask(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Task[R]]: ...

    @overload
    def atask(self, func: str, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Task]: ...

    @returns_coroutine
    def atask(
        self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Task]:
        """Push a task as :meth:`task` does, without blocking the event loop.

        ::

            on_queue = await gator.atask(increment, incr_by=2)

        Pushes that are awaited at the same time are sent together, in their order.

        A coroutine that is canceled before its push is sent has pushed nothing. Once it is sent,
        the push goes on: the task is on the queue, unless the log tells of an error.

        :param func: see :meth:`task`, also for what is raised.
        :raises NoRunningLoop: it was called outside of a coroutine.
        """
        return self.apush(
            self._task_class.with_checked(self._default_options), func, *args, **kwargs
        )

    @overload
    def apush(
        self, task: Task, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Task[R]]: ...

    @overload
    def apush(
        self, task: Task, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Task[R]]: ...

    @overload
    def apush(
        self, task: Task, func: str, /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Task]: ...

    @returns_coroutine
    def apush(
        self, task: Task, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Task]:
        """Push a task that you made as :meth:`push` does, without blocking the event loop.

        ::

            task = Task(retries=3)
            await gator.apush(task, increment, incr_by=2)

        After a cancellation, ``task.is_pushed`` tells whether it was pushed; it may become True
        until a send that was under way has ended.
        """
        calls = self._awaitable("atask", "task")
        if task.on_commit:
            self.check_on_commit(task.on_commit)
        push: Callable[..., Task] = self.push  # any of its overloads
        if not task.is_async:
            return _named("atask", calls.run(push, task, func, *args, **kwargs))
        if self._push_middleware is not None or not _pushes_plainly(type(self)):
            about = f"The push of task {shorten(task.task_id)}"
            return _named("atask", calls.change(about, push, task, func, *args, **kwargs))
        return calls.push(self._producer, task, func, args, kwargs)

    def abatch(
        self,
        *,
        on_success: Callback | None = None,
        on_done: Callback | None = None,
        **options: Unpack[BatchOptions],
    ) -> AsyncBatch:
        """Return a context like that of :meth:`batch`, whose push at the end is awaited.

        ::

            async with gator.abatch() as batch:
                for photo in photos:
                    batch.task(create_thumbnail, photo.path)
        """
        return AsyncBatch(self, on_success=on_success, on_done=on_done, **options)

    @returns_coroutine
    def apush_batch(self, tasks: Sequence[Task]) -> Coroutine[Any, Any, None]:
        """Push prepared tasks in bulk as :meth:`push_batch` does; called by its contexts."""
        calls = self._awaitable("apush_batch", "push_batch")
        if all(task.is_async for task in tasks):
            about = f"The push of {len(tasks)} tasks"
            return _named("apush_batch", calls.change(about, self.push_batch, tasks))
        return _named("apush_batch", calls.run(self.push_batch, tasks))

    @returns_coroutine
    def astatus(self, task: Task | str) -> Coroutine[Any, Any, int | None]:
        """Return the status of a task; see :meth:`status`."""
        return _named("astatus", self._awaitable("astatus", "status").call(self.status, task))

    @returns_coroutine
    def await_(
        self,
        tasks: Sequence[Task | str] | Task,
        timeout: Seconds | None = None,
        *,
        started: bool = False,
    ) -> Coroutine[Any, Any, bool]:
        """Wait until all of these tasks have ended; see :meth:`wait`.

        ::

            if await gator.await_([first, second], 5): ...

        Task objects among them then have their ``status`` and ``result``, as after
        :meth:`alligator.Task.wait`.

        :raises ConnectionLost: the server did not answer when the time was over.
        """
        calls = self._awaitable("await_", "wait")
        return calls.wait(self.results, tasks, timeout, started=started)

    @overload
    def aresult(self, task: Task[R], timeout: Seconds | None = 0.0) -> Coroutine[Any, Any, R]: ...

    @overload
    def aresult(self, task: str, timeout: Seconds | None = 0.0) -> Coroutine[Any, Any, Any]: ...

    @returns_coroutine
    def aresult(self, task: Task | str, timeout: Seconds | None = 0.0) -> Coroutine[Any, Any, Any]:
        """Return the result of a task; see :meth:`result`.

        ::

            total = await gator.aresult(task, timeout=5)

        One thread waits for all tasks of a Gator, however many coroutines await them. It goes on
        asking while a server does not answer.

        :raises ConnectionLost: the server did not answer when the time was over.
        """
        return self._awaitable("aresult", "result").result(self.results, task, timeout)

    @returns_coroutine
    def aprogress(self, task: Task | str) -> Coroutine[Any, Any, tuple[float, str] | None]:
        """Return how far a task is that runs; see :meth:`progress`."""
        return _named(
            "aprogress", self._awaitable("aprogress", "progress").call(self.progress, task)
        )

    def aevents(self, task: Task | str) -> "AsyncIterator[TaskEvent]":
        """Iterate over what happens to a task: how it stands now, and each change, to its end.

        ::

            async for event in gator.aevents(task):
                print(event.state, event.fraction, event.text)

        Changes are seen within a quarter of a second; a state that lasts for less may be missed.
        The last event is that of the end. Of an unknown id it is the only one, where the queue can
        be asked. While a server does not answer, the iteration waits.
        """
        return self._awaitable("aevents", "status").events(self.results, task)

    @returns_coroutine
    def acancel(
        self, task_id: str | Task, *, running: bool = False
    ) -> Coroutine[Any, Any, Task | None]:
        """Take a task off the queue before it runs, or end its run; see :meth:`cancel`."""
        calls = self._awaitable("acancel", "cancel")
        return _named(
            "acancel", calls.change("A cancellation", self.cancel, task_id, running=running)
        )

    @returns_coroutine
    def arevive(
        self, task_id: str | Task | None = None, *, retries: int | None = None
    ) -> Coroutine[Any, Any, int]:
        """Put dead letters back on their queue; see :meth:`revive`."""
        calls = self._awaitable("arevive", "revive")
        return _named("arevive", calls.change("A revival", self.revive, task_id, retries=retries))

    @returns_coroutine
    def aqueues(self) -> Coroutine[Any, Any, list[QueueRow]]:
        """Return every queue that has tasks, workers or a schedule; see :meth:`queues`."""
        return _named("aqueues", self._awaitable("aqueues", "queues").call(self.queues))

    @returns_coroutine
    def arun_all(self) -> Coroutine[Any, Any, int]:
        """Run what is due, in a thread, until nothing is left; for tests. See :meth:`run_all`."""
        return _named("arun_all", self._awaitable("arun_all", "run_all").run(self.run_all))

    @returns_coroutine
    def arun_until(
        self, when: Moment, to_consume: str | Sequence[str] | None = None
    ) -> Coroutine[Any, Any, int]:
        """Advance a FakeClock, and run what is due on the way; see :meth:`run_until`."""
        calls = self._awaitable("arun_until", "run_until")
        return _named("arun_until", calls.run(self.run_until, when, to_consume))

    @returns_coroutine
    def aclose(self) -> Coroutine[Any, Any, None]:
        """Close connections and files, and let idle threads end; see :meth:`close`."""
        return _named("aclose", self._awaitable("aclose", "close").run(self.close))


def _named(call: str, coroutine: Coroutine[Any, Any, R]) -> Coroutine[Any, Any, R]:
    """Name a coroutine, for the warning of Python that it was never awaited."""
    coroutine.__qualname__ = f"Gator.{call}"  # type: ignore[attr-defined]
    return coroutine


def _pushes_plainly(kind: type[Gator]) -> bool:
    """Return whether a class of the user's own leaves alone what a push is made of."""
    return kind is Gator or (kind.push is Gator.push and kind.prepare is Gator.prepare)


def reconfigure(
    gator: Gator,
    *,
    allowed: Sequence[str] | None = None,
    secret_keys: Sequence[str] | None = None,
    middleware: Sequence[AnyMiddleware] = (),
) -> None:
    """Let a Gator that an application has built run only ``allowed``, and sign with these keys.

    For the command line, before a worker is made of the Gator. None changes nothing.

    :param middleware: more of it, inside of what the application gave.
    """
    if middleware:
        gator.middleware = (*gator.middleware, *middleware)
        found = read_middleware(gator.middleware)
        gator._push_middleware, gator._run_middleware, gator._listeners = found[:3]
        gator._batch_middleware = found.batch
    if allowed is not None:
        gator._policy = Policy(allowed)
    if secret_keys is not None:
        gator._signer = Signer(secret_keys)
    gator._build()
