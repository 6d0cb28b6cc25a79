"""Iterate over what happens to a task."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from alligator.asynchronous import replies
from alligator.asynchronous.replies import Reply
from alligator.asynchronous.result_listener import (
    Following,
    ResultListener,
    Watched,
    shown_progress,
)
from alligator.backends.base import GET
from alligator.monitoring.rows import STATE_WORDS
from alligator.results.query import Results
from alligator.tasks.task import Task


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """How a task stands, at the beginning and after each change.

    :ivar status: as of :meth:`alligator.Gator.status`; None: nothing is known of the task.
    :ivar fraction: how far it is, from 0 to 1; None: it does not run, or has not said.
    :ivar text: what it says about that.
    :ivar error: why it failed or was canceled, on one line.
    """

    task_id: str
    status: int | None
    fraction: float | None = None
    text: str = ""
    error: str = ""

    @property
    def state(self) -> str:
        """The status as a word: ``'waiting'``, ``'running'``, … or ``'unknown'``."""
        return "unknown" if self.status is None else STATE_WORDS.get(self.status, str(self.status))


class _Changes:
    """Passes what changes to one iteration."""

    watches_status = watches_progress = True

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._events = deque[TaskEvent]()
        self._last: TaskEvent | None = None
        self._came = asyncio.Event()
        self._error: BaseException | None = None
        self._has_ended = False

    def seen(self, watched: Watched) -> list[Reply] | None:
        task, status, record = watched.task, watched.status, watched.record
        fraction, text = shown_progress(watched) or (None, "")
        task_id = task.task_id if isinstance(task, Task) else task
        event = TaskEvent(task_id, status, fraction, text, record.error if record else "")
        over = watched.results.is_done(task, status, started=False)
        # Nothing is known of an id: where the queue can be asked, that will not change.
        unknown = status is None and GET in watched.results.client.supports
        has_ended = over is not None or (unknown and isinstance(task, str))
        if event != self._last or has_ended:
            self._last = event
            replies.call_soon(self.loop, partial(self._add, event, has_ended))
        return [] if has_ended else None

    def failed(self, error: BaseException) -> list[Reply]:
        replies.call_soon(self.loop, partial(self._end, error))
        return []

    def _add(self, event: TaskEvent, has_ended: bool) -> None:
        if self._events and self._events[-1].status == event.status:
            self._events.pop()  # the reader is slow: only the latest progress counts
        self._events.append(event)
        self._has_ended = has_ended
        self._came.set()

    def _end(self, error: BaseException) -> None:
        self._error, self._has_ended = error, True
        self._came.set()

    async def iterate(self) -> AsyncIterator[TaskEvent]:
        """Yield what comes, until the task has ended."""
        while True:
            await self._came.wait()
            self._came.clear()
            while self._events:
                yield self._events.popleft()
            if self._has_ended and not self._events:
                if self._error is not None:
                    raise self._error
                return


async def events(
    listener: ResultListener, results: Results, task: Task | str
) -> AsyncIterator[TaskEvent]:
    """Yield each change of a task, until it has ended; see :meth:`alligator.Gator.aevents`."""
    changes = _Changes()
    following = Following(results, task, changes)
    try:
        listener.follow(following)
        async for each in changes.iterate():
            yield each
    finally:
        listener.leave(following)
