"""Call the middleware of a Gator around the push, and around the run, of its tasks.

A middleware has ``push(task, call_next)``, or ``run(task, call_next)``, or both. What counts is how
the innermost call ended, the push or the run itself: each middleware around it sees its result, or
its error, whatever those further inside made of it. ``push_batch(tasks, call_next)`` is around the
push in bulk of tasks that have passed ``push``. It may also have ``activity(rows)``, which is
around nothing: about once a second, it is told what this process has counted of the tasks that
ended here (``alligator.execution.activity_report``).

``run`` may be an ``async def``. Around a coroutine it then runs on the event loop. Around a plain
function it runs in the thread of that function, without a loop. A plain ``run`` around a coroutine
is called in a thread, which waits for the coroutine.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from alligator.common import after_fork
from alligator.common.log import SafeTracebacks
from alligator.common.text import shorten
from alligator.exceptions import AlligatorException, InvalidTask, LeaveNow, TaskFailed
from alligator.runtime.event_loop import AwaitedFromThread, finish, in_thread, never_ran, within
from alligator.runtime.safe_points import calls_users
from alligator.runtime.timeouts import TimeIsUp
from alligator.tasks.functions import fits, kind_of
from alligator.tasks.task import Carry, Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Raised for what is around the task; these replace any other error.
_NOT_BY_THE_TASK = (LeaveNow, TimeIsUp)


# -- What a middleware has: one of these or several; for type checkers. -----------------------


class HasPush(Protocol):
    """A middleware around each push."""

    def push(self, task: Task, call_next: Callable[..., Any], /) -> Any:
        """Call ``call_next()``, which pushes the task and returns it."""


class HasRun(Protocol):
    """A middleware around each run; its method may be an ``async def``."""

    def run(self, task: Task, call_next: Callable[..., Any], /) -> Any:
        """Call ``call_next()``, or await it, which runs the task and returns its result."""


class HasPushBatch(Protocol):
    """A middleware around each push in bulk."""

    def push_batch(self, tasks: Sequence[Task], call_next: Callable[..., Any], /) -> Any:
        """Call ``call_next()``, which pushes the tasks."""


class HasActivity(Protocol):
    """A middleware that is told about once a second which tasks ended in this process."""

    def activity(self, rows: Any, /) -> object:
        """Take the counts; what it returns is ignored."""


#: What ``Gator(middleware=[…])`` takes.
AnyMiddleware = HasPush | HasRun | HasPushBatch | HasActivity


class _Layer(NamedTuple):
    """One method of a middleware."""

    name: str
    call: Callable[..., Any]
    is_async: bool


class Ended(NamedTuple):
    """What a carried coroutine returns with middleware around it: its hooks have been called."""

    error: BaseException | None

    def check(self) -> None:
        """Raise the error of the run, if it has one."""
        if self.error is not None:
            raise self.error


class Middleware(NamedTuple):
    """The middleware of a Gator, by what is to be called when; None, or (): there is none."""

    push: "PushMiddleware | None" = None
    run: "RunMiddleware | None" = None
    #: The methods ``activity``.
    listeners: tuple[Callable[[Any], Any], ...] = ()
    #: What calls the methods ``push_batch``.
    batch: "PushMiddleware | None" = None


def read_middleware(given: Sequence[AnyMiddleware] | None) -> Middleware:
    """Check the middleware of a Gator, and return what calls it.

    :raises InvalidTask: it is no list, or an object in it has none of the methods, or one that does
        not take ``(task, call_next)``, ``(tasks, call_next)`` or ``(rows)``.
    """
    if given is None:
        return Middleware()
    if not isinstance(given, list | tuple):
        raise InvalidTask(f"middleware= is a {type(given).__name__}, not a list of objects.")
    found: dict[str, list[_Layer]] = {"push": [], "run": [], "push_batch": []}
    listeners = []
    for each in given:
        if isinstance(each, type):
            raise InvalidTask(f"Middleware {each.__qualname__} is a class; give {each.__name__}().")
        methods = {name: getattr(each, name, None) for name in found}
        if (listener := getattr(each, "activity", None)) is not None:
            listeners.append(_listener(type(each).__qualname__, listener))
        elif all(method is None for method in methods.values()):
            raise InvalidTask(
                f"Middleware {shorten(repr(each), 60)} has neither push(task, call_next) nor "
                "run(task, call_next) nor activity(rows)."
            )
        for name, method in methods.items():
            if method is not None:
                found[name].append(_layer(type(each).__qualname__, name, method))
    pushes, runs, batches = found.values()
    return Middleware(
        PushMiddleware(pushes) if pushes else None,
        RunMiddleware(runs) if runs else None,
        tuple(listeners),
        PushMiddleware(batches) if batches else None,
    )


def _listener(owner: str, method: Any) -> Callable[[Any], Any]:
    if not callable(method) or not fits(method, 1) or kind_of(method):
        raise InvalidTask(f"{owner}.activity cannot be called as activity(rows), a plain call.")
    listener: Callable[[Any], Any] = method
    return listener


def _layer(owner: str, name: str, method: Any) -> _Layer:
    shown = f"{owner}.{name}"
    if not callable(method) or not fits(method, 2):
        first = "tasks" if name == "push_batch" else "task"
        raise InvalidTask(f"{shown} cannot be called as {name}({first}, call_next).")
    kind = kind_of(method)
    if "generator" in kind:
        raise InvalidTask(f"{shown} has a 'yield'; a middleware calls call_next() instead.")
    if kind and name != "run":
        raise InvalidTask(f"{shown} is an async def; a push is a plain call.")
    return _Layer(shown, method, bool(kind))


class _Passage:
    """One task, or a batch, on its way through the middleware.

    :param not_called: makes the error of a middleware that did not call ``call_next``.
    """

    def __init__(self, task: Any, not_called: Callable[[str], AlligatorException]) -> None:
        self.task, self.not_called = task, not_called
        self.origin = after_fork.generation
        self.result: Any = None
        self.error: BaseException | None = None  # the first, which the middleware cannot undo
        self.is_judged = False  # whether the task knows that error

    def note(self, layer: _Layer, call_next: "_Next", returned: Any) -> None:
        """Note that a middleware has returned."""
        call_next.is_over = True
        if not call_next.was_called and self.error is None:
            self.error = never_ran(returned, layer.call) or self.not_called(layer.name)

    def note_error(self, layer: _Layer, call_next: "_Next", err: BaseException) -> None:
        """Note that a middleware has raised."""
        call_next.is_over = True
        if self.error is None or isinstance(err, _NOT_BY_THE_TASK):
            self.error, self.is_judged = err, False
        elif err is not self.error and err.__cause__ is not self.error:
            log.error(
                "%s of %s raised, after the task had failed; that failure counts.",
                layer.name,
                _named(self.task),
                exc_info=err,
            )

    def outcome(self) -> Any:
        """Return the result of the innermost call, or raise the error that counts."""
        if self.error is not None:
            raise self.error
        return self.result

    @property
    def is_in_child(self) -> bool:
        """Whether this is a child of the process that the task began in."""
        return after_fork.generation != self.origin


class _Next:
    """The ``call_next`` of one middleware."""

    def __init__(self, passage: _Passage, call: Callable[[], Any]) -> None:
        self._passage, self._call = passage, call
        self.was_called = self.is_over = False

    def begin(self, task: Any) -> None:
        """Refuse a second call, a late one, and another task."""
        if task is not None and task is not self._passage.task:
            raise TypeError("call_next() takes no task but the one that is on its way.")
        if self.was_called or self.is_over:
            when = "a second time" if self.was_called else "after its middleware had returned"
            raise RuntimeError(f"call_next() was called {when}; a task passes once.")
        self.was_called = True

    def __call__(self, task: Task | None = None) -> Any:
        self.begin(task)
        return self._call()


class _AsyncNext(_Next):
    """The same for an ``async def``."""

    async def __call__(self, task: Task | None = None) -> Any:
        self.begin(task)
        return await self._call()


@calls_users
def _through(passage: _Passage, layer: _Layer, inner: Callable[[], Any]) -> Any:
    """Call one middleware in this thread."""
    call_next = _AsyncNext(passage, _as_async(inner)) if layer.is_async else _Next(passage, inner)
    try:
        returned = layer.call(passage.task, call_next)
        if layer.is_async:
            returned = _run_without_loop(layer, returned)
    except BaseException as err:
        passage.note_error(layer, call_next, err)
    else:
        passage.note(layer, call_next, returned)
    return passage.outcome()


def _as_async(inner: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        return inner()

    return call


@calls_users
def _run_without_loop(layer: _Layer, coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise TaskFailed(
        f"{layer.name} awaits something other than call_next(). Around a plain function there is "
        "no event loop to wait on."
    )


async def _through_on_loop(
    passage: _Passage, layer: _Layer, inner: Callable[[], Coroutine[Any, Any, Any]]
) -> Any:
    """Call one middleware on the event loop, or in a thread if it is no ``async def``."""
    call_next: _Next
    try:
        if layer.is_async:
            call_next = _AsyncNext(passage, inner)
            returned = await layer.call(passage.task, call_next)
        else:
            waiting = AwaitedFromThread(inner)
            call_next = _Next(passage, waiting.call)
            returned = await waiting.wait_for(partial(layer.call, passage.task, call_next))
    except BaseException as err:
        passage.note_error(layer, call_next, err)
    else:
        passage.note(layer, call_next, returned)
    return passage.outcome()


class PushMiddleware:
    """Calls the middleware around the pushes of one Gator."""

    def __init__(self, layers: Sequence[_Layer]) -> None:
        self._inwards = tuple(reversed(layers))

    def push(self, task: Task | Sequence[Task], push: Callable[[], Any]) -> Any:
        """Push a task, or a batch, and return what the push itself returned.

        :param push: pushes it.
        :raises InvalidTask: a middleware did not call the next one.
        :raises BaseException: the push raised it, or a middleware.
        """
        passage = _Passage(task, partial(_not_pushed, task))

        def call() -> Any:
            try:
                passage.result = push()
            except BaseException as err:
                passage.error = err
                raise
            return passage.result

        for layer in self._inwards:
            call = partial(_through, passage, layer, call)
        return call()


def _not_pushed(task: Task | Sequence[Task], name: str) -> InvalidTask:
    return InvalidTask(f"{name} did not call call_next(), so {_named(task)} was not pushed.")


def _named(task: Task | Sequence[Task]) -> str:
    if isinstance(task, Sequence):
        return f"a batch of {len(task)}"
    return f"task {shorten(task.task_id)}"


def _not_run(name: str) -> TaskFailed:
    return TaskFailed(f"{name} did not call call_next(), so the task did not run.")


class RunMiddleware:
    """Calls the middleware around the runs of the tasks of one Gator."""

    def __init__(self, layers: Sequence[_Layer]) -> None:
        self._inwards = tuple(reversed(layers))

    def run(self, task: Task, carry: Carry | None = None, *, ends_children: bool = True) -> bool:
        """Run a task with its hooks, in this very context; return whether a coroutine goes on.

        :param carry: as for :meth:`alligator.Task.start`; the coroutine that it is given returns
            an :class:`Ended`.
        :param ends_children: whether a child that the function forked ends when that returns.
        :raises BaseException: the task raised it, or a middleware, which is a failure of the task.
        """
        task.begin()
        passage = _Passage(task, _not_run)
        if runs_on_loop(task):
            if carry is not None:
                carry(task, self._ended(passage), None)
                return True
            self._judged(passage, lambda: finish(self._on_loop(passage)))
        else:
            self._judged(passage, self._chain(passage, ends_children=ends_children))
        return False

    def _judged(self, passage: _Passage, call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as err:
            if not passage.is_judged and not passage.is_in_child:
                passage.task.result = None  # a middleware raised after the function had returned
                passage.task.end(None, err)
            raise

    def _chain(self, passage: _Passage, *, ends_children: bool) -> Callable[[], Any]:
        task = passage.task
        run = task.start if _is_plain(task) else task.run

        def call() -> Any:
            if passage.is_in_child:
                return None  # a child that a middleware forked runs no task
            try:
                run()
            except BaseException as err:
                if ends_children:
                    after_fork.exit_child_unless(passage.origin, err)
                passage.error, passage.is_judged = err, True
                raise
            if ends_children:
                after_fork.exit_child_unless(passage.origin)
            passage.result = task.result
            return passage.result

        for layer in self._inwards:
            call = partial(_through, passage, layer, call)
        return call

    async def _ended(self, passage: _Passage) -> Ended:
        import asyncio

        try:
            await self._on_loop(passage)
        except (asyncio.CancelledError, *_NOT_BY_THE_TASK):
            raise  # the caller knows why
        except BaseException as err:
            return Ended(err)
        return Ended(None)

    async def _on_loop(self, passage: _Passage) -> None:
        """Run a coroutine; raise its error, which its task knows unless that is a cancelation."""
        import asyncio

        task = passage.task
        call: Callable[[], Coroutine[Any, Any, Any]] = partial(_run_coroutine, passage)
        for layer in self._inwards:
            call = partial(_through_on_loop, passage, layer, call)
        try:
            await call()
        except asyncio.CancelledError:
            raise
        except BaseException as err:
            if passage.is_judged:
                raise
            passage.task.result = None
            passage.is_judged = True
            await _off_loop(task.on_error or task.observer, partial(task.end, None, err))


def runs_on_loop(task: Task) -> bool:
    """Return whether the ``run`` of a middleware is called on an event loop around this task."""
    return _is_plain(task) and kind_of(task.func) == "coroutine function"


def _is_plain(task: Task) -> bool:
    """Return whether a task runs as all do, and not in a way of its own class."""
    return getattr(type(task), "run", None) is Task.run


async def _run_coroutine(passage: _Passage) -> Any:
    """Call the function of a task and its hooks, and await what it returns."""
    import asyncio

    if passage.is_in_child:
        return None
    try:
        await _call_coroutine(passage.task)
    except BaseException as err:
        passage.error, passage.is_judged = err, not isinstance(err, asyncio.CancelledError)
        raise
    passage.result = passage.task.result
    return passage.result


async def _call_coroutine(task: Task) -> None:
    import asyncio

    found: list[tuple[Coroutine[Any, Any, Any], float | None]] = []
    start = partial(task.start, lambda _, *coroutine: found.append(coroutine))
    await _off_loop(task.on_start or task.observer, start)
    for coroutine, timeout in found:  # none, if a hook has replaced the function
        result, error = await within(coroutine, timeout, task)
        if isinstance(error, asyncio.CancelledError):
            raise error  # perhaps the worker leaves: that is no error of the task
        hook = task.on_success if error is None else task.on_error
        await _off_loop(hook or task.observer, partial(task.end, result, error))


async def _off_loop(hook: Any, call: Callable[[], Any]) -> Any:
    """Make a call in a thread if it calls a hook, which may block; else here."""
    return call() if hook is None else await in_thread(call)
