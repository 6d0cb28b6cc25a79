"""Find the memories of this process by name: their queues and records, and one lock for each."""

import threading
from collections.abc import Sequence

from alligator.backends.locmem.dependencies import Dependencies
from alligator.backends.locmem.queue import Queue
from alligator.backends.locmem.records import Records
from alligator.backends.types import Delivery
from alligator.common.after_fork import renew_in_children


class Memory:
    """The queues and records of one name, with the lock that guards them all."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.queues: dict[str, Queue] = {}
        self.pauses: dict[str, float] = {}  # when they end, by queue; a drop does not end them
        self.records = Records()
        self.dependencies = Dependencies(self.queue, self.records)
        renew_in_children(self)

    def renew(self) -> None:
        """Make new locks in the child of a fork: a thread of the parent may hold the old ones."""
        self.changed = threading.Condition(threading.RLock())
        self.records.renew()

    def queue(self, name: str) -> Queue:
        """Return a queue, which is made if need be."""
        queue = self.queues.get(name)  # first: to make one takes 1 µs
        return self.queues.setdefault(name, Queue()) if queue is None else queue

    def paused(self, name: str, now: float) -> float | None:
        """Return until when a queue is paused; None: it is not."""
        until = self.pauses.get(name) if self.pauses else None
        return until if until is not None and until > now else None

    def tell(self, deliveries: Sequence[Delivery]) -> None:
        """Wake the callers that watch these tasks: they start, or leave their queue."""
        if self.records.watches:
            for each in deliveries:
                self.records.tell(each.task_id)


_memories: dict[str, Memory] = {}


def memory_of(name: str) -> Memory:
    """Return the memory of that name, which is made if need be."""
    return _memories.get(name) or _memories.setdefault(name, Memory())
