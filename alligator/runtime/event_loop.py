"""Run ``async def`` tasks: on the event loop of a worker, or each on one of its own.

asyncio is imported only when a coroutine runs: it takes a good part of a worker's memory, and of
the time of ``import alligator``.
"""

import contextlib
import inspect
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from contextvars import Context, ContextVar, copy_context
from functools import partial
from types import CoroutineType, GeneratorType, NoneType
from typing import TYPE_CHECKING, Any

from alligator.common import after_fork
from alligator.common.after_fork import renew_in_children
from alligator.common.log import SafeTracebacks
from alligator.common.text import shorten
from alligator.exceptions import LeaveNow, TaskFailed
from alligator.runtime.safe_points import calls_users
from alligator.runtime.timeouts import Alarm, allowed, timed_out, watch, watched

if TYPE_CHECKING:
    import asyncio

    from alligator.runtime.loop_descriptors import LoopDescriptors

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds. Of two signals at once the second may go to another thread, which does not wake the main
#: thread; so the main thread wakes by itself.
LOOK_UP = 0.25

#: Seconds between two looks whether the loop can still be woken.
_LOOK_EVERY = 1.0

#: Called with what a coroutine returned, or raised.
Done = Callable[[Any, BaseException | None], None]

#: In the child of a fork: the objects of the parent's loop. They are never closed there, since the
#: child shares the descriptor that wakes the parent's loop.
_abandoned: list[object] = []

_no_loop = RuntimeError("A child that a coroutine forked cannot await: the loop is its parent's.")

#: Set by a worker, in each of its threads.
worker_loop: ContextVar["EventLoop | None"] = ContextVar("alligator_worker_loop", default=None)


#: Coroutines that run, by id() of whom they run for, with that. The loops carry others.
_waited_for: "dict[int, tuple[object, asyncio.Task[Any]]]" = {}
_loops: "list[weakref.ref[EventLoop]]" = []  # no WeakSet: see alligator.tasks.task


def find(owner: object) -> "asyncio.Task[Any] | None":
    """Return the coroutine that runs for an object; None: none does."""
    if (found := _waited_for.get(id(owner))) is not None:
        return found[1]
    return next((each for loop in _live_loops() if (each := loop.find(owner))), None)


def owners() -> Iterator[object]:
    """Yield the objects for which coroutines run."""
    yield from [owner for owner, _ in list(_waited_for.values())]
    for loop in _live_loops():
        yield from loop.owners()


def _live_loops() -> "list[EventLoop]":
    return [loop for each in list(_loops) if (loop := each()) is not None]


def cancel_soon(owner: object, coroutine: "asyncio.Task[Any]") -> None:
    """Cancel the coroutine of an owner, if it is still that when its loop comes to it."""
    loop = coroutine.get_loop()

    def cancel() -> None:
        if find(owner) is coroutine:
            coroutine.cancel()

    # After the next step, too: a coroutine that has not begun would never begin.
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(loop.call_soon, cancel)


#: Types of most results, none of which stands for work that has yet to run.
PLAIN = frozenset({NoneType, bool, int, float, str, bytes, list, tuple, dict})

_NOTHING, _AWAIT = "of which nothing has run", "await it inside, and return what it returns"
_ITERATE = "iterate over it inside, and return the outcome"
_NEVER_RAN = (
    (Coroutine, f"a coroutine, {_NOTHING}: {_AWAIT}"),
    (Awaitable, f"an awaitable object, which is never awaited: {_AWAIT}"),
    (AsyncGenerator, f"an async generator, {_NOTHING}: {_ITERATE}"),
    (Generator, f"a generator, {_NOTHING}: {_ITERATE}"),
)


def as_coroutine(result: Any) -> Coroutine[Any, Any, Any] | None:
    """Return a coroutine that awaits what a function returned; None: there is nothing to await.

    It does not matter whether the function is an ``async def``: a decorator may hide that.
    """
    kind = type(result)
    if kind is CoroutineType:
        return result  # type: ignore[no-any-return]
    if kind is GeneratorType:
        is_awaitable = result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE
        return _awaited(result) if is_awaitable else None
    return _awaited(result) if kind not in PLAIN and issubclass(kind, Awaitable) else None


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def never_ran(result: Any, func: Any) -> TaskFailed | None:
    """Return the error of a function whose result stands for work that never runs.

    The result is closed, so that Python does not warn of it later. None: it is a true result.
    """
    kind = type(result)
    for each, what in _NEVER_RAN if kind not in PLAIN else ():
        if issubclass(kind, each):  # the type, since an object may claim to be anything
            if issubclass(kind, Coroutine | Generator):
                with contextlib.suppress(Exception):
                    result.close()
            name = shorten(getattr(func, "__qualname__", None) or repr(func))
            return TaskFailed(f"{name} returned {what}.")
    return None


