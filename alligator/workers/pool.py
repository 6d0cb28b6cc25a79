"""Run several tasks of a worker at a time, in threads.

There are as many task threads as functions run at the same time. A coroutine needs a thread only
to start, so for coroutines alone there is one. After a coroutine has ended, an :class:`Executor`
makes the calls that might block the event loop.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from alligator.backends.base import Delivery
from alligator.common import after_fork
from alligator.exceptions import LeaveNow
from alligator.execution.leases import Leases
from alligator.runtime.event_loop import EventLoop

#: Seconds after which a task counts as a function that keeps its thread until it has ended.
_STUCK = 0.002

#: Seconds after which an idle thread ends; the last one stays.
_IDLE = 5.0

#: Seconds between two looks: as a rule, and while there are fewer threads than there may be.
_PAUSE = 0.1
_SHORT_PAUSE = 0.02


class Starter:
    """Starts threads in the context in which it was made."""

    def __init__(self) -> None:
        self._context = copy_context()

    def __call__(self, call: Callable[[], None], name: str) -> threading.Thread | None:
        """Start a thread and return it; None: the system has no room for one."""
        run = self._context.copy().run
        thread = threading.Thread(target=run, args=[call], daemon=True, name=name)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread


class ThreadPool:
    """Threads that take deliveries and run them.

    :param run: runs a delivery; returns False if that goes on as a coroutine.
    :param executor: that of the same worker.
    :param loop: that of the coroutines.
    :param most: how many tasks may run at the same time.
    :param goes_on: returns whether to take another delivery.
    """

    def __init__(
        self,
        run: Callable[[Delivery], bool],
        leases: Leases,
        executor: "Executor",
        loop: EventLoop | None,
        most: int,
        goes_on: Callable[[], bool],
    ) -> None:
        self.run, self.leases, self.executor, self.loop = run, leases, executor, loop
        self.most, self.goes_on = most, goes_on
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._start = Starter()
        self._numbers = itertools.count()
        self._is_starting = False
        self._functions = False  # whether the last tasks kept their threads until they ended

    def look(self) -> float:
        """Start a thread if tasks wait for one; return the seconds to the next look."""
        self.executor.look()
        if len(self._threads) >= self.most:
            return _PAUSE
        stuck_for = self.leases.unattended(self.most)
        loop = self.loop
        if stuck_for > _STUCK and not (loop and loop.is_starting):
            self._functions = True
        if not self._threads or self._functions:
            self._grow()
        waiting = self.leases.counts()[0]
        return _STUCK if stuck_for else _SHORT_PAUSE if waiting else _PAUSE

    def join(self, over: Callable[[], bool]) -> None:
        """Wait for all to end, but no longer than until ``over()``."""
        for thread in list(self._threads):
            while thread.is_alive() and not over():
                self.leases.wake_all()  # again: the thread may have been about to wait
                thread.join(_PAUSE)
        # Both: a coroutine that was handed back to leave by force has not ended, and the outcome
        # of one that has ended may have yet to be settled.
        while (self.leases.counts()[1] or (self.loop and self.loop.is_busy)) and not over():
            self.executor.look()
            self.leases.wait_for_turn(_PAUSE)
        self.executor.join(over)

    def _grow(self) -> None:
        with self._lock:
            if self._is_starting or len(self._threads) >= self.most:
                return
            if self._threads and not self.leases.unattended(self.most):
                return
            self._is_starting = True  # until it takes a delivery: threads start one by one
            thread = self._start(self._pull, f"task-{next(self._numbers)}")
            if thread is None:
                self._is_starting = False
            else:
                self._threads.append(thread)

    def _pull(self) -> None:
        is_new, idle_since = True, time.monotonic()
        while self.goes_on():
            delivery = self.leases.start_next(_IDLE, self.most)
            if is_new:
                self._is_starting = is_new = False
            if delivery is None:
                # Another thread may have taken the delivery that woke this one.
                if time.monotonic() - idle_since >= _IDLE and self._is_dispensable():
                    return
                continue
            if self._functions and len(self._threads) < self.most:
                self._grow()
            try:
                self._functions = self.run(delivery)
            except LeaveNow:
                return  # the task has been handed back
            idle_since = time.monotonic()

    def _is_dispensable(self) -> bool:
        with self._lock:
            dispensable = len(self._threads) > 1 and self.goes_on()
            if dispensable:
                self._threads.remove(threading.current_thread())
            return dispensable


class Executor:
    """Threads that make calls which might block; never more than calls wait or run."""

    def __init__(self) -> None:
        self._start = Starter()
        self._ready = threading.Condition()
        self._calls: deque[Callable[[], Any]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0  # that wait, or have just been started
        self._closed = False

    def call(self, what: Callable[[], Any]) -> None:
        """Have a function called soon that raises nothing."""
        with self._ready:
            self._calls.append(what)
            self._ready.notify()
            self._keep_one_idle()

    def look(self) -> None:
        """Try again to start a thread, if the system had no room for one."""
        if self._calls:
            with self._ready:
                self._keep_one_idle()

    def join(self, over: Callable[[], bool]) -> None:
        """Wait for all calls to end, though not any longer than until ``over()``."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            while thread.is_alive() and not over():
                thread.join(_PAUSE)

    def _keep_one_idle(self) -> None:
        if self._calls and not self._idle:
            thread = self._start(self._serve, f"executor-{len(self._threads)}")
            if thread is not None:
                self._idle += 1
                self._threads.append(thread)

    def _serve(self) -> None:
        while True:
            with self._ready:
                while not self._calls:
                    if self._closed:
                        self._idle -= 1
                        return
                    self._ready.wait()
                what = self._calls.popleft()
                self._idle -= 1
                self._keep_one_idle()  # for the next, as this one may take its time
            origin = after_fork.generation
            what()
            after_fork.exit_child_unless(origin)
            with self._ready:
                self._idle += 1
