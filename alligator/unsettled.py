"""Retries and dead letters that the backend could not be told of, kept to be told again.

To repeat one is sound, since a client takes it for the lease that it is about and no other:
where the first telling got through and only its reply was lost, or where somebody else has
the task by now, the repeat changes nothing.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from alligator.backends.base import Delivery

#: How often one is told again, with the backend in reach, before its lease is left to run out.
MOST_TRIES = 3


@dataclass(slots=True)
class _Entry:
    delivery: Delivery
    tell: Callable[[], object]
    failures: int = 0


class Unsettled:
    """What one worker has yet to tell; empty but for outages. It is safe to use from threads.

    :param refused: told of what was overtaken, or had counted the first time.
    """

    def __init__(self, refused: Callable[[Delivery], None]) -> None:
        self._refused = refused
        self._lock = threading.Lock()
        self._entries: deque[_Entry] = deque()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, delivery: Delivery, tell: Callable[[], object]) -> None:
        """Keep what could not be told."""
        with self._lock:
            self._entries.append(_Entry(delivery, tell))

    def deliveries(self) -> list[Delivery]:
        """Return what it is about; their leases should be kept."""
        with self._lock:
            return [each.delivery for each in self._entries]

    def drop(self, gone: set[int]) -> None:
        """Forget deliveries, by their ``id()``: they were overtaken, or told after all."""
        with self._lock:
            before = self._entries
            self._entries = deque(each for each in before if id(each.delivery) not in gone)
            dropped = [each.delivery for each in before if id(each.delivery) in gone]
        for delivery in dropped:
            self._refused(delivery)

    def tell_all(self) -> None:
        """Tell it all; call it when another call has just gone through.

        :raises Exception: what the first that failed again raised; it and the rest are kept.
        """
        while True:
            with self._lock:
                if not self._entries:
                    return
                entry = self._entries.popleft()
            try:
                refused = entry.tell() is False
            except BaseException:
                entry.failures += 1
                if entry.failures < MOST_TRIES:
                    with self._lock:
                        self._entries.append(entry)
                raise
            if refused:
                self._refused(entry.delivery)
