"""Run blocking calls in threads that belong to one Gator.

Ctrl-C raises an exception in the main thread, at any step of Python there. So what a caller does
here takes no lock, and each change is one call of a function of C: it is done as a whole, or not
at all. The threads themselves get no such exception.
"""

import _thread
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue

from alligator.common.after_fork import renew_in_children
from alligator.common.log import SafeTracebacks

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds after which a thread ends that has nothing to do.
IDLE = 10.0


class Threads:
    """Starts daemon threads for one function, up to a number at the same time.

    :param most: that number.
    :param run: what each of them does; it ends with :meth:`end_one`.
    :param name: of the threads; a number comes after it.
    """

    def __init__(self, most: int, run: Callable[[], None], name: str) -> None:
        self._most, self._run, self._name, self._numbers = most, run, name, count(1)
        #: For each thread that may be started, the arguments of :meth:`_begin`.
        self.free: list[tuple[None]] = [(None,)] * most

    def __len__(self) -> int:
        return self._most - len(self.free)

    def start_one(self) -> bool:
        """Start a thread, and do not wait until it runs; False: there are as many as may be.

        :raises RuntimeError: the system has no room for it.
        """
        try:  # in one call of C, so that none is counted that is not started
            next(map(_thread.start_new_thread, (self._begin,), map(list.pop, (self.free,))))
        except IndexError:
            return False
        except RuntimeError:
            self.end_one()
            raise
        return True

    def end_one(self) -> None:
        """Note that a thread has ended, or is about to."""
        self.free.append((None,))

    def go_on(self) -> bool:
        """Count the thread that calls this again, after :meth:`end_one`, if there is room."""
        try:
            self.free.pop()
        except IndexError:
            return False
        return True

    def _begin(self, _: None) -> None:
        # To start a thread of the standard library holds up the caller until it runs.
        name = f"{self._name}-{next(self._numbers)}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # there was room for this one only
            self._run()


class ThreadPool:
    """Threads that start when they are needed, and end when they are idle.

    They are daemons: a process exits without waiting for a server that does not answer. The
    executor of the standard library waits there, and its threads never end. The thread that became
    idle last is used first, so that the others end.

    :param size: the most threads; further calls wait for one, in their order.
    :param idle_seconds: after how many an idle thread ends.
    """

    def __init__(self, size: int, idle_seconds: float = IDLE) -> None:
        self.size, self.idle_seconds = size, idle_seconds
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork, have no threads yet, and none of the parent's calls."""
        self._waiting = deque[Callable[[], None]]()
        #: Wakes each idle thread: True: to look what waits; False: to end, and it is not counted.
        self._idle = list[SimpleQueue[bool]]()
        self._threads = Threads(self.size, self._serve, "alligator-async")

    def __len__(self) -> int:
        return len(self._threads)

    # A caller adds a call, and then looks for an idle thread; a thread becomes idle, or ends, and
    # then looks for a call. So one of the two sees the other, in whatever order they come.

    def submit(self, call: Callable[[], None]) -> None:
        """Make a call in a thread, and do not wait for it; it raises nothing.

        An exception from elsewhere, as Ctrl-C raises it, harms no other call.

        :raises RuntimeError: the system has no room for a thread, and there is none yet.
        """
        self._waiting.append(call)
        try:
            self._wake_or_start()
        except RuntimeError:
            if len(self):
                return  # one that lives comes to it
            with suppress(ValueError):  # it is taken, after all
                self._waiting.remove(call)
                raise

    def close(self) -> None:
        """Let idle threads end now; the next call starts new ones."""
        with suppress(IndexError):
            while True:  # in one call of C, as below
                told = map(SimpleQueue.put, map(list.pop, (self._idle,)), (False,))
                next(map(self._threads.free.append, zip(told)))

    def _wake_or_start(self) -> None:
        try:  # in one call of C, so that none is taken off that is not woken
            next(map(SimpleQueue.put, map(list.pop, (self._idle,)), (True,)))
        except IndexError:
            self._threads.start_one()

    # -- In a thread. -----------------------------------------------------------------------------

    def _serve(self) -> None:
        """Make calls until there was none for a while."""
        woken = SimpleQueue[bool]()
        while True:
            try:
                call = self._waiting.popleft()
            except IndexError:
                # A call that came as this thread ended found no idle one.
                if self._goes_on(woken) or (self._waiting and self._threads.go_on()):
                    continue
                return
            try:
                call()
            except BaseException:
                log.exception("A call in a thread of its Gator raised; the thread goes on.")
            del call  # it may hold much, and this thread may be idle for long

    def _goes_on(self, woken: SimpleQueue[bool]) -> bool:
        """Wait for a call; return False to end."""
        idle = self._idle
        idle.append(woken)
        is_late = False
        if not self._waiting:
            try:
                return woken.get(timeout=self.idle_seconds)
            except Empty:
                is_late = True
        try:
            idle.remove(woken)
        except ValueError:
            return woken.get()  # it was woken just now
        if is_late:
            self._threads.end_one()
        return not is_late
