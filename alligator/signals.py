"""SIGINT and SIGTERM for a worker: the first asks, the second insists."""

import contextlib
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from alligator.exceptions import LeaveNow

_STOPS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Counts stop signals inside its ``with`` block; does nothing outside the main thread.

    The handler only sets plain attributes, since it may interrupt any line of code, locks
    held. From the second signal on it raises :exc:`LeaveNow` in the main thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first_at = 0.0  # monotonic
        self.announced = False
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup = _Wakeup()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for each in _STOPS:
                self._before[each] = signal.signal(each, self._handle)
            self._wakeup.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for each, handler in self._before.items():
                signal.signal(each, signal.SIG_DFL if handler is None else handler)
        finally:
            self._wakeup.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
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


def _leave_to_parent() -> None:
    # What a child is sent must not be taken for a signal to its parent, who has the other end.
    for each in list(_open):
        each.forget()


os.register_at_fork(after_in_child=_leave_to_parent)
