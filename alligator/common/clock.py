"""Read the time: the wall clock for stored times, the monotonic clock for durations."""

import math
import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from operator import methodcaller
from typing import Any, Protocol


class Clock(Protocol):
    """The methods of a clock; ``alligator.testing.FakeClock`` has them, too."""

    def time(self) -> float:
        """Return the wall-clock time as a Unix timestamp in seconds."""

    def monotonic(self) -> float:
        """Return seconds that never decrease, for durations."""


class SystemClock:
    """The machine's clocks, looked up at each call so that patching ``time.time`` works."""

    #: Returns ``time.time()``, at the cost of no call in Python.
    time: Callable[[], float] = staticmethod(partial(methodcaller("time"), time))

    def monotonic(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()


#: The types of every option in seconds.
Seconds = float | timedelta

#: The types of a moment of a FakeClock: ``'+1d'``, seconds from now, a timestamp, a datetime.
Moment = str | float | timedelta | date


def in_seconds(value: Any) -> float:
    """Return a number or a timedelta as seconds; NaN for any other value."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
