"""End this process when no Python can run in it, from a timer in C.

C code that holds the interpreter's lock stops every thread, also the one that watches timeouts.
The timer of ``faulthandler`` needs no such lock. It writes the tracebacks of all threads to
standard error and ends the process with exit code 1.
"""

import contextlib
import faulthandler
import sys
import time

#: Seconds beyond the requested time: to set the timer starts a thread, so it is rarely set.
SLACK = 5.0


class Watchdog:
    """One timer for the whole process, which is moved on while all is well.

    It takes no lock, since a thread that sets it may be interrupted. :meth:`keep` corrects what
    two threads did at the same moment.
    """

    def __init__(self) -> None:
        self.ends_at: float | None = None  # monotonic
        self._forks = 0  # that are under way

    def cover(self, until: float) -> None:
        """Let the process live until then (monotonic), and end soon after unless called again."""
        if self.ends_at is None or not until <= self.ends_at <= until + 2 * SLACK:
            self._set(until + SLACK)

    def keep(self, until: float | None) -> None:
        """Set the timer again; None: stop it."""
        if until is not None:
            self._set(until + SLACK)
        elif self.ends_at is not None:
            faulthandler.cancel_dump_traceback_later()
            self.ends_at = None

    def before_fork(self) -> None:
        """Stop the timer: the child would wait forever for its thread, which it does not have."""
        self._forks += 1
        if self.ends_at is not None:
            faulthandler.cancel_dump_traceback_later()

    def after_fork(self) -> None:
        """In the parent: set the timer again."""
        self._forks -= 1
        if self.ends_at is not None:
            self._set(self.ends_at)

    def _set(self, ends_at: float) -> None:
        seconds = min(max(ends_at - time.monotonic(), 0.1), 1e6)
        file = sys.__stderr__ or 2
        # Without a standard error there is no traceback, and no end by this timer either.
        with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
            if not self._forks:  # no other thread runs between this and the call
                faulthandler.dump_traceback_later(seconds, exit=True, file=file)
            self.ends_at = ends_at
