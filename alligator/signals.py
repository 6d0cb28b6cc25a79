"""SIGINT and SIGTERM for a worker: the first asks, the second insists."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from alligator.exceptions import LeaveNow


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

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGINT, signal.SIGTERM):
                self._before[each] = signal.signal(each, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.first_at = time.monotonic()
        else:
            raise LeaveNow

    def grace_is_over(self, grace: float) -> bool:
        """Whether so many seconds have passed since the first signal, or a second one came."""
        return self.count > 1 or (self.count == 1 and time.monotonic() - self.first_at > grace)
