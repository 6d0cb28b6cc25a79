"""The memories of this process, by name: their queues and records, and one lock for each."""

import os
import threading
from collections.abc import Sequence

from alligator.backends.locmem.dependencies import Dependencies
from alligator.backends.locmem.queue import Queue
from alligator.backends.locmem.records import Records
from alligator.backends.types import Delivery


class Memory:
    """The queues and records of one name, with the lock that guards them all."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.queues: dict[str, Queue] = {}
        self.records = Records()
        self.dependencies = Dependencies(self.queues, self.records)

    def queue(self, name: str) -> Queue:
        """Return a queue, which is made if need be."""
        queue = self.queues.get(name)  # first: to make one takes 1 µs
        return self.queues.setdefault(name, Queue()) if queue is None else queue

    def tell(self, deliveries: Sequence[Delivery]) -> None:
        """Wake who watches these tasks: they start, or leave their queue."""
        if self.records.watches:
            for each in deliveries:
                self.records.tell(each.task_id)


_memories: dict[str, Memory] = {}
_lock = threading.Lock()


def memory_of(name: str) -> Memory:
    """Return the memory of that name, which is made if need be."""
    with _lock:
        return _memories.setdefault(name, Memory())


def _renew_locks() -> None:
    # A thread of the parent may have held one of them at the fork.
    global _lock
    _lock = threading.Lock()
    for memory in _memories.values():
        memory.changed = threading.Condition(threading.RLock())
        memory.records.renew()


os.register_at_fork(after_in_child=_renew_locks)
