"""The one reserve that a worker has sent ahead, to be read by whoever needs it first."""

import threading
from collections.abc import Sequence

from alligator.backends.base import Ahead, Delivery


class SentAhead:
    """At most one :class:`~alligator.backends.base.Ahead`, with the acks that it carries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: tuple[Ahead, list[Delivery]] | None = None

    def __bool__(self) -> bool:
        return self._sent is not None

    def put(self, ahead: Ahead, acks: Sequence[Delivery]) -> None:
        """Note that one was sent."""
        with self._lock:
            self._sent = ahead, list(acks)

    def take(self) -> tuple[Ahead, list[Delivery]] | None:
        """Return it, to be read by the caller and nobody else; None: there is none."""
        if self._sent is None:
            return None
        with self._lock:
            sent, self._sent = self._sent, None
        return sent
