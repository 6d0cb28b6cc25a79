"""The threads of a worker that runs several tasks at a time.

Those that pull deliveries are as many as functions run at the same time: a coroutine needs one
to be started and then none, so for coroutines alone there is one thread. Helpers do for
coroutines that have ended what might block their event loop.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from alligator.common import after_fork
from alligator.exceptions import LeaveNow

if TYPE_CHECKING:
    from alligator.workers.processor import Processor

#: Seconds after which a task that has not ended is taken for a function that keeps its thread.
_STUCK = 0.002

#: Seconds after which a thread ends that had nothing to do; the last one stays.
_IDLE = 5.0

#: Seconds between two looks: as a rule, and while there are fewer threads than there may be.
_PAUSE = 0.1
_SHORT_PAUSE = 0.02


class Starter:
    """Starts threads in the context that it was made in, whoever asks for them."""

    def __init__(self) -> None:
        self._context = copy_context()

    def __call__(self, call: Callable[[], None], name: str) -> threading.Thread | None:
        """Return a new thread; None: the system has no room for one."""
        run = self._context.copy().run
        thread = threading.Thread(target=run, args=[call], daemon=True, name=name)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread


class ThreadPool:
    """Threads that pull deliveries and run them.

    :param most: how many tasks may run at the same time.
    :param goes_on: whether to pull another one.
    """

    def __init__(self, processor: "Processor", most: int, goes_on: Callable[[], bool]) -> None:
        self.processor, self.leases, self.most = processor, processor.leases, most
        self.goes_on = goes_on
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._start = Starter()
        self._numbers = itertools.count()
        self._is_starting = False
        self._functions = False  # whether tasks lately kept their threads until they ended

    def look(self) -> float:
        """Start a thread if work waits for want of one; return the seconds to the next look."""
        self.processor.helpers.look()
        if len(self._threads) >= self.most:
            return _PAUSE
        stuck_for = self.leases.unattended(self.most)
        loop = self.processor.loop
        if stuck_for > _STUCK and not (loop and loop.is_starting):
            self._functions = True
        if not self._threads or self._functions:
            self._grow()
        waiting = self.leases.counts()[0]
        return _STUCK if stuck_for else _SHORT_PAUSE if waiting else _PAUSE

    def join(self, over: Callable[[], bool]) -> None:
        """Wait for all to end, though not any longer than until ``over()``."""
        for thread in list(self._threads):
            while thread.is_alive() and not over():
                self.leases.wake_all()  # again: it may have been about to wait
                thread.join(_PAUSE)
        loop = self.processor.loop
        # Both: what is carried has not ended where it was handed back to leave by force, and what
        # has ended there may have yet to be settled.
        while (self.leases.counts()[1] or (loop and loop.is_busy)) and not over():
            self.processor.helpers.look()
            self.leases.wait_for_turn(_PAUSE)
        self.processor.helpers.join(over)

    def _grow(self) -> None:
        with self._lock:
            if self._is_starting or len(self._threads) >= self.most:
                return
            if self._threads and not self.leases.unattended(self.most):
                return
            self._is_starting = True  # until it takes something, so that they come one by one
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
                # It may have been called for what another one took.
                if time.monotonic() - idle_since >= _IDLE and self._is_dispensable():
                    return
                continue
            if self._functions and len(self._threads) < self.most:
                self._grow()
            try:
                self._functions = self.processor.run(delivery)
            except LeaveNow:
                return  # the task has been handed back
            idle_since = time.monotonic()

    def _is_dispensable(self) -> bool:
        with self._lock:
            dispensable = len(self._threads) > 1 and self.goes_on()
            if dispensable:
                self._threads.remove(threading.current_thread())
            return dispensable


class Helpers:
    """Threads that call what others have no time for; never more than calls wait or run."""

    def __init__(self) -> None:
        self._start = Starter()
        self._ready = threading.Condition()
        self._calls: deque[Callable[[], Any]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0  # that wait, or have just been started
        self._closed = False

    def call(self, what: Callable[[], Any]) -> None:
        """Have it called soon; it raises nothing."""
        with self._ready:
            self._calls.append(what)
            self._ready.notify()
            self._see_that_one_is_idle()

    def look(self) -> None:
        """Try again to start a thread, where there was no room for one."""
        if self._calls:
            with self._ready:
                self._see_that_one_is_idle()

    def join(self, over: Callable[[], bool]) -> None:
        """Wait for all calls to end, though not any longer than until ``over()``."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            while thread.is_alive() and not over():
                thread.join(_PAUSE)

    def _see_that_one_is_idle(self) -> None:
        if self._calls and not self._idle:
            thread = self._start(self._serve, f"helper-{len(self._threads)}")
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
                self._see_that_one_is_idle()  # for the next, as this one may take its time
            origin = after_fork.generation
            what()
            after_fork.leave_unless(origin)
            with self._ready:
                self._idle += 1
