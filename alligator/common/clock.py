"""Where time comes from: wall clock for what is stored, monotonic for durations."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from operator import methodcaller
from typing import Any, Protocol


class Clock(Protocol):
    """What Alligator asks of a clock; ``alligator.testing.FakeClock`` is another one."""

    def time(self) -> float:
        """Return the wall-clock time as a Unix timestamp in seconds."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, for measuring durations."""


class SystemClock:
    """The machine's clocks, looked up at each call so that patching ``time.time`` works."""

    #: Returns ``time.time()``, at the cost of no call in Python.
    time: Callable[[], float] = staticmethod(partial(methodcaller("time"), time))

    def monotonic(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()


#: What every option in seconds may be given as.
Seconds = float | timedelta


def in_seconds(value: Any) -> float:
    """Return the seconds of a number or of a timedelta; NaN: it is neither."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
