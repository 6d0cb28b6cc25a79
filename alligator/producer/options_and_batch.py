"""Push tasks with the same options: ``Options``, and ``Batch`` for many at once."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta, tzinfo
from typing import Any, NoReturn, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from alligator.common import strict_json
from alligator.common.clock import Seconds
from alligator.exceptions import InvalidTask
from alligator.runtime.blocking_calls import returns_coroutine
from alligator.scheduling.rules import Cron, Every, Rule, check_schedule_options
from alligator.scheduling.scheduler import Schedule
from alligator.tasks.functions import explain_json
from alligator.tasks.parent_results import split
from alligator.tasks.task import BatchOptions, Task, TaskOptions
from alligator.tasks.validation import check_options, only_for_schedules

P = ParamSpec("P")
R = TypeVar("R")


class Target(Protocol):
    """The methods of a Gator that its contexts call."""

    @property
    def default_options(self) -> Mapping[str, Any]: ...
    def check_queue_name(self, queue_name: str) -> None: ...
    def check_on_commit(self, on_commit: bool | str) -> None: ...
    def new_task(self, options: Mapping[str, Any]) -> Task: ...
    @overload
    def push(self, task: Task, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task: ...
    @overload
    def push(self, task: Task, func: str, /, *args: Any, **kwargs: Any) -> Task: ...
    def prepare(
        self, task: Task, func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Any
    ) -> None: ...
    def push_batch(self, tasks: Sequence[Task]) -> None: ...
    @overload
    def apush(
        self, task: Task, func: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Task]: ...
    @overload
    def apush(
        self, task: Task, func: str, /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Task]: ...
    def apush_batch(self, tasks: Sequence[Task]) -> Coroutine[Any, Any, None]: ...
    def add_schedule(
        self,
        rule: Rule,
        func: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_options: Mapping[str, Any],
        schedule_options: Mapping[str, Any],
    ) -> Schedule: ...


class ScheduleOptions(TaskOptions, total=False):
    """The options of :meth:`alligator.Gator.options`: of one task, or of one schedule."""

    tz: str | tzinfo | None
    catch_up: bool | None
    overlap: bool | None


class Options:
    """Push tasks with the same options: ``with gator.options(retries=3) as opts: opts.task(f, 1)``.

    It may be used many times, inside ``with`` or without, and called directly:
    ``opts(f, 1)`` is ``opts.task(f, 1)``.

    :raises TypeError, InvalidTask, MultipleDelayError, UnsupportedOption: at once, for an option
        that is not valid; see :func:`~alligator.tasks.validation.check_options`.
    """

    def __init__(self, gator: Target, **options: Unpack[ScheduleOptions]) -> None:
        self.gator = gator
        self.schedule_kwargs: dict[str, Any] = check_schedule_options(options)  # type: ignore[arg-type]
        self.task_kwargs: dict[str, Any] = check_options(options, gator.default_options)
        if "queue_name" in self.task_kwargs:
            gator.check_queue_name(self.task_kwargs["queue_name"])
        if "on_commit" in self.task_kwargs:
            gator.check_on_commit(self.task_kwargs["on_commit"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    @overload  # of coroutine functions, the result is what they return
    def task(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...

    @overload
    def task(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...

    @overload
    def task(self, func: str, /, *args: Any, **kwargs: Any) -> Task: ...

    def task(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task:
        """Push a task with these options; see :meth:`alligator.Gator.task`."""
        return self._push(self._make_task({}), func, args, kwargs)

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
        """Push a task with these options without blocking the event loop.

        See :meth:`alligator.Gator.atask`.
        """
        return self._apush(self._make_task({}), func, args, kwargs)

    @overload  # with timeout= as an option, which cannot be added to the parameters of a function
    def __call__(
        self,
        func: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        timeout: Seconds | None,
        **kwargs: Any,
    ) -> Task[R]: ...

    @overload
    def __call__(
        self, func: Callable[..., R], /, *args: Any, timeout: Seconds | None, **kwargs: Any
    ) -> Task[R]: ...

    @overload
    def __call__(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...

    @overload
    def __call__(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...

    @overload
    def __call__(self, func: str, /, *args: Any, **kwargs: Any) -> Task: ...

    def __call__(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task:
        """Push a task, as :meth:`task` does.

        ``timeout=`` is an option here, unless the function has a parameter of that name.
        """
        extra = {}
        if "timeout" in kwargs and not _takes_timeout(func):
            extra = {"timeout": kwargs.pop("timeout")}
        return self._push(self._make_task(extra), func, args, kwargs)

    @overload
    def every(
        self, seconds: Seconds, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Schedule: ...

    @overload
    def every(self, seconds: Seconds, func: str, /, *args: Any, **kwargs: Any) -> Schedule: ...

    def every(
        self, seconds: Seconds, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Schedule:
        """Schedule a task with these options; see :meth:`alligator.Gator.every`."""
        return self._declare(
            Every(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds),
            func,
            args,
            kwargs,
        )

    @overload
    def cron(
        self, expression: str, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Schedule: ...

    @overload
    def cron(self, expression: str, func: str, /, *args: Any, **kwargs: Any) -> Schedule: ...

    def cron(
        self, expression: str, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Schedule:
        """Schedule a task with these options; see :meth:`alligator.Gator.cron`."""
        rule = Cron(expression, self.schedule_kwargs.get("tz"))
        return self._declare(rule, func, args, kwargs)

    def _declare(self, rule: Rule, func: Any, args: Any, kwargs: Any) -> Schedule:
        own = {name: each for name, each in self.schedule_kwargs.items() if name != "tz"}
        return self.gator.add_schedule(rule, func, args, kwargs, self.task_kwargs, own)

    def _make_task(self, extra: dict[str, Any]) -> Task:
        if self.schedule_kwargs:
            raise only_for_schedules(self.schedule_kwargs)
        options = check_options(extra, self.task_kwargs) if extra else self.task_kwargs
        return self.gator.new_task(options)

    def _push(self, task: Task, func: Callable[..., Any] | str, args: Any, kwargs: Any) -> Task:
        return self.gator.push(task, func, *args, **kwargs)

    def _apush(
        self, task: Task, func: Callable[..., Any] | str, args: Any, kwargs: Any
    ) -> Coroutine[Any, Any, Task]:
        return self.gator.apush(task, func, *args, **kwargs)


#: A function, or its name; or a tuple of that and the arguments to call it with.
Callback = Callable[..., Any] | str | tuple[Callable[..., Any] | str, *tuple[Any, ...]]

#: The options of a batch that its callbacks have as well.
_OF_CALLBACKS = frozenset(
    {
        "give_up_on",
        "headers",
        "hook_timeout",
        "is_async",
        "on_commit",
        "priority",
        "queue_name",
        "retries",
        "retry_backoff",
        "retry_delay",
        "retry_max_delay",
        "retry_on",
        "save_results",
        "timeout",
    }
)


class Batch(Options):
    """Push tasks with the same options in bulk, at the end of the ``with`` block.

    After an exception inside the block nothing is pushed. On backends that give ids of their own,
    tasks get their final id at the end. With ``is_async=False`` they run at the end.

    ``on_success`` and ``on_done`` are run as tasks after all of the batch; see
    :meth:`alligator.Gator.batch`. They have the options of the batch for their queue, priority,
    retries, timeouts, headers and result. ``success_task`` and ``done_task`` are these
    tasks, or None.

    :raises InvalidTask: also if one of them is no function that takes these arguments.
    """

    _use = "with gator.batch() as batch: batch.task(...)"

    def __init__(
        self,
        gator: Target,
        *,
        on_success: Callback | None = None,
        on_done: Callback | None = None,
        **options: Unpack[BatchOptions],
    ) -> None:
        check_options(options, gator.default_options)  # it declares no schedules
        super().__init__(gator, **options)
        self._tasks: list[Task] | None = None
        self._callbacks = {"on_success": on_success, "on_done": on_done}
        self.success_task: Task | None = self._callback("on_success", ())
        self.done_task: Task | None = self._callback("on_done", ())

    def __enter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("This batch is open already; make another with gator.batch().")
        self._tasks = []
        return self

    def __exit__(self, *exc: object) -> None:
        tasks, self._tasks = self._tasks or [], None
        if exc[0] is None:
            self.gator.push_batch(self._with_callbacks(tasks))

    async def __aenter__(self) -> Self:
        raise RuntimeError("In a coroutine, write 'async with gator.abatch() as batch'.")

    async def __aexit__(self, *exc: object) -> None:
        return None

    def _with_callbacks(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks of the batch, and the ones that come after them."""
        self.success_task = self._callback("on_success", tasks)
        self.done_task = self._callback("on_done", tasks)
        after = [each for each in (self.success_task, self.done_task) if each is not None]
        return [*tasks, *after]

    def options(self, **options: Unpack[TaskOptions]) -> Options:
        """Return a context that adds tasks to this batch, with further options.

        ::

            batch.options(on_success=note_size).task(create_thumbnail, photo.path)
        """
        return Options(_IntoBatch(self), **options)

    def _callback(self, name: str, members: Sequence[Task]) -> Task | None:
        """Return the task that calls a function after the members of the batch; None: none does."""
        given = self._callbacks[name]
        if given is None:
            return None
        func, *args = given if isinstance(given, tuple) and given else (given,)
        own = {each: value for each, value in self.task_kwargs.items() if each in _OF_CALLBACKS}
        task = self.gator.new_task(own)
        task.unconditional = name == "on_done"
        if members:
            task.depends_on = list(members)
        try:
            self.gator.prepare(task, func, args, {})
            strict_json.dumps(split(args, {})[0])
        except (InvalidTask, TypeError, ValueError) as err:
            why = str(err) if isinstance(err, InvalidTask) else f"{explain_json(err)}."
            raise InvalidTask(
                f"{name}= of a batch is a function, or (function, *arguments), and is called once "
                f"after all of its tasks: {why}"
            ) from err
        return task

    def _push(self, task: Task, func: Callable[..., Any] | str, args: Any, kwargs: Any) -> Task:
        if self._tasks is None:
            raise RuntimeError(f"Use a batch as {self._use!r}.")
        if task.on_commit != self.task_kwargs.get("on_commit"):
            raise InvalidTask(
                f"on_commit={task.on_commit!r} is for a part of a batch, which is pushed as one; "
                "give it to gator.batch(on_commit=…)."
            )
        self.gator.prepare(task, func, args, kwargs)
        self._tasks.append(task)
        return task

    async def _apush(
        self, task: Task, func: Callable[..., Any] | str, args: Any, kwargs: Any
    ) -> Task:
        return self._push(task, func, args, kwargs)  # it is pushed at the end

    def _declare(self, rule: Rule, func: Any, args: Any, kwargs: Any) -> Schedule:
        raise _no_schedules()


