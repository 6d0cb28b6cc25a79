"""How far the leases of running tasks must reach: beyond the timeout, where there is one.

C code that holds the interpreter's lock stops the heartbeat, so the lease of a task with a
timeout covers all the time that it may take, from its start.
"""

import threading
import time
from collections.abc import Iterable, Iterator

from alligator.backends.base import MAX_LEASE, Delivery


class Reach:
    """Which running deliveries need more than the usual lease, and which none any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[int, float] = {}  # monotonic, by id()
        self._least: dict[int, float] = {}  # seconds
        self._given_up: set[int] = set()
        #: Whether anything needs another lease than the usual one.
        self.differs = False

    def cover(self, delivery: Delivery, seconds: float) -> None:
        """Note that the lease must not end before so many seconds from now."""
        with self._lock:
            self._until[id(delivery)] = time.monotonic() + seconds
            self.differs = True

    def lengthen(self, delivery: Delivery, lease: float) -> None:
        """Note that its lease is to have at least so many seconds each time."""
        with self._lock:
            self._least[id(delivery)] = lease
            self.differs = True

    def least(self, delivery: Delivery) -> float:
        """Return what :meth:`lengthen` noted; 0: nothing."""
        return self._least.get(id(delivery), 0.0)

    def give_up(self, delivery: Delivery) -> None:
        """Note that the lease is to be left to run out."""
        with self._lock:
            self._given_up.add(id(delivery))
            self.differs = True

    def forget(self, delivery: Delivery) -> None:
        """The delivery has ended."""
        with self._lock:
            self._until.pop(id(delivery), None)
            self._least.pop(id(delivery), None)
            self._given_up.discard(id(delivery))
            self.differs = bool(self._until or self._least or self._given_up)

    def leases(
        self, held: Iterable[Delivery], lease: float
    ) -> Iterator[tuple[float, list[Delivery]]]:
        """Yield leases in seconds, each with the deliveries that need it."""
        with self._lock:
            until, least, given_up = dict(self._until), dict(self._least), set(self._given_up)
        now, usual = time.monotonic(), []
        for delivery in held:
            left = max(until.get(id(delivery), 0.0) - now, least.get(id(delivery), 0.0))
            left = min(left, MAX_LEASE)
            if id(delivery) in given_up:
                continue
            if left > lease:
                yield left, [delivery]
            else:
                usual.append(delivery)
        if usual:
            yield lease, usual