@calls_users
def finish(
    coroutine: Coroutine[Any, Any, Any], timeout: float | None = None, owner: object = None
) -> Any:
    """Run a coroutine to its end and return what it returned.

    In a worker it runs on the worker's loop, elsewhere as ``asyncio.run`` does it. If a loop
    already runs in this thread, it runs in another thread, while this one waits. It runs in a copy
    of this context; variables that it sets there are then set here.

    :param timeout: seconds after which it is canceled.
    :param owner: for whom it runs; see :func:`find`.
    :raises TaskTimeout: it took longer, also if it refused to be canceled.
    """
    from concurrent.futures import ThreadPoolExecutor

    contexts: list[Context] = []
    bounded = coroutine if timeout is None else _bounded(coroutine, timeout)
    noting = _noting_context(bounded, contexts, owner)
    try:
        with watched(timeout):
            if _in_a_loop():
                with ThreadPoolExecutor(1) as beside:
                    return beside.submit(copy_context().run, _Alone().run, noting).result()
            loop = worker_loop.get()
            return loop.run(noting) if loop else _Alone().run(noting)
    finally:
        for context in contexts:
            _adopt(context)


async def _noting_context(
    coroutine: Coroutine[Any, Any, Any], contexts: list[Context], owner: object
) -> Any:
    try:
        return await _owned(coroutine, owner)
    finally:
        contexts.append(copy_context())


async def _owned(coroutine: Coroutine[Any, Any, Any], owner: object) -> Any:
    """Await a coroutine; meanwhile it is the one of its owner, see :func:`find`."""
    import asyncio

    if running := asyncio.current_task():
        _waited_for[id(owner)] = owner, running
    try:
        return await coroutine
    finally:
        _waited_for.pop(id(owner), None)


def _adopt(context: Context) -> None:
    """Set here the variables that were set in another context."""
    here = copy_context()
    for variable, value in context.items():
        if variable not in here or here[variable] is not value:
            variable.set(value)


