"""Where time comes from: wall clock for what is stored, monotonic for durations."""

import time
from typing import Protocol


class Clock(Protocol):
    """What Alligator asks of a clock; ``alligator.testing.FakeClock`` is another one."""

    def time(self) -> float:
        """Return the wall-clock time as a Unix timestamp in seconds."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, for measuring durations."""


class SystemClock:
    """The machine's clocks, looked up at each call so that patching ``time.time`` works."""

    def time(self) -> float:
        """Return ``time.time()``."""
        return time.time()

    def monotonic(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()
