"""Push the tasks of many coroutines with few round trips.

While one send to a queue is under way, further pushes to it gather; then they are sent together,
in their order. So a push that is alone does not wait, and under load a round trip is shared. A
queue has a thread at a time, so that one whose server does not answer holds up no other.
"""

import asyncio
import threading
from collections import deque
from functools import partial
from typing import NamedTuple

from alligator.asynchronous import replies
from alligator.asynchronous.replies import Reply
from alligator.asynchronous.thread_pool import ThreadPool
from alligator.common.after_fork import renew_in_children
from alligator.common.text import shorten
from alligator.producer.push_together import Call, push_together
from alligator.tasks.task import Task

#: The most pushes of one send: to make so many messages keeps the interpreter busy for some
#: milliseconds, in which no event loop runs.
AT_ONCE = 50


class _Push(NamedTuple):
    call: Call
    future: "asyncio.Future[Task]"


class PushBatches:
    """The pushes of coroutines, by queue.

    :param pool: its threads send them.
    """

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork, send nothing that coroutines of the parent wait for."""
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[_Push]] = {}  # by queue, of those with a thread

    async def push(self, call: Call, queue_name: str) -> Task:
        """Push a task, and return it.

        A cancellation before it is sent takes it back: it is not pushed. Later, it is pushed all
        the same, and an error is logged.
        """
        push = _Push(call, asyncio.get_running_loop().create_future())
        is_first = False
        try:
            with self._lock:
                is_first = queue_name not in self._waiting
                self._waiting.setdefault(queue_name, deque()).append(push)
            if is_first:
                self._send_soon(queue_name)
        except BaseException as err:  # Ctrl-C, or no room for a thread
            push.future.cancel()
            if is_first:
                self._give_up(queue_name, err)
            raise
        return await push.future

    def _send_soon(self, queue_name: str) -> None:
        self._pool.submit(partial(self._send_all, queue_name))

    def _give_up(self, queue_name: str, error: BaseException) -> None:
        """Have what waits for a queue sent, though the coroutine that came first has failed."""
        try:
            self._send_soon(queue_name)
        except RuntimeError:
            with self._lock:
                waiting = self._waiting.pop(queue_name, ())
            replies.send([Reply(each.future, error=error) for each in waiting])

    def _send_all(self, queue_name: str) -> None:
        """In a thread, send what waits for a queue until nothing does."""
        lock, by_queue = self._lock, self._waiting
        while True:
            with lock:
                if not (waiting := by_queue.get(queue_name)):
                    by_queue.pop(queue_name, None)
                    return
                some = [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]
            some = [each for each in some if not each.future.cancelled()]
            errors: list[BaseException | None] = []
            try:
                if some:
                    errors = push_together(queue_name, [each.call for each in some])
            except BaseException as err:  # a client of the user's own that breaks its contract
                errors = [err] * len(some)
            replies.send(
                [
                    Reply(
                        future, call.task, error, f"The push of task {shorten(call.task.task_id)}"
                    )
                    for (call, future), error in zip(some, errors, strict=True)
                ]
            )
