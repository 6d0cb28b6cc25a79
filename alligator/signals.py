"""SIGINT and SIGTERM for a worker: the first asks, the second insists.

A forked child gets back what stood before: whoever started it, such as a task that uses
``multiprocessing``, ends it by a signal, and not by asking.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from alligator.exceptions import LeaveNow

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Handlers:
    """One handler for SIGINT and SIGTERM inside a ``with`` block, in this process alone.

    Does nothing outside the main thread.

    :param handle: called with the number of a signal.
    """

    def __init__(self, handle: Callable[[int], object]) -> None:
        self._handle = handle
        self._pid = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._pid = os.getpid()
            _standing.append(self)  # first: a fork may come in between
            for each in _STOPS:
                self._before[each] = signal.getsignal(each)
                signal.signal(each, self._call)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, _of_python(handler))
        if self in _standing:
            _standing.remove(self)

    def give_back(self) -> None:
        """In the child of a fork: put back what stood before, unless another stands there now."""
        for each, handler in self._before.items():
            if signal.getsignal(each) == self._call:
                signal.signal(each, _of_python(handler))

    def _call(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self._handle(number)
            return
        # In a child, where a handler of a task's own calls the one that it replaced.
        before = _of_python(self._before.get(number))
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _of_python(handler: Any) -> Any:
    return signal.SIG_DFL if handler is None else handler  # None: one that C code installed


#: Those inside their block, the innermost last.
_standing: list[Handlers] = []


class StopSignals:
    """Counts stop signals inside its ``with`` block; does nothing outside the main thread.

    The handler only sets plain attributes, since it may interrupt any line of code, locks
    held. From the second signal on it raises :exc:`LeaveNow` in the main thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first_at = 0.0  # monotonic
        self.announced = False
        self._handlers = Handlers(self._handle)
        self._wakeup = _Wakeup()

    def __enter__(self) -> Self:
        self._handlers.__enter__()
        if threading.current_thread() is threading.main_thread():
            self._wakeup.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._handlers.__exit__(kind, error, trace)
        finally:
            self._wakeup.close()

    def _handle(self, number: int) -> None:
        self.count += 1
        if self.count == 1:
            self.first_at = time.monotonic()
        else:
            raise LeaveNow

    def has_come(self) -> bool:
        """Whether a stop signal has been counted, or has come since the last call.

        While the main thread is in C code no handler runs. To be called by one thread only.
        """
        return self.count > 0 or self._wakeup.has_stop()

    def grace_is_over(self, grace: float) -> bool:
        """Whether so many seconds have passed since the first signal, or a second one came."""
        return self.count > 1 or (self.count == 1 and time.monotonic() - self.first_at > grace)


class _Wakeup:
    """The interpreter's wakeup descriptor: it writes the number of a signal to it at once."""

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None  # of a pipe: to read, to write

    def open(self) -> None:
        """Listen, unless somebody else does. In the main thread, as :meth:`close`."""
        ends = os.pipe()
        for each in ends:
            os.set_blocking(each, False)
        self._ends = ends
        others = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
        if others != -1:
            signal.set_wakeup_fd(others)
        _open.add(self)

    def close(self) -> None:
        """Listen no longer."""
        if self._ends is None:
            return
        self.forget()
        ends, self._ends = self._ends, None
        for each in ends:
            os.close(each)

    def forget(self) -> None:
        """Have no more signals written here."""
        _open.discard(self)
        if self._ends is not None:
            current = signal.set_wakeup_fd(-1)
            if current != self._ends[1]:  # somebody else's
                signal.set_wakeup_fd(current)

    def has_stop(self) -> bool:
        """Whether a stop signal was written since the last call.

        It may not have been for the worker: a task can have a handler of its own for a while.
        """
        if (ends := self._ends) is not None:
            with contextlib.suppress(OSError):  # nothing was, or it has just been closed
                return not set(os.read(ends[0], 4096)).isdisjoint(_STOPS)
        return False


_open: set[_Wakeup] = set()

#: By thread: which signals it had blocked before the fork that it is about.
_masks: dict[int, set[Any]] = {}


def _before_fork() -> None:
    # A signal for the child that came before its handlers stand would be counted, and forgotten.
    if _standing:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


def _after_fork() -> None:
    if (blocked := _masks.pop(threading.get_ident(), None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _after_fork_in_child() -> None:
    try:
        while _standing:
            _standing.pop().give_back()
        # What a child is sent must not be taken for a signal to its parent, who has the other end.
        for each in list(_open):
            each.forget()
    finally:
        _after_fork()  # last: from here on signals come
        _masks.clear()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