class AsyncBatch(Batch):
    """Push tasks with the same options in bulk, at the end of the ``async with`` block.

    It is a :class:`Batch` whose push is awaited. If that is canceled before it begins, nothing is
    pushed; later, it goes on to its end.
    """

    _use = "async with gator.abatch() as batch: batch.task(...)"

    def __enter__(self) -> NoReturn:
        raise RuntimeError(f"Use a batch of gator.abatch() as {self._use!r}.")

    async def __aenter__(self) -> Self:
        super().__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks, self._tasks = self._tasks or [], None
        if exc[0] is None:
            await self.gator.apush_batch(self._with_callbacks(tasks))


class _IntoBatch:
    """Be to the contexts of a batch what its Gator is to the batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch, self._gator = batch, batch.gator
        self.default_options: Mapping[str, Any] = batch.task_kwargs
        self.check_queue_name, self.new_task = self._gator.check_queue_name, self._gator.new_task
        self.check_on_commit = self._gator.check_on_commit
        self.prepare, self.push_batch = self._gator.prepare, self._gator.push_batch
        self.apush_batch = self._gator.apush_batch

    def add_schedule(self, *schedule: Any) -> Schedule:
        raise _no_schedules()

    def push(
        self, task: Task, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Task:
        return self._batch._push(task, func, args, kwargs)

    @returns_coroutine
    def apush(
        self, task: Task, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Task]:
        return self._batch._apush(task, func, args, kwargs)


def _no_schedules() -> InvalidTask:
    return InvalidTask("A batch pushes tasks; declare schedules with gator.options(…).")


def _takes_timeout(func: Callable[..., Any] | str) -> bool:
    if isinstance(func, str):
        return False
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        return False
    return "timeout" in parameters or any(
        each.kind is each.VAR_KEYWORD for each in parameters.values()
    )
