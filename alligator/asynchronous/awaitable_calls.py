"""Make blocking calls of one Gator awaitable."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from alligator.asynchronous import events, replies, waiting
from alligator.asynchronous.events import TaskEvent
from alligator.asynchronous.push_batches import PushBatches
from alligator.asynchronous.replies import Reply
from alligator.asynchronous.result_listener import ResultListener
from alligator.asynchronous.thread_pool import ThreadPool
from alligator.common import after_fork
from alligator.common.clock import Seconds
from alligator.exceptions import NoRunningLoop
from alligator.producer.push import Producer
from alligator.producer.push_together import Call
from alligator.results.query import Results, patience
from alligator.runtime.event_loop import in_thread
from alligator.tasks.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class AwaitableCalls:
    """The threads of a Gator, and of the Gators that it made for other queues.

    :param threads: the most threads that calls take; results are waited for in one more.
    """

    def __init__(self, threads: int) -> None:
        self.pool = ThreadPool(threads)
        self.pushes = PushBatches(self.pool)
        self.listener = ResultListener()

    async def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make a call in a thread of the pool, in a copy of this context, and return its result.

        A cancellation before it begins takes it back. Later, the call goes on to its end.
        """
        return await self.change("", function, *args, **kwargs)

    async def change(
        self, about: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Make a call as :meth:`call` does; log its error if the coroutine has ended meanwhile.

        :param about: what failed, for the log; '': it is not logged.
        """
        future = asyncio.get_running_loop().create_future()
        call = partial(function, *args, **kwargs)
        self.pool.submit(partial(_answer, future, partial(copy_context().run, call), about))
        found: R = await future
        return found

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make a call that runs tasks, in a thread of its own: it may itself wait for the pool.

        A cancellation does not end it.
        """
        found: R = await in_thread(partial(function, *args, **kwargs))
        return found

    async def push(
        self,
        producer: Producer,
        task: Task,
        func: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Task:
        """Push a task that is async, together with others; see :class:`PushBatches`."""
        call = Call(producer, task, func, args, kwargs, copy_context())
        return await self.pushes.push(call, task.queue_name or producer.queue_name)

    async def result(self, results: Results, task: Task | str, timeout: Seconds | None) -> Any:
        """Return what a task returned; see :meth:`alligator.Gator.result`."""
        results.check_saves(task)
        if timeout is not None and patience(timeout) == 0:
            return await self.call(results.result, task, timeout)
        return await waiting.result(self.listener, results, task, timeout)

    async def wait(
        self,
        results: Results,
        tasks: Sequence[Task | str] | Task,
        timeout: Seconds | None,
        *,
        started: bool,
    ) -> bool:
        """Wait until tasks have ended; see :meth:`alligator.Gator.wait`."""
        some = [tasks] if isinstance(tasks, str | Task) else list(tasks)
        if timeout is not None and patience(timeout) == 0:
            return await self.call(_wait_not, results, some, started)
        return await waiting.wait(self.listener, results, some, timeout, started=started)

    def events(self, results: Results, task: Task | str) -> AsyncIterator[TaskEvent]:
        """Iterate over what happens to a task; see :meth:`alligator.Gator.aevents`."""
        return events.events(self.listener, results, task)

    def close(self) -> None:
        """Let idle threads end."""
        self.pool.close()
        self.listener.close()


# Python names coroutines by these when it warns that one was never awaited: let it name the call
# that was made. The other methods have several callers, which name the coroutine.
AwaitableCalls.push.__qualname__ = "Gator.atask"
AwaitableCalls.result.__qualname__ = "Gator.aresult"
AwaitableCalls.wait.__qualname__ = "Gator.await_"


def check_loop(twin: str, plain: str) -> None:
    """Refuse an awaitable call outside of a coroutine, where nothing awaits it.

    :param twin: the call.
    :param plain: what to call in plain code.
    :raises NoRunningLoop: no loop of asyncio runs in this thread.
    """
    if asyncio._get_running_loop() is None:
        raise NoRunningLoop(
            f"{twin}() was called outside of a coroutine, and is not awaited there. Write 'await "
            f"gator.{twin}(…)' inside an 'async def' that asyncio.run() runs, or call "
            f"gator.{plain}(…) here."
        )


def _wait_not(results: Results, tasks: Sequence[Task | str], started: bool) -> bool:
    """Look once at tasks; task objects then know how they stand."""
    ended = results.wait(tasks, 0.0, started=started)
    for each in tasks:
        if isinstance(each, Task) and each.is_pushed:
            results.refresh(each)
    return ended


def _answer(future: "asyncio.Future[Any]", call: Callable[[], Any], about: str) -> None:
    """In a thread, make a call, unless its coroutine was canceled, and tell the result."""
    if future.cancelled():
        return
    origin = after_fork.generation
    try:
        reply = Reply(future, call(), about=about)
    except BaseException as err:
        reply = Reply(future, error=err, about=about)
    after_fork.exit_child_unless(origin, reply.error)
    replies.send([reply])


def shared_calls(shared: dict[str, AwaitableCalls], threads: int) -> AwaitableCalls:
    """Return what the Gators that share a dictionary have in common; it is made once."""
    found = shared.get("calls")
    return shared.setdefault("calls", AwaitableCalls(threads)) if found is None else found
