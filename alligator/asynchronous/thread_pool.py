"""Run blocking calls in threads that belong to one Gator."""

import _thread
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from alligator.common.after_fork import renew_in_children
from alligator.common.log import SafeTracebacks

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds after which a thread ends that has nothing to do.
IDLE = 10.0


def start_soon(thread: threading.Thread) -> None:
    """Start a thread, and do not wait until it runs, as ``start`` does: that holds up a loop.

    :raises RuntimeError: the system has no room for it.
    """

    def start() -> None:
        try:
            thread.start()
        except RuntimeError:  # there was room for this one only
            thread.run()

    _thread.start_new_thread(start, ())


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
        self._lock = threading.Lock()
        self._waiting = deque[Callable[[], None]]()
        self._idle = list[_Thread]()
        self._started = 0  # threads that live
        self._names = 0

    def __len__(self) -> int:
        return self._started

    def submit(self, call: Callable[[], None]) -> None:
        """Make a call in a thread, and do not wait for it; it raises nothing.

        :raises RuntimeError: the system has no room for a thread, and there is none yet.
        """
        with self._lock:
            if self._idle:
                self._idle.pop().hand(call)
                return
            if self._started >= self.size:
                self._waiting.append(call)
                return
            self._started += 1
            self._names += 1
            thread = _Thread(self, call, self._names)
        try:
            start_soon(thread)
        except BaseException:
            with self._lock:
                self._started -= 1
                if not self._started:
                    raise
                self._waiting.append(call)

    def close(self) -> None:
        """Let idle threads end now; the next call starts new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._started -= len(idle)
            for each in idle:
                each.hand(None)

    def next_call(self, thread: "_Thread") -> Callable[[], None] | None:
        """Return what waits for a thread; None: nothing does, and the thread is idle now."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(thread)
            return None

    def ends(self, thread: "_Thread") -> bool:
        """Let an idle thread end; False: it was just given a call."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._started -= 1
            return True


class _Thread(threading.Thread):
    """One thread of a pool.

    :param call: its first call.
    """

    def __init__(self, pool: ThreadPool, call: Callable[[], None], number: int) -> None:
        super().__init__(name=f"alligator-async-{number}", daemon=True)
        self._pool = pool
        # Not a semaphore: one that Ctrl-C interrupts in a release may wake its thread too late.
        self._handed = SimpleQueue[Callable[[], None] | None]()
        self._handed.put(call)

    def hand(self, call: Callable[[], None] | None) -> None:
        """Give it a call while it is idle; None: it is to end."""
        self._handed.put(call)

    def run(self) -> None:
        """Make calls until there was none for a while."""
        while True:
            try:
                call = self._handed.get(timeout=self._pool.idle_seconds)
            except Empty:
                if self._pool.ends(self):
                    return
                continue
            while call is not None:
                try:
                    call()
                except BaseException:
                    log.exception("A call in a thread of its Gator raised; the thread goes on.")
                if (call := self._pool.next_call(self)) is None:
                    break
            else:
                return  # told to end
