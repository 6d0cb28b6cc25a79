"""Being out of touch with the backend: said once when it begins and once when it ends."""

import logging
import random
import time
from collections.abc import Callable

from alligator.exceptions import AlligatorException

#: Seconds between two tries: at first, and at most.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Outage:
    """Whether the backend can be reached, for one worker or one of its threads."""

    def __init__(self, log: logging.Logger) -> None:
        self.log = log
        self.lasts = False
        self._tries = 0

    def begins(self, err: Exception) -> None:
        """Note that a call failed; the first of a row is logged."""
        if not self.lasts:
            self.lasts, self._tries = True, 0
            unknown = None if isinstance(err, AlligatorException) else err
            self.log.warning("The queue is out of reach (%s); trying on.", err, exc_info=unknown)

    def ends(self) -> None:
        """Note that a call went through."""
        if self.lasts:
            self.lasts = False
            self.log.info("The queue is in reach again.")

    def pause(self, stop: Callable[[], bool]) -> None:
        """Wait before the next try: longer each time, and not all workers for the same time."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._tries, 16))
        self._tries += 1
        until = time.monotonic() + longest * random.uniform(0.5, 1)  # noqa: S311 - only spread
        while not stop() and (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, 0.1))
