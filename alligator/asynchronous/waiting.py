"""Await the results and the ends of tasks."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from alligator.asynchronous.replies import Reply
from alligator.asynchronous.result_listener import Following, ResultListener, Watched
from alligator.backends.store import Record
from alligator.common.clock import Seconds
from alligator.results.query import Results, not_ended, patience
from alligator.tasks.task import Task

#: Seconds that a wait goes on for the first answer of the server after its time is over.
_GRACE = 0.04


class _End:
    """Waits until tasks have ended, or begun; its future gets True, False, or an error.

    :param count: of how many tasks.
    :param read: called with each of them, and what is known of it, in the thread of the listener;
        what it returns about the last one is the result of the future.
    """

    watches_progress = False

    def __init__(
        self,
        count: int,
        read: Callable[[Task | str, int | None, Record | None, bool], Any],
        *,
        started: bool = False,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.watches_status, self._started = started, started
        self._pending, self._read = count, read

    def seen(self, watched: Watched) -> list[Reply] | None:
        task, status = watched.task, watched.status
        done = watched.results.is_done(task, status, started=self._started)
        if done is None:
            return None
        try:
            value = self._read(task, status, watched.record, done)
        except Exception as err:
            return self.failed(err)
        self._pending -= 1
        return [Reply(self.future, value)] if self._pending <= 0 or not done else []

    def failed(self, error: BaseException) -> list[Reply]:
        return [Reply(self.future, error=error)]


async def result(
    listener: ResultListener, results: Results, task: Task | str, timeout: Seconds | None
) -> Any:
    """Return what a task returned, as :meth:`alligator.Gator.result` does.

    :raises ConnectionLost: the server did not answer when the time was over.
    """

    def read(task: Task | str, status: int | None, record: Record | None, done: bool) -> Any:
        return results.value(task, status, record, timeout)

    end = _End(1, read)
    watched = await _until(listener, results, [task], end, timeout)
    if end.future.done():
        return end.future.result()
    if watched[0].status is None and watched[0].is_seen:
        return results.value(task, None, None, timeout)
    raise not_ended(task, timeout)


async def wait(
    listener: ResultListener,
    results: Results,
    tasks: Sequence[Task | str],
    timeout: Seconds | None,
    *,
    started: bool,
) -> bool:
    """Wait until all of these tasks have ended, as :meth:`alligator.Gator.wait` does.

    Task objects among them then know how they ended.
    """

    def read(task: Task | str, status: int | None, record: Record | None, done: bool) -> bool:
        if isinstance(task, Task) and task.is_pushed:
            results.set_outcome(task, status, record)
        return done

    tasks = list(tasks)
    if not tasks:
        return True
    end = _End(len(tasks), read, started=started)
    watched = await _until(listener, results, tasks, end, timeout)
    if end.future.done():
        return bool(end.future.result())
    for each in watched:
        if isinstance(each.task, Task) and each.is_seen:
            each.task.status = each.status
    return False


async def _until(
    listener: ResultListener,
    results: Results,
    tasks: Sequence[Task | str],
    end: _End,
    timeout: Seconds | None,
) -> list[Watched]:
    seconds = None if timeout is None else patience(timeout)
    followed = [Following(results, each, end) for each in tasks]
    try:
        for each in followed:
            listener.follow(each)
        await asyncio.wait([end.future], timeout=seconds)
        if not end.future.done() and not all(each.watched.is_answered for each in followed):
            await asyncio.wait([end.future], timeout=_GRACE)
        if not end.future.done():
            for each in followed:
                if (trouble := listener.trouble_with(each.watched)) is not None:
                    raise trouble
    finally:
        for each in followed:
            listener.leave(each)
        if end.future.done() and not end.future.cancelled():
            end.future.exception()  # it is raised, or this coroutine was canceled
    return [each.watched for each in followed]
