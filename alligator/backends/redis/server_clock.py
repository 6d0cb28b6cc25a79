"""Tell what a redis server's clock shows, without asking the server each time."""

import time
from dataclasses import dataclass, replace
from typing import Any

from alligator.backends.redis.connection import Connections
from alligator.backends.redis.errors import DRIVER_ERRORS

#: Seconds after which the server is asked again; and after an attempt that failed.
_KEEP, _RETRY = 60.0, 5.0

#: Seconds by which our two clocks may differ before it is asked again: the machine has slept.
_MAX_DIFFERENCE = 0.5

#: A round trip longer than this, in seconds, is repeated once: it tells the time badly.
_SLOW = 0.02


@dataclass(frozen=True, slots=True)
class _Reading:
    """The reply of a server. It read its clock after it was asked, so a time derived from this is
    never too early.
    """

    server: float  # Unix seconds, by its clock
    asked: float  # monotonic
    wall: float  # by our own clock, at the same moment
    until: float  # monotonic: valid until then

    def is_valid(self) -> bool:
        """Whether the server need not be asked again."""
        now = time.monotonic()
        difference = (time.time() - self.wall) - (now - self.asked)
        return now < self.until and abs(difference) < _MAX_DIFFERENCE

    def now(self) -> float:
        """Return what the server's clock shows now."""
        return self.server + time.monotonic() - self.asked


class ServerClock:
    """The clocks of the servers that a client connects to; our own need not be right.

    A new connection may lead to another server with another clock.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._readings: dict[Any, _Reading] = {}

    def time(self, key: bytes) -> float:
        """Return the Unix time in seconds by the clock of the server that has a key."""
        reading = self._readings.get(self._connections.server_of(key))
        if reading is None or not reading.is_valid():
            reading = self._ask(key, reading)
        return reading.now()

    def _ask(self, key: bytes, known: _Reading | None) -> _Reading:
        try:
            reading = self._read(key)
            if time.monotonic() - reading.asked > _SLOW:  # perhaps it had to connect
                reading = self._read(key)
        except DRIVER_ERRORS:
            if known is None:
                raise
            reading = replace(known, until=time.monotonic() + _RETRY)
        if self._connections.one_server:
            self._readings.clear()
        self._readings[self._connections.server_of(key)] = reading
        return reading

    def _read(self, key: bytes) -> _Reading:
        wall, asked = time.time(), time.monotonic()
        seconds, micros = self._connections.command([key], "TIME", idempotent=True)
        return _Reading(int(seconds) + int(micros) / 1e6, asked, wall, asked + _KEEP)
