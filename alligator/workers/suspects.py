"""Tasks with a death on their record, in a worker that runs several at a time.

Such a task may be what kills its worker, so it runs while nothing else does. Yet the others are
not to wait for that. While others run here:

1. It goes to a process of its own (:class:`~alligator.workers.isolation.Isolation`), where the
   worker can have some, and the backend finds a task by its id.
2. Else it is put aside for a moment, again and again, so that another worker may take it, or this
   one once nothing else runs here. Meanwhile others are fetched.
3. If that did not help within :data:`PATIENCE`, nothing else is fetched here until what runs has
   ended. Then it runs. It is kept from other workers meanwhile, or all of them would wait.

It is never held on a lease while others run: they may kill the worker, and that would count
against it.
"""

import time
from typing import TYPE_CHECKING

from alligator.backends.base import GET, Delivery, time_on
from alligator.workers.isolation import Isolation, Key
from alligator.workers.processor import Processor

if TYPE_CHECKING:
    from alligator.workers.worker import Worker

#: Seconds that others are fetched in spite of a task which waits to be alone.
PATIENCE = 5.0

#: Seconds for which a task is put aside: until the next try; while its worker gets free for it,
#: which says so again after half of that; and until a process of its own has taken it.
_ASIDE = 1.0
_KEPT = 10.0
_GIVEN = 5.0

#: Seconds after which one that did not come again is forgotten: others have run it.
_FORGOTTEN = 4 * _KEPT


class _Met:
    """When a task was met."""

    def __init__(self, now: float) -> None:
        self.first = self.last = now  # monotonic


class Suspects:
    """Sees to those of one run of a worker.

    :param isolation: None: the worker has no processes for them.
    """

    def __init__(self, worker: "Worker", processor: Processor, isolation: Isolation | None) -> None:
        self.worker, self.processor, self.leases = worker, processor, processor.leases
        client = worker.gator.client
        self._by_id = GET in client.supports
        self._isolation = isolation if self._by_id else None
        self._met: dict[Key, _Met] = {}
        self._makes_room_for: Key | None = None
        self._kept_until = 0.0  # monotonic: when to say again that it is to be kept
        #: Whether one was just taken that is to run while nothing else does.
        self.alone = False

    @property
    def are_near(self) -> bool:
        """Whether one was put aside here, and may come back."""
        if self._isolation is not None and self._isolation.is_busy:
            return True
        lately = time.monotonic() - 3 * _ASIDE
        return any(met.last > lately for met in self._met.values())

    def see_to(self, found: Delivery) -> None:
        """Have one run that was just reserved, here or elsewhere, now or later."""
        if found.deaths >= self.worker.gator.client.max_deaths:
            self.leases.take([found])  # it is only buried
            return
        key, now = (found.queue_name, found.task_id), time.monotonic()
        again = self._met.get(key)
        isolation = self._isolation
        if self.worker.concurrency > 1 and isolation is not None and isolation.can_take():
            self._met.pop(key, None)
            if self._put_aside(found, _GIVEN):
                isolation.give(key)
        elif not self.leases.counts()[1]:
            self._met.pop(key, None)
            self.alone = True
            self.leases.take([found])
        else:
            met = self._met.setdefault(key, _Met(now))
            if now - met.first < PATIENCE:
                self._put_aside(found, _ASIDE)
            else:
                self._makes_room_for = key
                self._keep(found, now)
            if again is not None and now - again.last < _ASIDE / 4:
                self.leases.wait_for_turn(0.1)  # the server's clock is another: do not spin
            met.last = now

    def hold_up(self) -> bool:
        """Whether nothing is to be fetched now; called before each fetch.

        A task for which there is room now is taken.
        """
        self.alone = False
        now = time.monotonic()
        for key in self._isolation.give_back() if self._isolation else ():
            self._met.setdefault(key, _Met(now))
        if not self._met:
            return False
        running = sum(self.leases.counts())
        if not running:
            self._makes_room_for = None
            return self._by_id and self._take_one()
        for key, met in list(self._met.items()):
            if now - met.last > _FORGOTTEN and key != self._makes_room_for:
                del self._met[key]
        if self._makes_room_for is None:
            return False
        if now >= self._kept_until and self._by_id:
            found = self._reserve(self._makes_room_for)
            if found is None:  # another worker has run it, or has it
                self._met.pop(self._makes_room_for, None)
                self._makes_room_for = None
                return False
            self._keep(found, now)
        return True

    def _keep(self, found: Delivery, now: float) -> None:
        self._kept_until = now + _KEPT / 2
        # Where it cannot be asked for again, it is left for whoever is free first.
        self._put_aside(found, _KEPT if self._by_id else 0.0)

    def _take_one(self) -> bool:
        """Take the first of those put aside that is still there, to run it alone."""
        while self._met:
            key = next(iter(self._met))
            found = self._reserve(key)
            del self._met[key]
            if found is not None:
                self.see_to(found)
                return True
        return False

    def _reserve(self, key: Key) -> Delivery | None:
        client, (queue_name, task_id) = self.worker.gator.client, key
        reserved = self.processor.tell(
            lambda: client.reserve([queue_name], 1, self.worker.lease, task_id=task_id)
        )
        found = self.leases.take_back(reserved.deliveries) if reserved else ()
        return found[0] if found else None

    def _put_aside(self, found: Delivery, seconds: float) -> bool:
        gator = self.worker.gator

        def release() -> bool:
            due = None
            if seconds:
                due = time_on(gator.client, found.queue_name, gator.clock) + seconds
            return gator.client.release(found, None, due)

        return bool(self.processor.tell(release))
