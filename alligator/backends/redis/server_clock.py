"""What a redis server's clock shows, without asking it each time."""

import time
from dataclasses import dataclass, replace
from typing import Any

from alligator.backends.redis.connection import Link
from alligator.backends.redis.errors import DRIVER_ERRORS

#: Seconds after which the server is asked again; and after an attempt that failed.
_KEEP, _RETRY = 60.0, 5.0

#: Seconds by which our two clocks may part before it is asked again: the machine has slept.
_APART = 0.5

#: A round trip of so many seconds is tried once more, since it says little.
_SLOW = 0.02


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a server said. It read its clock after it was asked, so nothing is taken to be earlier
    than it is by what is reckoned from that.
    """

    server: float  # Unix seconds, by its clock
    asked: float  # monotonic
    wall: float  # by our own clock, at the same moment
    until: float  # monotonic: good for so long

    def is_good(self) -> bool:
        """Whether it need not be asked again."""
        now = time.monotonic()
        parted = (time.time() - self.wall) - (now - self.asked)
        return now < self.until and abs(parted) < _APART

    def now(self) -> float:
        """Return what its clock shows now."""
        return self.server + time.monotonic() - self.asked


class ServerClock:
    """The clocks of the servers that one link leads to; our own need not be set right.

    A connection that is new may lead to another server, whose clock is another.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._readings: dict[Any, _Reading] = {}

    def time(self, key: bytes) -> float:
        """Return what the clock shows of the server that has a key, in Unix seconds."""
        reading = self._readings.get(self._link.server_of(key))
        if reading is None or not reading.is_good():
            reading = self._ask(key, reading)
        return reading.now()

    def _ask(self, key: bytes, known: _Reading | None) -> _Reading:
        try:
            reading = self._read(key)
            if time.monotonic() - reading.asked > _SLOW:  # it may have had to connect
                reading = self._read(key)
        except DRIVER_ERRORS:
            if known is None:
                raise
            reading = replace(known, until=time.monotonic() + _RETRY)
        if self._link.one_server:
            self._readings.clear()
        self._readings[self._link.server_of(key)] = reading
        return reading

    def _read(self, key: bytes) -> _Reading:
        wall, asked = time.time(), time.monotonic()
        seconds, micros = self._link.command([key], "TIME", idempotent=True)
        return _Reading(int(seconds) + int(micros) / 1e6, asked, wall, asked + _KEEP)