class _Alone:
    """Runs a coroutine as ``asyncio.run`` does; a child forked there ends there."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork, run nothing of the parent's loop."""
        if self._loop is not None and self._thread == threading.get_ident():
            _abandon(self._loop)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what the coroutine returns."""
        import asyncio

        origin, self._thread = after_fork.generation, threading.get_ident()
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                return runner.run(_ends_in_children(coroutine))
            finally:
                after_fork.exit_child_unless(origin, _no_loop)
                self._loop = None


async def _ends_in_children(coroutine: Coroutine[Any, Any, Any]) -> Any:
    origin = after_fork.generation
    try:
        result = await coroutine
    except BaseException as err:
        after_fork.exit_child_unless(origin, err)
        raise
    after_fork.exit_child_unless(origin)
    return result


def _abandon(loop: "asyncio.AbstractEventLoop") -> None:
    """In a child that was forked on a loop, let nothing run there from here on."""
    loop.stop()
    ready = getattr(loop, "_ready", None)  # the next steps, which are its parent's
    if ready:
        _abandoned.append(list(ready))
        ready.clear()


def _in_a_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _bounded(coroutine: Coroutine[Any, Any, Any], seconds: float) -> Any:
    import asyncio

    limit = asyncio.timeout(seconds)
    with allowed(seconds) as allowance:
        try:
            async with limit:
                result = await coroutine
        except BaseException as err:
            if limit.expired() or allowance.is_up:
                raise timed_out(seconds) from err
            raise
    if limit.expired() or allowance.is_up:
        raise timed_out(seconds)
    return result


async def within(
    coroutine: Coroutine[Any, Any, Any], timeout: float | None, owner: object = None
) -> tuple[Any, BaseException | None]:
    """Await a coroutine, and return its result and its error; a child that it forks ends there.

    :param timeout: as for :func:`finish`; so is ``owner``.
    """
    owned = _owned(coroutine, owner)
    if timeout is None:
        return await _caught(owned)
    with watched(timeout):
        return await _caught(_bounded(owned, timeout))


#: What :func:`in_thread` has make its call, with it as the argument; None: it makes it itself.
around_call_in_thread: ContextVar[Callable[[Callable[[], Any]], Any] | None] = ContextVar(
    "alligator_around_call_in_thread", default=None
)


async def in_thread(call: Callable[[], Any]) -> Any:
    """Make a call in a thread, in a copy of this context; variables set there are then set here.

    A child that it forks, and that returns from it, ends there.
    """
    if (around := around_call_in_thread.get()) is not None:
        call = partial(around, call)
    import asyncio

    context, origin = copy_context(), after_fork.generation
    ended: Future[tuple[Any, BaseException | None]] = Future()
    ended.set_running_or_notify_cancel()  # it cannot be canceled: the call goes on

    def work() -> None:
        try:
            result, error = context.run(call), None
        except BaseException as err:
            result, error = None, err
        after_fork.exit_child_unless(origin, error)
        ended.set_result((result, error))

    loop = worker_loop.get()
    if loop is not None and loop.call_in_thread is not None:
        loop.call_in_thread(work)
    else:
        threading.Thread(target=work, name="alligator-beside-loop", daemon=True).start()
    result, error = await asyncio.wrap_future(ended)
    _adopt(context)
    if error is not None:
        raise error
    return result


class AwaitedFromThread:
    """A coroutine of the loop that a call in a thread waits for.

    :param coroutine: makes the coroutine.
    """

    def __init__(self, coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        import asyncio

        self._coroutine, self._loop = coroutine, asyncio.get_running_loop()
        self._awaiting: asyncio.Task[Any] | None = None
        self._is_canceled = False

    def call(self) -> Any:
        """In the thread, await the coroutine; variables set in it are then set here."""
        contexts: list[Context] = []
        ended: Future[tuple[Any, BaseException | None]] = Future()
        self._loop.call_soon_threadsafe(self._begin, contexts, ended)
        result, error = ended.result()
        for context in contexts:
            _adopt(context)
        if error is not None:
            raise error
        return result

    def _begin(
        self, contexts: list[Context], ended: "Future[tuple[Any, BaseException | None]]"
    ) -> None:
        import asyncio

        async def awaiting() -> tuple[Any, BaseException | None]:
            try:
                return await self._coroutine(), None
            except BaseException as err:
                return None, err
            finally:
                contexts.append(copy_context())

        def tell(task: "asyncio.Task[Any]") -> None:
            # Canceled: before it began.
            canceled = None, asyncio.CancelledError()
            ended.set_result(canceled if task.cancelled() else task.result())

        self._awaiting = self._loop.create_task(awaiting())
        self._awaiting.add_done_callback(tell)
        if self._is_canceled:
            self._awaiting.cancel()

    async def wait_for(self, call: Callable[[], Any]) -> Any:
        """Make the call in a thread. If this is canceled, so is the coroutine that it awaits."""
        import asyncio

        thread = asyncio.ensure_future(in_thread(call))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            if not thread.done():
                self._is_canceled = True
                if self._awaiting is not None:
                    self._awaiting.cancel()
                with contextlib.suppress(BaseException):
                    await thread
            raise


async def _caught(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    origin = after_fork.generation
    try:
        result, error = await coroutine, None
    except BaseException as err:  # SystemExit would end the loop for all others
        result, error = None, err
    after_fork.exit_child_unless(origin, error)
    return result, error


def _wait_for(future: "Future[tuple[Any, BaseException | None]]") -> Any:
    is_main = threading.current_thread() is threading.main_thread()
    while True:
        try:
            return future.result(LOOK_UP if is_main else None)
        except TimeoutError:  # never that of the task: what it raised is returned
            continue


def _cancel_all(loop: "asyncio.AbstractEventLoop") -> None:
    import asyncio

    for each in asyncio.all_tasks(loop):
        each.cancel()


def _renewed(descriptors: "LoopDescriptors") -> bool:
    if not descriptors.renew_if_closed():
        return False
    log.warning(
        "A task closed the descriptors of the event loop, which goes on with new ones. Let a task "
        "close only its own."
    )
    return True


def _look_at(descriptors: "LoopDescriptors", loop: "asyncio.AbstractEventLoop") -> None:
    """Look now and then whether a task in a thread has closed what wakes the loop."""
    _renewed(descriptors)
    loop.call_later(_LOOK_EVERY, _look_at, descriptors, loop)


class EventLoop:
    """The one event loop of a worker, in a thread of its own; it starts when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._running = 0  # coroutines that a thread waits for
        self._new: list[tuple[Coroutine[Any, Any, None], Context, object]] = []
        # With their owners. The loop itself keeps only weak references.
        self._carried: dict[asyncio.Task[None], object] = {}
        #: Has a function called in a thread, as the pool of a worker does; None: start one for it.
        self.call_in_thread: Callable[[Callable[[], None]], None] | None = None
        #: While asyncio is imported, which takes long, and the thread starts.
        self.is_starting = False
        self._closing = False
        self._ends_empty = False  # as soon as it carries nothing any more
        self._leaving = False
        for each in list(_loops):
            if each() is None:
                with contextlib.suppress(ValueError):  # another thread has removed it
                    _loops.remove(each)
        _loops.append(weakref.ref(self))
        renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork, have no loop yet: its thread is the parent's."""
        _abandoned.append((self._loop, self._new, self._carried))
        if self._loop is not None and threading.current_thread() is self._thread:
            _abandon(self._loop)
        self.__init__()  # type: ignore[misc]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine beside others, wait for its end, and return what it returned.

        :raises LeaveNow: it was canceled by :meth:`cancel`.
        """
        import asyncio

        with self._lock:
            self._running += 1
            loop = self._loop = self._loop or self._start()
        future = asyncio.run_coroutine_threadsafe(_caught(coroutine), loop)
        try:
            result, error = _wait_for(future)
        except LeaveNow:
            future.cancel()
            raise
        finally:
            with self._lock:
                self._running -= 1
        if self._leaving and isinstance(error, asyncio.CancelledError):
            raise LeaveNow from error
        if error is not None:
            raise error
        return result

    def carry(
        self,
        coroutine: Coroutine[Any, Any, Any],
        timeout: float | None,
        done: Done,
        owner: object = None,
    ) -> None:
        """Run a coroutine beside others, in a copy of this context, and do not wait for it.

        :param timeout: as for :func:`finish`.
        :param done: called on the loop, in the context of the coroutine; it raises nothing, and
            gets a :exc:`LeaveNow` of what was canceled by :meth:`cancel`.
        :param owner: for whom it runs; see :meth:`find`.
        :raises LeaveNow: the loop has ended, and so has the worker.
        """
        with self._lock:
            if self._closing:
                coroutine.close()
                raise LeaveNow
            loop = self._loop = self._loop or self._start()
            alarm = watch(timeout)  # not before, as that may fail
            bounded = coroutine if timeout is None else _bounded(coroutine, timeout)
            is_first = not self._new
            self._new.append((self._carry(bounded, alarm, done), copy_context(), owner))
        if is_first:  # else the loop is about to look
            loop.call_soon_threadsafe(self._begin_new)

    @property
    def is_busy(self) -> bool:
        """Whether it carries any coroutine."""
        return bool(self._new or self._carried)

    def _begin_new(self) -> None:
        with self._lock:
            new, self._new = self._new, []
        for coroutine, context, owner in new:
            if self._loop is not None:
                self._carried[self._loop.create_task(coroutine, context=context)] = owner

    def find(self, owner: object) -> "asyncio.Task[None] | None":
        """Return the coroutine that it carries for an object; None: none."""
        return next((each for each, whose in list(self._carried.items()) if whose is owner), None)

    def owners(self) -> list[object]:
        """Return the objects for which it carries coroutines."""
        return list(self._carried.values())

    async def _carry(
        self, coroutine: Coroutine[Any, Any, Any], alarm: Alarm | None, done: Done
    ) -> None:
        import asyncio

        result, error = await _caught(coroutine)
        if alarm is not None:
            alarm.disarm()
        if self._leaving and isinstance(error, asyncio.CancelledError):
            error = LeaveNow()
        if running := asyncio.current_task():
            self._carried.pop(running, None)  # before ``done`` is called
        done(result, error)
        if self._ends_empty and not self._carried:
            with self._lock:
                if self._loop is not None and not (self._closing or self._new):
                    self._closing = True
                    self._loop.stop()

    def cancel(self) -> None:
        """Cancel all coroutines on the loop: the worker leaves now."""
        self._leaving = True
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_cancel_all, self._loop)

    def close(self) -> None:
        """End the loop: now, or as soon as the tasks that still run on it have ended."""
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            if not self._leaving:
                self._ends_empty = not self._running  # first: the last one may just end
                if self._running or self._new or self._carried:
                    return
            if not self._closing:
                self._closing = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(0.5 if self._leaving else 5.0)

    def _start(self) -> "asyncio.AbstractEventLoop":
        self.is_starting = True
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=[ready], name="alligator-event-loop", daemon=True
        )
        try:
            self._thread.start()
            return ready.result()
        finally:
            self.is_starting = False

    def _serve(self, ready: "Future[asyncio.AbstractEventLoop]") -> None:
        import asyncio

        from alligator.runtime.loop_descriptors import LoopDescriptors

        with asyncio.Runner() as runner:  # at the end, it cancels what tasks left behind
            loop = runner.get_loop()
            descriptors = LoopDescriptors(loop)
            loop.call_soon(_look_at, descriptors, loop)
            ready.set_result(loop)
            origin = after_fork.generation
            while not self._closing:
                try:
                    loop.run_forever()
                except BaseException:  # raised by something that a task started and did not await
                    if after_fork.generation == origin and not _renewed(descriptors):
                        log.exception("Something on the event loop raised; it goes on.")
                after_fork.exit_child_unless(origin, _no_loop)
