"""Being out of touch with the backend: said once when it begins and once when it ends."""

import logging
import random
import threading
import time
from collections.abc import Callable

from alligator.exceptions import AlligatorException
from alligator.utils import shorten

#: Seconds between two tries: at first, and at most.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Outage:
    """Whether the backend can be reached, for one worker and all of its threads."""

    def __init__(self, log: logging.Logger) -> None:
        self.log = log
        self.lasts = False
        self._lock = threading.Lock()  # also around what is said, so that it is said in order
        self._tries = 0
        self._next_try = 0.0

    def begins(self, err: Exception) -> None:
        """Note that a call failed; the first of a row is logged."""
        with self._lock:
            now, first = time.monotonic(), not self.lasts
            if first:
                self.lasts, self._tries = True, 0
            if first or now >= self._next_try:  # else several threads failed in one try
                # Longer each time, and not all workers for the same time.
                longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._tries, 16))
                self._tries += 1
                self._next_try = now + longest * random.uniform(0.5, 1)  # noqa: S311 - only spread
            if first:
                unknown = None if isinstance(err, AlligatorException) else err
                self.log.warning(
                    "The queue is out of reach (%s); trying on.",
                    shorten(str(err), 500),
                    exc_info=unknown,
                )

    def ends(self) -> None:
        """Note that a call went through."""
        if self.lasts:
            with self._lock:
                if self.lasts:
                    self.lasts = False
                    self.log.info("The queue is in reach again.")

    def try_is_due(self) -> bool:
        """Whether a call makes sense now: there is no outage, or it was left alone long enough."""
        return not self.lasts or time.monotonic() >= self._next_try

    def pause(self, stop: Callable[[], bool]) -> None:
        """Wait until the next try is due."""
        while not stop() and not self.try_is_due():
            time.sleep(max(0.0, min(self._next_try - time.monotonic(), 0.1)))
